//! An export as status and importers are told of it. Changes nothing but the rate's clock.

use super::{Outbox, Phase};
use crate::mesh::{
    repair::Published,
    state::{ExportState, ExportStatus},
};

impl Outbox {
    /// As it is now.
    pub fn status(&mut self, now_unix_nanos: i64) -> ExportStatus {
        let state = match &self.phase {
            Phase::Standing(state) => *state,
            _ if !self.is_connected => ExportState::Disconnected,
            Phase::Starting(_) => ExportState::Starting,
            Phase::Running if self.window.is_empty() => ExportState::Following,
            Phase::Running => ExportState::Publishing,
        };
        ExportStatus {
            name: self.name().clone(),
            definition: *self.export().hash(),
            state,
            last_error: self.last_error.clone(),
            position: self.pipeline.position(),
            seq: self.pipeline.place().seq,
            acknowledged_seq: self.acknowledged.seq,
            in_flight: self.window.len(),
            resent: self.resent,
            found_again: self.found_again,
            repairs_served: self.repairs_served,
            rate_per_second: self.rate.per_second(now_unix_nanos),
        }
    }

    /// How far it is published, while it publishes.
    pub fn published_upto(&self) -> Option<Published> {
        let (seq, sequence) = (self.acknowledged.seq, self.sequence);
        (self.phase == Phase::Running && sequence > 0).then_some(Published { seq, sequence })
    }
}
