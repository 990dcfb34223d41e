//! Tests of the ledger: its bounds, its order, and that it is read as it was written.

use std::path::Path;

use super::*;
use crate::{
    disk::sim::SimDisk,
    kv::{self, Persistence},
    projection::testing::{DEFINITION, definition, event},
};
use redb::ReadableDatabase as _;

fn parked(position: u64, stream: &str) -> RecordedEvent {
    let mut event = event(Position::new(position), "doc.put", "{}");
    event.event.stream = StreamId::parse(stream).unwrap();
    event
}

fn database() -> redb::Database {
    let disk = SimDisk::new(1);
    crate::disk::Disk::create_dir_all(&disk, Path::new("/d")).unwrap();
    kv::open(&disk, Path::new("/d/file"), 1 << 20, kv::Syncs::Through).unwrap()
}

fn write(database: &redb::Database, ledger: &mut Ledger) {
    let write = kv::begin_write(database, Persistence::Buffered).unwrap();
    ledger.take_changes().write(&write).unwrap();
    write.commit().unwrap();
}

#[test]
fn what_is_written_is_read_again_and_a_file_without_a_ledger_has_none() {
    let (database, definition) = (database(), definition(DEFINITION));
    let load = || Ledger::load(&database.begin_read().unwrap(), &definition).unwrap();
    assert_eq!(load().counts(), Counts::default());
    let mut ledger = Ledger::default();
    ledger.park(&parked(3, "a"), Some(Failure::new("no number")), 0b01);
    ledger.park(&parked(4, "b"), Some(Failure::new("no key")), 0b10);
    ledger.park(&parked(5, "a"), None, 0b01);
    ledger.skip(Position::new(6), Skipped::by_policy(Failure::new("no text")));
    ledger.note_late();
    write(&database, &mut ledger);
    let expected = Counts {
        parked_events: 3,
        parked_streams: 2,
        skipped: 1,
        late: 1,
        incomplete: 0b11,
        last_error: Position::new(6),
    };
    assert_eq!(ledger.counts(), expected);
    assert_eq!(counts(&database.begin_read().unwrap()).unwrap(), expected);
    let mut again = load();
    let streams: Vec<_> = again.parked_streams().iter().map(ToString::to_string).collect();
    assert_eq!(streams, ["a", "b"]);
    assert_eq!(again.first_of(&StreamId::parse("a").unwrap()), Some(Position::new(3)));
    assert_eq!(again.unpark(Position::new(5)), None, "not the first of its stream");
    assert_eq!(again.unpark(Position::new(3)).unwrap().as_str(), "a");
    assert!(!again.is_parked(&StreamId::parse("a").unwrap()));
    write(&database, &mut again);
    assert_eq!(load().counts().parked_events, 1);
    let rest = page(&database.begin_read().unwrap(), Position::ZERO, 10).unwrap();
    assert_eq!(rest.iter().map(|(at, _)| at.get()).collect::<Vec<_>>(), [4, 6]);
}

#[test]
fn the_list_of_skipped_events_and_the_parked_ones_are_bounded() {
    let (database, definition) = (database(), definition(DEFINITION));
    let mut ledger = Ledger::default();
    for position in 1..=SKIPPED_EVENTS_KEPT as u64 + 5 {
        ledger.skip(Position::new(position), Skipped::by_policy(Failure::new("no")));
        if position.is_multiple_of(100) {
            write(&database, &mut ledger);
        }
    }
    write(&database, &mut ledger);
    let kept = page(&database.begin_read().unwrap(), Position::ZERO, usize::MAX).unwrap();
    assert_eq!((kept.len(), kept[0].0), (SKIPPED_EVENTS_KEPT, Position::new(6)));
    let mut ledger = Ledger::load(&database.begin_read().unwrap(), &definition).unwrap();
    assert_eq!(ledger.counts().skipped, SKIPPED_EVENTS_KEPT as u64 + 5);
    for position in 0..PARKED_EVENTS_MAX as u64 {
        assert!(ledger.has_room());
        ledger.park(&parked(10_000 + position, "s"), None, 1);
    }
    assert!(!ledger.has_room());
    ledger.unpark(Position::new(10_000));
    assert!(ledger.has_room());
}
