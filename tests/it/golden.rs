//! The golden data directory: log, index and filter of a fixed life, in the bytes of a release.
//!
//! What was written then can be read for ever, and the same life still gives the same bytes: several segments, two
//! epochs, events of every shape, the system's own, positions of sources, runs of the index (one of them merged, with
//! posting blocks) and the filter of ids. `TEST_ACCEPT_GOLDEN=1` accepts a deliberate change of a format: it writes
//! `tests/fixtures/data-v1` anew.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use outrigger::{
    append::{Appender, Intake, Request, committer::Committer},
    clock::SimClock,
    disk::{Disk, read_file, real::RealDisk, replace_file, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, Source, StreamId, Tag, Tracking},
    events::Events,
    follower::Head,
    index::{Direction, Filter, Index, IndexConfig, QueryItem},
    log::{LogConfig, LogReader, RecoveryReport, open},
    metrics::Metrics,
    verify::{DataDir, verify},
};
use uuid::Uuid;

use crate::support::repository;

const DATA: &str = "/data";
/// Events of each opening.
const OPENINGS: [u64; 2] = [300, 100];
const FILE_BYTES_MAX: usize = 1 << 20;

fn fixture() -> PathBuf {
    repository().join("tests/fixtures/data-v1")
}

fn position(number: u64) -> Position {
    Position::new(number)
}

/// The n-th event of the life, from 1.
fn event(n: u64) -> Event {
    let event_type = match n {
        _ if n.is_multiple_of(50) => "$projection.promoted",
        _ if n.is_multiple_of(3) => "seat.booked",
        _ => "seat.freed",
    };
    let stream = if n.is_multiple_of(50) { "$projections".into() } else { format!("seat-{}", n % 7) };
    let tags: &[&str] = match n % 5 {
        0 => &[],
        1 => &["flight:UA1"],
        2 => &["flight:UA1", "gate:ä 1"],
        _ => &["flight:B62", "row:9"],
    };
    Event {
        id: EventId::from_uuid(Uuid::from_u128(u128::from(n) << 64 | 0x4000_8000_0000_0000_0000)).unwrap(),
        event_type: EventType::parse_any(event_type).unwrap(),
        stream: StreamId::parse_any(&stream).unwrap(),
        tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
        data: Bytes::from(format!("{{\"n\": {n}}}")),
        metadata: n.is_multiple_of(4).then(|| Bytes::from_static(b"{\"trace\":\"t\"}")),
        time_unix_nanos: n.is_multiple_of(2).then_some(1_357_027_200_000_000_000 + n as i64),
    }
}

/// Where the n-th event carries a consumer's position, which one.
fn tracking(n: u64) -> Option<Tracking> {
    let source = Source::parse(if n.is_multiple_of(20) { "weather" } else { "payments" }).unwrap();
    n.is_multiple_of(10).then_some(Tracking { source, position: n * 100 })
}

/// An open node without threads and projections.
struct Node {
    committer: Committer,
    appender: Appender,
    intake: Intake,
    events: Events,
    index: Arc<Index>,
    log: LogReader,
    recovery: RecoveryReport,
}

impl Node {
    fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Self {
        let config = LogConfig {
            dir: format!("{DATA}/log").into(),
            node: "golden".into(),
            segment_bytes: 32_768,
            low_water_bytes: 0,
        };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let log = open(Arc::clone(&disk), &**clock, config).unwrap();
        let config = IndexConfig { run_events: 64, background: false, ..IndexConfig::default() };
        let dir = format!("{DATA}/index");
        let index = Arc::new(Index::open_configured(disk, dir.as_ref(), &log.reader, config).unwrap());
        let head = Head::new(log.reader.head());
        let (reader, metrics) = (log.reader.clone(), Arc::new(Metrics::new()));
        let committer =
            Committer::new(log.writer, reader, Arc::clone(&index), head.clone(), clock.clone(), metrics);
        let (appender, intake) = Appender::new(usize::MAX);
        Self {
            committer: committer.unwrap(),
            appender,
            intake,
            events: Events::new(log.reader.clone(), Arc::clone(&index), head),
            index,
            log: log.reader,
            recovery: log.recovery,
        }
    }

