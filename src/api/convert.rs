//! The only way in: messages become checked values, or a refusal that names field, limit and actual value.
//!
//! Invariants: whatever passes here is valid by construction; nothing here reads or changes state. Does not know how
//! a refusal travels (`api::status`).

use std::collections::HashMap;

use prost_types::Timestamp;

use super::{proto::v1, status::Refusal};
use crate::{
    append::{Expectation, Expected, Request},
    clock::Clock,
    event::{Event, EventId, EventType, Invalid, RecordedEvent, Revision, StreamId, Tag, Token},
    index::Filter,
    json,
    limits::{
        EVENT_BYTES_MAX, EVENT_TAGS_MAX, FILTER_TAGS_MAX, FILTER_TYPES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
        REQUEST_BYTES_MAX, REQUEST_CONDITIONS_MAX, REQUEST_EVENTS_MAX,
    },
};

pub(crate) mod query;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A request to append. Ids that are absent are generated here.
pub(crate) fn append_request(request: v1::AppendRequest, clock: &dyn Clock) -> Result<Request, Refusal> {
    let count = request.events.len();
    if count == 0 {
        return Err(Refusal::field("EMPTY_REQUEST", "events", "expected 1 to 1,000 events, found none"));
    }
    if count > REQUEST_EVENTS_MAX {
        return Err(Refusal::limit("events", REQUEST_EVENTS_MAX, count, "events"));
    }
    let mut events = Vec::with_capacity(count);
    let mut ids: HashMap<EventId, usize> = HashMap::with_capacity(count);
    let mut bytes = 0;
    for (index, event) in request.events.into_iter().enumerate() {
        let event = new_event(event, &format!("events[{index}]"), clock)?;
        if let Some(first) = ids.insert(event.id, index) {
            let what = format!("expected an id of its own, found the id of events[{first}], {}", event.id);
            return Err(Refusal::field("REPEATED_ID", format!("events[{index}].id"), what));
        }
        bytes += event.size_bytes();
        events.push(event);
    }
    if bytes > REQUEST_BYTES_MAX {
        return Err(Refusal::limit("events", REQUEST_BYTES_MAX, bytes, "bytes in all"));
    }
    let expectations = expectations(request.expected_revisions)?;
    Ok(Request { events, expectations, skip_existing: request.skip_existing })
}

fn new_event(event: v1::NewEvent, field: &str, clock: &dyn Clock) -> Result<Event, Refusal> {
    let invalid = |name: &str, reason: &'static str| {
        let field = format!("{field}.{name}");
        move |invalid: Invalid| Refusal::field(reason, field, invalid)
    };
    let size = event.r#type.len()
        + event.stream.len()
        + event.tags.iter().map(String::len).sum::<usize>()
        + event.data.len()
        + event.metadata.as_ref().map_or(0, bytes::Bytes::len);
    if size > EVENT_BYTES_MAX {
        return Err(Refusal::limit(field, EVENT_BYTES_MAX, size, "bytes"));
    }
    let id = match &event.id {
        Some(id) => EventId::from_slice(id).map_err(invalid("id", "INVALID_ID"))?,
        None => {
            EventId::from_uuid(uuid::Builder::from_random_bytes(clock.random().to_be_bytes()).into_uuid())
                .map_err(invalid("id", "INVALID_ID"))?
        }
    };
    json::check(&event.data).map_err(invalid("data", "INVALID_JSON"))?;
    if let Some(metadata) = &event.metadata {
        json::check_object(metadata).map_err(invalid("metadata", "INVALID_JSON"))?;
    }
    Ok(Event {
        id,
        event_type: EventType::parse(&event.r#type).map_err(invalid("type", "INVALID_TYPE"))?,
        stream: StreamId::parse(&event.stream).map_err(invalid("stream", "INVALID_STREAM"))?,
        tags: tags(&event.tags, &format!("{field}.tags"), EVENT_TAGS_MAX)?,
        data: event.data,
        metadata: event.metadata,
        time_unix_nanos: event.time.map(|time| unix_nanos(time, field)).transpose()?,
    })
}

