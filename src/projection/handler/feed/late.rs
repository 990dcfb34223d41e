//! Parked events that come again because a decision says so.
//!
//! They are given out one at a time, stream by stream and in order, while everything else waits: each rests on what the
//! one before left, and all documents that they change have the position of the decision, by which two of their
//! changes cannot be told apart. So after each one all workers have to forget what they remember of documents. Invariants:
//! nothing is committed before the decision is passed, so that a crash undoes all of it; what the batch comes to is
//! bounded, by something that depends on the answers alone. Does not know what becomes of the rest of a stream otherwise.

use std::collections::VecDeque;

use super::{Feed, FeedError, Ground, Looked};
use crate::{
    event::{Position, RecordedEvent, StreamId},
    limits::HANDLER_LATE_BYTES_MAX,
    log::LogReader,
    projection::{batch::Batch, definition::Definition, failure::Failure, handler::hub::ToWorker},
};

/// What is left to do for a decision.
#[derive(Debug)]
pub(super) struct Late {
    /// Where the decision stands.
    at: Position,
    /// The streams whose parked events come again.
    streams: VecDeque<StreamId>,
}

impl Feed {
    /// The decision behind the cursor lets the parked events of these streams come again.
    pub(crate) fn begin_late(&mut self, batch: &mut Batch, streams: Vec<StreamId>) {
        let at = self.decision_behind(batch.cursor()).expect("it is next").position;
        if streams.is_empty() {
            return self.pass_decision(batch);
        }
        self.late = Some(Late { at, streams: streams.into() });
    }

    /// Whether parked events come again: nothing may be committed.
    pub(crate) const fn is_late(&self) -> bool {
        self.late.is_some()
    }

    pub(super) fn late_at(&self) -> Option<Position> {
        self.late.as_ref().map(|late| late.at)
    }

    /// Applies what is answered of parked events, and brings the next one. Whether anything moved.
    pub(super) fn go_on_late(&mut self, batch: &mut Batch, ground: &Ground<'_>) -> Result<bool, FeedError> {
        let Some(at) = self.late_at() else {
            return Ok(false);
        };
        let Some(Looked { event, .. }) = self.window.front() else {
            if !self.bring_next(batch, ground.definition, ground.reader)? {
                self.late = None;
                self.pass_decision(batch);
            }
            return Ok(true);
        };
        let position = event.position;
        match self.apply_first(batch, Some(at)) {
            Ok(false) => Ok(false),
            Ok(true) => {
                batch.ledger_mut().unpark(position);
                self.let_all_forget(position, at);
                Ok(true)
            }
            Err(FeedError::Event(event, reason)) => {
                self.pass_first();
                self.park_again(batch, ground.definition, &event, reason);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Brings the next parked event; `false`: there is none.
    fn bring_next(
        &mut self,
        batch: &mut Batch,
        definition: &Definition,
        reader: &LogReader,
    ) -> Result<bool, FeedError> {
        while let Some(stream) = self.late.as_ref().and_then(|late| late.streams.front()) {
            let Some(position) = batch.ledger().first_of(stream) else {
                self.end_stream();
                continue;
            };
            let unreadable = |error: &dyn std::fmt::Display| {
                FeedError::Log(format!("reading the parked event at position {position}: {error}"))
            };
            let payload = reader.read(position).map_err(|error| unreadable(&error))?;
            let payload = payload.ok_or_else(|| unreadable(&"it is not in the log"))?;
            let bytes = payload.len();
            let event = RecordedEvent::decode(position, payload).map_err(|error| unreadable(&error))?;
            if batch.bytes() <= HANDLER_LATE_BYTES_MAX {
                self.see(Looked { event, bytes, is_parked: false });
                return Ok(true);
            }
            let reason = format!(
                "it was not tried: the events before it changed more than {HANDLER_LATE_BYTES_MAX} bytes of documents, \
                 which is the most for one decision; retry again"
            );
            self.park_again(batch, definition, &event, reason);
        }
        Ok(false)
    }

    /// A parked event stays parked, and the rest of its stream behind it.
    fn park_again(
        &mut self,
        batch: &mut Batch,
        definition: &Definition,
        event: &RecordedEvent,
        reason: String,
    ) {
        let collections = definition.touches(event.event.event_type.as_str());
        batch.ledger_mut().park(event, Some(Failure::new(reason)), collections);
        self.end_stream();
    }

    fn end_stream(&mut self) {
        if let Some(late) = &mut self.late {
            late.streams.pop_front();
        }
    }

    /// What workers remember of documents may be wrong, and positions do not show it.
    fn let_all_forget(&mut self, position: Position, at: Position) {
        let remembering = self.workers.iter().filter(|(_, worker)| worker.remembers);
        for worker in remembering.map(|(id, _)| *id).collect::<Vec<_>>() {
            let reason = format!("the event at position {position} was applied late");
            self.tell(worker, ToWorker::Cancelled { from: at.next(), reason });
        }
    }
}
