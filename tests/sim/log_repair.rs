//! Repairs of a log that lose power at every operation: afterwards the log is as damaged as before, or repaired.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use bytes::Bytes;
use outrigger::{
    clock::SimClock,
    disk::{Disk, read_file, sim::SimDisk},
    event::Position,
    log::{CutLog, LogConfig, LogError, LogInspection, LogInspector, Opened, open},
};

const DIR: &str = "/log";
const GROUPS: u64 = 50;
const HEAD_BYTES: u64 = 12_288;
const GROUP_BYTES: u64 = 232;

fn opened(disk: &SimDisk, seed: u64) -> Result<Opened, LogError> {
    let config =
        LogConfig { dir: DIR.into(), node: "flights".into(), segment_bytes: 15_000, low_water_bytes: 0 };
    open(Arc::new(disk.clone()), &SimClock::new(seed), config)
}

fn payload(number: u64) -> Bytes {
    Bytes::from(format!("payload {number:>100}"))
}

/// Several segments, written by two openings, stopped cleanly.
fn node() -> SimDisk {
    let disk = SimDisk::new(1);
    for (run, numbers) in [(1, 1..=31), (2, 32..=GROUPS)] {
        let mut log = opened(&disk, run).unwrap();
        for number in numbers {
            log.writer.append(&[payload(number)]).unwrap();
        }
        log.writer.sync_mark().unwrap();
    }
    disk.kill(1)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(Path::new(DIR)).unwrap();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "log"));
    names.into_iter().map(|name| format!("{DIR}/{name}")).collect()
}

fn first_of(segment: &str) -> u64 {
    segment.trim_start_matches("/log/").trim_end_matches(".log").parse().unwrap()
}

fn inspect(disk: &SimDisk) -> LogInspection {
    LogInspector::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap().inspect(&mut |_, _| ()).unwrap()
}

/// Inspects and repairs as the command does.
fn repair<T>(
    disk: &SimDisk,
    act: impl FnOnce(&LogInspector, &LogInspection) -> Result<T, LogError>,
) -> Result<T, LogError> {
    let inspector = LogInspector::lock(Arc::new(disk.clone()), Path::new(DIR), "a test")?;
    let report = inspector.inspect(&mut |_, _| ())?;
    act(&inspector, &report)
}

fn cut(disk: &SimDisk) -> Result<CutLog, LogError> {
    repair(disk, |inspector, report| inspector.cut(report, 7)).map(|cut| cut.expect("something is lost"))
}

/// The third group of a segment is damaged; gives its position.
fn damage(disk: &SimDisk, segment: &str) -> u64 {
    disk.flip_bit(Path::new(segment), (HEAD_BYTES + 2 * GROUP_BYTES + 90) * 8).unwrap();
    first_of(segment) + 2
}

/// The numbers of all payloads in files that can hold records.
fn numbers_kept(disk: &SimDisk) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for name in disk.list(Path::new(DIR)).unwrap() {
        if name.ends_with(".log") || name.ends_with(".quarantine") {
            let bytes = read_file(disk, &Path::new(DIR).join(name), 1 << 20).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let found =
                text.split("payload ").skip(1).filter_map(|rest| rest.get(..100)?.trim().parse().ok());
            numbers.extend::<Vec<u64>>(found.collect());
        }
    }
    numbers
}

/// Every event but the damaged one is somewhere.
fn check_nothing_more_is_lost(disk: &SimDisk, lost: u64) {
    let kept = numbers_kept(disk);
    let gone: Vec<u64> = (1..=GROUPS).filter(|number| *number != lost && !kept.contains(number)).collect();
    assert_eq!(gone, Vec::<u64>::new());
}

