//! Who may append and export what, as pure decisions with their reasons.
//!
//! Owns the meaning of `owns.types` and `owns.streams`, and of imports beside them: the streams of an import belong to the
//! node that it takes events from, whatever `owns.streams` says; where neither key is set, a node owns all that it does not
//! import. Patterns are compiled once; a decision compares bytes, and allocates only where it refuses. The system's own
//! events are nobody's business here. Does not know logs, buses or gRPC.

mod pattern;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, RwLock},
};

pub use pattern::Pattern;

/// What a node owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// `owns.types`; none: all types.
    pub types: Option<Vec<Pattern>>,
    /// `owns.streams`; none: all streams.
    pub streams: Option<Vec<Pattern>>,
    /// What it takes from others.
    pub imports: Vec<Imported>,
}

/// What an import makes of ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The import's name.
    pub import: String,
    /// The node whose events it takes.
    pub owner: String,
    /// The public types that it names; none: it does not say.
    pub types: Vec<String>,
    /// Where its events go.
    pub streams: Pattern,
}

/// What is not the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The event's type.
    Type,
    /// The event's stream.
    Stream,
}

impl Field {
    /// The name of the event's field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Stream => "stream",
        }
    }
}

/// The event is not this node's to append or export. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is not this node's own: {why}", field = .field.as_str())]
pub struct NotOwner {
    /// What is not its own.
    pub field: Field,
    /// The type or stream.
    pub value: String,
    /// The node that owns it, if that is known.
    pub owner: Option<String>,
    /// Why, and what is to be done.
    pub why: String,
}

impl Ownership {
    /// Whether clients of this node may append an event of this type to this stream.
    pub fn may_append(&self, event_type: &str, stream: &str) -> Result<(), NotOwner> {
        self.owns_stream(stream)?;
        self.owns_type(event_type)
    }

    /// Whether this node may publish an event. One that it imported never, whatever its type is.
    pub fn may_export(
        &self,
        event_type: &str,
        stream: &str,
        imported_from: Option<&str>,
    ) -> Result<(), NotOwner> {
        match imported_from {
            None => self.may_append(event_type, stream),
            Some(owner) => Err(NotOwner {
                field: Field::Stream,
                value: stream.to_owned(),
                owner: Some(owner.to_owned()),
                why: format!(
                    "the event was imported from the node {owner}, and only its owner publishes an event"
                ),
            }),
        }
    }

    /// Whether a type is this node's own.
    pub fn owns_type(&self, event_type: &str) -> Result<(), NotOwner> {
        let Some(types) = &self.types else {
            return Ok(());
        };
        if types.iter().any(|pattern| pattern.matches(event_type)) {
            return Ok(());
        }
        let import = self.imports.iter().find(|import| import.types.iter().any(|named| named == event_type));
        let why = format!("owns.types names {}{}", listed(types), owned_by(import));
        let owner = import.map(|import| import.owner.clone());
        Err(NotOwner { field: Field::Type, value: event_type.to_owned(), owner, why })
    }

    /// Whether a stream is this node's own.
    pub fn owns_stream(&self, stream: &str) -> Result<(), NotOwner> {
        let refuse = |owner: Option<String>, why: String| {
            Err(NotOwner { field: Field::Stream, value: stream.to_owned(), owner, why })
        };
        if let Some(import) = self.imports.iter().find(|import| import.streams.matches(stream)) {
            let Imported { import: name, owner, streams, .. } = import;
            let why =
                format!("the import {name} keeps events of the node {owner} in {streams}: append at {owner}");
            return refuse(Some(owner.clone()), why);
        }
        match &self.streams {
            Some(streams) if !streams.iter().any(|pattern| pattern.matches(stream)) => {
                refuse(None, format!("owns.streams names {}", listed(streams)))
            }
            _ => Ok(()),
        }
    }

    /// Why events of a type or stream may or may not be appended, in sentences; at least one of the two is given.
    pub fn explain(&self, event_type: Option<&str>, stream: Option<&str>) -> Vec<Explained> {
        let of_type = event_type.map(|name| {
            self.explained(Field::Type, name, self.owns_type(name), self.types.as_deref(), "owns.types")
        });
        let of_stream = stream.map(|name| {
            self.explained(
                Field::Stream,
                name,
                self.owns_stream(name),
                self.streams.as_deref(),
                "owns.streams",
            )
        });
        of_stream.into_iter().chain(of_type).collect()
    }

    fn explained(
        &self,
        field: Field,
        value: &str,
        decided: Result<(), NotOwner>,
        patterns: Option<&[Pattern]>,
        key: &str,
    ) -> Explained {
        let value = value.to_owned();
        if let Err(NotOwner { owner, why, .. }) = decided {
            return Explained { field, value, is_own: false, owner, why };
        }
        let is_taken = |import: &&Imported| field == Field::Type && import.types.contains(&value);
        let taken = self.imports.iter().find(is_taken);
        let pattern = patterns.and_then(|patterns| patterns.iter().find(|one| one.matches(&value)));
        let why = match (pattern, taken) {
            (Some(pattern), _) => format!("{key} names {pattern}"),
            (None, Some(Imported { import, streams, .. })) => {
                format!("{key} is not set; the import {import} takes this type too, into {streams}")
            }
            (None, None) if self.imports.is_empty() => format!("{key} is not set, and nothing is imported"),
            (None, None) => format!("{key} is not set, and no import takes it"),
        };
        Explained { field, value, is_own: true, owner: None, why }
    }
}

/// A decision about a type or a stream, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Which of the two.
    pub field: Field,
    /// The type or stream.
    pub value: String,
    /// Clients of this node may append it.
    pub is_own: bool,
    /// Another node that owns it, if that is known.
    pub owner: Option<String>,
    /// Why.
    pub why: String,
}

fn listed(patterns: &[Pattern]) -> String {
    let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    if names.is_empty() { "nothing".to_owned() } else { format!("{} only", names.join(", ")) }
}

fn owned_by(import: Option<&Imported>) -> String {
    let text = |Imported { import, owner, .. }: &Imported| {
        format!("; the import {import} takes this type from the node {owner}: append it there")
    };
    import.map(text).unwrap_or_default()
}

/// The ownership in force: read by every append, replaced when import files change. Clones share it.
#[derive(Clone, Default)]
pub struct InForce(Arc<RwLock<Arc<Ownership>>>);

impl InForce {
    /// This one, to begin with.
    pub fn new(ownership: Ownership) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(ownership))))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Ownership> {
        Arc::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Replaces it.
    pub fn set(&self, ownership: Ownership) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(ownership);
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
