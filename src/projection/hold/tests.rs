//! Tests of holds: exact bounds, several at once, versions that stand by themselves, and runners on threads of their own.

use std::{
    path::Path,
    thread::{JoinHandle, spawn},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    disk::sim::SimDisk,
    follower::{Follower as _, Step, drive},
    limits::PIPELINE_EVENTS_MIN,
    projection::testing::{DATA, DEFINITION, Driven, Node},
};

/// Longer than anything here takes; a missed wake-up would last an hour.
const LONG: Duration = Duration::from_secs(60);

fn node() -> Node {
    Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA))
}

fn puts(count: u64) -> Vec<(&'static str, String)> {
    let put = |n: u64| ("doc.put", format!(r#"{{"key":"k{}","a":1,"b":{n},"tags":[]}}"#, n % 7));
    (0..count).map(put).collect()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(future)
}

fn hold(node: &Node, version: &Driven, at: u64) -> Hold {
    Hold::place(Arc::clone(&version.status), node.head.clone(), Stop::default(), Position::new(at))
}

fn stands(hold: &Hold) -> Result<u64, HoldError> {
    wait(hold.stands(Duration::ZERO)).map(Position::get)
}

fn as_of(version: &Driven) -> u64 {
    let as_of = version.status.progress().as_of;
    assert_eq!(version.store.snapshot().unwrap().state().cursor, as_of, "what is shown is committed");
    as_of.get()
}

#[test]
fn a_version_ends_its_batch_at_the_bound_and_goes_on_when_the_hold_is_gone() {
    let mut node = node();
    node.append(&puts(20));
    let mut version = node.version(DEFINITION);
    let held = hold(&node, &version, 13);
    assert!(matches!(stands(&held), Err(HoldError::TooSlow { .. })), "nobody has said anything yet");
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&held)), (13, Ok(13)));
    assert!(!version.status.progress().built, "it was never at the head");
    node.append(&puts(5));
    assert!(matches!(version.runner.step(), Step::Held(_)));
    assert_eq!(as_of(&version), 13);
    drop(held);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    assert_eq!(as_of(&version), 25);
    assert!(version.status.progress().built);
}

#[test]
fn a_hold_below_the_cursor_holds_where_the_version_is_and_the_lowest_counts() {
    let mut node = node();
    node.append(&puts(10));
    let mut version = node.version(DEFINITION);
    version.run();
    let mut now = hold(&node, &version, 0);
    let later = hold(&node, &version, 14);
    node.append(&puts(10));
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&now)), (10, Ok(10)));
    assert!(stands(&later).is_err(), "it does not stand where this one wants it");
    assert!(later.is_overruled(Position::new(11)) && !now.is_overruled(Position::new(14)));
    now.move_to(Position::new(12));
    assert!(stands(&now).is_err());
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&now)), (12, Ok(12)));
    drop(now);
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&later)), (14, Ok(14)));
    drop(later);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
}

#[test]
fn a_long_stretch_ends_exactly_at_a_bound() {
    let mut node = node();
    for _ in 0..13 {
        node.append(&puts(1_000));
    }
    let bound = PIPELINE_EVENTS_MIN + 777;
    let mut version = node.version(DEFINITION);
    let held = hold(&node, &version, bound);
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&held)), (bound, Ok(bound)));
    drop(held);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    assert_eq!(as_of(&version), 13_000);
}

#[test]
fn a_runner_in_the_middle_of_a_long_stretch_stands_when_it_is_held() {
    let mut node = node();
    for _ in 0..60 {
        node.append(&puts(1_000));
    }
    let running = Running::start(&node);
    let mut stood = 0;
    while stood < 60_000 {
        let held = running.hold(0);
        let here = wait(held.stands(LONG)).unwrap().get();
        assert!(here >= stood);
        assert_eq!(as_of(&running.version), here);
        drop(held);
        let held = running.hold((here + 3_333).min(60_000));
        stood = wait(held.stands(LONG)).unwrap().get();
        assert_eq!(as_of(&running.version), stood);
    }
    running.stop();
}

