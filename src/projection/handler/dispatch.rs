//! Which worker has which events, and whose answer is applied next. Pure: no I/O, and time is passed in.
//!
//! Invariants: the event that is applied next is the first one that is not applied; an event is with one worker at most;
//! a worker has at most as many unanswered events as it has credits; what a worker answers counts only as long as it
//! holds the run. A worker's later answers may rest on its earlier ones, so with one answer all that it holds falls.
//! Does not know what events and answers are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    event::Position,
    limits::{
        HANDLER_ANSWERS_BYTES_MAX, HANDLER_CANCELLATIONS_MAX, HANDLER_RUN_BYTES_MAX, HANDLER_RUN_EVENTS_MAX,
        HANDLER_RUNS_MAX,
    },
};

mod pace;
#[cfg(test)]
mod tests;

use pace::Pace;

/// One attachment of a worker; never used twice.
pub type WorkerId = u64;
/// One run, given out once; never used twice.
pub type RunId = u64;

/// The events that are looked at and not applied, and who works on them. Times are since some beginning.
#[derive(Debug)]
pub struct Dispatch<A> {
    /// In order of position.
    slots: VecDeque<Slot<A>>,
    /// No slot before this one waits.
    waiting_from: usize,
    /// Nothing above goes out.
    bound: Position,
    runs: BTreeMap<RunId, Run>,
    workers: BTreeMap<WorkerId, Worker>,
    next_run: RunId,
    /// Of answers that are not applied.
    answer_bytes: usize,
    /// How often in a row the first event's answer was stale.
    stale: u32,
    pace: Pace,
}

#[derive(Debug)]
struct Slot<A> {
    position: Position,
    bytes: usize,
    state: SlotState<A>,
}

#[derive(Debug)]
enum SlotState<A> {
    Waiting,
    Out(RunId),
    /// `None`: it was taken to be applied.
    Answered {
        run: RunId,
        answer: Option<A>,
        bytes: usize,
    },
}

/// Events that were given to a worker together, as long as one of them is not applied.
#[derive(Debug)]
struct Run {
    worker: WorkerId,
    /// The event whose answer comes next; none: all are answered.
    next: Option<Position>,
    last: Position,
}

#[derive(Debug)]
struct Worker {
    /// How many events it may have unanswered.
    credits: usize,
    unanswered: usize,
    runs: usize,
    deadline: Duration,
    /// When it was last heard of, or got something to do.
    heard: Duration,
}

impl Worker {
    const fn free(&self) -> usize {
        self.credits.saturating_sub(self.unanswered)
    }
}

/// A run to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// To whom.
    pub worker: WorkerId,
    /// The run.
    pub run: RunId,
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
}

/// What a worker did against the protocol, in words that continue "expected".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No run of this number was ever given to it.
    #[error("run: expected a run that was given to this worker, found {0}")]
    Run(RunId),
    /// Answers come in the order of the events.
    #[error("position: expected the answer to position {expected} of run {run}, found {found}")]
    Order {
        /// The run.
        run: RunId,
        /// Whose answer is due.
        expected: Position,
        /// Whose answer came.
        found: Position,
    },
}

impl<A> Default for Dispatch<A> {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            waiting_from: 0,
            bound: Position::new(u64::MAX),
            runs: BTreeMap::new(),
            workers: BTreeMap::new(),
            next_run: 1,
            answer_bytes: 0,
            stale: 0,
            pace: Pace::default(),
        }
    }
}

/// Workers come and go.
impl<A> Dispatch<A> {
    /// A worker is there and takes so many events at a time.
    pub fn attach(&mut self, worker: WorkerId, credits: usize, deadline: Duration, now: Duration) {
        let unused =
            self.workers.insert(worker, Worker { credits, unanswered: 0, runs: 0, deadline, heard: now });
        assert!(unused.is_none(), "an attachment has a number of its own");
    }

