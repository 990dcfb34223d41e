//! How far a runner goes: up to the visible head, unless it ends for good before, or somebody holds it.
//!
//! Does not know what lies behind.

use std::time::Duration;

use super::Runner;
use crate::{
    event::Position,
    follower::Step,
    projection::{batch::Batch, hold::Bound},
};

impl Runner {
    /// The same, up to and including a position, where it is over. Decisions count wherever they stand in the log.
    #[must_use]
    pub(crate) fn until(self, until: Position) -> Self {
        Self { until: Some(until), ..self }
    }

    /// Where the log ends for it.
    pub(super) fn end(&self) -> Position {
        let head = self.head.get();
        self.until.map_or(head, |until| head.min(until))
    }

    /// What to wait for, all up to the batch's cursor being applied.
    pub(super) fn next_step(&self, batch: &Batch, bound: Bound, wait: Duration) -> Step {
        let cursor = batch.cursor();
        if self.until.is_some_and(|until| cursor >= until) {
            Step::Over
        } else if bound.is_reached(cursor) {
            Step::Held(wait)
        } else if self.end() > cursor {
            Step::More
        } else {
            Step::CaughtUp(cursor, wait)
        }
    }
}
