//! Stored events into events of the public API, byte for byte, without building either.
//!
//! The payload of a record and the `outrigger.v1.Event` that clients see carry the same fields: those from id to
//! metadata move up by one number, position comes in front, and the two times change their shape. So an event leaves
//! the node by one walk over its fields and one copy. Events come framed, as field 1 of the message that carries them:
//! both `ReadResponse` and `EventBatch` have them there, and framed events in a row are a message.
//!
//! Invariants: what is written here decodes to what decoding and converting the payload gives; a payload that is no
//! stored event is an error, never a wrong event. Does not know messages, files or who reads.

use bytes::Bytes;

use crate::event::{Invalid, Position};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Kinds of fields, the lower three bits of a key.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// Numbers of a stored event's fields.
const STORED_TYPE: u64 = 2;
const STORED_STREAM: u64 = 3;
const STORED_REVISION: u64 = 4;
const STORED_METADATA: u64 = 7;
const STORED_TIME: u64 = 8;
const STORED_RECORDED_AT: u64 = 9;
const STORED_TRACKING: u64 = 10;
const STORED_ORIGIN: u64 = 11;
const STORED_CURSOR: u64 = 12;
/// The largest number that a field may have.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// Kinds of the fields of an origin and of a cursor, from 1.
const ORIGIN_KINDS: [u64; 6] = [DELIMITED, DELIMITED, VARINT, VARINT, DELIMITED, DELIMITED];
const CURSOR_KINDS: [u64; 10] =
    [DELIMITED, DELIMITED, VARINT, DELIMITED, DELIMITED, VARINT, VARINT, VARINT, DELIMITED, VARINT];

/// Key of an event in the message that carries it.
const FRAME_KEY: u8 = 1 << 3 | DELIMITED as u8;
/// Keys of a public event's fields.
const POSITION_KEY: u8 = 1 << 3 | VARINT as u8;
const TIME_KEY: u8 = 9 << 3 | DELIMITED as u8;
const RECORDED_AT_KEY: u8 = 10 << 3 | DELIMITED as u8;
const ORIGIN_KEY: u8 = 11 << 3 | DELIMITED as u8;
/// Copied fields of an event whose places are kept; an event with more tags is walked over again.
const KEYS: usize = 16;
/// What moves a key up by one field number.
const KEY_STEP: u8 = 1 << 3;

/// Framed events in a row.
#[derive(Debug, Clone, Default)]
pub struct WireEvents {
    /// The events, each as field 1 of a message.
    pub bytes: Bytes,
    /// How many they are.
    pub count: usize,
}

/// Appends the public form of the stored event at `position`, framed.
pub fn frame(position: Position, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    Stored::parse(position, payload)?.frame(position, out);
    Ok(())
}

