//! What the log says of the mesh: system events `$import.*` and `$export.*`, how they are written, and their fold.
//!
//! The event is the decision; compare-and-set is an expected revision of its stream. Streams: `$import-NAME` (decisions
//! about an import), `$import-NAME.passed` (how far it has come where it appends nothing else), `$import-NAME.unmapped`
//! (events that it did not map, see `quarantine`), `$exports` (decisions about what this node publishes). Invariants: the fold
//! depends on the log alone; types that a newer program wrote are passed over. Does not know what is done about a decision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::envelope::{Place, hex};
use crate::{
    append::{Expectation, Expected, Request},
    event::{Event, EventId, EventType, ImportCursor, Invalid, Position, RecordedEvent, Revision, StreamId},
    events::{Events, EventsError},
    index::{Direction, Filter},
    limits::DECISIONS_PAGE_EVENTS,
};

/// Where decisions about what this node publishes stand.
pub const EXPORTS_STREAM: &str = "$exports";

/// The stream of decisions about an import.
pub fn import_stream(import: &str) -> StreamId {
    system_stream(format!("$import-{import}"))
}

/// The stream of an import's cursors where it appends nothing else.
pub fn passed_stream(import: &str) -> StreamId {
    system_stream(format!("$import-{import}.passed"))
}

/// The stream of events that an import did not map.
pub fn unmapped_stream(import: &str) -> StreamId {
    system_stream(format!("$import-{import}.unmapped"))
}

fn system_stream(name: String) -> StreamId {
    StreamId::parse_any(&name).expect("names of imports are short labels")
}

/// A decision about an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the line of a variant says what its fields are")]
pub enum ImportDecision {
    /// It stands still.
    Paused { reason: String },
    /// It goes on where it stands.
    Resumed { reason: String },
    /// It passes the event at this position of this log by. `parked_at`: it is parked there, in this node's log.
    Skipped {
        log_id: String,
        position: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parked_at: Option<u64>,
        reason: String,
    },
    /// It tries again what it could not map: the event that it stands at, and those that are parked.
    Retried { reason: String },
    /// It goes on from another place. What it has taken of the owner behind `position` up to `orphaned_upto` is of a past
    /// that the owner no longer has: it stays, and is marked by this.
    Resynced {
        generation: u32,
        from: StoredPlace,
        orphaned_log_id: String,
        orphaned_upto: u64,
        reason: String,
    },
}

/// A place in an export, as decisions keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlace {
    /// The owner's log, a UUID.
    pub log_id: String,
    /// The epoch of its last event.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its position in the owner's log.
    pub position: u64,
    /// The chain, in hexadecimal digits.
    pub chain: String,
}

impl From<&Place> for StoredPlace {
    fn from(place: &Place) -> Self {
        let Place { log_id, epoch, seq, position, chain } = place;
        let log_id = log_id.to_string();
        Self { log_id, epoch: *epoch, seq: *seq, position: position.get(), chain: hex(chain) }
    }
}

impl StoredPlace {
    /// The place, if its chain is one.
    pub fn place(&self) -> Option<Place> {
        let Self { log_id, epoch, seq, position, chain } = self;
        let (chain, log_id) = (unhex(chain)?, Uuid::parse_str(log_id).ok()?);
        Some(Place { log_id, epoch: *epoch, seq: *seq, position: Position::new(*position), chain })
    }
}

/// The bytes of a hash in hexadecimal digits.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A decision about what this node publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the line of a variant says what its fields are")]
pub enum ExportDecision {
    /// This version is published under this definition from now on, for good.
    Published { export: String, version: u32, definition: String },
    /// This log is what counts: these published places, which it does not have, are of a past that is given up.
    Resynced { given_up: Vec<GivenUp>, reason: String },
    /// This log is a copy in place of a newer one: what was published behind `head` under epochs before `epoch` is given up.
    Restored { epoch: u64, head: u64, reason: String },
}

