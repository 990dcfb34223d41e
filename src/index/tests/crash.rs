//! Power loss and failing operations at every step of writing and merging runs.

use super::*;

fn recipes(count: usize) -> Vec<Recipe> {
    let clock = SimClock::new(5);
    let number = |below: usize| (clock.random() % below as u128) as usize;
    (0..count)
        .map(|_| {
            let tags = (0..TAGS.len()).filter(|_| number(2) == 0).collect();
            Recipe { stream: number(STREAMS.len()), event_type: number(TYPES.len()), tags }
        })
        .collect()
}

/// Fills, merges and stops an index with all of the log, until it is done or the disk refuses.
fn fill(disk: &SimDisk, log: &Log) -> Result<Index, IndexError> {
    let index = open(disk, &Log::default(), 4)?;
    for events in log.events().chunks(7) {
        index.apply(events)?;
        while index.step()? {}
    }
    index.stop()?;
    Ok(index)
}

/// Every block of every run is sound: a run under its final name was synced before.
fn check_runs(index: &Index) {
    for run in index.state.layers().runs.iter() {
        for number in 0..run.id_blocks() {
            run.read_id_block(number, &mut Vec::new()).unwrap();
        }
        let mut cursor = run::TermCursor::seek(run, &[]).unwrap();
        while let Some(term) = &cursor.term {
            let mut count = 0;
            let mut list = postings::Postings::of_term(run, term).unwrap();
            list.for_each(|_| {
                count += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(count, term.count);
            cursor.advance().unwrap();
        }
    }
}

fn full_log() -> Log {
    let log = Log::default();
    for recipe in &recipes(90) {
        log.append(recipe);
    }
    log
}

#[test]
fn a_crash_at_any_operation_leaves_an_index_that_answers_right() {
    let log = full_log();
    let disk = SimDisk::new(1);
    drop(fill(&disk, &log).unwrap());
    let operations = disk.operations();
    assert!(operations > 100, "{operations} operations are worth a campaign");
    for operation in 0..operations {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        drop(fill(&disk, &log));
        assert!(disk.is_crashed(), "operation {operation} is reached");
        for seed in 0..4 {
            let survivor = if seed == 0 { disk.kill(0) } else { disk.crash(seed) };
            let index = open(&survivor, &log, 4).unwrap();
            check_runs(&index);
            check_all(&index, &log);
            while index.step().unwrap() {}
            check_all(&index, &log);
            check_directory(&index, &survivor);
        }
    }
}

#[test]
fn an_operation_that_fails_once_is_repeated() {
    let log = full_log();
    let disk = SimDisk::new(1);
    drop(fill(&disk, &log).unwrap());
    for operation in 0..disk.operations() {
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
            let disk = SimDisk::new(operation);
            disk.fail_at(operation, kind);
            let index = retried(|| open(&disk, &Log::default(), 4));
            for events in log.events().chunks(7) {
                index.apply(events).unwrap();
                while retried(|| index.step()) {}
            }
            drop(index);
            let index = retried(|| open(&disk, &log, 4));
            check_all(&index, &log);
            while retried(|| index.step()) {}
            check_directory(&index, &disk);
        }
    }
}

fn retried<T>(mut attempt: impl FnMut() -> Result<T, IndexError>) -> T {
    attempt().or_else(|_| attempt()).unwrap()
}

#[test]
fn a_disk_that_stays_full_bounds_memory_and_says_so() {
    let log = full_log();
    let disk = SimDisk::new(1);
    let index = open(&disk, &Log::default(), 4).unwrap();
    disk.set_free_bytes(Some(0));
    let error = index.apply(&log.events()).unwrap_err();
    assert!(matches!(error, IndexError::Backlog { parts: 8, .. }), "{error}");
    assert_eq!(index.head(), Position::new(4 * 9));
    assert!(index.write_failure().is_some());
    disk.set_free_bytes(None);
    while index.step().unwrap() {}
    assert_eq!(index.write_failure(), None);
    index.apply(&log.events()[index.head().get() as usize..]).unwrap();
    check_all(&index, &log);
}
