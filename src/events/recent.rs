//! The newest groups of the log, as bytes, for readers at its head.
//!
//! The committer puts each durable group here before it moves the head, so a reader that has come this far needs
//! neither the index nor the log's files. Groups are decoded and brought into their public form when first asked for,
//! once for all readers. While nobody reads at the head, nothing is kept.
//!
//! Invariants: groups are adjacent and within `RECENT_EVENTS_MAX` and `RECENT_BYTES_MAX`; what is here is in the log,
//! and a reader that finds a stretch missing takes it from there. What is above the visible head is not looked at by
//! anybody. Does not know who reads.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};

use super::{
    Page,
    wire::{Stored, WireEvents},
};
use crate::{
    event::{Invalid, Position, RecordedEvent},
    index::Filter,
    limits::{
        READ_BATCH_BYTES_MAX, READ_BATCH_EVENTS_MAX, RECENT_BYTES_MAX, RECENT_EVENTS_MAX,
        RECENT_GROUP_EVENTS_MAX,
    },
};

/// Bytes that an event's public form has above its stored form, at the most.
const FRAME_BYTES_MAX: usize = 64;

/// The newest groups. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    readers: AtomicUsize,
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    kept: VecDeque<Arc<Group>>,
    events: usize,
    bytes: usize,
}

/// Somebody who may come to read at the head; until all of them are dropped, groups are kept.
#[derive(Debug)]
pub struct Reading(Recent);

/// Events that one write made durable.
#[derive(Debug)]
pub(super) struct Group {
    first: Position,
    /// Payloads of their records in a row.
    payloads: Bytes,
    /// Where each payload ends.
    ends: Vec<usize>,
    decoded: OnceLock<Result<Vec<RecordedEvent>, Invalid>>,
    framed: OnceLock<Result<Framed, Invalid>>,
}

/// A group's events in their public form.
#[derive(Debug)]
struct Framed {
    bytes: Bytes,
    /// Where each event ends.
    ends: Vec<usize>,
    /// One of them is the system's own.
    has_system: bool,
}

impl Recent {
    /// Keeps groups from now on, as long as the result lives.
    pub fn reading(&self) -> Reading {
        self.0.readers.fetch_add(1, Ordering::Relaxed);
        Reading(self.clone())
    }

    /// Adds a group that is durable: the payloads of the records from `first` on in a row, and where each ends. Costs
    /// one copy, and nothing while nobody reads.
    pub fn push(&self, first: Position, payloads: &[u8], ends: &[usize]) {
        if self.0.readers.load(Ordering::Relaxed) == 0 {
            return;
        }
        if ends.len() > RECENT_GROUP_EVENTS_MAX {
            self.forget();
            return;
        }
        let group = Arc::new(Group {
            first,
            payloads: Bytes::copy_from_slice(payloads),
            ends: ends.to_vec(),
            decoded: OnceLock::new(),
            framed: OnceLock::new(),
        });
        let mut groups = self.lock();
        if groups.kept.back().is_some_and(|newest| newest.last().next() != first) {
            *groups = Groups::default();
        }
        groups.push(group);
    }

    /// Keeps none of the groups so far: readers that are behind take them from the log.
    pub fn forget(&self) {
        *self.lock() = Groups::default();
    }

    /// The events above `after` up to `upto` that match: as many as fit in one message. `None`: not all of this stretch
    /// is here.
    pub(super) fn page(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
    ) -> Result<Option<Page>, Invalid> {
        let Some(groups) = self.between(after, upto) else {
            return Ok(None);
        };
        let mut picked = Picked::default();
        for group in &groups {
            picked.add(group, filter, after, upto)?;
            if picked.is_full() {
                break;
            }
        }
        let scanned_to = if picked.is_full() { picked.last } else { upto };
        let last = picked.last;
        Ok(Some(Page { events: picked.finish(), last, scanned_to }))
    }

