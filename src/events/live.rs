//! Who waits at the head, and who of them is woken by what.
//!
//! Each reader at the head has a seat with its filter. One dispatcher looks at every new event once, finds the seats
//! that could want it by one of its terms (stream, type, tag), and wakes those whose filter matches. The others sleep
//! on: an event that nobody waits for costs a few look-ups, however many readers there are. Once in `ADVANCE_WAIT` the
//! dispatcher wakes everybody whom events have passed by, so that they can say how far the log is.
//!
//! Invariants: a reader that waits at a position is woken once there may be a matching event above it: what the
//! dispatcher has not looked at yet it will, and where it has, waiting is refused. Does not know messages or clients.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::recent::Recent;
use crate::{
    event::{EventType, Position, RecordedEvent, StreamId, Tag},
    index::Filter,
    limits::LIVE_LOCK_EVENTS_MAX,
};

/// All seats. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hall: Mutex<Hall>,
    /// Told when somebody takes a seat.
    occupied: Notify,
}

/// One reader's place. It is given up when dropped.
#[derive(Debug)]
pub struct Seat {
    live: Live,
    number: u64,
    woken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Hall {
    /// The dispatcher has looked at everything up to here.
    looked_to: Position,
    seats: HashMap<u64, Taken>,
    next_number: u64,
    terms: Terms,
}

/// A seat that somebody has.
#[derive(Debug)]
struct Taken {
    filter: Arc<Filter>,
    woken: Arc<Notify>,
    /// Where its reader waits; `None`: it does not wait.
    waits_at: Option<Position>,
}

/// Seats by a term that each event they want has; those that want anything apart.
#[derive(Debug, Default)]
struct Terms {
    streams: HashMap<StreamId, BTreeSet<u64>>,
    types: HashMap<EventType, BTreeSet<u64>>,
    tags: HashMap<Tag, BTreeSet<u64>>,
    any: BTreeSet<u64>,
}

/// What waking came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Readers that were woken.
    pub woken: usize,
    /// Whether somebody was passed by and waits on.
    pub passed: bool,
    /// Seats that are taken.
    pub seats: usize,
}

impl Live {
    /// A seat for a reader of what this filter asks for.
    pub fn seat(&self, filter: Arc<Filter>) -> Seat {
        let mut hall = self.lock();
        let number = hall.next_number;
        hall.next_number += 1;
        let woken = Arc::new(Notify::new());
        hall.terms.each_set(&filter, |set| _ = set.insert(number));
        hall.seats.insert(number, Taken { filter, woken: Arc::clone(&woken), waits_at: None });
        drop(hall);
        self.0.occupied.notify_one();
        Seat { live: self.clone(), number, woken }
    }

    /// Resolves when a seat is taken; at once if that was so since the last call.
    pub async fn occupied(&self) {
        self.0.occupied.notified().await;
    }

    /// Looks at the events up to the head and wakes those who want one of them. The caller is the one dispatcher.
    pub fn dispatch(&self, recent: &Recent, head: Position) -> Dispatched {
        let looked_to = {
            let mut hall = self.lock();
            if hall.terms.want_everything() {
                return hall.wake_all(head);
            }
            hall.looked_to
        };
        self.look(recent, looked_to, head).unwrap_or_else(|_| {
            // Too much came at once, or what came cannot be read: everybody looks for himself.
            self.lock().wake_all(head)
        })
    }

    /// Wakes everybody whom events have passed by.
    pub fn wake_passed(&self) -> Dispatched {
        let mut hall = self.lock();
        let looked_to = hall.looked_to;
        hall.wake_all(looked_to)
    }

