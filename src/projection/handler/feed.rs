//! What the runner of a service's version does in a step: takes in what workers say, looks ahead in the log, applies
//! answers in order, gives out events.
//!
//! Reading order: this file, `workers` (who is there), `ahead` (what is looked at), `late` (parked events that come
//! again). Invariants: what is applied follows the batch's cursor without gaps, types that are not listed included; nothing
//! here waits; what is kept of the log and of answers is bounded. Does not commit, and does not know calls.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

mod ahead;
mod late;
mod workers;

use late::Late;

use super::{
    dispatch::{Dispatch, Given, WorkerId},
    emit::{EmitError, Emitter},
    hub::{Ended, Inbox, Read, ToWorker},
    transaction::{Answer, TransactionError},
};
use crate::{
    event::{Position, RecordedEvent, StreamId},
    kv::KvError,
    limits::{HANDLER_CANCELLATIONS_MAX, HANDLER_READ_BYTES_MAX},
    log::LogReader,
    projection::{
        batch::{Batch, StaleRead},
        definition::Definition,
        failure::Pause,
    },
};

/// Why the next event was not applied, or the log not read.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// The event cannot be handled; it is the next one behind the cursor that is not applied.
    Event(Box<RecordedEvent>, String),
    /// It stands still before the next event.
    Pause(Box<Pause>),
    /// The version's file failed.
    File(KvError),
    /// The log could not be read.
    Log(String),
}

impl From<KvError> for FeedError {
    fn from(error: KvError) -> Self {
        Self::File(error)
    }
}

impl From<Box<Pause>> for FeedError {
    fn from(pause: Box<Pause>) -> Self {
        Self::Pause(pause)
    }
}

/// Passes the event behind the cursor by if a decision or the quarantine of its stream says so; whether it did.
pub(crate) type PassBy<'a> = dyn Fn(&mut Batch, &RecordedEvent) -> Result<bool, Box<Pause>> + 'a;

/// What a step stands on.
pub(crate) struct Ground<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) reader: &'a LogReader,
    pub(crate) upto: Position,
    pub(crate) room: Room,
    /// The stream of the projection's decisions: each is carried out when all before it is applied.
    pub(crate) decisions: &'a StreamId,
    pub(crate) pass_by: &'a PassBy<'a>,
}

/// How much one step may apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Events in the batch.
    pub(crate) events_max: u64,
    /// Bytes of changed documents in the batch.
    pub(crate) bytes_max: usize,
}

impl Room {
    fn is_used(self, batch: &Batch) -> bool {
        batch.events() >= self.events_max || batch.bytes() >= self.bytes_max || batch.is_full()
    }
}

/// The workers of one version and what they have to do.
#[derive(Debug)]
pub(crate) struct Feed {
    inbox: Inbox,
    dispatch: Dispatch<Answer>,
    workers: HashMap<WorkerId, Attached>,
    /// The handled events that are looked at and not applied.
    window: VecDeque<Looked>,
    window_bytes: usize,
    /// The log is looked at up to here.
    looked: Position,
    /// The decision about the projection right behind that.
    decision: Option<Box<RecordedEvent>>,
    /// Parked events that come again because of it.
    late: Option<Late>,
    reads: VecDeque<(WorkerId, Read)>,
    /// Workers that have gone, and may have said something before.
    gone: Vec<WorkerId>,
    emitter: Emitter,
    /// Times are since then.
    started: Instant,
}

/// An event that is looked at.
#[derive(Debug)]
struct Looked {
    event: RecordedEvent,
    bytes: usize,
    /// Its stream is parked, so no worker gets it.
    is_parked: bool,
}

#[derive(Debug)]
struct Attached {
    name: String,
    deadline: Duration,
    outbox: mpsc::Sender<ToWorker>,
    /// It was given events or documents since it was last told to forget all.
    remembers: bool,
}

impl Feed {
    pub(crate) fn new(inbox: Inbox, emitter: Emitter) -> Self {
        Self {
            inbox,
            dispatch: Dispatch::default(),
            workers: HashMap::new(),
            window: VecDeque::new(),
            window_bytes: 0,
            looked: Position::ZERO,
            decision: None,
            late: None,
            reads: VecDeque::new(),
            gone: Vec::new(),
            emitter,
            started: Instant::now(),
        }
    }

    /// The documents stand at this position: everything begins there.
    pub(crate) fn begin(&mut self, cursor: Position) {
        self.emitter.begin();
        if self.looked == cursor && self.window.is_empty() && self.late.is_none() {
            return;
        }
        self.look_again(cursor);
        self.reads.clear();
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for worker in workers {
            self.end(worker, Ended::Rewound);
        }
    }

