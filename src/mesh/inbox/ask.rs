//! An import's side of repair: when it asks, what it asks, and what it believes of the answer.
//!
//! Invariants: one question at a time; nothing of an answer is believed but what the chain and the owner's signature
//! prove, and that the import's place is gone only if the owner says so under this question's nonce.

use super::{Inbox, Trouble};
use crate::{
    event::Position,
    events::EventsError,
    limits::{REPAIR_EVENTS_MAX, REPAIR_POINTS_MAX, REPAIR_RETRY, REPAIR_TIMEOUT},
    mesh::{
        bus::{Message, Operation, Ticket},
        envelope::{Envelope, Place, Received, from_message},
        io::Io,
        repair::{End, Outcome, Point, Question},
        state::{Divergence, StopReason},
    },
    sabotage::Sabotage,
};

/// A question that is not answered to its end.
#[derive(Debug)]
pub(super) struct Asking {
    ticket: Ticket,
    question: Question,
    parts: Vec<Envelope>,
}

impl Inbox {
    /// Asks the owner for what follows the import's place.
    pub(super) fn ask(&mut self, io: &mut Io<'_>) -> Result<(), EventsError> {
        let from = self.import.from();
        let at = &self.accepted;
        let question = Question {
            export: from.export.clone(),
            version: from.version,
            importer: io.node.to_owned(),
            nonce: io.clock.random(),
            log_id: (at.seq > 0).then_some(at.log_id),
            after_seq: at.seq,
            chain: at.chain,
            events_max: REPAIR_EVENTS_MAX,
            points: self.points(io)?,
        };
        let (message, timeout_nanos) = (question.message(&from.owner), REPAIR_TIMEOUT.as_nanos() as u64);
        if let Ok(ticket) = io.submit(self.route, Operation::Ask { message, timeout_nanos }) {
            self.asking = Some(Asking { ticket, question, parts: Vec::new() });
            self.repair.asked += 1;
            self.repair.is_asking = true;
        }
        self.ask_at = io.after(REPAIR_TIMEOUT);
        Ok(())
    }

    /// Earlier places of this generation, dense near its newest and ever sparser before: appends carry them.
    fn points(&self, io: &Io<'_>) -> Result<Vec<Point>, EventsError> {
        let source = self.source();
        let mut points: Vec<Point> = Vec::new();
        let mut below = Position::new(u64::MAX);
        let mut step = 1;
        while points.len() + 1 < REPAIR_POINTS_MAX {
            let found = io.events.import_cursors(&source, below, 1)?;
            let Some((cursor, position)) = found.first() else { break };
            points.push(Point { seq: cursor.seq, chain: cursor.chain });
            if points.len() >= REPAIR_POINTS_MAX / 4 {
                step *= 2;
            }
            below = Position::new(position.get().saturating_sub(step - 1));
        }
        if let Some(place) = &self.decisions.begins_at {
            points.push(Point { seq: place.seq, chain: place.chain });
        }
        Ok(points)
    }

    /// A part of the answer, or its end.
    pub(super) fn answered(&mut self, ticket: Ticket, message: &Message, last: bool, io: &mut Io<'_>) {
        let Some(asking) = self.asking.as_mut().filter(|asking| asking.ticket == ticket) else { return };
        if !End::is_end(message) {
            if let Ok(Received::Event(envelope)) = from_message(message)
                && asking.parts.len() < REPAIR_EVENTS_MAX
            {
                asking.parts.push(*envelope);
            }
            if !last {
                return;
            }
        }
        let asking = self.asking.take().expect("it was there just now");
        self.repair.is_asking = false;
        self.heard_at = io.now_unix_nanos;
        let end = match End::read(&message.payload) {
            Ok(end) => end,
            Err(invalid) => return self.ask_later(&invalid.0, io),
        };
        self.ended(asking, end.0, end.1, io);
    }

