//! Repair: an importer asks the owner for what the bus does not give, and gets it from the owner's log.
//!
//! Owns the form of questions and answers (`form`, `pack`) and the owner's side. The events of an answer are the same,
//! byte for byte in all that the chain covers, since they come through the same pipeline; the answer's end is signed
//! together with the question's nonce, so that an old answer proves nothing. Invariants: at most a fixed number of
//! questions wait, each is answered in bounded parts and at a bounded rate; only those whom the export allows are
//! answered. Does not know what importers do with it.

mod form;
mod pack;

pub use form::{End, Outcome, Point, Published, Question, ask_subject, serve_filter};
pub(crate) use pack::unpack;

use std::{collections::VecDeque, sync::Arc};

use super::{
    bus::{BusEvent, Message, Operation, Ticket},
    definition::Export,
    envelope::{ExportName, Place},
    io::{Io, Next, Route},
    pipeline::{Pipeline, PipelineError},
};
use crate::{
    event::Position,
    limits::{
        BUS_RETRY, EXPORT_CHUNK_RECORDS, REPAIR_BYTES_MAX, REPAIR_EVENTS_MAX, REPAIR_EVENTS_PER_SECOND,
        REPAIR_QUEUE_MAX, REPAIR_TIMEOUT,
    },
};

/// Answers those who ask this node.
#[derive(Debug, Default)]
pub struct Repairs {
    serving: Option<Ticket>,
    retry_at: i64,
    waiting: VecDeque<(Ticket, Question, i64)>,
    current: Option<Answering>,
    /// Parts that the bus did not take yet.
    unsent: VecDeque<(Ticket, Message, bool)>,
    /// Events that may be served now, by the rate bound, and as of when.
    allowance: u64,
    allowed_at: i64,
    /// Where the last answer ended: who asks for what follows need not wait until it is found again.
    kept: Option<Pipeline>,
}

/// What the outboxes know of an export, for those who answer for it.
#[derive(Debug)]
pub struct Served {
    /// The definition.
    pub export: Arc<Export>,
    /// How far it is published, if that is known.
    pub published: Option<Published>,
}

/// An answer in the making.
#[derive(Debug)]
struct Answering {
    asked: Ticket,
    question: Question,
    /// Reads up to the place asked for, then on.
    pipeline: Pipeline,
    /// Points of the question that are still to be compared, lowest first.
    points: VecDeque<Point>,
    matched: Option<Place>,
    is_found: bool,
    sent: usize,
    bytes: usize,
    deadline: i64,
}

impl Repairs {
    /// What comes of its operations.
    pub fn on_event(&mut self, event: &BusEvent, io: &Io<'_>) {
        match event {
            BusEvent::Asked { asked, message, .. } => match Question::read(&message.payload) {
                Ok(question) if self.waiting.len() < REPAIR_QUEUE_MAX => {
                    self.waiting.push_back((*asked, question, io.after(REPAIR_TIMEOUT)));
                }
                // Whoever asks hears nothing and asks again.
                Ok(_) => tracing::warn!("more repairs are asked for than wait; one is not answered"),
                Err(error) => tracing::warn!(%error, "a question that cannot be read is not answered"),
            },
            BusEvent::Failed { ticket, .. } | BusEvent::Forgotten { ticket }
                if self.serving == Some(*ticket) =>
            {
                self.serving = None;
                self.retry_at = io.after(BUS_RETRY);
            }
            _ => {}
        }
    }

    /// Goes on as far as it can without waiting. Counts parts served, by export.
    pub fn step(
        &mut self,
        io: &mut Io<'_>,
        exports: &[Served],
        served: &mut dyn FnMut(&ExportName),
    ) -> Result<Next, PipelineError> {
        if self.serving.is_none() && !exports.is_empty() {
            if io.now_unix_nanos < self.retry_at {
                return Ok(Next::At(self.retry_at));
            }
            self.serving = io.submit(Route::Repair, Operation::Serve { filter: serve_filter(io.node) }).ok();
        }
        self.refill(io.now_unix_nanos);
        if !self.flush(io) {
            return Ok(Next::At(io.after(BUS_RETRY / 10)));
        }
        let mut answering = match self.current.take() {
            Some(answering) => answering,
            None => match self.next(io, exports) {
                Some(answering) => answering,
                None => return Ok(Next::At(i64::MAX)),
            },
        };
        if io.now_unix_nanos > answering.deadline {
            return Ok(Next::Now);
        }
        if self.allowance == 0 {
            self.current = Some(answering);
            return Ok(Next::At(io.after(BUS_RETRY / 20)));
        }
        let is_over = self.go_on(&mut answering, io, exports)?;
        if is_over {
            served(answering.pipeline.name());
            drop(answering.pipeline.take_checkpoints());
            self.kept = Some(answering.pipeline);
        } else {
            self.current = Some(answering);
        }
        Ok(Next::Now)
    }

    fn refill(&mut self, now: i64) {
        let passed = now.saturating_sub(self.allowed_at).max(0) as u64;
        let more = (u128::from(passed) * u128::from(REPAIR_EVENTS_PER_SECOND) / 1_000_000_000) as u64;
        if more > 0 {
            self.allowance = (self.allowance + more).min(REPAIR_EVENTS_PER_SECOND);
            self.allowed_at = now;
        }
    }

