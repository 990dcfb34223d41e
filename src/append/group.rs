//! The group being built: events that one write will make durable, and what later requests of the batch must know of
//! them.
//!
//! Invariants: positions follow the log's last one without gaps; what is looked up here is as yet not durable, so an
//! answer that depends on it waits for the write. Does not know the log or the index.

use foldhash::HashMap;

use super::AppendedEvent;
use crate::{
    event::{
        Event, EventId, EventType, ImportCursor, Origin, Position, RecordedEvent, Revision, Source, StreamId,
        Tag, Tracking,
    },
    index::{Filter, QueryItem, StreamHead},
};

/// Events on their way into the log.
#[derive(Debug)]
pub(super) struct Group {
    after: Position,
    pub(super) events: Vec<RecordedEvent>,
    names: Names,
    /// The positions of sources that these events store.
    pub(super) sources: HashMap<Source, u64>,
    terms: Terms,
}

/// Where ids and streams are; filled when the next request is judged, so that a request alone costs nothing.
#[derive(Debug, Default)]
struct Names {
    /// Events up to here are in the maps.
    upto: usize,
    /// An event's place in `events`.
    ids: HashMap<EventId, usize>,
    streams: HashMap<StreamId, StreamHead>,
}

/// Which events carry a type or tag; filled when the first condition asks.
#[derive(Debug, Default)]
struct Terms {
    /// Events up to here are in the maps.
    upto: usize,
    types: HashMap<EventType, Vec<usize>>,
    tags: HashMap<Tag, Vec<usize>>,
}

impl Group {
    /// An empty group behind this position.
    pub(super) fn after(after: Position) -> Self {
        Self {
            after,
            events: Vec::new(),
            names: Names::default(),
            sources: HashMap::default(),
            terms: Terms::default(),
        }
    }

    /// The position of the first event.
    pub(super) fn first(&self) -> Position {
        self.after.next()
    }

    /// The position of the last event; the log's last one if there is none.
    pub(super) fn last(&self) -> Position {
        self.after.plus(self.events.len() as u64)
    }

    /// Adds an event behind the others.
    pub(super) fn push(
        &mut self,
        event: Event,
        revision: Revision,
        recorded_at_unix_nanos: i64,
        origin: Option<Box<Origin>>,
    ) -> AppendedEvent {
        let (id, position) = (event.id, self.last().next());
        self.events.push(RecordedEvent {
            position,
            revision,
            recorded_at_unix_nanos,
            event,
            tracking: None,
            origin,
            cursor: None,
        });
        AppendedEvent { id, position, revision, already_existed: false }
    }

    /// Stores a source's position with the last event.
    pub(super) fn track(&mut self, tracking: Tracking) {
        let last = self.events.last_mut().expect("a request that tracks has appended an event");
        self.sources.insert(tracking.source.clone(), tracking.position);
        last.tracking = Some(tracking);
    }

    /// Makes what was pushed known to the lookups below; to be called before a request is judged.
    pub(super) fn settle(&mut self) {
        self.names.catch_up(&self.events);
    }

    /// Stores how far an import has come with the last event.
    pub(super) fn carry(&mut self, cursor: Box<ImportCursor>) {
        let last = self.events.last_mut().expect("a request that moves a cursor has appended an event");
        last.cursor = Some(cursor);
    }

    /// The event with this id.
    pub(super) fn event(&self, id: &EventId) -> Option<&RecordedEvent> {
        self.names.ids.get(id).map(|at| &self.events[*at])
    }

    /// The newest event of a stream.
    pub(super) fn stream_head(&self, stream: &StreamId) -> Option<StreamHead> {
        self.names.streams.get(stream).copied()
    }

    /// The first event behind `after` that matches a boundary's filter.
    pub(super) fn first_match(&mut self, filter: &Filter, after: Position) -> Option<Position> {
        if self.last() <= after {
            return None;
        }
        self.terms.catch_up(&self.events);
        let found =
            filter.query.iter().filter_map(|item| self.terms.first(item, filter, &self.events, after));
        found.min().map(|at| self.events[at].position)
    }
}

impl Names {
    fn catch_up(&mut self, events: &[RecordedEvent]) {
        for (at, recorded) in events.iter().enumerate().skip(self.upto) {
            self.ids.insert(recorded.event.id, at);
            let head = StreamHead { revision: recorded.revision, last_position: recorded.position };
            match self.streams.get_mut(&recorded.event.stream) {
                Some(known) => *known = head,
                None => drop(self.streams.insert(recorded.event.stream.clone(), head)),
            }
        }
        self.upto = events.len();
    }
}

impl Terms {
    fn catch_up(&mut self, events: &[RecordedEvent]) {
        for (at, recorded) in events.iter().enumerate().skip(self.upto) {
            self.types.entry(recorded.event.event_type.clone()).or_default().push(at);
            for tag in &recorded.event.tags {
                self.tags.entry(tag.clone()).or_default().push(at);
            }
        }
        self.upto = events.len();
    }

    /// The first event of an item, by way of its rarest term.
    fn first(
        &self,
        item: &QueryItem,
        filter: &Filter,
        events: &[RecordedEvent],
        after: Position,
    ) -> Option<usize> {
        let mut lists = Vec::with_capacity(item.types.len());
        if item.tags.is_empty() {
            lists.extend(item.types.iter().filter_map(|event_type| self.types.get(event_type)));
        } else {
            let tags: Option<Vec<_>> = item.tags.iter().map(|tag| self.tags.get(tag)).collect();
            lists.extend(tags?.into_iter().min_by_key(|list| list.len()));
        }
        let one = Filter { query: vec![item.clone()], ..filter.clone() };
        let behind = |at: &usize| events[*at].position > after && one.matches(&events[*at]);
        let first = |list: &Vec<usize>| list.iter().copied().find(behind);
        lists.into_iter().filter_map(first).min()
    }
}
