//! Golden exports: what definitions publish of fixed events, byte for byte, in every release.
//!
//! `TEST_ACCEPT_GOLDEN=1` accepts a deliberate change: it writes `tests/fixtures/exports/*.published` anew.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use outrigger::{
    disk::{Disk, read_file, real::RealDisk, replace_file},
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Tag},
    expression::LANGUAGE_VERSION,
    json::{Json, Object},
    mesh::{
        definition::Export,
        envelope::{
            CHAIN_START, ENVELOPE_FORMAT, Envelope, ExportName, Place, Received, chain_after, from_message,
            to_message,
        },
        trust::{SigningKey, Trust},
    },
};
use uuid::Uuid;

use crate::support::repository;

const FILE_BYTES_MAX: usize = 1 << 20;

fn fixtures() -> PathBuf {
    repository().join("tests/fixtures/exports")
}

fn text_of(path: &Path) -> String {
    let bytes =
        read_file(&RealDisk, path, FILE_BYTES_MAX).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    String::from_utf8(bytes).unwrap()
}

fn text<'a>(event: &'a Object, name: &str) -> Option<&'a str> {
    match event.get(name) {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

fn number(event: &Object, name: &str) -> u64 {
    match event.get(name) {
        Some(Json::Int(number)) => u64::try_from(*number).unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

fn event(line: &str) -> RecordedEvent {
    let Json::Object(event) = Json::parse(line.as_bytes()).unwrap() else {
        panic!("{line}");
    };
    let bytes = |name| text(&event, name).map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let Some(Json::Array(tags)) = event.get("tags") else {
        panic!("{line}");
    };
    let tag = |tag: &Json| match tag {
        Json::Text(tag) => Tag::parse(tag).unwrap(),
        other => panic!("{other}"),
    };
    let time = text(&event, "time").map(|time| {
        let time: jiff::Timestamp = time.parse().unwrap();
        i64::try_from(time.as_nanosecond()).unwrap()
    });
    RecordedEvent {
        position: Position::new(number(&event, "position")),
        revision: Revision::new(number(&event, "revision")),
        recorded_at_unix_nanos: 1_357_000_000_000_000_000
            + i64::try_from(number(&event, "position")).unwrap(),
        event: Event {
            id: EventId::from_uuid(text(&event, "id").unwrap().parse().unwrap()).unwrap(),
            event_type: EventType::parse(text(&event, "type").unwrap()).unwrap(),
            stream: StreamId::parse(text(&event, "stream").unwrap()).unwrap(),
            tags: tags.iter().map(tag).collect(),
            data: bytes("data").unwrap(),
            metadata: bytes("metadata"),
            time_unix_nanos: time,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

/// What an export publishes of the events: one batch, signed at its end by a fixed key.
fn published(export: &Export, events: &[RecordedEvent], key: &SigningKey) -> Vec<Envelope> {
    let name =
        ExportName { owner: "airport".into(), export: export.name().into(), version: export.version() };
    let mut place = Place::start(Uuid::from_u128(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100), 2);
    let mut envelopes: Vec<Envelope> = Vec::new();
    for event in events {
        let Some(public) = export.publish(event).unwrap_or_else(|error| panic!("{error}")) else {
            continue;
        };
        let before = place.chain;
        place = Place { seq: place.seq + 1, position: event.position, ..place };
        let mut envelope = Envelope {
            name: name.clone(),
            definition: *export.hash(),
            place: place.clone(),
            event: public,
            signature: None,
        };
        place.chain = chain_after(&before, &envelope);
        envelope.place.chain = place.chain;
        envelopes.push(envelope);
    }
    if let Some(last) = envelopes.last_mut() {
        last.signature = Some(key.sign(&last.name, &last.definition, &last.place));
    }
    envelopes
}

/// The messages as the fixture shows them: readable, and with every byte of them.
fn shown(envelopes: &[Envelope]) -> String {
    let mut out = format!("# envelope format {ENVELOPE_FORMAT}, expression language {LANGUAGE_VERSION}\n");
    for envelope in envelopes {
        let message = to_message(envelope);
        let lines = [("subject".to_owned(), message.subject)].into_iter().chain(message.headers);
        out.push('\n');
        out.extend(lines.map(|(name, value)| format!("{name}: {value}\n")));
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        out.extend([format!("payload of {} bytes: {payload}\n", payload.len())]);
    }
    out
}

/// The definition files, by name.
fn definitions() -> Vec<String> {
    let names = RealDisk.list(&fixtures()).unwrap();
    names.into_iter().filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect()
}

fn events() -> Vec<RecordedEvent> {
    text_of(&fixtures().join("events.ndjson")).lines().map(event).collect()
}

#[test]
fn published_bytes_are_the_golden_ones() {
    let accepts = std::env::var("TEST_ACCEPT_GOLDEN").is_ok_and(|accepts| accepts == "1");
    let (events, key) = (events(), SigningKey::from_entropy([42; 32]));
    let mut differing = Vec::new();
    let definitions = definitions();
    assert_eq!(definitions, ["flights-v1", "flights-v2", "weather-v1"]);
    for name in definitions {
        let export = Export::parse(&text_of(&fixtures().join(format!("{name}.yaml"))), &name).unwrap();
        assert_eq!(name, format!("{}-v{}", export.name(), export.version()));
        let now = shown(&published(&export, &events, &key));
        let file = fixtures().join(format!("{name}.published"));
        if accepts {
            replace_file(&RealDisk, &file, now.as_bytes()).unwrap();
        }
        let golden = text_of(&file);
        let line = now.lines().zip(golden.lines()).position(|(now, golden)| now != golden);
        if now != golden {
            let at = line.unwrap_or(now.lines().count().min(golden.lines().count()));
            differing.push(format!(
                "{name}.published:{}:\n  was: {}\n  now: {}",
                at + 1,
                golden.lines().nth(at).unwrap_or("(end)"),
                now.lines().nth(at).unwrap_or("(end)")
            ));
        }
    }
    assert!(
        differing.is_empty(),
        "what is published of old events would change, and importers hold the old bytes to be true:\n{}\n\
         a change of what is published needs a new format or language version and a changelog line; \
         TEST_ACCEPT_GOLDEN=1 accepts it",
        differing.join("\n")
    );
}

#[test]
fn golden_messages_are_read_back_and_vouched_for() {
    let (events, key) = (events(), SigningKey::from_entropy([42; 32]));
    let mut trust = Trust::default();
    trust.trust("airport", key.public()).unwrap();
    for name in definitions() {
        let export = Export::parse(&text_of(&fixtures().join(format!("{name}.yaml"))), &name).unwrap();
        let envelopes = published(&export, &events, &key);
        assert!(envelopes.len() >= 2, "{name}");
        let mut chain = CHAIN_START;
        for envelope in &envelopes {
            let read = from_message(&to_message(envelope)).unwrap();
            assert_eq!(read, Received::Event(Box::new(envelope.clone())));
            chain = chain_after(&chain, envelope);
            assert_eq!(chain, envelope.place.chain);
        }
        assert_eq!(trust.verify_event(envelopes.last().unwrap(), 0), Some(Ok(())));
    }
}

/// The events have the word `private` wherever an export does not name a field.
#[test]
fn golden_messages_hold_nothing_private() {
    let key = SigningKey::from_entropy([42; 32]);
    let text = text_of(&fixtures().join("flights-v1.yaml"));
    let private = |text: &str| {
        let export = Export::parse(text, "flights-v1").unwrap();
        shown(&published(&export, &events(), &key)).contains("private")
    };
    assert!(!private(&text));
    let control = text.replace("crew.seats", "crew");
    assert!(private(&control), "an export that names a private field lets it out");
}
