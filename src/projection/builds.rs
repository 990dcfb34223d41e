//! Whose turn it is to build: first builds of long stretches go one after the other, so that those who read and append
//! keep the machine.
//!
//! Invariants: at most so many build at once; what answers queries comes before what does not, and gets its turn from it;
//! else who waits comes in the order of asking; who waits is woken when it is its turn; a runner that stands still, fails or ends
//! gives its turn back, so that no build waits for one that does not move. Does not know what is built.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::follower::{Head, Stop};

/// The turns of all versions of a node.
#[derive(Debug, Clone)]
pub struct Builds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    building: usize,
    /// Those that answer stand before the others.
    waiting: VecDeque<Waiting>,
    last_number: u64,
}

/// Who waits, and how it is woken.
#[derive(Debug)]
struct Waiting {
    number: u64,
    answers: bool,
    head: Head,
    stop: Stop,
}

/// One runner's place among them.
#[derive(Debug)]
pub struct BuildTurn {
    builds: Builds,
    number: u64,
    answers: bool,
    is_building: bool,
}

impl Builds {
    /// So many may build at the same time, at least one.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Inner { at_once: at_once.max(1), turns: Mutex::default() }))
    }

    /// A place for one runner, which has not asked for its turn. `answers`: queries wait for what it builds.
    pub fn place(&self, answers: bool) -> BuildTurn {
        let mut turns = self.lock();
        turns.last_number += 1;
        BuildTurn { builds: self.clone(), number: turns.last_number, answers, is_building: false }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Builds {
    /// Nobody waits.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl BuildTurn {
    /// Whether it may build now, or go on. If not, the runner that waits on this head under this stop is woken when it may.
    pub fn take(&mut self, head: &Head, stop: &Stop) -> bool {
        if self.is_building {
            let answering_waits = self.builds.lock().waiting.front().is_some_and(|first| first.answers);
            if self.answers || !answering_waits {
                return true;
            }
            self.give_back();
        }
        let mut turns = self.builds.lock();
        let ahead = turns.waiting.iter().position(|waiting| waiting.number == self.number);
        let free = self.builds.0.at_once.saturating_sub(turns.building);
        if ahead.unwrap_or_else(|| turns.end_of(self.answers)) >= free {
            if ahead.is_none() {
                let Self { number, answers, .. } = *self;
                let waiting = Waiting { number, answers, head: head.clone(), stop: stop.clone() };
                let at = turns.end_of(answers);
                turns.waiting.insert(at, waiting);
            }
            return false;
        }
        if let Some(at) = ahead {
            turns.waiting.remove(at);
        }
        turns.building += 1;
        drop(turns);
        self.is_building = true;
        true
    }

    /// Gives the turn back, where it has it; one that waits goes on waiting.
    pub fn give_back(&mut self) {
        if std::mem::take(&mut self.is_building) {
            let mut turns = self.builds.lock();
            turns.building -= 1;
            turns.wake_next(self.builds.0.at_once);
        }
    }
}

impl Turns {
    /// How many wait before one that comes now.
    fn end_of(&self, answers: bool) -> usize {
        if answers { self.waiting.partition_point(|waiting| waiting.answers) } else { self.waiting.len() }
    }

    fn wake_next(&self, at_once: usize) {
        // One that gave up waiting has left the line, so this one will take its turn.
        if let Some(Waiting { head, stop, .. }) = self.waiting.front().filter(|_| self.building < at_once) {
            head.nudge(stop);
        }
    }
}

impl Drop for BuildTurn {
    fn drop(&mut self) {
        self.give_back();
        let mut turns = self.builds.lock();
        let before = turns.waiting.len();
        turns.waiting.retain(|waiting| waiting.number != self.number);
        if turns.waiting.len() < before {
            // It may have been woken for a turn that it does not take any more.
            turns.wake_next(self.builds.0.at_once);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{event::Position, follower::Waited};

    struct Runner {
        turn: BuildTurn,
        head: Head,
        stop: Stop,
    }

    impl Runner {
        fn new(builds: &Builds, head: &Head) -> Self {
            Self { turn: builds.place(false), head: head.clone(), stop: Stop::default() }
        }

        fn answering(builds: &Builds, head: &Head) -> Self {
            Self { turn: builds.place(true), ..Self::new(builds, head) }
        }

        fn take(&mut self) -> bool {
            self.turn.take(&self.head, &self.stop)
        }

        fn is_woken(&self) -> bool {
            let never = Position::new(u64::MAX);
            self.head.wait_above_unless(never, Duration::ZERO, &self.stop) == Waited::Nudged
        }
    }

    #[test]
    fn builds_go_one_after_the_other_in_the_order_of_asking() {
        let (builds, head) = (Builds::new(1), Head::new(Position::ZERO));
        let mut runners: Vec<_> = (0..4).map(|_| Runner::new(&builds, &head)).collect();
        assert!(runners[2].take());
        assert!(runners[2].take(), "it keeps its turn");
        assert!(!runners[3].take() && !runners[0].take() && !runners[3].take() && !runners[1].take());
        runners[2].turn.give_back();
        assert!(runners[3].is_woken() && !runners[0].is_woken());
        assert!(!runners[0].take(), "another one asked before");
        assert!(!runners[2].take(), "behind all who wait");
        assert!(runners[3].take());
        // Who goes while it waits, or while it builds, leaves its place to the next one.
        drop(runners.remove(0));
        assert!(!runners[0].is_woken());
        drop(runners.remove(2));
        assert!(runners[0].is_woken() && runners[0].take());
        runners[0].turn.give_back();
        assert!(runners[1].is_woken() && runners[1].take());
        assert_eq!(builds.lock().building, 1);
        drop(runners);
        let turns = builds.lock();
        assert_eq!((turns.building, turns.waiting.len()), (0, 0));
    }

    #[test]
    fn what_answers_is_built_before_what_does_not() {
        let (builds, head) = (Builds::new(1), Head::new(Position::ZERO));
        let mut others: Vec<_> = (0..3).map(|_| Runner::new(&builds, &head)).collect();
        assert!(others[0].take() && !others[1].take());
        let mut answering: Vec<_> = (0..2).map(|_| Runner::answering(&builds, &head)).collect();
        assert!(!answering[0].take() && !others[2].take() && !answering[1].take());
        assert!(!answering[0].is_woken(), "it is another one's turn until that one looks");
        assert!(!others[0].take(), "it gives way");
        assert!(answering[0].is_woken() && !others[1].is_woken());
        assert!(!others[1].take() && answering[0].take() && !answering[1].take());
        assert!(answering[0].take(), "it gives way to nobody");
        answering[0].turn.give_back();
        assert!(answering[1].is_woken() && !others[1].take() && answering[1].take());
        drop(answering);
        assert!(others[1].is_woken() && !others[0].take() && others[1].take());
        others[1].turn.give_back();
        assert!(others[2].take(), "it asked before the one that gave way");
        assert_eq!(builds.lock().building, 1);
    }

    #[test]
    fn several_may_build_at_once() {
        let (builds, head) = (Builds::new(2), Head::new(Position::ZERO));
        let mut runners: Vec<_> = (0..3).map(|_| Runner::new(&builds, &head)).collect();
        assert!(runners[0].take() && runners[1].take() && !runners[2].take());
        drop(runners.remove(0));
        assert!(runners[1].is_woken() && runners[1].take());
        let free = Builds::default();
        assert!((0..100).map(|_| Runner::new(&free, &head)).all(|mut runner| runner.take()));
    }
}
