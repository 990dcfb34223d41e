//! The only way in: messages become checked values, or a refusal that names field, limit and actual value.
//!
//! Invariants: whatever passes here is valid by construction; nothing here reads or changes state. Does not know how
//! a refusal travels (`api::status`).

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt as _};
use prost_types::Timestamp;

use super::{proto::v1, raw_append, status::Refusal};
use crate::{
    append::{Boundary, Expectation, Expected, Request},
    clock::Clock,
    event::{
        Event, EventId, EventType, Invalid, Origin, Position, RecordedEvent, Revision, Source, StreamId, Tag,
        Token, Tracking,
    },
    index::{Filter, QueryItem},
    json,
    limits::{
        EVENT_BYTES_MAX, EVENT_TAGS_MAX, FILTER_TAGS_MAX, FILTER_TYPES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
        QUERY_ITEMS_MAX, REQUEST_BYTES_MAX, REQUEST_CONDITIONS_MAX, REQUEST_EVENTS_MAX,
    },
};

pub(crate) mod process;
pub(crate) mod query;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A request to append. Ids that are absent are generated here.
pub(crate) fn append_request(
    request: raw_append::AppendRequest,
    clock: &dyn Clock,
) -> Result<Request, Refusal> {
    let count = request.events.len();
    if count == 0 {
        return Err(Refusal::field("EMPTY_REQUEST", "events", "expected 1 to 1,000 events, found none"));
    }
    if count > REQUEST_EVENTS_MAX {
        return Err(Refusal::limit("events", REQUEST_EVENTS_MAX, count, "events"));
    }
    let mut events = Vec::with_capacity(count);
    let mut bytes = 0;
    for (index, event) in request.events.into_iter().enumerate() {
        let event = new_event(event, index, clock)?;
        bytes += event.size_bytes();
        events.push(event);
    }
    check_ids(&events)?;
    if bytes > REQUEST_BYTES_MAX {
        return Err(Refusal::limit("events", REQUEST_BYTES_MAX, bytes, "bytes in all"));
    }
    let conditions = request.expected_revisions.len() + request.fail_if_events_match.len();
    if conditions > REQUEST_CONDITIONS_MAX {
        let field = if request.fail_if_events_match.is_empty() {
            "expected_revisions"
        } else {
            "fail_if_events_match"
        };
        return Err(Refusal::limit(field, REQUEST_CONDITIONS_MAX, conditions, "conditions in all"));
    }
    Ok(Request {
        events,
        expectations: expectations(request.expected_revisions)?,
        boundaries: boundaries(request.fail_if_events_match)?,
        tracking: request.tracking.map(tracking).transpose()?,
        skip_existing: request.skip_existing,
        tracked: None,
        origins: Vec::new(),
        trace: None,
        cursor: None,
    })
}

/// No id may come twice in one request.
fn check_ids(events: &[Event]) -> Result<(), Refusal> {
    if events.len() == 1 {
        return Ok(());
    }
    let mut ids: HashMap<EventId, usize> = HashMap::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        if let Some(first) = ids.insert(event.id, index) {
            let what = format!("expected an id of its own, found the id of events[{first}], {}", event.id);
            return Err(Refusal::field("REPEATED_ID", format!("events[{index}].id"), what));
        }
    }
    Ok(())
}

fn new_event(event: raw_append::NewEvent, index: usize, clock: &dyn Clock) -> Result<Event, Refusal> {
    let invalid = |name: &'static str, reason: &'static str| {
        move |invalid: Invalid| Refusal::field(reason, format!("events[{index}].{name}"), invalid)
    };
    let size = event.r#type.len()
        + event.stream.len()
        + event.tags.iter().map(Bytes::len).sum::<usize>()
        + event.data.len()
        + event.metadata.as_ref().map_or(0, Bytes::len);
    if size > EVENT_BYTES_MAX {
        return Err(Refusal::limit(format!("events[{index}]"), EVENT_BYTES_MAX, size, "bytes"));
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
        event_type: EventType::parse_shared(event.r#type).map_err(invalid("type", "INVALID_TYPE"))?,
        stream: StreamId::parse_shared(event.stream).map_err(invalid("stream", "INVALID_STREAM"))?,
        tags: tags(event.tags, || format!("events[{index}].tags"), EVENT_TAGS_MAX)?,
        data: event.data,
        metadata: event.metadata,
        time_unix_nanos: event
            .time
            .map(|time| unix_nanos(time, || format!("events[{index}].time")))
            .transpose()?,
    })
}

