//! Tests of batches: what a commit holds, and that its size does not matter.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{
    disk::sim::SimDisk,
    projection::{
        content_hash::ContentHash,
        entries::entries,
        store::{LogFacts, Snapshot, split_entry},
        testing::{DEFINITION, definition, event, share},
    },
};

fn open() -> (Arc<Store>, Batch) {
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new(1));
    disk.create_dir_all(Path::new("/p")).unwrap();
    let store = Arc::new(Store::new(disk, Path::new("/p"), Arc::new(definition(DEFINITION)), share()));
    let facts = LogFacts { log_id: uuid::Uuid::from_u128(9), head: Position::ZERO, epoch_at: &|_| 1 };
    let (state, set_aside) = store.open(&facts).unwrap();
    assert_eq!(set_aside, None);
    (Arc::clone(&store), Batch::new(store, state))
}

/// A document's key, position and text.
type Row = (Vec<u8>, Position, String);

/// The documents of a collection, as key, position, text.
fn documents(snapshot: &Snapshot, collection: usize) -> Vec<Row> {
    let table = snapshot.documents(collection).unwrap();
    let mut all = Vec::new();
    for row in table.range::<&[u8]>(..).unwrap() {
        let (key, stored) = row.unwrap();
        let (position, text) = split_document(stored.value()).unwrap();
        all.push((key.value().to_vec(), position, String::from_utf8(text.to_vec()).unwrap()));
    }
    all
}

/// The content hash and every index are what the documents say, computed anew.
fn check_consistent(snapshot: &Snapshot) {
    let mut hash = ContentHash::default();
    for (at, collection) in snapshot.definition().collections().iter().enumerate() {
        let documents = documents(snapshot, at);
        for (key, _, text) in &documents {
            hash.add(&collection.name, key, text.as_bytes());
        }
        for (place, index) in collection.indexes.iter().enumerate() {
            let mut expected = Vec::new();
            for (key, _, text) in &documents {
                let Json::Object(document) = Json::parse_stored(text.as_bytes()).unwrap() else {
                    panic!("{text} is no object");
                };
                let entries = entries(index, &document, key);
                let several = entries.len() > 1;
                expected.extend(entries.into_iter().map(|entry| (entry, key.clone(), several)));
            }
            expected.sort();
            let table = snapshot.index(at, place).unwrap();
            let found: Vec<_> = table
                .range::<&[u8]>(..)
                .unwrap()
                .map(|row| {
                    let (entry, value) = row.unwrap();
                    let (key, several) = split_entry(entry.value(), value.value()).unwrap();
                    (entry.value().to_vec(), key.to_vec(), several)
                })
                .collect();
            assert_eq!(found, expected, "index {}", index.name);
        }
    }
    assert_eq!(snapshot.state().content_hash, hash);
}