/// A log that ends before `lost`, takes appends there, and knows the epochs before.
fn check_cut(disk: &SimDisk, lost: u64) {
    let mut log = opened(disk, 9).unwrap();
    assert_eq!(log.reader.head(), Position::new(lost - 1));
    let found = log.reader.scan(Position::ZERO, Position::new(GROUPS), usize::MAX, usize::MAX).unwrap();
    let expected: Vec<_> = (1..lost).map(|number| (Position::new(number), payload(number))).collect();
    assert_eq!(found, expected);
    log.reader.verify().unwrap();
    let counter = log.writer.epoch().counter;
    assert!(
        counter >= 4,
        "two openings, the cut and this opening have counters of their own, found {counter}"
    );
    assert_eq!(log.writer.append(&[payload(99)]).unwrap().first, Position::new(lost));
    assert_eq!(log.reader.epoch_at(Position::new(lost)), counter);
    log.reader.verify().unwrap();
}

fn check_cut_at_every_operation(segment_number: usize) {
    let disk = node();
    let segments = segments(&disk);
    assert!(segments.len() >= 4, "{segments:?}");
    let lost = damage(&disk, &segments[segment_number]);
    let before = inspect(&disk);
    assert_eq!(before.lost(), Some((Position::new(lost), Position::new(GROUPS))));
    let whole = disk.kill(1);
    let done = cut(&whole).unwrap();
    assert_eq!((done.first.get(), done.last.get()), (lost, GROUPS));
    check_nothing_more_is_lost(&whole, lost);
    let operations = whole.operations();
    check_cut(&whole, lost);
    let (mut as_before, mut repaired) = (0, 0);
    for operation in 0..operations {
        let crashing = disk.kill(operation);
        crashing.crash_at(operation);
        cut(&crashing).unwrap_err();
        let after = crashing.crash(operation);
        check_nothing_more_is_lost(&after, lost);
        match opened(&after.kill(1), 8) {
            Err(LogError::Corrupt(_)) | Ok(_)
                if inspect(&after).lost() == before.lost() && !inspect(&after).repair_pending =>
            {
                as_before += 1;
                cut(&after).unwrap();
                check_cut(&after, lost);
            }
            Err(error) => panic!("operation {operation}: {error}"),
            Ok(_) => {
                repaired += 1;
                check_cut(&after.kill(1), lost);
                if repaired % 4 == 1 {
                    check_finished_at_every_operation(&after, lost);
                }
            }
        }
    }
    assert!(as_before > 5 && repaired > 5, "{as_before} as before, {repaired} repaired");
}

/// The opening that finishes the repair may be interrupted, too.
fn check_finished_at_every_operation(disk: &SimDisk, lost: u64) {
    let whole = disk.kill(1);
    drop(opened(&whole, 8).unwrap());
    for operation in 0..whole.operations() {
        let crashing = disk.kill(operation);
        crashing.crash_at(operation);
        drop(opened(&crashing, 8));
        let after = crashing.crash(operation);
        check_nothing_more_is_lost(&after, lost);
        check_cut(&after, lost);
    }
}

#[test]
fn a_cut_in_the_first_segment_is_done_or_not_done() {
    check_cut_at_every_operation(0);
}

#[test]
fn a_cut_in_the_middle_is_done_or_not_done() {
    check_cut_at_every_operation(2);
}

#[test]
fn a_cut_of_the_active_segment_is_done_or_not_done() {
    let last = segments(&node()).len() - 1;
    check_cut_at_every_operation(last);
}

#[test]
fn a_missing_segment_is_cut_behind_the_one_before() {
    let disk = node();
    let segments = segments(&disk);
    disk.remove_file(Path::new(&segments[1])).unwrap();
    let (first, next) = (first_of(&segments[1]), first_of(&segments[2]));
    let report = inspect(&disk);
    assert_eq!(report.lost(), Some((Position::new(first), Position::new(GROUPS))));
    assert_eq!(report.damage[0].place.last, Some(Position::new(next - 1)));
    assert_eq!(report.records, GROUPS - (next - first), "what is good behind it is seen");
    cut(&disk).unwrap();
    check_cut(&disk, first);
}

