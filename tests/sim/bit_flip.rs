//! Flipped bits in a small data directory: every file of log and index, one bit at a time.
//!
//! Whatever a bit does, it is told with the name of its file, or all content is exactly what it was: never silent. Two
//! witnesses have to agree to that: a verification, which changes nothing, and a node that opens the directory and reads
//! everything. By default one bit of every byte that means something and of some that do not; `TEST_BITS=all` takes all.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use outrigger::{
    clock::{Clock as _, SimClock},
    disk::{Access, Disk, read_file, real::RealDisk, replace_file, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Tag},
    index::{Direction, Filter, Index, IndexConfig, IndexError},
    log::{LogConfig, LogError, Opened, open},
    verify::{DataDir, verify},
};

const EVENTS: u64 = 22;
const RUN_EVENTS: u32 = 6;
/// Of bytes that are zero among zeros, every so many-th is tried.
const PADDING_STEP: u64 = 97;

fn dir() -> DataDir {
    DataDir::new("/data")
}

fn opened(disk: &SimDisk, seed: u64) -> Result<Opened, LogError> {
    let config =
        LogConfig { dir: dir().log(), node: "flights".into(), segment_bytes: 14_600, low_water_bytes: 0 };
    open(Arc::new(disk.clone()), &SimClock::new(seed), config)
}

fn index(disk: &SimDisk, log: &Opened) -> Result<Index, IndexError> {
    let config = IndexConfig { run_events: RUN_EVENTS, background: false, ..IndexConfig::default() };
    Index::open_configured(Arc::new(disk.clone()), &dir().index(), &log.reader, config)
}