fn any_event() -> impl Strategy<Value = (&'static str, String)> {
    let scalar = prop_oneof!["null", "[0-3]", "\"[a-b]\"", "1\\.5"];
    let tags = prop_oneof![
        "null".prop_map(String::from),
        prop::collection::vec("\"[a-c]\"", 0..3).prop_map(|tags| format!("[{}]", tags.join(","))),
    ];
    let key = 0..12;
    prop_oneof![
        4 => (key.clone(), scalar.clone(), scalar, tags).prop_map(|(key, a, b, tags)| {
            ("doc.put", format!(r#"{{"key":"k{key}","a":{a},"b":{b},"tags":{tags}}}"#))
        }),
        1 => key.clone().prop_map(|key| ("doc.deleted", format!(r#"{{"key":"k{key}"}}"#))),
        2 => (key, -5..5).prop_map(|(key, number)| {
            ("doc.summed", format!(r#"{{"key":"k{key}","number":{number}.5}}"#))
        }),
        1 => Just(("other", "1".to_owned())),
    ]
}

/// Applies the events in batches of this size and gives the documents.
fn build(events: &[(&str, String)], size: usize) -> (ContentHash, Vec<Vec<Row>>) {
    let (store, mut batch) = open();
    let mut position = Position::ZERO;
    for chunk in events.chunks(size) {
        for (event_type, data) in chunk {
            position = position.next();
            batch.apply(&event(position, event_type, data)).unwrap();
        }
        let state = batch.commit(1, false, Persistence::Buffered).unwrap();
        assert_eq!(state.cursor, position);
    }
    let snapshot = store.snapshot().unwrap();
    check_consistent(&snapshot);
    (snapshot.state().content_hash, (0..2).map(|at| documents(&snapshot, at)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn documents_do_not_depend_on_batches(events in prop::collection::vec(any_event(), 1..60), size in 2_usize..20) {
        let one_by_one = build(&events, 1);
        prop_assert_eq!(&build(&events, size), &one_by_one);
        prop_assert_eq!(&build(&events, events.len()), &one_by_one);
    }
}

#[test]
fn an_event_that_fails_leaves_the_batch_as_it_was() {
    let (store, mut batch) = open();
    let put = r#"{"key":"k","a":1,"b":2,"tags":null}"#;
    batch.apply(&event(Position::new(1), "doc.put", put)).unwrap();
    let two_arrays = r#"{"key":"k","a":[1],"b":2,"tags":[3]}"#;
    let refused = batch.apply(&event(Position::new(2), "doc.put", two_arrays)).unwrap_err();
    assert!(refused.to_string().contains("index by_tags"), "{refused}");
    let text = r#"{"key":"k","number":"x"}"#;
    assert!(batch.apply(&event(Position::new(2), "doc.summed", text)).is_err());
    assert_eq!(batch.cursor(), Position::new(1));
    batch.commit(1, false, Persistence::Durable).unwrap();
    let snapshot = store.snapshot().unwrap();
    check_consistent(&snapshot);
    let found = documents(&snapshot, 0);
    assert_eq!(found[0].2, r#"{"a":1,"b":2,"tags":null}"#);
}

#[test]
fn a_file_of_another_definition_or_log_is_set_aside() {
    let (store, mut batch) = open();
    let put = r#"{"key":"k","a":1,"b":2,"tags":null}"#;
    batch.apply(&event(Position::new(1), "doc.put", put)).unwrap();
    batch.commit(1, true, Persistence::Durable).unwrap();
    let facts = |log_id, head, epoch| {
        (uuid::Uuid::from_u128(log_id), Position::new(head), move |_: Position| -> u64 { epoch })
    };
    let reopen = |(log_id, head, epoch_at): (_, _, _)| {
        let epoch_at: &dyn Fn(Position) -> u64 = &epoch_at;
        store.open(&LogFacts { log_id, head, epoch_at }).unwrap()
    };
    let (state, set_aside) = reopen(facts(9, 1, 1));
    assert_eq!((state.cursor, set_aside), (Position::new(1), None));
    for (log_id, head, epoch, reason) in
        [(8, 1, 1, "follows the log"), (9, 0, 1, "above"), (9, 1, 2, "epoch 2")]
    {
        let (_, set_aside) = reopen(facts(9, 1, 1));
        assert_eq!(set_aside, None);
        let (state, set_aside) = reopen(facts(log_id, head, epoch));
        let set_aside = set_aside.expect(reason);
        assert!(set_aside.reason.contains(reason), "{}", set_aside.reason);
        assert_eq!(state.cursor, Position::ZERO);
        store.discard("the next case".into()).unwrap();
        let (state, _) = reopen(facts(9, 1, 1));
        batch.reset(state);
        batch.apply(&event(Position::new(1), "doc.put", put)).unwrap();
        batch.commit(1, true, Persistence::Durable).unwrap();
    }
}

#[test]
fn a_compacted_file_holds_what_it_held_and_is_left_alone_while_somebody_reads() {
    let (store, mut batch) = open();
    let mut position = Position::ZERO;
    for round in 0..6 {
        for number in 0..300 {
            position = position.next();
            let key = (number * 7 + round) % 900;
            let put = format!(r#"{{"key":"k{key}","a":{number},"b":"{}","tags":["x","y"]}}"#, "b".repeat(90));
            batch.apply(&event(position, "doc.put", &put)).unwrap();
        }
        batch.commit(1, false, Persistence::Durable).unwrap();
    }
    let held = store.snapshot().unwrap();
    let before = (documents(&held, 0), *held.state());
    store.compact().unwrap();
    assert_eq!(documents(&held, 0), before.0, "who reads goes on reading");
    drop(held);
    store.compact().unwrap();
    let after = store.snapshot().unwrap();
    assert_eq!((documents(&after, 0), *after.state()), before);
    check_consistent(&after);
    drop(after);
    let put = r#"{"key":"k1","a":1,"b":2,"tags":null}"#;
    batch.apply(&event(position.next(), "doc.put", put)).unwrap();
    batch.commit(1, true, Persistence::Durable).unwrap();
    check_consistent(&store.snapshot().unwrap());
}
