//! Documents as bytes of their message (`outrigger.v1.Document`), made of what is stored: nothing is decoded only to be
//! encoded again.
//!
//! Invariant: the bytes are what the message's own encoder writes, which a test of `api::raw_query` holds. A field 1 with
//! a document is what a `GetResponse` and a `ListResponse` begin with. Does not know what else these say.

use super::{QueryError, scan::Sink};
use crate::{
    event::Position,
    kv::KvError,
    projection::key::{KeyPart, decode_parts},
};

/// `documents`, field 1, one after the other.
#[derive(Debug, Default)]
pub(super) struct WireDocuments(pub(super) Vec<u8>);

const DOCUMENT: u8 = 1;
const KEY: u8 = 1;
const VALUE: u8 = 2;
const POSITION: u8 = 3;
const PART: u8 = 1;
const TEXT: u8 = 1;
const INTEGER: u8 = 2;
const BOOLEAN: u8 = 3;

impl Sink for WireDocuments {
    fn take(&mut self, key: &[u8], position: Position, text: &[u8]) -> Result<(), QueryError> {
        let parts = decode_parts(key).ok_or_else(|| KvError::Damaged("a stored key is damaged".into()))?;
        let key_bytes: usize = parts.iter().map(|part| field_bytes(part_bytes(part))).sum();
        let position = position.get();
        let body = field_bytes(key_bytes) + field_bytes(text.len()) + 1 + varint_bytes(position);
        let out = &mut self.0;
        out.reserve(field_bytes(body));
        put_len(out, DOCUMENT, body);
        put_len(out, KEY, key_bytes);
        for part in &parts {
            put_len(out, PART, part_bytes(part));
            match part {
                KeyPart::Text(text) => {
                    put_len(out, TEXT, text.len());
                    out.extend_from_slice(text.as_bytes());
                }
                KeyPart::Int(integer) => put_number(out, INTEGER, *integer as u64),
                KeyPart::Bool(boolean) => put_number(out, BOOLEAN, u64::from(*boolean)),
            }
        }
        put_len(out, VALUE, text.len());
        out.extend_from_slice(text);
        put_number(out, POSITION, position);
        Ok(())
    }
}

/// Bytes of a key part's message.
fn part_bytes(part: &KeyPart) -> usize {
    match part {
        KeyPart::Text(text) => field_bytes(text.len()),
        KeyPart::Int(integer) => 1 + varint_bytes(*integer as u64),
        KeyPart::Bool(_) => 2,
    }
}

/// Bytes of a field that holds so many bytes.
const fn field_bytes(len: usize) -> usize {
    1 + varint_bytes(len as u64) + len
}

const fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_len(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push((field << 3) | 2);
    put_varint(out, len as u64);
}

fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
