//! Streams of system events, read from where a fold of them stands.
//!
//! Invariant: every event of the stream is handed over once, in order. Does not know what the events say.

use super::{Events, EventsError};
use crate::{
    event::{Invalid, Position, RecordedEvent, StreamId},
    index::{Direction, Filter},
    limits::DECISIONS_PAGE_EVENTS,
};

impl Events {
    /// Hands over the events of a stream behind `after`, up to `upto`, which the index must have. An error ends it.
    pub fn each_of_stream(
        &self,
        stream: StreamId,
        after: Position,
        upto: Position,
        mut take: impl FnMut(&RecordedEvent) -> Result<(), Invalid>,
    ) -> Result<(), EventsError> {
        let filter = Filter { stream: Some(stream), include_system: true, ..Filter::default() };
        let mut scanned = after;
        while scanned < upto {
            let found =
                self.index().find(&filter, Direction::Forward, scanned, upto, DECISIONS_PAGE_EVENTS)?;
            for position in found.positions {
                let missing = || Invalid(format!("the log has no decision at position {position}"));
                let payload = self.log().read(position)?.ok_or_else(missing)?;
                take(&RecordedEvent::decode(position, payload)?)?;
            }
            scanned = found.scanned_to;
        }
        Ok(())
    }
}