fn tags(texts: Vec<Bytes>, field: impl Fn() -> String, count_max: usize) -> Result<Vec<Tag>, Refusal> {
    if texts.len() > count_max {
        return Err(Refusal::limit(field(), count_max, texts.len(), "tags"));
    }
    let mut tags = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let invalid = |invalid| Refusal::field("INVALID_TAG", format!("{}[{index}]", field()), invalid);
        tags.push(Tag::parse_shared(text).map_err(invalid)?);
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// Texts of the generated types, for `tags`.
fn bytes_of(texts: Vec<String>) -> Vec<Bytes> {
    texts.into_iter().map(Bytes::from).collect()
}

/// Nanoseconds since 1970 of a field.
pub(super) fn unix_nanos(time: Timestamp, field: impl Fn() -> String) -> Result<i64, Refusal> {
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

fn boundaries(entries: Vec<v1::FailIfEventsMatch>) -> Result<Vec<Boundary>, Refusal> {
    let mut boundaries = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let field = format!("fail_if_events_match[{index}].query");
        let missing = || Refusal::field("MISSING_FIELD", &*field, "expected a query, found none");
        let items = query(entry.query.ok_or_else(missing)?, &field, EventType::parse)?;
        boundaries.push(Boundary::new(items, Position::new(entry.after.unwrap_or(0))));
    }
    Ok(boundaries)
}

fn tracking(entry: v1::Tracking) -> Result<Tracking, Refusal> {
    if entry.position == 0 {
        let what = "expected a position from 1, found 0";
        return Err(Refusal::field("INVALID_POSITION", "tracking.position", what));
    }
    Ok(Tracking { source: source(&entry.source, "tracking.source")?, position: entry.position })
}

/// A consumer's name for what it follows.
pub(crate) fn source(text: &str, field: &str) -> Result<Source, Refusal> {
    Source::parse(text).map_err(|invalid| Refusal::field("INVALID_SOURCE", field, invalid))
}

/// The items of a query, at least one, each naming a type or a tag.
fn query(
    query: v1::EventQuery,
    field: &str,
    parse: fn(&str) -> Result<EventType, Invalid>,
) -> Result<Vec<QueryItem>, Refusal> {
    if query.items.is_empty() {
        let what = format!("expected 1 to {QUERY_ITEMS_MAX} items, found none");
        return Err(Refusal::field("EMPTY_QUERY", format!("{field}.items"), what));
    }
    if query.items.len() > QUERY_ITEMS_MAX {
        return Err(Refusal::limit(format!("{field}.items"), QUERY_ITEMS_MAX, query.items.len(), "items"));
    }
    let mut items = Vec::with_capacity(query.items.len());
    for (index, item) in query.items.into_iter().enumerate() {
        let field = format!("{field}.items[{index}]");
        if item.types.is_empty() && item.tags.is_empty() {
            let what = "expected at least one type or tag, found neither";
            return Err(Refusal::field("EMPTY_QUERY_ITEM", field, what));
        }
        items.push(QueryItem {
            types: types(&item.types, &format!("{field}.types"), parse)?,
            tags: tags(bytes_of(item.tags), || format!("{field}.tags"), FILTER_TAGS_MAX)?,
        });
    }
    Ok(items)
}

fn types(
    texts: &[String],
    field: &str,
    parse: fn(&str) -> Result<EventType, Invalid>,
) -> Result<Vec<EventType>, Refusal> {
    if texts.len() > FILTER_TYPES_MAX {
        return Err(Refusal::limit(field, FILTER_TYPES_MAX, texts.len(), "types"));
    }
    let mut types = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let invalid = |invalid| Refusal::field("INVALID_TYPE", format!("{field}[{index}]"), invalid);
        types.push(parse(text).map_err(invalid)?);
    }
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

/// Which events a read or subscription asks for.
pub(crate) fn filter(filter: Option<v1::EventFilter>) -> Result<Filter, Refusal> {
    let filter = filter.unwrap_or_default();
    let stream = filter.stream.map(|text| {
        StreamId::parse_any(&text)
            .map_err(|invalid| Refusal::field("INVALID_STREAM", "filter.stream", invalid))
    });
    let items = filter.query.map(|items| query(items, "filter.query", EventType::parse_any));
    Ok(Filter {
        stream: stream.transpose()?,
        types: types(&filter.types, "filter.types", EventType::parse_any)?,
        tags: tags(bytes_of(filter.tags), || "filter.tags".into(), FILTER_TAGS_MAX)?,
        include_system: filter.include_system,
        query: items.transpose()?.unwrap_or_default(),
        source: None,
    })
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
        origin: recorded.origin.map(|origin| origin_out(&origin)),
    }
}

/// An origin as the API shows it.
fn origin_out(origin: &Origin) -> v1::Origin {
    v1::Origin {
        owner: origin.owner.to_string(),
        log_id: Bytes::copy_from_slice(origin.log_id.as_bytes()),
        epoch: origin.epoch,
        position: origin.position.get(),
        id: Bytes::copy_from_slice(origin.id.as_bytes()),
        hash: Bytes::copy_from_slice(&origin.hash),
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
