//! Tests of the policies: what a poisoned event leads to, over decisions, restarts, rebuilds and crashes.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    disk::sim::SimDisk,
    event::Position,
    follower::{Follower as _, Head, Step},
    projection::{
        content_hash::ContentHash,
        decisions::Decision,
        ledger::{Counts, Entry},
        testing::{DATA, Driven, Node},
    },
};

/// Copies need the document that they copy; a sum needs a number.
const DEFINITION: &str = r#"
projection: p
version: 1
collections:
  docs: {}
  copies:
    indexes: { by_a: [a] }
  sums: {}
events:
  doc.put:
    - put: docs
      key: data.key
      value: { a: "${data.a}" }
  doc.copied:
    - put: copies
      key: data.key
      value: { a: '${lookup("docs", data.key).a}' }
  doc.summed:
    - add: sums
      key: data.key
      value: { total: "${data.number}" }
"#;

fn with(policy: &str) -> String {
    DEFINITION.replace("version: 1", &format!("version: 1\non_error: {policy}"))
}

fn put(key: &str) -> (&'static str, &'static str, String) {
    ("docs", "doc.put", format!(r#"{{"key":"{key}","a":1}}"#))
}

fn copied<'a>(stream: &'a str, key: &str) -> (&'a str, &'static str, String) {
    (stream, "doc.copied", format!(r#"{{"key":"{key}"}}"#))
}

fn summed<'a>(stream: &'a str, number: &str) -> (&'a str, &'static str, String) {
    (stream, "doc.summed", format!(r#"{{"key":"k","number":{number}}}"#))
}

fn skip(position: u64) -> Decision {
    Decision::EventSkipped { version: Some(1), position: Position::new(position), reason: "a test".into() }
}

fn retried() -> Decision {
    Decision::Retried { version: 1, reason: String::new() }
}

fn node() -> Node {
    Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA))
}

/// What a version holds, as far as rebuilds give it again.
type Held = (ContentHash, Counts, Vec<(Position, Entry)>);

fn held(version: &Driven) -> Held {
    let snapshot = version.store.snapshot().unwrap();
    assert_eq!(snapshot.hash_documents().unwrap(), snapshot.state().content_hash);
    let entries = snapshot.set_aside_page(Position::ZERO, 1_000).unwrap();
    (snapshot.state().content_hash, snapshot.counts().unwrap(), entries)
}

/// Built anew from the log as it is.
fn rebuilt(node: &Node, definition: &str) -> Driven {
    let mut version = node.version(definition);
    let path = version.store.path().to_owned();
    if node.disk.exists(&path).unwrap() {
        node.disk.remove_file(&path).unwrap();
    }
    version.run();
    version
}

/// Closed in good order and opened again.
fn reopened(node: &Node, mut version: Driven, definition: &str) -> Driven {
    version.runner.finish();
    version.store.close();
    drop(version);
    let mut version = node.version(definition);
    version.run();
    version
}

#[test]
fn a_paused_version_stands_until_a_decision_skips_its_event_and_rebuilds_repeat_that() {
    let definition = with("pause");
    let mut node = node();
    node.append_to(&[summed("s", "1"), summed("s", "\"ten\""), summed("s", "2")]);
    let mut version = node.version(&definition);
    assert!(matches!(version.run(), Step::Paused(..)));
    let stands = |version: &Driven, at: u64| {
        let progress = version.status.progress();
        let pause = progress.pause.expect("it stands still");
        assert_eq!((pause.position.get(), progress.as_of.get()), (at, at - 1));
        assert_eq!((pause.failure.step, pause.failure.line), (Some(1), Some(20)), "{}", pause.failure);
        let failure = progress.failure.expect("it says why");
        for part in [&format!("position {at}"), "doc.summed", "stream s", "ten", "projection skip p"] {
            assert!(failure.contains(part), "{part} is not in: {failure}");
        }
    };
    stands(&version, 2);
    version = reopened(&node, version, &definition);
    stands(&version, 2);
    version.status.control().ask_try();
    assert!(matches!(version.run(), Step::Paused(..)), "it fails in the same way");
    assert_eq!(version.status.progress().tries, 1);
    node.decide("p", &skip(1));
    node.decide("other", &skip(2));
    assert!(matches!(version.run(), Step::Paused(..)), "these decide nothing about its event");
    node.decide("p", &skip(2));
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    let progress = version.status.progress();
    assert_eq!((progress.as_of, progress.failure, progress.pause), (node.head.get(), None, None));
    let at_once = held(&version);
    assert_eq!(at_once.1.skipped, 1);
    version = reopened(&node, version, &definition);
    assert_eq!(held(&version), at_once);
    drop(version);
    // The decision about position 1, which was applied long before, counts in a rebuild too: the registry refuses it.
    let again = rebuilt(&node, &definition);
    assert_eq!(held(&again).1.skipped, 2);
}

#[test]
fn a_skipping_version_counts_what_it_passes_by_and_so_does_its_rebuild() {
    let definition = with("skip");
    let mut node = node();
    node.append_to(&[summed("s", "1"), summed("s", "\"ten\""), copied("t", "none"), summed("s", "2")]);
    let mut version = node.version(&definition);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    let (hash, counts, entries) = held(&version);
    assert_eq!((counts.skipped, counts.parked_events, counts.last_error.get()), (2, 0, 3));
    let listed: Vec<_> = entries.iter().map(|(position, _)| position.get()).collect();
    assert_eq!(listed, [2, 3]);
    assert!(matches!(&entries[0].1, Entry::Skipped(skipped) if skipped.decided_at.is_none()));
    let version = reopened(&node, version, &definition);
    assert_eq!(held(&version), (hash, counts, entries.clone()));
    drop(version);
    assert_eq!(held(&rebuilt(&node, &definition)), (hash, counts, entries));
}

#[test]
fn a_quarantining_version_parks_the_stream_applies_it_late_and_says_so_until_a_rebuild() {
    let definition = with("quarantine");
    let mut node = node();
    node.append_to(&[summed("bad", "1"), summed("bad", "\"ten\""), summed("good", "10"), summed("bad", "2")]);
    node.append_to(&[put("x"), summed("bad", "3")]);
    let mut version = node.version(&definition);
    assert!(matches!(version.run(), Step::CaughtUp(..)));
    let (_, counts, entries) = held(&version);
    assert_eq!((counts.parked_events, counts.parked_streams, counts.skipped, counts.late), (3, 1, 0, 0));
    assert_eq!(counts.incomplete, 0b100, "the sums, and no other collection");
    let failures: Vec<_> = entries
        .iter()
        .map(|(position, entry)| match entry {
            Entry::Parked { failure, .. } => (position.get(), failure.is_some()),
            Entry::Skipped(_) => panic!("{entry:?} is skipped"),
        })
        .collect();
    assert_eq!(failures, [(2, true), (4, false), (6, false)]);
    version = reopened(&node, version, &definition);
    assert_eq!(held(&version).2, entries);

    node.decide("p", &retried());
    version.run();
    assert_eq!(held(&version).2, entries, "it cannot be applied late either");
    node.decide("p", &skip(2));
    version.run();
    let (late_hash, counts, _) = held(&version);
    assert_eq!((counts.parked_events, counts.incomplete, counts.skipped, counts.late), (0, 0, 1, 2));
    node.append_to(&[summed("bad", "4")]);
    version.run();
    let (_, _, entries) = held(&version);
    assert_eq!(entries.len(), 1, "the stream is not parked any more");
    let (late, ..) = held(&version);
    assert_ne!(late, late_hash);

    drop(version);
    let (hash, counts, _) = held(&rebuilt(&node, &definition));
    assert_eq!((counts.skipped, counts.late), (1, 0), "a rebuild skips at once and applies nothing late");
    assert_eq!(hash, late, "sums do not depend on the order");
    let paused_and_skipped = held(&rebuilt(&node, &with("pause"))).0;
    assert_eq!(paused_and_skipped, hash);
}

#[test]
fn what_a_retry_applies_late_a_rebuild_applies_late_at_the_same_place() {
    let definition = with("quarantine");
    let mut node = node();
    node.append_to(&[copied("c", "x"), copied("d", "y"), copied("c", "z"), put("x"), put("z")]);
    let mut version = node.version(&definition);
    version.run();
    assert_eq!(held(&version).1.parked_events, 3);
    let at = node.decide("p", &retried());
    node.append_to(&[copied("c", "x")]);
    version.run();
    let after = held(&version);
    assert_eq!((after.1.parked_events, after.1.late, after.1.parked_streams), (1, 2, 1), "d waits still");
    let table = version.store.snapshot().unwrap();
    let copies = table.documents(0).unwrap();
    let key = crate::projection::key::Key::text("z").unwrap().encode();
    let stored = copies.get(&key[..]).unwrap().unwrap();
    let (position, _) = crate::projection::store::split_document(stored.value()).unwrap();
    assert_eq!(position, at, "a document changed late counts as changed where that was decided");
    drop((stored, copies, table));
    drop(version);
    assert_eq!(held(&rebuilt(&node, &definition)), after);
}

#[test]
fn a_full_quarantine_pauses_and_goes_on_when_there_is_room() {
    use crate::limits::PARKED_EVENTS_MAX;
    let definition = with("quarantine");
    let mut node = node();
    node.append_to(&[summed("bad", "\"x\"")]);
    for _ in 0..10 {
        let more: Vec<_> = (0..PARKED_EVENTS_MAX / 10).map(|_| summed("bad", "1")).collect();
        node.append_to(&more);
    }
    node.append_to(&[summed("good", "1")]);
    let mut version = node.version(&definition);
    assert!(matches!(version.run(), Step::Paused(..)));
    let pause = version.status.progress().pause.unwrap();
    assert_eq!(pause.position.get(), PARKED_EVENTS_MAX as u64 + 1);
    assert!(pause.failure.message.contains("which is the most"), "{}", pause.failure);
    node.decide("p", &skip(1));
    assert!(matches!(version.run(), Step::CaughtUp(..)), "{:?}", version.status.progress());
    let (hash, counts, _) = held(&version);
    assert_eq!((counts.parked_events, counts.late), (0, PARKED_EVENTS_MAX as u64 - 1));
    drop(version);
    assert_eq!(held(&rebuilt(&node, &definition)).0, hash);
}

/// A log with poisoned events in two streams, decisions about them, and more events behind.
fn story(policy: &str) -> SimDisk {
    let disk = SimDisk::new(7);
    let mut node = Node::open(Arc::new(disk.clone()), Path::new(DATA));
    node.disk.create_dir_all(&node.projections()).unwrap();
    let mixed = |round: u64| {
        let number = |stream| summed(stream, "1");
        [number("a"), number("b"), put(&format!("x{round}")), copied("c", &format!("x{round}")), number("a")]
    };
    node.append_to(&mixed(1));
    node.append_to(&[summed("a", "\"ten\""), copied("c", "late")]);
    node.append_to(&mixed(2));
    node.decide("p", &skip(6));
    node.append_to(&mixed(3));
    if policy == "pause" {
        node.decide("p", &skip(7));
    } else {
        node.append_to(&[put("late")]);
        node.decide("p", &retried());
    }
    node.append_to(&mixed(4));
    node.writer.sync_mark().unwrap();
    disk
}

/// Follows the story in steps of one event, durable ones among them, as far as the disk lets it.
fn follow(node: &Node, definition: &str, mut look: impl FnMut(&Driven)) -> Driven {
    let mut version = node.version(definition);
    for upto in 1..=node.head.get().get() {
        version.runner.head = Head::new(Position::new(upto));
        if upto % 3 == 0 {
            version.runner.undurable.since = super::super::tests::long_ago_if(version.runner.undurable.since);
        }
        for _ in 0..6 {
            let step = version.runner.step();
            if matches!(step, Step::CaughtUp(..) | Step::Paused(..) | Step::Over) {
                break;
            }
        }
        if node.disk.exists(Path::new(DATA)).is_err() {
            break;
        }
        look(&version);
    }
    version
}

#[test]
fn a_disk_that_fails_once_anywhere_delays_and_changes_nothing() {
    for policy in ["pause", "quarantine", "skip"] {
        let definition = with(policy);
        let base = story(policy).kill(1);
        let run = |disk: &SimDisk, fault: Option<u64>| {
            let node = Node::open(Arc::new(disk.clone()), Path::new(DATA));
            let before = disk.operations();
            if let Some(fault) = fault {
                disk.fail_at(before + fault, std::io::ErrorKind::Other);
            }
            let mut version = follow(&node, &definition, |_| {});
            assert!(matches!(version.run(), Step::CaughtUp(..)), "{policy}, fault {fault:?}");
            (held(&version), disk.operations() - before)
        };
        let (expected, operations) = run(&base.kill(1), None);
        for fault in 0..operations {
            let (found, _) = run(&base.kill(1), Some(fault));
            assert_eq!(found.0, expected.0, "{policy}, fault {fault}");
            assert_eq!(found.1.skipped, expected.1.skipped, "{policy}, fault {fault}");
            assert_eq!(found.1.parked_events, 0, "{policy}, fault {fault}");
        }
    }
}

#[test]
fn a_crash_anywhere_leaves_documents_ledger_and_cursor_of_one_commit() {
    for policy in ["pause", "quarantine"] {
        let definition = with(policy);
        let base = story(policy).kill(1);
        let mut seen: BTreeMap<Position, Vec<Held>> = BTreeMap::new();
        let (operations, expected) = {
            let whole = base.kill(1);
            let node = Node::open(Arc::new(whole.clone()), Path::new(DATA));
            let before = whole.operations();
            let version = follow(&node, &definition, |version| {
                let cursor = version.store.snapshot().unwrap().state().cursor;
                seen.entry(cursor).or_default().push(held(version));
            });
            (whole.operations() - before, held(&version))
        };
        assert_eq!(expected.1.parked_events, 0);
        assert_eq!(expected.1.skipped, if policy == "pause" { 2 } else { 1 });
        assert!(operations > 60, "only {operations} operations");
        for point in (0..operations).step_by(2) {
            let cut = base.kill(1);
            let node = Node::open(Arc::new(cut.clone()), Path::new(DATA));
            cut.crash_at(cut.operations() + point);
            drop(follow(&node, &definition, |_| {}));
            drop(node);
            for (after, what) in [(cut.crash(point), "power loss"), (cut.kill(point), "kill")] {
                let node = Node::open(Arc::new(after), Path::new(DATA));
                let mut version = node.version(&definition);
                // Opened, and nothing applied yet.
                version.runner.head = Head::new(Position::ZERO);
                version.runner.step();
                let cursor = version.store.snapshot().unwrap().state().cursor;
                let found = held(&version);
                let known = cursor == Position::ZERO || seen[&cursor].contains(&found);
                assert!(known, "{policy}, {what} at operation {point}: {found:?} at {cursor}");
                version.runner.head = node.head.clone();
                assert!(matches!(version.run(), Step::CaughtUp(..)), "{policy}, {what} at {point}");
                let (hash, counts, _) = held(&version);
                assert_eq!((hash, counts.parked_events), (expected.0, 0), "{policy}, {what} at {point}");
                assert_eq!(counts.skipped, expected.1.skipped, "{policy}, {what} at {point}");
            }
        }
    }
}
