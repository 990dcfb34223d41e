//! Parked events that come again, on a disk that crashes at every operation: applied once, emitted once.

use super::*;
use crate::{
    event::{EventId, StreamId},
    projection::ledger::Counts,
};

fn parking() -> Definition {
    let text = "projection: p\nversion: 1\nhandler: service\non_error: quarantine\ncollections: { docs: {} }\nevents: [t]\n";
    Definition::parse(text, "p.yaml").unwrap()
}

/// Every third cause is poisoned, until somebody retries.
fn is_poisoned(position: Position) -> bool {
    position.get().is_multiple_of(3)
}

fn fails(event: &RecordedEvent, late: bool) -> bool {
    is_poisoned(event.position) && !late
}

/// A number of its own in every life, and never none: what is lost would be seen.
fn some(_: u32, life: u64, cause: &RecordedEvent) -> Vec<&'static str> {
    vec!["emitted"; 1 + ((cause.position.get() + life) % 2) as usize]
}

fn append_causes(life: &Life, numbers: std::ops::Range<u128>) {
    let one = |n: u128| {
        let mut cause = event(Position::new(1), "t", "{}").event;
        cause.id = EventId::from_uuid(uuid::Uuid::from_u128(n)).unwrap();
        cause.stream = StreamId::parse(["a", "b", "c", "d"][(n % 4) as usize]).unwrap();
        cause
    };
    life.append(Request::of(numbers.map(one).collect()));
}

fn retry(life: &Life) -> Position {
    let decision = Decision::Retried { version: 1, reason: String::new() };
    let clock = SimClock::new(life.events.head().get().get());
    life.append(decisions::request(&clock, "p", &decision, crate::append::Expected::Any))
}

fn version(life: &Life) -> Version {
    Version { fails, ..life.version_of(parking()) }
}

fn counts(version: &Version) -> Counts {
    version.store.snapshot().unwrap().counts().unwrap()
}

/// Causes of four streams, a retry in the middle of them, and causes behind it.
fn ground() -> SimDisk {
    let disk = SimDisk::new(1);
    let life = Life::open(&disk, 0).unwrap();
    append_causes(&life, 1..9);
    retry(&life);
    append_causes(&life, 101..104);
    life.end(Vec::new());
    disk.crash(0)
}

/// Every cause has what one life emitted for it, all of it and once; those that are parked have nothing.
fn check_emitted(life: &Life, version: &Version) {
    let snapshot = version.store.snapshot().unwrap();
    let parked: Vec<_> =
        snapshot.set_aside_page(Position::ZERO, 1_000).unwrap().into_iter().map(|(at, _)| at).collect();
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    let mut causes = Vec::new();
    for position in (1..=life.events.head().get().get()).map(Position::new) {
        let recorded = life.events.at(position).unwrap().unwrap();
        match recorded.event.event_type.as_str() {
            "t" => causes.push(position),
            "emitted" => {
                let Ok(Json::Object(metadata)) = Json::parse(recorded.event.metadata.as_ref().unwrap())
                else {
                    panic!("no metadata")
                };
                let Some(Json::Int(cause)) = metadata.get("causation_position") else { panic!("no cause") };
                *found.entry(*cause as u64).or_default() += 1;
            }
            _ => {}
        }
    }
    for cause in causes {
        let count = found.remove(&cause.get()).unwrap_or_default();
        let expected = if parked.contains(&cause) { 0..=0 } else { 1..=2 };
        assert!(expected.contains(&count), "cause {cause}: {count} emitted");
    }
    assert!(found.is_empty(), "emitted without a cause: {found:?}");
}

/// Lives until one is not cut off; each crashes at the next of these operations after its start.
fn live(mut disk: SimDisk, crashes: &[u64]) -> (bool, ContentHash, Counts) {
    for number in 1.. {
        if let Some(after) = crashes.get(number as usize - 1) {
            disk.crash_at(disk.operations() + after);
        }
        if let Some(life) = Life::open(&disk, number) {
            let mut versions = vec![version(&life)];
            if life.run(&disk, &mut versions, some) {
                check_emitted(&life, &versions[0]);
                let held = (number > 1, versions[0].content_hash(), counts(&versions[0]));
                life.end(versions);
                return held;
            }
            life.end(versions);
        }
        assert!(disk.is_crashed(), "a life ends at the head or by a crash");
        disk = disk.crash(number);
    }
    unreachable!("some life has no crash")
}

