//! The stored form of origins and of imports' cursors.
//!
//! Invariants as in `stored`: what the generated code would write, byte for byte; unknown fields are passed over.

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;
use prost::encoding::{self, DecodeContext, WireType};
use uuid::Uuid;

use super::{not_protobuf, put_bytes, put_varint, take_bytes};
use crate::event::{EventId, ImportCursor, Invalid, Origin, Position};

/// Bytes that an origin needs at most besides the owner's name.
const ORIGIN_BYTES: usize = 110;
/// Bytes that a cursor needs at most besides names.
const CURSOR_BYTES: usize = 160;

/// Appends an origin as a field.
pub(super) fn put_origin(out: &mut Vec<u8>, field: u32, origin: &Origin) {
    let mut inner = Vec::with_capacity(origin.owner.len() + ORIGIN_BYTES);
    put_text(&mut inner, 1, &origin.owner);
    put_bytes(&mut inner, 2, origin.log_id.as_bytes());
    put_varint(&mut inner, 3, origin.epoch);
    put_varint(&mut inner, 4, origin.position.get());
    put_bytes(&mut inner, 5, origin.id.as_bytes());
    put_bytes(&mut inner, 6, &origin.hash);
    put_bytes(out, field, &inner);
}

/// Appends a cursor as a field.
pub(super) fn put_cursor(out: &mut Vec<u8>, field: u32, cursor: &ImportCursor) {
    let mut inner = Vec::with_capacity(cursor.owner.len() + cursor.export.len() + CURSOR_BYTES);
    put_text(&mut inner, 1, &cursor.owner);
    put_text(&mut inner, 2, &cursor.export);
    put_varint(&mut inner, 3, u64::from(cursor.version));
    put_bytes(&mut inner, 4, &cursor.definition);
    put_bytes(&mut inner, 5, cursor.log_id.as_bytes());
    put_varint(&mut inner, 6, cursor.epoch);
    put_varint(&mut inner, 7, cursor.seq);
    put_varint(&mut inner, 8, cursor.position.get());
    put_bytes(&mut inner, 9, &cursor.chain);
    put_varint(&mut inner, 10, u64::from(cursor.generation));
    put_bytes(out, field, &inner);
}

fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, field, text.as_bytes());
    }
}

/// Reads an origin.
pub(super) fn read_origin(payload: Bytes) -> Result<Origin, Invalid> {
    let [mut owner, mut log_id, mut id, mut hash] = [const { Bytes::new() }; 4];
    let [mut epoch, mut position] = [0; 2];
    let mut fields = Fields(payload);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(value)) => owner = value,
            (2, Value::Bytes(value)) => log_id = value,
            (3, Value::Number(value)) => epoch = value,
            (4, Value::Number(value)) => position = value,
            (5, Value::Bytes(value)) => id = value,
            (6, Value::Bytes(value)) => hash = value,
            _ => {}
        }
    }
    Ok(Origin {
        owner: text(owner)?,
        log_id: uuid(&log_id)?,
        epoch,
        position: Position::new(position),
        id: EventId::from_slice(&id)?,
        hash: digest(&hash)?,
    })
}

/// Reads a cursor.
pub(super) fn read_cursor(payload: Bytes) -> Result<ImportCursor, Invalid> {
    let [mut owner, mut export, mut definition, mut log_id, mut chain] = [const { Bytes::new() }; 5];
    let [mut version, mut epoch, mut seq, mut position, mut generation] = [0; 5];
    let mut fields = Fields(payload);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(value)) => owner = value,
            (2, Value::Bytes(value)) => export = value,
            (3, Value::Number(value)) => version = value,
            (4, Value::Bytes(value)) => definition = value,
            (5, Value::Bytes(value)) => log_id = value,
            (6, Value::Number(value)) => epoch = value,
            (7, Value::Number(value)) => seq = value,
            (8, Value::Number(value)) => position = value,
            (9, Value::Bytes(value)) => chain = value,
            (10, Value::Number(value)) => generation = value,
            _ => {}
        }
    }
    Ok(ImportCursor {
        owner: text(owner)?,
        export: text(export)?,
        version: small(version)?,
        definition: digest(&definition)?,
        log_id: uuid(&log_id)?,
        epoch,
        seq,
        position: Position::new(position),
        chain: digest(&chain)?,
        generation: small(generation)?,
    })
}

/// The value of a field that may be one of ours.
enum Value {
    Bytes(Bytes),
    Number(u64),
    Other,
}

struct Fields(Bytes);

impl Fields {
    fn next(&mut self) -> Result<Option<(u32, Value)>, Invalid> {
        let payload = &mut self.0;
        if !payload.has_remaining() {
            return Ok(None);
        }
        let (field, wire_type) = encoding::decode_key(payload).map_err(not_protobuf)?;
        let value = match wire_type {
            WireType::LengthDelimited => Value::Bytes(take_bytes(payload)?),
            WireType::Varint => Value::Number(encoding::decode_varint(payload).map_err(not_protobuf)?),
            wire_type => {
                let skipped = encoding::skip_field(wire_type, field, payload, DecodeContext::default());
                skipped.map_err(not_protobuf)?;
                Value::Other
            }
        };
        Ok(Some((field, value)))
    }
}

/// With memory of its own: it is kept for longer than the payload.
fn text(bytes: Bytes) -> Result<ByteString, Invalid> {
    let text =
        ByteString::try_from(bytes).map_err(|error| Invalid(format!("expected UTF-8 text: {error}")))?;
    Ok(ByteString::from(&*text))
}

fn uuid(bytes: &[u8]) -> Result<Uuid, Invalid> {
    Uuid::from_slice(bytes)
        .map_err(|_| Invalid(format!("expected the 16 bytes of a log's identity, found {}", bytes.len())))
}

fn digest(bytes: &[u8]) -> Result<[u8; 32], Invalid> {
    bytes
        .try_into()
        .map_err(|_| Invalid(format!("expected the 32 bytes of a SHA-256, found {}", bytes.len())))
}

fn small(number: u64) -> Result<u32, Invalid> {
    u32::try_from(number).map_err(|_| Invalid(format!("expected a number of 32 bits, found {number}")))
}
