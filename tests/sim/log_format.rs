//! The golden log of format 1: what was written then can be read for ever, and the same appends still give the same
//! bytes.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use outrigger::{
    clock::SimClock,
    disk::{Disk, read_file, real::RealDisk, replace_file, sim::SimDisk},
    event::Position,
    log::{LogConfig, open},
};

const DIR: &str = "/log";

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1")
}

fn config() -> LogConfig {
    LogConfig { dir: DIR.into(), node: "golden".into(), segment_bytes: 13_000, low_water_bytes: 0 }
}

fn payload(i: u64) -> Bytes {
    Bytes::from(format!("golden payload {i}").repeat(1 + i as usize % 3))
}

/// Two openings; three groups, then one; two sealed segments with their sidecars and one that grows.
fn written() -> SimDisk {
    let disk = SimDisk::new(1);
    let clock = SimClock::new(1);
    for groups in [vec![1..=4_u64, 5..=5, 6..=14], vec![15..=16]] {
        let mut log = open(Arc::new(disk.clone()), &clock, config()).unwrap();
        for group in groups {
            let payloads: Vec<Bytes> = group.map(payload).collect();
            log.writer.append(&payloads).unwrap();
        }
        log.writer.sync_mark().unwrap();
    }
    disk
}

/// All files of a directory but the spare, which holds nothing.
fn files(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(dir).unwrap().into_iter();
    let names = names.filter(|name| name != "spare" && name != "LOCK");
    names
        .map(|name| {
            let bytes = read_file(disk, &dir.join(&name), 1 << 20).unwrap();
            (name, bytes)
        })
        .collect()
}

#[test]
fn the_golden_log_opens_and_holds_what_was_appended() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in files(&RealDisk, &fixture()) {
        replace_file(&disk, &Path::new(DIR).join(name), &bytes).unwrap();
    }
    let log = open(Arc::new(disk), &SimClock::new(2), config()).unwrap();
    let found = log.reader.scan(Position::ZERO, Position::new(99), usize::MAX, 99).unwrap();
    let expected: Vec<(Position, Bytes)> = (1..=16).map(|i| (Position::new(i), payload(i))).collect();
    assert_eq!(found, expected);
    assert_eq!((log.recovery.segments, log.recovery.rewritten, log.recovery.cut), (3, None, None));
    assert_eq!([1, 14, 15].map(|position| log.reader.epoch_at(Position::new(position))), [1, 1, 2]);
    log.reader.verify().unwrap();
}

#[test]
fn the_same_appends_give_the_golden_bytes() {
    let golden = files(&RealDisk, &fixture());
    let now = files(&written(), Path::new(DIR));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&now), names(&golden));
    for ((name, now), (_, golden)) in now.iter().zip(&golden) {
        let differs = now.iter().zip(golden).position(|(a, b)| a != b);
        assert_eq!((differs, now.len()), (None, golden.len()), "{name} differs");
    }
}

/// Writes the golden log of a new format; never run over a directory that was released.
#[test]
#[ignore = "writes tests/fixtures/log-v1, once for a format"]
fn write_the_golden_log() {
    RealDisk.create_dir_all(&fixture()).unwrap();
    for (name, bytes) in files(&written(), Path::new(DIR)) {
        replace_file(&RealDisk, &fixture().join(name), &bytes).unwrap();
    }
}