/// A payload that was walked over once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    payload: &'a [u8],
    /// Bytes of the fields that are copied.
    copied: usize,
    /// Where the first of these fields begin, and how many they are.
    keys: [u32; KEYS],
    fields: usize,
    /// The copied fields are the first bytes of the payload, as this node writes them.
    is_in_a_row: bool,
    time_unix_nanos: Option<i64>,
    recorded_at_unix_nanos: i64,
    is_system: bool,
    /// A stored origin has the fields of a public one, so it is shown as it is.
    origin: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    /// Walks over the payload of the record at `position`.
    pub(super) fn parse(position: Position, payload: &'a [u8]) -> Result<Self, Invalid> {
        let damaged = || {
            Invalid(format!("record at position {position}: expected a stored event, found something else"))
        };
        let mut stored = Self {
            payload,
            copied: 0,
            keys: [0; KEYS],
            fields: 0,
            is_in_a_row: true,
            time_unix_nanos: None,
            recorded_at_unix_nanos: 0,
            is_system: false,
            origin: None,
        };
        let (mut is_system_type, mut is_system_stream) = (false, false);
        let mut rest = payload;
        while !rest.is_empty() {
            let field = Field::next(&mut rest).ok_or_else(damaged)?;
            let is_expected = match field.number {
                STORED_REVISION => field.kind == VARINT,
                1..=STORED_METADATA => field.kind == DELIMITED,
                STORED_TIME | STORED_RECORDED_AT => field.kind == FIXED64,
                STORED_TRACKING => field.kind == DELIMITED && is_tracking(field.value),
                STORED_ORIGIN => field.kind == DELIMITED && is_message(field.value, &ORIGIN_KINDS, 1),
                STORED_CURSOR => field.kind == DELIMITED && is_message(field.value, &CURSOR_KINDS, 2),
                _ => true,
            };
            if !is_expected {
                return Err(damaged());
            }
            match field.number {
                STORED_TIME => stored.time_unix_nanos = Some(field.fixed64()),
                STORED_RECORDED_AT => stored.recorded_at_unix_nanos = field.fixed64(),
                STORED_TYPE => is_system_type = field.value.starts_with(b"$"),
                STORED_STREAM => is_system_stream = field.value.starts_with(b"$"),
                STORED_ORIGIN => stored.origin = Some(field.value),
                _ => {}
            }
            if field.is_copied() {
                if let Some(key) = stored.keys.get_mut(stored.fields) {
                    *key = stored.copied as u32;
                }
                stored.fields += 1;
                stored.copied += field.bytes.len();
                // Nothing else may stand before it.
                stored.is_in_a_row &= stored.copied + rest.len() == payload.len();
            }
        }
        stored.is_system = is_system_type || is_system_stream;
        Ok(stored)
    }

    /// Whether it is one of the system's own events.
    pub(super) fn is_system(&self) -> bool {
        self.is_system
    }

    /// Appends the fields that move up by one number.
    fn copy_fields(&self, out: &mut Vec<u8>) {
        if self.is_in_a_row && self.fields <= KEYS {
            let begin = out.len();
            out.extend_from_slice(&self.payload[..self.copied]);
            for key in &self.keys[..self.fields] {
                out[begin + *key as usize] += KEY_STEP;
            }
            return;
        }
        let mut rest = self.payload;
        while let Some(field) = Field::next(&mut rest) {
            if field.is_copied() {
                out.push(field.bytes[0] + KEY_STEP);
                out.extend_from_slice(&field.bytes[1..]);
            }
        }
    }

    /// Appends the event, framed.
    pub(super) fn frame(&self, position: Position, out: &mut Vec<u8>) {
        let recorded_at = Time::of(self.recorded_at_unix_nanos);
        let time = self.time_unix_nanos.map_or(recorded_at, Time::of);
        let position_len = if position == Position::ZERO { 0 } else { 1 + varint_len(position.get()) };
        let origin_len = self.origin.map_or(0, |origin| 1 + varint_len(origin.len() as u64) + origin.len());
        let len = position_len + self.copied + 2 + time.len() + 2 + recorded_at.len() + origin_len;
        out.reserve(1 + varint_len(len as u64) + len);
        out.push(FRAME_KEY);
        put_varint(out, len as u64);
        if position != Position::ZERO {
            out.push(POSITION_KEY);
            put_varint(out, position.get());
        }
        self.copy_fields(out);
        for (key, time) in [(TIME_KEY, time), (RECORDED_AT_KEY, recorded_at)] {
            out.push(key);
            out.push(time.len() as u8);
            time.put(out);
        }
        if let Some(origin) = self.origin {
            out.push(ORIGIN_KEY);
            put_varint(out, origin.len() as u64);
            out.extend_from_slice(origin);
        }
    }
}

/// One field of a message.
struct Field<'a> {
    number: u64,
    kind: u64,
    /// Key and value as they stand there.
    bytes: &'a [u8],
    /// A delimited or fixed value alone.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Takes the next field off; `None` at the end, and where there is none.
    #[inline]
    fn next(rest: &mut &'a [u8]) -> Option<Self> {
        let all = *rest;
        let mut at = 0;
        let key = varint(all, &mut at)?;
        let key_len = at;
        let (number, kind) = (key >> 3, key & 7);
        let value_len = match kind {
            VARINT => {
                varint(all, &mut at)?;
                0
            }
            FIXED64 => 8,
            FIXED32 => 4,
            DELIMITED => usize::try_from(varint(all, &mut at)?).ok()?,
            _ => return None,
        };
        let value = all.get(at..at.checked_add(value_len)?)?;
        // A known key is one byte long unless it was padded, which this node never does.
        if number == 0 || number > NUMBER_MAX || (number <= STORED_METADATA && key_len != 1) {
            return None;
        }
        let (bytes, behind) = all.split_at(at + value_len);
        *rest = behind;
        Some(Self { number, kind, bytes, value })
    }

    /// Whether it stands in the public event too, under the next number.
    fn is_copied(&self) -> bool {
        self.number <= STORED_METADATA
    }

    fn fixed64(&self) -> i64 {
        self.value.try_into().map_or(0, i64::from_le_bytes)
    }
}

/// Whether this is a stored `Tracking`: it is not shown, yet what is none is no stored event.
fn is_tracking(message: &[u8]) -> bool {
    is_message(message, &[DELIMITED, VARINT], 1)
}