#[test]
fn a_paused_version_stands_where_it_is_and_comes_no_further() {
    let mut node = node();
    node.append(&puts(5));
    node.append(&[("doc.summed", r#"{"key":"k","number":"ten"}"#.into())]);
    node.append(&puts(5));
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.run(), Step::Paused(..)));
    let (now, beyond) = (hold(&node, &version, 0), hold(&node, &version, 9));
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!((as_of(&version), stands(&now)), (5, Ok(5)));
    let Err(HoldError::Failed { as_of, failure }) = stands(&beyond) else {
        panic!("it cannot come to position 9");
    };
    assert_eq!(as_of.get(), 5);
    assert!(failure.contains("position 6"), "{failure}");
    // What takes it on waits for the hold too.
    node.decide(
        "p",
        &crate::projection::decisions::Decision::EventSkipped {
            version: Some(1),
            position: Position::new(6),
            reason: String::new(),
        },
    );
    assert!(matches!(version.run(), Step::Held(_)));
    assert_eq!(stands(&now), Ok(5));
    drop((now, beyond));
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    version.status.stopped("the node stops");
    assert_eq!(stands(&hold(&node, &version, 0)), Err(HoldError::Stopped));
}

/// A version whose runner has a thread.
struct Running {
    version: Driven,
    stop: Stop,
    head: Head,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(node: &Node) -> Self {
        let version = node.version(DEFINITION);
        let (head, stop) = (node.head.clone(), Stop::default());
        let other = node.version_over(Arc::clone(&version.store), Arc::clone(&version.status), stop.clone());
        let (head_of_thread, stop_of_thread) = (head.clone(), stop.clone());
        let thread = spawn(move || {
            let mut runner = other;
            drive(&mut runner, &head_of_thread, &stop_of_thread);
        });
        Self { version, stop, head, thread }
    }

    fn hold(&self, at: u64) -> Hold {
        Hold::place(Arc::clone(&self.version.status), self.head.clone(), self.stop.clone(), Position::new(at))
    }

    fn as_of(&self) -> u64 {
        self.version.status.progress().as_of.get()
    }

    fn wait_for(&self, position: u64) {
        let mut progress = self.version.status.subscribe();
        let there = progress.wait_for(|progress| progress.open && progress.as_of.get() >= position);
        wait(async { drop(timeout(LONG, there).await.expect("no wake-up is missed").unwrap()) });
    }

    fn stop(self) {
        self.head.stop(&self.stop);
        self.thread.join().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_runner_on_its_own_never_passes_a_bound_and_misses_no_wake_up(
        actions in prop::collection::vec((0_u64..6, 0_u64..40), 1..40),
    ) {
        let mut node = node();
        let running = Running::start(&node);
        // Each with the position where it was acknowledged, if it was.
        let mut holds: Vec<(Hold, Option<u64>)> = Vec::new();
        for (action, number) in actions {
            let lowest = holds.iter().filter_map(|(_, stood)| *stood).min();
            match action {
                0 | 1 => drop(node.append(&puts(1 + number))),
                2 => holds.push((running.hold(running.as_of() + number), None)),
                3 => {
                    let hold = running.hold(0);
                    let stood = wait(hold.stands(LONG)).expect("it stands at once").get();
                    prop_assert!(lowest.is_none_or(|lowest| stood <= lowest));
                    holds.push((hold, Some(stood)));
                }
                4 if !holds.is_empty() => drop(holds.swap_remove(number as usize % holds.len())),
                _ => {
                    let at = holds.iter().map(|(hold, _)| hold.at.get()).min();
                    if let Some(at) = at.filter(|at| *at <= node.head.get().get()) {
                        let (hold, stood) = holds.iter_mut().min_by_key(|(hold, _)| hold.at).unwrap();
                        let found = wait(hold.stands(LONG)).expect("it comes there").get();
                        prop_assert!(found >= at);
                        prop_assert!(stood.is_none_or(|stood| stood == found));
                        *stood = Some(found);
                    }
                }
            }
            let bound = holds.iter().filter_map(|(_, stood)| *stood).min();
            if let Some(bound) = bound {
                prop_assert!(running.as_of() <= bound, "{} passed {}", running.as_of(), bound);
            }
        }
        holds.clear();
        running.wait_for(node.head.get().get());
        let expected = { let mut anew = node.version(&DEFINITION.replace("version: 1", "version: 2")); anew.run(); anew };
        prop_assert_eq!(running.version.content_hash(), expected.content_hash());
        running.stop();
    }
}
