//! Dispatch against a naive model: every event applied once, in order, with the answer of the worker that held it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What may happen to a dispatch.
#[derive(Debug, Clone)]
enum Happening {
    Attach {
        credits: usize,
    },
    Detach {
        worker: usize,
    },
    Credits {
        worker: usize,
        credits: usize,
    },
    Events(usize),
    /// A worker answers so many of its oldest events.
    Answers {
        worker: usize,
        count: usize,
    },
    /// A worker answers an event of a run that it lost.
    Late {
        worker: usize,
    },
    Time(u64),
    /// So many answers are applied, if they are there.
    Apply(usize),
    Stale,
    Skip,
    /// All events of a class are withdrawn.
    Withdraw(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (1..20_usize).prop_map(|credits| Happening::Attach { credits }),
        1 => (0..4_usize).prop_map(|worker| Happening::Detach { worker }),
        1 => (0..4_usize, 0..20_usize).prop_map(|(worker, credits)| Happening::Credits { worker, credits }),
        6 => (1..30_usize).prop_map(Happening::Events),
        12 => (0..4_usize, 1..20_usize).prop_map(|(worker, count)| Happening::Answers { worker, count }),
        2 => (0..4_usize).prop_map(|worker| Happening::Late { worker }),
        1 => (1..40_u64).prop_map(Happening::Time),
        8 => (1..30_usize).prop_map(Happening::Apply),
        1 => Just(Happening::Stale),
        1 => Just(Happening::Skip),
        1 => (0..5_u64).prop_map(Happening::Withdraw),
    ]
}

/// A worker as it sees itself.
#[derive(Debug)]
struct Seen {
    id: WorkerId,
    credits: usize,
    /// Unanswered events with their runs, in order.
    holds: VecDeque<(RunId, Position)>,
    /// An event that it lost.
    lost: Option<(RunId, Position)>,
}

/// The naive model: who holds what, and which answers count.
#[derive(Debug, Default)]
struct Model {
    dispatch: Dispatch<(WorkerId, Position)>,
    workers: Vec<Seen>,
    /// Answers that count, with who gave them.
    answers: BTreeMap<Position, WorkerId>,
    next_position: u64,
    applied: Vec<Position>,
    next_worker: WorkerId,
    now: Duration,
    /// Runs go out one at a time for as many events, as the model counts it.
    all: BTreeSet<Position>,
    withdrawn: BTreeSet<Position>,
}

const DEADLINE: Duration = Duration::from_millis(100);

impl Model {
    fn happens(&mut self, happening: &Happening) {
        match *happening {
            Happening::Attach { credits } if self.workers.len() < 4 => {
                self.next_worker += 1;
                self.dispatch.attach(self.next_worker, credits, DEADLINE, self.now);
                let (holds, lost) = (VecDeque::new(), None);
                self.workers.push(Seen { id: self.next_worker, credits, holds, lost });
            }
            Happening::Detach { worker } if worker < self.workers.len() => self.detach(worker),
            Happening::Credits { worker, credits } if worker < self.workers.len() => {
                self.workers[worker].credits = credits;
                self.dispatch.credits(self.workers[worker].id, credits, self.now);
            }
            Happening::Events(count) => {
                for _ in 0..count {
                    // Positions of events that are not handled lie between.
                    self.next_position += 1 + self.next_position % 3;
                    let position = Position::new(self.next_position);
                    self.dispatch.available(position, 10);
                    self.all.insert(position);
                }
            }
            Happening::Answers { worker, count } if worker < self.workers.len() => {
                for _ in 0..count {
                    self.answer(worker);
                }
            }
            Happening::Late { worker } if worker < self.workers.len() => {
                let Seen { id, lost, .. } = &mut self.workers[worker];
                if let Some((run, position)) = lost.take() {
                    assert_eq!(self.dispatch.answer(*id, run, position, (*id, position), 1), Ok(()));
                }
            }
            Happening::Time(millis) => {
                self.now += Duration::from_millis(millis);
                for silent in self.dispatch.silent(self.now) {
                    let at = self.workers.iter().position(|worker| worker.id == silent).unwrap();
                    assert!(!self.workers[at].holds.is_empty(), "only a busy worker is silent");
                    self.detach(at);
                }
            }
            Happening::Apply(count) => (0..count).for_each(|_| self.apply()),
            Happening::Stale => self.stale(),
            Happening::Skip => self.skip(),
            Happening::Withdraw(class) => self.withdraw(class),
            _ => {}
        }
        self.give();
    }

