//! A YAML text as a tree whose every node knows its place, and the list of what is wrong with it.
//!
//! `serde-saphyr` reads the YAML; nothing here parses it again. What is looked at in the source itself is only how a
//! scalar is written, to tell the place of a letter inside it. Does not know what the nodes mean.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Location, Spanned,
    options::{DuplicateKeyPolicy, MergeKeyPolicy},
};

use super::{DefinitionError, Problem};
use crate::{expression::nearest, json::Json};

/// A node and its place.
pub(crate) type Yaml = Spanned<Content>;

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<(Spanned<String>, Yaml)>),
}

impl Content {
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::Int(*value),
            Self::Double(value) => Json::Double(*value),
            Self::Text(value) => Json::Text(value.as_str().into()),
            Self::List(items) => Json::Array(items.iter().map(|item| item.value.to_json()).collect()),
            Self::Map(entries) => {
                let fields =
                    entries.iter().map(|(key, value)| (key.value.as_str().into(), value.value.to_json()));
                Json::Object(fields.collect())
            }
        }
    }
}

impl Content {
    /// What a message calls a node where the number of its parts matters.
    pub(crate) fn counted(&self) -> String {
        match self {
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Map(entries) => format!("a map of {}", entries.len()),
            other => other.to_string(),
        }
    }
}

/// What a message calls a node.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Int(_) | Self::Double(_) => write!(f, "the number {}", self.to_json()),
            Self::Text(value) => write!(f, "the text {value:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Double(value as f64), Content::Int))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Double(value as f64), Content::Int))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Double(value as f64), Content::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Content::Map(entries))
    }
}

/// A file's text and what is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Source<'s> {
    text: &'s str,
    file: &'s str,
    problems: Vec<Problem>,
}

impl<'s> Source<'s> {
    pub(crate) const fn new(text: &'s str, file: &'s str) -> Self {
        Self { text, file, problems: Vec::new() }
    }

    /// The tree. Where the YAML itself is broken there is none, and one problem.
    pub(crate) fn read(&mut self) -> Option<Yaml> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            reject_unsupported_tags: true,
            with_snippet: false,
        };
        match serde_saphyr::from_str_with_options(self.text, options) {
            Ok(tree) => Some(tree),
            Err(error) => {
                let text = error.to_string();
                let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
                let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
                let (line, column) =
                    error.location().map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
                self.push(line, column, message.to_owned());
                None
            }
        }
    }

    fn push(&mut self, line: usize, column: usize, message: String) {
        let file = self.file.to_owned();
        self.problems.push(Problem { file, line: line.max(1), column: column.max(1), message });
    }

    pub(crate) fn refuse(&mut self, at: &Location, message: impl Into<String>) {
        self.push(at.line() as usize, at.column() as usize, message.into());
    }

    /// At a byte of a scalar's text.
    pub(crate) fn refuse_inside(&mut self, scalar: &Yaml, offset: usize, message: impl Into<String>) {
        let (line, column) = self.place_inside(scalar, offset).unwrap_or_else(|| {
            let at = &scalar.referenced;
            (at.line() as usize, at.column() as usize)
        });
        self.push(line, column, message.into());
    }

    /// All problems in order of their place.
    pub(crate) fn finish(mut self) -> Result<(), DefinitionError> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.problems.is_empty() { Ok(()) } else { Err(DefinitionError { problems: self.problems }) }
    }

    /// Line and column of a byte of a scalar's text, where they can be told from how the scalar is written.
    fn place_inside(&self, scalar: &Yaml, offset: usize) -> Option<(usize, usize)> {
        let Content::Text(text) = &scalar.value else {
            return None;
        };
        let at = &scalar.referenced;
        if *at != scalar.defined {
            return None;
        }
        let raw = self.text.get(usize::try_from(at.span().byte_offset()?).ok()?..)?;
        let before = text.get(..offset)?;
        let (line, column) = (at.line() as usize, at.column() as usize);
        match raw.chars().next()? {
            '"' => Some((line, column + 1 + escaped_length(&raw[1..], before.chars().count())?)),
            '\'' if !before.contains('\n') => {
                Some((line, column + 1 + before.chars().count() + before.matches('\'').count()))
            }
            '\'' => None,
            _ => {
                // Empty lines before a block's text stand before its place.
                let empty = text.len() - text.trim_start_matches('\n').len();
                let (text, before) = (&text[empty..], before.get(empty..)?);
                let number = before.matches('\n').count();
                let inside = before.rsplit('\n').next()?.chars().count();
                let wanted = text.split('\n').nth(number)?;
                if number == 0 {
                    return raw.starts_with(wanted).then_some((line, column + inside));
                }
                let written = self.text.lines().nth(line - 1 + number)?;
                let indent = written.strip_suffix(wanted)?.chars().count();
                Some((line + number, indent + inside + 1))
            }
        }
    }
}

/// How many characters stand for the first `count` of a double-quoted scalar that is written on one line.
fn escaped_length(raw: &str, count: usize) -> Option<usize> {
    let mut letters = raw.chars();
    let mut length = 0;
    for _ in 0..count {
        let written = match letters.next()? {
            '\n' => return None,
            '\\' => match letters.next()? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                '\n' => return None,
                _ => 2,
            },
            _ => 1,
        };
        for _ in 2..written {
            letters.next()?;
        }
        length += written;
    }
    Some(length)
}

/// The entries of a map whose keys are known words.
#[derive(Debug)]
pub(crate) struct Fields<'y> {
    at: Location,
    entries: Vec<(&'y Spanned<String>, &'y Yaml)>,
}

impl<'y> Fields<'y> {
    /// Refuses what is no map, and keys that are not among the allowed ones.
    pub(crate) fn of(source: &mut Source<'_>, node: &'y Yaml, what: &str, allowed: &[&str]) -> Option<Self> {
        let Content::Map(entries) = &node.value else {
            source.refuse(&node.referenced, format!("expected {what}, a map, found {}", node.value));
            return None;
        };
        for (key, _) in entries {
            if !allowed.contains(&key.value.as_str()) {
                let hint = match nearest(&key.value, allowed.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected one of {}", allowed.join(", ")),
                };
                source.refuse(&key.referenced, format!("unknown key `{}` in {what}: {hint}", key.value));
            }
        }
        let entries = entries.iter().map(|(key, value)| (key, value)).collect();
        Some(Self { at: node.referenced, entries })
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, name: &str) -> Option<(&'y Spanned<String>, &'y Yaml)> {
        self.entries.iter().find(|(key, _)| key.value == name).copied()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'y Yaml> {
        self.entry(name).map(|(_, value)| value)
    }

    /// As `get`; refuses that it is missing.
    pub(crate) fn require(&self, source: &mut Source<'_>, name: &str, expected: &str) -> Option<&'y Yaml> {
        let found = self.get(name);
        if found.is_none() {
            source.refuse(&self.at, format!("missing key `{name}`: expected {expected}"));
        }
        found
    }
}
