//! Messages as envelopes and head marks: nothing of a message is believed before it is read here.
//!
//! Headers are read in any case, and those that are not ours are passed over. A value is taken only if it is written as
//! `to_message` writes it.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    ENVELOPE_FORMAT, Envelope, EnvelopeError, ExportName, HEAD, HeadMark, Place, PublicEvent, Received,
    Signature,
    text::{percent_decoded, tags_of, unhex},
    write::{CONTENT_TYPE, SPECVERSION, names},
};
use crate::{
    event::{EventId, EventType, Invalid, Position, StreamId},
    json,
    limits::{EVENT_BYTES_MAX, EVENT_TAGS_MAX},
    mapping::about::time_text,
    mesh::bus::Message,
};

const KNOWN: [&str; 19] = [
    names::SPECVERSION,
    names::ID,
    names::SOURCE,
    names::TYPE,
    names::TIME,
    names::SUBJECT,
    names::TRACE,
    names::DATA_CONTENT_TYPE,
    names::CONTENT_TYPE,
    names::FORMAT,
    names::LOG,
    names::EPOCH,
    names::SEQ,
    names::POSITION,
    names::CHAIN,
    names::DEFINITION,
    names::TAGS,
    names::SIGNATURE,
    names::KEY,
];
const FOUND_BYTES_MAX: usize = 200;
const VERSION_MAX: u32 = 1 << 31;
const SIGNATURE_BYTES: usize = 64;
const KEY_BYTES_MAX: usize = 64;

type Outcome<T> = Result<T, EnvelopeError>;

/// Reads a message of an export.
pub fn from_message(message: &Message) -> Outcome<Received> {
    let headers = Headers::of(message)?;
    let (name, last) = read_subject(&message.subject)?;
    headers.fixed(names::FORMAT, &ENVELOPE_FORMAT.to_string())?;
    let definition = headers.hash(names::DEFINITION)?;
    let place = headers.place()?;
    let signature = headers.signature()?;
    if last != HEAD {
        let event = read_event(&headers, &name, last, &message.payload)?;
        if place.seq == 0 || place.position.get() < place.seq {
            let found = format!("seq {} at position {}", place.seq, place.position);
            return Err(error(names::SEQ, "a number from 1 that is not above the position", &found));
        }
        return Ok(Received::Event(Box::new(Envelope { name, definition, place, event, signature })));
    }
    if !message.payload.is_empty() {
        let found = format!("{} bytes", message.payload.len());
        return Err(error("payload", "no payload in a head mark", &found));
    }
    let Some(signature) = signature else {
        return Err(missing(names::SIGNATURE, "a signature, since it is a head mark"));
    };
    Ok(Received::Head(Box::new(HeadMark { name, definition, place, signature })))
}

/// The export that a subject names, and its last part: a public type or the mark of a head.
fn read_subject(subject: &str) -> Outcome<(ExportName, &str)> {
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let parts: Vec<&str> = subject.splitn(6, '.').collect();
    let read = || match parts[..] {
        ["outrigger", "v1", owner, export, version, last] if label(owner) && label(export) => {
            let version: u32 = number(version.strip_prefix('v')?)?.try_into().ok()?;
            let named = ExportName { owner: owner.to_owned(), export: export.to_owned(), version };
            (1..=VERSION_MAX).contains(&version).then_some((named, last))
        }
        _ => None,
    };
    read().ok_or_else(|| {
        error("subject", "outrigger.v1.<node>.<export>.v<version>.<public type>", &quoted(subject))
    })
}

