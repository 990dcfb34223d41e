//! The stored form of events (`proto/outrigger/storage/v1`), written and read without copies on the way.
//!
//! Invariants: what is written here is what the generated code would write, byte for byte (a test holds that), and
//! fields that are not known are passed over. Does not know records or positions in files.

use std::fmt;

use bytes::{Buf as _, Bytes};
use prost::encoding::{self, DecodeContext, WireType};

mod import;

use super::{
    Event, EventId, EventType, Invalid, Position, RecordedEvent, Revision, Source, StreamId, Tag, Tracking,
};

/// Bytes that the fields of an event need at most besides its texts: keys, lengths, numbers.
const FRAMING_BYTES: usize = 96;

impl RecordedEvent {
    /// The payload of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.event.size_bytes() + FRAMING_BYTES + 3 * self.event.tags.len());
        self.encode_into(&mut out);
        out
    }

    /// Appends the payload of its record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let event = &self.event;
        put_bytes(out, 1, event.id.as_bytes());
        put_bytes(out, 2, event.event_type.as_str().as_bytes());
        put_bytes(out, 3, event.stream.as_str().as_bytes());
        put_varint(out, 4, self.revision.get());
        for tag in &event.tags {
            put_bytes(out, 5, tag.as_str().as_bytes());
        }
        if !event.data.is_empty() {
            put_bytes(out, 6, &event.data);
        }
        if let Some(metadata) = &event.metadata {
            put_bytes(out, 7, metadata);
        }
        if let Some(time) = event.time_unix_nanos {
            put_fixed(out, 8, time);
        }
        if self.recorded_at_unix_nanos != 0 {
            put_fixed(out, 9, self.recorded_at_unix_nanos);
        }
        if let Some(tracking) = &self.tracking {
            let mut inner = Vec::with_capacity(tracking.source.as_str().len() + 16);
            put_bytes(&mut inner, 1, tracking.source.as_str().as_bytes());
            put_varint(&mut inner, 2, tracking.position);
            put_bytes(out, 10, &inner);
        }
        if let Some(origin) = &self.origin {
            import::put_origin(out, 11, origin);
        }
        if let Some(cursor) = &self.cursor {
            import::put_cursor(out, 12, cursor);
        }
    }

    /// Reads the payload of the record at `position`; its texts share the payload's memory. The record's checksum has
    /// vouched for the bytes, so an error means that another program, or a newer one, wrote them.
    pub fn decode(position: Position, payload: Bytes) -> Result<Self, Invalid> {
        let damaged = |what: &dyn fmt::Display| Invalid(format!("record at position {position}: {what}"));
        let fields = Fields::read(payload).map_err(|error| damaged(&error))?;
        fields.into_recorded(position).map_err(|error| damaged(&error))
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encoding::encode_key(field, WireType::LengthDelimited, out);
    encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Numbers that are zero are not written, as in proto3.
fn put_varint(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        encoding::encode_key(field, WireType::Varint, out);
        encoding::encode_varint(number, out);
    }
}

fn put_fixed(out: &mut Vec<u8>, field: u32, number: i64) {
    encoding::encode_key(field, WireType::SixtyFourBit, out);
    out.extend_from_slice(&number.to_le_bytes());
}

/// The fields as they lie in a payload.
#[derive(Default)]
struct Fields {
    id: Bytes,
    event_type: Bytes,
    stream: Bytes,
    revision: u64,
    tags: Vec<Tag>,
    data: Bytes,
    metadata: Option<Bytes>,
    time_unix_nanos: Option<i64>,
    recorded_at_unix_nanos: i64,
    tracking: Option<Bytes>,
    origin: Option<Bytes>,
    cursor: Option<Bytes>,
}

impl Fields {
    fn read(mut payload: Bytes) -> Result<Self, Invalid> {
        let mut fields = Self::default();
        while payload.has_remaining() {
            let (field, wire_type) = encoding::decode_key(&mut payload).map_err(not_protobuf)?;
            match (field, wire_type) {
                (1, WireType::LengthDelimited) => fields.id = take_bytes(&mut payload)?,
                (2, WireType::LengthDelimited) => fields.event_type = take_bytes(&mut payload)?,
                (3, WireType::LengthDelimited) => fields.stream = take_bytes(&mut payload)?,
                (4, WireType::Varint) => {
                    fields.revision = encoding::decode_varint(&mut payload).map_err(not_protobuf)?;
                }
                (5, WireType::LengthDelimited) => {
                    fields.tags.push(Tag::parse_shared(take_bytes(&mut payload)?)?);
                }
                (6, WireType::LengthDelimited) => fields.data = take_bytes(&mut payload)?,
                (7, WireType::LengthDelimited) => fields.metadata = Some(take_bytes(&mut payload)?),
                (8, WireType::SixtyFourBit) => fields.time_unix_nanos = Some(take_fixed(&mut payload)?),
                (9, WireType::SixtyFourBit) => fields.recorded_at_unix_nanos = take_fixed(&mut payload)?,
                (10, WireType::LengthDelimited) => fields.tracking = Some(take_bytes(&mut payload)?),
                (11, WireType::LengthDelimited) => fields.origin = Some(take_bytes(&mut payload)?),
                (12, WireType::LengthDelimited) => fields.cursor = Some(take_bytes(&mut payload)?),
                (_, wire_type) => {
                    let skipped =
                        encoding::skip_field(wire_type, field, &mut payload, DecodeContext::default());
                    skipped.map_err(not_protobuf)?;
                }
            }
        }
        Ok(fields)
    }

