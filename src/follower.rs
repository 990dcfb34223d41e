//! Followers of the log: everything but the log itself is a cursor plus an apply step.
//!
//! Owns the visible head, which is how readers and followers learn that there is more to read. The head moves after
//! a group is durable and indexed, never before. Does not know what followers do with events.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
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

/// What a thread that waited for the head learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The head is above the position waited from.
    Advanced(Position),
    /// The time is up.
    TimedOut,
    /// No more events will come: the node stops.
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

    /// For tasks: sees every advance that comes after this call.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.0.watch.subscribe()
    }

    /// For threads: waits until the head is above `position`, at most `timeout`.
    pub fn wait_above(&self, position: Position, timeout: Duration) -> Waited {
        let deadline = Instant::now() + timeout;
        let mut closed = self.lock();
        loop {
            if *closed {
                return Waited::Closed;
            }
            let head = self.get();
            if head > position {
                return Waited::Advanced(head);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            closed = self
                .0
                .changed
                .wait_timeout(closed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
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
        assert_eq!(
            head.wait_above(Position::new(3), Duration::ZERO),
            Waited::TimedOut
        );
        let waiter = {
            let head = head.clone();
            std::thread::spawn(move || head.wait_above(Position::new(3), Duration::from_secs(60)))
        };
        head.advance(Position::new(5));
        assert_eq!(
            waiter.join().expect("the waiter ends"),
            Waited::Advanced(Position::new(5))
        );
        head.close();
        assert_eq!(
            head.wait_above(Position::new(9), Duration::from_secs(60)),
            Waited::Closed
        );
    }
}
