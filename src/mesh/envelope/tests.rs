//! What travels is what was meant, or it is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    limits::{ENVELOPE_BYTES_MAX, EVENT_TAGS_MAX, STREAM_BYTES_MAX, TAG_BYTES_MAX},
    mesh::bus::Message,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn name() -> ExportName {
    ExportName { owner: "flights".into(), export: "departures".into(), version: 2 }
}

fn place(seq: u64) -> Place {
    let log_id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    Place { log_id, epoch: 3, seq, position: Position::new(10 + seq), chain: [7; 32] }
}

fn signature() -> Signature {
    Signature { key: "VDUMMYKEY234567".into(), bytes: (0..64).collect() }
}

fn sample() -> Envelope {
    Envelope {
        name: name(),
        definition: [0xab; 32],
        place: place(5),
        event: PublicEvent {
            id: EventId::from_uuid(Uuid::from_u128((1 << 100) + 77)).unwrap(),
            event_type: EventType::parse("flight.departed").unwrap(),
            stream: StreamId::parse("flight UA \"1545\" %é").unwrap(),
            tags: ["a\"b", "carrier:UA", "ü \\"].iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
            time_unix_nanos: 1_357_028_130_250_000_000,
            data: Bytes::from_static(b"{\"flight\": \"UA1545\", \"delay\": 2}"),
            trace: Some(TRACE.into()),
        },
        signature: Some(signature()),
    }
}

fn head() -> HeadMark {
    HeadMark { name: name(), definition: [1; 32], place: place(9), signature: signature() }
}

fn set(message: &mut Message, header: &str, value: &str) {
    let found = message.headers.iter_mut().find(|(name, _)| name == header);
    found.unwrap().1 = value.to_owned();
}

/// The message of the sample, changed, is refused with these words.
#[track_caller]
fn check(change: impl FnOnce(&mut Message), expected: &str) {
    check_message(to_message(&sample()), change, expected);
}

#[track_caller]
fn check_message(mut message: Message, change: impl FnOnce(&mut Message), expected: &str) {
    change(&mut message);
    let error = from_message(&message).expect_err(expected).to_string();
    assert!(error.contains(expected), "expected {expected}\nfound {error}");
}

/// A header of the sample with another value.
#[track_caller]
fn check_header(header: &str, value: &str, expected: &str) {
    let found = format!("{header}: expected ");
    check(|message| set(message, header, value), &found);
    check(|message| set(message, header, value), expected);
}

#[test]
fn an_event_is_a_cloud_event_in_binary_mode() {
    let message = to_message(&sample());
    assert_eq!(message.subject, "outrigger.v1.flights.departures.v2.flight.departed");
    let lines: Vec<String> = message.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let expected = [
        "ce-specversion: 1.0",
        "ce-id: 00000010-0000-0000-0000-00000000004d",
        "ce-source: outrigger://flights/departures/v2",
        "ce-type: flight.departed",
        "ce-time: 2013-01-01T08:15:30.25Z",
        "ce-subject: flight%20UA%20%221545%22%20%25%C3%A9",
        "ce-traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ce-datacontenttype: application/json",
        "content-type: application/json",
        "outrigger-format: 1",
        "outrigger-log: 00010203-0405-0607-0809-0a0b0c0d0e0f",
        "outrigger-epoch: 3",
        "outrigger-seq: 5",
        "outrigger-position: 15",
        "outrigger-chain: 0707070707070707070707070707070707070707070707070707070707070707",
        "outrigger-definition: abababababababababababababababababababababababababababababababab",
        "outrigger-tags: [\"a\\\"b\",\"carrier:UA\",\"ü \\\\\"]",
    ];
    assert_eq!(lines[..expected.len()], expected);
    assert_eq!(lines.len(), expected.len() + 2, "a signature and its key");
    assert_eq!(message.payload, sample().event.data);
    assert_eq!(
        sample().message_id(),
        "00010203-0405-0607-0809-0a0b0c0d0e0f/departures/v2/3/5/0707070707070707"
    );
    let mut restored = sample();
    restored.place.chain = [8; 32];
    assert_ne!(restored.message_id(), sample().message_id(), "the same number of another past");
}