    /// Takes up the next question that this node may answer.
    fn next(&mut self, io: &Io<'_>, exports: &[Served]) -> Option<Answering> {
        while let Some((asked, question, deadline)) = self.waiting.pop_front() {
            let mut exports = exports.iter().map(|served| &served.export);
            let named = exports.find(|e| e.name() == question.export && e.version() == question.version);
            let Some(export) = named.filter(|export| export.allows(&question.importer)) else {
                let what = if named.is_some() { "is not on its list of importers" } else { "does not exist" };
                let reason = format!("{} v{}: {what}", question.export, question.version);
                self.unsent.push_back((asked, End::refused(&reason).message(&question), true));
                continue;
            };
            let pipeline = self.kept.take().filter(|kept| {
                let is_same = kept.export().hash() == export.hash() && kept.export().name() == export.name();
                is_same && question.points.is_empty() && kept.place().seq == question.after_seq
            });
            let begin = || Pipeline::new(Arc::clone(export), io.node, io.events.log(), io.sabotage);
            let pipeline = pipeline.unwrap_or_else(begin);
            let mut points: Vec<Point> = question.points.clone();
            points.sort_by_key(|point| point.seq);
            return Some(Answering {
                asked,
                pipeline,
                points: points.into(),
                matched: None,
                is_found: false,
                sent: 0,
                bytes: 0,
                question,
                deadline,
            });
        }
        None
    }

    /// One bounded stretch of an answer; whether it is over.
    fn go_on(
        &mut self,
        answering: &mut Answering,
        io: &mut Io<'_>,
        exports: &[Served],
    ) -> Result<bool, PipelineError> {
        let (log, head) = (io.events.log().clone(), io.events.head().get());
        if !answering.is_found {
            return self.find(answering, io, head, exports);
        }
        let messages_max = (REPAIR_EVENTS_MAX - answering.sent).min(self.allowance as usize).min(256);
        let mut batch = answering.pipeline.run(&log, head, messages_max, u64::MAX)?;
        if let Some(last) = batch.last_mut() {
            last.signature = Some(io.key.sign(&last.name, &last.definition, &last.place));
        }
        answering.sent += batch.len();
        self.allowance -= (batch.len() as u64).min(self.allowance);
        answering.bytes += batch.iter().map(|envelope| envelope.event.data.len()).sum::<usize>();
        for pack in pack::pack(batch) {
            let message = form::events_message(&answering.question.importer, pack);
            self.unsent.push_back((answering.asked, message, false));
        }
        let is_over = answering.pipeline.position() >= head
            || answering.sent >= REPAIR_EVENTS_MAX.min(answering.question.events_max)
            || answering.bytes >= REPAIR_BYTES_MAX;
        if is_over {
            self.end(answering, io, Outcome::Continues, exports);
        }
        Ok(is_over)
    }

    /// Seeks the place asked for, comparing the points below it on the way.
    fn find(
        &mut self,
        answering: &mut Answering,
        io: &Io<'_>,
        head: Position,
        exports: &[Served],
    ) -> Result<bool, PipelineError> {
        let log = io.events.log();
        let wanted = Point { seq: answering.question.after_seq, chain: answering.question.chain };
        let target =
            answering.points.front().copied().filter(|point| point.seq < wanted.seq).unwrap_or(wanted);
        let Answering { pipeline, .. } = answering;
        // Checkpoints shorten the way; between two of them it is read.
        if pipeline.place().seq + (EXPORT_CHUNK_RECORDS as u64) < target.seq {
            let before = pipeline.place().seq;
            pipeline.seek(io.store, log, target.seq)?;
            if pipeline.place().seq < before {
                pipeline.seek(io.store, log, before)?;
            }
        }
        pipeline.run(log, head, EXPORT_CHUNK_RECORDS, target.seq)?;
        let is_at_end = pipeline.position() >= head;
        if pipeline.place().seq < target.seq && !is_at_end {
            return Ok(false);
        }
        let place = pipeline.place().clone();
        let holds = place.seq == target.seq && place.chain == target.chain;
        let is_other_log =
            answering.question.log_id.is_some_and(|asked| asked != place.log_id) && wanted.seq > 0;
        if target.seq < wanted.seq {
            if holds && !is_other_log {
                answering.matched = Some(place);
                answering.points.pop_front();
                return Ok(false);
            }
            // Higher points cannot hold either.
            self.end(answering, io, Outcome::Parts, exports);
            return Ok(true);
        }
        if holds && !is_other_log {
            answering.is_found = true;
            return Ok(false);
        }
        self.end(answering, io, Outcome::Parts, exports);
        Ok(true)
    }

    fn end(&mut self, answering: &mut Answering, io: &Io<'_>, outcome: Outcome, exports: &[Served]) {
        let place = answering.pipeline.place().clone();
        let head = answering.pipeline.position() >= io.events.head().get();
        let is_of = |served: &&Served| Arc::ptr_eq(&served.export, answering.pipeline.export());
        let published = exports.iter().find(is_of).and_then(|served| served.published);
        let end =
            End { outcome, place, is_all: head, matched: answering.matched.clone(), reason: None, published };
        let (name, definition) = (answering.pipeline.name(), answering.pipeline.export().hash());
        let message = end.signed(io.key, name, definition, &answering.question);
        self.unsent.push_back((answering.asked, message, true));
    }

    /// Hands parts to the bus; whether it took all.
    fn flush(&mut self, io: &mut Io<'_>) -> bool {
        while let Some((asked, message, last)) = self.unsent.pop_front() {
            let operation = Operation::Answer { asked, message: message.clone(), last };
            if io.submit(Route::Repair, operation).is_err() {
                self.unsent.push_front((asked, message, last));
                return false;
            }
        }
        true
    }
}