    fn into_recorded(self, position: Position) -> Result<RecordedEvent, Invalid> {
        Ok(RecordedEvent {
            position,
            revision: Revision::new(self.revision),
            recorded_at_unix_nanos: self.recorded_at_unix_nanos,
            event: Event {
                id: EventId::from_slice(&self.id)?,
                event_type: EventType::parse_any_shared(self.event_type)?,
                stream: StreamId::parse_any_shared(self.stream)?,
                tags: self.tags,
                data: self.data,
                metadata: self.metadata,
                time_unix_nanos: self.time_unix_nanos,
            },
            tracking: self.tracking.map(read_tracking).transpose()?,
            origin: self.origin.map(import::read_origin).transpose()?.map(Box::new),
            cursor: self.cursor.map(import::read_cursor).transpose()?.map(Box::new),
        })
    }
}

fn read_tracking(mut payload: Bytes) -> Result<Tracking, Invalid> {
    let (mut source, mut position) = (Bytes::new(), 0);
    while payload.has_remaining() {
        let (field, wire_type) = encoding::decode_key(&mut payload).map_err(not_protobuf)?;
        match (field, wire_type) {
            (1, WireType::LengthDelimited) => source = take_bytes(&mut payload)?,
            (2, WireType::Varint) => {
                position = encoding::decode_varint(&mut payload).map_err(not_protobuf)?;
            }
            (_, wire_type) => {
                let skipped = encoding::skip_field(wire_type, field, &mut payload, DecodeContext::default());
                skipped.map_err(not_protobuf)?;
            }
        }
    }
    Ok(Tracking { source: Source::parse_any_shared(source)?.detached(), position })
}

fn take_bytes(payload: &mut Bytes) -> Result<Bytes, Invalid> {
    let len = encoding::decode_varint(payload).map_err(not_protobuf)?;
    match usize::try_from(len) {
        Ok(len) if len <= payload.len() => Ok(payload.split_to(len)),
        _ => Err(Invalid(format!("expected a field of {len} bytes, found {}", payload.len()))),
    }
}

fn take_fixed(payload: &mut Bytes) -> Result<i64, Invalid> {
    if payload.len() < 8 {
        return Err(Invalid(format!("expected a number of 8 bytes, found {}", payload.len())));
    }
    Ok(payload.get_i64_le())
}

fn not_protobuf(error: prost::DecodeError) -> Invalid {
    Invalid(format!("expected a stored event: {error}"))
}

#[cfg(test)]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated code")]
pub(crate) mod generated {
    include!(concat!(env!("OUT_DIR"), "/outrigger.storage.v1.rs"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::event::samples::{cursor, origin};

    fn recorded() -> impl Strategy<Value = RecordedEvent> {
        let names = (
            "[a-z]{1,9}(\\.[a-z]{1,9})?",
            "[^\\p{C}]{1,40}",
            proptest::collection::vec("[a-z:0-9]{1,20}", 0..4),
        );
        let texts = (any::<[u8; 16]>(), "[ -~]{0,300}", proptest::option::of("[ -~]{0,20}"));
        let numbers = (any::<i64>(), proptest::option::of(any::<i64>()), any::<u64>());
        let tracking = proptest::option::of(("[a-z/]{1,20}", 1_u64..));
        let imported = (proptest::option::of(origin()), proptest::option::of(cursor()));
        (names, texts, numbers, tracking, imported).prop_map(|(names, texts, numbers, tracking, imported)| {
            RecordedEvent {
                position: Position::new(7),
                revision: Revision::new(numbers.2),
                recorded_at_unix_nanos: numbers.0,
                event: Event {
                    id: EventId::from_slice(&texts.0.map(|byte| byte | 1)).unwrap(),
                    event_type: EventType::parse(&names.0).unwrap(),
                    stream: StreamId::parse_any(&names.1).unwrap(),
                    tags: names.2.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
                    data: Bytes::from(texts.1),
                    metadata: texts.2.map(Bytes::from),
                    time_unix_nanos: numbers.1,
                },
                tracking: tracking
                    .map(|(source, position)| Tracking { source: Source::parse(&source).unwrap(), position }),
                origin: imported.0.map(Box::new),
                cursor: imported.1.map(Box::new),
            }
        })
    }

    proptest! {
        #[test]
        fn a_recorded_event_survives_its_encoding(recorded in recorded()) {
            let decoded = RecordedEvent::decode(recorded.position, recorded.encode().into()).unwrap();
            prop_assert_eq!(decoded, recorded);
        }

        #[test]
        fn it_is_the_protobuf_that_the_proto_describes(recorded in recorded()) {
            let bytes = recorded.encode();
            let message = generated::StoredEvent::decode(&*bytes).unwrap();
            prop_assert_eq!(&message.id[..], &recorded.event.id.as_bytes()[..]);
            prop_assert_eq!(message.tracking.is_some(), recorded.tracking.is_some());
            prop_assert_eq!(message.origin.is_some(), recorded.origin.is_some());
            prop_assert_eq!(message.cursor.is_some(), recorded.cursor.is_some());
            prop_assert_eq!(message.encode_to_vec(), bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>(), recorded in recorded()) {
            drop(RecordedEvent::decode(Position::new(1), bytes.into()));
            let whole = recorded.encode();
            drop(RecordedEvent::decode(Position::new(1), Bytes::from(whole).slice(..cut.index(recorded.encode().len()))));
        }
    }
}
