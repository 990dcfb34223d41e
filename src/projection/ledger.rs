//! The ledger of one version: events that it set aside, which are parked or skipped, and what follows from them.
//!
//! Owns two tables of the version's file: `ledger` (position -> an entry as JSON) and `ledger_counts` (name -> number).
//! They change in the transaction that changes documents and cursor, so all of them tell of the same events. Invariants:
//! parked events and the kept list of skipped ones are bounded; the first parked event of a stream has its failure,
//! those behind it wait for it. A file without these tables has set nothing aside. Does not know why events fail, or when
//! parked ones are tried again.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use crate::{
    event::{EventType, Position, RecordedEvent, StreamId},
    kv::KvError,
    limits::{PARKED_EVENTS_MAX, SKIPPED_EVENTS_KEPT},
    projection::{definition::Definition, failure::Failure},
};

mod entry;

pub use entry::{Entry, Skipped};

const LEDGER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ledger");
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("ledger_counts");

/// What follows from the ledger, as queries and people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that are parked now.
    pub parked_events: u64,
    /// Streams that they belong to.
    pub parked_streams: u64,
    /// Events that were ever skipped, by the policy or by a decision.
    pub skipped: u64,
    /// Events that were applied behind later ones: the documents may differ from those of a build in log order.
    pub late: u64,
    /// The collections that parked events would change, by place as bits.
    pub incomplete: u64,
    /// The last event that was set aside because it could not be applied; 0: none.
    pub last_error: Position,
}

/// The ledger in memory, with what is not written yet.
#[derive(Debug, Default)]
pub struct Ledger {
    parked: BTreeMap<Position, Parked>,
    /// The parked events of each stream that has some.
    streams: HashMap<StreamId, BTreeSet<Position>>,
    /// The skipped events that are in the list.
    kept: BTreeSet<Position>,
    skipped: u64,
    late: u64,
    last_error: Position,
    /// Entries to write, and (`None`) to take out.
    changes: BTreeMap<Position, Option<Entry>>,
    changed: bool,
}

/// What a batch changes in the ledger, and what follows from all of it then.
#[derive(Debug)]
pub(crate) struct LedgerChanges {
    entries: BTreeMap<Position, Option<Entry>>,
    /// `None`: nothing has changed.
    counts: Option<Counts>,
}

/// What is known of a parked event without reading it.
#[derive(Debug)]
struct Parked {
    stream: StreamId,
    /// Of the first of its stream.
    failure: Option<Failure>,
    /// What it would change, by place as bits.
    collections: u64,
}

impl Ledger {
    /// The ledger that a file holds.
    pub(crate) fn load(read: &ReadTransaction, definition: &Definition) -> Result<Self, KvError> {
        let counts = counts(read)?;
        let Counts { skipped, late, last_error, .. } = counts;
        let mut ledger = Self { skipped, late, last_error, ..Self::default() };
        for (position, entry) in page(read, Position::ZERO, usize::MAX)? {
            match entry {
                Entry::Parked { stream, event_type, failure } => {
                    ledger.add(position, stream, failure, definition.touches(event_type.as_str()));
                }
                Entry::Skipped(_) => {
                    ledger.kept.insert(position);
                }
            }
        }
        Ok(ledger)
    }

    /// Whether events of this stream have to wait.
    #[inline]
    pub(crate) fn is_parked(&self, stream: &StreamId) -> bool {
        !self.streams.is_empty() && self.streams.contains_key(stream)
    }

    /// Whether the event at this position is parked.
    pub(crate) fn parked_at(&self, position: Position) -> bool {
        self.parked.contains_key(&position)
    }

    /// What a parked event failed with; none for one that waits behind another.
    pub(crate) fn failure_at(&self, position: Position) -> Option<&Failure> {
        self.parked.get(&position)?.failure.as_ref()
    }

    /// Whether there is room for another parked event.
    pub(crate) fn has_room(&self) -> bool {
        self.parked.len() < PARKED_EVENTS_MAX
    }

    /// The streams with parked events, in order of their first one.
    pub(crate) fn parked_streams(&self) -> Vec<StreamId> {
        let firsts =
            self.parked.iter().filter(|(position, parked)| self.is_first(**position, &parked.stream));
        firsts.map(|(_, parked)| parked.stream.clone()).collect()
    }

    /// The first parked event of a stream.
    pub(crate) fn first_of(&self, stream: &StreamId) -> Option<Position> {
        self.streams.get(stream).and_then(|positions| positions.first().copied())
    }

    /// All parked positions.
    pub(crate) fn parked(&self) -> impl Iterator<Item = Position> {
        self.parked.keys().copied()
    }

