//! What the runner of a service's version does in a step: takes in what workers say, looks ahead in the log, applies
//! answers in order, gives out events.
//!
//! Invariants: what is applied follows the batch's cursor without gaps, types that are not listed included; nothing
//! here waits; what is kept of the log and of answers is bounded. Does not commit, and does not know calls.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    dispatch::{Dispatch, Given, WorkerId},
    emit::{EmitError, Emitter},
    hub::{Attach, Ended, Inbox, Message, Read, ToWorker, WorkerAnswer},
    transaction::{Answer, TransactionError},
};
use crate::{
    event::{Position, RecordedEvent},
    kv::KvError,
    limits::{
        FOLLOW_SCAN_BYTES_MAX, FOLLOW_SCAN_EVENTS_MAX, HANDLER_AHEAD_BYTES_MAX, HANDLER_AHEAD_EVENTS_MAX,
        HANDLER_CANCELLATIONS_MAX, HANDLER_READ_BYTES_MAX, HANDLER_STEP_MESSAGES_MAX, HANDLER_WORKERS_MAX,
    },
    log::LogReader,
    projection::{
        batch::{Batch, StaleRead},
        definition::Definition,
    },
};

/// Why the next event was not applied, or the log not read.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// The event cannot be handled; it is the next one behind the cursor that is not applied.
    Event(Box<RecordedEvent>, String),
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

/// Passes the event behind the cursor by if that is decided; whether it did.
pub(crate) type PassBy<'a> = dyn Fn(&mut Batch, Position) -> bool + 'a;

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
}

