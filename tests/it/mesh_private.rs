//! Only what an export names leaves the node: a random marker in every private field, looked for in every byte of the
//! messages, and a control for each field that exports it and must find it.

use bytes::Bytes;
use outrigger::{
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Tag},
    mesh::{
        definition::Export,
        envelope::{CHAIN_START, Envelope, ExportName, Place, chain_after, to_message},
        trust::SigningKey,
    },
};
use uuid::Uuid;

const HEAD: &str = "export: flights\nversion: 1\nevents:\n  flight.departed:\n";

/// What a careful owner publishes.
const PUBLIC: &str = "    as: flight.left\n    stream: \"public/${data.flight}\"\n    tags: [\"flight:${data.flight}\"]\n    \
                      keep: [flight, crew.seats, delay]\n";

/// Where the marker is, and a definition that lets it out there.
const CONTROLS: [(&str, &str); 9] = [
    ("data", "    data: all\n"),
    ("a field beside those kept", "    keep: [flight, captain]\n"),
    ("a field inside", "    keep: [crew]\n"),
    ("an item of a list", "    data: {legs: \"${data.legs}\"}\n"),
    ("the name of a field", "    data: {names: \"${data.notes}\"}\n"),
    ("metadata", "    data: {by: \"${event.metadata.user}\"}\n"),
    ("a tag", "    data: {tags: \"${event.tags}\"}\n"),
    ("the stream", "    keep: [flight]\n"),
    ("a text in a tag", "    keep: [flight]\n    stream: x\n    tags: [\"by:${data.captain}\"]\n"),
];

fn event(marker: &str) -> RecordedEvent {
    let data = format!(
        "{{\"flight\":\"UA1\",\"captain\":\"{marker}\",\"crew\":{{\"seats\":3,\"chief\":\"{marker}\",\"deep\":[[\"{marker}\"]]}},\
         \"legs\":[{{\"by\":\"{marker}\"}}],\"notes\":{{\"{marker}\":1}},\"delay\":2}}"
    );
    RecordedEvent {
        position: Position::new(7),
        revision: Revision::new(2),
        recorded_at_unix_nanos: 1_357_000_000_000_000_000,
        event: Event {
            id: EventId::from_uuid(Uuid::from_u128(5)).unwrap(),
            event_type: EventType::parse("flight.departed").unwrap(),
            stream: StreamId::parse(&format!("stream-{marker}")).unwrap(),
            tags: vec![Tag::parse(&format!("tag:{marker}")).unwrap()],
            data: Bytes::from(data),
            metadata: Some(format!("{{\"user\":\"{marker}\",\"traceparent\":\"{marker}\"}}").into()),
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

/// Every byte that goes to the broker.
fn published(rule: &str, marker: &str) -> Vec<u8> {
    let export = Export::parse(&format!("{HEAD}{rule}"), "flights").unwrap();
    let public = export.publish(&event(marker)).unwrap().unwrap();
    let mut envelope = Envelope {
        name: ExportName { owner: "airport".into(), export: "flights".into(), version: 1 },
        definition: *export.hash(),
        place: Place { seq: 1, position: Position::new(7), ..Place::start(Uuid::from_u128(1), 1) },
        event: public,
        signature: None,
    };
    envelope.place.chain = chain_after(&CHAIN_START, &envelope);
    let key = SigningKey::from_entropy([1; 32]);
    envelope.signature = Some(key.sign(&envelope.name, &envelope.definition, &envelope.place));
    let message = to_message(&envelope);
    let mut bytes = message.subject.into_bytes();
    for (name, value) in message.headers {
        bytes.extend([name.as_bytes(), b"\n", value.as_bytes(), b"\n"].concat());
    }
    bytes.extend(&message.payload);
    bytes
}

fn holds(bytes: &[u8], marker: &str) -> bool {
    bytes.windows(marker.len()).any(|part| part == marker.as_bytes())
}

#[test]
fn what_an_export_does_not_name_stays_in_the_node() {
    for _ in 0..20 {
        let marker = format!("marker{}", Uuid::new_v4().simple());
        let bytes = published(PUBLIC, &marker);
        assert!(
            holds(&bytes, "UA1") && holds(&bytes, "{\"crew\":{\"seats\":3},\"delay\":2,\"flight\":\"UA1\"}")
        );
        assert!(!holds(&bytes, &marker), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_an_export_names_is_found() {
    for (place, rule) in CONTROLS {
        let marker = format!("marker{}", Uuid::new_v4().simple());
        assert!(holds(&published(rule, &marker), &marker), "{place} was exported and not found");
    }
}