/// Whether this is a message whose first fields have these kinds, of which the first `texts` are UTF-8.
fn is_message(mut message: &[u8], kinds: &[u64], texts: u64) -> bool {
    while !message.is_empty() {
        let is_good =
            Field::next(&mut message).is_some_and(|field| match kinds.get(field.number as usize - 1) {
                Some(kind) => {
                    field.kind == *kind && (field.number > texts || std::str::from_utf8(field.value).is_ok())
                }
                None => true,
            });
        if !is_good {
            return false;
        }
    }
    true
}

/// A `google.protobuf.Timestamp`.
#[derive(Debug, Clone, Copy)]
struct Time {
    seconds: i64,
    nanos: u64,
}

impl Time {
    fn of(unix_nanos: i64) -> Self {
        Self {
            seconds: unix_nanos.div_euclid(NANOS_PER_SECOND),
            nanos: unix_nanos.rem_euclid(NANOS_PER_SECOND) as u64,
        }
    }

    /// Its bytes: at most 17, so that their number is one byte too.
    fn len(self) -> usize {
        let part = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
        part(self.seconds as u64) + part(self.nanos)
    }

    fn put(self, out: &mut Vec<u8>) {
        for (key, value) in [(1 << 3, self.seconds as u64), (2 << 3, self.nanos)] {
            if value != 0 {
                out.push(key);
                put_varint(out, value);
            }
        }
    }
}

#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    long_varint(bytes, at)
}

fn long_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return (shift < 63 || byte <= 1).then_some(value);
        }
    }
    None
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expected: Option<&[u8]>) {
        let position = Position::new(300);
        let framed = Stored::parse(position, payload).map(|stored| {
            let mut out = Vec::new();
            stored.frame(position, &mut out);
            out
        });
        assert_eq!(framed.as_deref().ok(), expected, "{payload:?}");
    }

    #[test]
    fn fields_move_up_and_times_change_their_shape() {
        // Type "t", tag "a", recorded one second and two nanoseconds after 1970.
        let mut payload = vec![0x12, 1, b't', 0x2a, 1, b'a', 0x49];
        payload.extend(1_000_000_002_i64.to_le_bytes());
        let time: &[u8] = &[4, 0x08, 1, 0x10, 2];
        let expected: Vec<u8> =
            [&[0x0a, 21, 0x08, 0xac, 2, 0x1a, 1, b't', 0x32, 1, b'a', 0x4a][..], time, &[0x52], time]
                .concat();
        check(&payload, Some(&expected));
    }

    #[test]
    fn fields_may_come_in_any_order_and_number() {
        // The time of recording in front, then more tags than places are kept for.
        let mut payload = vec![0x49];
        payload.extend(1_000_000_002_i64.to_le_bytes());
        let mut expected = vec![0x0a, 81, 0x08, 0xac, 2];
        for _ in 0..22 {
            payload.extend([0x2a, 1, b'a']);
            expected.extend([0x32, 1, b'a']);
        }
        let time = [4, 0x08, 1, 0x10, 2];
        expected.extend([&[0x4a][..], &time, &[0x52], &time].concat());
        check(&payload, Some(&expected));
    }

    #[test]
    fn unknown_fields_are_left_out() {
        let bare: &[u8] = &[0x0a, 7, 0x08, 0xac, 2, 0x4a, 0, 0x52, 0];
        check(&[], Some(bare));
        check(&[0x52, 2, 0x10, 9, 0x68, 1, 0x75, 1, 2, 3, 4, 0x69, 1, 2, 3, 4, 5, 6, 7, 8], Some(bare));
    }

    #[test]
    fn what_is_no_stored_event_is_refused() {
        for payload in [
            &[0x12][..],
            &[0x12, 2, b't'],
            &[0x20],
            &[0x20, 0xff],
            &[0x22, 0],
            &[0x10, 1],
            &[0x48, 1],
            &[0x49, 1, 2, 3],
            &[0x00, 1],
            &[0x92, 0x00, 1, b't'],
            &[0x13],
            &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            // A source that is no text, a position that is no number, a field number beyond all.
            &[0x52, 3, 0x0a, 1, 0xff],
            &[0x51, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xa8, 0x80, 0x80, 0x80, 0x10, 1],
        ] {
            check(payload, None);
        }
    }

    #[test]
    fn lengths_of_numbers_are_what_they_take() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(varint(&out, &mut 0), Some(value));
        }
    }
}
