//! Searches over all layers of the index, one layer at a time.
//!
//! Invariants: each stretch is looked up in whatever layer holds it at that moment, so freezing, writing and merging in
//! the middle of a search change nothing; the lock is held for at most `INDEX_LOCK_EVENTS_MAX` positions of the
//! active part. Does not know how lists are walked.

use std::sync::Arc;

use super::{
    Direction, Filter, Found, IndexError,
    matcher::{Matcher, Progress, Stretch},
    part::Part,
    run::Run,
    state::State,
};
use crate::{
    event::Position,
    limits::{INDEX_FIND_STEPS_MAX, INDEX_LOCK_EVENTS_MAX},
};

impl State {
    /// What meets a filter whose query has at most one item.
    pub(super) fn find_one(
        &self,
        filter: &Filter,
        direction: Direction,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Found, IndexError> {
        let (begin, head) = {
            let layers = self.layers();
            let begin = layers.runs.first().map(|run| run.first());
            let begin = begin.or(layers.frozen.first().map(|part| part.first()));
            (begin.unwrap_or(layers.active.first()), layers.active.end() - 1)
        };
        let mut search = Search {
            filter,
            direction,
            low: (after.get() + 1).max(begin),
            high: upto.get().min(head),
            results: limit,
            steps: INDEX_FIND_STEPS_MAX,
            positions: Vec::new(),
        };
        let upto = Position::new(search.high).max(after);
        while search.low <= search.high && search.results > 0 && search.steps > 0 {
            self.search_next_layer(&mut search)?;
        }
        let scanned_to = match (search.low <= search.high, direction) {
            (true, Direction::Forward) => Position::new(search.low - 1),
            (true, Direction::Backward) => Position::new(search.high),
            (false, Direction::Forward) => upto,
            (false, Direction::Backward) => after,
        };
        Ok(Found { positions: search.positions, scanned_to })
    }

    fn search_next_layer(&self, search: &mut Search<'_>) -> Result<(), IndexError> {
        let layers = self.layers();
        let position = match search.direction {
            Direction::Forward => search.low,
            Direction::Backward => search.high,
        };
        if position >= layers.active.first() {
            return search.in_active(&layers.active);
        }
        if let Some(part) = layers.frozen.iter().find(|part| (part.first()..part.end()).contains(&position)) {
            let part = Arc::clone(part);
            drop(layers);
            return search.in_part(&part, part.first(), part.end() - 1);
        }
        let run = layers.runs.partition_point(|run| run.last() < position);
        let run = Arc::clone(&layers.runs[run]);
        drop(layers);
        search.in_run(&run, self.hash_seed)
    }
}

/// A search under way.
struct Search<'a> {
    filter: &'a Filter,
    direction: Direction,
    /// The positions not looked at yet, both ends included.
    low: u64,
    high: u64,
    /// How many results and steps are left.
    results: usize,
    steps: usize,
    positions: Vec<Position>,
}

impl Search<'_> {
    /// Looks at the next window of the active part.
    fn in_active(&mut self, part: &Part) -> Result<(), IndexError> {
        let window = u64::from(INDEX_LOCK_EVENTS_MAX) - 1;
        let (first, last) = match self.direction {
            Direction::Forward => (self.low, self.low + window),
            Direction::Backward => (self.high.saturating_sub(window), self.high),
        };
        self.in_part(part, first.max(part.first()), last.min(part.end() - 1))
    }

    /// Looks at what `first` to `last` of a part have of the search.
    fn in_part(&mut self, part: &Part, first: u64, last: u64) -> Result<(), IndexError> {
        self.walk(part.matcher(self.filter), part.first(), first, last)
    }

    /// Looks at what a run has of the search.
    fn in_run(&mut self, run: &Run, hash_seed: u64) -> Result<(), IndexError> {
        let matcher = Matcher::of_run(run, self.filter, hash_seed)?;
        self.walk(matcher, run.first(), run.first(), run.last())
    }

    fn walk(
        &mut self,
        matcher: Option<Matcher<'_>>,
        base: u64,
        first: u64,
        last: u64,
    ) -> Result<(), IndexError> {
        let (low, high) = (self.low.max(first), self.high.min(last));
        let mut progress = Progress::Done;
        if let Some(mut matcher) = matcher {
            let stretch =
                Stretch { low: (low - base) as u32, high: (high - base) as u32, direction: self.direction };
            let positions = &mut self.positions;
            let found = |offset: u32| positions.push(Position::new(base + u64::from(offset)));
            progress = matcher.search(stretch, &mut self.results, &mut self.steps, found)?;
        }
        match (progress, self.direction) {
            (Progress::Done, Direction::Forward) => self.low = high + 1,
            (Progress::Done, Direction::Backward) => self.high = low - 1,
            (Progress::StoppedBefore(offset), Direction::Forward) => self.low = base + u64::from(offset),
            (Progress::StoppedBefore(offset), Direction::Backward) => self.high = base + u64::from(offset),
        }
        Ok(())
    }
}
