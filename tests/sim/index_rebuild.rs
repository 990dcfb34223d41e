//! A start that must build the index of a whole log, killed again and again: it goes on where it was, and ends.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use outrigger::{
    clock::{Clock as _, SimClock},
    disk::{Disk as _, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId},
    index::{Index, IndexConfig, IndexError, LogView},
    log::{LogConfig, LogReader, open},
};

const EVENTS: u64 = 12_000;
const GROUP: u64 = 400;
const RUN_EVENTS: u32 = 256;
/// What a kill may cost: the full parts that wait for their files, the one that is being filled, and what is read from the log at once.
const AGAIN_MAX: u64 = 10 * RUN_EVENTS as u64;

fn recorded(position: u64, clock: &SimClock) -> RecordedEvent {
    let id = uuid::Builder::from_random_bytes(clock.random().to_be_bytes()).into_uuid();
    let event = Event {
        id: EventId::from_uuid(id).unwrap(),
        event_type: EventType::parse("t").unwrap(),
        stream: StreamId::parse(&format!("s-{}", position % 50)).unwrap(),
        tags: Vec::new(),
        data: Bytes::from_static(b"1"),
        metadata: None,
        time_unix_nanos: None,
    };
    RecordedEvent {
        position: Position::new(position),
        revision: Revision::new((position - 1) / 50 + 1),
        recorded_at_unix_nanos: 1,
        event,
        tracking: None,
        origin: None,
        cursor: None,
    }
}

/// A log without an index.
fn log(disk: &SimDisk) -> (LogReader, Vec<RecordedEvent>) {
    let clock = SimClock::new(3);
    let config =
        LogConfig { dir: "/log".into(), node: "flights".into(), segment_bytes: 1 << 20, low_water_bytes: 0 };
    let mut log = open(Arc::new(disk.clone()), &clock, config).unwrap();
    let events: Vec<RecordedEvent> = (1..=EVENTS).map(|position| recorded(position, &clock)).collect();
    for group in events.chunks(GROUP as usize) {
        let payloads: Vec<Vec<u8>> = group.iter().map(RecordedEvent::encode).collect();
        log.writer.append(&payloads).unwrap();
    }
    (log.reader, events)
}

/// Opens the index, counting the events that it reads from the log.
fn build(disk: &SimDisk, log: &LogReader, read: &Arc<AtomicU64>) -> Result<Index, IndexError> {
    let (reader, read) = (log.clone(), Arc::clone(read));
    let scan = move |after: Position, upto: Position| {
        let records = reader.scan(after, upto, usize::MAX, RUN_EVENTS as usize).unwrap();
        read.fetch_add(records.len() as u64, Ordering::Relaxed);
        let decode = |(position, payload)| RecordedEvent::decode(position, payload).unwrap();
        Ok(records.into_iter().map(decode).collect())
    };
    let view =
        LogView { log_id: log.log_id(), first: Position::new(1), head: log.head(), scan: Box::new(scan) };
    let config = IndexConfig { run_events: RUN_EVENTS, background: false, ..IndexConfig::default() };
    Index::open_with(Arc::new(disk.clone()), Path::new("/index"), view, config)
}

/// Up to where there are files of the index.
fn written(disk: &SimDisk) -> u64 {
    let names = disk.list(Path::new("/index")).unwrap();
    let last = |name: &String| name.strip_suffix(".run")?.split_once('-')?.1.parse().ok();
    names.iter().filter_map(last).max().unwrap_or(0)
}

#[test]
fn a_start_that_builds_the_index_ends_although_it_is_killed_three_times() {
    let (log, events) = log(&SimDisk::new(1));
    let calm = SimDisk::new(2);
    let read = Arc::new(AtomicU64::new(0));
    drop(build(&calm, &log, &read).unwrap());
    assert_eq!(read.load(Ordering::Relaxed), EVENTS, "an undisturbed start reads everything once");
    let operations = calm.operations();
    assert!(operations > 100, "{operations}");

    let read = Arc::new(AtomicU64::new(0));
    let mut disk = SimDisk::new(4);
    let mut before = 0;
    let mut written_before = 0;
    for kill in 1..=3 {
        disk.crash_at(disk.operations() + operations / 4);
        assert!(build(&disk, &log, &read).is_err());
        assert!(disk.is_crashed());
        disk = disk.crash(kill);
        let now = read.load(Ordering::Relaxed);
        assert!(now > before + EVENTS / 8, "start {kill} came from {before} to {now} only");
        before = now;
        let written = written(&disk);
        assert!(written > written_before, "start {kill} wrote nothing that stays");
        written_before = written;
    }
    let index = build(&disk, &log, &read).unwrap();
    let read = read.load(Ordering::Relaxed);
    assert!(read < EVENTS + 3 * AGAIN_MAX, "{read} events were read for {EVENTS}: it began anew");
    assert_eq!(index.head(), Position::new(EVENTS));
    for recorded in events.iter().step_by(997) {
        assert_eq!(index.position_of(&recorded.event.id).unwrap(), Some(recorded.position));
    }
}
