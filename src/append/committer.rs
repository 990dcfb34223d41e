//! The committer: the one thread that writes the log.
//!
//! It takes whatever waits (the sync in progress is the batching window), judges each request against durable state
//! plus the group being built, writes the group with one write and one sync, indexes it, moves the head, and only then
//! answers. Invariants: no answer of a batch is sent before the batch's group is durable; a write or sync error ends
//! the thread, and every answer of that batch is `OutcomeUnknown`, whatever the judgement was. Does not know gRPC.

use std::sync::Arc;

use super::{
    Answer, AppendError, Appended, Intake, Request,
    decide::{Decision, Verdict, decide},
    facts::Sources,
    group::Group,
    queue::{Pending, Reply, Taken},
    traced::Commit,
};
use crate::{
    allocator,
    clock::Clock,
    event::{Event, Position},
    events::{EventsError, recent::Recent},
    follower::Head,
    index::Index,
    limits::{INDEX_REST_AFTER, MARK_IDLE_MAX},
    log::{self, LogError, LogReader, LogWriter},
    metrics::Metrics,
    sabotage::Sabotage,
    trace::Tracer,
};

/// Bytes of the buffer for payloads that are kept between groups.
const PAYLOAD_BYTES_KEPT: usize = 1 << 20;

/// Owns the log for writing.
#[derive(Debug)]
pub struct Committer {
    writer: LogWriter,
    sources: Sources,
    head: Head,
    /// Where readers at the head look first.
    recent: Recent,
    metrics: Arc<Metrics>,
    /// The payloads of a group in a row, and where each ends; kept to save allocations.
    payloads: Vec<u8>,
    ends: Vec<usize>,
    /// A group was written since the mark was last synced alone.
    mark_pending: bool,
    /// The index may keep something that is worth writing.
    rest_pending: bool,
    sabotage: Option<Sabotage>,
    tracer: Tracer,
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
    ) -> Result<Self, EventsError> {
        let sources = Sources::new(reader, index, clock)?;
        Ok(Self {
            writer,
            sources,
            head,
            recent: Recent::default(),
            metrics,
            payloads: Vec::new(),
            ends: Vec::new(),
            mark_pending: false,
            rest_pending: true,
            sabotage: None,
            tracer: Tracer::default(),
        })
    }

    /// The same with a bug built in, for simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Option<Sabotage>) -> Self {
        self.sabotage = sabotage;
        self.sources.sabotage = sabotage;
        self
    }

    /// The same, which shows its groups to the readers of `recent`.
    #[must_use]
    pub fn showing(self, recent: Recent) -> Self {
        Self { recent, ..self }
    }

    /// The same, which tells in spans how requests are committed.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Commits until the intake closes and is empty; then the last mark is durable.
    pub fn run(mut self, intake: &Intake) -> Result<(), EventsError> {
        while self.step(intake)? {}
        Ok(())
    }

    /// Waits for requests and commits one group of them, or writes the mark when none come for a while. `false`: the
    /// intake is closed and empty.
    pub fn step(&mut self, intake: &Intake) -> Result<bool, EventsError> {
        let patience = match (self.mark_pending, self.rest_pending) {
            (true, _) => Some(MARK_IDLE_MAX),
            (false, true) => Some(INDEX_REST_AFTER),
            (false, false) => None,
        };
        match intake.take(patience) {
            Taken::Batch(batch) => {
                if self.commit(batch)? {
                    (self.mark_pending, self.rest_pending) = (true, true);
                }
            }
            Taken::Idle if self.mark_pending => self.idle()?,
            Taken::Idle => {
                self.rest()?;
                allocator::tidy();
            }
            Taken::Closed => {
                self.writer.sync_mark()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the mark of the newest group durable; `step` does so when nothing comes for a while.
    pub fn idle(&mut self) -> Result<(), EventsError> {
        self.writer.sync_mark()?;
        self.mark_pending = false;
        Ok(())
    }

    /// Gives up memory that only speed needs, and has the index write what it keeps of the newest events; `step` does so
    /// when nothing comes for longer.
    pub fn rest(&mut self) -> Result<(), EventsError> {
        self.rest_pending = false;
        self.recent.forget();
        Ok(self.sources.index.rest()?)
    }

    /// One batch: judge, write, sync, index, move the head, answer. Whether anything was written.
    fn commit(&mut self, batch: Vec<Pending>) -> Result<bool, EventsError> {
        if let Some(reason) = self.sources.index.write_failure() {
            // The index holds a bounded number of parts that it could not write: no more until it can.
            for Pending { requests, reply, .. } in batch {
                reply.send(vec![Err(AppendError::DiskFull(reason.clone())); requests.len()]);
            }
            return Ok(false);
        }
        let traced = Commit::of(&self.tracer, &batch);
        let mut group = Group::after(self.writer.head());
        let judge = |Pending { requests, reply, .. }: Pending| {
            let judge = |request| judge(request, &mut self.sources, &mut group);
            (reply, requests.into_iter().map(judge).collect::<Vec<_>>())
        };
        let answers: Vec<_> = batch.into_iter().map(judge).collect();
        let answers = self.without_early(answers);
        let written = self.write(&group);
        traced.finish(&self.tracer, &group, written.as_ref().err());
        let Err(error) = written else {
            for (reply, answers) in answers {
                reply.send(answers);
            }
            return Ok(!group.events.is_empty());
        };
        let nothing_happened = matches!(&error, EventsError::Log(error) if error.is_refusal());
        let failure = if nothing_happened {
            AppendError::DiskFull(error.to_string())
        } else {
            AppendError::OutcomeUnknown(error.to_string())
        };
        for (reply, answers) in answers {
            reply.send(vec![Err(failure.clone()); answers.len()]);
        }
        if nothing_happened { Ok(false) } else { Err(error) }
    }

    fn write(&mut self, group: &Group) -> Result<(), EventsError> {
        if group.events.is_empty() {
            return Ok(());
        }
        self.payloads.clear();
        self.payloads.shrink_to(PAYLOAD_BYTES_KEPT);
        self.ends.clear();
        for event in &group.events {
            event.encode_into(&mut self.payloads);
            self.ends.push(self.payloads.len());
        }
        let starts = std::iter::once(&0).chain(&self.ends);
        let payloads: Vec<&[u8]> =
            starts.zip(&self.ends).map(|(start, end)| &self.payloads[*start..*end]).collect();
        if self.sabotage == Some(Sabotage::ShowEarly) {
            self.recent.push(group.first(), &self.payloads, &self.ends);
            self.head.advance(group.last());
        }
        let appended = {
            let _timer = self.metrics.group_seconds.start_timer();
            append(&mut self.writer, &payloads, self.sabotage)?
        };
        assert_eq!(appended.last, group.last(), "the log gave other positions than were judged");
        self.sources.index.apply(&group.events)?;
        self.sources.adopt(group);
        self.recent.push(group.first(), &self.payloads, &self.ends);
        self.head.advance(appended.last);
        self.metrics.observe_group(group.events.len(), self.writer.synced_in());
        Ok(())
    }
}

/// Where bugs are built in.
impl Committer {
    /// Those answers that wait for their group: all of them, but under sabotage.
    fn without_early(&self, answers: Vec<Answered>) -> Vec<Answered> {
        if self.sabotage.is_none() {
            return answers;
        }
        let is_early = |answer: &Answer| match self.sabotage {
            Some(Sabotage::AnswerAllEarly) => true,
            Some(Sabotage::AnswerKnownEarly) => answer.as_ref().is_ok_and(Appended::already_applied),
            Some(Sabotage::AnswerRefusedEarly) => answer.is_err(),
            _ => false,
        };
        let (early, waiting): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, answers)| answers.iter().all(is_early));
        for (reply, answers) in early {
            reply.send(answers);
        }
        waiting
    }
}

