//! Keys of documents and of index entries, and their bytes, whose order is the order of the keys.
//!
//! Every part is a kind byte and a body that ends itself, so that the bytes of several parts in a row still order part
//! by part, and a prefix of parts is a prefix of bytes. Kinds order as null, booleans, numbers, texts. A text is its
//! UTF-8 bytes with 0x00 written as 0x00 0xFF, ended by 0x00 0x01. A number is its nearest double in total order (8
//! bytes) and, for integers, the rest that the double could not hold (offset binary, 2 bytes); so 1 and 1.0 are one
//! number. Does not know redb.

use std::{fmt, sync::Arc};

use crate::{
    event::Invalid,
    json::{Json, integral},
    limits::{KEY_BYTES_MAX, KEY_PARTS_MAX},
};

const NULL: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const NUMBER: u8 = 0x04;
const TEXT: u8 = 0x05;
const TEXT_END: [u8; 2] = [0x00, 0x01];
const REST_ZERO: u16 = 0x8000;

/// The key of a document: 1 to 8 parts, as their bytes. A plain text and a list of that one text are the same key.
/// Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<[u8]>);

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// Orders first.
    Bool(bool),
    /// Orders between booleans and texts.
    Int(i64),
    /// Orders by its bytes.
    Text(Box<str>),
}

impl Key {
    /// A key of these parts.
    pub fn new(parts: Vec<KeyPart>) -> Result<Self, Invalid> {
        check_count(parts.len())?;
        let mut out = Vec::with_capacity(32);
        for part in &parts {
            encode_part(part, &mut out);
        }
        Self::of_bytes(&out)
    }

    /// A key of one text.
    pub fn text(text: &str) -> Result<Self, Invalid> {
        let mut out = Vec::with_capacity(text.len() + 8);
        encode_text(text, &mut out);
        Self::of_bytes(&out)
    }

    /// The key that a JSON value stands for: a text, an integer, a boolean, or an array of such.
    pub fn from_json(value: &Json) -> Result<Self, Invalid> {
        let items = match value {
            Json::Array(items) => &items[..],
            value => std::slice::from_ref(value),
        };
        check_count(items.len())?;
        let mut out = Vec::with_capacity(32);
        for item in items {
            encode_part_of(item, &mut out)?;
        }
        Self::of_bytes(&out)
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        match bytes.len() {
            len if len > KEY_BYTES_MAX => {
                Err(Invalid(format!("expected a key of at most {KEY_BYTES_MAX} encoded bytes, found {len}")))
            }
            _ => Ok(Self(bytes.into())),
        }
    }

    /// A text for a key of one text, else an array of the parts.
    pub fn to_json(&self) -> Json {
        let part = |part: &KeyPart| match part {
            KeyPart::Bool(value) => Json::Bool(*value),
            KeyPart::Int(value) => Json::Int(*value),
            KeyPart::Text(value) => Json::Text((&**value).into()),
        };
        match &self.parts()[..] {
            [KeyPart::Text(text)] => Json::Text((&**text).into()),
            parts => Json::Array(parts.iter().map(part).collect()),
        }
    }

    /// The parts.
    pub fn parts(&self) -> Vec<KeyPart> {
        decode_parts(&self.0).expect("a key was encoded here, or looked at when it was decoded")
    }

