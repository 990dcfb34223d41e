//! The configuration file: YAML into values by key, each with its line and column.
//!
//! The whole file is read into a tree first, so that every unknown key and every misplaced value is reported at once.
//! Repeated keys are errors of the YAML reader. Does not judge the values themselves.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{KEYS, Problem, Source, settings::Given};
use crate::json::Json;

/// Adds what the file names to `given`, and what is wrong with it to `problems`.
pub(super) fn read(file: &str, text: &str, given: &mut Given, problems: &mut Vec<Problem>) {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return;
    }
    match serde_saphyr::from_str::<Spanned<Tree>>(text) {
        Ok(root) => {
            let mut reading = Reading { file, given, problems };
            reading.walk("", root.referenced, root.value);
        }
        Err(error) => {
            let at = error.location().unwrap_or(Location::UNKNOWN);
            let message = error.without_snippet().to_string();
            problems.push(problem(file, at, format!("expected YAML: {}", without_location(&message))));
        }
    }
}

/// The message without the place that the problem names anyway.
fn without_location(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.rfind(" at line ") {
        Some(at) => line[..at].to_owned(),
        None => line,
    }
}

fn problem(file: &str, at: Location, message: String) -> Problem {
    Problem {
        source_of_value: Source::File { file: file.to_owned(), line: at.line(), column: at.column() },
        message,
    }
}

struct Reading<'a> {
    file: &'a str,
    given: &'a mut Given,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    /// `path` is the dotted key of this node, empty at the root.
    fn walk(&mut self, path: &str, at: Location, tree: Tree) {
        let key = KEYS.iter().find(|key| key.name == path);
        let is_key = key.is_some();
        match tree {
            Tree::Map(fields) if !is_key => {
                for (name, value) in fields {
                    self.field(path, &name, value);
                }
            }
            Tree::Scalar(text) if is_key => {
                let source = problem(self.file, at, String::new()).source_of_value;
                self.given.set(path, text, source);
            }
            Tree::List(Some(items)) if key.is_some_and(|key| key.list) => {
                let source = problem(self.file, at, String::new()).source_of_value;
                let items = items.iter().map(|item| Json::Text(item.as_str().into())).collect();
                self.given.set(path, Json::Array(items).to_string(), source);
            }
            Tree::Scalar(_) | Tree::List(_) | Tree::Map(_) | Tree::Null => {
                let expected = match key {
                    Some(key) if key.list => "a list of texts",
                    Some(_) => "one value",
                    None => "keys and values",
                };
                let whose = if path.is_empty() { "the file" } else { path };
                let message = format!("{whose}: expected {expected}, found {}", tree.name());
                self.problems.push(problem(self.file, at, message));
            }
        }
    }

    fn field(&mut self, path: &str, name: &Spanned<String>, value: Spanned<Tree>) {
        let full = if path.is_empty() { name.value.clone() } else { format!("{path}.{}", name.value) };
        let group = format!("{full}.");
        if KEYS.iter().any(|key| key.name == full || key.name.starts_with(&group)) {
            self.walk(&full, value.referenced, value.value);
            return;
        }
        let mut siblings: Vec<&str> = KEYS
            .iter()
            .filter_map(|key| key.name.strip_prefix(path)?.trim_start_matches('.').split('.').next())
            .collect();
        siblings.dedup();
        let message = format!("unknown key {full}; expected one of: {}", siblings.join(", "));
        self.problems.push(problem(self.file, name.referenced, message));
    }
}

/// A YAML node without its place.
enum Tree {
    Null,
    Scalar(String),
    /// None where an item is no scalar.
    List(Option<Vec<String>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Tree {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(Some(_)) => "a list",
            Self::List(None) => "a list of other things than texts",
            Self::Map(_) => "keys and values",
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Some(Vec::new());
        while let Some(item) = seq.next_element::<Tree>()? {
            match (item, &mut items) {
                (Tree::Scalar(item), Some(items)) => items.push(item),
                _ => items = None,
            }
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Map(fields))
    }
}
