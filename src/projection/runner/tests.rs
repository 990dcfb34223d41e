//! Tests of a version following the log: failures, restarts, crashes.

use std::{collections::BTreeSet, io, path::Path};

use super::*;
use crate::{
    disk::sim::SimDisk,
    limits::{PIPELINE_EVENTS_MIN, VERSION_REST_AFTER},
    projection::{
        content_hash::ContentHash,
        testing::{DATA, DEFINITION, Driven, Node},
    },
};

/// The events of group `number`: puts, sums and deletions over a few keys.
fn group(number: u64) -> Vec<(&'static str, String)> {
    (0..8)
        .map(|at| {
            let key = (number * 5 + at * 3) % 17;
            match at {
                6 => ("doc.deleted", format!(r#"{{"key":"k{key}"}}"#)),
                7 => ("doc.summed", format!(r#"{{"key":"k{key}","number":{number}}}"#)),
                _ => (
                    "doc.put",
                    format!(r#"{{"key":"k{key}","a":{at},"b":{number},"tags":["t{at}","t{number}"]}}"#),
                ),
            }
        })
        .collect()
}

const GROUPS: u64 = 12;

fn node(disk: &SimDisk) -> Node {
    Node::open(Arc::new(disk.clone()), Path::new(DATA))
}

/// A log of all groups, and what a build without disturbance makes of it.
fn full_log() -> (SimDisk, ContentHash) {
    let disk = SimDisk::new(3);
    let mut node = node(&disk);
    for number in 0..GROUPS {
        node.append(&group(number));
    }
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    let hash = version.content_hash();
    let path = version.store.path().to_owned();
    drop(version);
    node.writer.sync_mark().unwrap();
    node.disk.remove_file(&path).unwrap();
    node.disk.sync_dir(&node.projections()).unwrap();
    (disk, hash)
}

/// Builds in small steps with durable commits between them, until done or until the disk stops.
fn build_in_steps(node: &Node) -> Driven {
    let mut version = node.version(DEFINITION);
    for _ in 0..40 {
        // Every second step finds its durable commit due.
        version.runner.undurable.since = long_ago_if(version.runner.undurable.since);
        let upto = version.status.progress().as_of.plus(5).min(node.head.get());
        version.runner.head = Head::new(upto);
        if matches!(version.runner.step(), Step::Over) || node.disk.exists(Path::new(DATA)).is_err() {
            break;
        }
    }
    version
}

/// A time at which a durable commit is due, if something waits for one.
pub(super) fn long_ago_if(since: Option<Instant>) -> Option<Instant> {
    since.map(|_| long_ago())
}

fn long_ago() -> Instant {
    Instant::now().checked_sub(2 * DURABLE_INTERVAL_MAX).unwrap_or_else(Instant::now)
}

fn check_resumes(disk: &SimDisk, expected: ContentHash, what: &str) -> Position {
    let node = node(disk);
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.runner.step(), Step::More | Step::CaughtUp(..)), "{what}");
    let opened_at = version.status.progress();
    assert!(matches!(version.run(), Step::CaughtUp(..)), "{what}");
    assert_eq!(version.content_hash(), expected, "{what}");
    assert_eq!(version.status.progress().as_of, node.head.get(), "{what}");
    version.runner.finish();
    opened_at.floor
}

#[test]
fn a_build_that_is_cut_anywhere_resumes_to_the_same_documents() {
    let (disk, expected) = full_log();
    let base = disk.kill(1);
    let whole = base.kill(1);
    let operations = {
        let node = node(&whole);
        let before = whole.operations();
        drop(build_in_steps(&node));
        whole.operations() - before
    };
    assert!(operations > 60, "only {operations} operations");
    for point in (0..operations).step_by(3) {
        let cut = base.kill(1);
        let node = node(&cut);
        cut.crash_at(cut.operations() + point);
        drop(build_in_steps(&node));
        drop(node);
        check_resumes(&cut.crash(point), expected, &format!("power loss at operation {point}"));
        check_resumes(&cut.kill(point), expected, &format!("kill at operation {point}"));
    }
}

#[test]
fn after_a_power_loss_documents_and_cursor_are_those_of_one_commit() {
    let (disk, _) = full_log();
    let node = node(&disk);
    let mut version = build_in_steps(&node);
    version.runner.finish();
    let mut cursors = BTreeSet::new();
    for seed in 0..20 {
        let after = disk.crash(seed);
        let node = Node::open(Arc::new(after), Path::new(DATA));
        let version = node.version(DEFINITION);
        let facts = LogFacts {
            log_id: node.reader.log_id(),
            head: node.reader.head(),
            epoch_at: &|position| node.reader.epoch_at(position),
        };
        let (state, set_aside) = version.store.open(&facts).unwrap();
        assert_eq!(set_aside, None);
        cursors.insert(state.cursor);
    }
    assert_eq!(cursors.into_iter().collect::<Vec<_>>(), [node.head.get()], "finish was durable");
}

#[test]
fn a_failing_disk_delays_a_version_and_changes_nothing() {
    let (disk, expected) = full_log();
    for point in 0..30 {
        let disk = disk.kill(point);
        let node = node(&disk);
        disk.fail_at(disk.operations() + 2 * point, io::ErrorKind::Other);
        let mut version = node.version(DEFINITION);
        assert!(matches!(version.run(), Step::CaughtUp(..)), "fault {point}");
        assert_eq!(version.content_hash(), expected, "fault {point}");
        assert_eq!(version.status.progress().trouble, None);
    }
}

#[test]
fn an_event_that_cannot_be_applied_stops_its_version_behind_everything_before() {
    let disk = SimDisk::new(5);
    let mut node = node(&disk);
    node.append(&group(1));
    let good = node.version(DEFINITION);
    node.append(&[("doc.summed", r#"{"key":"k1","number":"ten"}"#.into())]);
    node.append(&group(2));
    let mut version = good;
    assert!(matches!(version.run(), Step::Paused(..)));
    version.runner.finish();
    let progress = version.status.progress();
    let failure = progress.failure.expect("it failed");
    for part in ["projection p version 1", "position 9", "doc.summed", "stream s", "0000-000000000009"] {
        assert!(failure.contains(part), "{part} is not in: {failure}");
    }
    assert_eq!(progress.as_of, Position::new(8));
    assert_eq!(version.store.snapshot().unwrap().state().cursor, Position::new(8));
    let after = disk.crash(1);
    let node = Node::open(Arc::new(after), Path::new(DATA));
    let mut again = node.version(DEFINITION);
    assert!(matches!(again.run(), Step::Paused(..)));
    assert_eq!(again.status.progress().as_of, Position::new(8), "what was before it was durable");
}

#[test]
fn a_damaged_file_is_set_aside_and_built_anew() {
    let (disk, expected) = full_log();
    let node = node(&disk);
    let mut version = node.version(DEFINITION);
    version.run();
    version.runner.finish();
    let path = version.store.path().to_owned();
    drop(version);
    // The magic number, then a page of the commit slots.
    for bit in [3, 8 * 100] {
        disk.flip_bit(&path, bit).unwrap();
        let mut version = node.version(DEFINITION);
        assert!(matches!(version.run(), Step::CaughtUp(..)), "bit {bit}");
        assert_eq!(version.content_hash(), expected, "bit {bit}");
        version.runner.finish();
        version.store.close();
    }
    let names = node.disk.list(&node.projections()).unwrap();
    assert!(names.contains(&"p-v1.redb.damaged-1".to_owned()), "{names:?}");
}

/// A log so long that versions share out the work on it.
fn long_log(groups: u64) -> (SimDisk, Node) {
    let disk = SimDisk::new(9);
    let mut node = node(&disk);
    for number in 0..groups {
        let events: Vec<_> = (number * 50..(number + 1) * 50).flat_map(group).collect();
        node.append(&events);
    }
    (disk, node)
}

/// What one event at a time makes of the log.
fn one_by_one(node: &Node) -> ContentHash {
    let source = DEFINITION.replace("version: 1", "version: 9");
    let mut version = node.version(&source);
    version.runner.careful_upto = Position::new(u64::MAX);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    version.content_hash()
}

#[test]
fn a_long_stretch_gives_what_single_steps_give() {
    let (disk, mut node) = long_log(40);
    assert!(node.head.get().get() > PIPELINE_EVENTS_MIN);
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    assert_eq!(version.content_hash(), one_by_one(&node));
    assert_eq!(version.status.progress().as_of, node.head.get());
    // Built now, it catches up with more than one batch.
    for number in 40..180 {
        let events: Vec<_> = (number * 50..(number + 1) * 50).flat_map(group).collect();
        node.append(&events);
    }
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    assert_eq!(version.content_hash(), one_by_one(&node));
    assert_eq!(version.store.snapshot().unwrap().hash_documents().unwrap(), version.content_hash());
    version.runner.finish();
    drop(version);
    let node = Node::open(Arc::new(disk.crash(1)), Path::new(DATA));
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.runner.step(), Step::CaughtUp(..)), "all of it was durable");
}

#[test]
fn a_first_build_waits_for_its_turn_and_a_built_version_does_not() {
    let (_disk, mut node) = long_log(30);
    let builds = Builds::new(1);
    let [mut first, mut second] = [1, 2].map(|number| {
        let Driven { store, status, runner } =
            node.version(&DEFINITION.replace("version: 1", &format!("version: {number}")));
        Driven { store, status, runner: runner.taking_turns(&builds, false) }
    });
    assert_eq!(first.runner.step(), Step::More, "a long stretch, the rest comes with the next step");
    assert_eq!(second.runner.step(), Step::Held(IDLE_WAIT));
    assert!(second.status.progress().queued && !first.status.progress().queued);
    assert!(matches!(first.run(), Step::CaughtUp(..)));
    assert_eq!(second.runner.step(), Step::More);
    assert!(!second.status.progress().queued);
    // It has its turn, and the other one goes through a long stretch all the same: it is no build.
    node.append(&(0..2_000).flat_map(group).collect::<Vec<_>>());
    assert!(matches!(first.run(), Step::CaughtUp(..)));
    assert!(matches!(second.run(), Step::CaughtUp(..)));
    assert_eq!(second.content_hash(), first.content_hash());
}

#[test]
fn a_build_gives_way_to_the_version_that_answers_and_goes_on_behind_it() {
    let (disk, mut node) = long_log(30);
    let builds = Builds::new(1);
    let [mut standby, mut active] = [(1, false), (2, true)].map(|(number, answers)| {
        let Driven { store, status, runner } =
            node.version(&DEFINITION.replace("version: 1", &format!("version: {number}")));
        Driven { store, status, runner: runner.taking_turns(&builds, answers) }
    });
    assert_eq!(standby.runner.step(), Step::More, "a long stretch, the rest comes with the next step");
    assert_eq!(active.runner.step(), Step::Held(IDLE_WAIT));
    node.append(&(1_500..3_500).flat_map(group).collect::<Vec<_>>());
    assert_eq!(standby.runner.step(), Step::Held(IDLE_WAIT));
    assert!(standby.status.progress().queued);
    let kept = standby.store.snapshot().unwrap().state().cursor;
    assert!(kept > Position::ZERO, "what was built is kept while it waits");
    assert!(matches!(active.run(), Step::CaughtUp(..)));
    assert!(!active.status.progress().queued);
    assert!(matches!(standby.run(), Step::CaughtUp(..)));
    let expected = one_by_one(&node);
    assert_eq!([standby.content_hash(), active.content_hash()], [expected; 2]);
    drop((standby, active));
    let node = Node::open(Arc::new(disk.crash(1)), Path::new(DATA));
    let mut standby = node.version(DEFINITION);
    assert!(matches!(standby.runner.step(), Step::CaughtUp(..)), "it was durable");
}

#[test]
fn an_event_that_cannot_be_applied_ends_a_long_stretch_right_before_it() {
    let (_disk, mut node) = long_log(30);
    let before = node.head.get();
    node.append(&[("doc.summed", r#"{"key":"k1","number":"ten"}"#.into())]);
    node.append(&(0..3_000).flat_map(group).collect::<Vec<_>>()[..900]);
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.run(), Step::Paused(..)));
    let progress = version.status.progress();
    assert!(progress.failure.expect("it failed").contains(&format!("position {}", before.next())));
    assert_eq!(progress.as_of, before);
    assert_eq!(version.store.snapshot().unwrap().state().cursor, before);
}

#[test]
fn a_long_stretch_ends_when_the_file_fails_and_goes_on_when_it_is_mended() {
    let (disk, node) = long_log(200);
    let expected = one_by_one(&node);
    for fault in [5, 40, 100, 160] {
        let disk = disk.kill(fault);
        let node = Node::open(Arc::new(disk.clone()), Path::new(DATA));
        disk.fail_at(disk.operations() + fault, io::ErrorKind::Other);
        let mut version = node.version(DEFINITION);
        assert!(matches!(version.run(), Step::CaughtUp(..)), "fault {fault}");
        assert_eq!(version.content_hash(), expected, "fault {fault}");
        assert_eq!(version.status.progress().trouble, None);
    }
}

#[test]
fn a_version_that_nobody_needs_gives_its_memory_back_and_goes_on() {
    let (_disk, mut node) = long_log(3);
    let mut version = node.version(DEFINITION);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    let expected = one_by_one(&node);
    let rests = |version: &mut Driven| {
        version.runner.rest.pass_time();
        assert!(matches!(version.runner.step(), Step::CaughtUp(_, wait) if wait == VERSION_REST_AFTER));
        version.runner.rest.is_resting
    };
    drop(version.store.shared_snapshot().unwrap());
    assert!(!rests(&mut version), "somebody has read since");
    let held = version.store.snapshot().unwrap();
    assert!(!rests(&mut version), "somebody reads");
    assert_eq!(held.hash_documents().unwrap(), expected);
    drop(held);
    assert!(rests(&mut version));
    assert!(rests(&mut version), "and still does");
    assert_eq!(version.store.snapshot().unwrap().hash_documents().unwrap(), expected);

    node.append(&(0..50).flat_map(group).collect::<Vec<_>>());
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    assert!(!version.runner.rest.is_resting);
    assert_eq!(version.content_hash(), one_by_one(&node));
}
