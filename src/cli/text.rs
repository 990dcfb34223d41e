//! Texts in and out: JSON without white space, keys, tokens, times, durations.
//!
//! JSON is only ever re-spaced, never re-written: numbers, escapes and the order of fields stay as the node sent them.

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    api::proto::v1::{self, key_part::Part},
    event::Invalid,
    json::Json,
    projection::key::{Key, KeyPart},
};

/// The JSON text without white space between its parts.
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if !in_string && c.is_ascii_whitespace() {
            continue;
        }
        out.push(c);
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            in_string = c == '"';
        }
    }
    out
}

/// A compact JSON text laid out for people: two spaces a level.
pub fn pretty(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = compact.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' if rest.next_if(|next| matches!(next, '}' | ']')).is_some() => {
                out.push_str(if c == '{' { "{}" } else { "[]" });
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// A node's JSON bytes as they may stand inside our own JSON: compact, or as a text if they are not JSON after all.
pub fn raw(json: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(json);
    RawValue::from_string(compact(&text)).unwrap_or_else(|_| to_raw(&text))
}

/// Any value that serializes, as JSON inside JSON.
pub fn to_raw<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("texts, numbers and lists of them serialize")
}

/// One line of JSON.
pub fn to_line<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists of them serialize")
}

/// The 16 bytes of a UUID as text; other lengths as hex.
pub fn uuid_text(bytes: &[u8]) -> String {
    Uuid::from_slice(bytes).map_or_else(|_| hex(bytes), |id| id.to_string())
}

/// Bytes as hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string takes all text");
    }
    out
}

/// A key as the user types it: a JSON array of texts, integers and booleans, or else the text itself.
pub fn parse_key(text: &str) -> Result<v1::Key, Invalid> {
    let key = match Json::parse(text.as_bytes()) {
        Ok(array @ Json::Array(_)) => Key::from_json(&array)?,
        _ => Key::text(text)?,
    };
    let part = |part: &KeyPart| match part {
        KeyPart::Bool(value) => Part::Boolean(*value),
        KeyPart::Int(value) => Part::Integer(*value),
        KeyPart::Text(value) => Part::Text(value.to_string()),
    };
    let parts = key.parts();
    Ok(v1::Key { parts: parts.iter().map(|at| v1::KeyPart { part: Some(part(at)) }).collect() })
}

/// A key as it is printed: a text, or a JSON array.
pub fn key_json(key: &v1::Key) -> Box<RawValue> {
    let part = |part: &v1::KeyPart| match &part.part {
        Some(Part::Text(value)) => to_raw(value),
        Some(Part::Integer(value)) => to_raw(value),
        Some(Part::Boolean(value)) => to_raw(value),
        None => to_raw(&()),
    };
    match key.parts.as_slice() {
        [one] if matches!(one.part, Some(Part::Text(_))) => part(one),
        parts => to_raw(&parts.iter().map(part).collect::<Vec<_>>()),
    }
}

/// A key in a table: a text without quotes, or a JSON array.
pub fn key_text(key: &v1::Key) -> String {
    match key.parts.as_slice() {
        [v1::KeyPart { part: Some(Part::Text(text)) }] => text.clone(),
        _ => key_json(key).get().to_owned(),
    }
}

/// A value of an index as the user types it: JSON if it parses, else the text itself.
pub fn parse_value(text: &str) -> Bytes {
    match Json::parse(text.as_bytes()) {
        Ok(_) => Bytes::copy_from_slice(text.as_bytes()),
        Err(_) => to_line(text).into(),
    }
}

/// A token as text: log id, epoch and position, joined by colons.
pub fn token_text(token: &v1::Token) -> String {
    format!("{}:{}:{}", hex(&token.log_id), token.epoch, token.position)
}

/// A token as `append` prints it.
pub fn parse_token(text: &str) -> Result<v1::Token, Invalid> {
    match parse_at_least(text) {
        Ok(AtLeast::Token(token)) => Ok(token),
        _ => Err(Invalid(format!("expected a token as append prints it, found {text:?}"))),
    }
}

/// What `--at-least` names.
#[derive(Debug, Clone, PartialEq)]
pub enum AtLeast {
    /// A position of the node's log as it is now.
    Position(u64),
    /// What an append returned.
    Token(v1::Token),
}

/// A position, or a token as `append` prints it.
pub fn parse_at_least(text: &str) -> Result<AtLeast, Invalid> {
    let invalid =
        || Invalid(format!("expected a position such as 17, or a token as append prints it, found {text:?}"));
    if let Ok(position) = text.parse() {
        return Ok(AtLeast::Position(position));
    }
    let mut parts = text.split(':');
    let (Some(id), Some(epoch), Some(position), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid());
    };
    let id = Uuid::try_parse(id).map_err(|_| invalid())?;
    Ok(AtLeast::Token(v1::Token {
        log_id: Bytes::copy_from_slice(id.as_bytes()),
        epoch: epoch.parse().map_err(|_| invalid())?,
        position: position.parse().map_err(|_| invalid())?,
    }))
}

/// RFC 3339; empty where there is no time.
pub fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    let parsed = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    parsed.map_or_else(String::new, |time| time.to_string())
}

/// RFC 3339 to the millisecond, always as wide, for people; empty where there is no time.
pub fn time_in_table(time: Option<&prost_types::Timestamp>) -> String {
    let parsed = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    parsed.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

/// A position as the user types it.
pub fn parse_position(text: &str) -> Result<u64, Invalid> {
    text.parse().map_err(|_| Invalid(format!("expected a position such as 17, found {text:?}")))
}

/// Reads RFC 3339: `2013-01-01T08:15:00Z`, or with an offset.
pub fn parse_time(text: &str) -> Result<prost_types::Timestamp, Invalid> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && matches!(bytes[10], b'T' | b't')
        && matches!(bytes[13], b':')
        && matches!(bytes[16], b':')
        && !text.contains('[');
    let parsed = shaped.then(|| text.parse::<Timestamp>().ok()).flatten();
    let time = parsed.ok_or_else(|| {
        Invalid(format!("expected a time of RFC 3339 such as 2013-01-01T08:15:00Z, found {text:?}"))
    })?;
    let since = time.duration_since(Timestamp::UNIX_EPOCH);
    let (seconds, nanos) = normal(since);
    Ok(prost_types::Timestamp { seconds, nanos })
}

/// Seconds rounded down and the nanoseconds above them.
fn normal(since: SignedDuration) -> (i64, i32) {
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) }
}

/// A count with its digits in groups of three.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A length of time as people say it: `7 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration_text(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A rate in events a second, readable.
pub fn rate_text(rate: f64) -> String {
    if rate > 0.0 { format!("{}/s", grouped(rate.round() as u64)) } else { "-".into() }
}

#[cfg(test)]
mod tests;