#[test]
fn good_groups_behind_damage_are_seen() {
    let disk = node();
    let segments = segments(&disk);
    let lost = damage(&disk, &segments[1]);
    let report = inspect(&disk);
    assert_eq!(report.records, GROUPS - 1);
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let place = &report.damage[0].place;
    assert_eq!((place.first.get(), place.last), (lost, Some(Position::new(lost))));
    assert_eq!(place.offset, HEAD_BYTES + 2 * GROUP_BYTES);
    assert_eq!(report.islands.len(), 1);
    let island = &report.islands[0];
    assert_eq!((island.first.get(), island.last.get()), (lost + 1, first_of(&segments[2]) - 1));
}

/// Restores at every operation: the segment's name always leads to a whole file, the old one or the new one.
fn check_restored(disk: &SimDisk, restore: impl Fn(&SimDisk) -> Result<(), LogError>) {
    let before = inspect(disk);
    assert!(before.is_damaged());
    let whole = disk.kill(1);
    restore(&whole).unwrap();
    assert!(!inspect(&whole).is_damaged());
    for operation in 0..whole.operations() {
        let crashing = disk.kill(operation);
        crashing.crash_at(operation);
        restore(&crashing).unwrap_err();
        let after = crashing.crash(operation);
        let report = inspect(&after);
        // Power loss may tear record offsets, which are never synced.
        let damage: Vec<_> = report.damage.iter().filter(|damage| !damage.is_of_offsets()).cloned().collect();
        assert!(damage.is_empty() || damage == before.damage, "operation {operation}: {report:?}");
        restore(&after).unwrap();
        let log = opened(&after, 9).unwrap();
        assert_eq!(log.reader.head(), Position::new(GROUPS));
        log.reader.verify().unwrap();
    }
}

#[test]
fn a_lost_mark_is_written_anew_or_not() {
    for number in [1, 3] {
        let disk = node();
        let segment = segments(&disk)[number].clone();
        for slot in [4_096, 8_192] {
            disk.flip_bit(Path::new(&segment), slot * 8).unwrap();
        }
        check_restored(&disk, |disk| {
            repair(disk, |inspector, report| inspector.restore_marks(report)).map(drop)
        });
    }
}

#[test]
fn a_lost_header_is_written_anew_or_not() {
    for number in [0, 1, 3] {
        let disk = node();
        let segment = segments(&disk)[number].clone();
        disk.flip_bit(Path::new(&segment), 40 * 8).unwrap();
        check_restored(&disk, |disk| {
            repair(disk, |inspector, report| inspector.restore_headers(report)).map(drop)
        });
    }
}

#[test]
fn damaged_offsets_are_made_anew() {
    let disk = node();
    let sidecar = segments(&disk)[0].replace(".log", ".offsets");
    disk.flip_bit(Path::new(&sidecar), 60 * 8).unwrap();
    let report = inspect(&disk);
    assert!(!report.is_damaged() && report.damage.len() == 1, "{report:?}");
    repair(&disk, |inspector, report| inspector.rebuild_offsets(report)).unwrap();
    assert_eq!(inspect(&disk).damage, []);
}

#[test]
fn a_torn_write_is_no_damage_and_an_inspection_changes_nothing() {
    let disk = node();
    let last = segments(&disk).pop().unwrap();
    let file = disk.open(Path::new(&last), outrigger::disk::Access::ReadWrite).unwrap();
    let before = inspect(&disk);
    let end = HEAD_BYTES + GROUP_BYTES * (GROUPS + 1 - first_of(&last));
    file.write_all_at(b"ORGR torn", end).unwrap();
    let operations = disk.operations();
    let report = inspect(&disk);
    assert_eq!(disk.operations(), operations);
    assert_eq!(report.damage, []);
    let torn = report.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (end, 9));
    assert_eq!(report.chain, before.chain);
}
