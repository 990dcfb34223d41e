//! What is published of one event, as a value: the public event and its place in its export's sequence.
//!
//! Owns the form in which an exported event travels and the chain over it. Invariants: what `to_message` writes,
//! `from_message` reads back; the chain covers every byte that an importer believes. Does not know keys, logs or buses'
//! sequence numbers.

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
    /// Only those that the export lets out.
    pub tags: Vec<Tag>,
    /// When it happened, in nanoseconds since 1970-01-01T00:00:00Z.
    pub time_unix_nanos: i64,
    /// JSON.
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
