//! What the log keeps of events that came from another node: where each came from, and how far the import has come.
//!
//! Invariants: an origin is stored with its event and never changes; a cursor is stored with the last event of the
//! append that moved it, so that events and cursor are durable together. Does not know exports, imports or how a chain
//! is made.

use bytestring::ByteString;
use uuid::Uuid;

use super::{EventId, Position};

/// Where an imported event came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The node that owns the event.
    pub owner: ByteString,
    /// That node's log.
    pub log_id: Uuid,
    /// The epoch of that log in which it was recorded (its counter).
    pub epoch: u64,
    /// Its position in that log.
    pub position: Position,
    /// Its id in that log.
    pub id: EventId,
    /// SHA-256 of its published bytes.
    pub hash: [u8; 32],
}

/// How far an import has come in an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportCursor {
    /// The node that owns the export.
    pub owner: ByteString,
    /// The export's name.
    pub export: ByteString,
    /// The version of its definition.
    pub version: u32,
    /// The definition's hash.
    pub definition: [u8; 32],
    /// The owner's log.
    pub log_id: Uuid,
    /// The epoch of the last event that is handled (its counter).
    pub epoch: u64,
    /// Everything up to this number in the export is handled.
    pub seq: u64,
    /// The last event that is handled, in the owner's log.
    pub position: Position,
    /// The chain over everything up to it.
    pub chain: [u8; 32],
    /// Counts how often somebody had the import begin at another place; 0 at first.
    pub generation: u32,
}
