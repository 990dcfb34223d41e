//! One line of a file of events, from bytes to an event that needs no further check.
//!
//! Owns the names of the fields and the derivation of ids. A refusal names the column, counted in bytes from 1. Does
//! not know files, batches or nodes.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    cli::text::parse_time,
    event::{Event, EventId, EventType, Invalid, StreamId, Tag},
    json::{self, Json},
    limits::{DERIVED_LINES_MAX, EVENT_BYTES_MAX, EVENT_TAGS_MAX},
};

/// The namespace of derived ids. It never changes: a repeated load must derive the same ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f75_7472_6967_4765_b207_1c5d_8a4e_93f1);

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// In bytes, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub reason: String,
}

/// Where ids come from.
#[derive(Debug)]
pub enum Ids {
    /// Every line must carry one.
    Required,
    /// A line without one gets one that follows from its content and from how many such lines came before.
    Derived(HashMap<Uuid, u32>),
}

/// The fields of a line as they stand there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    r#type: &'a RawValue,
    #[serde(borrow)]
    stream: &'a RawValue,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// Reads one line.
pub fn parse(line: &[u8], ids: &mut Ids) -> Result<Event, BadLine> {
    let text = std::str::from_utf8(line)
        .map_err(|error| BadLine { column: error.valid_up_to() + 1, reason: "expected UTF-8 text".into() })?;
    let fields: Line<'_> = serde_json::from_str(text).map_err(|error| located(1, &error.to_string()))?;
    let at = |value: &RawValue| value.get().as_ptr() as usize - text.as_ptr() as usize + 1;
    let named = |name: &'static str, value: &RawValue, Invalid(reason): Invalid| {
        let bad = located(at(value), &reason);
        BadLine { reason: format!("{name}: {}", bad.reason), ..bad }
    };
    let event_type = word(fields.r#type).and_then(|text| EventType::parse(&text));
    let stream = word(fields.stream).and_then(|text| StreamId::parse(&text));
    let tags = fields.tags.map_or_else(|| Ok(Vec::new()), tags);
    let time = fields.time.map(|time| word(time).and_then(|text| nanos(&text))).transpose();
    json::check(fields.data.get().as_bytes()).map_err(|error| named("data", fields.data, error))?;
    if let Some(metadata) = fields.metadata {
        json::check_object(metadata.get().as_bytes()).map_err(|error| named("metadata", metadata, error))?;
    }
    let mut event = Event {
        id: placeholder(),
        event_type: event_type.map_err(|error| named("type", fields.r#type, error))?,
        stream: stream.map_err(|error| named("stream", fields.stream, error))?,
        tags: tags.map_err(|error| named("tags", fields.tags.unwrap_or(fields.data), error))?,
        data: Bytes::copy_from_slice(fields.data.get().as_bytes()),
        metadata: fields.metadata.map(|metadata| Bytes::copy_from_slice(metadata.get().as_bytes())),
        time_unix_nanos: time.map_err(|error| named("time", fields.time.unwrap_or(fields.data), error))?,
    };
    if event.size_bytes() > EVENT_BYTES_MAX {
        let reason =
            format!("expected an event of at most {EVENT_BYTES_MAX} bytes, found {}", event.size_bytes());
        return Err(BadLine { column: 1, reason });
    }
    event.id = match (fields.id, ids) {
        (Some(id), _) => word(id).and_then(|text| parse_id(&text)).map_err(|error| named("id", id, error))?,
        (None, Ids::Required) => {
            let reason =
                "expected an id (a UUID), so that the load can be repeated; add one, or pass --derive-ids";
            return Err(BadLine { column: 1, reason: reason.into() });
        }
        (None, Ids::Derived(seen)) => {
            derive(&event, seen).map_err(|Invalid(reason)| BadLine { column: 1, reason })?
        }
    };
    Ok(event)
}

/// Stands in until the id is known; no event leaves this module with it.
fn placeholder() -> EventId {
    EventId::from_uuid(NAMESPACE).expect("the namespace is not nil")
}

/// Takes " at line 1 column N" off a message and adds it to the column where the text begins.
fn located(begin: usize, message: &str) -> BadLine {
    let place = message.rsplit_once(" at line 1 column ");
    match place.and_then(|(reason, column)| Some((reason, column.parse::<usize>().ok()?))) {
        Some((reason, column)) => {
            BadLine { column: begin + column.saturating_sub(1), reason: reason.to_owned() }
        }
        None => BadLine { column: begin, reason: message.to_owned() },
    }
}

fn word(value: &RawValue) -> Result<String, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid(format!("expected a text, found {}", value.get())))
}

fn tags(value: &RawValue) -> Result<Vec<Tag>, Invalid> {
    let texts: Vec<String> = serde_json::from_str(value.get())
        .map_err(|_| Invalid(format!("expected a list of texts, found {}", value.get())))?;
    let mut tags = texts.iter().map(|text| Tag::parse(text)).collect::<Result<Vec<_>, _>>()?;
    tags.sort();
    tags.dedup();
    if tags.len() > EVENT_TAGS_MAX {
        return Err(Invalid(format!("expected at most {EVENT_TAGS_MAX} tags, found {}", tags.len())));
    }
    Ok(tags)
}

fn nanos(text: &str) -> Result<i64, Invalid> {
    let time = parse_time(text)?;
    let whole = time.seconds.checked_mul(1_000_000_000);
    whole
        .and_then(|whole| whole.checked_add(i64::from(time.nanos)))
        .ok_or_else(|| Invalid(format!("expected a time from 1678 to 2261, found {text:?}")))
}

