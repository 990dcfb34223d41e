//! What an import has set aside: a fold of the node's log, which keeps the events themselves.
//!
//! Owns who is parked, and whose turn it is to be tried again. The stream `$import-NAME.unmapped` tells all of it: events
//! that are parked (whole, as their owner published them), those that still fail, those that left, those that were passed by
//! (`form`). Invariants: quarantine is per stream of the owner: of each, the first parked event has failed and those behind it
//! wait for it; what is parked is bounded; what is submitted and not durable yet counts as parked. Memory holds places, no
//! events. Does not know mappings or the bus.

mod form;

pub use form::{Aside, ParkedEvent, failed_again, parked, passed_by, unparked};

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    decisions::{ImportDecisions, unmapped_stream},
    envelope::PublicEvent,
};
use crate::{
    event::{Invalid, Origin, Position, RecordedEvent, Revision, StreamId},
    events::{Events, EventsError},
    limits::{IMPORT_PARKED_EVENTS_MAX, SKIPPED_EVENTS_KEPT},
};

/// What an event of a page weighs besides its data.
const ERROR_BYTES: usize = 1_024;

/// Where an event of an owner stands: its log, epoch and position.
type Key = (Uuid, u64, Position);

/// What an import has set aside, without the events.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// By where they stand in this node's log.
    parked: BTreeMap<Position, Parked>,
    streams: HashMap<StreamId, BTreeSet<Position>>,
    /// Parked by appends whose answer is not there yet, or not read from the log yet.
    unsettled: BTreeMap<Key, StreamId>,
    unsettled_streams: HashMap<StreamId, u64>,
    /// The newest of those that were passed by: where the log says so.
    passed: BTreeSet<Position>,
    passed_count: u64,
    revision: Revision,
    upto: Position,
}

#[derive(Debug)]
struct Parked {
    stream: StreamId,
    /// The owner's log.
    log_id: Uuid,
    /// In the owner's log.
    position: Position,
    /// Where this node's log says what it failed with; zero: it waits for those before it.
    failed_at: Position,
}

/// How much is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that are parked now.
    pub parked_events: u64,
    /// Streams of the owner that they belong to.
    pub parked_streams: u64,
    /// Events that were ever passed by, by the policy or by a decision.
    pub skipped: u64,
}

/// What became of an event that could not be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportErrorKind {
    /// The import stands still before it.
    Paused,
    /// It is parked, the first of its stream.
    Parked,
    /// It is parked and waits for the first of its stream.
    Waiting,
    /// It was passed by.
    Skipped,
}

/// An event of an owner that an import has not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// What became of it.
    pub kind: ImportErrorKind,
    /// Its position in the owner's log.
    pub position: Position,
    /// Where this node's log tells of it; zero where the import stands still before it.
    pub at: Position,
    /// The event as its owner published it; absent where the import has not kept it.
    pub event: Option<PublicEvent>,
    /// Why it could not be mapped; absent for one that waits.
    pub error: Option<String>,
    /// It was passed by because somebody decided so, not by the policy.
    pub is_decided: bool,
}

/// What was set aside, a page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// In the order of this node's log.
    pub errors: Vec<ImportError>,
    /// Nothing follows.
    pub is_last: bool,
}

impl Quarantine {
    /// Learns of what the log says up to its head.
    pub fn refresh(&mut self, events: &Events, import: &str) -> Result<(), EventsError> {
        let head = events.head().get();
        let after = self.upto;
        events.each_of_stream(unmapped_stream(import), after, head, |event| {
            self.fold(event);
            Ok(())
        })?;
        self.upto = head;
        Ok(())
    }

    /// Appends that were under way have come to their end: the log has what became of them.
    pub fn forget_unsettled(&mut self) {
        self.unsettled.clear();
        self.unsettled_streams.clear();
    }

    fn fold(&mut self, event: &RecordedEvent) {
        let at = event.position;
        self.revision = event.revision;
        match Aside::read(event) {
            Ok(Aside::Parked { stream, is_failed, key }) => {
                let (log_id, _, position) = key;
                if let Some(stream) = self.unsettled.remove(&key) {
                    let left = self.unsettled_streams.get_mut(&stream).map(|count| {
                        *count -= 1;
                        *count
                    });
                    if left == Some(0) {
                        self.unsettled_streams.remove(&stream);
                    }
                }
                let failed_at = if is_failed { at } else { Position::ZERO };
                self.streams.entry(stream.clone()).or_default().insert(at);
                self.parked.insert(at, Parked { stream, log_id, position, failed_at });
            }
            Ok(Aside::FailedAgain { parked_at }) => {
                if let Some(parked) = self.parked.get_mut(&parked_at) {
                    parked.failed_at = at;
                }
            }
            Ok(Aside::Left { parked_at, is_skipped }) => {
                self.remove(parked_at);
                if is_skipped {
                    self.pass(at);
                }
            }
            Ok(Aside::PassedBy) => self.pass(at),
            Ok(Aside::Unknown) => {}
            Err(error) => {
                tracing::warn!(position = %at, %error, "what a newer program set aside is passed over");
            }
        }
    }

