//! A bounded cache of the newest event of streams, as the runs know them, so that hot streams cost no read.
//!
//! Owns two generations of entries: when the younger is full it becomes the older, and the older is forgotten; a hit in
//! the older moves to the younger. Invariant: an entry equals what the runs up to `upto` say, or what a part says that
//! is still in memory and about to become a run. Parts in memory are asked before this cache.

use std::collections::HashMap;

use super::StreamHead;
use crate::event::StreamId;

/// Keyed by the process's own randomness, so that names cannot be chosen to collide.
type Map = HashMap<StreamId, StreamHead, foldhash::fast::RandomState>;

/// Heads of streams that were asked for or written lately.
#[derive(Debug)]
pub(super) struct HeadCache {
    /// The end of the runs that the entries speak of.
    upto: u64,
    entries_max: usize,
    young: Map,
    old: Map,
}

impl HeadCache {
    /// An empty cache for runs that end at `upto`.
    pub(super) fn new(upto: u64, entries_max: usize) -> Self {
        Self { upto, entries_max, young: Map::default(), old: Map::default() }
    }

    /// The head of a stream, if it is here.
    pub(super) fn get(&mut self, stream: &StreamId) -> Option<StreamHead> {
        if let Some(head) = self.young.get(stream) {
            return Some(*head);
        }
        let head = self.old.remove(stream)?;
        self.put(stream.clone(), head);
        Some(head)
    }

    /// Adds what a lookup in the runs up to `upto` found, unless a newer run has come since.
    pub(super) fn learn(&mut self, upto: u64, stream: &StreamId, head: StreamHead) {
        if upto == self.upto {
            self.put(stream.detached(), head);
        }
    }

    /// From now on the entries speak of runs up to `upto`. The heads of the new run must follow before it is used.
    pub(super) fn advance(&mut self, upto: u64) {
        self.upto = upto;
    }

    /// Forgets all heads: they are looked up again.
    pub(super) fn clear(&mut self) {
        (self.young, self.old) = (Map::default(), Map::default());
    }

    /// Adds or replaces a head.
    pub(super) fn put(&mut self, stream: StreamId, head: StreamHead) {
        if self.young.len() * 2 >= self.entries_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&stream);
        self.young.insert(stream, head);
    }

    /// How many heads are here.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Position, Revision};

    fn stream(number: usize) -> StreamId {
        StreamId::parse(&format!("s{number}")).unwrap()
    }

    fn head(number: u64) -> StreamHead {
        StreamHead { revision: Revision::new(number), last_position: Position::new(number) }
    }

    #[test]
    fn it_keeps_what_is_asked_for_and_forgets_the_rest() {
        let mut cache = HeadCache::new(9, 8);
        cache.learn(9, &stream(0), head(1));
        for number in 1..100 {
            assert_eq!(cache.get(&stream(0)), Some(head(1)), "after {number} others");
            cache.learn(9, &stream(number), head(2));
            assert!(cache.len() <= 8);
        }
        assert_eq!(cache.get(&stream(1)), None);
    }

    #[test]
    fn a_slow_lookup_does_not_bring_back_an_old_head() {
        let mut cache = HeadCache::new(9, 8);
        cache.advance(20);
        cache.put(stream(1), head(20));
        cache.learn(9, &stream(1), head(5));
        assert_eq!(cache.get(&stream(1)), Some(head(20)));
    }
}