/// A published place that a log does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The export.
    pub export: String,
    /// Its version.
    pub version: u32,
    /// The place.
    pub place: StoredPlace,
}

/// All decisions about an import.
#[derive(Debug, Clone, Default)]
pub struct ImportDecisions {
    /// Of the stream, as far as it is folded.
    pub revision: Revision,
    /// Somebody paused it.
    pub is_paused: bool,
    /// Positions of logs that it passes by.
    pub skips: BTreeSet<(String, u64)>,
    /// Parked events that it passes by, by where they stand in this node's log.
    pub skips_parked: BTreeSet<Position>,
    /// Where somebody decided last to try parked events again.
    pub retried_at: Position,
    /// Counts places at which somebody had it begin.
    pub generation: u32,
    /// The place at which this generation begins; none: before all.
    pub begins_at: Option<Place>,
    upto: Position,
}

/// All decisions about what this node publishes.
#[derive(Debug, Clone, Default)]
pub struct ExportDecisions {
    /// Of the stream, as far as it is folded.
    pub revision: Revision,
    /// The hash of the definition of each version that was ever published.
    pub published: BTreeMap<(String, u32), String>,
    /// Chains of places that were given up.
    pub given_up: BTreeSet<String>,
    /// Where the log was restored: the epoch that began, and the position behind which it did.
    pub restored: Vec<(u64, Position)>,
    upto: Position,
}

impl ImportDecisions {
    /// Learns of what the log says up to its head.
    pub fn refresh(&mut self, events: &Events, import: &str) -> Result<(), EventsError> {
        let mut upto = self.upto;
        let result = each(events, &import_stream(import), &mut upto, &mut |event| self.fold(event));
        self.upto = upto;
        result
    }

    fn fold(&mut self, event: &RecordedEvent) {
        self.revision = event.revision;
        match serde_json::from_slice(&event.event.data) {
            Ok(ImportDecision::Paused { .. }) => self.is_paused = true,
            Ok(ImportDecision::Resumed { .. }) => self.is_paused = false,
            // The import itself does not stand at a parked event: it stays as it is.
            Ok(ImportDecision::Skipped { parked_at: Some(parked_at), .. }) => {
                self.skips_parked.insert(Position::new(parked_at));
            }
            Ok(ImportDecision::Skipped { log_id, position, .. }) => {
                self.is_paused = false;
                self.skips.insert((log_id, position));
            }
            Ok(ImportDecision::Retried { .. }) => self.retried_at = event.position,
            Ok(ImportDecision::Resynced { generation, from, .. }) => {
                self.is_paused = false;
                self.generation = generation;
                self.begins_at = from.place().filter(|place| place.seq > 0);
            }
            Err(error) => {
                tracing::warn!(position = %event.position, %error, "a decision of a newer program is passed over");
            }
        }
    }
}

impl ExportDecisions {
    /// Learns of what the log says up to its head.
    pub fn refresh(&mut self, events: &Events) -> Result<(), EventsError> {
        let mut upto = self.upto;
        let stream = system_stream(EXPORTS_STREAM.to_owned());
        let result = each(events, &stream, &mut upto, &mut |event| self.fold(event));
        self.upto = upto;
        result
    }

    /// Where the past parts that a place of this log is of, if the log was restored to a point before it.
    pub fn parted_at(&self, place: &Place) -> Option<Position> {
        let lacks = |(epoch, head): &&(u64, Position)| place.epoch < *epoch && place.position > *head;
        self.restored.iter().filter(lacks).map(|(_, head)| *head).min()
    }

    fn fold(&mut self, event: &RecordedEvent) {
        self.revision = event.revision;
        match serde_json::from_slice(&event.event.data) {
            Ok(ExportDecision::Published { export, version, definition }) => {
                self.published.entry((export, version)).or_insert(definition);
            }
            Ok(ExportDecision::Resynced { given_up, .. }) => {
                self.given_up.extend(given_up.into_iter().map(|given_up| given_up.place.chain));
            }
            Ok(ExportDecision::Restored { epoch, head, .. }) => {
                self.restored.push((epoch, Position::new(head)));
            }
            Err(error) => {
                tracing::warn!(position = %event.position, %error, "a decision of a newer program is passed over");
            }
        }
    }
}

