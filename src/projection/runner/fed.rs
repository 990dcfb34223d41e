//! The step of a runner whose definition leaves it to a service what events do.
//!
//! Invariants: what applied events emit is durable before anything is committed that shows them as applied; what a decision
//! about parked events does is committed whole, with the decision passed.

use super::{IDLE_WAIT, Runner, TURN_WAIT, Trouble};
use crate::{
    event::{Position, RecordedEvent, StreamId},
    follower::Step,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX},
    projection::{
        batch::Batch,
        decisions::{self, Decision},
        failure::{Failure, Pause},
        handler::feed::{Feed, FeedError, Ground, Room},
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
        if self.status.look(|progress| progress.pause.is_some()) {
            // What it stands at may be applied in this step: nobody decides about it meanwhile.
            if !self.status.control().begin_step() {
                return Ok(Step::CaughtUp(upto, TURN_WAIT));
            }
            self.stepping = true;
            self.refresh_decisions()?;
        }
        let Some(mut feed) = self.feed.take() else {
            return Ok(Step::CaughtUp(upto, IDLE_WAIT));
        };
        let filled = self.fill_from(&mut feed, batch, upto, bound);
        self.feed = Some(feed);
        filled
    }

    fn fill_from(
        &mut self,
        feed: &mut Feed,
        batch: &mut Batch,
        upto: Position,
        bound: Bound,
    ) -> Result<Step, Trouble> {
        let filled = {
            let bytes_max = self.store.memory().documents_bytes().min(BATCH_BYTES_MAX);
            let stream = decisions::stream_of(self.store.definition().name());
            let ground = Ground {
                definition: self.store.definition(),
                reader: &self.reader,
                upto,
                room: Room { events_max: BATCH_EVENTS_MAX, bytes_max },
                decisions: &stream,
                pass_by: &|batch, event| self.pass_by_or_park(batch, event),
            };
            feed.fill(batch, &ground)
        };
        feed.settle().map_err(Trouble::Log)?;
        let idle = feed.idle().unwrap_or(IDLE_WAIT);
        match filled {
            Ok(_) if feed.decision_behind(batch.cursor()).is_some_and(|next| next.position <= upto) => {
                self.come_to_fed(feed, batch)?;
                Ok(Step::More)
            }
            Ok(true) => Ok(Step::More),
            // Workers wake it, and whoever held it; how far the log goes does not matter meanwhile.
            Ok(false) if bound.is_within(upto) => Ok(Step::Held(idle)),
            Ok(false) => Ok(Step::CaughtUp(upto, idle)),
            Err(FeedError::Event(event, reason)) => {
                self.set_aside(batch, &event, Failure::new(reason))?;
                feed.pass_first();
                if batch.ledger().is_parked(&event.event.stream) {
                    feed.withdraw(&event.event.stream);
                }
                Ok(Step::More)
            }
            Err(FeedError::Pause(pause)) => Err(Trouble::Event(pause)),
            Err(FeedError::File(error)) => Err(Trouble::File(error)),
            Err(FeedError::Log(error)) => Err(Trouble::Log(error)),
        }
    }

    /// Passes the event behind the cursor by if that is decided, or parks it behind others of its stream.
    fn pass_by_or_park(&self, batch: &mut Batch, event: &RecordedEvent) -> Result<bool, Box<Pause>> {
        if self.pass_by(batch, event.position) {
            return Ok(true);
        }
        self.note(event);
        let waits = batch.ledger().is_parked(&event.event.stream);
        if waits {
            self.park(batch, event, None)?;
        }
        Ok(waits)
    }

    /// Everything before a decision is applied: carries it out, as soon as all that is durable if parked events come
    /// again because of it.
    fn come_to_fed(&mut self, feed: &mut Feed, batch: &mut Batch) -> Result<(), Trouble> {
        let Some(decision) = feed.decision_behind(batch.cursor()).cloned() else {
            return Ok(());
        };
        self.learn_decisions(decision.position)?;
        let version = self.store.definition().version();
        let read = Decision::read(&decision.event).map_err(|invalid| Trouble::Log(invalid.to_string()))?;
        let concerns_parked = match &read {
            Some(Decision::EventSkipped { version: of, position, .. }) => {
                of.is_none_or(|of| of == version) && batch.ledger().parked_at(*position)
            }
            Some(Decision::Retried { version: of, .. }) => {
                *of == version && batch.ledger().parked().next().is_some()
            }
            _ => false,
        };
        if concerns_parked && (batch.events() > 0 || self.undurable.since.is_some()) {
            return Ok(());
        }
        let streams: Vec<StreamId> = match read.filter(|_| concerns_parked) {
            Some(Decision::EventSkipped { position, .. }) => {
                self.take_out_skipped(batch, position).into_iter().collect()
            }
            Some(_) => batch.ledger().parked_streams(),
            None => Vec::new(),
        };
        feed.begin_late(batch, streams);
        Ok(())
    }

    /// Whether a decision is next that waits until everything before it is durable.
    pub(super) fn stands_at_decision(&self, batch: &Batch) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.decision_behind(batch.cursor()).is_some())
    }

    /// Whether parked events come again: nothing is committed before they have.
    pub(super) fn is_late(&self) -> bool {
        self.feed.as_ref().is_some_and(Feed::is_late)
    }

    /// A version that stood still goes on: everything is looked at anew, since parked streams may have changed.
    pub(super) fn look_again(&mut self, cursor: Position) {
        if let Some(feed) = &mut self.feed {
            feed.look_again(cursor);
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