    /// The bytes, which order as the keys do.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to go on with.
    pub fn encode(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads the bytes of `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let parts = decode_parts(bytes).ok_or_else(|| Invalid("a stored key is damaged".into()))?;
        Self::new(parts)
    }

    /// The bytes that all keys begin with which have these parts first; where the last part is a text, it may go on.
    pub fn encode_prefix(&self) -> Vec<u8> {
        let mut out = self.encode();
        if let Some(KeyPart::Text(_)) = self.parts().last() {
            out.truncate(out.len() - TEXT_END.len());
        }
        out
    }
}

fn check_count(parts: usize) -> Result<(), Invalid> {
    if parts == 0 || parts > KEY_PARTS_MAX {
        let message = format!("expected a key of 1 to {KEY_PARTS_MAX} parts, found {parts}");
        return Err(Invalid(message));
    }
    Ok(())
}

/// The parts that encoded bytes stand for; `None` if they are no key's.
pub(crate) fn decode_parts(mut bytes: &[u8]) -> Option<Vec<KeyPart>> {
    let mut parts = Vec::with_capacity(1);
    while !bytes.is_empty() {
        parts.push(decode_part(&mut bytes)?);
    }
    Some(parts)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.parts()).finish()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parts()[..] {
            [KeyPart::Text(text)] => f.write_str(text),
            _ => self.to_json().fmt(f),
        }
    }
}

fn encode_part_of(value: &Json, out: &mut Vec<u8>) -> Result<(), Invalid> {
    let refused = |what: &dyn fmt::Display| {
        Err(Invalid(format!("expected a key of text, integer or boolean parts, found {what}")))
    };
    match value {
        Json::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Json::Int(value) => encode_int(*value, out),
        Json::Double(value) => match integral(*value) {
            Some(value) => encode_int(value, out),
            None => return refused(value),
        },
        Json::Text(value) => encode_text(value, out),
        Json::Null => return refused(&"null"),
        Json::Array(_) => return refused(&"an array inside"),
        Json::Object(_) => return refused(&"an object"),
    }
    Ok(())
}

fn encode_part(part: &KeyPart, out: &mut Vec<u8>) {
    match part {
        KeyPart::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        KeyPart::Int(value) => encode_int(*value, out),
        KeyPart::Text(value) => encode_text(value, out),
    }
}

/// Appends the bytes of an indexed value. Arrays and objects have none: `false`.
pub fn encode_value(value: &Json, out: &mut Vec<u8>) -> bool {
    match value {
        Json::Null => out.push(NULL),
        Json::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Json::Int(value) => encode_int(*value, out),
        Json::Double(value) => match integral(*value) {
            Some(value) => encode_int(value, out),
            None => encode_number(*value, REST_ZERO, out),
        },
        Json::Text(value) => encode_text(value, out),
        Json::Array(_) | Json::Object(_) => return false,
    }
    true
}

/// The least bytes above all that begin with `prefix`; `None` if there are none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    out.push(TEXT);
    if text.as_bytes().contains(&0) {
        for byte in text.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xFF);
            }
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend(TEXT_END);
}

fn encode_int(value: i64, out: &mut Vec<u8>) {
    let nearest = value as f64;
    let rest = i128::from(value) - nearest as i128;
    encode_number(nearest, (i128::from(REST_ZERO) + rest) as u16, out);
}

fn encode_number(value: f64, rest: u16, out: &mut Vec<u8>) {
    out.push(NUMBER);
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend(ordered.to_be_bytes());
    out.extend(rest.to_be_bytes());
}

fn decode_part(bytes: &mut &[u8]) -> Option<KeyPart> {
    match take::<1>(bytes)?[0] {
        FALSE => Some(KeyPart::Bool(false)),
        TRUE => Some(KeyPart::Bool(true)),
        NUMBER => {
            let ordered = u64::from_be_bytes(take(bytes)?);
            let rest = i128::from(u16::from_be_bytes(take(bytes)?)) - i128::from(REST_ZERO);
            let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
            i64::try_from(f64::from_bits(bits) as i128 + rest).ok().map(KeyPart::Int)
        }
        TEXT => {
            let mut text = Vec::new();
            loop {
                match take::<1>(bytes)?[0] {
                    0 => match take::<1>(bytes)?[0] {
                        0xFF => text.push(0),
                        _ => {
                            return String::from_utf8(text).ok().map(|text| KeyPart::Text(text.into()));
                        }
                    },
                    byte => text.push(byte),
                }
            }
        }
        _ => None,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_bytes(value: &Json) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(encode_value(value, &mut out));
        out
    }

    #[test]
    fn values_order_by_kind_and_number() {
        let ascending = [
            "null",
            "false",
            "true",
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-2.5",
            "-1",
            "0",
            "0.5",
            "1",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775806",
            "9223372036854775807",
            "1e19",
            "\"\"",
            "\"a\"",
            "\"a\\u0000\"",
            "\"a\\u0000b\"",
            "\"a\\u0001\"",
            "\"ab\"",
            "\"b\"",
        ];
        let bytes: Vec<_> =
            ascending.iter().map(|text| value_bytes(&Json::parse(text.as_bytes()).unwrap())).collect();
        for (at, pair) in bytes.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{} before {}", ascending[at], ascending[at + 1]);
        }
        assert_eq!(value_bytes(&Json::Double(-0.0)), value_bytes(&Json::Int(0)));
    }

    #[test]
    fn a_prefix_of_a_text_is_a_prefix_of_its_bytes() {
        let key = Key::from_json(&Json::parse(br#"["EWR","IAH"]"#).unwrap()).unwrap();
        for prefix in [r#""EW""#, r#""EWR""#, r#"["EWR","I"]"#] {
            let prefix = Key::from_json(&Json::parse(prefix.as_bytes()).unwrap()).unwrap();
            assert!(key.encode().starts_with(&prefix.encode_prefix()), "{prefix}");
        }
        assert_eq!(prefix_end(&[1, 0xFF]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xFF]), None);
    }

    fn any_part() -> impl Strategy<Value = KeyPart> {
        prop_oneof![
            any::<bool>().prop_map(KeyPart::Bool),
            any::<i64>().prop_map(KeyPart::Int),
            "[\\x00-\\x02a-c]{0,4}".prop_map(|text| KeyPart::Text(text.into())),
        ]
    }

    fn rank(part: &KeyPart) -> (u8, i64, &str) {
        match part {
            KeyPart::Bool(value) => (0, i64::from(*value), ""),
            KeyPart::Int(value) => (1, *value, ""),
            KeyPart::Text(value) => (2, 0, value),
        }
    }

    proptest! {
        #[test]
        fn keys_survive_their_encoding_and_order_as_their_bytes(
            a in prop::collection::vec(any_part(), 1..4),
            b in prop::collection::vec(any_part(), 1..4),
        ) {
            let order = a.iter().map(rank).cmp(b.iter().map(rank));
            let (a, b) = (Key::new(a).unwrap(), Key::new(b).unwrap());
            prop_assert_eq!(&Key::decode(&a.encode()).unwrap(), &a);
            prop_assert_eq!(a.encode().cmp(&b.encode()), order);
        }
    }
}
