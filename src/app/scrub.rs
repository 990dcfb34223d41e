//! The scrub: sealed segments are read and checked in the background, so that damage by the medium is known before the
//! last copy is gone.
//!
//! Owns when, and how gently: a bounded rate, and pauses while appends wait. Damage is said loudly (log, metric, readiness
//! page) and stops nothing: reads of what is damaged fail by themselves, everything else goes on. Does not know how
//! segments are checked, nor repairs any.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    append::Appender,
    event::Position,
    lifecycle::Lifecycle,
    limits::{
        SCRUB_BYTES_PER_SECOND, SCRUB_CHUNK_BYTES, SCRUB_DELAY_MAX, SCRUB_WARNINGS_MAX, SCRUB_YIELD_MAX,
    },
    log::LogReader,
    metrics::Metrics,
};

/// How often it looks whether appends still wait.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Scrubs every `interval` until the node stops, the first time a while after now.
pub(super) fn start(
    interval: Duration,
    log: LogReader,
    appender: Appender,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
) {
    let tasks = lifecycle.tasks().clone();
    let scrub = Scrub { log, appender, lifecycle, metrics };
    let handle = Handle::current();
    tasks.spawn_blocking(move || {
        let mut wait = interval.min(SCRUB_DELAY_MAX);
        while scrub.wait(&handle, wait) {
            let began = Instant::now();
            if !scrub.pass(&handle) {
                return;
            }
            wait = interval.saturating_sub(began.elapsed());
        }
    });
}

struct Scrub {
    log: LogReader,
    appender: Appender,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
}

impl Scrub {
    /// Goes through all segments that are sealed now; false if the node stops.
    fn pass(&self, handle: &Handle) -> bool {
        let segments = self.log.sealed_segments();
        let mut damage = Vec::new();
        for first in &segments {
            self.metrics.scrub_position.set(first.get() as i64);
            match self.segment(handle, *first) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    tracing::error!(
                        segment = %first,
                        %error,
                        "the scrub found damage in a sealed segment; the node goes on, what is damaged cannot be read"
                    );
                    damage.push(error);
                    // Known at once, not only after all other segments.
                    self.tell(&damage);
                }
            }
        }
        self.tell(&damage);
        self.metrics.scrub_passes.inc();
        tracing::info!(
            segments = segments.len(),
            damaged = damage.len(),
            "the sealed segments were scrubbed"
        );
        true
    }

    fn tell(&self, damage: &[String]) {
        self.metrics.scrub_damaged.set(damage.len() as i64);
        self.lifecycle.set_warnings(damage.iter().take(SCRUB_WARNINGS_MAX).cloned().collect());
    }

    /// Checks one segment; false if the node stops, the words of the log if it is damaged.
    fn segment(&self, handle: &Handle, first: Position) -> Result<bool, String> {
        let mut bytes = 0;
        let mut pace = |read: u64| {
            self.metrics.scrub_bytes.inc_by(read);
            bytes += read;
            if bytes < SCRUB_CHUNK_BYTES {
                return true;
            }
            let pause = Duration::from_nanos(bytes * 1_000_000_000 / SCRUB_BYTES_PER_SECOND);
            bytes = 0;
            self.wait(handle, pause) && self.give_way(handle)
        };
        self.log.verify_sealed(first, &mut pace).map_err(|error| error.to_string())
    }

    /// Waits while appends do, but not for ever; false if the node stops.
    fn give_way(&self, handle: &Handle) -> bool {
        let began = Instant::now();
        while self.appender.queued_bytes() > 0 && began.elapsed() < SCRUB_YIELD_MAX {
            if !self.wait(handle, LOOK_EVERY) {
                return false;
            }
        }
        true
    }

    /// Waits; false if the node stops meanwhile.
    fn wait(&self, handle: &Handle, pause: Duration) -> bool {
        let stop = self.lifecycle.stop();
        handle.block_on(async { tokio::time::timeout(pause, stop.cancelled()).await.is_err() })
    }
}