    fn remove(&mut self, at: Position) {
        let Some(Parked { stream, .. }) = self.parked.remove(&at) else { return };
        if let Some(positions) = self.streams.get_mut(&stream) {
            positions.remove(&at);
            if positions.is_empty() {
                self.streams.remove(&stream);
            }
        }
    }

    fn pass(&mut self, at: Position) {
        self.passed_count += 1;
        self.passed.insert(at);
        while self.passed.len() > SKIPPED_EVENTS_KEPT {
            self.passed.pop_first();
        }
    }

    /// Whether events of this stream of the owner have to wait.
    pub fn holds(&self, stream: &StreamId) -> bool {
        self.streams.contains_key(stream) || self.unsettled_streams.contains_key(stream)
    }

    /// Whether there is room for another parked event.
    pub fn has_room(&self) -> bool {
        self.parked.len() + self.unsettled.len() < IMPORT_PARKED_EVENTS_MAX
    }

    /// An append parks this one.
    pub fn hold(&mut self, origin: &Origin, stream: &StreamId) {
        let stream = stream.detached();
        if self.unsettled.insert((origin.log_id, origin.epoch, origin.position), stream.clone()).is_none() {
            *self.unsettled_streams.entry(stream).or_default() += 1;
        }
    }

    /// The revision of the stream that tells of it, as far as it is folded.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Streams whose first parked event is to be tried (again) or passed by, in its order: it was never tried, somebody
    /// decided to try again after it failed, or decided to pass it by.
    pub fn due(&self, decisions: &ImportDecisions, streams_max: usize) -> Vec<Vec<Position>> {
        let is_due = |at: &Position, parked: &Parked| {
            let is_first = self.streams.get(&parked.stream).and_then(BTreeSet::first) == Some(at);
            let is_wanted = parked.failed_at == Position::ZERO
                || parked.failed_at < decisions.retried_at
                || decisions.skips_parked.contains(at);
            is_first && is_wanted
        };
        let due = self.parked.iter().filter(|(at, parked)| is_due(at, parked)).take(streams_max);
        due.map(|(_, parked)| self.streams[&parked.stream].iter().copied().collect()).collect()
    }

    /// The first parked event of a stream that stands at this position of its owner's log, and which log that is.
    pub fn first_at(&self, position: Position) -> Option<(Position, Uuid)> {
        let first = self.firsts().find(|(_, parked)| parked.position == position);
        first.map(|(at, parked)| (at, parked.log_id))
    }

    /// The owner's position of the first event that is parked.
    pub fn first(&self) -> Option<Position> {
        self.firsts().next().map(|(_, parked)| parked.position)
    }

    fn firsts(&self) -> impl Iterator<Item = (Position, &Parked)> {
        let failed = self.parked.iter().filter(|(_, parked)| parked.failed_at > Position::ZERO);
        failed.map(|(at, parked)| (*at, parked))
    }

    /// How much is set aside.
    pub fn counts(&self) -> Counts {
        let new = self.unsettled_streams.keys().filter(|stream| !self.streams.contains_key(*stream)).count();
        Counts {
            parked_events: (self.parked.len() + self.unsettled.len()) as u64,
            parked_streams: (self.streams.len() + new) as u64,
            skipped: self.passed_count,
        }
    }

    /// What is parked and what was passed by behind a position of this node's log, in its order: so many, or fewer where
    /// they are large.
    pub fn page(
        &self,
        events: &Events,
        after: Position,
        (count_max, bytes_max): (usize, usize),
    ) -> Result<ErrorPage, EventsError> {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let parked = self.parked.range(behind).map(|(at, _)| *at).take(count_max + 1);
        let passed = self.passed.range(behind).copied().take(count_max + 1);
        let places: BTreeSet<Position> = parked.chain(passed).collect();
        let (mut errors, mut bytes) = (Vec::new(), 0);
        for at in &places {
            if errors.len() == count_max || bytes >= bytes_max {
                break;
            }
            let error = self.error(events, *at)?;
            bytes += error.event.as_ref().map_or(0, |event| event.data.len()) + ERROR_BYTES;
            errors.push(error);
        }
        let is_last = errors.len() == places.len();
        Ok(ErrorPage { errors, is_last })
    }

    fn error(&self, events: &Events, at: Position) -> Result<ImportError, EventsError> {
        let event = |at| -> Result<RecordedEvent, EventsError> {
            let missing = || Invalid(format!("the log has no event at position {at}"));
            Ok(events.at(at)?.ok_or_else(missing)?)
        };
        let Some(parked) = self.parked.get(&at) else {
            return form::passed_error(&event(at)?, event);
        };
        let kept = ParkedEvent::read(&event(at)?)?;
        let (kind, error) = match parked.failed_at {
            Position::ZERO => (ImportErrorKind::Waiting, None),
            failed_at if failed_at == at => (ImportErrorKind::Parked, kept.error),
            failed_at => (ImportErrorKind::Parked, form::error_of(&event(failed_at)?)),
        };
        Ok(ImportError {
            kind,
            position: parked.position,
            at,
            event: Some(kept.event),
            error,
            is_decided: false,
        })
    }
}
