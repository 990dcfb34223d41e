//! The newest snapshot of a file, shared by all who read it until the next commit.
//!
//! Invariant: what is shared was taken behind the last commit that was told here, so it never shows less than has been
//! published. Taking a snapshot and opening its tables costs more than reading a document; most reads come between two
//! commits. Does not know what is read.

use std::sync::{Arc, PoisonError, RwLock};

use super::store::Snapshot;

/// Where the newest snapshot is shared.
#[derive(Debug, Default)]
pub(super) struct Recent(RwLock<Slot>);

#[derive(Debug, Default)]
struct Slot {
    /// Counts what made a shared snapshot an old one.
    generation: u64,
    snapshot: Option<Arc<Snapshot>>,
}

/// A moment between two commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(u64);

impl Recent {
    /// The newest snapshot, or since when there is none.
    pub(super) fn get(&self) -> Result<Arc<Snapshot>, Moment> {
        let slot = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slot.snapshot.clone().ok_or(Moment(slot.generation))
    }

    /// Shares a snapshot that was taken after `since`, unless there was a commit meanwhile.
    pub(super) fn share(&self, since: Moment, snapshot: &Arc<Snapshot>) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if slot.generation == since.0 {
            slot.snapshot = Some(Arc::clone(snapshot));
        }
    }

    /// There is something newer, or the file is closed. Whether anybody shared the one before.
    pub(super) fn forget(&self) -> bool {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slot.generation += 1;
        slot.snapshot.take().is_some()
    }
}