    fn look(&self, recent: &Recent, looked_to: Position, head: Position) -> Result<Dispatched, Unseen> {
        let mut woken = 0;
        for group in recent.between(looked_to, head).ok_or(Unseen)? {
            let events: Vec<_> = group.events(looked_to, head).map_err(|_| Unseen)?.collect();
            for some in events.chunks(LIVE_LOCK_EVENTS_MAX) {
                let mut hall = self.lock();
                for event in some {
                    woken += hall.wake_for(event);
                    hall.looked_to = event.position;
                }
            }
        }
        let hall = self.lock();
        Ok(Dispatched {
            woken,
            passed: hall.seats.values().any(|seat| seat.waits_below(head)),
            seats: hall.seats.len(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Hall> {
        self.0.hall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events could not be looked at one by one.
struct Unseen;

impl Seat {
    /// Says that the reader waits for an event above `position`. False: there may be one already, so it must look.
    pub fn wait_at(&self, position: Position) -> bool {
        let mut hall = self.live.lock();
        let may_wait = position >= hall.looked_to;
        if may_wait && let Some(seat) = hall.seats.get_mut(&self.number) {
            seat.waits_at = Some(position);
        }
        may_wait
    }

    /// Resolves when the reader is woken.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut hall = self.live.lock();
        if let Some(seat) = hall.seats.remove(&self.number) {
            hall.terms.leave(&seat.filter, self.number);
        }
    }
}

impl Hall {
    /// Wakes everybody who waits below this position, which counts as looked at.
    fn wake_all(&mut self, position: Position) -> Dispatched {
        self.looked_to = self.looked_to.max(position);
        let woken = self.seats.values_mut().filter_map(|seat| seat.wake_below(position)).count();
        Dispatched { woken, passed: false, seats: self.seats.len() }
    }

    /// Wakes those who wait below an event that they want; how many.
    fn wake_for(&mut self, event: &RecordedEvent) -> usize {
        let Self { seats, terms, .. } = self;
        let mut woken = 0;
        let mut wake = |number: &u64| {
            let Some(seat) = seats.get_mut(number) else {
                return;
            };
            if seat.waits_below(event.position) && seat.filter.matches(event) {
                woken += usize::from(seat.wake_below(event.position).is_some());
            }
        };
        terms.any.iter().for_each(&mut wake);
        let sets = [terms.streams.get(&event.event.stream), terms.types.get(&event.event.event_type)];
        sets.into_iter().flatten().flatten().for_each(&mut wake);
        let tags = event.event.tags.iter().filter_map(|tag| terms.tags.get(tag));
        tags.flatten().for_each(&mut wake);
        woken
    }
}

impl Taken {
    fn waits_below(&self, position: Position) -> bool {
        self.waits_at.is_some_and(|waits_at| waits_at < position)
    }

    fn wake_below(&mut self, position: Position) -> Option<()> {
        self.waits_below(position).then(|| {
            self.waits_at = None;
            self.woken.notify_one();
        })
    }
}

impl Terms {
    /// Whether no seat, or none that wants only some events, is taken: then there is nothing to look at.
    fn want_everything(&self) -> bool {
        self.streams.is_empty() && self.types.is_empty() && self.tags.is_empty()
    }

    /// The sets in which a seat with this filter stands: each event that the filter matches leads to one of them.
    fn each_set(&mut self, filter: &Filter, mut each: impl FnMut(&mut BTreeSet<u64>)) {
        let Self { streams, types, tags, any } = self;
        if let Some(stream) = &filter.stream {
            return each(streams.entry(stream.clone()).or_default());
        }
        let mut item = |item_types: &[EventType], item_tags: &[Tag]| {
            if let Some(tag) = item_tags.first() {
                each(tags.entry(tag.clone()).or_default());
            } else {
                for name in item_types {
                    each(types.entry(name.clone()).or_default());
                }
            }
        };
        if !filter.tags.is_empty() || !filter.types.is_empty() {
            item(&filter.types, &filter.tags);
        } else if filter.query.is_empty() {
            each(any);
        } else {
            filter.query.iter().for_each(|one| item(&one.types, &one.tags));
        }
    }

    fn leave(&mut self, filter: &Filter, number: u64) {
        self.each_set(filter, |set| _ = set.remove(&number));
        self.streams.retain(|_, set| !set.is_empty());
        self.types.retain(|_, set| !set.is_empty());
        self.tags.retain(|_, set| !set.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        event::{Event, EventId, Revision},
        index::QueryItem,
    };

    fn event_type(text: &str) -> EventType {
        EventType::parse(text).unwrap()
    }

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    fn push(recent: &Recent, first: u64, texts: &[(&str, &str, &str)]) -> Position {
        let (mut payloads, mut ends) = (Vec::new(), Vec::new());
        for (at, (kind, stream, label)) in texts.iter().enumerate() {
            let recorded = RecordedEvent {
                position: Position::new(first + at as u64),
                revision: Revision::new(1),
                recorded_at_unix_nanos: 1,
                tracking: None,
                origin: None,
                cursor: None,
                event: Event {
                    id: EventId::from_slice(&[1; 16]).unwrap(),
                    event_type: event_type(kind),
                    stream: StreamId::parse(stream).unwrap(),
                    tags: vec![tag(label)],
                    data: Bytes::from_static(b"1"),
                    metadata: None,
                    time_unix_nanos: None,
                },
            };
            payloads.extend(recorded.encode());
            ends.push(payloads.len());
        }
        recent.push(Position::new(first), &payloads, &ends);
        Position::new(first + texts.len() as u64 - 1)
    }

    fn filters() -> Vec<Filter> {
        let item = |types: &[&str], tags: &[&str]| QueryItem {
            types: types.iter().map(|text| event_type(text)).collect(),
            tags: tags.iter().map(|text| tag(text)).collect(),
        };
        let query = |query: Vec<QueryItem>| Filter { query, ..Filter::default() };
        vec![
            Filter::default(),
            Filter { types: vec![event_type("a"), event_type("b")], ..Filter::default() },
            Filter { tags: vec![tag("x")], types: vec![event_type("a")], ..Filter::default() },
            Filter { stream: Some(StreamId::parse("s").unwrap()), ..Filter::default() },
            query(vec![item(&["a"], &["x"]), item(&["c"], &[])]),
        ]
    }

    /// Which of the filters' readers, all waiting at the head, are woken by an event.
    fn check(kind: &str, stream: &str, label: &str, expected: &[usize]) {
        let (live, recent) = (Live::default(), Recent::default());
        let _reading = recent.reading();
        let seats: Vec<Seat> = filters().into_iter().map(|filter| live.seat(Arc::new(filter))).collect();
        assert!(seats.iter().all(|seat| seat.wait_at(Position::ZERO)));
        let head = push(&recent, 1, &[(kind, stream, label)]);
        let dispatched = live.dispatch(&recent, head);
        let waits = |seat: &Seat| live.lock().seats[&seat.number].waits_at.is_some();
        let woken: Vec<usize> = (0..seats.len()).filter(|at| !waits(&seats[*at])).collect();
        assert_eq!(woken, expected, "{kind} {stream} {label}");
        assert_eq!(dispatched.woken, expected.len());
        assert!(seats.iter().all(|seat| !seat.wait_at(Position::ZERO)), "there is an event above");
        assert!(seats.iter().all(|seat| seat.wait_at(head)));
        drop(seats);
        let hall = live.lock();
        assert!(hall.seats.is_empty() && hall.terms.want_everything() && hall.terms.any.is_empty());
    }

    #[test]
    fn an_event_wakes_those_who_want_it() {
        check("a", "s", "x", &[0, 1, 2, 3, 4]);
        check("a", "r", "y", &[0, 1]);
        check("b", "r", "x", &[0, 1]);
        check("c", "s", "y", &[0, 3, 4]);
        check("d", "r", "y", &[0]);
    }

    #[test]
    fn those_who_were_passed_by_are_woken_later() {
        let (live, recent) = (Live::default(), Recent::default());
        let _reading = recent.reading();
        let seats: Vec<Seat> = filters().into_iter().skip(1).map(|f| live.seat(Arc::new(f))).collect();
        assert!(seats.iter().all(|seat| seat.wait_at(Position::ZERO)));
        let head = push(&recent, 1, &[("d", "r", "y"), ("d", "r", "y")]);
        assert_eq!(live.dispatch(&recent, head), Dispatched { woken: 0, passed: true, seats: 4 });
        assert_eq!(live.wake_passed().woken, 4);
        assert_eq!(live.wake_passed().woken, 0);
    }

    #[test]
    fn a_stretch_that_is_not_kept_wakes_everybody() {
        let (live, recent) = (Live::default(), Recent::default());
        let seat = live.seat(Arc::new(filters().remove(1)));
        assert!(seat.wait_at(Position::ZERO));
        push(&recent, 1, &[("d", "r", "y")]);
        assert_eq!(live.dispatch(&recent, Position::new(1)).woken, 1, "nobody reads, so nothing is kept");
        let _reading = recent.reading();
        assert!(seat.wait_at(Position::new(1)));
        let head = push(&recent, 2, &[("d", "r", "y")]);
        recent.forget();
        assert_eq!(live.dispatch(&recent, head).woken, 1, "what was kept has been given up");
    }
}