    /// Appends the events from `first` to `last` in groups of several sizes; an event with a source's position ends
    /// its request.
    fn append(&mut self, first: u64, last: u64) {
        let mut next = first;
        while next <= last {
            let size = 1 + next % 13;
            let end = (next..last).find(|n| tracking(*n).is_some() || n + 1 == next + size).unwrap_or(last);
            let request =
                Request { tracking: tracking(end), ..Request::of((next..=end).map(event).collect()) };
            let mut answer = self.appender.submit(request).unwrap();
            self.committer.step(&self.intake).unwrap();
            assert_eq!(answer.try_recv().unwrap().unwrap().position, position(end));
            while self.index.step().unwrap() {}
            next = end + 1;
        }
    }

    /// A clean stop.
    fn stop(mut self) {
        self.committer.idle().unwrap();
        self.index.stop().unwrap();
    }
}

/// The disk after the whole life.
fn lived() -> SimDisk {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new(1)));
    disk.create_dir_all(DATA.as_ref()).unwrap();
    let mut before = 0;
    for events in OPENINGS {
        let mut node = Node::open(&disk, &clock);
        node.append(before + 1, before + events);
        node.stop();
        before += events;
    }
    disk
}

/// All files of a data directory that hold something: neither locks nor the spare.
fn files(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for part in ["index", "log"] {
        let names = disk.list(&dir.join(part)).unwrap().into_iter();
        for name in names.filter(|name| name != "spare" && name != "LOCK") {
            let bytes = read_file(disk, &dir.join(part).join(&name), FILE_BYTES_MAX).unwrap();
            files.push((format!("{part}/{name}"), bytes));
        }
    }
    files
}

/// A disk that holds the golden files.
fn golden() -> SimDisk {
    let disk = SimDisk::new(2);
    for part in ["index", "log"] {
        disk.create_dir_all(&Path::new(DATA).join(part)).unwrap();
    }
    for (name, bytes) in files(&RealDisk, &fixture()) {
        replace_file(&disk, &Path::new(DATA).join(name), &bytes).unwrap();
    }
    disk
}

fn head() -> u64 {
    OPENINGS.iter().sum()
}

#[test]
fn the_golden_directory_is_sound() {
    let disk: Arc<dyn Disk> = Arc::new(golden());
    let report = verify(&disk, &DataDir::new(DATA), &mut |_| {}).unwrap();
    assert_eq!(report.findings(), []);
    assert_eq!((report.log.records, report.log.head), (head(), position(head())));
    assert!(report.log.segments.len() >= 3, "{:?}", report.log.segments);
    let epochs: Vec<u64> = report.epochs.iter().map(|start| start.first.get()).collect();
    assert_eq!(epochs, [1, 1 + OPENINGS[0]]);
}

#[test]
fn the_golden_directory_holds_what_was_appended() {
    let disk = golden();
    let index_files = || -> Vec<_> {
        files(&disk, Path::new(DATA)).into_iter().filter(|(name, _)| name.starts_with("index/")).collect()
    };
    let before = index_files();
    let node = Node::open(&disk, &Arc::new(SimClock::new(2)));
    assert_eq!(
        (node.recovery.head, &node.recovery.rewritten, &node.recovery.cut),
        (position(400), &None, &None)
    );
    assert_eq!(node.index.status().runs, 4);
    assert_eq!(node.index.status().active_events, 0, "the runs hold everything");
    assert_eq!(index_files(), before, "nothing was built anew");
    let mut revisions = std::collections::HashMap::new();
    let mut recorded_before = 0;
    for n in 1..=head() {
        let recorded: RecordedEvent = node.events.at(position(n)).unwrap().unwrap();
        let revision = revisions.entry(recorded.event.stream.clone()).or_insert(0);
        *revision += 1;
        assert_eq!((recorded.position.get(), recorded.revision.get()), (n, *revision));
        assert!(recorded.recorded_at_unix_nanos >= recorded_before);
        recorded_before = recorded.recorded_at_unix_nanos;
        assert_eq!((recorded.event, recorded.tracking), (event(n), tracking(n)));
        assert_eq!(node.index.position_of(&event(n).id).unwrap(), Some(position(n)));
    }
    for (stream, revision) in revisions {
        assert_eq!(node.index.stream_head(&stream).unwrap().unwrap().revision.get(), revision, "{stream:?}");
    }
    assert_eq!([1, 300, 301].map(|n| node.log.epoch_at(position(n))), [1, 1, 2]);
    node.log.verify().unwrap();
}