fn event(number: u64) -> RecordedEvent {
    let system = number.is_multiple_of(7);
    let stream = if system { "$system".to_owned() } else { format!("flight-{}", number % 3) };
    let earlier = (1..number).filter(|other| event_stream(*other) == stream).count() as u64;
    let event_type = if system { "$promoted" } else { ["left", "landed"][number as usize % 2] };
    RecordedEvent {
        position: Position::new(number),
        revision: Revision::new(earlier + 1),
        recorded_at_unix_nanos: number as i64,
        event: Event {
            id: EventId::from_uuid(uuid::Uuid::from_u128(SimClock::new(number).random())).unwrap(),
            event_type: EventType::parse_any(event_type).unwrap(),
            stream: StreamId::parse_any(&stream).unwrap(),
            tags: vec![Tag::parse(&format!("carrier:{}", number % 4)).unwrap()],
            data: Bytes::from(format!("{{\"delay\":{number},\"note\":\"{}\"}}", "x".repeat(80))),
            metadata: None,
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

fn event_stream(number: u64) -> String {
    if number.is_multiple_of(7) { "$system".into() } else { format!("flight-{}", number % 3) }
}

/// A node that ran twice and stopped cleanly: three segments with two sidecars, two epochs, runs of the index.
static NODE: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new(1);
    for (run, numbers) in [(1, 1..=13), (2, 14..=EVENTS)] {
        let mut log = opened(&disk, run).unwrap();
        let index = index(&disk, &log).unwrap();
        let events: Vec<RecordedEvent> = numbers.map(event).collect();
        for group in events.chunks(2) {
            let payloads: Vec<Bytes> = group.iter().map(|event| event.encode().into()).collect();
            log.writer.append(&payloads).unwrap();
            index.apply(group).unwrap();
            while index.step().unwrap() {}
        }
        log.writer.sync_mark().unwrap();
    }
    disk
});

/// All events, and what the index says about each: by id, by stream, by type, by tag, all of it.
fn read_all(disk: &SimDisk) -> Result<Vec<(Position, Bytes)>, LogError> {
    let log = opened(disk, 3)?;
    let all = log.reader.scan(Position::ZERO, Position::new(EVENTS), usize::MAX, usize::MAX)?;
    for number in 1..=EVENTS {
        assert!(log.reader.read(Position::new(number))?.is_some());
    }
    let index = match index(disk, &log) {
        Ok(index) => index,
        Err(IndexError::Log(error)) => panic!("the log was readable: {error}"),
        Err(error) => panic!("an index never keeps a node from opening: {error}"),
    };
    for number in 1..=EVENTS {
        check_found(&index, &event(number));
    }
    Ok(all)
}

fn check_found(index: &Index, expected: &RecordedEvent) {
    let event = &expected.event;
    let found = ask(index, |index| index.position_of(&event.id));
    assert_eq!(found, Some(expected.position));
    let stream = Filter { stream: Some(event.stream.clone()), include_system: true, ..Filter::default() };
    let types = Filter { types: vec![event.event_type.clone()], include_system: true, ..Filter::default() };
    let tags = Filter { tags: event.tags.clone(), include_system: true, ..Filter::default() };
    for filter in [stream, types, tags] {
        let matching: Vec<Position> =
            (1..=EVENTS).filter(|n| filter.matches(&self::event(*n))).map(Position::new).collect();
        let found = ask(index, |index| {
            index.find(&filter, Direction::Forward, Position::ZERO, Position::new(EVENTS), usize::MAX)
        });
        assert_eq!(found.positions, matching, "{filter:?}");
    }
    let head = ask(index, |index| index.stream_head(&event.stream)).unwrap();
    let last = (1..=EVENTS).rfind(|n| event_stream(*n) == event.stream.as_str()).unwrap();
    assert_eq!((head.last_position.get(), head.revision), (last, self::event(last).revision));
}

/// Asks until damage that the question met has been repaired.
fn ask<T>(index: &Index, question: impl Fn(&Index) -> Result<T, IndexError>) -> T {
    for _ in 0..20 {
        match question(index) {
            Ok(answer) => return answer,
            Err(IndexError::Damaged { .. }) => {
                assert!(index.step().unwrap(), "damage that is met is repaired");
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the index goes on being damaged")
}

/// The bits of a file to try.
#[expect(clippy::disallowed_methods, reason = "a campaign takes its size from the environment")]
fn bits(bytes: &[u8]) -> Vec<u64> {
    let all = std::env::var("TEST_BITS").is_ok_and(|bits| bits == "all");
    let means_something = |at: usize| {
        let around = &bytes[at.saturating_sub(8)..bytes.len().min(at + 8)];
        around.iter().any(|byte| *byte != 0)
    };
    let mut bits = Vec::new();
    for at in 0..bytes.len() as u64 {
        if all {
            bits.extend((0..8).map(|bit| at * 8 + bit));
        } else if means_something(at as usize) || at % PADDING_STEP == 0 {
            bits.push(at * 8 + SimClock::new(at).random() as u64 % 8);
        }
    }
    bits
}

/// Flips the bits of a file, one at a time, and gives how many were told and how many were harmless.
fn check(path: &Path) -> (usize, usize) {
    let disk: Arc<dyn Disk> = Arc::new(NODE.clone());
    let sound = verify(&disk, &dir(), &mut |_| ()).unwrap();
    assert_eq!(sound.findings(), []);
    let expected = read_all(&NODE.kill(0)).unwrap();
    let bytes = read_file(&*NODE, path, 1 << 20).unwrap();
    let (mut told, mut harmless) = (0, 0);
    for bit in bits(&bytes) {
        let damaged = NODE.kill(bit);
        damaged.flip_bit(path, bit).unwrap();
        let operations = damaged.operations();
        let seen: Arc<dyn Disk> = Arc::new(damaged.clone());
        match verify(&seen, &dir(), &mut |_| ()) {
            Ok(report) if report.is_sound() && report.log.damage.is_empty() => {
                let content = (report.log.chain, report.log.head, report.log.records);
                let expected = (sound.log.chain, sound.log.head, sound.log.records);
                assert_eq!(content, expected, "bit {bit} of {} is not told", path.display());
                harmless += 1;
            }
            Ok(report) => {
                let findings = report.findings();
                let named = findings.iter().any(|finding| finding.path == path)
                    || report.log.damage.iter().any(|damage| damage.place.path == path);
                assert!(named, "bit {bit} of {} is told elsewhere: {findings:?}", path.display());
                told += 1;
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(&path.display().to_string()), "bit {bit}: {message}");
                told += 1;
            }
        }
        assert_eq!(damaged.operations(), operations, "a verification changes nothing");
        match read_all(&damaged) {
            Ok(content) => assert!(content == expected, "bit {bit} of {} is wrong silently", path.display()),
            Err(LogError::Corrupt(place)) => assert!(
                place.path == path || path.extension().is_some_and(|extension| extension == "log"),
                "bit {bit} of {}: {place}",
                path.display()
            ),
            Err(LogError::NewerFormat { path: named, .. }) => assert_eq!(named, path),
            Err(error) => panic!("bit {bit} of {}: {error}", path.display()),
        }
    }
    (told, harmless)
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let names = NODE.list(dir).unwrap().into_iter().filter(|name| name.ends_with(ending));
    names.map(|name| dir.join(name)).collect()
}

fn check_segment(number: usize) {
    let segments = files(&dir().log(), ".log");
    assert_eq!(segments.len(), 3, "{segments:?}");
    let (told, harmless) = check(&segments[number]);
    assert!(told > 800 && harmless > 80, "{told} told, {harmless} harmless");
}

#[test]
fn every_bit_of_the_first_segment_is_told_or_harmless() {
    check_segment(0);
}

#[test]
fn every_bit_of_the_second_segment_is_told_or_harmless() {
    check_segment(1);
}

#[test]
fn every_bit_of_the_active_segment_is_told_or_harmless() {
    check_segment(2);
}

#[test]
fn every_bit_of_manifest_and_sidecars_is_told() {
    for path in files(&dir().log(), "manifest").into_iter().chain(files(&dir().log(), ".offsets")) {
        let (told, harmless) = check(&path);
        let reserved = if path.ends_with("manifest") { 0 } else { 8 };
        assert!(told > 50 && harmless <= reserved, "{}: {told} told, {harmless} harmless", path.display());
    }
}

#[test]
fn no_bit_of_the_spare_matters() {
    let spare = dir().log().join("spare");
    assert!(NODE.open(&spare, Access::Read).unwrap().len().unwrap() > 0);
    let (told, harmless) = check(&spare);
    assert!(told == 0 && harmless > 100, "{told} told, {harmless} harmless");
}

#[test]
fn every_bit_of_the_index_is_told_or_harmless() {
    let runs = files(&dir().index(), ".run");
    assert!(runs.len() >= 2, "{runs:?}");
    for run in runs {
        let (told, harmless) = check(&run);
        assert!(told > 300 && harmless > 20, "{}: {told} told, {harmless} harmless", run.display());
    }
}

/// Writes what the decoders see first when they are fuzzed: pieces of a small node.
#[test]
#[ignore = "writes fuzz/corpus, once for a format"]
fn write_the_seeds_of_fuzzing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let segment = read_file(&*NODE, &files(&dir().log(), ".log")[0], 1 << 20).unwrap();
    let manifest = read_file(&*NODE, &dir().log().join("manifest"), 1 << 20).unwrap();
    let run = read_file(&*NODE, &files(&dir().index(), ".run")[0], 1 << 20).unwrap();
    let seeds = [
        ("log_segment_header", &segment[..104]),
        ("log_mark", &segment[4_096..4_096 + 80]),
        ("log_group", &segment[12_288..]),
        ("log_record", &segment[12_288 + 64..]),
        ("log_manifest", &manifest[..]),
        ("index_header", &run[..4_096]),
        ("index_dictionary", &run[8_192..]),
        ("index_sections", &run[8_192..]),
        ("index_run", &run[..]),
    ];
    for (target, bytes) in seeds {
        RealDisk.create_dir_all(&corpus.join(target)).unwrap();
        replace_file(&RealDisk, &corpus.join(target).join("seed"), bytes).unwrap();
    }
}
