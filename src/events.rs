//! Reads of the log by filter: index, log and visible head put together.
//!
//! Pages come from the index and the log's files (`read`), or, at the head, from the newest groups in memory
//! (`recent`); either way events leave as bytes of the public API (`wire`). Readers at the head wait in `live`.
//!
//! Invariants: nothing above the visible head is ever returned; a page says up to where it looked, so that a reader
//! resumes without gap or repeat; the work and memory of one page are bounded. Does not know gRPC or clients.

use std::sync::Arc;

use crate::{
    event::{EventId, ImportCursor, Invalid, Position, RecordedEvent, Source, Token, Tracking},
    follower::Head,
    index::{Direction, Filter, Index, IndexError},
    log::{LogError, LogReader},
    trace::Tracer,
};

pub mod dispatcher;
pub mod history;
pub mod live;
mod read;
pub mod recent;
mod system;
pub mod wire;

use live::Live;
pub use read::Buffer;
use recent::Recent;
use wire::WireEvents;

/// The readable events of a node. Clones read the same log.
#[derive(Debug, Clone)]
pub struct Events {
    log: LogReader,
    index: Arc<Index>,
    head: Head,
    recent: Recent,
    live: Live,
    tracer: Tracer,
}

/// Why events could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record is not what it should be.
    #[error(transparent)]
    Damaged(#[from] Invalid),
}

/// What one page of a read is to hold.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    /// Which events.
    pub filter: &'a Filter,
    /// From low positions to high ones, or the other way.
    pub direction: Direction,
    /// Forwards: above this position. Backwards: below it.
    pub from: Position,
    /// Forwards: not above this position; at most the visible head.
    pub upto: Position,
    /// At most this many events.
    pub events_max: usize,
    /// At most about this many bytes; one event may exceed it alone.
    pub bytes_max: usize,
}

/// Events, and how far the read got.
#[derive(Debug)]
pub struct Page {
    /// In the direction of the read.
    pub events: WireEvents,
    /// The position of the last of them, if there is one.
    pub last: Position,
    /// Everything up to here (in the direction of the read) was looked at.
    pub scanned_to: Position,
}

impl Events {
    /// Reads of this log through this index, up to this head.
    pub fn new(log: LogReader, index: Arc<Index>, head: Head) -> Self {
        Self { log, index, head, recent: Recent::default(), live: Live::default(), tracer: Tracer::default() }
    }

    /// The same, whose followers tell what they do in spans.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Where spans go of what is done with these events.
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// The visible head.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The log below.
    pub const fn log(&self) -> &LogReader {
        &self.log
    }

    /// The index below.
    pub const fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The newest groups, which the committer puts there.
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Those who wait at the head.
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// A token for a position up to the head.
    pub fn token(&self, position: Position) -> Token {
        Token { log_id: self.log.log_id(), epoch: self.log.epoch_at(position), position }
    }

    /// The event at a position; `None` above the head and below the log's beginning.
    pub fn at(&self, position: Position) -> Result<Option<RecordedEvent>, EventsError> {
        if position > self.head.get() {
            return Ok(None);
        }
        let payload = self.log.read(position)?;
        payload.map(|payload| Ok(RecordedEvent::decode(position, payload)?)).transpose()
    }

    /// The event with an id.
    pub fn by_id(&self, id: &EventId) -> Result<Option<RecordedEvent>, EventsError> {
        match self.index.position_of(id)? {
            Some(position) => self.at(position),
            None => Ok(None),
        }
    }

    /// What the log says of a source, and where it says so.
    pub fn tracking(&self, source: &Source) -> Result<Option<(Tracking, Position)>, EventsError> {
        stored_tracking(&self.index, &self.log, source, self.head.get())
    }

    /// The cursors that an import has stored under a source, newest first, below a position; at most so many.
    pub fn import_cursors(
        &self,
        source: &Source,
        below: Position,
        count_max: usize,
    ) -> Result<Vec<(ImportCursor, Position)>, EventsError> {
        let filter = Filter { source: Some(source.clone()), include_system: true, ..Filter::default() };
        let mut upto = self.head.get().min(Position::new(below.get().saturating_sub(1)));
        let mut cursors = Vec::new();
        while upto > Position::ZERO && cursors.len() < count_max {
            let left = count_max - cursors.len();
            let found = self.index.find(&filter, Direction::Backward, Position::ZERO, upto, left)?;
            for position in found.positions {
                let event = self.at(position)?;
                let cursor = event.and_then(|event| event.cursor).ok_or_else(|| {
                    Invalid(format!("the event at position {position} tracks {source:?} without a cursor"))
                })?;
                cursors.push((*cursor, position));
            }
            upto = found.scanned_to;
        }
        Ok(cursors)
    }
}

/// What the log says up to `head` of a source, and where it says so.
pub(crate) fn stored_tracking(
    index: &Index,
    log: &LogReader,
    source: &Source,
    head: Position,
) -> Result<Option<(Tracking, Position)>, EventsError> {
    let filter = Filter { source: Some(source.clone()), include_system: true, ..Filter::default() };
    let mut upto = head;
    while upto > Position::ZERO {
        let found = index.find(&filter, Direction::Backward, Position::ZERO, upto, 1)?;
        if let Some(position) = found.positions.first().copied() {
            let missing = || Invalid(format!("the event at position {position} does not track {source:?}"));
            let payload = log.read(position)?.ok_or_else(missing)?;
            let tracking = RecordedEvent::decode(position, payload)?.tracking.ok_or_else(missing)?;
            return Ok(Some((tracking, position)));
        }
        upto = found.scanned_to;
    }
    Ok(None)
}
