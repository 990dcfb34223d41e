//! A version that nobody needs for a while gives its memory back: documents it has decoded, and pages of its file.
//!
//! Invariant: only where everything is committed and durable. A node beside a quiet service is small; the first event or
//! query after a rest reads from the file again. Does not know what the memory holds.

use std::time::{Duration, Instant};

use super::Runner;
use crate::{allocator, kv::KvError, limits::VERSION_REST_AFTER, projection::batch::Batch};

/// Since when there has been nothing to do.
#[derive(Debug)]
pub(super) struct Rest {
    since: Instant,
    /// There is nothing to give back.
    pub(super) is_resting: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self { since: Instant::now(), is_resting: false }
    }
}

#[cfg(test)]
impl Rest {
    /// As if there had been nothing to do for long enough.
    pub(super) fn pass_time(&mut self) {
        self.since = Instant::now().checked_sub(VERSION_REST_AFTER).expect("the machine runs for longer");
    }
}

impl Runner {
    /// Rests, if it is time; how long there is to wait before it is time to look again.
    pub(super) fn rest(&mut self, batch: &mut Batch) -> Result<Duration, KvError> {
        let left = VERSION_REST_AFTER.saturating_sub(self.rest.since.elapsed());
        if !left.is_zero() {
            return Ok(left);
        }
        self.rest.since = Instant::now();
        if self.store.was_read() {
            self.rest.is_resting = false;
        } else if !self.rest.is_resting {
            batch.rest();
            self.rest.is_resting = self.store.rest()?;
            allocator::tidy();
        } else {
            allocator::return_pages();
        }
        Ok(VERSION_REST_AFTER)
    }
}