fn append(
    writer: &mut LogWriter,
    payloads: &[&[u8]],
    sabotage: Option<Sabotage>,
) -> Result<log::Appended, LogError> {
    if sabotage == Some(Sabotage::SplitGroup) && payloads.len() > 1 {
        let (first, second) = payloads.split_at(payloads.len() / 2);
        writer.append(first)?;
        return writer.append(second);
    }
    writer.append(payloads)
}

/// The answers to requests that were queued together, and where they go.
type Answered = (Reply, Vec<Answer>);

/// Judges a request and, where it is to be appended, puts its events into the group.
fn judge(request: Request, sources: &mut Sources, group: &mut Group) -> Answer {
    let facts = sources.facts(&request, group).map_err(|error| AppendError::Unreadable(error.to_string()))?;
    let events = match decide(&request, &facts)? {
        Decision::AlreadyApplied(events) => events,
        Decision::Append(verdicts) => {
            let recorded_at_unix_nanos = sources.recorded_at_unix_nanos();
            let mut origins = request.origins.into_iter();
            let append = |(event, verdict): (Event, Verdict)| {
                let origin = origins.next().map(Box::new);
                match verdict {
                    Verdict::Known(there) => there,
                    Verdict::New(revision) => group.push(event, revision, recorded_at_unix_nanos, origin),
                }
            };
            let events = request.events.into_iter().zip(verdicts).map(append).collect();
            if let Some(tracking) = request.tracking {
                group.track(tracking);
            }
            if let Some(cursor) = request.cursor {
                group.carry(cursor);
            }
            events
        }
    };
    let position = events.iter().map(|event| event.position).max().unwrap_or(Position::ZERO);
    Ok(Appended { events, position })
}
