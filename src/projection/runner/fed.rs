//! The step of a runner whose definition leaves it to a service what events do.
//!
//! Invariant: what applied events emit is durable before anything is committed that shows them as applied.

use super::{IDLE_WAIT, Runner, Trouble};
use crate::{
    event::Position,
    follower::Step,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX},
    projection::{
        batch::Batch,
        handler::feed::{Feed, FeedError, Room},
    },
};

impl Runner {
    /// The same for a version whose projector is a service.
    #[must_use]
    pub(crate) fn fed(self, feed: Option<Feed>) -> Self {
        Self { feed, ..self }
    }

    /// Applies what workers have answered, up to `upto`, and gives them more. What to wait for afterwards.
    pub(super) fn fill_fed(&mut self, batch: &mut Batch, upto: Position) -> Result<Step, Trouble> {
        let Some(feed) = &mut self.feed else {
            return Ok(Step::CaughtUp(upto, IDLE_WAIT));
        };
        let bytes_max = self.store.memory().documents_bytes().min(BATCH_BYTES_MAX);
        let room = Room { events_max: BATCH_EVENTS_MAX, bytes_max };
        let filled = feed.fill(batch, self.store.definition(), &self.reader, upto, room);
        feed.settle().map_err(Trouble::Log)?;
        let idle = feed.idle().unwrap_or(IDLE_WAIT);
        match filled {
            Ok(true) => Ok(Step::More),
            Ok(false) => Ok(Step::CaughtUp(upto, idle)),
            Err(FeedError::Event(event, reason)) => Err(self.stopped(&event, &reason)),
            Err(FeedError::File(error)) => Err(Trouble::File(error)),
            Err(FeedError::Log(error)) => Err(Trouble::Log(error)),
        }
    }

    /// Whether a commit would show nothing whose emissions are not durable.
    pub(super) fn is_settled(&self) -> bool {
        self.feed.as_ref().is_none_or(Feed::is_settled)
    }
}
