//! Tests of the table of changes: what it holds, where it ends, and files that never had it.

use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    disk::{Disk, sim::SimDisk},
    kv::Persistence,
    projection::{
        batch::Batch,
        page::hex,
        store::{LogFacts, Store, write_state},
        testing::{DEFINITION, definition, event, share},
    },
};

/// A built version at position 1, and what applies further events.
fn built() -> (Arc<Store>, Batch) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    disk.create_dir_all(Path::new("/p")).unwrap();
    let store = Arc::new(Store::new(disk, Path::new("/p"), Arc::new(definition(DEFINITION)), share()));
    let facts = LogFacts { log_id: uuid::Uuid::from_u128(9), head: Position::ZERO, epoch_at: &|_| 1 };
    let (state, _) = store.open(&facts).unwrap();
    let mut batch = Batch::new(Arc::clone(&store), state);
    put(&mut batch, "k1");
    batch.commit(1, true, Persistence::Durable).unwrap();
    (store, batch)
}

fn put(batch: &mut Batch, key: &str) {
    let data = format!(r#"{{"key":"{key}","a":1,"b":2,"tags":null}}"#);
    batch.apply(&event(batch.cursor().next(), "doc.put", &data)).unwrap();
}

/// The changes of the first collection above a position, as position and key.
fn changes(store: &Store, after: u64) -> Vec<(u64, String)> {
    let snapshot = store.snapshot().unwrap();
    let found = snapshot.changes_behind(Place::behind(Position::new(after)), 0, usize::MAX).unwrap();
    let in_words =
        |(place, key): &(Place, Vec<u8>)| (place.position().get(), Key::decode(key).unwrap().to_string());
    let words: Vec<_> = found.iter().map(in_words).collect();
    // The same one by one.
    let (mut place, mut again) = (Place::behind(Position::new(after)), Vec::new());
    while let Some(next) = snapshot.changes_behind(place, 0, 1).unwrap().pop().filter(|_| words.len() < 99) {
        place = next.0;
        again.push(in_words(&next));
    }
    assert!(words.len() >= 99 || again == words);
    words
}

fn reach(store: &Store) -> Option<(u64, u64)> {
    let reach = store.snapshot().unwrap().reach().unwrap();
    reach.map(|reach| (reach.base.get(), reach.floor.get()))
}

/// Leaves the file as a program would that does not know the table.
pub(crate) fn forget(store: &Store, commit: bool) {
    let write = store.begin_write(Persistence::Buffered).unwrap();
    if commit {
        let mut state = *store.snapshot().unwrap().state();
        state.cursor = state.cursor.next();
        write_state(&write, &state, store.definition()).unwrap();
    } else {
        write.delete_table(CHANGES).unwrap();
        write.open_table(STATE).unwrap().remove(REACH_KEY).unwrap();
    }
    write.commit().unwrap();
}

/// Drops all changes, as new ones would after a while.
pub(crate) fn trim(store: &Store) {
    let snapshot = store.snapshot().unwrap();
    let reach = snapshot.reach().unwrap().unwrap();
    let trimmed = Reach { floor: snapshot.state().cursor, ..reach };
    let write = store.begin_write(Persistence::Buffered).unwrap();
    write.delete_table(CHANGES).unwrap();
    write.open_table(STATE).unwrap().insert(REACH_KEY, &trimmed.encode()[..]).unwrap();
    write.commit().unwrap();
}

#[test]
fn the_record_has_the_bytes_it_always_had() {
    let reach = Reach { base: Position::new(1), floor: Position::new(2), upto: Position::new(3) };
    let record = reach.encode();
    assert_eq!(Reach::decode(&record).unwrap(), reach);
    let expected = format!("01{:016x}{:016x}{:016x}", 1, 2, 3);
    assert_eq!(hex(&record[..BODY_BYTES]), expected);
    for bit in 0..8 * REACH_BYTES {
        let mut damaged = record;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Reach::decode(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn changes_are_kept_from_the_first_build_on_each_once_a_commit() {
    let (store, mut batch) = built();
    assert_eq!((reach(&store), changes(&store, 0)), (Some((1, 1)), vec![]), "nothing of the first build");
    for key in ["k2", "k3", "k2"] {
        put(&mut batch, key);
    }
    batch.commit(1, true, Persistence::Buffered).unwrap();
    let deleted = event(batch.cursor().next(), "doc.deleted", r#"{"key":"k1"}"#);
    batch.apply(&deleted).unwrap();
    batch.commit(1, true, Persistence::Buffered).unwrap();
    let text = |at: &[(u64, &str)]| -> Vec<(u64, String)> {
        at.iter().map(|(position, key)| (*position, (*key).to_owned())).collect()
    };
    assert_eq!(changes(&store, 0), text(&[(3, "k3"), (4, "k2"), (5, "k1")]));
    assert_eq!(changes(&store, 3), text(&[(4, "k2"), (5, "k1")]));
    assert_eq!(changes(&store, 5), []);
    batch.commit(1, true, Persistence::Durable).unwrap();
    assert_eq!(reach(&store), Some((1, 1)), "a commit of nothing changes nothing");
}

#[test]
fn a_version_in_its_first_build_has_no_changes() {
    let (store, mut batch) = built();
    let facts = LogFacts { log_id: uuid::Uuid::from_u128(9), head: Position::new(9), epoch_at: &|_| 1 };
    store.remove().unwrap();
    let (state, _) = store.open(&facts).unwrap();
    batch.reset(state);
    put(&mut batch, "k1");
    batch.commit(1, false, Persistence::Buffered).unwrap();
    assert_eq!(reach(&store), None);
    put(&mut batch, "k2");
    batch.commit(1, true, Persistence::Buffered).unwrap();
    assert_eq!((reach(&store), changes(&store, 0)), (Some((2, 2)), vec![]));
}

#[test]
fn the_table_begins_anew_where_another_program_wrote_the_file() {
    for commit in [false, true] {
        let (store, mut batch) = built();
        put(&mut batch, "k2");
        batch.commit(1, true, Persistence::Buffered).unwrap();
        forget(&store, commit);
        let at = store.snapshot().unwrap().state().cursor;
        assert_eq!(reach(&store), Some((at.get(), at.get())), "told before the next commit too");
        let facts = LogFacts { log_id: uuid::Uuid::from_u128(9), head: Position::new(9), epoch_at: &|_| 1 };
        let (state, set_aside) = store.open(&facts).unwrap();
        assert_eq!((state.cursor, set_aside), (at, None), "such a file opens");
        batch.reset(state);
        put(&mut batch, "k3");
        batch.commit(1, true, Persistence::Buffered).unwrap();
        assert_eq!(reach(&store), Some((at.get(), at.get())));
        assert_eq!(changes(&store, 0), [(at.get() + 1, "k3".to_owned())]);
    }
}

/// Writes changes as a commit of these positions would.
fn write_changes(store: &Store, positions: std::ops::RangeInclusive<u64>) {
    let key = Key::text("k").unwrap();
    let write = store.begin_write(Persistence::Buffered).unwrap();
    let state = State { cursor: Position::new(*positions.end()), ..*store.snapshot().unwrap().state() };
    let changes = positions.map(|position| (Position::new(position), 0, &key));
    record(&write, &state, changes).unwrap();
    write_state(&write, &state, store.definition()).unwrap();
    write.commit().unwrap();
}

#[test]
fn the_oldest_changes_go_and_the_floor_says_so() {
    let (store, _) = built();
    write_changes(&store, 2..=CHANGES_MAX + 1);
    assert_eq!((reach(&store), changes(&store, 0).len() as u64), (Some((1, 1)), CHANGES_MAX));
    write_changes(&store, CHANGES_MAX + 2..=CHANGES_MAX + 11);
    assert_eq!(reach(&store), Some((1, 11)));
    let kept = changes(&store, 0);
    assert_eq!((kept.len() as u64, kept[0].0), (CHANGES_MAX, 12));
    let first = CHANGES_MAX + 12;
    write_changes(&store, first..=first + CHANGES_MAX);
    assert_eq!(reach(&store), Some((1, first + CHANGES_MAX)), "a commit of more than all begins anew");
    assert_eq!(changes(&store, 0), []);
}

#[test]
fn what_is_applied_late_counts_as_changed_now() {
    let (store, _) = built();
    let key = Key::text("late").unwrap();
    let write = store.begin_write(Persistence::Buffered).unwrap();
    let state = State { cursor: Position::new(5), ..*store.snapshot().unwrap().state() };
    record(&write, &state, [(Position::new(1), 0, &key)].into_iter()).unwrap();
    write_state(&write, &state, store.definition()).unwrap();
    write.commit().unwrap();
    assert_eq!(changes(&store, 4), [(5, "late".to_owned())]);
}
