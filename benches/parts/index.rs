//! The index at half a million events: adding, and the questions that appends and reads ask.

use std::sync::{Arc, LazyLock};

use divan::{Bencher, black_box, counter::ItemsCount};
use outrigger::{
    disk::real::RealDisk,
    event::{EventId, Position, RecordedEvent, StreamId},
    index::{Direction, Filter, Index, IndexConfig, LogView},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Source, customer, order_tag};

const EVENTS: u64 = 500_000;
const CHUNK: usize = 1_000;

struct Filled {
    index: Index,
    ids: Vec<EventId>,
    _dir: TempDir,
}

/// An index of a log that has this many events, with all background work done.
fn fill() -> Filled {
    let (dir, index) = empty();
    let (mut source, mut ids) = (Source::new(), Vec::new());
    for after in (0..EVENTS).step_by(CHUNK) {
        let events = source.recorded(after, CHUNK);
        ids.extend(events.iter().step_by(100).map(|event| event.event.id));
        index.apply(&events).unwrap();
        while index.step().unwrap() {}
    }
    Filled { index, ids, _dir: dir }
}

fn empty() -> (TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let log = LogView {
        log_id: Uuid::from_u128(1),
        first: Position::new(1),
        head: Position::ZERO,
        scan: Box::new(|_, _| Ok(Vec::new())),
    };
    let config = IndexConfig { background: false, ..IndexConfig::default() };
    let index = Index::open_with(Arc::new(RealDisk), &dir.path().join("index"), log, config).unwrap();
    (dir, index)
}

static FILLED: LazyLock<Filled> = LazyLock::new(fill);

#[divan::bench(args = [1, 100, 1_000])]
fn apply(bencher: Bencher, count: usize) {
    let (dir, index) = empty();
    let (mut source, mut after) = (Source::new(), 0);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| {
            let events = source.recorded(after, count);
            after += count as u64;
            while index.step().unwrap() {}
            events
        })
        .bench_local_values(|events: Vec<RecordedEvent>| {
            index.apply(&events).unwrap();
            events
        });
    drop(dir);
}

#[divan::bench(args = [1, 1_000])]
fn positions_of_absent_ids(bencher: Bencher, count: usize) {
    let mut source = Source::new();
    let ids: Vec<EventId> = source.events(count).into_iter().map(|event| event.id).collect();
    let index = &FILLED.index;
    bencher.counter(ItemsCount::new(count)).bench_local(|| index.positions_of(black_box(&ids)).unwrap());
}

#[divan::bench(args = [1, 1_000])]
fn positions_of_present_ids(bencher: Bencher, count: usize) {
    let Filled { index, ids, .. } = &*FILLED;
    let ids = &ids[..count];
    bencher.counter(ItemsCount::new(count)).bench_local(|| index.positions_of(black_box(ids)).unwrap());
}

#[divan::bench(args = ["stream-00000", "stream-09000", "absent"])]
fn stream_head(bencher: Bencher, stream: &str) {
    let stream = StreamId::parse(stream).unwrap();
    let index = &FILLED.index;
    bencher.bench_local(|| index.stream_head(black_box(&stream)).unwrap());
}

#[divan::bench]
fn find_by_two_tags(bencher: Bencher) {
    let filter = Filter { tags: vec![customer(0), order_tag(1_234)], ..Filter::default() };
    find(bencher, &filter, Position::ZERO);
}

#[divan::bench]
fn find_by_two_tags_near_the_head(bencher: Bencher) {
    let filter = Filter { tags: vec![customer(0), order_tag(4_999)], ..Filter::default() };
    find(bencher, &filter, Position::new(EVENTS - 10));
}

#[divan::bench]
fn find_the_events_of_a_tag(bencher: Bencher) {
    let filter = Filter { tags: vec![order_tag(1_234)], ..Filter::default() };
    find(bencher, &filter, Position::ZERO);
}

fn find(bencher: Bencher, filter: &Filter, after: Position) {
    let (index, upto) = (&FILLED.index, Position::new(EVENTS));
    bencher.bench_local(|| {
        let found = index.find(black_box(filter), Direction::Forward, after, upto, 1_000).unwrap();
        assert_eq!(found.scanned_to, upto);
        found
    });
}
