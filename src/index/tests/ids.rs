//! What an absent id costs, at any size, while the filter of ids grows, and after a restart; and what the filter's file
//! may not do.

use super::*;
use crate::index::ids::{FILTER_NAME, IdFilter};

/// Filter probes that an absent id may cost.
const PROBES_MAX: u64 = 4;

fn extend(log: &Log, count: u64) -> Vec<RecordedEvent> {
    let mut events = log.0.lock().unwrap();
    let head = events.len() as u64;
    let stream = StreamId::parse("gate").unwrap();
    let recipe = Recipe { stream: 0, event_type: 1, tags: vec![0] };
    let more = (head + 1..=head + count).map(|number| recorded(number, number, stream.clone(), &recipe));
    events.extend(more);
    events[head as usize..].to_vec()
}

/// Asks for ids that are not there and for all that are; gives how many of the absent went on to the runs.
fn check_lookups(index: &Index, log: &Log, seed: u64) -> u64 {
    let clock = SimClock::new(1 << 40 | seed << 20);
    let absent: Vec<_> =
        (0..200).map(|_| EventId::from_uuid(Uuid::from_u128(clock.random())).unwrap()).collect();
    let before = index.status();
    assert_eq!(index.positions_of(&absent).unwrap(), vec![None; absent.len()]);
    let after = index.status();
    let (lookups, probes) =
        (after.filter_lookups - before.filter_lookups, after.filter_probes - before.filter_probes);
    assert!(probes <= PROBES_MAX * lookups, "{probes} probes for {lookups} ids: {after:?}");
    assert_eq!(lookups, if after.runs == 0 { 0 } else { 200 });
    let present: Vec<_> = log.events().iter().map(|event| event.event.id).collect();
    let found = index.positions_of(&present).unwrap();
    assert!(found.iter().zip(1..).all(|(found, number)| *found == Some(Position::new(number))));
    after.filter_passes - before.filter_passes
}

#[test]
fn an_absent_id_costs_few_probes_at_any_size_and_after_a_restart() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let mut index = open(&disk, &log, 4).unwrap();
    let mut passes = 0;
    for round in 0..60 {
        index.apply(&extend(&log, 1 + round * 3)).unwrap();
        passes += check_lookups(&index, &log, round);
        while index.step().unwrap() {}
        passes += check_lookups(&index, &log, 100 + round);
        if round % 3 == 0 {
            if round % 2 == 0 {
                index.stop().unwrap();
            }
            index = open(&disk, &log, 4).unwrap();
            passes += check_lookups(&index, &log, 200 + round);
        }
    }
    assert!(log.head().get() / 4 > 1_000, "as many runs were written");
    let lookups = 60 * 2 * 200 + 20 * 200;
    assert!(passes * 20 < lookups, "{passes} of {lookups} absent ids were looked for in runs");
    let status = index.status();
    assert!(status.filter_bytes * 8 <= status.filter_ids * 16, "between 10 and 15 bits an id: {status:?}");
}

#[test]
fn lookups_go_on_while_the_filter_grows() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let index = open(&disk, &log, 4).unwrap();
    index.apply(&extend(&log, 40)).unwrap();
    while index.step().unwrap() {}
    let grown = index.state.filter_for(1, 40);
    let mut rounds = 0;
    let pause = |_| {
        // Full parts are written in the middle, and their runs follow in their turn.
        if rounds < 30 {
            index.apply(&extend(&log, 5)).unwrap();
        }
        rounds += 1;
        index.state.pause()?;
        check_lookups(&index, &log, rounds);
        Ok(())
    };
    index.state.cover_runs(&grown, pause).unwrap();
    assert!(rounds >= 30);
    assert_eq!(grown.upto(), index.state.layers().runs.last().unwrap().last());
    index.state.change_layers(|layers| layers.ids = Arc::new(grown));
    check_lookups(&index, &log, 900);
}

#[test]
fn damage_met_while_the_filter_grows_is_repaired() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let index = open(&disk, &log, 4).unwrap();
    index.apply(&extend(&log, 49)).unwrap();
    while index.step().unwrap() {}
    let before = index.status();
    let run = index.state.layers().runs[0].path().to_owned();
    disk.flip_bit(&run, 8 * 4096 + 50).unwrap();
    index.apply(&extend(&log, 24)).unwrap();
    while index.step().unwrap() {}
    assert!(index.status().filter_bytes > before.filter_bytes, "it has grown");
    check_all(&index, &log);
    check_directory(&index, &disk);
}

#[test]
fn a_filter_of_a_log_that_lost_its_tail_is_not_believed() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let index = open(&disk, &log, 4).unwrap();
    index.apply(&extend(&log, 60)).unwrap();
    index.stop().unwrap();
    drop(index);
    // The log loses its tail and gets another one, whose ids the filter has never seen.
    log.0.lock().unwrap().truncate(30);
    drop(open(&disk, &log, 4).unwrap());
    let stream = StreamId::parse("gate").unwrap();
    let others = (31..=70).map(|number| {
        let mut event = recorded(number, number, stream.clone(), &recipes_of_one());
        event.event.id = EventId::from_uuid(Uuid::from_u128(u128::from(number) << 64)).unwrap();
        event
    });
    log.0.lock().unwrap().extend(others);
    let index = open(&disk, &log, 4).unwrap();
    check_lookups(&index, &log, 1);
}

fn recipes_of_one() -> Recipe {
    Recipe { stream: 0, event_type: 1, tags: Vec::new() }
}

#[test]
fn a_filter_without_room_goes_on_with_fewer_bits() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let config = IndexConfig { run_events: 4, background: false, memory_bytes: 512 };
    let index = Index::open_with(Arc::new(disk.clone()), &dir(), log.view(), config).unwrap();
    for round in 0..10 {
        index.apply(&extend(&log, 50)).unwrap();
        while index.step().unwrap() {}
        check_lookups(&index, &log, round);
    }
    assert_eq!(index.status().filter_bytes, 192, "three eighths of 512");
    drop(index);
    // More memory is used at once, less as well.
    for (memory_bytes, expected) in [(1 << 20, 700..1_000), (256, 96..97)] {
        let config = IndexConfig { memory_bytes, ..config };
        let index = Index::open_with(Arc::new(disk.clone()), &dir(), log.view(), config).unwrap();
        while index.step().unwrap() {}
        check_lookups(&index, &log, 50);
        let bytes = index.status().filter_bytes;
        assert!(expected.contains(&bytes), "{bytes} bytes for 500 ids");
        index.stop().unwrap();
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_read_from_the_log() {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let index = open(&disk, &log, 64).unwrap();
    index.apply(&extend(&log, 100)).unwrap();
    index.stop().unwrap();
    let mut view = log.view();
    view.scan = Box::new(|after, upto| panic!("nothing in {after}..{upto} need be read"));
    let config = IndexConfig { run_events: 64, background: false, ..IndexConfig::default() };
    let index = Index::open_with(Arc::new(disk.clone()), &dir(), view, config).unwrap();
    assert_eq!(index.status().runs, 2);
    check_lookups(&index, &log, 1);
    index.apply(&extend(&log, 1)).unwrap();
    index.stop().unwrap();
    assert_eq!(index.status().runs, 2, "one event is not worth a run");
    let stored = IdFilter::load(&disk, &dir(), LOG_ID, u64::MAX).unwrap().unwrap();
    assert_eq!((stored.first(), stored.upto()), (1, 100));
    assert!(disk.exists(&dir().join(FILTER_NAME)).unwrap());
}