/// An id as text.
pub fn parse_id(text: &str) -> Result<EventId, Invalid> {
    let uuid = Uuid::try_parse(text).map_err(|_| Invalid(format!("expected a UUID, found {text:?}")))?;
    EventId::from_uuid(uuid)
}

/// The same content at the same occurrence gives the same id, however the line is written.
fn derive(event: &Event, seen: &mut HashMap<Uuid, u32>) -> Result<EventId, Invalid> {
    let data = Json::parse(&event.data)?.normalized();
    let tags: Vec<&str> = event.tags.iter().map(Tag::as_str).collect();
    let content =
        (event.event_type.as_str(), event.stream.as_str(), event.time_unix_nanos, tags, data.to_string());
    let text = crate::cli::text::to_line(&content);
    let content = Uuid::new_v5(&NAMESPACE, text.as_bytes());
    if seen.len() >= DERIVED_LINES_MAX && !seen.contains_key(&content) {
        return Err(Invalid(format!(
            "ids can be derived for at most {DERIVED_LINES_MAX} distinct lines; split the file or give every line an id"
        )));
    }
    let occurrence = seen.entry(content).or_insert(0);
    *occurrence += 1;
    EventId::from_uuid(Uuid::new_v5(&content, occurrence.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"id":"3efa6fb7-dee6-57a7-9b42-c58ba424fc02","type":"a.b","stream":"s","data":{"n":1.50}}"#;

    fn check_bad(line: &str, column: usize, reason: &str) {
        let bad = parse(line.as_bytes(), &mut Ids::Required).unwrap_err();
        assert!(bad.reason.contains(reason), "{line}: {bad:?}");
        assert_eq!(bad.column, column, "{line}: {bad:?}");
    }

    #[test]
    fn a_line_keeps_its_data_as_written() {
        let event = parse(GOOD.as_bytes(), &mut Ids::Required).unwrap();
        assert_eq!(event.data, "{\"n\":1.50}");
        assert_eq!(event.time_unix_nanos, None);
        let full = r#"{"tags":["b","a","b"],"time":"1970-01-01T00:00:01Z","metadata":{"t":1},"type":"x","stream":"ä\n",
            "data":null,"id":"3EFA6FB7DEE657A79B42C58BA424FC02"}"#;
        let full = full.replace("\\n", "\\u00e4");
        let event = parse(full.replace('\n', " ").as_bytes(), &mut Ids::Required).unwrap();
        assert_eq!(event.tags.len(), 2);
        assert_eq!(event.stream.as_str(), "ää");
        assert_eq!(event.time_unix_nanos, Some(1_000_000_000));
        assert_eq!(event.data, "null");
    }

    #[test]
    fn bad_lines_name_column_and_reason() {
        check_bad("{", 1, "EOF while parsing");
        check_bad("{\"id\":1x", 8, "expected");
        check_bad(
            r#"{"type":"a","stream":"s","data":1,"typ":2}"#,
            39,
            "unknown field `typ`, expected one of",
        );
        check_bad(r#"{"type":"a","stream":"s"}"#, 25, "missing field `data`");
        check_bad(r#"{"type":"a","stream":"s","data":1}"#, 1, "--derive-ids");
        check_bad(r#"{"type":"a","stream":"s","data":1,"data":2}"#, 40, "duplicate field `data`");
        check_bad(
            r#"{"type":"a","stream":"s","data":{"k":1,"k":2}}"#,
            45,
            "data: expected one JSON value: the key \"k\" is repeated",
        );
        check_bad(r#"{"type":"a b","stream":"s","data":1}"#, 9, "type: expected words");
        check_bad(r#"{"type":"a","stream":7,"data":1}"#, 22, "stream: expected a text, found 7");
        check_bad(r#"{"type":"a","stream":"s","data":1,"tags":"t"}"#, 42, "tags: expected a list of texts");
        check_bad(
            r#"{"type":"a","stream":"s","data":1,"time":"today"}"#,
            42,
            "time: expected a time of RFC 3339",
        );
        check_bad(
            r#"{"type":"a","stream":"s","data":1,"metadata":[]}"#,
            46,
            "metadata: expected a JSON object",
        );
        check_bad(r#"{"type":"a","stream":"s","data":1,"id":"x"}"#, 40, "id: expected a UUID, found \"x\"");
        let nil = r#"{"type":"a","stream":"s","data":1,"id":"00000000-0000-0000-0000-000000000000"}"#;
        check_bad(nil, 40, "id: expected a UUID other than nil");
        let large = GOOD.replace("1.50", &format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX)));
        check_bad(&large, 1, "expected an event of at most 1048576 bytes");
        assert_eq!(parse(b"{\"type\":\"\xFF", &mut Ids::Required).unwrap_err().column, 10);
    }

    fn derived(lines: &[&str]) -> Vec<EventId> {
        let mut ids = Ids::Derived(HashMap::new());
        lines.iter().map(|line| parse(line.as_bytes(), &mut ids).unwrap().id).collect()
    }

    #[test]
    fn derived_ids_follow_from_content_and_occurrence() {
        let line = r#"{"type":"a","stream":"s","tags":["x","y"],"data":{"a":1,"b":2.0}}"#;
        let same =
            r#"{"data": {"b":2, "a":1}, "stream":"s", "tags":["y","x","y"], "type":"a", "metadata":{}}"#;
        let other = r#"{"type":"a","stream":"s","tags":["x","y"],"data":{"a":1,"b":3}}"#;
        let ids = derived(&[line, same, other]);
        assert_eq!(derived(&[same, line, other]), ids, "what counts is the content, not how it is written");
        assert_ne!(ids[0], ids[1], "the second occurrence is another event");
        assert_ne!(ids[0], ids[2]);
    }
}
