//! The first opening of a restored log, killed and failing at every operation: it begins an epoch that the original never had,
//! says so in the log, and loses nothing.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use outrigger::{
    append::{Appender, Request, committer::Committer},
    clock::{Clock as _, SimClock},
    disk::{Disk, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, StreamId},
    events::Events,
    follower::Head,
    index::{Index, IndexConfig},
    log::{Epoch, LogConfig, mark_restored, open_restored},
    mesh::restored::accept,
    metrics::Metrics,
};
use uuid::Uuid;

const LOG: &str = "/data/log";
const EVENTS: u64 = 40;

/// What an opening shows once it is done.
struct Opened {
    epoch: Epoch,
    is_restored: bool,
    events: Vec<RecordedEvent>,
}

/// Opens as a node does, appends so many events, and ends without saying goodbye.
fn open(disk: &SimDisk, clock: &Arc<SimClock>, number: u64, append: u64) -> Result<Opened, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir_all("/data".as_ref()).map_err(|error| text(&error))?;
    let config =
        LogConfig { dir: LOG.into(), node: "flights".into(), segment_bytes: 16_384, low_water_bytes: 0 };
    let log = open_restored(Arc::clone(&disk), &**clock, config, number).map_err(|error| text(&error))?;
    let (epoch, is_restored) = (log.writer.epoch(), log.is_restored);
    let config = IndexConfig { run_events: 16, background: false, ..IndexConfig::default() };
    let index = Index::open_configured(Arc::clone(&disk), "/data/index".as_ref(), &log.reader, config);
    let index = Arc::new(index.map_err(|error| text(&error))?);
    let head = Head::new(log.reader.head());
    let (reader, metrics) = (log.reader.clone(), Arc::new(Metrics::new()));
    let committer =
        Committer::new(log.writer, reader, Arc::clone(&index), head.clone(), clock.clone(), metrics);
    let mut committer = committer.map_err(|error| text(&error))?;
    let events = Events::new(log.reader, index, head);
    let (appender, intake) = Appender::new(usize::MAX);
    if is_restored {
        let ways = (&appender, &intake);
        accept(&disk, LOG.as_ref(), &mut committer, ways, &events, &**clock).map_err(|error| text(&error))?;
    }
    for _ in 0..append {
        let mut answer =
            appender.submit(Request::of(vec![event(clock.random())])).map_err(|error| text(&error))?;
        committer.step(&intake).map_err(|error| text(&error))?;
        answer.try_recv().unwrap().map_err(|error| text(&error))?;
    }
    let head = events.head().get().get();
    let events = (1..=head).map(|at| events.at(Position::new(at)).unwrap().unwrap()).collect();
    Ok(Opened { epoch, is_restored, events })
}

fn event(random: u128) -> Event {
    let id = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    Event {
        id: EventId::from_uuid(id).unwrap(),
        event_type: EventType::parse("t").unwrap(),
        stream: StreamId::parse("s").unwrap(),
        tags: Vec::new(),
        data: Bytes::from_static(b"1"),
        metadata: None,
        time_unix_nanos: None,
    }
}

/// A log of several openings and segments, and what is in it.
fn original(clock: &Arc<SimClock>) -> (SimDisk, Vec<Uuid>) {
    let mut disk = SimDisk::new(1);
    for _ in 0..3 {
        open(&disk, clock, 0, EVENTS / 4).unwrap();
        disk = disk.kill(2);
    }
    let events = open(&disk, clock, 0, EVENTS / 4).unwrap().events;
    (disk.kill(3), ids(&events))
}

fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|recorded| Uuid::from_bytes(*recorded.event.id.as_bytes())).collect()
}

/// Holds an opening of a restored log against what was in it; `decided_min` decisions at least.
fn check(opened: &Opened, original: &[Uuid], decided_min: usize) {
    assert!(opened.epoch.counter > 1_000_000_000, "{:?} may be one of the original", opened.epoch);
    assert_eq!(ids(&opened.events)[..original.len()], *original, "something is gone");
    let decided: Vec<&RecordedEvent> = opened
        .events
        .iter()
        .filter(|recorded| recorded.event.event_type.as_str() == "$export.restored")
        .collect();
    assert!(decided.len() >= decided_min, "{} decisions", decided.len());
    for decision in decided {
        let data: serde_json::Value = serde_json::from_slice(&decision.event.data).unwrap();
        assert_eq!(data["head"], decision.position.get() - 1, "{data}");
        assert!(data["epoch"].as_u64().unwrap() > 1_000_000_000, "{data}");
    }
}

