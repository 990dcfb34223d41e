//! Random requests: new and repeated events, ids reused for other content, expectations, queries that nothing may
//! match, positions of sources. Few streams, tags and ids, so that requests meet.

use bytes::Bytes;
use outrigger::{
    append::{Boundary, Expectation, Expected, Request},
    clock::{Clock as _, SimClock},
    event::{Event, EventId, EventType, Position, Revision, Source, StreamId, Tag, Tracking},
    index::QueryItem,
};

pub(crate) const STREAMS: u64 = 4;
pub(crate) const TAGS: u64 = 3;
pub(crate) const TYPES: [&str; 3] = ["doc.put", "doc.deleted", "other"];
pub(crate) const SOURCES: u64 = 2;
const KEYS: u64 = 5;

/// A request as it was sent, with what cannot be read off it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    pub(crate) request: Request,
    /// The items of each boundary.
    pub(crate) queries: Vec<Vec<QueryItem>>,
}

/// What requests are made from.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) clock: &'a SimClock,
    pub(crate) sent: &'a [Sent],
    pub(crate) head: u64,
    pub(crate) tracked: &'a dyn Tracked,
}

/// Positions of sources as far as known.
pub(crate) trait Tracked: std::fmt::Debug {
    fn of(&self, source: &Source) -> u64;
}

pub(crate) fn below(clock: &SimClock, bound: u64) -> u64 {
    clock.random() as u64 % bound
}

pub(crate) fn stream(number: u64) -> StreamId {
    StreamId::parse(&format!("s{number}")).unwrap()
}

pub(crate) fn tag(number: u64) -> Tag {
    Tag::parse(&format!("t{number}")).unwrap()
}

pub(crate) fn event_type(number: u64) -> EventType {
    EventType::parse(TYPES[number as usize]).unwrap()
}

pub(crate) fn source(number: u64) -> Source {
    Source::parse(&format!("source{number}")).unwrap()
}

impl Requests<'_> {
    fn below(&self, bound: u64) -> u64 {
        below(self.clock, bound)
    }

    /// The next request; its number stands in the metadata of all its events.
    pub(crate) fn next(&self) -> Sent {
        let number = self.sent.len() as u64;
        let mut events: Vec<Event> = Vec::new();
        let repeats = self.below(3) == 0;
        for _ in 0..=self.below(3) {
            let mut event = if repeats && self.below(2) == 0 { self.known() } else { None };
            let mut event = event.take().unwrap_or_else(|| self.event());
            event.metadata = Some(Bytes::from(format!(r#"{{"request":{number}}}"#)));
            if !events.iter().any(|other| other.id == event.id) {
                events.push(event);
            }
        }
        let mut request = Request::of(events);
        request.skip_existing = self.below(2) == 0;
        request.expectations = self.expectations();
        let mut queries = Vec::new();
        if self.below(4) == 0 {
            for _ in 0..=self.below(2) {
                let items: Vec<QueryItem> = (0..=self.below(2)).map(|_| self.item()).collect();
                let after = match self.below(12) {
                    0 => 0,
                    1 => self.head + 1 + self.below(3),
                    near => self.head.saturating_sub(near / 2),
                };
                request.boundaries.push(Boundary::new(items.clone(), Position::new(after)));
                queries.push(items);
            }
        }
        if self.below(4) == 0 {
            let source = source(self.below(SOURCES));
            let position = (self.tracked.of(&source) + self.below(4)).max(1);
            request.tracking = Some(Tracking { source, position });
        }
        Sent { number, request, queries }
    }

    fn expectations(&self) -> Vec<Expectation> {
        let mut expectations: Vec<Expectation> = Vec::new();
        if self.below(3) > 0 {
            return expectations;
        }
        for _ in 0..=self.below(2) {
            let expected = match self.below(5) {
                0 => Expected::NoStream,
                1 => Expected::Exists,
                2 => Expected::Any,
                _ => Expected::Revision(Revision::new(1 + self.below(8 + self.head / STREAMS))),
            };
            let stream = stream(self.below(STREAMS));
            if !expectations.iter().any(|other| other.stream == stream) {
                expectations.push(Expectation { stream, expected });
            }
        }
        expectations
    }

    /// An item that names a type, a tag, or both.
    pub(crate) fn item(&self) -> QueryItem {
        let mut item = QueryItem::default();
        let kind = self.below(3);
        if kind != 1 {
            item.types = vec![event_type(self.below(TYPES.len() as u64))];
        }
        if kind != 0 {
            item.tags = (0..TAGS).filter(|_| self.below(2) == 0).map(tag).collect();
            if item.tags.is_empty() {
                item.tags.push(tag(0));
            }
        }
        item
    }

    /// One that was sent before, mostly lately; now and then its id with other data.
    fn known(&self) -> Option<Event> {
        let reach = if self.below(2) == 0 { 8 } else { self.sent.len() as u64 };
        let back = self.below(reach.max(1)) as usize + 1;
        let sent = self.sent.get(self.sent.len().checked_sub(back)?)?;
        let events = &sent.request.events;
        let mut event = events[self.below(events.len() as u64) as usize].clone();
        if self.below(12) == 0 {
            event.data = Bytes::from_static(b"{\"key\":\"other\",\"n\":0}");
        }
        Some(event)
    }

    fn event(&self) -> Event {
        let random = self.clock.random() | 1;
        let (key, number) = (self.below(KEYS), self.below(100));
        let pad_bytes = [20, 20, 200, 200, 900, 2_500][self.below(6) as usize];
        let pad = "x".repeat(self.below(pad_bytes) as usize);
        Event {
            id: EventId::from_slice(&random.to_be_bytes()).unwrap(),
            event_type: event_type(self.below(TYPES.len() as u64)),
            stream: stream(self.below(STREAMS)),
            tags: (0..TAGS).filter(|_| self.below(3) == 0).map(tag).collect(),
            data: Bytes::from(format!(r#"{{"key":"k{key}","n":{number},"pad":"{pad}"}}"#)),
            metadata: None,
            time_unix_nanos: None,
        }
    }
}

/// The number of the request that wrote an event.
pub(crate) fn request_of(event: &Event) -> Option<u64> {
    let text = std::str::from_utf8(event.metadata.as_ref()?).ok()?;
    text.strip_prefix(r#"{"request":"#)?.strip_suffix('}')?.parse().ok()
}
