//! How an outbox finds the place at which it goes on: the newest signed message on the bus, found again in its own log.
//!
//! Invariant: nothing is published before the place is understood. What is there may be this log's own (it goes on
//! behind it), a past of this log that it no longer has (`LOG_REWOUND`), another log's (`NODE_NAME_TAKEN`), or nothing
//! (it goes on behind what was acknowledged). Does not know the window.

use super::{Met, Outbox, Phase, is_given_up};
use crate::{
    event::Position,
    kv::Persistence,
    limits::{BUS_RETRY, EXPORT_CHUNK_RECORDS, REPUBLISH_EVENTS_MAX},
    mesh::{
        answer,
        bus::{Kept, Message, Operation, Ticket},
        decisions::{ExportDecision, ExportDecisions, export_request},
        envelope::{ExportName, Place, Received, from_message, hex},
        io::{Io, Next},
        pipeline::PipelineError,
        state::{ExportState, Rewound},
    },
    sabotage::Sabotage,
};

/// How far the search has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Start {
    asked: Option<Ticket>,
    /// What the bus holds.
    answer: Option<Answered>,
    /// The number at which to go on without asking.
    at: Option<u64>,
    /// The position behind which to go on: all that is published up to it is on the bus.
    behind: Option<Position>,
    is_sought: bool,
}

/// What the bus holds of this export; none: nothing that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answered(Option<Found>);

/// The newest place on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    /// Its owner has signed it: it is a fact. Else it is a hint, which damage or anybody may have made.
    pub(super) is_signed: bool,
}

impl Start {
    /// A start behind a number, without asking the bus.
    pub(super) fn at(seq: u64) -> Self {
        Self { at: Some(seq), ..Self::default() }
    }

    /// An operation failed: whether it was this one's.
    pub(super) fn failed(&mut self, ticket: Ticket) -> bool {
        let is_own = self.asked == Some(ticket);
        if is_own {
            self.asked = None;
        }
        is_own
    }
}

/// The place that a message of this node's own name is about, if it is one, and a signature that it has holds.
pub(super) fn place_in(message: &Message, name: &ExportName, io: &Io<'_>) -> Option<Found> {
    let (found, definition, place, signature) = match from_message(message).ok()? {
        Received::Event(envelope) => {
            let envelope = *envelope;
            (envelope.name, envelope.definition, envelope.place, envelope.signature)
        }
        Received::Head(head) => {
            let head = *head;
            (head.name, head.definition, head.place, Some(head.signature))
        }
    };
    if found != *name {
        return None;
    }
    match signature {
        Some(signature) => {
            let verified = io.verify(name, &definition, &place, &signature);
            verified.ok().map(|()| Found { place, is_signed: true })
        }
        // Within a batch.
        None => Some(Found { place, is_signed: false }),
    }
}

impl Outbox {
    /// The answer to the question at the start.
    pub(super) fn read_back(&mut self, ticket: Ticket, messages: &[Kept], io: &Io<'_>) {
        let name = self.name().clone();
        let Phase::Starting(start) = &mut self.phase else { return };
        if start.asked == Some(ticket) {
            start.asked = None;
            let found = messages.first().and_then(|kept| place_in(&kept.message, &name, io));
            start.answer = Some(Answered(found));
            self.sequence = messages.first().map_or(0, |kept| kept.sequence);
        }
    }

    /// Goes on with the search.
    pub(super) fn start(
        &mut self,
        io: &mut Io<'_>,
        decisions: &ExportDecisions,
    ) -> Result<Next, PipelineError> {
        if !self.is_contract_kept(io, decisions) {
            return Ok(Next::At(io.after(BUS_RETRY)));
        }
        let filter = self.name().filter();
        let Phase::Starting(start) = &mut self.phase else { return Ok(Next::Now) };
        if let Some(seq) = start.at {
            return self.seek_and_run(seq, None, io);
        }
        if let Some(position) = start.behind {
            return self.seek_behind(position, io);
        }
        let Some(Answered(found)) = start.answer.clone() else {
            if start.asked.is_none() {
                let operation = Operation::Last { stream: io.node.to_owned(), filter };
                start.asked = io.submit(self.route, operation).ok();
            }
            return Ok(Next::At(io.after(BUS_RETRY)));
        };
        let own = io.events.log().log_id();
        match found {
            Some(Found { place, is_signed: true })
                if place.log_id != own && !is_given_up(decisions, &place) =>
            {
                if !io.has(Sabotage::IgnoreNameTaken) {
                    self.met_other_log(&place);
                    return Ok(Next::Now);
                }
                self.seek_and_run(0, None, io)
            }
            Some(Found { place, is_signed: true })
                if place.log_id == own
                    && !is_given_up(decisions, &place)
                    && decisions.parted_at(&place).is_none() =>
            {
                if place.position > io.events.head().get() && !io.has(Sabotage::IgnoreRewind) {
                    self.met_past(&place, io);
                    return Ok(Next::Now);
                }
                self.seek_and_run(place.seq, Some(&place), io)
            }
            // Nothing that is known for ours: the bus is new or emptied, ends within a batch or with what somebody made
            // up, or holds what was given up.
            found => {
                let (name, version) = (self.name().export.clone(), self.name().version);
                let acknowledged = io.store.acknowledged((&name, version))?;
                // What is given up was published behind all that this log and the original share.
                let is_own = |found: &&Found| found.is_signed && found.place.log_id == own;
                let parted =
                    found.as_ref().filter(is_own).and_then(|found| decisions.parted_at(&found.place));
                if let (0, Some(position), Phase::Starting(start)) = (acknowledged, parted, &mut self.phase) {
                    start.behind = Some(position);
                    return Ok(Next::Now);
                }
                let again = if found.is_some() { 0 } else { REPUBLISH_EVENTS_MAX };
                self.seek_and_run(acknowledged.saturating_sub(again), None, io)
            }
        }
    }

