//! The committer: the one thread that writes the log.
//!
//! It takes whatever waits (the sync in progress is the batching window), judges each request against durable state
//! plus the group being built, writes the group with one write and one sync, indexes it, moves the head, and only then
//! answers. Invariants: no answer of a batch is sent before the batch's group is durable; a write or sync error ends
//! the thread, and every answer of that batch is `OutcomeUnknown`, whatever the judgement was. Does not know gRPC.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Answer, AppendError, Appended, AppendedEvent, Intake, Pending, Request, Taken,
    decide::{Decision, Facts, Verdict, decide},
};
use crate::{
    clock::Clock,
    event::{Event, EventId, Invalid, Position, RecordedEvent, Revision, StreamId},
    follower::Head,
    index::{Index, IndexError, StreamHead},
    limits::MARK_IDLE_MAX,
    log::{LogError, LogReader, LogWriter},
    metrics::Metrics,
};

/// Why the committer ended before it was told to. The node must stop and recover at its next start.
#[derive(Debug, thiserror::Error)]
pub enum CommitterError {
    /// The log is poisoned.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Durable events could not be indexed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record could not be read back.
    #[error(transparent)]
    Damaged(#[from] Invalid),
}

/// Owns the log for writing.
#[derive(Debug)]
pub struct Committer {
    writer: LogWriter,
    state: State,
    head: Head,
    metrics: Arc<Metrics>,
    /// A group was written since the mark was last synced alone.
    mark_pending: bool,
}

/// What requests are judged against, and the clock that never goes back.
#[derive(Debug)]
struct State {
    reader: LogReader,
    index: Arc<Index>,
    clock: Arc<dyn Clock>,
    recorded_at_unix_nanos: i64,
}

impl Committer {
    /// A committer that goes on behind the last event of the log.
    pub fn new(
        writer: LogWriter,
        reader: LogReader,
        index: Arc<Index>,
        head: Head,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CommitterError> {
        let last = reader.head();
        let recorded_at_unix_nanos = match reader.read(last)? {
            Some(payload) => RecordedEvent::decode(last, payload)?.recorded_at_unix_nanos,
            None => i64::MIN,
        };
        let state = State { reader, index, clock, recorded_at_unix_nanos };
        Ok(Self { writer, state, head, metrics, mark_pending: false })
    }

    /// Commits until the intake closes and is empty; then the last mark is durable.
    pub fn run(mut self, intake: &Intake) -> Result<(), CommitterError> {
        while self.step(intake)? {}
        Ok(())
    }

    /// Waits for requests and commits one group of them, or writes the mark when none come for a while. `false`: the
    /// intake is closed and empty.
    pub fn step(&mut self, intake: &Intake) -> Result<bool, CommitterError> {
        match intake.take(self.mark_pending.then_some(MARK_IDLE_MAX)) {
            Taken::Batch(batch) => self.mark_pending |= self.commit(batch)?,
            Taken::Idle => {
                self.writer.sync_mark()?;
                self.mark_pending = false;
            }
            Taken::Closed => {
                self.writer.sync_mark()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One batch: judge, write, sync, index, move the head, answer. Whether anything was written.
    fn commit(&mut self, batch: Vec<Pending>) -> Result<bool, CommitterError> {
        if let Some(reason) = self.state.index.write_failure() {
            // The index holds a bounded number of parts that it could not write: no more until it can.
            for pending in batch {
                send(pending.reply, Err(AppendError::DiskFull(reason.clone())));
            }
            return Ok(false);
        }
        let mut group = Group::after(self.writer.head());
        let judge = |pending: Pending| (pending.reply, self.state.judge(&pending.request, &mut group));
        let answers: Vec<_> = batch.into_iter().map(judge).collect();
        let Err(error) = self.write(&group) else {
            for (reply, answer) in answers {
                send(reply, answer);
            }
            return Ok(!group.events.is_empty());
        };
        let nothing_happened = matches!(&error, CommitterError::Log(error) if error.is_refusal());
        let failure = if nothing_happened {
            AppendError::DiskFull(error.to_string())
        } else {
            AppendError::OutcomeUnknown(error.to_string())
        };
        for (reply, _) in answers {
            send(reply, Err(failure.clone()));
        }
        if nothing_happened { Ok(false) } else { Err(error) }
    }

    fn write(&mut self, group: &Group) -> Result<(), CommitterError> {
        if group.events.is_empty() {
            return Ok(());
        }
        let payloads: Vec<_> = group.events.iter().map(|event| Bytes::from(event.encode())).collect();
        let appended = {
            let _timer = self.metrics.group_seconds.start_timer();
            self.writer.append(&payloads)?
        };
        assert_eq!(appended.last, group.last(), "the log gave other positions than were judged");
        self.state.index.apply(&group.events)?;
        self.head.advance(appended.last);
        self.metrics.observe_group(group.events.len());
        Ok(())
    }
}

/// The receiver may be gone: its client gave up, and the events are durable all the same.
fn send(reply: oneshot::Sender<Answer>, answer: Answer) {
    drop(reply.send(answer));
}

impl State {
    /// Judges a request and, where it is to be appended, puts its events into the group.
    fn judge(&mut self, request: &Request, group: &mut Group) -> Answer {
        let facts = self.facts(request, group).map_err(|error| AppendError::Unreadable(error.to_string()))?;
        let events = match decide(request, &facts)? {
            Decision::AlreadyApplied(events) => events,
            Decision::Append(verdicts) => {
                self.recorded_at_unix_nanos = self.clock.now_unix_nanos().max(self.recorded_at_unix_nanos);
                let append = |(event, verdict): (&Event, Verdict)| match verdict {
                    Verdict::Known(there) => there,
                    Verdict::New(revision) => {
                        group.push(event.clone(), revision, self.recorded_at_unix_nanos)
                    }
                };
                request.events.iter().zip(verdicts).map(append).collect()
            }
        };
        let position = events.iter().map(|event| event.position).max().unwrap_or(Position::ZERO);
        Ok(Appended { events, position })
    }

    fn facts(&self, request: &Request, group: &Group) -> Result<Facts, CommitterError> {
        let mut facts = Facts { known: self.known(request, group)?, streams: HashMap::new() };
        let written = request.events.iter().map(|event| &event.stream);
        let expected = request.expectations.iter().map(|expectation| &expectation.stream);
        for stream in written.chain(expected) {
            if facts.streams.contains_key(stream) {
                continue;
            }
            let head = match group.streams.get(stream) {
                Some(head) => Some(*head),
                None => self.index.stream_head(stream)?,
            };
            facts.streams.extend(head.map(|head| (stream.clone(), head)));
        }
        Ok(facts)
    }

    /// For each event of the request the event that has its id, in the group being built or in the log.
    fn known(&self, request: &Request, group: &Group) -> Result<Vec<Option<RecordedEvent>>, CommitterError> {
        let ids: Vec<_> = request.events.iter().map(|event| event.id).collect();
        let positions = self.index.positions_of(&ids)?;
        let known = |(id, position): (&EventId, Option<Position>)| match (group.ids.get(id), position) {
            (Some(at), _) => Ok(Some(group.events[*at].clone())),
            (None, Some(position)) => self.read(position).map(Some),
            (None, None) => Ok(None),
        };
        ids.iter().zip(positions).map(known).collect()
    }

    fn read(&self, position: Position) -> Result<RecordedEvent, CommitterError> {
        let payload = self.reader.read(position)?;
        let payload = payload.ok_or_else(|| Invalid(format!("no record at position {position}")))?;
        Ok(RecordedEvent::decode(position, payload)?)
    }
}

/// The events that one write will make durable, and what later requests of the batch must know of them.
#[derive(Debug)]
struct Group {
    after: Position,
    events: Vec<RecordedEvent>,
    ids: HashMap<EventId, usize>,
    streams: HashMap<StreamId, StreamHead>,
}

impl Group {
    fn after(after: Position) -> Self {
        Self { after, events: Vec::new(), ids: HashMap::new(), streams: HashMap::new() }
    }

    fn last(&self) -> Position {
        self.after.plus(self.events.len() as u64)
    }

    fn push(&mut self, event: Event, revision: Revision, recorded_at_unix_nanos: i64) -> AppendedEvent {
        let (id, position) = (event.id, self.last().next());
        self.ids.insert(id, self.events.len());
        self.streams.insert(event.stream.clone(), StreamHead { revision, last_position: position });
        self.events.push(RecordedEvent { position, revision, recorded_at_unix_nanos, event });
        AppendedEvent { id, position, revision, already_existed: false }
    }
}