    /// Applies to the batch what is answered, and gives out nothing above the end. Whether there is more to do at once.
    pub(crate) fn fill(&mut self, batch: &mut Batch, ground: &Ground<'_>) -> Result<bool, FeedError> {
        self.dispatch.bound(ground.upto);
        let more = self.take_messages(batch.cursor(), ground.upto);
        self.end_silent();
        let mut moves = true;
        while moves {
            moves = if self.late.is_some() {
                self.go_on_late(batch, ground)?
            } else {
                let looked = self.look_ahead(batch, ground)?;
                self.apply(batch, ground)? || looked
            };
        }
        self.answer_reads(batch)?;
        self.give(batch.cursor());
        Ok(more || batch.events() > 0 && ground.room.is_used(batch))
    }

    /// Makes what the applied events emit durable; nothing may be committed before. On an error, which says why in words,
    /// it can be tried again.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        for cause in self.emitter.settle()? {
            self.report_difference(cause);
        }
        Ok(())
    }

    /// Whether everything that applied events emit is durable.
    pub(crate) fn is_settled(&self) -> bool {
        !self.emitter.is_waiting()
    }

    fn report_difference(&self, cause: Position) {
        tracing::warn!(%cause, "a handler emits something else than it did before for this event; the log stands");
        self.inbox.hub.counts.emission_differences.fetch_add(1, Ordering::Relaxed);
    }

    /// How long nothing has to be done here, if nobody says anything.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.dispatch.next_deadline().map(|deadline| deadline.saturating_sub(self.now()))
    }

    /// The version stands still for this reason: whoever came meanwhile learns it, and so do the others.
    pub(crate) fn turn_away(&mut self, applied: Position, head: Position, reason: &str) {
        while self.take_messages(applied, head) {}
        self.stop(reason);
    }

    /// The version does not go on, for this reason.
    pub(crate) fn stop(&mut self, reason: &str) {
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for worker in workers {
            self.end(worker, Ended::Stopped(reason.to_owned()));
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Applies what is answered up to the end and passes what needs no answer. Whether the batch came further.
    fn apply(&mut self, batch: &mut Batch, ground: &Ground<'_>) -> Result<bool, FeedError> {
        let before = batch.cursor();
        // One event goes in always: what makes the batch full is handed over with it.
        while batch.events() == 0 || !ground.room.is_used(batch) {
            let Some(Looked { event, is_parked, .. }) = self.window.front() else {
                batch.pass_to(self.looked.min(ground.upto));
                break;
            };
            if event.position > ground.upto {
                batch.pass_to(ground.upto);
                break;
            }
            batch.pass_to(Position::new(event.position.get() - 1));
            if (ground.pass_by)(batch, event)? {
                self.pass_first();
                continue;
            }
            assert!(!is_parked, "streams are released at decisions, which the window does not reach beyond");
            if !self.apply_first(batch, None)? {
                break;
            }
        }
        Ok(batch.cursor() > before)
    }

    /// Applies the first event's answer, if it has one that holds, late where `late_at` says so. Whether it did.
    fn apply_first(&mut self, batch: &mut Batch, late_at: Option<Position>) -> Result<bool, FeedError> {
        let event = &self.window.front().expect("the caller looked at it").event;
        let position = event.position;
        let Some((at, Some(answer))) = self.dispatch.front() else {
            return Ok(false);
        };
        assert_eq!(at, position, "the window and the dispatch hold the same events");
        let stale = match answer {
            Answer::Failure(failure) => {
                let error = event_error(event, failure);
                self.refuse(position, "the event failed");
                return Err(error);
            }
            Answer::Transaction(transaction) => batch.stale_read(&transaction.reads)?,
        };
        if let Some(stale) = stale {
            self.cancel(&stale)?;
            return Ok(false);
        }
        if let Err(error) = self.take_in(batch, position, late_at) {
            self.refuse(position, "the answer could not be applied");
            return Err(error);
        }
        Ok(true)
    }

    /// The first event's transaction, whose reads hold, goes into the batch.
    fn take_in(
        &mut self,
        batch: &mut Batch,
        position: Position,
        late_at: Option<Position>,
    ) -> Result<(), FeedError> {
        let Some(Answer::Transaction(transaction)) = self.dispatch.take_answer() else {
            unreachable!("it was looked at just now");
        };
        let cause = &self.window.front().expect("the event that was answered is there").event;
        let prepared = self.emitter.prepare(cause, transaction.emits, late_at.is_some());
        let (emission, differs) = prepared.map_err(|error| match error {
            EmitError::Fault(fault) => event_error(cause, &fault),
            EmitError::Log(error) => FeedError::Log(format!("emitting events: {error}")),
        })?;
        let applied = match late_at {
            None => batch.apply_transaction(position, transaction.steps),
            Some(at) => batch.apply_transaction_late(position, at, transaction.steps),
        };
        match applied {
            Ok(()) => {}
            Err(TransactionError::Fault(fault)) => return Err(event_error(cause, &fault)),
            Err(TransactionError::Store(failure)) => {
                return Err(FeedError::File(match failure.downcast::<KvError>() {
                    Ok(error) => *error,
                    Err(failure) => KvError::Io(failure.to_string()),
                }));
            }
        }
        if let Some(emission) = emission {
            self.emitter.emit(emission);
        }
        if differs {
            self.report_difference(position);
        }
        self.dispatch.applied();
        let looked = self.window.pop_front().expect("the event that was answered is there");
        self.window_bytes -= looked.bytes;
        Ok(())
    }

    /// The batch has passed the first event, which needs no answer any more.
    pub(crate) fn pass_first(&mut self) {
        let Some(Looked { event, bytes, is_parked }) = self.window.pop_front() else {
            return;
        };
        self.window_bytes -= bytes;
        if is_parked {
            return;
        }
        if let Some(worker) = self.dispatch.skipped() {
            let reason = format!("the event at position {} is skipped", event.position);
            self.tell(worker, ToWorker::Cancelled { from: event.position, reason });
        }
    }

    /// The first event's answer does not count: the event comes again, if it does.
    fn refuse(&mut self, position: Position, reason: &str) {
        if let Some(worker) = self.dispatch.refused() {
            self.tell(worker, ToWorker::Cancelled { from: position, reason: reason.to_owned() });
        }
    }

    /// The first event's answer rests on a document that has changed.
    fn cancel(&mut self, stale: &StaleRead) -> Result<(), FeedError> {
        let Looked { event, .. } = self.window.front().expect("the event that was answered is there");
        let position = event.position;
        let reason = format!("the answer to position {position}: {stale}");
        self.inbox.hub.counts.cancellations.fetch_add(1, Ordering::Relaxed);
        match self.dispatch.stale() {
            Ok(worker) => {
                self.tell(worker, ToWorker::Cancelled { from: position, reason });
                Ok(())
            }
            Err(worker) => {
                let often =
                    format!("{reason}; its answers were stale {HANDLER_CANCELLATIONS_MAX} times in a row");
                let error = event_error(event, &often);
                self.tell(worker, ToWorker::Cancelled { from: position, reason });
                Err(error)
            }
        }
    }

    /// What workers want to see, as of the last event that is applied.
    fn answer_reads(&mut self, batch: &mut Batch) -> Result<(), FeedError> {
        while let Some((worker, read)) = self.reads.pop_front() {
            let mut documents = Vec::with_capacity(read.documents.len());
            let mut bytes = 0;
            for (collection, key) in &read.documents {
                let document = batch.document(*collection, key)?;
                bytes += document.as_ref().map_or(0, |(_, text)| text.len());
                documents.push(document);
            }
            if bytes > HANDLER_READ_BYTES_MAX && documents.len() > 1 {
                self.end(worker, Ended::ReadTooLarge(HANDLER_READ_BYTES_MAX));
            } else {
                let as_of = self.late_at().unwrap_or(batch.cursor());
                self.tell(worker, read.answer(as_of, documents));
            }
        }
        Ok(())
    }

    fn give(&mut self, applied: Position) {
        for Given { worker, run, first, last } in self.dispatch.give(self.now()) {
            let begin = self.window.partition_point(|looked| looked.event.position < first);
            let run_events = self.window.range(begin..).take_while(|looked| looked.event.position <= last);
            let given = run_events.filter(|looked| !looked.is_parked);
            let events = given.map(|looked| looked.event.clone()).collect();
            self.tell(worker, ToWorker::Run { run, applied, late_at: self.late_at(), events });
        }
        self.count();
    }

    fn count(&self) {
        let counts = &self.inbox.hub.counts;
        counts.workers.store(self.workers.len() as u64, Ordering::Relaxed);
        counts.runs.store(self.dispatch.runs_out() as u64, Ordering::Relaxed);
    }
}

fn event_error(event: &RecordedEvent, reason: &str) -> FeedError {
    FeedError::Event(Box::new(event.clone()), reason.to_owned())
}
