//! Work of which a node does one at a time, because it is heavy: whoever comes second is refused, not kept waiting.
//!
//! Does not know what the work is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Taken by the one that runs.
#[derive(Debug, Clone, Default)]
pub struct Exclusive(Arc<AtomicBool>);

/// Held by the one that runs; it is over when this is dropped.
#[derive(Debug)]
pub struct ExclusiveGuard(Exclusive);

impl Exclusive {
    /// `None` while another one runs.
    pub fn take(&self) -> Option<ExclusiveGuard> {
        let taken = self.0.swap(true, Ordering::AcqRel);
        (!taken).then(|| ExclusiveGuard(self.clone()))
    }
}

impl Drop for ExclusiveGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
