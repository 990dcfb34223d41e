//! Bounds of a version: up to where its runner may apply, for as long as somebody holds it.
//!
//! Invariants: of several holds the lowest counts; one below the cursor holds the version where it is; from the moment a
//! runner has acknowledged a hold it applies nothing above the position where it stands until the hold is gone, and all up
//! to there is committed and shown. Every change of holds wakes the runner, which looks at them at the beginning of every
//! step, so none is missed. To be held is neither a failure nor a pause: reads go on. Does not know why somebody holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::{
    event::Position,
    follower::{Head, Stop},
    projection::status::{Progress, Status},
};

/// Above every position: no bound.
const NONE: Position = Position::new(u64::MAX);

/// The holds of one version, between its runner and those who hold it.
#[derive(Debug)]
pub(crate) struct Holds {
    /// The lowest of them, for a look before every event.
    lowest: AtomicU64,
    placed: Mutex<Placed>,
    standing: watch::Sender<Standing>,
}

#[derive(Debug, Default)]
struct Placed {
    /// By number.
    bounds: BTreeMap<u64, Position>,
    /// Counts changes; also the number of the newest hold.
    changes: u64,
}

/// The holds as a runner finds them at the beginning of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    at: Position,
    changes: u64,
}

/// Where a runner stood, and how many changes of the holds it had seen then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    changes: u64,
    position: Position,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            lowest: AtomicU64::new(NONE.get()),
            placed: Mutex::default(),
            standing: watch::Sender::new(Standing::default()),
        }
    }
}

/// For the runner.
impl Holds {
    /// What counts for the step that begins.
    pub(crate) fn bound(&self) -> Bound {
        let placed = self.lock();
        Bound { at: placed.lowest(), changes: placed.changes }
    }

    /// Whether a hold, maybe one placed a moment ago, forbids to apply this event.
    pub(crate) fn forbid(&self, position: Position) -> bool {
        position.get() > self.lowest.load(Ordering::Relaxed)
    }

    /// All up to this position is committed and shown. Whoever waits for the version to stand learns it.
    pub(crate) fn arrived(&self, bound: Bound, position: Position) {
        if bound.is_reached(position) {
            let standing = Standing { changes: bound.changes, position };
            self.standing.send_if_modified(|before| std::mem::replace(before, standing) != standing);
        }
    }

    /// Puts a bound in place of the hold of this number; gives the count of changes.
    fn change(&self, change: impl FnOnce(&mut Placed)) -> u64 {
        let mut placed = self.lock();
        placed.changes += 1;
        change(&mut placed);
        self.lowest.store(placed.lowest().get(), Ordering::Relaxed);
        placed.changes
    }

    fn lock(&self) -> MutexGuard<'_, Placed> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Placed {
    fn lowest(&self) -> Position {
        self.bounds.values().copied().min().unwrap_or(NONE)
    }
}

impl Bound {
    /// Whether a version that stands here may not go on.
    pub(crate) fn is_reached(self, cursor: Position) -> bool {
        cursor >= self.at
    }

    /// Whether it ends before, or at, what there is to apply.
    pub(crate) fn is_within(self, end: Position) -> bool {
        self.at <= end
    }

    /// How far a version at `cursor` may apply a log that ends at `end`.
    pub(crate) fn limit(self, cursor: Position, end: Position) -> Position {
        self.at.min(end).max(cursor)
    }
}

/// Why a version does not stand where it was to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It stands still elsewhere, by itself.
    #[error("it stands at position {as_of} and does not move on: {failure}")]
    Failed {
        /// Where.
        as_of: Position,
        /// Why, and what to do.
        failure: Arc<str>,
    },
    /// Its follower has ended.
    #[error("it is not followed any more")]
    Stopped,
    /// It takes longer than the caller waits.
    #[error("it is at position {as_of} and did not come to position {at} within {waited:?}")]
    TooSlow {
        /// Where it was to stand; 0: anywhere.
        at: Position,
        /// Where it is.
        as_of: Position,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// While it lives, its version goes no further than a position.
#[derive(Debug)]
pub struct Hold {
    status: Arc<Status>,
    head: Head,
    stop: Stop,
    number: u64,
    at: Position,
    /// The count of changes from which on the runner knows of it.
    since: u64,
}

impl Hold {
    /// Bounds the version whose runner waits on this head under this stop: it applies up to and including `at`, or stays
    /// where it is if it is further already; at position 0 it stays where it is in any case.
    pub(crate) fn place(status: Arc<Status>, head: Head, stop: Stop, at: Position) -> Self {
        let number = status.holds().change(|placed| {
            placed.bounds.insert(placed.changes, at);
        });
        let hold = Self { status, head, stop, number, at, since: number };
        hold.wake();
        hold
    }

    /// Puts the bound elsewhere: a version that stands goes on to exactly there.
    pub fn move_to(&mut self, at: Position) {
        let number = self.number;
        self.since = self.status.holds().change(|placed| {
            placed.bounds.insert(number, at);
        });
        self.at = at;
        self.wake();
    }

    /// Whether another hold keeps the version from coming to a position.
    pub fn is_overruled(&self, at: Position) -> bool {
        let placed = self.status.holds().lock();
        placed.bounds.iter().any(|(number, bound)| *number != self.number && *bound < at)
    }

    /// Where the version stands, once its runner has acknowledged this hold and everything up to the bound is committed
    /// and shown. That is the bound itself, or where the version was if that is further.
    pub async fn stands(&self, wait: Duration) -> Result<Position, HoldError> {
        let mut standing = self.status.holds().standing.subscribe();
        let mut progress = self.status.subscribe();
        let stood = async {
            let is_there =
                |standing: &Standing| standing.changes >= self.since && standing.position >= self.at;
            standing.wait_for(is_there).await.map(|standing| standing.position)
        };
        let ended = async { progress.wait_for(|progress| self.ended(progress).is_some()).await.map(drop) };
        let waited = timeout(wait, async {
            tokio::select! {
                biased;
                stood = stood => stood.map_err(|_| HoldError::Stopped),
                _ = ended => Err(self.ended(&self.status.progress()).unwrap_or(HoldError::Stopped)),
            }
        });
        waited.await.unwrap_or_else(|_| {
            Err(HoldError::TooSlow { at: self.at, as_of: self.status.progress().as_of, waited: wait })
        })
    }

    /// Why the runner will not come to acknowledge it.
    fn ended(&self, progress: &Progress) -> Option<HoldError> {
        if progress.stopped {
            return Some(HoldError::Stopped);
        }
        // A runner that pauses is there to say where it stands.
        let says = progress.pause.is_some() && progress.as_of >= self.at;
        let failure = progress.failure.as_ref().filter(|_| !says)?;
        Some(HoldError::Failed { as_of: progress.as_of, failure: Arc::clone(failure) })
    }

    fn wake(&self) {
        self.head.nudge(&self.stop);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.status.holds().change(|placed| {
            placed.bounds.remove(&self.number);
        });
        self.wake();
    }
}

#[cfg(test)]
mod tests;