#[test]
fn the_golden_index_answers_filters_and_sources() {
    let node = Node::open(&golden(), &Arc::new(SimClock::new(2)));
    let check = |filter: &Filter, wanted: &dyn Fn(u64) -> bool| {
        let found = node.index.find(filter, Direction::Forward, Position::ZERO, position(head()), 1_000);
        let found: Vec<u64> = found.unwrap().positions.iter().map(|position| position.get()).collect();
        assert_eq!(found, (1..=head()).filter(|n| wanted(*n)).collect::<Vec<_>>(), "{filter:?}");
    };
    let is_system = |n: u64| n.is_multiple_of(50);
    check(&Filter::default(), &|n| !is_system(n));
    check(&Filter { include_system: true, ..Filter::default() }, &|_| true);
    let booked = vec![EventType::parse("seat.booked").unwrap()];
    let booked =
        |tags| Filter { query: vec![QueryItem { types: booked.clone(), tags }], ..Filter::default() };
    check(&booked(Vec::new()), &|n| !is_system(n) && n.is_multiple_of(3));
    let tags = ["flight:UA1", "gate:ä 1"].map(|tag| Tag::parse(tag).unwrap()).to_vec();
    check(&booked(tags), &|n| n.is_multiple_of(3) && n % 5 == 2);
    let stream = Some(StreamId::parse("seat-4").unwrap());
    check(&Filter { stream, ..Filter::default() }, &|n| !is_system(n) && n % 7 == 4);
    for (source, n) in [("weather", 400), ("payments", 390)] {
        let (stored, at) = node.events.tracking(&Source::parse(source).unwrap()).unwrap().unwrap();
        assert_eq!((stored.position, at.get()), (n * 100, n), "{source}");
    }
}

#[test]
fn the_same_life_gives_the_golden_bytes() {
    let now = files(&lived(), Path::new(DATA));
    if std::env::var("TEST_ACCEPT_GOLDEN").is_ok_and(|accepts| accepts == "1") {
        accept(&now);
    }
    let golden = files(&RealDisk, &fixture());
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&now), names(&golden));
    for ((name, now), (_, golden)) in now.iter().zip(&golden) {
        let differs = now.iter().zip(golden).position(|(a, b)| a != b);
        assert_eq!(
            (differs, now.len()),
            (None, golden.len()),
            "{name} differs; a change of a format needs a version and a changelog line, and TEST_ACCEPT_GOLDEN=1 accepts it"
        );
    }
    let bytes: usize = golden.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 200_000, "the golden directory stays small, found {bytes} bytes");
}

/// Puts these files in place of the golden ones.
fn accept(now: &[(String, Vec<u8>)]) {
    if RealDisk.exists(&fixture()).unwrap() {
        for (name, _) in files(&RealDisk, &fixture()) {
            RealDisk.remove_file(&fixture().join(name)).unwrap();
        }
    }
    for part in ["index", "log"] {
        RealDisk.create_dir_all(&fixture().join(part)).unwrap();
    }
    for (name, bytes) in now {
        replace_file(&RealDisk, &fixture().join(name), bytes).unwrap();
    }
}