    /// A worker is gone: what it has not answered waits for others. Whether there was anything.
    pub fn detach(&mut self, worker: WorkerId) -> bool {
        if self.workers.remove(&worker).is_none() {
            return false;
        }
        let mut lost = false;
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let SlotState::Out(run) = slot.state
                && self.runs.get(&run).is_some_and(|run| run.worker == worker)
            {
                slot.state = SlotState::Waiting;
                self.waiting_from = self.waiting_from.min(at);
                lost = true;
            }
        }
        // What it has answered counts as before: its runs end there.
        let mut last_answered = BTreeMap::new();
        for slot in &self.slots {
            if let SlotState::Answered { run, .. } = slot.state {
                last_answered.insert(run, slot.position);
            }
        }
        self.runs.retain(|id, run| {
            if run.worker == worker {
                run.next = None;
                run.last = last_answered.get(id).copied().unwrap_or(Position::ZERO);
            }
            run.last > Position::ZERO
        });
        lost
    }

    /// A worker takes so many events from now on.
    pub fn credits(&mut self, worker: WorkerId, credits: usize, now: Duration) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.credits = credits;
            worker.heard = now;
        }
    }

    /// A worker was heard of.
    pub fn heard(&mut self, worker: WorkerId, now: Duration) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.heard = now;
        }
    }

    /// The workers that have not been heard of for longer than they may; they are to be detached.
    pub fn silent(&self, now: Duration) -> Vec<WorkerId> {
        let silent = |worker: &Worker| worker.unanswered > 0 && worker.heard + worker.deadline <= now;
        self.workers.iter().filter(|(_, worker)| silent(worker)).map(|(id, _)| *id).collect()
    }

    /// When the next worker will have been silent for too long.
    pub fn next_deadline(&self) -> Option<Duration> {
        let busy = self.workers.values().filter(|worker| worker.unanswered > 0);
        busy.map(|worker| worker.heard + worker.deadline).min()
    }

    /// How many runs are out.
    pub fn runs_out(&self) -> usize {
        self.workers.values().map(|worker| worker.runs).sum()
    }

    /// Everything that a worker holds waits again, answered or not.
    fn take_back(&mut self, worker: WorkerId) {
        let runs = &self.runs;
        let holds = |run: &RunId| runs.get(run).is_some_and(|run| run.worker == worker);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            match &slot.state {
                SlotState::Out(run) if holds(run) => {}
                SlotState::Answered { run, bytes, .. } if holds(run) => self.answer_bytes -= bytes,
                _ => continue,
            }
            slot.state = SlotState::Waiting;
            self.waiting_from = self.waiting_from.min(at);
        }
        self.runs.retain(|_, run| run.worker != worker);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.unanswered = 0;
            worker.runs = 0;
        }
    }
}

/// Events go out, answers come in.
impl<A> Dispatch<A> {
    /// An event is there, behind all others.
    pub fn available(&mut self, position: Position, bytes: usize) {
        let last = self.slots.back().map(|slot| slot.position);
        assert!(last.is_none_or(|last| last < position), "events come in order");
        self.slots.push_back(Slot { position, bytes, state: SlotState::Waiting });
    }

    /// How many events are there.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Events above this position do not go out from now on; what is out already stays there.
    pub fn bound(&mut self, upto: Position) {
        self.bound = upto;
    }

    /// Gives out what can be given out now.
    pub fn give(&mut self, now: Duration) -> Vec<Given> {
        let mut given = Vec::new();
        while let Some((worker, begin, count)) = self.next_run() {
            let run = self.next_run;
            self.next_run += 1;
            for slot in self.slots.range_mut(begin..begin + count) {
                slot.state = SlotState::Out(run);
            }
            self.waiting_from = begin + count;
            let (first, last) = (self.slots[begin].position, self.slots[begin + count - 1].position);
            self.runs.insert(run, Run { worker, next: Some(first), last });
            let busy = self.workers.get_mut(&worker).expect("it was chosen just now");
            if busy.unanswered == 0 {
                busy.heard = now;
            }
            busy.unanswered += count;
            busy.runs += 1;
            given.push(Given { worker, run, first, last });
        }
        given
    }

    /// The next run: for whom, from which slot on, how many.
    fn next_run(&mut self) -> Option<(WorkerId, usize, usize)> {
        let bound = self.bound;
        let waits = |slot: &Slot<A>| matches!(slot.state, SlotState::Waiting);
        let begin = self.waiting_from + self.slots.range(self.waiting_from..).position(waits)?;
        self.waiting_from = begin;
        let is_held_back = self.pace.is_serial() || self.answer_bytes > HANDLER_ANSWERS_BYTES_MAX;
        if is_held_back && begin > 0 || self.slots[begin].position > bound {
            return None;
        }
        let mut bytes = 0;
        let fits = |slot: &&Slot<A>| {
            bytes += slot.bytes;
            waits(slot) && slot.position <= bound && (bytes <= HANDLER_RUN_BYTES_MAX || bytes == slot.bytes)
        };
        let stretch = self.slots.range(begin..).take(HANDLER_RUN_EVENTS_MAX).take_while(fits).count();
        let takes = |worker: &Worker| {
            // One that is busy is not bothered with less than half of what it takes, unless that is all there is.
            let count = worker.free().min(stretch);
            let worth = worker.unanswered == 0 || count == stretch || count >= worker.credits.div_ceil(2);
            (count > 0 && worth && worker.runs < HANDLER_RUNS_MAX).then_some(count)
        };
        let able =
            self.workers.iter().filter_map(|(id, worker)| takes(worker).map(|count| (*id, count, worker)));
        let (worker, count, _) = able.min_by_key(|(_, _, worker)| worker.unanswered)?;
        Some((worker, begin, count))
    }

