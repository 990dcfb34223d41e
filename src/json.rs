//! JSON values as Outrigger reads, compares and writes them.
//!
//! Owns the number rules (an integer that fits is an `i64`, every other number a double; a double that is integral and
//! fits is written as an integer), refusal of repeated keys, and the canonical text: keys sorted by their bytes, no
//! white space. Does not know events, documents or expressions.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::{event::Invalid, limits::JSON_DEPTH_MAX};

pub mod difference;
mod read;

use read::{Build, Check, read};

/// One JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Json {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number written without fraction or exponent that fits 64 bits.
    Int(i64),
    /// Every other number; always finite.
    Double(f64),
    /// Text.
    Text(Arc<str>),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Object),
}

/// A JSON object: its fields sorted by key, each key once. Clones share keys and texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(Arc<str>, Json)>);

impl Object {
    /// An object without fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Sets a field; returns what it was.
    pub fn insert(&mut self, key: &str, value: Json) -> Option<Json> {
        match self.find(key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key.into(), value));
                None
            }
        }
    }

    /// Sets a field whose key may be shared.
    pub fn set(&mut self, key: &Arc<str>, value: Json) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (Arc::clone(key), value)),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The fields in order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Json)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// The number of fields.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the canonical text.
    pub fn write(&self, out: &mut String) {
        out.push('{');
        for (at, (key, value)) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_text(out, key);
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(at, _)| (**at).cmp(key))
    }
}

impl FromIterator<(Arc<str>, Json)> for Object {
    /// Where a key comes twice, the later value stands.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Json)>>(fields: I) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
        Self(fields)
    }
}

impl Json {
    /// Reads one JSON text. The error says line, column and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        read(text, Build { depth_left: JSON_DEPTH_MAX })
    }

    /// Reads a canonical text that this module wrote; documents may nest a little deeper than what clients send.
    pub fn parse_stored(text: &[u8]) -> Result<Self, Invalid> {
        read(text, Build { depth_left: JSON_DEPTH_MAX + 20 })
    }

    /// Whether the two are the same JSON value: numbers by their value, objects as sets of fields.
    pub fn same_value(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Double(b)) | (Self::Double(b), Self::Int(a)) => {
                compare_int_double(*a, *b) == Ordering::Equal
            }
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_value(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b.iter()).all(|((ka, va), (kb, vb))| ka == kb && va.same_value(vb))
            }
            (a, b) => a == b,
        }
    }

    /// Appends the canonical text.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(number) => write_integer(out, *number),
            Self::Double(number) => match integral(*number) {
                Some(number) => write_integer(out, number),
                None => write_serialized(out, number),
            },
            Self::Text(text) => write_text(out, text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(object) => object.write(out),
        }
    }

    /// The value as it reads back from its canonical text: integral doubles that fit become integers.
    #[must_use]
    pub fn normalized(self) -> Self {
        match self {
            Self::Double(number) => integral(number).map_or(Self::Double(number), Self::Int),
            Self::Array(items) => Self::Array(items.into_iter().map(Self::normalized).collect()),
            Self::Object(object) => {
                Self::Object(Object(object.0.into_iter().map(|(k, v)| (k, v.normalized())).collect()))
            }
            other => other,
        }
    }

    /// How deep arrays and objects nest: 0 for a scalar.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(object) => 1 + object.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The canonical text.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

/// Whether the bytes are one JSON text without repeated keys, not nested too deep; builds nothing.
pub fn check(text: &[u8]) -> Result<(), Invalid> {
    read(text, Check { depth_left: JSON_DEPTH_MAX })
}

/// As `check`, and the value must be an object.
pub fn check_object(text: &[u8]) -> Result<(), Invalid> {
    check(text)?;
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ => Err(Invalid("expected a JSON object".into())),
    }
}

/// Orders an integer against a finite double by their exact values.
pub fn compare_int_double(int: i64, double: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if double >= TWO_63 {
        return Ordering::Less;
    }
    if double < -TWO_63 {
        return Ordering::Greater;
    }
    let whole = double.trunc();
    int.cmp(&(whole as i64)).then_with(|| 0.0_f64.partial_cmp(&(double - whole)).unwrap_or(Ordering::Equal))
}

/// The integer that a double stands for, if it is one and fits.
pub fn integral(number: f64) -> Option<i64> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    let fits = (-TWO_63..TWO_63).contains(&number) && number.trunc().total_cmp(&number) == Ordering::Equal;
    fits.then_some(number as i64)
}

fn write_integer(out: &mut String, number: i64) {
    const DIGITS_MAX: usize = 20;
    let (mut digits, mut at, mut rest) = ([0; DIGITS_MAX], DIGITS_MAX, number.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push('-');
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Most texts hold nothing that must be escaped.
fn write_text(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return write_serialized(out, text);
    }
    out.reserve(text.len() + 2);
    out.push('"');
    out.push_str(text);
    out.push('"');
}

fn write_serialized<T: serde::Serialize + ?Sized>(out: &mut String, value: &T) {
    out.push_str(&serde_json::to_string(value).expect("texts and finite numbers serialize"));
}

#[cfg(test)]
mod tests;
