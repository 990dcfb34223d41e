//! An import's side of repair: when it asks, what it asks, and what it believes of the answer.
//!
//! Invariants: one question at a time; nothing of an answer is believed but what the chain and the owner's signature
//! prove, and that the import's place is gone only if the owner says so under this question's nonce.

use super::{Inbox, Trouble};
use crate::{
    event::{Invalid, Position},
    events::EventsError,
    kv::Persistence,
    limits::{REPAIR_EVENTS_MAX, REPAIR_POINTS_MAX, REPAIR_RETRY, REPAIR_TIMEOUT},
    mesh::{
        bus::{Message, Operation, Ticket},
        envelope::{Envelope, Place},
        io::Io,
        repair::{End, Outcome, Point, Question, unpack},
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
    /// It asks for much, and nothing is wrong.
    pub(super) is_bulk: bool,
}

impl Inbox {
    /// Asks the owner for what follows the import's place.
    pub(super) fn ask(&mut self, io: &mut Io<'_>) -> Result<(), EventsError> {
        let points = self.points(io)?;
        let at = self.accepted.clone();
        self.ask_from(&at, points, false, io);
        Ok(())
    }

    /// Asks for what follows a place.
    pub(super) fn ask_from(&mut self, at: &Place, points: Vec<Point>, is_bulk: bool, io: &mut Io<'_>) {
        let from = self.import.from();
        let question = Question {
            export: from.export.clone(),
            version: from.version,
            importer: io.node.to_owned(),
            nonce: io.clock.random(),
            log_id: (at.seq > 0).then_some(at.log_id),
            after_seq: at.seq,
            chain: at.chain,
            events_max: REPAIR_EVENTS_MAX,
            points,
        };
        let (message, timeout_nanos) = (question.message(&from.owner), REPAIR_TIMEOUT.as_nanos() as u64);
        if let Ok(ticket) = io.submit(self.route, Operation::Ask { message, timeout_nanos }) {
            self.asking = Some(Asking { ticket, question, parts: Vec::new(), is_bulk });
            self.repair.asked += 1;
            self.repair.is_asking = !is_bulk;
        }
        self.ask_at = io.after(REPAIR_TIMEOUT);
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
            match unpack(self.import.from(), message.payload.clone()) {
                Ok(envelopes) if asking.parts.len() + envelopes.len() <= REPAIR_EVENTS_MAX => {
                    asking.parts.extend(envelopes);
                }
                Ok(_) => self.last_error = Some("an answer with more events than were asked for".into()),
                Err(Invalid(why)) => {
                    self.last_error = Some(format!("a part of an answer is passed over: {why}"));
                }
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
            let was_bulk = self.asking.take().is_some_and(|asking| asking.is_bulk);
            self.repair.is_asking = false;
            if was_bulk && self.stop.is_none() {
                self.end_bulk(why, io);
                return;
            }
            // What the bus held before may be there again, or what was passed over by it.
            (self.bus_after, self.is_at_end, self.is_rescanning) = (0, false, true);
            self.ask_later(why, io);
        }
    }

    pub(super) fn ask_later(&mut self, why: &str, io: &Io<'_>) {
        self.repair.last_error = Some(why.to_owned());
        self.end_bulk(why, io);
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
        self.owner_seq =
            self.owner_seq.max(end.place.seq).max(end.published.map_or(0, |published| published.seq));
        if end.outcome == Outcome::Parts {
            if asking.is_bulk {
                // Asked again, with earlier places: the owner can tell then where they part.
                self.end_bulk("the owner does not have the import's place", io);
                (self.heard_at, self.ask_at) = (i64::MIN, io.now_unix_nanos);
                return;
            }
            return self.parted(&end, io);
        }
        self.pending.clear();
        for envelope in asking.parts {
            let is_ours = envelope.name == from;
            if is_ours {
                let _known: Option<Trouble> = self.pending.add(&self.accepted, envelope, io.sabotage);
            }
        }
        if !end.is_all && self.wants_bulk() && self.may_append() {
            // The next answer is made while this one is taken over.
            self.ask_from(&end.place, Vec::new(), true, io);
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
                self.caught_up(end.published);
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
        // The bus may still have the past that the owner gave up, under valid signatures: after a resync none of it is read
        // again, and what lies between comes from the owner's log. Where the newer copy comes back instead, nothing is missed
        // either: all of it was read.
        let name = self.import.name();
        if let Err(error) = io.store.keep_read(name, self.bus_after, seq, Persistence::Durable) {
            tracing::warn!(import = name, %error, "the place on the bus is not kept; a resync may have to be repeated");
        }
        if let Some(stop) = &mut self.stop {
            stop.divergence = Some(Divergence { seq, position, owner_seq: end.place.seq });
        }
        self.matched = Some(matched.unwrap_or_else(|| Place::start(end.place.log_id, end.place.epoch)));
    }
}