#[derive(Debug)]
struct Attached {
    name: String,
    deadline: Duration,
    outbox: mpsc::Sender<ToWorker>,
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
            reads: VecDeque::new(),
            gone: Vec::new(),
            emitter,
            started: Instant::now(),
        }
    }

    /// The documents stand at this position: everything begins there.
    pub(crate) fn begin(&mut self, cursor: Position) {
        self.emitter.begin();
        if self.looked == cursor && self.window.is_empty() {
            return;
        }
        self.looked = cursor;
        self.window.clear();
        self.window_bytes = 0;
        self.dispatch.clear();
        self.reads.clear();
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for worker in workers {
            self.end(worker, Ended::Rewound);
        }
    }

    /// Applies to the batch what is answered up to `upto`, and gives out nothing above it. Whether there is more to do at
    /// once.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        definition: &Definition,
        reader: &LogReader,
        upto: Position,
        room: Room,
        pass_by: &PassBy<'_>,
    ) -> Result<bool, FeedError> {
        self.dispatch.bound(upto);
        let more = self.take_messages(batch.cursor(), upto);
        self.end_silent();
        let mut moves = true;
        while moves {
            moves = self.look_ahead(definition, reader, upto)?;
            moves |= self.apply(batch, upto, room, pass_by)?;
        }
        self.answer_reads(batch)?;
        self.give(batch.cursor());
        Ok(more || batch.events() > 0 && room.is_used(batch))
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

    /// Whether there may be more messages.
    fn take_messages(&mut self, applied: Position, head: Position) -> bool {
        self.gone.extend(self.inbox.gone());
        let mut taken = 0;
        while let Some((worker, message)) = self.inbox.next() {
            self.take(worker, message, applied, head);
            taken += 1;
            if taken == HANDLER_STEP_MESSAGES_MAX {
                return true;
            }
        }
        // What they had to say has been taken in.
        for worker in std::mem::take(&mut self.gone) {
            self.lose(worker);
        }
        false
    }

    fn take(&mut self, worker: WorkerId, message: Message, applied: Position, head: Position) {
        let now = self.now();
        match message {
            Message::Attach(attach) => self.attach(worker, attach, applied, head),
            Message::Credits(credits) => self.dispatch.credits(worker, credits, now),
            Message::Answers(answers) => {
                self.dispatch.heard(worker, now);
                for WorkerAnswer { run, position, answer, bytes } in answers {
                    if let Err(violation) = self.dispatch.answer(worker, run, position, answer, bytes) {
                        return self.end(worker, violation.into());
                    }
                }
            }
            Message::Read(read) => {
                self.dispatch.heard(worker, now);
                self.reads.push_back((worker, read));
            }
        }
    }

    fn attach(&mut self, worker: WorkerId, attach: Attach, applied: Position, head: Position) {
        let now = self.now();
        let (credits, deadline) = (attach.credits, attach.deadline);
        let (name, outbox) = attach.into_parts();
        let same = self.workers.iter().find(|(_, other)| other.name == name).map(|(id, _)| *id);
        if let Some(older) = same {
            self.end(older, Ended::Replaced);
        }
        let is_full = self.workers.len() >= HANDLER_WORKERS_MAX;
        tracing::info!(worker = %name, credits, "a worker attaches");
        self.workers.insert(worker, Attached { name, deadline, outbox });
        if is_full {
            return self.end(worker, Ended::TooMany(HANDLER_WORKERS_MAX));
        }
        self.dispatch.attach(worker, credits, deadline, now);
        self.count();
        self.tell(worker, ToWorker::Attached { applied, head });
    }

    fn end_silent(&mut self) {
        for worker in self.dispatch.silent(self.now()) {
            let deadline = self.workers.get(&worker).map_or(Duration::ZERO, |worker| worker.deadline);
            self.end(worker, Ended::Silent(deadline));
        }
    }

    /// A worker is told that nothing more will come, and what it holds waits for others.
    fn end(&mut self, worker: WorkerId, why: Ended) {
        if let Some(Attached { name, outbox, .. }) = self.workers.get(&worker) {
            tracing::info!(worker = %name, reason = %why, "a worker is let go");
            // One that takes nothing learns it from the end of the call.
            drop(outbox.try_send(ToWorker::End(why)));
        }
        self.lose(worker);
    }

    fn lose(&mut self, worker: WorkerId) {
        let Some(Attached { name, .. }) = self.workers.remove(&worker) else {
            return;
        };
        if self.dispatch.detach(worker) {
            tracing::info!(worker = %name, "the events of a worker go to others");
            self.inbox.hub.counts.losses.fetch_add(1, Ordering::Relaxed);
        }
        self.reads.retain(|(by, _)| *by != worker);
        self.count();
    }

    fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(Attached { outbox, .. }) = self.workers.get(&worker) else {
            return;
        };
        if outbox.try_send(message).is_err() {
            self.end(worker, Ended::TakesNothing);
        }
    }

    /// Reads the log as far as the window has room. Whether it came further.
    fn look_ahead(
        &mut self,
        definition: &Definition,
        reader: &LogReader,
        upto: Position,
    ) -> Result<bool, FeedError> {
        let before = self.looked;
        while self.looked < upto
            && self.window.len() < HANDLER_AHEAD_EVENTS_MAX
            && self.window_bytes < HANDLER_AHEAD_BYTES_MAX
        {
            let after = self.looked;
            let records =
                reader.scan(after, upto, FOLLOW_SCAN_BYTES_MAX, FOLLOW_SCAN_EVENTS_MAX).map_err(|error| {
                    FeedError::Log(format!("reading the log behind position {after}: {error}"))
                })?;
            if records.is_empty() {
                let what =
                    format!("the log has no record behind position {after}, although its head is {upto}");
                return Err(FeedError::Log(what));
            }
            for (position, payload) in records {
                let bytes = payload.len();
                let event = RecordedEvent::decode(position, payload)
                    .map_err(|invalid| FeedError::Log(invalid.to_string()))?;
                self.looked = position;
                if definition.handles(event.event.event_type.as_str()) {
                    self.dispatch.available(position, bytes);
                    self.window.push_back(Looked { event, bytes });
                    self.window_bytes += bytes;
                }
            }
        }
        Ok(self.looked > before)
    }

    /// Applies what is answered up to `upto` and passes what needs no answer. Whether the batch came further.
    fn apply(
        &mut self,
        batch: &mut Batch,
        upto: Position,
        room: Room,
        pass_by: &PassBy<'_>,
    ) -> Result<bool, FeedError> {
        let before = batch.cursor();
        // One event goes in always: what makes the batch full is handed over with it.
        while batch.events() == 0 || !room.is_used(batch) {
            let Some(Looked { event, .. }) = self.window.front() else {
                batch.pass_to(self.looked.min(upto));
                break;
            };
            let position = event.position;
            if position > upto {
                batch.pass_to(upto);
                break;
            }
            batch.pass_to(Position::new(position.get() - 1));
            if pass_by(batch, position) {
                self.pass_first();
                continue;
            }
            let Some((at, Some(answer))) = self.dispatch.front() else {
                break;
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
                break;
            }
            if let Err(error) = self.take_in(batch, position) {
                self.refuse(position, "the answer could not be applied");
                return Err(error);
            }
        }
        Ok(batch.cursor() > before)
    }

    /// The first event's transaction, whose reads hold, goes into the batch.
    fn take_in(&mut self, batch: &mut Batch, position: Position) -> Result<(), FeedError> {
        let Some(Answer::Transaction(transaction)) = self.dispatch.take_answer() else {
            unreachable!("it was looked at just now");
        };
        let cause = &self.window.front().expect("the event that was answered is there").event;
        let (emission, differs) =
            self.emitter.prepare(cause, transaction.emits).map_err(|error| match error {
                EmitError::Fault(fault) => event_error(cause, &fault),
                EmitError::Log(error) => FeedError::Log(format!("emitting events: {error}")),
            })?;
        match batch.apply_transaction(position, transaction.steps) {
            Ok(()) => {}
            Err(TransactionError::Fault(fault)) => {
                let first = self.window.front().expect("the event that was answered is there");
                return Err(event_error(&first.event, &fault));
            }
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
        let Some(Looked { event, bytes }) = self.window.pop_front() else {
            return;
        };
        self.window_bytes -= bytes;
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
                self.tell(worker, read.answer(batch.cursor(), documents));
            }
        }
        Ok(())
    }

    fn give(&mut self, applied: Position) {
        for Given { worker, run, first, last } in self.dispatch.give(self.now()) {
            let begin = self.window.partition_point(|looked| looked.event.position < first);
            let run_events = self.window.range(begin..).take_while(|looked| looked.event.position <= last);
            let events = run_events.map(|looked| looked.event.clone()).collect();
            self.tell(worker, ToWorker::Run { run, applied, events });
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
