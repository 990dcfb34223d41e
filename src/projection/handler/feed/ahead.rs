//! What a feed looks at of the log before it is applied.
//!
//! Invariants: the window and the dispatch hold the same events, but for those whose stream is parked, which the dispatch
//! does not have; nothing behind a decision about the projection is looked at before that is carried out, since it may
//! release parked events, which come first.

use super::{Feed, FeedError, Ground, Looked};
use crate::{
    event::{Position, RecordedEvent, StreamId},
    limits::{
        FOLLOW_SCAN_BYTES_MAX, FOLLOW_SCAN_EVENTS_MAX, HANDLER_AHEAD_BYTES_MAX, HANDLER_AHEAD_EVENTS_MAX,
    },
    projection::{batch::Batch, handler::hub::ToWorker},
};

impl Feed {
    /// Reads the log as far as the window has room. Whether it came further.
    pub(super) fn look_ahead(&mut self, batch: &Batch, ground: &Ground<'_>) -> Result<bool, FeedError> {
        let before = self.looked;
        while self.looked < ground.upto
            && self.decision.is_none()
            && self.window.len() < HANDLER_AHEAD_EVENTS_MAX
            && self.window_bytes < HANDLER_AHEAD_BYTES_MAX
        {
            let (after, upto) = (self.looked, ground.upto);
            let records =
                ground.reader.scan(after, upto, FOLLOW_SCAN_BYTES_MAX, FOLLOW_SCAN_EVENTS_MAX).map_err(
                    |error| FeedError::Log(format!("reading the log behind position {after}: {error}")),
                )?;
            if records.is_empty() {
                let what =
                    format!("the log has no record behind position {after}, although its head is {upto}");
                return Err(FeedError::Log(what));
            }
            for (position, payload) in records {
                let bytes = payload.len();
                let event = RecordedEvent::decode(position, payload)
                    .map_err(|invalid| FeedError::Log(invalid.to_string()))?;
                if event.event.stream == *ground.decisions {
                    self.decision = Some(Box::new(event));
                    break;
                }
                self.looked = position;
                if ground.definition.handles(event.event.event_type.as_str()) {
                    let is_parked = batch.ledger().is_parked(&event.event.stream);
                    self.see(Looked { event, bytes, is_parked });
                }
            }
        }
        Ok(self.looked > before)
    }

    /// An event is there, behind all others.
    pub(super) fn see(&mut self, looked: Looked) {
        if !looked.is_parked {
            self.dispatch.available(looked.event.position, looked.bytes);
        }
        self.window_bytes += looked.bytes;
        self.window.push_back(looked);
    }

    /// Everything is looked at anew behind the cursor. Runs that are out are void, which whoever has one must be told.
    pub(crate) fn look_again(&mut self, cursor: Position) {
        self.looked = cursor;
        self.window.clear();
        self.window_bytes = 0;
        self.dispatch.clear();
        self.decision = None;
        self.late = None;
    }

    /// A stream is parked now: no worker gets its events any more, and those who have some are told.
    pub(crate) fn withdraw(&mut self, stream: &StreamId) {
        let of_stream = self.window.iter_mut().filter(|looked| looked.event.event.stream == *stream);
        let mut withdrawn = Vec::new();
        for looked in of_stream.filter(|looked| !looked.is_parked) {
            looked.is_parked = true;
            withdrawn.push(looked.event.position);
        }
        let Some(from) = withdrawn.first().copied() else {
            return;
        };
        for worker in self.dispatch.withdraw(&withdrawn) {
            let reason = format!("the events of stream {stream} are parked");
            self.tell(worker, ToWorker::Cancelled { from, reason });
        }
    }

    /// The decision that comes next, if everything before it is applied.
    pub(crate) fn decision_behind(&self, cursor: Position) -> Option<&RecordedEvent> {
        let decision = self.decision.as_deref().filter(|decision| decision.position == cursor.next())?;
        (self.window.is_empty() && self.late.is_none()).then_some(decision)
    }

    /// The decision that comes next is carried out.
    pub(super) fn pass_decision(&mut self, batch: &mut Batch) {
        let decision = self.decision.take().expect("it is passed once");
        batch.pass_to(decision.position);
        self.looked = decision.position;
    }
}
