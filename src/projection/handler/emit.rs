//! Events that the answers of handlers append.
//!
//! Invariant: the ids of the events of one cause follow from the log, the projection, the cause and their order alone,
//! whichever version emits them and however often. Does not know workers.

use uuid::Uuid;

use crate::event::{EventId, Position};

/// The id of an emitted event: the `ordinal`-th, from 0, that a projection emits because of `cause`.
pub fn emitted_id(log_id: Uuid, projection: &str, cause: Position, ordinal: usize) -> EventId {
    let name = format!("{projection}/{cause}/{ordinal}");
    EventId::from_uuid(Uuid::new_v5(&log_id, name.as_bytes())).expect("a UUID of version 5 is not nil")
}
