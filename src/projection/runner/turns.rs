//! What the versions of a node do one at a time.
//!
//! Durable commits, since the disk serves one at a time anyway; and the events that versions apply while they follow the
//! log: each append wakes all of them, and at once they would take every core from the appends that come next. Whoever has
//! waited applies more events in one go. Invariant: nobody asks for one of the two while it holds it. Does not know what is done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Shared by the versions of a node: clones are the same turns.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Both>);

#[derive(Debug, Default)]
struct Both {
    durable: Mutex<()>,
    following: Mutex<()>,
}

impl Turns {
    /// Waits for the turn to make a file durable.
    pub(super) fn durable(&self) -> MutexGuard<'_, ()> {
        self.0.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless another one has it.
    pub(super) fn try_durable(&self) -> Option<MutexGuard<'_, ()>> {
        match self.0.durable.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for the turn to apply what has come.
    pub(super) fn following(&self) -> MutexGuard<'_, ()> {
        self.0.following.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