    /// The question came to nothing.
    pub(super) fn unanswered(&mut self, ticket: Ticket, why: &str, io: &Io<'_>) {
        if self.asking.as_ref().is_some_and(|asking| asking.ticket == ticket) {
            self.asking = None;
            self.repair.is_asking = false;
            // What the bus held before may be there again, or what was passed over by it.
            (self.bus_after, self.is_at_end, self.is_rescanning) = (0, false, true);
            self.ask_later(why, io);
        }
    }

    pub(super) fn ask_later(&mut self, why: &str, io: &Io<'_>) {
        self.repair.last_error = Some(why.to_owned());
        let (least, most) = REPAIR_RETRY;
        let wait = least.saturating_mul(1 << self.failed_asks.min(5)).min(most);
        self.failed_asks += 1;
        let jitter = (io.clock.random() as u64 % (wait.as_nanos() as u64 / 4 + 1)) as i64;
        self.ask_at = io.after(wait).saturating_sub(jitter);
    }

    fn ended(
        &mut self,
        asking: Asking,
        end: End,
        signature: Option<([u8; 32], crate::mesh::envelope::Signature)>,
        io: &mut Io<'_>,
    ) {
        let Some((definition, signature)) = signature else {
            let why = end.reason.unwrap_or_else(|| "the end of the answer is not signed".into());
            return self.ask_later(&format!("the owner does not answer this node: {why}"), io);
        };
        let from = self.import.from().clone();
        let covered = end.covered(&definition, &asking.question);
        if let Err(error) = io.verify(&from, &covered, &end.place, &signature) {
            return self.ask_later(&format!("the end of the answer is not the owner's: {error}"), io);
        }
        let is_same_place =
            asking.question.after_seq == self.accepted.seq && asking.question.chain == self.accepted.chain;
        if !is_same_place {
            self.ask_at = io.now_unix_nanos;
            return;
        }
        self.owner_seq = self.owner_seq.max(end.place.seq);
        if end.outcome == Outcome::Parts {
            return self.parted(&end, io);
        }
        self.pending.clear();
        for envelope in asking.parts {
            let is_ours = envelope.name == from;
            if is_ours {
                let _known: Option<Trouble> = self.pending.add(&self.accepted, envelope, io.sabotage);
            }
        }
        let before = self.accepted.seq;
        let trouble = self.take_over(io);
        self.repair.events += self.accepted.seq - before;
        if self.stop.as_ref().is_some_and(|stop| !stop.reason.is_repairable()) {
            return;
        }
        if self.accepted.seq >= end.place.seq && trouble.is_none() {
            self.failed_asks = 0;
            self.repair.last_error = None;
            if end.is_all {
                // Nothing of what the bus shows beyond this is the owner's word any more.
                self.pending.clear();
                self.recovered(io);
            } else {
                self.ask_at = io.now_unix_nanos;
            }
        } else if self.accepted.seq > before {
            self.failed_asks = 0;
            self.ask_at = io.now_unix_nanos;
        } else {
            let why = trouble.map_or("parts of the answer were lost".to_owned(), |trouble| trouble.message);
            self.ask_later(&why, io);
        }
    }

    /// The owner no longer has the import's place.
    fn parted(&mut self, end: &End, io: &Io<'_>) {
        if io.has(Sabotage::IgnoreStaleEpoch) {
            self.recovered(io);
            return;
        }
        let matched = end.matched.clone();
        let (seq, position) =
            matched.as_ref().map_or((0, Position::ZERO), |place| (place.seq, place.position));
        let at = self.accepted.clone();
        let message = format!(
            "the owner's log no longer has event {} at position {} of epoch {}: it was restored from an older copy, or \
             begun anew; both have event {seq} at position {position}, and the owner has come to event {} at position \
             {}; `outrigger mesh resync {}` goes on from there and keeps what was imported",
            at.seq,
            at.position,
            at.epoch,
            end.place.seq,
            end.place.position,
            self.import.name()
        );
        self.stop(StopReason::StaleEpoch, message, &at, io);
        if let Some(stop) = &mut self.stop {
            stop.divergence = Some(Divergence { seq, position, owner_seq: end.place.seq });
        }
        self.matched = Some(matched.unwrap_or_else(|| Place::start(end.place.log_id, end.place.epoch)));
    }
}