    /// The groups that hold the events above `after` up to `upto`; `None`: some of them are not here.
    pub(super) fn between(&self, after: Position, upto: Position) -> Option<Vec<Arc<Group>>> {
        let groups = self.lock();
        let newest = groups.kept.back()?;
        let oldest = groups.kept.front()?;
        if after.next() < oldest.first || upto > newest.last() {
            return None;
        }
        let begin = groups.kept.partition_point(|group| group.last() <= after);
        let end = groups.kept.partition_point(|group| group.first <= upto);
        Some(groups.kept.range(begin..end.max(begin)).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.0.0.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A group that is pushed meanwhile stays until the next reader comes and goes; it is correct, and bounded.
            self.0.forget();
        }
    }
}

impl Groups {
    fn push(&mut self, group: Arc<Group>) {
        self.events += group.len();
        self.bytes += group.payloads.len();
        self.kept.push_back(group);
        while self.events > RECENT_EVENTS_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.events -= oldest.len();
            self.bytes -= oldest.payloads.len();
        }
    }
}

impl Group {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn last(&self) -> Position {
        Position::new(self.first.get() + self.len() as u64 - 1)
    }

    /// The payloads of its records, with their positions.
    fn records(&self) -> impl Iterator<Item = (Position, Bytes)> {
        let mut begin = 0;
        let positions = (0..).map(|at| self.first.plus(at));
        positions.zip(&self.ends).map(move |(position, end)| {
            let payload = self.payloads.slice(begin..*end);
            begin = *end;
            (position, payload)
        })
    }

    /// Its events above `after` up to `upto`.
    pub(super) fn events(
        &self,
        after: Position,
        upto: Position,
    ) -> Result<impl Iterator<Item = &RecordedEvent>, Invalid> {
        let decode = |(position, payload)| RecordedEvent::decode(position, payload);
        let decoded = self.decoded.get_or_init(|| self.records().map(decode).collect());
        let events = decoded.as_ref().map_err(Clone::clone)?;
        Ok(events.iter().filter(move |event| event.position > after && event.position <= upto))
    }

    fn framed(&self) -> Result<&Framed, Invalid> {
        self.framed.get_or_init(|| self.frame()).as_ref().map_err(Clone::clone)
    }

    fn frame(&self) -> Result<Framed, Invalid> {
        let mut bytes = Vec::with_capacity(self.payloads.len() + FRAME_BYTES_MAX * self.len());
        let mut ends = Vec::with_capacity(self.len());
        let mut has_system = false;
        for (position, payload) in self.records() {
            let stored = Stored::parse(position, &payload)?;
            stored.frame(position, &mut bytes);
            ends.push(bytes.len());
            has_system |= stored.is_system();
        }
        Ok(Framed { bytes: bytes.into(), ends, has_system })
    }
}

/// A message in the making.
#[derive(Debug, Default)]
struct Picked {
    parts: Vec<Bytes>,
    bytes: usize,
    count: usize,
    last: Position,
}

impl Picked {
    fn is_full(&self) -> bool {
        self.count >= READ_BATCH_EVENTS_MAX || self.bytes >= READ_BATCH_BYTES_MAX
    }

    /// Adds what a group has, until the message is full.
    fn add(
        &mut self,
        group: &Group,
        filter: &Filter,
        after: Position,
        upto: Position,
    ) -> Result<(), Invalid> {
        let framed = group.framed()?;
        let whole = group.first > after
            && group.last() <= upto
            && self.count + group.len() <= READ_BATCH_EVENTS_MAX
            && self.bytes + framed.bytes.len() <= READ_BATCH_BYTES_MAX;
        if whole && filter.is_open() && (filter.include_system || !framed.has_system) {
            self.take(framed.bytes.clone(), group.len(), group.last());
            return Ok(());
        }
        for event in group.events(after, upto)?.filter(|event| filter.matches(event)) {
            let at = (event.position.get() - group.first.get()) as usize;
            let begin = if at == 0 { 0 } else { framed.ends[at - 1] };
            self.take(framed.bytes.slice(begin..framed.ends[at]), 1, event.position);
            if self.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, part: Bytes, count: usize, last: Position) {
        self.bytes += part.len();
        self.count += count;
        self.last = last;
        self.parts.push(part);
    }

    fn finish(mut self) -> WireEvents {
        let bytes = if self.parts.len() == 1 {
            self.parts.remove(0)
        } else {
            let mut bytes = BytesMut::with_capacity(self.bytes);
            self.parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.freeze()
        };
        WireEvents { bytes, count: self.count }
    }
}