#[test]
fn headers_are_read_in_any_case_and_others_passed_over() {
    let mut message = to_message(&sample());
    for (name, _) in &mut message.headers {
        *name = name.to_ascii_uppercase();
    }
    message.headers.insert(0, ("Nats-Msg-Id".into(), "x".into()));
    message.headers.push(("ce-other".into(), "y".into()));
    assert_eq!(from_message(&message), Ok(Received::Event(Box::new(sample()))));
}

#[test]
fn a_head_mark_is_a_signed_place() {
    let message = head_to_message(&head());
    assert_eq!(message.subject, "outrigger.v1.flights.departures.v2.$head");
    assert_eq!(from_message(&message), Ok(Received::Head(Box::new(head()))));
    let empty = HeadMark { place: Place::start(Uuid::nil(), 1), ..head() };
    assert_eq!(from_message(&head_to_message(&empty)), Ok(Received::Head(Box::new(empty))));
    let payload = |message: &mut Message| message.payload = Bytes::from_static(b"x");
    check_message(
        head_to_message(&head()),
        payload,
        "payload: expected no payload in a head mark, found 1 bytes",
    );
    let unsigned = |message: &mut Message| {
        message.headers.retain(|(name, _)| name != "outrigger-signature" && name != "outrigger-key");
    };
    check_message(
        head_to_message(&head()),
        unsigned,
        "outrigger-signature: expected a signature, since it is a head mark",
    );
}

#[test]
fn what_is_malformed_is_named() {
    for (name, _) in to_message(&sample()).headers {
        check(
            |message| message.headers.push((name.to_ascii_uppercase(), "1".into())),
            &format!("{name}: expected the header once, found it more than once"),
        );
        if name != "ce-traceparent" && name != "outrigger-tags" {
            let without = |message: &mut Message| message.headers.retain(|(other, _)| *other != name);
            check(without, &format!("{name}: expected "));
            check(without, "found no such header");
        }
    }
}

