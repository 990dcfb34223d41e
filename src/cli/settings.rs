//! `outrigger config check` and `print`: the settings that `serve` would run with.

use serde::Serialize;

use super::{
    error::CliError,
    load::progress::say,
    output::{Format, print_lines},
    text::to_line,
};
use crate::config::{ConfigError, Loaded, Source};

/// Runs `config check`: all problems, one a line, or that there are none.
pub fn check(loaded: Result<Loaded, ConfigError>) -> Result<(), CliError> {
    match loaded {
        Ok(loaded) => {
            warn(&loaded);
            print_lines(&["the configuration is good"])
        }
        Err(error) => {
            let (last, others) = error.problems.split_last().expect("an error holds a problem");
            for problem in others {
                say(&format!("error: {problem}"));
            }
            Err(CliError::failed(last.to_string()))
        }
    }
}

/// Says what the environment holds in vain.
pub fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"));
    }
}

#[derive(Debug, Serialize)]
struct Setting<'a> {
    key: &'a str,
    value: Option<&'a str>,
    source: String,
}

/// Runs `config print`: YAML that reads back as the same settings, each with its source.
pub fn print(loaded: &Loaded, format: Format) -> Result<(), CliError> {
    warn(loaded);
    match format {
        Format::Json => {
            let line = |(key, value, source): &(&'static crate::config::Key, Option<String>, Source)| {
                to_line(&Setting { key: key.name, value: value.as_deref(), source: source.to_string() })
            };
            print_lines(&loaded.effective.iter().map(line).collect::<Vec<_>>())
        }
        Format::Table => print_lines(&yaml(loaded)),
    }
}

fn yaml(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Vec<&str> = Vec::new();
    for (key, value, source) in &loaded.effective {
        let mut groups: Vec<&str> = key.name.split('.').collect();
        let leaf = groups.pop().expect("a key has a name");
        let same = groups.iter().zip(&before).take_while(|(now, before)| now == before).count();
        for depth in same..groups.len() {
            let group = format!("{}.", groups[..=depth].join("."));
            let any = loaded
                .effective
                .iter()
                .any(|(key, value, _)| value.is_some() && key.name.starts_with(&group));
            let comment = if any { "" } else { "# " };
            lines.push(format!("{}{comment}{}:", "  ".repeat(depth), groups[depth]));
        }
        let indent = "  ".repeat(groups.len());
        before = groups;
        let (setting, origin) = match value {
            // A list is kept as it is written.
            Some(value) if key.list && value.starts_with('[') => {
                (format!("{indent}{leaf}: {value}"), source.to_string())
            }
            Some(value) => (format!("{indent}{leaf}: {}", scalar(value)), source.to_string()),
            None => (format!("{indent}# {leaf}:"), "not set".to_owned()),
        };
        lines.push(format!("{setting:<42} # {origin}; {}", key.about));
    }
    for path in &loaded.config.projections.paths {
        lines.push(format!("# --projection {}", path.display()));
    }
    lines
}

/// A value as YAML: plain where that is safe, else quoted.
fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '=' | ',');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.');
    if begins && text.chars().all(safe) && !text.ends_with(':') { text.to_owned() } else { to_line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Environment, Flags, load},
        disk::real::RealDisk,
    };

    #[test]
    fn printed_settings_show_values_and_sources() {
        let flags = Flags { values: vec![("node", "--node", "flights".into())], ..Flags::default() };
        let loaded = load(&flags, &Environment::default(), &RealDisk).unwrap();
        let lines = yaml(&loaded);
        let has =
            |begin: &str, end: &str| lines.iter().any(|line| line.starts_with(begin) && line.contains(end));
        assert!(has("node: flights ", "# --node;"), "{lines:#?}");
        assert!(has("grpc:", ""), "{lines:#?}");
        assert!(has("  listen: 127.0.0.1:7400 ", "# default;"), "{lines:#?}");
        assert!(has("  # token_file:", "# not set;"), "{lines:#?}");
    }

    #[test]
    fn values_are_quoted_where_yaml_would_read_them_otherwise() {
        assert_eq!(scalar("127.0.0.1:7400"), "127.0.0.1:7400");
        assert_eq!(scalar("a b"), "\"a b\"");
        assert_eq!(scalar("-x"), "\"-x\"");
        assert_eq!(scalar(""), "\"\"");
        assert_eq!(scalar("warn,outrigger=debug"), "warn,outrigger=debug");
    }
}