    /// Parks an event; `failure` is that of the first of its stream, and none for those that wait behind it.
    pub(crate) fn park(&mut self, event: &RecordedEvent, failure: Option<Failure>, collections: u64) {
        let (position, stream) = (event.position, event.event.stream.detached());
        if failure.is_some() {
            self.last_error = self.last_error.max(position);
        }
        self.add(position, stream.clone(), failure.clone(), collections);
        let event_type: EventType = event.event.event_type.detached();
        self.changes.insert(position, Some(Entry::Parked { stream, event_type, failure }));
        self.changed = true;
    }

    /// Takes a parked event out; gives its stream if it was the first of it.
    pub(crate) fn unpark(&mut self, position: Position) -> Option<StreamId> {
        let Parked { stream, .. } = self.parked.remove(&position)?;
        let positions = self.streams.get_mut(&stream).expect("every parked event is in its stream's list");
        let was_first = positions.first() == Some(&position);
        positions.remove(&position);
        if positions.is_empty() {
            self.streams.remove(&stream);
        }
        self.changes.insert(position, None);
        self.changed = true;
        was_first.then_some(stream)
    }

    /// Counts a skipped event and keeps it in the list, from which the oldest gives way.
    pub(crate) fn skip(&mut self, position: Position, skipped: Skipped) {
        if skipped.failure.is_some() {
            self.last_error = self.last_error.max(position);
        }
        self.skipped += 1;
        self.kept.insert(position);
        self.changes.insert(position, Some(Entry::Skipped(skipped)));
        while self.kept.len() > SKIPPED_EVENTS_KEPT {
            if let Some(oldest) = self.kept.pop_first() {
                self.changes.insert(oldest, None);
            }
        }
        self.changed = true;
    }

    /// Counts an event that was applied behind later ones.
    pub(crate) fn note_late(&mut self) {
        self.late += 1;
        self.changed = true;
    }

    /// What follows from it.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            parked_events: self.parked.len() as u64,
            parked_streams: self.streams.len() as u64,
            skipped: self.skipped,
            late: self.late,
            incomplete: self.parked.values().fold(0, |bits, parked| bits | parked.collections),
            last_error: self.last_error,
        }
    }

    /// Takes out what has changed, to be written.
    pub(crate) fn take_changes(&mut self) -> LedgerChanges {
        let counts = std::mem::take(&mut self.changed).then(|| self.counts());
        LedgerChanges { entries: std::mem::take(&mut self.changes), counts }
    }

    fn add(&mut self, position: Position, stream: StreamId, failure: Option<Failure>, collections: u64) {
        self.streams.entry(stream.clone()).or_default().insert(position);
        self.parked.insert(position, Parked { stream, failure, collections });
    }

    fn is_first(&self, position: Position, stream: &StreamId) -> bool {
        self.first_of(stream) == Some(position)
    }
}

impl LedgerChanges {
    /// Writes them into the transaction that writes documents and cursor.
    pub(crate) fn write(&self, write: &WriteTransaction) -> Result<(), KvError> {
        let Some(counts) = self.counts else {
            return Ok(());
        };
        let mut table = write.open_table(LEDGER)?;
        for (position, entry) in &self.entries {
            match entry {
                Some(entry) => drop(table.insert(position.get(), entry.encode().as_bytes())?),
                None => drop(table.remove(position.get())?),
            }
        }
        let mut table = write.open_table(COUNTS)?;
        for (name, number) in counts.named() {
            table.insert(name, number)?;
        }
        Ok(())
    }
}

impl Counts {
    fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("parked_events", self.parked_events),
            ("parked_streams", self.parked_streams),
            ("skipped", self.skipped),
            ("late", self.late),
            ("incomplete", self.incomplete),
            ("last_error", self.last_error.get()),
        ]
    }

    /// Whether parked events would change the collection at this place.
    pub const fn is_incomplete(&self, collection: usize) -> bool {
        self.incomplete >> collection & 1 == 1
    }
}

/// What follows from the ledger of a file.
pub(crate) fn counts(read: &ReadTransaction) -> Result<Counts, KvError> {
    let table = match read.open_table(COUNTS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Counts::default()),
        Err(error) => return Err(error.into()),
    };
    let number =
        |name: &str| -> Result<u64, KvError> { Ok(table.get(name)?.map_or(0, |number| number.value())) };
    Ok(Counts {
        parked_events: number("parked_events")?,
        parked_streams: number("parked_streams")?,
        skipped: number("skipped")?,
        late: number("late")?,
        incomplete: number("incomplete")?,
        last_error: Position::new(number("last_error")?),
    })
}

/// Up to `limit` entries behind a position, in order of position.
pub(crate) fn page(
    read: &ReadTransaction,
    after: Position,
    limit: usize,
) -> Result<Vec<(Position, Entry)>, KvError> {
    let table = match read.open_table(LEDGER) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    for row in table.range(after.get() + 1..)?.take(limit) {
        let (position, entry) = row?;
        entries.push((Position::new(position.value()), Entry::decode(entry.value())?));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
