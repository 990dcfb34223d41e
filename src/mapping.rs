//! How events are made of events, and what all definition files share.
//!
//! Owns the form of definition files (a YAML tree whose nodes know their place, names, versions, texts with expressions,
//! the list of what is wrong with a file), and rules: which type, stream, tags and data an event has when it leaves a node
//! or comes into one. Pure: the same rule and event give the same event, byte for byte, within a budget of steps. Does
//! not know exports, imports, projections or signatures.

pub(crate) mod about;
pub(crate) mod head;
pub(crate) mod keep;
pub(crate) mod render;
pub(crate) mod rule;
pub(crate) mod rule_read;
pub(crate) mod source;
pub(crate) mod template;

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    event::{Event, EventId, EventType, Position, StreamId, Tag},
    expression::LANGUAGE_VERSION,
    json::{Json, Object},
    limits::DEFINITION_BYTES_MAX,
};

/// An event as a rule makes it: valid, with no id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedEvent {
    /// What kind of fact it is.
    pub event_type: EventType,
    /// The entity it belongs to.
    pub stream: StreamId,
    /// Sorted, without repeats.
    pub tags: Vec<Tag>,
    /// One JSON value.
    pub data: Bytes,
    /// When the event that it was made of happened, in nanoseconds since 1970.
    pub time_unix_nanos: i64,
}

impl MappedEvent {
    /// The event that is appended for it.
    pub fn into_event(self, id: EventId, metadata: Option<Bytes>) -> Event {
        let Self { event_type, stream, tags, data, time_unix_nanos } = self;
        Event { id, event_type, stream, tags, data, metadata, time_unix_nanos: Some(time_unix_nanos) }
    }
}

/// Why a rule makes nothing of an event. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct MappingError {
    /// The type of the event that was to be mapped.
    pub event_type: String,
    /// The rule's line in its file, from 1; 0 where no rule is to blame.
    pub line: usize,
    /// The part of the rule, such as `when` or `data.delay`.
    pub part: String,
    /// The expression that failed, if it was one.
    pub expression: Option<String>,
    /// What went wrong.
    pub message: String,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event_type, line, part, expression, message } = self;
        f.write_str(event_type)?;
        if *line > 0 {
            write!(f, " (line {line})")?;
        }
        if !part.is_empty() {
            write!(f, ", {part}")?;
        }
        if let Some(expression) = expression {
            write!(f, ", in `{expression}`")?;
        }
        write!(f, ": {message}")
    }
}

/// The id of an event that an import makes: the same whenever it is made again. `ordinal` counts, from 0, the events
/// that are made of one.
pub fn derived_id(
    owner_log_id: Uuid,
    epoch: u64,
    position: Position,
    import: &str,
    ordinal: usize,
) -> EventId {
    let name = format!("{epoch}/{position}/{import}/{ordinal}");
    let uuid = Uuid::new_v5(&owner_log_id, name.as_bytes());
    EventId::from_uuid(uuid).expect("a UUID of version 5 is not nil")
}

/// All that is wrong with a definition; never empty. Displays as one line a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct DefinitionError {
    /// In order of their place.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as the caller gave it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// What a projection version or an import does about an event that it cannot apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It stands still before the event until somebody decides.
    #[default]
    Pause,
    /// It parks the event and all later ones of its stream, and goes on with the rest.
    Quarantine,
    /// It counts the event and passes it by.
    Skip,
}

impl OnError {
    /// All of them, in the order in which messages name them.
    pub const ALL: [Self; 3] = [Self::Pause, Self::Quarantine, Self::Skip];

    /// The word in definition files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Quarantine => "quarantine",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Refuses a definition that is too long to be read.
pub(crate) fn check_length(source: &str, file: &str) -> Result<(), DefinitionError> {
    if source.len() <= DEFINITION_BYTES_MAX {
        return Ok(());
    }
    let found = source.len();
    let message = format!("expected a definition of at most {DEFINITION_BYTES_MAX} bytes, found {found}");
    let problem = Problem { file: file.to_owned(), line: 1, column: 1, message };
    Err(DefinitionError { problems: vec![problem] })
}

/// SHA-256 over what a file says, however it is laid out, and the version of the expression language.
pub(crate) fn content_hash(content: Json) -> [u8; 32] {
    let mut hashed = Object::new();
    hashed.insert("definition", content);
    hashed.insert("language", Json::Int(i64::from(LANGUAGE_VERSION)));
    Sha256::digest(Json::Object(hashed).to_string()).into()
}
