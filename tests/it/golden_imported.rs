//! The stored form of imported events: origin (field 11) and cursor (field 12), in the bytes of a release.
//!
//! What was written then can be read for ever, and the same event still gives the same bytes. `TEST_ACCEPT_GOLDEN=1`
//! accepts a deliberate change of the format: it writes `tests/fixtures/stored-v1` anew.

use std::path::PathBuf;

use bytes::Bytes;
use outrigger::{
    disk::{Disk, read_file, real::RealDisk, replace_file},
    event::{
        Event, EventId, EventType, ImportCursor, Origin, Position, RecordedEvent, Revision, Source, StreamId,
        Tag, Tracking,
    },
};
use uuid::Uuid;

use crate::support::repository;

const OWNER_LOG: Uuid = Uuid::from_u128(0x0194_2a5b_7c00_7000_8000_0000_0000_0001);

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/stored-v1").join(name)
}

fn id(number: u128) -> EventId {
    EventId::from_uuid(Uuid::from_u128(number << 64 | 0x8000_0000_0000_0000)).unwrap()
}

fn origin() -> Origin {
    Origin {
        owner: "flights".into(),
        log_id: OWNER_LOG,
        epoch: 3,
        position: Position::new(4_711),
        id: id(9),
        hash: std::array::from_fn(|at| at as u8),
    }
}

fn cursor() -> ImportCursor {
    ImportCursor {
        owner: "flights".into(),
        export: "departures".into(),
        version: 2,
        definition: [0xd0; 32],
        log_id: OWNER_LOG,
        epoch: 3,
        seq: 1_024,
        position: Position::new(4_711),
        chain: [0xc4; 32],
        generation: 1,
    }
}

/// An imported event; the last of its append, and one before it; a cursor over a stretch of which nothing was taken.
fn events() -> [(&'static str, RecordedEvent); 3] {
    let event = |event_type: &str, stream: &str, data: &'static str| Event {
        id: id(10),
        event_type: EventType::parse_any(event_type).unwrap(),
        stream: StreamId::parse_any(stream).unwrap(),
        tags: vec![Tag::parse("flight:UA1545").unwrap()],
        data: Bytes::from_static(data.as_bytes()),
        metadata: Some(Bytes::from_static(
            b"{\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}",
        )),
        time_unix_nanos: Some(1_357_027_200_000_000_001),
    };
    let recorded = |event, tracking, origin: Option<Origin>, cursor: Option<ImportCursor>| RecordedEvent {
        position: Position::new(77),
        revision: Revision::new(5),
        recorded_at_unix_nanos: 1_700_000_000_123_456_789,
        event,
        tracking,
        origin: origin.map(Box::new),
        cursor: cursor.map(Box::new),
    };
    let board = || event("board.flight", "flights/UA1545", "{\"flight\": \"UA1545\", \"late\": true}");
    let source = Source::parse_any("$import/flights/1").unwrap();
    let tracking = || Some(Tracking { source: source.clone(), position: 1_024 });
    let passed = event("$import.passed", "$import-flights.passed", "{\"import\":\"flights\"}");
    [
        ("origin", recorded(board(), None, Some(origin()), None)),
        ("origin-and-cursor", recorded(board(), tracking(), Some(origin()), Some(cursor()))),
        ("cursor", recorded(passed, tracking(), None, Some(cursor()))),
    ]
}

#[test]
fn imported_events_keep_the_golden_form() {
    let is_accepted = std::env::var("TEST_ACCEPT_GOLDEN").is_ok_and(|accepts| accepts == "1");
    if is_accepted {
        RealDisk.create_dir_all(&fixture("")).unwrap();
    }
    for (name, event) in events() {
        let now = event.encode();
        if is_accepted {
            replace_file(&RealDisk, &fixture(name), &now).unwrap();
        }
        let golden = read_file(&RealDisk, &fixture(name), 4_096).unwrap();
        assert_eq!(
            RecordedEvent::decode(event.position, golden.clone().into()).unwrap(),
            event,
            "{name}: the values of the golden bytes"
        );
        assert_eq!(
            now, golden,
            "{name} differs; a change of a format needs a version and a changelog line, and TEST_ACCEPT_GOLDEN=1 accepts it"
        );
    }
}

/// The bytes themselves, so that encoder, decoder and fixture cannot be wrong together: keys and lengths of the fields.
#[test]
fn origin_and_cursor_stand_in_their_fields() {
    let golden = read_file(&RealDisk, &fixture("origin-and-cursor"), 4_096).unwrap();
    let holds = |part: &[u8]| golden.windows(part.len()).any(|window| window == part);
    let log_id = OWNER_LOG.as_bytes();
    // Field 11, then owner (1), log (2), epoch (3), position 4711 (4).
    let origin = [&[0x0a, 7][..], b"flights", &[0x12, 16], log_id, &[0x18, 3, 0x20, 0xe7, 0x24]].concat();
    assert!(holds(&origin), "origin");
    assert!(golden.windows(4).any(|window| window[0] == 0x5a && window[2..] == [0x0a, 7]), "field 11");
    // Field 12, then owner (1), export (2), version (3), definition (4), log (5), epoch (6), seq 1024 (7), position (8).
    let names =
        [&[0x0a, 7][..], b"flights", &[0x12, 10], b"departures", &[0x18, 2, 0x22, 32], &[0xd0; 32]].concat();
    let places = [&[0x2a, 16][..], log_id, &[0x30, 3, 0x38, 0x80, 0x08, 0x40, 0xe7, 0x24, 0x4a, 32]].concat();
    assert!(holds(&[names, places, vec![0xc4; 32], vec![0x50, 1]].concat()), "cursor");
    assert!(golden.windows(4).any(|window| window[0] == 0x62 && window[2..] == [0x0a, 7]), "field 12");
}