    /// Reads the log up to a number, then publishes what follows; a place must be met there.
    fn seek_and_run(
        &mut self,
        seq: u64,
        expected: Option<&Place>,
        io: &Io<'_>,
    ) -> Result<Next, PipelineError> {
        let Phase::Starting(start) = &mut self.phase else { return Ok(Next::Now) };
        if !std::mem::replace(&mut start.is_sought, true) {
            self.pipeline.seek(io.store, io.events.log(), seq)?;
        }
        let head = io.events.head().get();
        self.pipeline.run(io.events.log(), head, EXPORT_CHUNK_RECORDS, seq)?;
        let place = self.pipeline.place().clone();
        if place.seq < seq && self.pipeline.position() < head {
            return Ok(Next::Now);
        }
        if let Some(expected) = expected
            && place != *expected
            && !io.has(Sabotage::IgnoreRewind)
        {
            self.met_past(expected, io);
            return Ok(Next::Now);
        }
        self.go_on(io)
    }

    /// Reads the log up to a position, then publishes what follows.
    fn seek_behind(&mut self, position: Position, io: &Io<'_>) -> Result<Next, PipelineError> {
        let Phase::Starting(start) = &mut self.phase else { return Ok(Next::Now) };
        if !std::mem::replace(&mut start.is_sought, true) {
            self.pipeline.seek_position(io.store, io.events.log(), position)?;
        }
        self.pipeline.run(io.events.log(), position, EXPORT_CHUNK_RECORDS, u64::MAX)?;
        if self.pipeline.position() < position {
            return Ok(Next::Now);
        }
        self.go_on(io)
    }

    /// Publishes what follows the place that the log has been read to.
    fn go_on(&mut self, io: &Io<'_>) -> Result<Next, PipelineError> {
        self.acknowledged = self.pipeline.place().clone();
        self.phase = Phase::Running;
        self.marked = None;
        (self.mark_at, self.check_at) = (0, io.after(crate::limits::HEAD_MARK_IDLE));
        self.keep(io, Persistence::Buffered)?;
        Ok(Next::Now)
    }

    fn met_past(&mut self, place: &Place, io: &Io<'_>) {
        self.phase = Phase::Standing(ExportState::Rewound);
        self.window.clear();
        self.last_error = Some(format!(
            "it has published event {} at position {} of epoch {}, which this log, whose head is {}, does not have: the \
             log was restored from an older copy; bring the newer one back, or let this one count with \
             `outrigger mesh resync --node`",
            place.seq,
            place.position,
            place.epoch,
            io.events.head().get()
        ));
        let name = self.name().clone();
        let (epoch, seq, position) = (place.epoch, place.seq, place.position);
        let rewound = Rewound { export: name, epoch, seq, position, head: io.events.head().get() };
        self.met = Some(Met::Rewound(rewound, self.given_up(place)));
    }

    /// Whether this version is published under the definition under which it was always published; the first time is
    /// recorded.
    fn is_contract_kept(&mut self, io: &Io<'_>, decisions: &ExportDecisions) -> bool {
        let (export, version) = (self.name().export.clone(), self.name().version);
        let definition = hex(self.export().hash());
        match decisions.published.get(&(export.clone(), version)) {
            Some(published) if *published == definition => true,
            Some(published) => {
                self.phase = Phase::Standing(ExportState::DefinitionChanged);
                self.last_error = Some(format!(
                    "it was published under the definition {published}, and the file now says {definition}: a \
                     published version never changes; undo the change, or give it the next version"
                ));
                false
            }
            None => {
                let publishing = self.publishing.as_mut();
                if publishing.is_none_or(|publishing| answer::poll(publishing, io.waker).is_some()) {
                    let decision = ExportDecision::Published { export, version, definition };
                    let request = export_request(&decision, decisions.revision, io.clock.random());
                    self.publishing = io.appender.submit(request).ok();
                }
                false
            }
        }
    }
}
