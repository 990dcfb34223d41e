//! Lists of many blocks, and the background thread under readers.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// A log whose types are dense, whose tags are sparse, and whose streams are many.
fn large_log(count: u64) -> Log {
    let clock = SimClock::new(3);
    let mut revisions: HashMap<u128, u64> = HashMap::new();
    let events = (1..=count).map(|position| {
        let stream = clock.random() % 2_000;
        let revision = revisions.entry(stream).or_default();
        *revision += 1;
        let tags = (0..TAGS.len()).filter(|tag| clock.random().is_multiple_of(1 << (3 * tag))).collect();
        let event_type =
            if clock.random().is_multiple_of(500) { 0 } else { 1 + (clock.random() % 3) as usize };
        let stream_id = StreamId::parse(&format!("stream-{stream}")).unwrap();
        recorded(position, *revision, stream_id, &Recipe { stream: 0, event_type, tags })
    });
    Log(Arc::new(Mutex::new(events.collect())))
}

fn check_sample(index: &Index, log: &Log) {
    let head = log.head().get();
    for filter in filters() {
        for direction in [Direction::Forward, Direction::Backward] {
            check_find(index, log, &filter, direction, (0, head), 10_000);
            check_find(index, log, &filter, direction, (head / 2 - 7, head / 2 + 900), 10);
        }
    }
    for event in log.events().iter().step_by(97) {
        assert_eq!(index.position_of(&event.event.id).unwrap(), Some(event.position));
    }
    let mut heads = HashMap::new();
    for event in log.events() {
        heads.insert(event.event.stream, (event.revision, event.position));
    }
    for (stream, (revision, last_position)) in &heads {
        let expected = Some(StreamHead { revision: *revision, last_position: *last_position });
        assert_eq!(index.stream_head(stream).unwrap(), expected, "{stream}");
    }
    let mut names: Vec<_> = heads.into_keys().collect();
    names.sort_unstable();
    let listed: Vec<_> = std::iter::successors(Some((Vec::new(), String::new())), |(_, after)| {
        let page = index.list_streams("stream-1", after, 100, false).unwrap();
        let last = page.last()?.stream.to_string();
        Some((page, last))
    })
    .flat_map(|(page, _)| page)
    .map(|entry| entry.stream)
    .collect();
    names.retain(|name| name.as_str().starts_with("stream-1"));
    assert_eq!(listed, names);
}

#[test]
fn lists_of_many_blocks_answer_like_the_model() {
    let log = large_log(52_000);
    let disk = SimDisk::new(1);
    let index = open(&disk, &log, 3_000).unwrap();
    while index.step().unwrap() {}
    assert_eq!(index.status().runs, 2, "sixteen runs of the lowest tier are one, and there is one more");
    check_sample(&index, &log);
    drop(index);
    let index = open(&disk, &log, 3_000).unwrap();
    check_sample(&index, &log);
    let status = index.status();
    assert!(status.resident_bytes < 52_000 * 2 + 100_000, "{status:?}");
}

#[test]
fn a_search_for_no_results_looks_at_nothing() {
    let log = large_log(2_000);
    let index = open(&SimDisk::new(1), &log, 500).unwrap();
    let filter = Filter { types: vec![EventType::parse("gate").unwrap()], ..Filter::default() };
    for direction in [Direction::Forward, Direction::Backward] {
        let found = index.find(&filter, direction, Position::ZERO, log.head(), 0).unwrap();
        let stands_still = if direction == Direction::Forward { Position::ZERO } else { log.head() };
        assert_eq!(found, Found { positions: Vec::new(), scanned_to: stands_still });
    }
}

#[test]
fn readers_see_a_whole_index_while_it_is_written_and_merged() {
    let log = large_log(20_000);
    let events = log.events();
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let config = IndexConfig { run_events: 500, background: true, ..IndexConfig::default() };
    let empty = LogView { head: Position::ZERO, ..log.view() };
    let index = Index::open_with(Arc::clone(&disk), &dir(), empty, config).unwrap();
    let done = AtomicBool::new(false);
    let filter = Filter { tags: vec![Tag::parse("b").unwrap()], ..Filter::default() };
    let matching: Vec<Position> =
        events.iter().filter(|event| filter.matches(event)).map(|event| event.position).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let head = index.head();
                    let found =
                        index.find(&filter, Direction::Forward, Position::ZERO, head, 100_000).unwrap();
                    assert_eq!(found.scanned_to, head);
                    let expected = matching.partition_point(|position| *position <= head);
                    assert_eq!(found.positions, matching[..expected]);
                    if let Some(newest) = head.get().checked_sub(1) {
                        let event = &events[newest as usize];
                        assert_eq!(index.position_of(&event.event.id).unwrap(), Some(head));
                        let stream = index.stream_head(&event.event.stream).unwrap().unwrap();
                        assert!(stream.last_position >= head && stream.revision >= event.revision);
                    }
                }
            });
        }
        events.chunks(170).for_each(|events| index.apply(events).unwrap());
        done.store(true, Ordering::Release);
    });
    drop(index);
    let index = Index::open_with(disk, &dir(), log.view(), config).unwrap();
    check_sample(&index, &log);
}
