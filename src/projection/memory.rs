//! The memory that versions share: each takes a share when it starts and gives it back when it goes.
//!
//! Invariants: the shares together never exceed the budget but for the least that a version needs to run at all; a
//! share does not change while its version runs, since a file's cache is fixed when it is opened. Does not know what
//! is cached.

use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{VERSION_MEMORY_BYTES_MAX, VERSION_MEMORY_BYTES_MIN};

/// What is left of the memory for versions.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Mutex<u64>>);

/// One version's memory.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken_bytes: u64,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes for all versions together.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    /// Half of what is left, within bounds: there is always something left for the next one.
    pub fn take(&self) -> Share {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = (*left / 2).clamp(VERSION_MEMORY_BYTES_MIN, VERSION_MEMORY_BYTES_MAX);
        let taken_bytes = bytes.min(*left);
        *left -= taken_bytes;
        Share { budget: self.clone(), taken_bytes, bytes }
    }
}

impl Share {
    /// For the pages of the version's file.
    pub const fn pages_bytes(&self) -> usize {
        (self.bytes * 5 / 16) as usize
    }

    /// For documents that were read or changed since the last hand-over to the file; those before may take as much.
    pub const fn documents_bytes(&self) -> usize {
        (self.bytes / 4) as usize
    }

    /// For what is on its way to the version's file.
    pub const fn behind_bytes(&self) -> usize {
        (self.bytes / 8) as usize
    }

    /// For events that are read ahead.
    pub const fn events_bytes(&self) -> usize {
        (self.bytes / 16) as usize
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.0.lock().unwrap_or_else(PoisonError::into_inner) += self.taken_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_budget_and_come_back() {
        let budget = Budget::new(4 * VERSION_MEMORY_BYTES_MAX);
        let shares: Vec<_> = (0..40).map(|_| budget.take()).collect();
        assert_eq!(shares[0].bytes, VERSION_MEMORY_BYTES_MAX);
        assert_eq!(shares[39].bytes, VERSION_MEMORY_BYTES_MIN);
        for share in &shares {
            // Two generations of documents.
            let caches = share.pages_bytes() + 2 * share.documents_bytes();
            assert!((caches + share.events_bytes() + share.behind_bytes()) as u64 <= share.bytes);
        }
        assert!(shares.iter().map(|share| share.taken_bytes).sum::<u64>() <= 4 * VERSION_MEMORY_BYTES_MAX);
        drop(shares);
        assert_eq!(budget.take().bytes, VERSION_MEMORY_BYTES_MAX);
    }
}