#[test]
fn a_header_is_taken_as_it_is_written() {
    check_header("ce-specversion", "1.1", "expected \"1.0\", found \"1.1\"");
    check_header("ce-id", "00000010-0000-0000-0000-00000000004D", "expected a UUID in lower case, not nil");
    check_header("ce-id", &Uuid::nil().to_string(), "not nil");
    check_header(
        "ce-source",
        "outrigger://weather/departures/v2",
        "expected \"outrigger://flights/departures/v2\"",
    );
    check_header("ce-type", "flight.arrived", "expected \"flight.departed\", found \"flight.arrived\"");
    check_header("ce-time", "2013-01-01T08:15:30.250Z", "without needless digits");
    check_header("ce-time", "2013-01-01T09:15:30.25+01:00", "in UTC");
    check_header("ce-subject", "flight UA", "a stream, percent-encoded");
    check_header("ce-subject", "flight%c3%a9", "percent-encoded");
    check_header("ce-subject", "%41", "percent-encoded");
    check_header("ce-subject", "%", "percent-encoded");
    check_header("ce-subject", "$import-x", "a stream");
    check_header("ce-traceparent", "marker", "expected 00-<32 hex digits>-<16>-<2>, found \"marker\"");
    check_header("content-type", "application/cloudevents+json", "expected \"application/json\"");
    check_header("outrigger-format", "2", "expected \"1\", found \"2\"");
    check_header("outrigger-log", "00010203040506070809-0a0b0c0d0e0f", "a UUID in lower case");
    check_header("outrigger-epoch", "03", "a whole number, found \"03\"");
    check_header("outrigger-epoch", "+3", "a whole number");
    check_header("outrigger-seq", "0", "from 1 that is not above the position, found seq 0 at position 15");
    check_header("outrigger-seq", "16", "found seq 16 at position 15");
    check_header("outrigger-position", "18446744073709551616", "a whole number");
    check_header("outrigger-chain", &"0A".repeat(32), "64 hexadecimal digits in lower case");
    check_header("outrigger-definition", &"0".repeat(63), "64 hexadecimal digits");
    check_header("outrigger-tags", "[]", "a JSON array of tags, sorted, each once");
    check_header("outrigger-tags", r#"["b","a"]"#, "sorted");
    check_header("outrigger-tags", r#"["a","a"]"#, "each once");
    check_header("outrigger-tags", r#"["a", "b"]"#, "without white space");
    check_header("outrigger-tags", r#"["a",1]"#, "a JSON array of tags");
    let many: Vec<String> = (10..43).map(|number| format!("\"{number}\"")).collect();
    check_header("outrigger-tags", &format!("[{}]", many.join(",")), "at most 32 tags, found 33");
    check_header("outrigger-signature", &"00".repeat(63), "128 hexadecimal digits");
    check_header("outrigger-key", "v", "a public key in the form of an nkey");
}

#[test]
fn payloads_and_subjects_are_checked() {
    check(
        |message| message.payload = Bytes::from_static(b"{\"a\":1,\"a\":2}"),
        "payload: expected one JSON value (",
    );
    check(|message| message.payload = Bytes::from_static(b""), "payload: expected one JSON value (");
    check(
        |message| message.payload = vec![b' '; (1 << 20) + 1].into(),
        "at most 1048576 bytes, found 1048577 bytes",
    );
    for subject in [
        "outrigger.v1.flights.departures.v2",
        "outrigger.v2.flights.departures.v2.flight.departed",
        "outrigger.v1.Flights.departures.v2.flight.departed",
        "outrigger.v1.flights.departures.v02.flight.departed",
        "outrigger.v1.flights.departures.v0.flight.departed",
        "outrigger.v1.flights.departures.v2147483649.flight.departed",
        "outrigger.v1.flights.departures.2.flight.departed",
    ] {
        let expected =
            "subject: expected outrigger.v1.<node>.<export>.v<version>.<public type>, found \"outrigger";
        check(|message| message.subject = subject.into(), expected);
    }
    check(
        |message| message.subject = "outrigger.v1.flights.departures.v2.$head.x".into(),
        "subject: expected an event type at its end",
    );
    let long = "x".repeat(1_000);
    let error = from_message(&Message { subject: long, ..to_message(&sample()) }).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn an_envelope_is_no_larger_than_its_bound() {
    let label = "a".repeat(63);
    let mut envelope = sample();
    envelope.name = ExportName { owner: label.clone(), export: label, version: 1 << 31 };
    envelope.place = Place { epoch: u64::MAX, seq: u64::MAX, position: Position::new(u64::MAX), ..place(1) };
    envelope.event.event_type = EventType::parse(&"t".repeat(128)).unwrap();
    envelope.event.stream = StreamId::parse(&"é".repeat(STREAM_BYTES_MAX / 2)).unwrap();
    let tag = |number: usize| format!("{number:02}{}", "\"".repeat(TAG_BYTES_MAX - 2));
    envelope.event.tags = (0..EVENT_TAGS_MAX).map(|number| Tag::parse(&tag(number)).unwrap()).collect();
    envelope.event.time_unix_nanos = 1_357_028_130_250_000_001;
    envelope.signature = Some(Signature { key: "V".repeat(56), ..signature() });
    let message = to_message(&envelope);
    // A header's line has a colon, a space and a line end besides.
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let tags: usize = envelope.event.tags.iter().map(|tag| tag.as_str().len()).sum();
    let event = 128 + STREAM_BYTES_MAX + tags;
    let beside = message.subject.len() + headers - event;
    assert!((8_192..ENVELOPE_BYTES_MAX - 1_024).contains(&beside), "{beside}");
    assert_eq!(from_message(&message), Ok(Received::Event(Box::new(envelope))));
}

#[test]
fn the_chain_is_of_the_chain_before() {
    let one = chain_after(&CHAIN_START, &sample());
    assert_ne!(one, chain_after(&one, &sample()));
    let mut other = sample();
    (other.place.chain, other.signature) = ([9; 32], None);
    assert_eq!(one, chain_after(&CHAIN_START, &other), "neither chain nor signature are part of the digest");
}

fn text() -> impl Strategy<Value = String> {
    "[ -~é€]{1,40}".prop_filter("reserved", |text| !text.starts_with('$'))
}

prop_compose! {
    fn envelopes()(
        (id, version, seq, beyond, epoch) in (1..u128::MAX, 1_u32..1 << 31, 1..u64::MAX / 2, 0..u64::MAX / 2, any::<u64>()),
        (stream, tags, data) in (text(), prop::collection::btree_set(text(), 0..4), text()),
        time_unix_nanos in any::<i64>(),
        (traced, signed) in any::<(bool, bool)>(),
        (chain, definition) in any::<([u8; 32], [u8; 32])>(),
    ) -> Envelope {
        Envelope {
            name: ExportName { version, ..name() },
            definition,
            place: Place { epoch, seq, position: Position::new(seq + beyond), chain, ..place(1) },
            event: PublicEvent {
                id: EventId::from_uuid(Uuid::from_u128(id)).unwrap(),
                event_type: EventType::parse("a.b-c").unwrap(),
                stream: StreamId::parse(&stream).unwrap(),
                tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
                time_unix_nanos,
                data: crate::json::Json::Text(data.into()).to_string().into(),
                trace: traced.then(|| TRACE.into()),
            },
            signature: signed.then(signature),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(envelope in envelopes()) {
        let message = to_message(&envelope);
        prop_assert_eq!(from_message(&message), Ok(Received::Event(Box::new(envelope))));
    }

    #[test]
    fn a_changed_byte_changes_the_chain_or_is_refused(
        envelope in envelopes(), at in any::<prop::sample::Index>(), flip in 1_u8..=255,
    ) {
        let message = to_message(&envelope);
        let before = chain_after(&CHAIN_START, &envelope);
        // Chain, signature and key vouch for the rest; they are compared and verified themselves.
        let beside = ["outrigger-chain", "outrigger-signature", "outrigger-key"];
        let canonical = |name: &str| !beside.contains(&name);
        let headers = message.headers.iter().filter(|(name, _)| canonical(name));
        let lengths: Vec<usize> = headers.map(|(name, value)| name.len() + value.len()).collect();
        let total = message.subject.len() + lengths.iter().sum::<usize>() + message.payload.len();
        let mut at = at.index(total);
        let mut changed = message.clone();
        let mut hit = |bytes: &[u8]| -> Option<Vec<u8>> {
            let inside = at.checked_sub(bytes.len());
            if let Some(rest) = inside {
                at = rest;
                return None;
            }
            let mut bytes = bytes.to_vec();
            bytes[at] ^= flip;
            at = usize::MAX;
            Some(bytes)
        };
        let mut texts: Vec<&mut String> = vec![&mut changed.subject];
        for (name, value) in &mut changed.headers {
            if canonical(name) {
                texts.push(name);
                texts.push(value);
            }
        }
        let mut renamed_case = false;
        for text in texts {
            if let Some(bytes) = hit(text.as_bytes()) {
                // What is no text cannot be a header: the transport refuses it.
                let Ok(new) = String::from_utf8(bytes) else { return Ok(()) };
                renamed_case = new.eq_ignore_ascii_case(text);
                *text = new;
            }
        }
        if let Some(bytes) = hit(&message.payload) {
            changed.payload = bytes.into();
        }
        match from_message(&changed) {
            Err(_) => {}
            Ok(Received::Head(_)) => prop_assert!(false, "a head mark was read"),
            Ok(Received::Event(read)) => {
                let same = chain_after(&CHAIN_START, &read) == before;
                // The names of headers may be in any case, and nothing else may be changed.
                prop_assert!(!same || (renamed_case && read.event == envelope.event && read.place == envelope.place));
            }
        }
    }
}