    fn answer(&mut self, worker: usize) {
        let Seen { id, holds, .. } = &mut self.workers[worker];
        let Some((run, position)) = holds.pop_front() else { return };
        if let Some((same, next)) = holds.front().copied()
            && same == run
        {
            let early = self.dispatch.answer(*id, run, next, (*id, next), 1);
            assert_eq!(early, Err(Violation::Order { run, expected: position, found: next }));
        }
        self.dispatch.heard(*id, self.now);
        assert_eq!(self.dispatch.answer(*id, run, position, (*id, position), 1), Ok(()));
        self.answers.insert(position, *id);
    }

    fn detach(&mut self, at: usize) {
        let worker = self.workers.remove(at);
        assert_eq!(self.dispatch.detach(worker.id), !worker.holds.is_empty());
    }

    fn forget(&mut self, worker: WorkerId) {
        self.answers.retain(|_, by| *by != worker);
        // One that is gone leaves its answers, which fall together all the same.
        let Some(seen) = self.workers.iter_mut().find(|seen| seen.id == worker) else { return };
        seen.lost = seen.holds.back().copied().or(seen.lost);
        seen.holds.clear();
    }

    fn apply(&mut self) {
        let first = self.all.first().copied();
        let Some((position, answer)) = self.dispatch.front() else {
            assert_eq!(first, None);
            return;
        };
        assert_eq!(Some(position), first, "the first event that is not applied");
        let by = self.answers.get(&position).copied();
        assert_eq!(
            answer.copied(),
            by.map(|by| (by, position)),
            "the answer of the worker that holds the event"
        );
        if by.is_some() {
            self.dispatch.applied();
            self.done(position);
        }
    }

    fn stale(&mut self) {
        if let Some((position, Some(_))) = self.dispatch.front() {
            let (Ok(worker) | Err(worker)) = self.dispatch.stale();
            assert_eq!(self.answers.get(&position), Some(&worker));
            self.forget(worker);
        }
    }

    fn skip(&mut self) {
        if let Some((position, _)) = self.dispatch.front() {
            if let Some(worker) = self.dispatch.skipped() {
                self.forget(worker);
            }
            self.done(position);
        }
    }

    fn withdraw(&mut self, class: u64) {
        let of_class = self.all.iter().filter(|position| position.get() % 5 == class);
        let positions: Vec<_> = of_class.copied().collect();
        let mut holders: BTreeSet<WorkerId> =
            positions.iter().filter_map(|position| self.answers.get(position)).copied().collect();
        let holds = |seen: &&Seen| seen.holds.iter().any(|(_, held)| positions.contains(held));
        holders.extend(self.workers.iter().filter(holds).map(|seen| seen.id));
        assert_eq!(self.dispatch.withdraw(&positions), holders);
        for worker in holders {
            self.forget(worker);
        }
        for position in positions {
            self.answers.remove(&position);
            self.all.remove(&position);
            self.withdrawn.insert(position);
        }
    }

    fn done(&mut self, position: Position) {
        self.answers.remove(&position);
        self.all.remove(&position);
        self.applied.push(position);
    }

    fn give(&mut self) {
        for Given { worker, run, first, last } in self.dispatch.give(self.now) {
            let events: Vec<_> = self.all.range(first..=last).copied().collect();
            let is_held = |position: &Position| {
                self.workers.iter().any(|w| w.holds.iter().any(|(_, held)| held == position))
            };
            assert!(!events.iter().any(|position| is_held(position) || self.answers.contains_key(position)));
            let seen = self.workers.iter_mut().find(|seen| seen.id == worker).unwrap();
            seen.holds.extend(events.into_iter().map(|position| (run, position)));
            assert!(seen.holds.len() <= seen.credits, "no more than it has credits for");
        }
        let free = self.workers.iter().any(|worker| worker.holds.is_empty() && worker.credits > 0);
        let first = self.all.first();
        let first_waits = first.is_some_and(|first| {
            !self.answers.contains_key(first)
                && !self.workers.iter().any(|worker| worker.holds.iter().any(|(_, held)| held == first))
        });
        assert!(!(free && first_waits), "the first event never waits while a worker has nothing to do");
    }
}

