//! Events and their parts, valid by construction: whoever holds one of these values need not check it again.
//!
//! Owns the alphabets and lengths of types, streams and tags, and the encoding of a stored event. Does not know where
//! events are kept, who appends them, or gRPC. The reasons below become the text of errors at the edge.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use crate::limits::{SOURCE_BYTES_MAX, STREAM_BYTES_MAX, TAG_BYTES_MAX, TYPE_BYTES_MAX};

mod origin;
#[cfg(test)]
pub(crate) mod samples;
mod stored;
pub use origin::{ImportCursor, Origin};
#[cfg(test)]
pub(crate) use stored::generated;

/// An event's number in its node's log: dense, gapless, from 1. 0 means "before all events".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before all events.
    pub const ZERO: Self = Self(0);

    /// The position with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event's number in its stream: 1, 2, 3 ... 0 means "the stream has no event".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// The stream has no event.
    pub const NONE: Self = Self(0);

    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text or id is not what it should be: what was expected and what was there, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// An event's identity: a UUID that is not nil. The idempotency key, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// From the 16 bytes of a UUID.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Invalid> {
        let uuid = Uuid::from_slice(bytes)
            .map_err(|_| Invalid(format!("expected the 16 bytes of a UUID, found {} bytes", bytes.len())))?;
        Self::from_uuid(uuid)
    }

    /// From a UUID; the nil UUID is refused.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, Invalid> {
        if uuid.is_nil() { Err(Invalid("expected a UUID other than nil".into())) } else { Ok(Self(uuid)) }
    }

    /// The UUID.
    pub const fn uuid(&self) -> &Uuid {
        &self.0
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! name_type {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ByteString);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same with memory of its own. What is made from shared bytes keeps all of them alive: what is kept
            /// for long is to be kept like this.
            #[must_use]
            pub fn detached(&self) -> Self {
                Self(ByteString::from(&*self.0))
            }

            /// As `parse`, without copying the text.
            pub fn parse_shared(bytes: Bytes) -> Result<Self, Invalid> {
                let text = text_of(bytes)?;
                Self::check_client(&text)?;
                Ok(Self(text))
            }

            /// As `parse_any`, without copying the text.
            pub fn parse_any_shared(bytes: Bytes) -> Result<Self, Invalid> {
                let text = text_of(bytes)?;
                Self::check(&text)?;
                Ok(Self(text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A consumer's name for what it follows: its position there is stored with what it appends.
    Source
}

name_type! {
    /// What kind of fact an event is: `[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*`, at most 128 bytes; system types begin with `$`.
    EventType
}

name_type! {
    /// The entity an event belongs to: 1 to 256 bytes without control characters; system streams begin with `$`.
    StreamId
}

name_type! {
    /// A label to find events by: 1 to 256 bytes without control characters.
    Tag
}

impl EventType {
    /// Checks a type that a client names. Types that begin with `$` are the system's own.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check_client(text).map(|()| Self(text.into()))
    }

    /// Checks a type, also one of the system's own.
    pub fn parse_any(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    fn check_client(text: &str) -> Result<(), Invalid> {
        check_reserved("event types", text)?;
        Self::check(text)
    }

    fn check(text: &str) -> Result<(), Invalid> {
        check_length(text, TYPE_BYTES_MAX)?;
        let words = text.strip_prefix('$').unwrap_or(text);
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if words.split('.').all(word) {
            Ok(())
        } else {
            Err(Invalid(format!("expected words of A-Z a-z 0-9 _ - joined by dots, found {text:?}")))
        }
    }

    /// Whether the type is one of the system's own.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl StreamId {
    /// Checks a stream that a client names. Streams that begin with `$` are the system's own.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check_client(text).map(|()| Self(text.into()))
    }

    /// Checks a stream, also one of the system's own.
    pub fn parse_any(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    fn check_client(text: &str) -> Result<(), Invalid> {
        check_reserved("streams", text)?;
        Self::check(text)
    }

    fn check(text: &str) -> Result<(), Invalid> {
        check_length(text, STREAM_BYTES_MAX)?;
        check_printable(text)
    }

    /// Whether the stream is one of the system's own.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl Source {
    /// Checks a source that a client names. Sources that begin with `$` are the system's own.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check_client(text).map(|()| Self(text.into()))
    }

    /// Checks a source, also one of the system's own.
    pub fn parse_any(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    fn check_client(text: &str) -> Result<(), Invalid> {
        check_reserved("sources", text)?;
        Self::check(text)
    }

    fn check(text: &str) -> Result<(), Invalid> {
        check_length(text, SOURCE_BYTES_MAX)?;
        check_printable(text)
    }
}

impl Tag {
    /// Checks a tag.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    fn check_client(text: &str) -> Result<(), Invalid> {
        Self::check(text)
    }

    fn check(text: &str) -> Result<(), Invalid> {
        check_length(text, TAG_BYTES_MAX)?;
        check_printable(text)
    }
}

fn text_of(bytes: Bytes) -> Result<ByteString, Invalid> {
    ByteString::try_from(bytes).map_err(|error| Invalid(format!("expected UTF-8 text: {error}")))
}

fn check_reserved(what: &str, text: &str) -> Result<(), Invalid> {
    if text.starts_with('$') {
        let what = format!("{what} that begin with $ are reserved for the system, found {text:?}");
        return Err(Invalid(what));
    }
    Ok(())
}

fn check_length(text: &str, bytes_max: usize) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid("expected some text, found none".into())),
        len if len > bytes_max => Err(Invalid(format!("expected at most {bytes_max} bytes, found {len}"))),
        _ => Ok(()),
    }
}