fn read_event(headers: &Headers<'_>, name: &ExportName, last: &str, payload: &Bytes) -> Outcome<PublicEvent> {
    headers.fixed(names::SPECVERSION, SPECVERSION)?;
    headers.fixed(names::SOURCE, &name.source())?;
    headers.fixed(names::DATA_CONTENT_TYPE, CONTENT_TYPE)?;
    headers.fixed(names::CONTENT_TYPE, CONTENT_TYPE)?;
    let event_type = EventType::parse(last);
    let event_type = event_type.map_err(|invalid| {
        error("subject", &format!("an event type at its end: {invalid}"), &quoted(last))
    })?;
    headers.fixed(names::TYPE, last)?;
    let id = headers
        .one(names::ID, "a UUID in lower case, not nil", |text| EventId::from_uuid(uuid_of(text)?).ok())?;
    let time_unix_nanos =
        headers.one(names::TIME, "a time in RFC 3339 form, in UTC, without needless digits", time_of)?;
    let stream = headers.one(names::SUBJECT, "a stream, percent-encoded", |text| {
        StreamId::parse(&percent_decoded(text)?).ok()
    })?;
    let trace = match headers.get(names::TRACE) {
        Some(trace) if !crate::trace::is_traceparent(trace) => {
            return Err(error(names::TRACE, "00-<32 hex digits>-<16>-<2>", &quoted(trace)));
        }
        trace => trace.map(str::to_owned),
    };
    let tags = match headers.get(names::TAGS) {
        None => Vec::new(),
        Some(text) => {
            tags_of(text).map_err(|Invalid(expected)| error(names::TAGS, &expected, &quoted(text)))?
        }
    };
    if tags.len() > EVENT_TAGS_MAX {
        let found = tags.len().to_string();
        return Err(error(names::TAGS, &format!("at most {EVENT_TAGS_MAX} tags"), &found));
    }
    if payload.len() > EVENT_BYTES_MAX {
        let found = format!("{} bytes", payload.len());
        return Err(error("payload", &format!("at most {EVENT_BYTES_MAX} bytes"), &found));
    }
    if let Err(invalid) = json::check(payload) {
        let found = quoted(&String::from_utf8_lossy(payload));
        return Err(error("payload", &format!("one JSON value ({invalid})"), &found));
    }
    Ok(PublicEvent { id, event_type, stream, tags, time_unix_nanos, data: payload.clone(), trace })
}

/// The headers that concern us, each at most once.
struct Headers<'m>([Option<&'m str>; KNOWN.len()]);

impl<'m> Headers<'m> {
    fn of(message: &'m Message) -> Outcome<Self> {
        let mut values = [None; KNOWN.len()];
        for (name, value) in &message.headers {
            let Some(at) = KNOWN.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if values[at].replace(value.as_str()).is_some() {
                return Err(error(KNOWN[at], "the header once", "it more than once"));
            }
        }
        Ok(Self(values))
    }

    fn get(&self, name: &str) -> Option<&'m str> {
        KNOWN.iter().position(|known| *known == name).and_then(|at| self.0[at])
    }

    fn one<T>(&self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Outcome<T> {
        let text = self.get(name).ok_or_else(|| missing(name, expected))?;
        read(text).ok_or_else(|| error(name, expected, &quoted(text)))
    }

    fn fixed(&self, name: &str, expected: &str) -> Outcome<()> {
        self.one(name, &quoted(expected), |text| (text == expected).then_some(()))
    }

    fn number(&self, name: &str) -> Outcome<u64> {
        self.one(name, "a whole number", number)
    }

    fn hash(&self, name: &str) -> Outcome<[u8; 32]> {
        self.one(name, "64 hexadecimal digits in lower case", |text| unhex(text)?.try_into().ok())
    }

    fn place(&self) -> Outcome<Place> {
        Ok(Place {
            log_id: self.one(names::LOG, "a UUID in lower case", uuid_of)?,
            epoch: self.number(names::EPOCH)?,
            seq: self.number(names::SEQ)?,
            position: Position::new(self.number(names::POSITION)?),
            chain: self.hash(names::CHAIN)?,
        })
    }

    fn signature(&self) -> Outcome<Option<Signature>> {
        if self.get(names::SIGNATURE).is_none() && self.get(names::KEY).is_none() {
            return Ok(None);
        }
        let expected = format!("{} hexadecimal digits in lower case", 2 * SIGNATURE_BYTES);
        let bytes = self.one(names::SIGNATURE, &expected, |text| {
            unhex(text).filter(|bytes| bytes.len() == SIGNATURE_BYTES)
        })?;
        let key = self.one(names::KEY, "a public key in the form of an nkey", |text| {
            let good = (1..=KEY_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            good.then(|| text.to_owned())
        })?;
        Ok(Some(Signature { key, bytes }))
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn uuid_of(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|uuid| uuid.hyphenated().to_string() == text)
}

fn time_of(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().filter(|nanos| time_text(*nanos) == text)
}

fn error(part: &str, expected: &str, found: &str) -> EnvelopeError {
    EnvelopeError { part: part.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

fn missing(name: &str, expected: &str) -> EnvelopeError {
    error(name, expected, "no such header")
}

/// A text in quotes, cut if it is long.
fn quoted(text: &str) -> String {
    let end =
        text.char_indices().map(|(at, _)| at).take_while(|at| *at <= FOUND_BYTES_MAX).last().unwrap_or(0);
    if text.len() > FOUND_BYTES_MAX { format!("{:?} ...", &text[..end]) } else { format!("{text:?}") }
}
