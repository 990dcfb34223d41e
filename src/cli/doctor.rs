//! `outrigger doctor`: looks at what `serve` would run on, before or beside a node, and says what to do about each thing.
//!
//! Owns which checks there are and how their findings are shown. Changes nothing but for one file in the data directory, which
//! it writes, syncs and removes. Does not open the log.

use clap::Args;
use serde::Serialize;

use super::{
    Session,
    error::CliError,
    load::progress::say,
    output::{Align, Format, Out, table},
    serve::ServeArgs,
    text::to_line,
};
use crate::config::{Config, ConfigError, Loaded};

mod machine;
mod network;
mod secrets;

/// What `doctor` takes.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The settings to check, as `serve` takes them
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Exit code 1 if anything fails; warnings do not count.

Examples:
  outrigger doctor
  outrigger doctor --config outrigger.yaml
  outrigger doctor --data-dir /var/lib/outrigger --output json";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    outcome: Outcome,
    found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, found: found.into(), remedy: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warning, found: found.into(), remedy: remedy.into() }
    }

    fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Failed, found: found.into(), remedy: remedy.into() }
    }
}

/// Checks everything.
pub async fn run(session: &Session, loaded: Result<Loaded, ConfigError>) -> Result<(), CliError> {
    let mut findings = Vec::new();
    match loaded {
        Ok(loaded) => {
            let sources =
                loaded.effective.iter().filter(|(_, _, source)| *source != crate::config::Source::Default);
            findings.push(Finding::ok("config", format!("{} settings are set, all good", sources.count())));
            findings.extend(loaded.warnings.into_iter().map(|warning| {
                Finding::warning("config", warning, "remove the variable, if it was meant for Outrigger")
            }));
            check(&loaded.config, session, &mut findings).await?;
        }
        Err(error) => findings.extend(error.problems.iter().map(|problem| {
            let remedy = "correct the setting; nothing else was checked";
            Finding::failed("config", problem.to_string(), remedy)
        })),
    }
    show(session.output, &findings)?;
    let failed = findings.iter().filter(|finding| finding.outcome == Outcome::Failed).count();
    if failed > 0 {
        return Err(CliError::failed(format!("{failed} of {} checks failed", findings.len())));
    }
    Ok(())
}

async fn check(config: &Config, session: &Session, findings: &mut Vec<Finding>) -> Result<(), CliError> {
    let of_machine = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || machine::check(&config)).await
    };
    findings.extend(of_machine.map_err(|error| CliError::failed(format!("a check broke off: {error}")))?);
    findings.extend(secrets::check(config));
    findings.extend(network::ports(config, session).await);
    findings.extend(network::nats(config).await);
    Ok(())
}

fn show(format: Format, findings: &[Finding]) -> Result<(), CliError> {
    let mut out = Out::standard();
    if format == Format::Json {
        for finding in findings {
            out.line(&to_line(finding))?;
        }
        return out.flush();
    }
    let mut rows = table(&[("check", Align::Left), ("", Align::Left), ("found", Align::Left)]);
    for finding in findings {
        let outcome = match finding.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
        };
        rows.add_row([finding.check, outcome, &finding.found]);
    }
    out.table(&rows)?;
    out.flush()?;
    for finding in findings.iter().filter(|finding| !finding.remedy.is_empty()) {
        say(&format!("{}: {}", finding.check, finding.remedy));
    }
    Ok(())
}
