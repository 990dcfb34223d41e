//! Catching up: an import that is far behind asks its owner for many events at a time instead of reading them from the bus
//! one message each.
//!
//! It is the same question as for a repair and the same proof; only nothing is wrong, so nothing stops. Invariants: a node that
//! is not answered, or that has caught up, reads the bus; what the bus or the owner say about places on the bus are hints.

use super::{Inbox, Phase};
use crate::{
    limits::IMPORT_BULK_RETRY,
    mesh::{io::Io, repair::Published},
};

/// Whether it catches up.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    is_on: bool,
    /// Not before this moment, since the last try came to nothing.
    retry_at: i64,
}

impl Inbox {
    /// What a read of the bus says about how much there is.
    pub(super) fn consider_bulk(&mut self, last_sequence: u64, io: &Io<'_>) {
        let behind = last_sequence.saturating_sub(self.bus_after);
        if behind >= io.bulk_behind && io.now_unix_nanos >= self.bulk.retry_at && self.stop.is_none() {
            self.bulk.is_on = true;
            self.ask_at = io.now_unix_nanos;
        }
    }

    pub(super) fn wants_bulk(&self) -> bool {
        self.bulk.is_on && self.stop.is_none() && self.phase == Phase::Running
    }

    /// Asks, unless it has asked or as many appends are unanswered as may be.
    pub(super) fn ask_bulk(&mut self, io: &mut Io<'_>) {
        if self.asking.is_none() && io.now_unix_nanos >= self.ask_at && self.may_append() {
            let at = self.accepted.clone();
            self.ask_from(&at, Vec::new(), true, io);
        }
    }

    /// Reads the bus again: the owner does not answer, or not as expected.
    pub(super) fn end_bulk(&mut self, why: &str, io: &Io<'_>) {
        if std::mem::take(&mut self.bulk.is_on) {
            tracing::info!(
                import = self.import.name(),
                why,
                "catching up goes on over the bus, event by event"
            );
            self.bulk.retry_at = io.after(IMPORT_BULK_RETRY);
            (self.look_at, self.is_at_end) = (io.now_unix_nanos, false);
        }
    }

    /// Goes on where the owner's newest messages are.
    pub(super) fn caught_up(&mut self, published: Option<Published>) {
        if !std::mem::take(&mut self.bulk.is_on) {
            return;
        }
        if let Some(Published { seq, sequence }) = published
            && seq <= self.accepted.seq
        {
            self.bus_after = self.bus_after.max(sequence);
        }
        self.is_at_end = false;
    }
}
