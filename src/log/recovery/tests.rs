//! Tests of the judgement of recovery (torn tail, corruption, clean end), and of what it says of whole logs.

use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    clock::SimClock,
    disk::{Disk as _, sim::SimDisk},
    log::{LogConfig, Opened, open},
};

const MARK: u64 = HEAD_BYTES + 400;
const END: u64 = HEAD_BYTES + 1_000;

/// Five records up to the mark, five more behind it, then zeros.
fn survey() -> Survey {
    Survey {
        mark: Some(Mark { sequence: 3, offset: MARK, last: Position::new(5), chain: [5; 32] }),
        at_mark: Some((Position::new(5), [5; 32], 5)),
        end: END,
        last: Position::new(10),
        chain: [10; 32],
        starts: Vec::new(),
        stop: "expected a group, found zeros".into(),
        rest: Rest::default(),
        reached: Position::new(4),
    }
}

fn check(expected: &Verdict, change: impl FnOnce(&mut Survey)) {
    let mut survey = survey();
    change(&mut survey);
    assert_eq!(&judge(&survey), expected, "{survey:?}");
}

fn check_corrupt(
    (offset, first, last): (u64, u64, Option<u64>),
    what: &str,
    change: impl FnOnce(&mut Survey),
) {
    let mut survey = survey();
    change(&mut survey);
    match judge(&survey) {
        Verdict::Corrupt { offset: found, first: found_first, last: found_last, what: found_what } => {
            assert_eq!((found, found_first.get(), found_last.map(Position::get)), (offset, first, last));
            assert!(found_what.contains(what), "{found_what}");
        }
        other => panic!("expected corruption, found {other:?}"),
    }
}

#[test]
fn groups_above_the_mark_are_written_anew() {
    check(&Verdict::Rewrite { cut: None }, |_| ());
    check(&Verdict::Clean, |survey| {
        survey.end = MARK;
        survey.last = Position::new(5);
        survey.chain = [5; 32];
    });
}

#[test]
fn bad_bytes_at_or_above_the_mark_are_cut() {
    let cut = |from| Verdict::Rewrite { cut: Some(from..from + 70) };
    check(&cut(END), |survey| survey.rest.nonzero_end = Some(END + 70));
    check(&cut(MARK), |survey| {
        survey.end = MARK;
        survey.last = Position::new(5);
        survey.rest.nonzero_end = Some(MARK + 70);
    });
}

#[test]
fn bad_bytes_that_something_vouches_for_are_corruption() {
    check_corrupt((END, 11, Some(12)), "a later group vouches", |survey| {
        survey.rest = Rest { nonzero_end: Some(END + 70), claimed: Some(Position::new(12)) };
    });
    check_corrupt((MARK - 100, 4, Some(5)), "the commit mark vouches", |survey| {
        survey.end = MARK - 100;
        survey.last = Position::new(3);
        survey.at_mark = None;
    });
    check_corrupt((END, 11, Some(20)), "the manifest says", |survey| {
        survey.reached = Position::new(20);
    });
    check(&Verdict::Rewrite { cut: None }, |survey| survey.reached = Position::new(10));
}

#[test]
fn a_mark_that_does_not_fit_is_corruption() {
    check_corrupt((4_096, 11, None), "neither slot", |survey| survey.mark = None);
    check_corrupt((MARK, 11, None), "does not fit", |survey| survey.at_mark = None);
    check_corrupt((MARK, 11, None), "does not fit", |survey| {
        survey.at_mark = Some((Position::new(6), [5; 32], 6));
    });
    check_corrupt((MARK, 11, None), "does not fit", |survey| {
        survey.at_mark = Some((Position::new(5), [6; 32], 5));
    });
}

fn open_log(disk: &SimDisk) -> Result<Opened, LogError> {
    let config =
        LogConfig { dir: "/log".into(), node: "n".into(), segment_bytes: 13_000, low_water_bytes: 0 };
    open(Arc::new(disk.clone()), &SimClock::new(1), config)
}

/// A log of four segments with a record each, closed in good order; and the paths of the segments.
fn segments() -> (SimDisk, Vec<PathBuf>) {
    let disk = SimDisk::new(1);
    let mut log = open_log(&disk).unwrap();
    for byte in 1..=4 {
        log.writer.append(&[vec![byte; 800]]).unwrap();
    }
    log.writer.sync_mark().unwrap();
    drop(log);
    let names = disk.list(Path::new("/log")).unwrap();
    let mut paths: Vec<_> = names.iter().map(|name| Path::new("/log").join(name)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    assert_eq!(paths.len(), 4, "{names:?}");
    (disk, paths)
}

#[test]
fn the_report_says_how_far_the_log_goes_and_what_was_read() {
    let (disk, paths) = segments();
    let log = open_log(&disk).unwrap();
    let report = log.recovery;
    assert_eq!((report.head, report.segments), (Position::new(4), 4));
    assert!(report.scanned_bytes > HEAD_BYTES + 800, "{report:?}");
    drop(log.writer);
    // In a segment whose mark vouches for everything, the bytes of its file are read, and no others.
    let length = disk.open(&paths[3], Access::Read).unwrap().len().unwrap();
    let again = open_log(&disk).unwrap().recovery;
    assert_eq!((again.head, again.scanned_bytes), (Position::new(4), length));
}

#[test]
fn a_segment_that_is_missing_is_named() {
    for (missing, first, last) in [(0, 1, 1), (1, 2, 2), (2, 3, 3)] {
        let (disk, paths) = segments();
        disk.remove_file(&paths[missing]).unwrap();
        let refused = open_log(&disk).unwrap_err();
        let LogError::Corrupt(corruption) = &refused else { panic!("expected corruption, found {refused}") };
        assert_eq!(corruption.path, paths[missing]);
        let affected = (corruption.first.get(), corruption.last.map(Position::get));
        assert_eq!(affected, (first, Some(last)), "{refused}");
        assert!(corruption.what.contains("is missing"), "{refused}");
    }
}
