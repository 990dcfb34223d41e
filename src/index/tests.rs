//! The index against a naive model: a list of events that is filtered anew for every question.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    clock::{Clock as _, SimClock},
    disk::sim::SimDisk,
    event::RecordedEvent,
};

mod crash;
mod damage;
mod ids;
mod large;
mod with_log;

const LOG_ID: Uuid = Uuid::from_u128(77);
const STREAMS: [&str; 6] = ["!", "$system", "flight-1", "flight-2", "flight-22", "gate"];
const TYPES: [&str; 4] = ["$promoted", "flight.landed", "flight.left", "gate"];
const TAGS: [&str; 4] = ["a", "b", "flight.left", "gate"];

/// What an event of the model is made of, as numbers.
#[derive(Debug, Clone)]
struct Recipe {
    stream: usize,
    event_type: usize,
    tags: Vec<usize>,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let tags = prop::sample::subsequence((0..TAGS.len()).collect::<Vec<_>>(), 0..=3);
    (0..STREAMS.len(), 0..TYPES.len(), tags).prop_map(|(stream, event_type, tags)| Recipe {
        stream,
        event_type,
        tags,
    })
}

/// The log of the model. Clones share it.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<RecordedEvent>>>);

impl Log {
    fn events(&self) -> Vec<RecordedEvent> {
        self.0.lock().unwrap().clone()
    }

    fn head(&self) -> Position {
        Position::new(self.0.lock().unwrap().len() as u64)
    }

    /// Appends an event and gives it back.
    fn append(&self, recipe: &Recipe) -> RecordedEvent {
        let mut events = self.0.lock().unwrap();
        let stream = StreamId::parse_any(STREAMS[recipe.stream]).unwrap();
        let revision = events.iter().filter(|other| other.event.stream == stream).count() as u64 + 1;
        let recorded = recorded(events.len() as u64 + 1, revision, stream, recipe);
        events.push(recorded.clone());
        recorded
    }

    fn view(&self) -> LogView {
        let log = self.clone();
        let scan = move |after: Position, upto: Position| {
            let events = log.0.lock().unwrap();
            let end = upto.get().min(after.get() + 3).min(events.len() as u64);
            Ok(events[after.get() as usize..end as usize].to_vec())
        };
        LogView { log_id: LOG_ID, first: Position::new(1), head: self.head(), scan: Box::new(scan) }
    }
}

