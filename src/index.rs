//! The index of the log: streams, types, tags and ids to positions.
//!
//! Owns the answers to "where is the event with this id", "what is the newest event of this stream" and "which events
//! match this filter". The newest events are indexed in memory; each full part of memory becomes an immutable,
//! checksummed run file, and runs are merged in tiers. One thread in the background writes, merges and repairs.
//!
//! Invariants: the index says exactly what the log says up to its head, or an error; parts and runs are adjacent; run
//! files hold nothing that the log does not, so the directory may be deleted at any time. Readers ask up to the visible
//! head and so never see what is applied above it.
//!
//! Deliberately does not know: documents, conditions, who appends, or what events carry besides id, type, stream and
//! tags.

use std::{path::Path, sync::Arc, thread::JoinHandle};

use crate::{
    disk::Disk,
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, Source, StreamId, Tag},
    limits::{INDEX_SCAN_BYTES_MAX, INDEX_SCAN_EVENTS_MAX},
    log::LogReader,
};

mod chain;
mod codec;
mod cover;
mod error;
mod filter;
mod find;
mod header;
mod heads;
mod ids;
mod lists;
mod matcher;
mod merge;
mod names;
mod part;
mod postings;
mod progress;
mod query;
mod run;
mod sink;
mod state;
mod streams;
mod table;
mod terms;
#[doc(hidden)]
pub mod untrusted;
mod verify;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

pub use error::IndexError;
use state::State;
pub use state::{IndexConfig, IndexStatus, LogView, Scan};
pub use verify::{IndexVerified, IndexVerifier, RunState, RunVerified, remove_index};

/// The index. Shared through `Arc`: one committer applies, any number of readers ask.
#[derive(Debug)]
pub struct Index {
    state: Arc<State>,
    /// Writes, merges and repairs; absent where the owner calls `step` itself.
    worker: Option<JoinHandle<()>>,
}

/// The newest event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// Its number in the stream, which is also how many events the stream has.
    pub revision: Revision,
    /// Its number in the log.
    pub last_position: Position,
}

/// A stream and its newest event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// The stream.
    pub stream: StreamId,
    /// Its newest event.
    pub head: StreamHead,
}

/// One alternative of a query; an event meets it by both of what is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// Events of any of these types; none stands for all types.
    pub types: Vec<EventType>,
    /// Events that have all of these tags.
    pub tags: Vec<Tag>,
}

impl QueryItem {
    fn matches(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.contains(&event.event_type))
            && self.tags.iter().all(|tag| event.tags.contains(tag))
    }
}

/// Which events are asked for: those that meet every field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Events of this stream; `None` stands for all streams.
    pub stream: Option<StreamId>,
    /// Events of any of these types; none stands for all types.
    pub types: Vec<EventType>,
    /// Events that have all of these tags.
    pub tags: Vec<Tag>,
    /// Whether the system's own events (`$...`) are asked for too.
    pub include_system: bool,
    /// Events that meet any of these; none stands for all events.
    pub query: Vec<QueryItem>,
    /// Events that carry the position of this source.
    pub source: Option<Source>,
}

impl Filter {
    /// Whether an event is one of those asked for.
    pub fn matches(&self, recorded: &RecordedEvent) -> bool {
        let event = &recorded.event;
        let source = recorded.tracking.as_ref().map(|tracking| &tracking.source);
        self.stream.as_ref().is_none_or(|stream| *stream == event.stream)
            && (self.types.is_empty() || self.types.contains(&event.event_type))
            && self.tags.iter().all(|tag| event.tags.contains(tag))
            && (self.include_system || !is_system(event))
            && (self.query.is_empty() || self.query.iter().any(|item| item.matches(event)))
            && (self.source.is_none() || self.source.as_ref() == source)
    }

    /// Whether it asks for nothing but a stretch of the log.
    pub fn is_open(&self) -> bool {
        self.stream.is_none()
            && self.types.is_empty()
            && self.tags.is_empty()
            && self.query.is_empty()
            && self.source.is_none()
    }
}

/// In which order of position events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Backward,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Positions of matching events, in the order of the search, at most as many as asked for.
    pub positions: Vec<Position>,
    /// How far the search came. Forward: all of `(after, scanned_to]` was looked at; go on with `after = scanned_to`
    /// until it is `upto`. Backward: all of `(scanned_to, upto]` was looked at; go on with `upto = scanned_to` until it
    /// is `after`. A search may end early with fewer positions than asked for, or none: a call does bounded work.
    pub scanned_to: Position,
}

