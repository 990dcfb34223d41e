//! What is published of one event, as a value: the public event and its place in its export's sequence.
//!
//! Owns the form in which an exported event travels (CloudEvents 1.0 in binary mode, docs/mesh.md), the chain over it and
//! the bytes that signatures are about. Invariants: what `to_message` writes, `from_message` reads back, and there is one
//! way only to write it; the chain covers every byte that an importer believes. Does not know keys, logs or buses'
//! sequence numbers.

mod digest;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub use self::{
    digest::{CHAIN_START, chain_after, digest, signed_bytes},
    read::from_message,
    text::hex,
    write::{head_to_message, to_message},
};
use bytes::Bytes;
use uuid::Uuid;

use crate::event::{EventId, EventType, Position, StreamId, Tag};

/// The names that say whose sequence an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportName {
    /// The node that owns it.
    pub owner: String,
    /// What its definition calls it.
    pub export: String,
    /// The version of the definition, from 1.
    pub version: u32,
}

/// A place in the sequence of an export: what an importer has come to, and what signatures are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The owner's log.
    pub log_id: Uuid,
    /// The epoch in which the event was recorded (its counter).
    pub epoch: u64,
    /// Dense number in the export, from 1; 0 before all.
    pub seq: u64,
    /// The event's position in the owner's log; 0 before all.
    pub position: Position,
    /// SHA-256 over the chain before and the digest of the published bytes.
    pub chain: [u8; 32],
}

/// An event as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicEvent {
    /// Its id in the owner's log.
    pub id: EventId,
    /// Its public type.
    pub event_type: EventType,
    /// Its stream, as the export names it.
    pub stream: StreamId,
    /// Only those that the export lets out. Sorted, without repeats.
    pub tags: Vec<Tag>,
    /// When it happened, in nanoseconds since 1970-01-01T00:00:00Z.
    pub time_unix_nanos: i64,
    /// One JSON value.
    pub data: Bytes,
    /// The trace in which it was appended (W3C `traceparent`), if the owner knows one.
    pub trace: Option<String>,
}

/// An exported event with its place, as one message carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Whose sequence.
    pub name: ExportName,
    /// SHA-256 of the export's definition and the expression language's version.
    pub definition: [u8; 32],
    /// Its place.
    pub place: Place,
    /// The event.
    pub event: PublicEvent,
    /// Over the place, by the owner; on the last message of a publish batch.
    pub signature: Option<Signature>,
}

/// A signature and which key made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The public key, as an nkey text.
    pub key: String,
    /// Ed25519.
    pub bytes: Vec<u8>,
}

/// The version of this form: part of every digest and signature, and a header of every message.
pub const ENVELOPE_FORMAT: u32 = 1;

/// The last token of the subject of head marks; no event type can have it.
const HEAD: &str = "$head";

/// A signed place without an event: how far the owner had come when it was published, so that a missing tail is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadMark {
    /// Whose sequence.
    pub name: ExportName,
    /// SHA-256 of the export's definition and the expression language's version.
    pub definition: [u8; 32],
    /// The place of the last event of the sequence; `seq` is 0 if there is none.
    pub place: Place,
    /// Over the place, by the owner.
    pub signature: Signature,
}

/// A message of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An event.
    Event(Box<Envelope>),
    /// A head mark.
    Head(Box<HeadMark>),
}

/// Why a message is none of an export. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: expected {expected}, found {found}")]
pub struct EnvelopeError {
    /// The header's name, `subject` or `payload`.
    pub part: String,
    /// What should be there.
    pub expected: String,
    /// What is there; cut if it is long.
    pub found: String,
}

impl ExportName {
    /// The beginning of the subjects of all its messages, without the last dot.
    fn subject_root(&self) -> String {
        let Self { owner, export, version } = self;
        format!("outrigger.v1.{owner}.{export}.v{version}")
    }

    /// The subject of its events of a public type.
    pub fn subject(&self, event_type: &EventType) -> String {
        format!("{}.{event_type}", self.subject_root())
    }

    /// The subject of its head marks.
    pub fn head_subject(&self) -> String {
        format!("{}.{HEAD}", self.subject_root())
    }

    /// A filter that all its events and head marks pass.
    pub fn filter(&self) -> String {
        format!("{}.>", self.subject_root())
    }

    /// What CloudEvents call the source of its events.
    pub fn source(&self) -> String {
        let Self { owner, export, version } = self;
        format!("outrigger://{owner}/{export}/v{version}")
    }
}

impl std::fmt::Display for ExportName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { owner, export, version } = self;
        write!(f, "{owner}/{export} v{version}")
    }
}

impl Place {
    /// Before all events of a sequence.
    pub const fn start(log_id: Uuid, epoch: u64) -> Self {
        Self { log_id, epoch, seq: 0, position: Position::ZERO, chain: CHAIN_START }
    }
}

impl Envelope {
    /// By which a bus knows a repeated publish: the same for the same event of the same log, and for nothing else.
    pub fn message_id(&self) -> String {
        let (ExportName { export, version, .. }, Place { log_id, epoch, seq, chain, .. }) =
            (&self.name, &self.place);
        // A log that was restored from an older copy counts its epochs anew: the chain tells its events from those of before.
        format!("{log_id}/{export}/v{version}/{epoch}/{seq}/{}", &hex(chain)[..16])
    }
}
