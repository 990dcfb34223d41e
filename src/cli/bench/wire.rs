//! Protobuf by hand: messages are written and read as bytes, so that the load generator costs as little as it can.
//!
//! Owns the codec that leaves messages as bytes, and the varints and fields inside them. Does not know what the fields
//! mean.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes before a message of a gRPC stream.
const FRAME_BYTES: usize = 5;
/// How much of a stream of small messages is gathered before it is sent.
const YIELD_BYTES: usize = 32 * 1024;

/// A codec for messages that are encoded already and stay so.
#[derive(Debug, Clone, Copy)]
pub struct Raw {
    buffer_bytes: usize,
}

impl Raw {
    /// For messages of about so many bytes.
    pub const fn new(message_bytes: usize) -> Self {
        Self { buffer_bytes: message_bytes + FRAME_BYTES }
    }
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer_bytes, YIELD_BYTES)
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// Bytes of a varint.
pub const fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Bytes of a field that holds so many bytes, below field 16.
pub const fn field_bytes(len: usize) -> usize {
    1 + varint_bytes(len as u64) + len
}

/// Writes a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the head of a field below 16 that holds so many bytes; they follow.
pub fn put_len(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push((field << 3) | 2);
    put_varint(out, len as u64);
}

/// Writes a field below 16 that holds bytes.
pub fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_len(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes a field below 16 that holds a number.
pub fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_varint(out, value);
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number or a boolean.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 where it is something else.
    pub const fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes; empty where it is something else.
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }
}

/// The fields of a message: number and value. Ends early, with `broken` set, where the message is none.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    broken: bool,
}

impl<'a> Fields<'a> {
    /// The fields of a message.
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message, broken: false }
    }

    /// Whether the message was whole; asked at its end.
    pub const fn is_whole(&self) -> bool {
        !self.broken
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            // Fixed widths do not occur in what is read here.
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = self.field();
        self.broken = field.is_none();
        field
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_are_read_as_they_were_written(number: u64, text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_number(&mut out, 15, number);
            let before = out.len();
            put_bytes(&mut out, 3, &text);
            prop_assert_eq!(before, 1 + varint_bytes(number));
            prop_assert_eq!(out.len() - before, field_bytes(text.len()));
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.next(), Some((15, Value::Number(number))));
            prop_assert_eq!(fields.next(), Some((3, Value::Bytes(&text))));
            prop_assert_eq!(fields.next(), None);
            prop_assert!(fields.is_whole());
        }

        #[test]
        fn what_is_no_message_is_told(text in proptest::collection::vec(any::<u8>(), 1..40)) {
            let mut out = Vec::new();
            put_bytes(&mut out, 3, &text);
            out.pop();
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.next(), None);
            prop_assert!(!fields.is_whole());
        }
    }
}
