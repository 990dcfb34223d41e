//! Opening logs that are not as they should be: each fault has its own error, and nothing is changed.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use outrigger::{
    clock::SimClock,
    disk::{Access, Disk, sim::SimDisk},
    event::Position,
    log::{LogConfig, LogError, Opened, open},
};

const SEGMENT: &str = "/log/00000000000000000001.log";
const HEAD_BYTES: u64 = 12_288;

fn opened_as(disk: &SimDisk, node: &str) -> Result<Opened, LogError> {
    let config =
        LogConfig { dir: "/log".into(), node: node.into(), segment_bytes: 16_384, low_water_bytes: 0 };
    open(Arc::new(disk.clone()), &SimClock::new(1), config)
}

fn opened(disk: &SimDisk) -> Result<Opened, LogError> {
    opened_as(disk, "flights")
}

/// A log of this many groups of one record, stopped cleanly.
fn disk_with(groups: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let mut log = opened(&disk).unwrap();
    for i in 0..groups {
        log.writer.append(&[Bytes::from(format!("payload {i:>100}"))]).unwrap();
    }
    log.writer.sync_mark().unwrap();
    drop(log);
    disk.kill(1)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(Path::new("/log")).unwrap();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "log"));
    names
}

fn check_refused(disk: &SimDisk, expected: &[&str]) {
    let before = disk.operations();
    let message = opened(disk).expect_err("the log must not open").to_string();
    for text in expected {
        assert!(message.contains(text), "expected {text:?} in {message:?}");
    }
    assert_eq!(disk.operations(), before, "a refusal changes nothing");
}