#[test]
fn parked_events_are_applied_and_emitted_once_over_a_crash_at_every_operation() {
    let ground = ground();
    let (_, hash, held) = live(ground.crash(0), &[]);
    // The third and the seventh of stream d, the sixth of stream c; of the later causes the one at position 12 stays.
    assert_eq!((held.late, held.parked_events, held.incomplete), (3, 1, 1), "{held:?}");
    for after in 0.. {
        let (crashed, found, counts) = live(ground.crash(0), &[after]);
        assert_eq!((found, counts), (hash, held), "a crash at operation {after}");
        if !crashed {
            assert!(after > 20, "there are many operations at which to crash");
            return;
        }
        let (_, found, counts) = live(ground.crash(0), &[after, after % 11]);
        assert_eq!((found, counts), (hash, held), "crashes at operations {after} and {}", after % 11);
    }
}

#[test]
fn what_was_never_handled_before_is_emitted_by_a_rebuild_that_can_handle_it() {
    let disk = ground();
    let first = Life::open(&disk, 1).unwrap();
    let mut versions = vec![version(&first)];
    assert!(first.run(&disk, &mut versions, some));
    let head = first.events.head().get();
    first.end(versions);
    disk.remove_file(&Path::new(DATA).join("projections/p-v1.redb")).unwrap();
    let second = Life::open(&disk, 2).unwrap();
    // This one fails at nothing.
    let mut versions = vec![second.version_of(parking())];
    assert!(second.run(&disk, &mut versions, some));
    check_emitted(&second, &versions[0]);
    assert_eq!(counts(&versions[0]), Counts::default());
    let appended = second.events.head().get().get() - head.get();
    assert_eq!(appended, some(1, 2, &event(Position::new(12), "t", "{}")).len() as u64, "of one cause");
    let differences = versions[0].hub.counts.emission_differences.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(differences, 10, "every cause but that one has what another life emitted");
    second.end(versions);
}

#[test]
fn a_decision_waits_for_what_is_before_it_and_the_rest_for_the_decision() {
    let disk = ground();
    let life = Life::open(&disk, 1).unwrap();
    let mut version = version(&life);
    let mut late = Vec::new();
    let mut parked_before = None;
    for _ in 0..200 {
        version.runner.step();
        while let Ok(told) = version.told.try_recv() {
            let ToWorker::Run { run, late_at, events, .. } = told else { continue };
            if let Some(at) = late_at {
                assert_eq!((at, events.len()), (Position::new(9), 1), "one at a time");
                late.push(events[0].position.get());
                let shown = version.store.snapshot().unwrap();
                parked_before.get_or_insert(shown.counts().unwrap().parked_events);
                assert_eq!(shown.counts().unwrap().late, 0, "it is shown when all of it is done");
                assert_eq!(shown.state().cursor, Position::new(8));
            } else if !late.is_empty() {
                assert!(events.iter().all(|event| event.position > Position::new(9)));
            } else {
                assert!(events.iter().all(|event| event.position < Position::new(9)));
            }
            let answers = events.into_iter().map(|event| WorkerAnswer {
                run,
                position: event.position,
                answer: if fails(&event, late_at.is_some()) {
                    Answer::Failure("poisoned".into())
                } else {
                    Answer::Transaction(Transaction::default())
                },
                bytes: 1,
            });
            assert!(block(version.session.send(Message::Answers(answers.collect()))));
        }
    }
    assert_eq!((late, parked_before), (vec![3, 7, 6], Some(3)), "stream by stream, each in order");
    assert_eq!(version.status.progress().as_of, life.events.head().get());
    life.end(vec![version]);
}