/// Shows the events of a stream behind `upto`, up to the head.
fn each(
    events: &Events,
    stream: &StreamId,
    upto: &mut Position,
    show: &mut dyn FnMut(&RecordedEvent),
) -> Result<(), EventsError> {
    let head = events.head().get();
    let filter = Filter { stream: Some(stream.clone()), include_system: true, ..Filter::default() };
    while *upto < head {
        let found = events.index().find(&filter, Direction::Forward, *upto, head, DECISIONS_PAGE_EVENTS)?;
        for position in found.positions {
            let missing = || Invalid(format!("the log has no decision at position {position}"));
            show(&events.at(position)?.ok_or_else(missing)?);
        }
        *upto = found.scanned_to;
    }
    Ok(())
}

/// The request that records a decision about an import, unless another one comes first.
pub fn import_request(import: &str, decision: &ImportDecision, revision: Revision, random: u128) -> Request {
    let event_type = match decision {
        ImportDecision::Paused { .. } => "$import.paused",
        ImportDecision::Resumed { .. } => "$import.resumed",
        ImportDecision::Skipped { .. } => "$import.skipped",
        ImportDecision::Retried { .. } => "$import.retried",
        ImportDecision::Resynced { .. } => "$import.resynced",
    };
    let event = system_event(random_id(random), event_type, import_stream(import), decision);
    expecting(event, revision)
}

/// The same of a decision about what this node publishes.
pub fn export_request(decision: &ExportDecision, revision: Revision, random: u128) -> Request {
    let event_type = match decision {
        ExportDecision::Published { .. } => "$export.published",
        ExportDecision::Resynced { .. } => "$export.resynced",
        ExportDecision::Restored { .. } => "$export.restored",
    };
    let stream = system_stream(EXPORTS_STREAM.to_owned());
    expecting(system_event(random_id(random), event_type, stream, decision), revision)
}

/// The event that carries the cursor of an import over a stretch of which it appends nothing.
pub fn passed_event(import: &str, cursor: &ImportCursor) -> Event {
    #[derive(Serialize)]
    struct Passed<'a> {
        import: &'a str,
        seq: u64,
        position: u64,
    }
    let name = format!("passed/{import}/{}/{}/{}", cursor.generation, cursor.seq, hex(&cursor.chain));
    let id = EventId::from_uuid(Uuid::new_v5(&cursor.log_id, name.as_bytes()));
    let passed = Passed { import, seq: cursor.seq, position: cursor.position.get() };
    let id = id.expect("a UUID of version 5 is not nil");
    system_event(id, "$import.passed", passed_stream(import), &passed)
}

/// An id that nothing else has.
pub(super) fn random_id(random: u128) -> EventId {
    let id = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    EventId::from_uuid(id).expect("a UUID of version 4 is not nil")
}

/// An event that only the node itself can append.
pub(super) fn system_event(id: EventId, event_type: &str, stream: StreamId, data: &impl Serialize) -> Event {
    Event {
        id,
        event_type: EventType::parse_any(event_type).expect("types of the system are right"),
        stream,
        tags: Vec::new(),
        data: Bytes::from(serde_json::to_vec(data).expect("decisions are plain values")),
        metadata: None,
        time_unix_nanos: None,
    }
}

fn expecting(event: Event, revision: Revision) -> Request {
    let expectations = vec![expectation(event.stream.clone(), revision)];
    Request { expectations, ..Request::of(vec![event]) }
}

/// That nothing came to a stream behind a revision.
pub(super) fn expectation(stream: StreamId, revision: Revision) -> Expectation {
    let expected = if revision == Revision::NONE { Expected::NoStream } else { Expected::Revision(revision) };
    Expectation { stream, expected }
}