fn check_printable(text: &str) -> Result<(), Invalid> {
    // Control characters of one byte are below the space, or DEL; those of two bytes begin with C2.
    if text.bytes().all(|byte| byte >= b' ' && byte != 0x7f && byte != 0xc2) {
        return Ok(());
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(Invalid(format!("expected no control characters, found {c:?} at byte {at}"))),
        None => Ok(()),
    }
}

/// An event as a client appends it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The idempotency key.
    pub id: EventId,
    /// What kind of fact it is.
    pub event_type: EventType,
    /// The entity it belongs to.
    pub stream: StreamId,
    /// Sorted, without repeats.
    pub tags: Vec<Tag>,
    /// One JSON value, as the client wrote it.
    pub data: Bytes,
    /// A JSON object, as the client wrote it.
    pub metadata: Option<Bytes>,
    /// When it happened, in nanoseconds since 1970, where the client said so.
    pub time_unix_nanos: Option<i64>,
}

impl Event {
    /// The bytes that count against the limits of event and request.
    pub fn size_bytes(&self) -> usize {
        self.event_type.as_str().len()
            + self.stream.as_str().len()
            + self.tags.iter().map(|tag| tag.as_str().len()).sum::<usize>()
            + self.data.len()
            + self.metadata.as_ref().map_or(0, Bytes::len)
    }
}

/// How far a consumer has come in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// The consumer's name for the source.
    pub source: Source,
    /// Everything up to this position of the source is handled; from 1. Not a position of this log.
    pub position: u64,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its number in the log.
    pub position: Position,
    /// Its number in its stream.
    pub revision: Revision,
    /// When the node recorded it, in nanoseconds since 1970; never decreases along the log.
    pub recorded_at_unix_nanos: i64,
    /// What the client appended.
    pub event: Event,
    /// What the append said of its source; on the last of its events.
    pub tracking: Option<Tracking>,
    /// Where it came from, if it is imported.
    pub origin: Option<Box<Origin>>,
    /// How far the import has come that appended it; on the last of its events.
    pub cursor: Option<Box<ImportCursor>>,
}

impl RecordedEvent {
    /// When it happened: the client's time, or else when it was recorded. Nanoseconds since 1970.
    pub fn time_unix_nanos(&self) -> i64 {
        self.event.time_unix_nanos.unwrap_or(self.recorded_at_unix_nanos)
    }
}

/// A point of one log that a query can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The log's identity.
    pub log_id: Uuid,
    /// The epoch that wrote `position`.
    pub epoch: u64,
    /// The position.
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_type(text: &str, expected: Result<(), &str>) {
        let actual = EventType::parse(text).map(drop).map_err(|invalid| invalid.0);
        match (actual, expected) {
            (Ok(()), Ok(())) => {}
            (Err(actual), Err(expected)) if actual.contains(expected) => {}
            (actual, expected) => panic!("{text:?}: expected {expected:?}, found {actual:?}"),
        }
    }

    #[test]
    fn types_hold_to_their_alphabet() {
        check_type("flight.departed", Ok(()));
        check_type("A-z_0", Ok(()));
        check_type("", Err("expected some text"));
        check_type(".a", Err("joined by dots"));
        check_type("a..b", Err("joined by dots"));
        check_type("a.b.", Err("joined by dots"));
        check_type("flüge", Err("joined by dots"));
        check_type("a b", Err("joined by dots"));
        check_type("$promote", Err("reserved"));
        check_type(&"a".repeat(128), Ok(()));
        check_type(&"a".repeat(129), Err("at most 128 bytes, found 129"));
    }

    #[test]
    fn streams_and_tags_refuse_control_characters() {
        assert!(StreamId::parse("station EWR/ä").is_ok());
        assert!(StreamId::parse("a\nb").is_err());
        assert!(StreamId::parse("$p").is_err());
        assert!(StreamId::parse_any("$p").is_ok());
        assert!(StreamId::parse(&"s".repeat(257)).is_err());
        assert!(Tag::parse("carrier:UA").is_ok());
        assert!(Tag::parse("\u{7f}").is_err());
        assert!(Tag::parse("").is_err());
    }

    #[test]
    fn ids_are_not_nil() {
        assert!(EventId::from_slice(&[0; 16]).is_err());
        assert!(EventId::from_slice(&[1; 15]).is_err());
        assert!(EventId::from_slice(&[1; 16]).is_ok());
    }
}