#[test]
fn a_log_of_another_node_is_refused_and_names_both() {
    let disk = disk_with(1);
    match opened_as(&disk, "airports").unwrap_err() {
        LogError::OtherNode { found, expected, .. } => {
            assert_eq!((found.as_str(), expected.as_str()), ("flights", "airports"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_log_in_use_is_refused_and_names_the_process() {
    let disk = disk_with(1);
    let log = opened(&disk).unwrap();
    let refused = opened(&disk).unwrap_err();
    assert!(matches!(refused, LogError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())));
    drop(log);
    opened(&disk).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    for path in ["/log/manifest", SEGMENT] {
        let disk = disk_with(1);
        disk.flip_bit(Path::new(path), 8 * 8 + 1).unwrap();
        let refused = opened(&disk).unwrap_err();
        match refused {
            LogError::NewerFormat { found, known, .. } => assert_eq!((found, known), (3, 1)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn damage_below_the_mark_names_segment_offset_and_positions() {
    let disk = disk_with(5);
    // The third of five groups of 232 bytes.
    disk.flip_bit(Path::new(SEGMENT), (HEAD_BYTES + 2 * 232 + 90) * 8).unwrap();
    let offset = format!("offset {}", HEAD_BYTES + 2 * 232);
    check_refused(&disk, &[SEGMENT, &offset, "positions 3 to 5", "checksum does not match"]);
}

#[test]
fn lost_files_are_noticed() {
    let remove = |path: &str| {
        let disk = disk_with(60);
        disk.remove_file(Path::new(path)).unwrap();
        disk
    };
    check_refused(&remove("/log/manifest"), &["/log/manifest", "it is missing"]);
    check_refused(&remove(SEGMENT), &[SEGMENT, "is missing", "positions 1 to"]);
    let disk = disk_with(60);
    let segments = segments(&disk);
    assert!(segments.len() >= 4, "{segments:?}");
    check_refused(&remove(&format!("/log/{}", segments[1])), &[&segments[1], "is missing"]);
}

#[test]
fn a_lost_last_segment_is_noticed_when_the_manifest_knows_better() {
    let disk = disk_with(60);
    drop(opened(&disk).unwrap());
    let last = segments(&disk).pop().unwrap();
    disk.remove_file(&Path::new("/log").join(last)).unwrap();
    check_refused(&disk, &["the manifest says that the log reached position 60"]);
}

#[test]
fn every_flipped_bit_of_a_small_log_is_found_or_harmless() {
    let disk = disk_with(4);
    let expected =
        opened(&disk.kill(0)).unwrap().reader.scan(Position::ZERO, Position::new(9), usize::MAX, 9).unwrap();
    let file = disk.open(Path::new(SEGMENT), Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let interesting = |at: u64| {
        at < 128 || (4_096..4_224).contains(&at) || (8_192..8_320).contains(&at) || at >= HEAD_BYTES
    };
    let (mut found, mut harmless) = (0, 0);
    for at in (0..HEAD_BYTES + 4 * 232 + 64).filter(|at| interesting(*at)) {
        let damaged = disk.kill(at);
        damaged.flip_bit(Path::new(SEGMENT), at * 8 + at % 8).unwrap();
        match opened(&damaged) {
            Err(LogError::Corrupt(_) | LogError::NewerFormat { .. }) => found += 1,
            Err(other) => panic!("byte {at}: {other}"),
            Ok(log) => {
                let records = log.reader.scan(Position::ZERO, Position::new(9), usize::MAX, 9).unwrap();
                assert_eq!(records, expected, "byte {at} is wrong silently");
                harmless += 1;
            }
        }
    }
    assert!(found >= 4 * 232 + 100, "{found} found, {harmless} harmless");
}

#[test]
fn damage_in_a_sealed_segment_is_told_when_it_is_read() {
    let disk = disk_with(60);
    disk.flip_bit(Path::new(SEGMENT), (HEAD_BYTES + 2 * 232 + 90) * 8).unwrap();
    let log = opened(&disk).unwrap();
    assert!(log.reader.read(Position::new(2)).unwrap().is_some());
    let refused = log.reader.read(Position::new(3)).unwrap_err().to_string();
    assert!(refused.contains(SEGMENT) && refused.contains("position 3"), "{refused}");
    assert!(log.reader.verify().is_err());
}

#[test]
fn lost_and_damaged_sidecars_are_made_anew() {
    let path = Path::new("/log/00000000000000000001.offsets");
    let whole = disk_with(60);
    let expected =
        opened(&whole.kill(1)).unwrap().reader.scan(Position::ZERO, Position::new(60), usize::MAX, 60);
    let lost = whole.kill(1);
    lost.remove_file(path).unwrap();
    let damaged = whole.kill(1);
    damaged.flip_bit(path, 50 * 8).unwrap();
    for disk in [lost, damaged] {
        let log = opened(&disk).unwrap();
        let found = log.reader.scan(Position::ZERO, Position::new(60), usize::MAX, 60);
        assert_eq!(found.unwrap(), *expected.as_ref().unwrap());
        assert!(disk.exists(path).unwrap());
    }
}

#[test]
fn reads_keep_to_their_bounds() {
    let disk = disk_with(60);
    let log = opened(&disk).unwrap();
    let positions = |found: Vec<(Position, Bytes)>| found.iter().map(|(p, _)| p.get()).collect::<Vec<_>>();
    let scan = |after, upto, bytes, records| {
        positions(log.reader.scan(Position::new(after), Position::new(upto), bytes, records).unwrap())
    };
    let back = |below, above, bytes, records| {
        positions(log.reader.scan_back(Position::new(below), Position::new(above), bytes, records).unwrap())
    };
    assert_eq!(scan(0, 60, 0, 9), [1], "at least one");
    assert_eq!(scan(0, 60, 500, 9), [1, 2]);
    assert_eq!(scan(10, 60, usize::MAX, 3), [11, 12, 13]);
    assert_eq!(scan(10, 12, usize::MAX, usize::MAX), [11, 12]);
    assert_eq!(scan(58, u64::MAX, usize::MAX, usize::MAX), [59, 60]);
    assert!(
        scan(60, 90, 1, 1).is_empty()
            && scan(u64::MAX, u64::MAX, 1, 1).is_empty()
            && scan(0, 60, 9, 0).is_empty()
    );
    assert_eq!(scan(0, 60, usize::MAX, usize::MAX), (1..=60).collect::<Vec<_>>());
    assert_eq!(back(u64::MAX, 0, 0, 9), [60]);
    assert_eq!(back(30, 0, 500, 9), [29, 28]);
    assert_eq!(back(13, 10, usize::MAX, usize::MAX), [12, 11]);
    assert_eq!(back(61, 0, usize::MAX, usize::MAX), (1..=60).rev().collect::<Vec<_>>());
    assert!(back(1, 0, 9, 9).is_empty() && back(0, 0, 9, 9).is_empty());
    assert_eq!(log.reader.read(Position::ZERO).unwrap(), None);
    assert_eq!(log.reader.read(Position::new(61)).unwrap(), None);
}

#[test]
fn an_opening_begins_an_epoch_and_idle_ones_leave_no_trace() {
    let disk = disk_with(2);
    drop(opened(&disk).unwrap());
    let mut log = opened(&disk).unwrap();
    assert_eq!(log.writer.epoch().counter, 3);
    log.writer.append(&[Bytes::from_static(b"three")]).unwrap();
    let counters = [0, 1, 2, 3, 9].map(|position| log.reader.epoch_at(Position::new(position)));
    assert_eq!(counters, [1, 1, 1, 3, 3]);
    let history: Vec<(u64, u64)> =
        log.reader.epochs().iter().map(|s| (s.epoch.counter, s.first.get())).collect();
    assert_eq!(history, [(1, 1), (3, 3)]);
    assert_eq!(log.reader.log_id(), log.writer.log_id());
}

/// The last group lies above the commit mark: were it taken for a torn write because a read of it went wrong, it would
/// be cut.
#[test]
fn a_read_from_elsewhere_cuts_nothing() {
    const GROUPS: u64 = 12;
    let disk = SimDisk::new(1);
    let mut log = opened(&disk).unwrap();
    for i in 0..GROUPS {
        log.writer.append(&[Bytes::from(format!("payload {i:>300}"))]).unwrap();
    }
    drop(log);
    let calm = disk.kill(1);
    let before = calm.reads();
    calm.shorten_reads();
    drop(opened(&calm).unwrap());
    let mut refused = 0;
    for read in 0..calm.reads() - before {
        for seed in 0..60 {
            // Short reads, so that one of them may be all that is read of a group.
            let misread = disk.kill(seed);
            misread.shorten_reads();
            misread.misdirect_read_from(misread.reads() + read, |_| true);
            refused += u64::from(opened(&misread).is_err());
            let head = opened(&misread.kill(seed)).unwrap().reader.head();
            assert_eq!(head, Position::new(GROUPS), "read {read}, seed {seed}");
        }
    }
    assert!(refused > 20, "{refused} openings noticed what they read");
}
