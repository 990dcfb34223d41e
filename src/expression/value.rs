//! The values that expressions compute with: borrowed JSON where it is read, owned where it is made.
//!
//! Owns kinds, field access, and the way to and from JSON. Cloning is cheap: texts, lists and maps that were made are
//! shared. Numbers are always finite. Does not know operators or functions.

use std::{fmt, rc::Rc, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use crate::json::{Json, Object};

/// A value during evaluation.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; always finite.
    Double(f64),
    /// Text.
    Text(Text<'a>),
    /// A list that was read.
    Array(&'a [Json]),
    /// A map that was read.
    Object(&'a Object),
    /// A list that was made.
    List(Rc<Vec<Value<'a>>>),
    /// A map that was made, sorted by key, each key once.
    Map(Rc<Vec<(Text<'a>, Value<'a>)>>),
    /// A point in time; as a result it becomes RFC 3339 text.
    Time(Timestamp),
    /// A length of time; as a result it becomes text such as `90s`.
    Duration(SignedDuration),
    /// What `.?` gives: a value, or that there is none.
    Optional(Option<Rc<Value<'a>>>),
}

/// Text that was read or made.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    /// Read.
    Borrowed(&'a str),
    /// Read, where a copy may share it.
    Shared(&'a Arc<str>),
    /// Made.
    Owned(Rc<str>),
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Int(value) => Self::Int(*value),
            Json::Double(value) => Self::Double(*value),
            Json::Text(value) => Self::Text(Text::Shared(value)),
            Json::Array(items) => Self::Array(items),
            Json::Object(object) => Self::Object(object),
        }
    }
}

impl<'a> From<&'a Object> for Value<'a> {
    fn from(object: &'a Object) -> Self {
        Self::Object(object)
    }
}

/// The items of a list, read or made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Items<'v, 'a> {
    Read(&'a [Json]),
    Made(&'v [Value<'a>]),
}

impl<'v, 'a> Items<'v, 'a> {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Read(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Self::Read(items) => items.get(at).map(Value::from),
            Self::Made(items) => items.get(at).cloned(),
        }
    }

    pub(super) fn iter(self) -> impl DoubleEndedIterator<Item = Value<'a>> + 'v
    where
        'a: 'v,
    {
        (0..self.len()).filter_map(move |at| self.get(at))
    }
}

impl<'a> Value<'a> {
    /// A text that was made.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Text::Owned(text.into()))
    }

    /// A list that was made.
    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// An optional that holds a value.
    pub(super) fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<Items<'_, 'a>> {
        match self {
            Self::Array(items) => Some(Items::Read(items)),
            Self::List(items) => Some(Items::Made(items)),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn to_items(&self) -> Option<Vec<Self>> {
        self.items().map(|items| items.iter().collect())
    }

    /// The fields of a map in order of their keys.
    pub(super) fn entries(&self) -> Option<Vec<(Text<'a>, Self)>> {
        match self {
            Self::Object(object) => {
                Some(object.iter().map(|(key, value)| (Text::Borrowed(key), Self::from(value))).collect())
            }
            Self::Map(entries) => Some(entries.to_vec()),
            _ => None,
        }
    }

    /// A field of a map; none where there is no such field, or the value is no map.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(object) => object.get(name).map(Self::from),
            Self::Map(entries) => {
                let at = entries.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
                entries.get(at).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    pub(super) const fn is_map(&self) -> bool {
        matches!(self, Self::Object(_) | Self::Map(_))
    }

    /// The value as JSON: an empty optional is null, times and durations are texts.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null | Self::Optional(None) => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::Int(*value),
            Self::Double(value) => Json::Double(*value),
            Self::Text(Text::Shared(text)) => Json::Text(Arc::clone(text)),
            Self::Text(text) => Json::Text(text.as_str().into()),
            Self::Array(items) => Json::Array(items.to_vec()),
            Self::Object(object) => Json::Object((*object).clone()),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => Json::Object(
                entries.iter().map(|(key, value)| (key.as_str().into(), value.to_json())).collect(),
            ),
            Self::Time(time) => Json::Text(time.to_string().into()),
            Self::Duration(duration) => Json::Text(duration_text(*duration).into()),
            Self::Optional(Some(value)) => value.to_json(),
        }
    }
}

/// The text of a duration: seconds, with a fraction where there is one.
pub(super) fn duration_text(duration: SignedDuration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!(".{:09}", nanos.unsigned_abs());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{sign}{}{fraction}s", seconds.unsigned_abs())
}

/// What a message calls a value.
#[derive(Debug)]
pub struct Described<'v, 'a>(pub &'v Value<'a>);

impl fmt::Display for Described<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARS_MAX: usize = 40;
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "the boolean {value}"),
            Value::Int(value) => write!(f, "the integer {value}"),
            Value::Double(value) => write!(f, "the number {}", Json::Double(*value)),
            Value::Text(text) => match text.as_str().char_indices().nth(SHOWN_CHARS_MAX) {
                Some((end, _)) => write!(f, "the text {:?}...", &text.as_str()[..end]),
                None => write!(f, "the text {:?}", text.as_str()),
            },
            Value::Array(_) | Value::List(_) => f.write_str("a list"),
            Value::Object(_) | Value::Map(_) => f.write_str("a map"),
            Value::Time(time) => write!(f, "the time {time}"),
            Value::Duration(duration) => write!(f, "the duration {}", duration_text(*duration)),
            Value::Optional(_) => f.write_str("an optional (open it with .orValue(...))"),
        }
    }
}
