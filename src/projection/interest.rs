//! Who waits for changes of which documents of a version.
//!
//! Invariants: a commit that changes a document wakes every seat whose range it lies in, after it is visible; a seat that
//! is not concerned sleeps on; a wake is never lost, also when its watcher is busy. Closing the file wakes all. Deliberately
//! does not know what a watcher does when it is woken, or filters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::key::Key;
use crate::limits::WATCH_MATCHES_MAX;

/// The seats of one version.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    places: Vec<Weak<Place>>,
    /// How many seats there ever were.
    count: u64,
}

/// The seat of one watcher; it is given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Place>);

#[derive(Debug)]
struct Place {
    /// Its number among all seats there ever were, from 1.
    number: u64,
    range: Range,
    woken: Notify,
}

/// Documents of one collection, by their encoded keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// The collection's number.
    pub(crate) collection: usize,
    /// From here on.
    pub(crate) start: Vec<u8>,
    /// Below here.
    pub(crate) end: Option<Vec<u8>>,
}

impl Range {
    fn holds(&self, collection: usize, key: &[u8]) -> bool {
        collection == self.collection
            && key >= &self.start[..]
            && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// Those who are to be woken once a commit is visible.
#[derive(Debug)]
pub(super) struct Concerned {
    places: Vec<Arc<Place>>,
    /// Seats with a higher number came later: nobody looked at what concerns them.
    count: u64,
}

impl Seats {
    /// A seat for whoever wants to know of changes in this range.
    pub(super) fn seat(&self, range: Range) -> Seat {
        let mut seats = self.lock();
        seats.count += 1;
        let place = Arc::new(Place { number: seats.count, range, woken: Notify::new() });
        seats.places.retain(|seat| seat.strong_count() > 0);
        seats.places.push(Arc::downgrade(&place));
        Seat(place)
    }

    /// Whom these changes concern. Of very many changes it does not look at each: then they concern everybody.
    pub(super) fn concerned<'a>(
        &self,
        changes: impl Iterator<Item = (usize, &'a Key)> + Clone,
        count: usize,
    ) -> Concerned {
        let seats = self.lock();
        let all = count.saturating_mul(seats.places.len()) > WATCH_MATCHES_MAX;
        let is_concerned = |place: &Arc<Place>| {
            all || changes.clone().any(|(collection, key)| place.range.holds(collection, key.as_bytes()))
        };
        let places = seats.places.iter().filter_map(Weak::upgrade).filter(is_concerned).collect();
        Concerned { places, count: seats.count }
    }

    /// Wakes them, and whoever has taken a seat since: it may have seen less than what is visible now.
    pub(super) fn wake(&self, concerned: Concerned) {
        for place in concerned.places {
            place.woken.notify_one();
        }
        self.wake_behind(concerned.count);
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        self.wake_behind(0);
    }

    fn wake_behind(&self, number: u64) {
        let seats = self.lock();
        let places = seats.places.iter().filter_map(Weak::upgrade);
        places.filter(|place| place.number > number).for_each(|place| place.woken.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Resolves when there was a wake since it last resolved.
    pub(super) async fn woken(&self) {
        self.0.woken.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key(text: &str) -> Key {
        Key::text(text).unwrap()
    }

    fn change(seats: &Seats, collection: usize, keys: &[Key]) {
        seats.wake(seats.concerned(keys.iter().map(|key| (collection, key)), keys.len()));
    }

    #[test]
    fn changes_wake_those_whose_range_they_lie_in() {
        let seats = Seats::default();
        let range = |collection, from: &str, to: Option<&str>| Range {
            collection,
            start: key(from).encode(),
            end: to.map(|to| key(to).encode()),
        };
        let few = seats.seat(range(0, "b", Some("d")));
        let rest = seats.seat(range(0, "d", None));
        let other = seats.seat(range(1, "a", None));
        let woken = || [&few, &rest, &other].map(|seat| seat.woken().now_or_never().is_some());
        assert_eq!(woken(), [false; 3]);
        change(&seats, 0, &[key("a"), key("c"), key("c")]);
        assert_eq!(woken(), [true, false, false]);
        assert_eq!(woken(), [false; 3], "once");
        change(&seats, 0, &[key("d")]);
        change(&seats, 1, &[key("c")]);
        assert_eq!(woken(), [false, true, true]);
        change(&seats, 0, &vec![key("a"); WATCH_MATCHES_MAX]);
        assert_eq!(woken(), [true; 3], "too many to look at");
        seats.wake_all();
        assert_eq!(woken(), [true; 3]);
        drop(rest);
        let again = seats.seat(range(0, "z", None));
        assert_eq!(seats.lock().places.len(), 3);
        drop(again);
    }

    #[test]
    fn whoever_sits_down_while_a_commit_is_on_its_way_is_woken_by_it() {
        let seats = Seats::default();
        let range = || Range { collection: 0, start: key("a").encode(), end: None };
        let before = seats.seat(range());
        let concerned = seats.concerned([(1, &key("a"))].into_iter(), 1);
        let meanwhile = seats.seat(range());
        seats.wake(concerned);
        assert!(meanwhile.woken().now_or_never().is_some(), "nobody looked at what concerns it");
        assert!(before.woken().now_or_never().is_none(), "it was not concerned");
    }
}
