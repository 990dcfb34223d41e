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
        failure::Failure,
        handler::feed::{Feed, FeedError, Room},
        hold::Bound,
    },
};

impl Runner {
    /// The same for a version whose projector is a service.
    #[must_use]
    pub(crate) fn fed(self, feed: Option<Feed>) -> Self {
        Self { feed, ..self }
    }

    /// Applies what workers have answered, up to `upto`, and gives them more. What to wait for afterwards.
    pub(super) fn fill_fed(
        &mut self,
        batch: &mut Batch,
        upto: Position,
        bound: Bound,
    ) -> Result<Step, Trouble> {
        let Some(mut feed) = self.feed.take() else {
            return Ok(Step::CaughtUp(upto, IDLE_WAIT));
        };
        let filled = self.fill_from(&mut feed, batch, upto, bound);
        self.feed = Some(feed);
        filled
    }

    fn fill_from(
        &self,
        feed: &mut Feed,
        batch: &mut Batch,
        upto: Position,
        bound: Bound,
    ) -> Result<Step, Trouble> {
        let bytes_max = self.store.memory().documents_bytes().min(BATCH_BYTES_MAX);
        let room = Room { events_max: BATCH_EVENTS_MAX, bytes_max };
        let pass_by = |batch: &mut Batch, position| self.pass_by(batch, position);
        let filled = feed.fill(batch, self.store.definition(), &self.reader, upto, room, &pass_by);
        feed.settle().map_err(Trouble::Log)?;
        let idle = feed.idle().unwrap_or(IDLE_WAIT);
        match filled {
            Ok(true) => Ok(Step::More),
            // Workers wake it, and whoever held it; how far the log goes does not matter meanwhile.
            Ok(false) if bound.is_within(upto) => Ok(Step::Held(idle)),
            Ok(false) => Ok(Step::CaughtUp(upto, idle)),
            Err(FeedError::Event(event, reason)) => {
                self.set_aside(batch, &event, Failure::new(reason))?;
                feed.pass_first();
                Ok(Step::More)
            }
            Err(FeedError::File(error)) => Err(Trouble::File(error)),
            Err(FeedError::Log(error)) => Err(Trouble::Log(error)),
        }
    }

    /// Lets workers go while the version stands still, with the reason; they may come again.
    pub(super) fn turn_away(&mut self) {
        if let (Some(feed), Some(failure)) = (&mut self.feed, self.status.progress().failure) {
            feed.turn_away(
                self.batch.as_ref().map_or(Position::ZERO, Batch::cursor),
                self.head.get(),
                &failure,
            );
        }
    }

    /// Whether a commit would show nothing whose emissions are not durable.
    pub(super) fn is_settled(&self) -> bool {
        self.feed.as_ref().is_none_or(Feed::is_settled)
    }
}