proptest! {
    #[test]
    fn every_event_is_applied_once_in_order_with_the_answer_of_its_holder(
        happenings in prop::collection::vec(happening(), 1..200),
    ) {
        let mut model = Model::default();
        for happening in &happenings {
            model.happens(happening);
        }
        // One worker that answers brings everything to its end, whatever came before.
        model.workers.truncate(4);
        while !model.workers.is_empty() {
            model.detach(0);
        }
        model.happens(&Happening::Attach { credits: 7 });
        while !model.all.is_empty() {
            model.happens(&Happening::Answers { worker: 0, count: 7 });
            model.happens(&Happening::Apply(7));
        }
        prop_assert!(model.applied.is_sorted());
        let last = model.applied.last().max(model.withdrawn.last());
        prop_assert_eq!(last.map_or(0, |last| last.get()), model.next_position);
        prop_assert!(!model.applied.iter().any(|position| model.withdrawn.contains(position)));
        prop_assert_eq!(model.dispatch.answer_bytes, 0);
        prop_assert!(model.dispatch.runs.is_empty());
        prop_assert_eq!(model.dispatch.runs_out(), 0);
    }
}

fn with_events(count: u64) -> Dispatch<u64> {
    let mut dispatch = Dispatch::default();
    (1..=count).for_each(|position| dispatch.available(Position::new(position), 10));
    dispatch
}

fn given(dispatch: &mut Dispatch<u64>) -> Vec<(WorkerId, u64, u64)> {
    let given = dispatch.give(Duration::ZERO);
    given.into_iter().map(|run| (run.worker, run.first.get(), run.last.get())).collect()
}

#[test]
fn a_lone_event_goes_out_at_once_and_a_busy_worker_gets_no_crumbs() {
    let mut dispatch = with_events(100);
    dispatch.attach(1, 10, DEADLINE, Duration::ZERO);
    assert_eq!(given(&mut dispatch), [(1, 1, 10)]);
    dispatch.answer(1, 1, Position::new(1), 0, 1).unwrap();
    assert_eq!(given(&mut dispatch), [], "one free credit is a crumb");
    (2..=5).for_each(|position| dispatch.answer(1, 1, Position::new(position), 0, 1).unwrap());
    assert_eq!(given(&mut dispatch), [(1, 11, 15)], "half of them is not");
    let mut dispatch = with_events(1);
    dispatch.attach(1, 10, DEADLINE, Duration::ZERO);
    assert_eq!(given(&mut dispatch), [(1, 1, 1)]);
    dispatch.available(Position::new(2), 10);
    assert_eq!(given(&mut dispatch), [(1, 2, 2)], "all there is goes out");
}

#[test]
fn after_two_cancellations_runs_go_out_one_at_a_time() {
    let mut dispatch = with_events(100);
    for worker in [1, 2] {
        dispatch.attach(worker, 10, DEADLINE, Duration::ZERO);
    }
    assert_eq!(given(&mut dispatch), [(1, 1, 10), (2, 11, 20)]);
    for _ in 0..2 {
        let run = dispatch.runs.iter().find(|(_, run)| run.next == Some(Position::new(1))).unwrap();
        let (run, worker) = (*run.0, run.1.worker);
        dispatch.answer(worker, run, Position::new(1), 0, 1).unwrap();
        assert_eq!(dispatch.stale(), Ok(worker));
        if dispatch.pace.is_serial() {
            break;
        }
        given(&mut dispatch);
    }
    assert_eq!(given(&mut dispatch).len(), 1);
    assert_eq!(given(&mut dispatch), [], "the other one waits");
    for _ in 2..HANDLER_CANCELLATIONS_MAX {
        let (run, worker) = dispatch
            .runs
            .iter()
            .map(|(id, run)| (*id, run))
            .find(|(_, run)| run.next == Some(Position::new(1)))
            .map(|(id, run)| (id, run.worker))
            .unwrap();
        dispatch.answer(worker, run, Position::new(1), 0, 1).unwrap();
        let failed = dispatch.stale();
        given(&mut dispatch);
        if failed.is_err() {
            return;
        }
    }
    panic!("an event whose answers are stale for ever fails");
}

#[test]
fn a_silent_worker_is_named_when_its_time_is_up() {
    let mut dispatch = with_events(3);
    dispatch.attach(1, 2, DEADLINE, Duration::ZERO);
    assert_eq!(dispatch.next_deadline(), None, "nothing to do, nothing to say");
    let start = Duration::from_secs(5);
    assert_eq!(dispatch.give(start).len(), 1);
    assert_eq!(dispatch.next_deadline(), Some(start + DEADLINE));
    assert!(dispatch.silent(start + DEADLINE / 2).is_empty());
    dispatch.heard(1, start + DEADLINE / 2);
    assert!(dispatch.silent(start + DEADLINE).is_empty());
    assert_eq!(dispatch.silent(start + 2 * DEADLINE), [1]);
}