fn tags(texts: &[String], field: &str, count_max: usize) -> Result<Vec<Tag>, Refusal> {
    if texts.len() > count_max {
        return Err(Refusal::limit(field, count_max, texts.len(), "tags"));
    }
    let mut tags = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let invalid = |invalid| Refusal::field("INVALID_TAG", format!("{field}[{index}]"), invalid);
        tags.push(Tag::parse(text).map_err(invalid)?);
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn unix_nanos(time: Timestamp, field: &str) -> Result<i64, Refusal> {
    let field = || format!("{field}.time");
    if !(0..NANOS_PER_SECOND).contains(&i64::from(time.nanos)) {
        let what = format!("expected nanos from 0 to 999999999, found {}", time.nanos);
        return Err(Refusal::field("INVALID_TIME", field(), what));
    }
    let nanos = time.seconds.checked_mul(NANOS_PER_SECOND).and_then(|n| n.checked_add(i64::from(time.nanos)));
    nanos.ok_or_else(|| {
        let what = format!("expected a time from 1677 to 2262, found {} seconds since 1970", time.seconds);
        Refusal::field("INVALID_TIME", field(), what)
    })
}

fn expectations(entries: Vec<v1::ExpectedRevision>) -> Result<Vec<Expectation>, Refusal> {
    use v1::expected_revision::Expected as Wire;
    if entries.len() > REQUEST_CONDITIONS_MAX {
        return Err(Refusal::limit(
            "expected_revisions",
            REQUEST_CONDITIONS_MAX,
            entries.len(),
            "conditions",
        ));
    }
    let mut expectations: Vec<Expectation> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let field = |name: &str| format!("expected_revisions[{index}].{name}");
        let invalid = |invalid| Refusal::field("INVALID_STREAM", field("stream"), invalid);
        let stream = StreamId::parse(&entry.stream).map_err(invalid)?;
        if let Some(first) = expectations.iter().position(|other| other.stream == stream) {
            let what = format!("expected one entry for each stream, found {stream:?} in entry {first} too");
            return Err(Refusal::field("CONTRADICTORY_EXPECTATIONS", field("stream"), what));
        }
        let expected = match entry.expected {
            Some(Wire::Revision(0)) => {
                let what = "expected a revision from 1, found 0; use `none` for a stream without events";
                return Err(Refusal::field("INVALID_REVISION", field("revision"), what));
            }
            Some(Wire::Revision(revision)) => Expected::Revision(Revision::new(revision)),
            Some(Wire::None(_)) => Expected::NoStream,
            Some(Wire::Exists(_)) => Expected::Exists,
            Some(Wire::Any(_)) => Expected::Any,
            None => {
                let what = "expected one of revision, none, exists, any, found nothing";
                return Err(Refusal::field("MISSING_FIELD", field("expected"), what));
            }
        };
        expectations.push(Expectation { stream, expected });
    }
    Ok(expectations)
}

/// Which events a read or subscription asks for.
pub(crate) fn filter(filter: Option<v1::EventFilter>) -> Result<Filter, Refusal> {
    let filter = filter.unwrap_or_default();
    if filter.types.len() > FILTER_TYPES_MAX {
        return Err(Refusal::limit("filter.types", FILTER_TYPES_MAX, filter.types.len(), "types"));
    }
    let stream = filter.stream.map(|text| {
        StreamId::parse_any(&text)
            .map_err(|invalid| Refusal::field("INVALID_STREAM", "filter.stream", invalid))
    });
    let mut types = Vec::with_capacity(filter.types.len());
    for (index, text) in filter.types.iter().enumerate() {
        let invalid = |invalid| Refusal::field("INVALID_TYPE", format!("filter.types[{index}]"), invalid);
        types.push(EventType::parse_any(text).map_err(invalid)?);
    }
    types.sort_unstable();
    types.dedup();
    let tags = tags(&filter.tags, "filter.tags", FILTER_TAGS_MAX)?;
    Ok(Filter { stream: stream.transpose()?, types, tags, include_system: filter.include_system })
}

/// A page's size: the default where absent, 1 to 1,000 else.
pub(crate) fn page_size(size: Option<u32>) -> Result<usize, Refusal> {
    match size {
        None => Ok(PAGE_SIZE_DEFAULT as usize),
        Some(0) => Err(Refusal::field("INVALID_LIMIT", "page_size", "expected at least 1, found 0")),
        Some(size) if size > PAGE_SIZE_MAX => Err(Refusal::limit("page_size", PAGE_SIZE_MAX, size, "a page")),
        Some(size) => Ok(size as usize),
    }
}

/// A token, its log id checked for length.
pub(crate) fn token(token: &v1::Token, field: &str) -> Result<Token, Refusal> {
    let log_id = uuid::Uuid::from_slice(&token.log_id).map_err(|_| {
        let what = format!("expected the 16 bytes of a log's identity, found {} bytes", token.log_id.len());
        Refusal::field("INVALID_TOKEN", format!("{field}.log_id"), what)
    })?;
    Ok(Token { log_id, epoch: token.epoch, position: crate::event::Position::new(token.position) })
}

/// An event as the API shows it.
pub(crate) fn event(recorded: RecordedEvent) -> v1::Event {
    let (time, recorded_at) = (recorded.time_unix_nanos(), recorded.recorded_at_unix_nanos);
    let event = recorded.event;
    v1::Event {
        position: recorded.position.get(),
        id: bytes::Bytes::copy_from_slice(event.id.as_bytes()),
        r#type: event.event_type.as_str().to_owned(),
        stream: event.stream.as_str().to_owned(),
        revision: recorded.revision.get(),
        tags: event.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        data: event.data,
        metadata: event.metadata,
        time: Some(timestamp(time)),
        recorded_at: Some(timestamp(recorded_at)),
    }
}

/// A token as the API shows it.
pub(crate) fn token_out(token: Token) -> v1::Token {
    v1::Token {
        log_id: bytes::Bytes::copy_from_slice(token.log_id.as_bytes()),
        epoch: token.epoch,
        position: token.position.get(),
    }
}

fn timestamp(unix_nanos: i64) -> Timestamp {
    Timestamp {
        seconds: unix_nanos.div_euclid(NANOS_PER_SECOND),
        nanos: unix_nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}
