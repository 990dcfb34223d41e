//! Tells the log of the process how far long work has come, now and then.
//!
//! Invariant: short work says nothing. Does not know what the work is.

use std::time::Instant;

use crate::limits::PROGRESS_INTERVAL;

/// Work that goes from one position to another.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    first: u64,
    last: u64,
    started: Instant,
    told: Instant,
    has_told: bool,
}

impl Progress {
    /// Work that begins now.
    pub(super) fn new(what: &'static str, first: u64, last: u64) -> Self {
        let now = Instant::now();
        Self { what, first, last, started: now, told: now, has_told: false }
    }

    /// All up to `position` is done.
    pub(super) fn reached(&mut self, position: u64) {
        let now = Instant::now();
        if now.duration_since(self.told) >= PROGRESS_INTERVAL {
            self.told = now;
            self.has_told = true;
            tracing::info!(
                position,
                upto = self.last,
                events_per_second = self.rate(position),
                "{}",
                self.what
            );
        }
    }

    /// All is done.
    pub(super) fn done(&self) {
        if self.has_told {
            let (upto, seconds) = (self.last, self.started.elapsed().as_secs_f32());
            tracing::info!(upto, seconds, events_per_second = self.rate(self.last), "done: {}", self.what);
        }
    }

    fn rate(&self, position: u64) -> u64 {
        let done = (position + 1).saturating_sub(self.first);
        (done as f64 / self.started.elapsed().as_secs_f64().max(1e-9)) as u64
    }
}