fn marked(disk: &SimDisk) -> SimDisk {
    let copy = disk.kill(9);
    let seam: Arc<dyn Disk> = Arc::new(copy.clone());
    mark_restored(&seam, LOG.as_ref(), None).unwrap();
    copy
}

#[test]
fn a_restored_log_parts_from_its_original_once() {
    let clock = Arc::new(SimClock::new(7));
    let (disk, original) = original(&clock);
    let copy = marked(&disk);
    let first = open(&copy, &clock, 0, 5).unwrap();
    assert!(first.is_restored);
    check(&first, &original, 1);
    assert_eq!(first.events.len(), original.len() + 6);
    let second = open(&copy.kill(1), &clock, 0, 0).unwrap();
    assert!(!second.is_restored);
    assert_eq!(second.epoch.counter, first.epoch.counter + 1);
    assert_eq!(second.events.len(), original.len() + 6, "it is decided once");
    // Another copy of the same original, later: none of its epochs is one of the first copy's.
    let other = open(&marked(&disk), &clock, 0, 0).unwrap();
    assert!(other.epoch != first.epoch && other.epoch.random != first.epoch.random);
}

#[test]
fn a_number_of_the_configuration_restores_once() {
    let clock = Arc::new(SimClock::new(7));
    let (disk, original) = original(&clock);
    let first = open(&disk, &clock, 1, 1).unwrap();
    assert!(first.is_restored);
    check(&first, &original, 1);
    let disk = disk.kill(1);
    assert!(!open(&disk, &clock, 1, 1).unwrap().is_restored);
    let disk = disk.kill(1);
    assert!(!open(&disk, &clock, 0, 1).unwrap().is_restored);
    let disk = disk.kill(1);
    let again = open(&disk, &clock, 2, 1).unwrap();
    assert!(again.is_restored && again.epoch.counter > first.epoch.counter);
    check(&again, &original, 2);
    let fresh = open(&SimDisk::new(4), &clock, 5, 1).unwrap();
    assert!(!fresh.is_restored && fresh.epoch.counter == 1, "a log that begins has nothing to part from");
}

/// Opens with a fault, then again without one, as often as it takes; the original's events are all there, and the mark is gone.
fn disturbed(disk: &SimDisk, original: &[Uuid], number: u64, disturb: impl Fn(&SimDisk, u64)) -> u64 {
    let calm = disk.kill(5);
    let before = calm.operations();
    open(&calm, &Arc::new(SimClock::new(8)), number, 2).unwrap();
    let operations = calm.operations() - before;
    for operation in 0..operations {
        let clock = Arc::new(SimClock::new(8));
        let faulty = disk.kill(5);
        disturb(&faulty, faulty.operations() + operation);
        let acknowledged = open(&faulty, &clock, number, 2).map_or(0, |opened| opened.events.len());
        let healthy = faulty.crash(operation);
        let opened = open(&healthy, &clock, number, 1).unwrap_or_else(|error| panic!("{operation}: {error}"));
        check(&opened, original, 1);
        assert!(opened.events.len() > acknowledged, "{operation}: acknowledged and lost");
        let last = open(&healthy.kill(1), &clock, number, 0).unwrap();
        assert!(!last.is_restored, "{operation}: the mark stays");
        assert!(last.epoch.counter > opened.epoch.counter);
    }
    operations
}

#[test]
fn the_first_opening_is_killed_at_every_operation() {
    let (disk, original) = original(&Arc::new(SimClock::new(7)));
    let operations = disturbed(&marked(&disk), &original, 0, SimDisk::crash_at);
    assert!(operations > 20, "{operations}");
    disturbed(&disk, &original, 3, SimDisk::crash_at);
}

#[test]
fn the_first_opening_fails_at_every_operation() {
    let (disk, original) = original(&Arc::new(SimClock::new(7)));
    let marked = marked(&disk);
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        disturbed(&marked, &original, 0, |disk, operation| disk.fail_at(operation, kind));
        disturbed(&disk, &original, 3, |disk, operation| disk.fail_at(operation, kind));
    }
}

#[test]
fn a_damaged_mark_is_refused_and_changes_nothing() {
    let clock = Arc::new(SimClock::new(7));
    let (disk, _) = original(&clock);
    let copy = marked(&disk);
    copy.flip_bit(Path::new("/data/log/restored"), 130).unwrap();
    let before = copy.operations();
    let error = open(&copy, &clock, 0, 0).map(|_| ()).unwrap_err();
    assert!(error.contains("/data/log/restored") && error.contains("checksum"), "{error}");
    assert_eq!(copy.operations(), before);
}