    /// A worker answers an event. What it no longer holds is passed over.
    pub fn answer(
        &mut self,
        worker: WorkerId,
        run_id: RunId,
        position: Position,
        answer: A,
        bytes: usize,
    ) -> Result<(), Violation> {
        if run_id >= self.next_run {
            return Err(Violation::Run(run_id));
        }
        let Some(run) = self.runs.get_mut(&run_id) else {
            return Ok(());
        };
        if run.worker != worker {
            return Err(Violation::Run(run_id));
        }
        let Some(expected) = run.next.filter(|next| *next == position) else {
            let expected = run.next.unwrap_or(run.last.next());
            return Err(Violation::Order { run: run_id, expected, found: position });
        };
        let at = self.slots.partition_point(|slot| slot.position < expected);
        self.slots[at].state = SlotState::Answered { run: run_id, answer: Some(answer), bytes };
        self.answer_bytes += bytes;
        run.next = (position < run.last).then(|| self.slots[at + 1].position);
        let worker = self.workers.get_mut(&worker).expect("who holds a run is there");
        worker.unanswered -= 1;
        if run.next.is_none() {
            worker.runs -= 1;
        }
        Ok(())
    }

    /// The first event and its answer, if it has one.
    pub fn front(&self) -> Option<(Position, Option<&A>)> {
        let slot = self.slots.front()?;
        match &slot.state {
            SlotState::Answered { answer, .. } => Some((slot.position, answer.as_ref())),
            _ => Some((slot.position, None)),
        }
    }

    /// Takes the first event's answer, to apply it.
    pub fn take_answer(&mut self) -> Option<A> {
        match &mut self.slots.front_mut()?.state {
            SlotState::Answered { answer, .. } => answer.take(),
            _ => None,
        }
    }

    /// The first event's answer is applied.
    pub fn applied(&mut self) {
        let Some(Slot { position, state: SlotState::Answered { run, bytes, .. }, .. }) =
            self.slots.pop_front()
        else {
            panic!("only what is answered is applied");
        };
        self.answer_bytes -= bytes;
        self.waiting_from = self.waiting_from.saturating_sub(1);
        if self.runs.get(&run).is_some_and(|run| run.last == position) {
            self.runs.remove(&run);
        }
        self.stale = 0;
        self.pace.applied();
    }

    /// The first event's answer does not count: all that its worker holds waits again. The worker, which has to forget
    /// it, is told here.
    pub fn refused(&mut self) -> Option<WorkerId> {
        let worker = self.front_worker();
        if let Some(worker) = worker {
            self.take_back(worker);
        }
        worker
    }

    /// The first event needs no answer any more. Whoever has it loses all that it holds and is told here.
    pub fn skipped(&mut self) -> Option<WorkerId> {
        let worker = self.refused();
        self.slots.pop_front();
        self.waiting_from = self.waiting_from.saturating_sub(1);
        self.stale = 0;
        worker
    }

    /// These events, in order, need no answer for now, wherever they stand. Whoever has one of them loses all that it holds
    /// and is told here.
    pub fn withdraw(&mut self, positions: &[Position]) -> BTreeSet<WorkerId> {
        let is_withdrawn = |slot: &Slot<A>| positions.binary_search(&slot.position).is_ok();
        let run_of = |slot: &Slot<A>| match slot.state {
            SlotState::Waiting => None,
            SlotState::Out(run) | SlotState::Answered { run, .. } => Some(run),
        };
        let runs = self.slots.iter().filter(|slot| is_withdrawn(slot)).filter_map(run_of);
        let holders: BTreeSet<_> = runs.filter_map(|run| self.runs.get(&run)).map(|run| run.worker).collect();
        for worker in &holders {
            self.take_back(*worker);
        }
        self.slots.retain(|slot| !is_withdrawn(slot));
        self.waiting_from = 0;
        holders
    }

    /// The first event's answer rests on documents that are not there any more: all that its worker holds waits again,
    /// and the worker, which is told here, has to forget it. An error: the event came too often for this.
    pub fn stale(&mut self) -> Result<WorkerId, WorkerId> {
        let worker = self.refused().expect("only what is answered is stale");
        self.pace.cancelled();
        self.stale += 1;
        if self.stale < HANDLER_CANCELLATIONS_MAX { Ok(worker) } else { Err(worker) }
    }

    /// All events are forgotten, and what workers hold with them.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.runs.clear();
        (self.waiting_from, self.answer_bytes, self.stale) = (0, 0, 0);
        for worker in self.workers.values_mut() {
            (worker.unanswered, worker.runs) = (0, 0);
        }
    }

    fn front_worker(&self) -> Option<WorkerId> {
        let run = match self.slots.front()?.state {
            SlotState::Waiting => return None,
            SlotState::Out(run) | SlotState::Answered { run, .. } => run,
        };
        self.runs.get(&run).map(|run| run.worker)
    }
}
