//! An import as status shows it.
//!
//! Invariant: what somebody decided is shown before what the bus does. Changes nothing but the rate's clock.

use super::{Inbox, Phase};
use crate::mesh::state::{ImportState, ImportStatus};

impl Inbox {
    /// As it is now.
    pub fn status(&mut self, now_unix_nanos: i64) -> ImportStatus {
        let state = match &self.stop {
            _ if self.decisions.is_paused => ImportState::Paused,
            Some(stop) if !stop.reason.is_repairable() => ImportState::Stopped,
            _ if !self.is_connected => ImportState::Disconnected,
            Some(_) => ImportState::Repairing,
            None if self.phase == Phase::Loading => ImportState::Starting,
            None if self.is_at_end && self.appending.is_empty() && !self.wants_bulk() => {
                ImportState::Following
            }
            None => ImportState::Importing,
        };
        ImportStatus {
            import: self.import.name().to_owned(),
            from: self.import.from().clone(),
            state,
            stop: self.stop.clone(),
            last_error: self.last_error.clone(),
            cursor: self.durable.clone(),
            owner_seq: self.owner_seq.max(self.accepted.seq),
            appended: self.appended,
            rate_per_second: self.rate.per_second(now_unix_nanos),
            repair: self.repair.clone(),
            aside: self.quarantine.counts(),
        }
    }
}