impl Index {
    /// Opens the index in `dir` for the log that `reader` reads; the reader must show all of the log that is durable.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, reader: &LogReader) -> Result<Self, IndexError> {
        Self::open_configured(disk, dir, reader, IndexConfig::default())
    }

    /// As `open`, with sizes and threads of one's own.
    pub fn open_configured(
        disk: Arc<dyn Disk>,
        dir: &Path,
        reader: &LogReader,
        config: IndexConfig,
    ) -> Result<Self, IndexError> {
        let log = LogView {
            log_id: reader.log_id(),
            first: reader.first_position(),
            head: reader.head(),
            scan: scan_of(reader.clone()),
        };
        Self::open_with(disk, dir, log, config)
    }

    /// Opens the index in `dir` and catches up with the log: what is missing or damaged is built from it, what is ahead of
    /// it is removed. Starts the background thread.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log: LogView,
        config: IndexConfig,
    ) -> Result<Self, IndexError> {
        let head = log.head;
        let state = Arc::new(State::open(disk, dir, log, config)?);
        let mut index = Self { state: Arc::clone(&state), worker: None };
        if config.background {
            let work = move || worker::work(&state);
            let spawned = std::thread::Builder::new().name("index".into()).spawn(work);
            index.worker = Some(spawned.map_err(IndexError::io("start a thread for", dir))?);
        }
        index.state.catch_up(head)?;
        Ok(index)
    }

    /// Adds events behind the last one applied, in order of position, once they are durable. Waits while too many full
    /// parts are unwritten. After an error `head` says how far it came.
    pub fn apply(&self, events: &[RecordedEvent]) -> Result<(), IndexError> {
        self.state.apply(events)
    }

    /// The position of the last event applied.
    pub fn head(&self) -> Position {
        self.state.head()
    }

    /// The position of the event with this id.
    pub fn position_of(&self, id: &EventId) -> Result<Option<Position>, IndexError> {
        Ok(self.positions_of(std::slice::from_ref(id))?[0])
    }

    /// The positions of the events with these ids, in their order. Cheaper than one call for each.
    pub fn positions_of(&self, ids: &[EventId]) -> Result<Vec<Option<Position>>, IndexError> {
        self.state.noticing(self.state.positions_of(ids))
    }

    /// The newest event of a stream; `None` if the stream has none.
    pub fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, IndexError> {
        self.state.noticing(self.state.stream_head(stream))
    }

    /// Up to `limit` positions in `(after, upto]` of events that match, from the front or from the back. May look at less
    /// than was asked for: see [`Found::scanned_to`]. Nothing above the head is found.
    pub fn find(
        &self,
        filter: &Filter,
        direction: Direction,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Found, IndexError> {
        self.state.noticing(self.state.find(filter, direction, after, upto, limit))
    }

    /// Up to `limit` streams whose names begin with `prefix` and are greater than `after_name`, in order of name.
    pub fn list_streams(
        &self,
        prefix: &str,
        after_name: &str,
        limit: usize,
        include_system: bool,
    ) -> Result<Vec<StreamEntry>, IndexError> {
        self.state.noticing(self.state.list_streams(prefix, after_name, limit, include_system))
    }

    /// Does one piece of background work: writes a part, repairs a run, or merges runs. False if there is none. The
    /// background thread does the same; only one of them works at a time.
    pub fn step(&self) -> Result<bool, IndexError> {
        self.state.step()
    }

    /// Has the background work write what is only in memory, if it is worth the while: nothing has come for some time, and
    /// a node that does nothing should take little memory. Only who applies events may call it.
    pub fn rest(&self) -> Result<(), IndexError> {
        self.state.rest()
    }

    /// Writes what is only in memory, so that the next start need not read it from the log, and ends the background
    /// work. Nothing may be applied afterwards; reads go on. Whatever fails here costs the next start time, no more.
    pub fn stop(&self) -> Result<(), IndexError> {
        self.state.stop()
    }

    /// Why parts cannot be written at present, if so. While it says something, appends should be refused: the index
    /// holds a bounded number of unwritten parts.
    pub fn write_failure(&self) -> Option<String> {
        self.state.write_failure()
    }

    /// Sizes, for metrics.
    pub fn status(&self) -> IndexStatus {
        self.state.status()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.state.close();
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!(
                "the index worker panicked; the index is checked against the log at the next start"
            );
        }
    }
}

/// Reads and decodes events of the log.
fn scan_of(reader: LogReader) -> Scan {
    Box::new(move |after, upto| {
        let records = reader
            .scan(after, upto, INDEX_SCAN_BYTES_MAX, INDEX_SCAN_EVENTS_MAX)
            .map_err(|error| IndexError::Log(error.into()))?;
        let decode = |(position, payload)| RecordedEvent::decode(position, payload);
        records
            .into_iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map_err(|error| IndexError::Log(error.into()))
    })
}

/// Whether an event is one of the system's own.
fn is_system(event: &Event) -> bool {
    event.event_type.is_system() || event.stream.is_system()
}