fn recorded(position: u64, revision: u64, stream: StreamId, recipe: &Recipe) -> RecordedEvent {
    let id = SimClock::new(position).random();
    RecordedEvent {
        position: Position::new(position),
        revision: Revision::new(revision),
        recorded_at_unix_nanos: 0,
        event: Event {
            id: EventId::from_uuid(Uuid::from_u128(id)).unwrap(),
            event_type: EventType::parse_any(TYPES[recipe.event_type]).unwrap(),
            stream,
            tags: recipe.tags.iter().map(|tag| Tag::parse(TAGS[*tag]).unwrap()).collect(),
            data: Bytes::from_static(b"1"),
            metadata: None,
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/data/index")
}

fn open(disk: &SimDisk, log: &Log, run_events: u32) -> Result<Index, IndexError> {
    let config = IndexConfig { run_events, background: false, ..IndexConfig::default() };
    Index::open_with(Arc::new(disk.clone()), &dir(), log.view(), config)
}

/// Asks until damage that the question met has been repaired.
fn ask<T>(index: &Index, question: impl Fn(&Index) -> Result<T, IndexError>) -> T {
    for _ in 0..100 {
        match question(index) {
            Err(IndexError::Damaged { .. }) => while index.step().unwrap() {},
            answer => return answer.unwrap(),
        }
    }
    panic!("the damage is not repaired");
}

fn check_ids(index: &Index, log: &Log) {
    let events = log.events();
    let mut ids: Vec<EventId> = events.iter().map(|event| event.event.id).collect();
    ids.push(EventId::from_uuid(Uuid::from_u128(1)).unwrap());
    ids.push(EventId::from_uuid(Uuid::max()).unwrap());
    let found = ask(index, |index| index.positions_of(&ids));
    for (at, found) in found.into_iter().enumerate() {
        assert_eq!(found, events.get(at).map(|event| event.position), "the id of event {at}");
    }
}

fn model_head(events: &[RecordedEvent], stream: &StreamId) -> Option<StreamHead> {
    let last = events.iter().rfind(|event| event.event.stream == *stream)?;
    Some(StreamHead { revision: last.revision, last_position: last.position })
}

fn check_streams(index: &Index, log: &Log) {
    let events = log.events();
    for name in STREAMS.into_iter().chain(["nowhere"]) {
        let stream = StreamId::parse_any(name).unwrap();
        let found = ask(index, |index| index.stream_head(&stream));
        assert_eq!(found, model_head(&events, &stream), "head of {name}");
    }
    for (prefix, after_name, limit, include_system) in [
        ("", "", 9, true),
        ("", "", 2, false),
        ("flight-2", "", 9, false),
        ("flight", "flight-1", 1, true),
        ("", "flight-2", 9, false),
        ("$", "", 9, false),
        ("a", "b", 9, true),
    ] {
        let wanted = |name: &&str| {
            name.starts_with(prefix) && **name > *after_name && (include_system || !name.starts_with('$'))
        };
        let streams = STREAMS.into_iter().filter(wanted).map(|name| StreamId::parse_any(name).unwrap());
        let entry = |stream| Some(StreamEntry { head: model_head(&events, &stream)?, stream });
        let expected: Vec<_> = streams.filter_map(entry).take(limit).collect();
        let found = ask(index, |index| index.list_streams(prefix, after_name, limit, include_system));
        assert_eq!(found, expected, "streams {prefix:?} after {after_name:?}, {limit}, {include_system}");
    }
}

/// Follows `scanned_to` from one call to the next and compares all that is found with the model.
fn check_find(
    index: &Index,
    log: &Log,
    filter: &Filter,
    direction: Direction,
    range: (u64, u64),
    limit: usize,
) {
    let (mut after, mut upto) = (Position::new(range.0), Position::new(range.1));
    let in_range = |event: &&RecordedEvent| event.position > after && event.position <= upto;
    let events = log.events();
    let matching = events.iter().filter(in_range).filter(|event| filter.matches(event));
    let mut expected: Vec<Position> = matching.map(|event| event.position).collect();
    if direction == Direction::Backward {
        expected.reverse();
    }
    let mut found_all = Vec::new();
    while after < upto {
        let found = ask(index, |index| index.find(filter, direction, after, upto, limit));
        assert!(found.positions.len() <= limit);
        found_all.extend(found.positions);
        match direction {
            Direction::Forward if found.scanned_to >= upto.min(log.head()) => break,
            Direction::Forward => {
                assert!(found.scanned_to > after, "the search makes progress");
                after = found.scanned_to;
            }
            Direction::Backward => {
                assert!(found.scanned_to < upto, "the search makes progress");
                upto = found.scanned_to;
            }
        }
    }
    assert_eq!(found_all, expected, "{filter:?} {direction:?} in {range:?} by {limit}");
}

fn filters() -> Vec<Filter> {
    let types =
        |numbers: &[usize]| numbers.iter().map(|at| EventType::parse_any(TYPES[*at]).unwrap()).collect();
    let tags = |numbers: &[usize]| numbers.iter().map(|at| Tag::parse(TAGS[*at]).unwrap()).collect();
    let stream = |at: usize| Some(StreamId::parse_any(STREAMS[at]).unwrap());
    let all = Filter { include_system: true, ..Filter::default() };
    vec![
        Filter::default(),
        all.clone(),
        Filter { stream: stream(2), ..Filter::default() },
        Filter { stream: stream(1), ..all.clone() },
        Filter { types: types(&[1]), ..Filter::default() },
        Filter { types: types(&[0, 2, 3]), ..Filter::default() },
        Filter { types: types(&[0, 2]), tags: tags(&[0]), ..all.clone() },
        Filter { tags: tags(&[0, 1]), ..Filter::default() },
        Filter { tags: tags(&[2]), ..all.clone() },
        Filter { stream: stream(3), types: types(&[1, 2]), tags: tags(&[1, 3]), ..all },
        Filter { tags: vec![Tag::parse("nobody").unwrap()], ..Filter::default() },
        Filter { types: vec![EventType::parse("nobody").unwrap()], ..Filter::default() },
    ]
}

fn check_all(index: &Index, log: &Log) {
    let head = log.head().get();
    assert_eq!(index.head().get(), head);
    check_ids(index, log);
    check_streams(index, log);
    for filter in filters() {
        for direction in [Direction::Forward, Direction::Backward] {
            check_find(index, log, &filter, direction, (0, head), 3);
            check_find(index, log, &filter, direction, (head / 3, head * 2 / 3), 100);
            check_find(index, log, &filter, direction, (head / 2, head + 5), 1);
        }
    }
}

/// The directory holds exactly the runs in use, and perhaps the filter of ids.
fn check_directory(index: &Index, disk: &SimDisk) {
    let runs = Arc::clone(&index.state.layers().runs);
    let mut expected: Vec<_> =
        runs.iter().map(|run| run.path().file_name().unwrap().to_str().unwrap().to_owned()).collect();
    expected.sort_unstable();
    let mut names = disk.list(&dir()).unwrap();
    names.retain(|name| name != super::ids::FILTER_NAME);
    assert_eq!(names, expected);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Recipe>),
    Work,
    Settle,
    Reopen,
    /// As `Reopen`, after a clean stop.
    Restart,
    /// The log lost its tail, as after a restore from an older copy.
    Rewind(usize),
    /// Another size of parts, so that runs of odd sizes meet.
    Resize(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(recipe(), 1..12).prop_map(Step::Append),
        3 => Just(Step::Work),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
        1 => Just(Step::Restart),
        1 => (1_usize..20).prop_map(Step::Rewind),
        1 => (1_u32..9).prop_map(Step::Resize),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_index_equals_the_model_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        let (disk, log) = (SimDisk::new(1), Log::default());
        let mut run_events = 4;
        let mut index = open(&disk, &log, run_events).unwrap();
        for step in steps {
            match step {
                Step::Append(recipes) => {
                    let events: Vec<_> = recipes.iter().map(|recipe| log.append(recipe)).collect();
                    index.apply(&events).unwrap();
                }
                Step::Work => drop(index.step().unwrap()),
                Step::Settle => while index.step().unwrap() {},
                Step::Reopen => {
                    drop(index);
                    index = open(&disk, &log, run_events).unwrap();
                    check_all(&index, &log);
                }
                Step::Restart => {
                    index.stop().unwrap();
                    check_all(&index, &log);
                    index = open(&disk, &log, run_events).unwrap();
                    check_all(&index, &log);
                }
                Step::Rewind(count) => {
                    drop(index);
                    let left = log.events().len().saturating_sub(count);
                    log.0.lock().unwrap().truncate(left);
                    index = open(&disk, &log, run_events).unwrap();
                }
                Step::Resize(events) => {
                    drop(index);
                    run_events = events;
                    index = open(&disk, &log, run_events).unwrap();
                }
            }
        }
        check_all(&index, &log);
        while index.step().unwrap() {}
        check_all(&index, &log);
        check_directory(&index, &disk);
    }
}
