//! Followers of the log: everything but the log itself is a cursor plus an apply step.
//!
//! Owns the visible head, which is how readers and followers learn that there is more to read, and the loop that drives
//! a follower. The head moves after a group is durable and indexed, never before. A follower's step is synchronous; the
//! loop alone waits. Does not know what followers do with events.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::event::Position;

/// The last position that is durable and indexed. Clones share one head; the committer alone advances it.
#[derive(Debug, Clone)]
pub struct Head(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// For tasks.
    watch: watch::Sender<Position>,
    /// For threads: whether the log is closed; the condition variable tells of both.
    closed: Mutex<bool>,
    changed: Condvar,
}

/// A cursor plus an apply step.
pub trait Follower: fmt::Debug {
    /// Applies some of what is above its cursor, in bounded work, and says what to wait for.
    fn step(&mut self) -> Step;
    /// Makes what it applied durable; called once, when no step will follow.
    fn finish(&mut self);
}

/// What a follower wants after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be more: step again at once.
    More,
    /// It has applied all up to this position: step again when the head is above it, or when the time is up.
    CaughtUp(Position, Duration),
    /// It stands still for a reason of its own, and has looked at the log up to this position for one to go on: step again
    /// when the head is above it, or when the time is up.
    Paused(Position, Duration),
    /// Something outside it failed: step again after this time.
    Retry(Duration),
    /// It may not go on, wherever the head is: step again when it is nudged, or when the time is up.
    Held(Duration),
    /// It cannot go on; no further step.
    Over,
}

impl Step {
    /// The same with a shorter wait, where it waits longer.
    #[must_use]
    pub fn within(self, wait: Duration) -> Self {
        match self {
            Self::CaughtUp(position, longer) => Self::CaughtUp(position, longer.min(wait)),
            Self::Retry(longer) => Self::Retry(longer.min(wait)),
            Self::Held(longer) => Self::Held(longer.min(wait)),
            step => step,
        }
    }
}

/// Asks one follower to stop at its next batch edge, or wakes it. Clones are the same request.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    /// Its next wait ends at once.
    nudge: AtomicBool,
}

impl Stop {
    /// Whether the follower is to stop.
    pub fn is_requested(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }
}

/// Drives a follower on this thread until it is over, its stop is requested, or the head closes.
pub fn drive(follower: &mut dyn Follower, head: &Head, stop: &Stop) {
    while !stop.is_requested() {
        let (position, timeout) = match follower.step() {
            Step::More => continue,
            Step::CaughtUp(position, timeout) | Step::Paused(position, timeout) => (position, timeout),
            Step::Retry(timeout) | Step::Held(timeout) => (Position::new(u64::MAX), timeout),
            Step::Over => break,
        };
        if head.wait_above_unless(position, timeout, stop) == Waited::Closed {
            break;
        }
    }
    follower.finish();
}

/// What a thread that waited for the head learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The head is above the position waited from.
    Advanced(Position),
    /// The time is up.
    TimedOut,
    /// Somebody wants the waiting follower to look again.
    Nudged,
    /// No more events will come, or the wait's stop was requested.
    Closed,
}

impl Head {
    /// A head that stands at `position`.
    pub fn new(position: Position) -> Self {
        Self(Arc::new(Inner {
            watch: watch::Sender::new(position),
            closed: Mutex::new(false),
            changed: Condvar::new(),
        }))
    }

    /// Where it stands.
    pub fn get(&self) -> Position {
        *self.0.watch.borrow()
    }

    /// Moves it; it never goes back.
    pub fn advance(&self, position: Position) {
        let closed = self.lock();
        self.0.watch.send_if_modified(|head| {
            assert!(position >= *head, "the head goes back from {head} to {position}");
            std::mem::replace(head, position) != position
        });
        drop(closed);
        self.0.changed.notify_all();
    }

    /// Wakes all waiting threads for good.
    pub fn close(&self) {
        *self.lock() = true;
        self.0.changed.notify_all();
    }

    /// Requests a stop and wakes the thread that waits under it.
    pub fn stop(&self, stop: &Stop) {
        let closed = self.lock();
        stop.0.stop.store(true, Ordering::Release);
        drop(closed);
        self.0.changed.notify_all();
    }

    /// Wakes the thread that waits under this stop, or will wait next: it steps once more without the head having moved.
    pub fn nudge(&self, stop: &Stop) {
        if stop.0.nudge.swap(true, Ordering::AcqRel) {
            return;
        }
        // Whoever holds the lock has not looked yet, or waits and is told.
        drop(self.lock());
        self.0.changed.notify_all();
    }

    /// For tasks: sees every advance that comes after this call.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.0.watch.subscribe()
    }

    /// For threads: waits until the head is above `position`, at most `timeout`.
    pub fn wait_above(&self, position: Position, timeout: Duration) -> Waited {
        self.wait_above_unless(position, timeout, &Stop::default())
    }

    /// As `wait_above`; a stop that is requested counts as closed.
    pub fn wait_above_unless(&self, position: Position, timeout: Duration, stop: &Stop) -> Waited {
        let deadline = Instant::now() + timeout;
        let mut closed = self.lock();
        loop {
            if *closed || stop.is_requested() {
                return Waited::Closed;
            }
            if stop.0.nudge.swap(false, Ordering::AcqRel) {
                return Waited::Nudged;
            }
            let head = self.get();
            if head > position {
                return Waited::Advanced(head);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            closed = self.0.changed.wait_timeout(closed, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_sees_an_advance_and_the_end() {
        let head = Head::new(Position::new(3));
        assert_eq!(head.wait_above(Position::new(3), Duration::ZERO), Waited::TimedOut);
        let waiter = {
            let head = head.clone();
            std::thread::spawn(move || head.wait_above(Position::new(3), Duration::from_secs(60)))
        };
        head.advance(Position::new(5));
        assert_eq!(waiter.join().expect("the waiter ends"), Waited::Advanced(Position::new(5)));
        head.close();
        assert_eq!(head.wait_above(Position::new(9), Duration::from_secs(60)), Waited::Closed);
    }

    /// Counts what the head shows it.
    #[derive(Debug)]
    struct Counter {
        head: Head,
        seen: Position,
        finished: bool,
    }

    impl Follower for Counter {
        fn step(&mut self) -> Step {
            self.seen = self.head.get();
            if self.seen == Position::new(7) {
                Step::Over
            } else {
                Step::CaughtUp(self.seen, Duration::from_secs(60))
            }
        }

        fn finish(&mut self) {
            self.finished = true;
        }
    }

    #[test]
    fn a_nudge_ends_one_wait_also_one_that_begins_later() {
        let (head, stop) = (Head::new(Position::new(3)), Stop::default());
        let wait = |timeout| head.wait_above_unless(Position::new(u64::MAX), timeout, &stop);
        head.nudge(&stop);
        assert_eq!(wait(Duration::from_secs(60)), Waited::Nudged);
        assert_eq!(wait(Duration::ZERO), Waited::TimedOut);
    }

    #[test]
    fn a_driven_follower_steps_on_advances_and_finishes_when_over_or_stopped() {
        for over in [true, false] {
            let head = Head::new(Position::new(3));
            let stop = Stop::default();
            let driver = {
                let (head, stop) = (head.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut counter = Counter { head: head.clone(), seen: Position::ZERO, finished: false };
                    drive(&mut counter, &head, &stop);
                    counter
                })
            };
            if over {
                head.advance(Position::new(7));
            } else {
                head.stop(&stop);
            }
            let counter = driver.join().expect("the driver ends");
            assert!(counter.finished);
            assert!(!over || counter.seen == Position::new(7));
        }
    }
}
