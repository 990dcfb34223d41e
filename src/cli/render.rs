//! Answers of the protocol as JSON lines: field names as in the protocol, numbers as numbers, ids as UUID text, times
//! as RFC 3339, data and documents embedded as the JSON they are.
//!
//! Owns the shape of `--output json`. Does not know how answers are asked for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::error::{code_name, reason};
use super::text::{key_json, raw, time_text, token_text, uuid_text};
use crate::api::proto::v1;

mod origin;
mod standing;
mod told;

pub use standing::{removed, standing, standing_word};
pub use told::told;

#[derive(Debug, Serialize)]
struct Event<'a> {
    position: u64,
    id: String,
    r#type: &'a str,
    stream: &'a str,
    revision: u64,
    tags: &'a [String],
    data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    time: String,
    recorded_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<origin::Origin<'a>>,
}

/// An event.
pub fn event(event: &v1::Event) -> impl Serialize + '_ {
    event_of(event)
}

fn event_of(event: &v1::Event) -> Event<'_> {
    Event {
        position: event.position,
        id: uuid_text(&event.id),
        r#type: &event.r#type,
        stream: &event.stream,
        revision: event.revision,
        tags: &event.tags,
        data: raw(&event.data),
        metadata: event.metadata.as_deref().map(raw),
        time: time_text(event.time.as_ref()),
        recorded_at: time_text(event.recorded_at.as_ref()),
        origin: event.origin.as_ref().map(origin::Origin::of),
    }
}

#[derive(Debug, Serialize)]
struct Appended {
    events: Vec<AppendedEvent>,
    already_applied: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// The token as `--at-least` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<String>,
}

#[derive(Debug, Serialize)]
struct AppendedEvent {
    position: u64,
    revision: u64,
    already_existed: bool,
    id: String,
}

#[derive(Debug, Serialize)]
struct Token {
    log_id: String,
    epoch: u64,
    position: u64,
}

/// The answer to an append.
pub fn appended(response: &v1::AppendResponse) -> impl Serialize {
    let one = |event: &v1::AppendedEvent| AppendedEvent {
        position: event.position,
        revision: event.revision,
        already_existed: event.already_existed,
        id: uuid_text(&event.id),
    };
    Appended {
        events: response.events.iter().map(one).collect(),
        already_applied: response.already_applied,
        token: response.token.as_ref().map(|token| Token {
            log_id: uuid_text(&token.log_id),
            epoch: token.epoch,
            position: token.position,
        }),
        at_least: response.token.as_ref().map(token_text),
    }
}

/// A refusal: fields as in google.rpc.
#[derive(Debug, Serialize)]
struct Refusal {
    code: &'static str,
    reason: String,
    message: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    field_violations: Vec<FieldViolation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FieldViolation {
    field: String,
    description: String,
}

#[derive(Debug, Serialize)]
struct Violation {
    r#type: String,
    subject: String,
    description: String,
}

/// A refusal with its details.
pub fn refusal(status: &Status) -> impl Serialize + use<> {
    let details = status.get_error_details();
    let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let violations = details.precondition_failure().map(|failure| failure.violations.clone());
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    Refusal {
        code: code_name(status.code()),
        reason: reason(status),
        message: status.message().to_owned(),
        metadata: details
            .error_info()
            .map(|info| info.metadata.clone())
            .unwrap_or_default()
            .into_iter()
            .collect(),
        field_violations: fields
            .into_iter()
            .map(|at| FieldViolation { field: at.field, description: at.description })
            .collect(),
        violations: violations
            .unwrap_or_default()
            .into_iter()
            .map(|at| Violation { r#type: at.r#type, subject: at.subject, description: at.description })
            .collect(),
        retry_after_ms: delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
    }
}

#[derive(Debug, Serialize)]
struct StreamInfo<'a> {
    stream: &'a str,
    revision: u64,
    last_position: u64,
}

/// A stream's state.
pub fn stream(info: &v1::StreamInfo) -> impl Serialize + '_ {
    StreamInfo { stream: &info.stream, revision: info.revision, last_position: info.last_position }
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<RawValue>>,
    value: Box<RawValue>,
    position: u64,
}

/// A document with its key.
pub fn document(document: &v1::Document) -> impl Serialize + use<> {
    document_line(document)
}

fn document_line(document: &v1::Document) -> Document {
    Document {
        key: document.key.as_ref().map(key_json),
        value: raw(&document.value),
        position: document.position,
    }
}

#[derive(Debug, Serialize)]
struct Context<'a> {
    projection: &'a str,
    version: u32,
    as_of: u64,
    head: u64,
    stale: bool,
    incomplete: bool,
}

fn context(context: &v1::ReadContext) -> Context<'_> {
    Context {
        projection: &context.projection,
        version: context.version,
        as_of: context.as_of,
        head: context.head,
        stale: context.stale,
        incomplete: context.incomplete,
    }
}

#[derive(Debug, Serialize)]
struct Got<'a, D: Serialize> {
    document: Option<D>,
    context: Option<Context<'a>>,
}

/// The answer to a get.
pub fn got(response: &v1::GetResponse) -> impl Serialize + '_ {
    Got {
        document: response.document.as_ref().map(document),
        context: response.context.as_ref().map(context),
    }
}

#[derive(Debug, Serialize)]
struct Explained<'a> {
    plan: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    collection_size: u64,
    range_size: u64,
    context: Option<Context<'a>>,
}

/// How a list would be answered.
pub fn plan(response: &v1::ExplainResponse) -> impl Serialize + '_ {
    Explained {
        plan: &response.plan,
        index: response.index.as_deref(),
        filter: response.filter.as_deref(),
        collection_size: response.collection_size,
        range_size: response.range_size,
        context: response.context.as_ref().map(context),
    }
}

#[derive(Debug, Serialize)]
struct Counted<'a> {
    count: u64,
    at_least: bool,
    scanned: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<&'a str>,
    context: Option<Context<'a>>,
}

/// How many documents there are.
pub fn count(response: &v1::CountResponse) -> impl Serialize + '_ {
    Counted {
        count: response.count,
        at_least: response.at_least,
        scanned: response.scanned,
        next_page_token: response.next_page_token.as_deref(),
        context: response.context.as_ref().map(context),
    }
}

#[expect(clippy::struct_excessive_bools, reason = "they are fields of a JSON object")]
#[derive(Debug, Serialize)]
struct Deployed<'a> {
    projection: &'a str,
    version: u32,
    state: &'static str,
    active: bool,
    taking_over: bool,
    build_paused: bool,
    position: u64,
    head: u64,
    lag: u64,
    rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
    content_hash: &'a str,
    definition_hash: &'a str,
    collections: Vec<Collection<'a>>,
    on_error: &'static str,
    parked_events: u64,
    parked_streams: u64,
    skipped_events: u64,
    last_error_position: u64,
    content_hash_late: bool,
    queued: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    releases: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause: Option<EventError<'a>>,
}

#[derive(Debug, Serialize)]
struct Collection<'a> {
    name: &'a str,
    documents: u64,
    indexes: &'a [String],
    incomplete: bool,
}

/// One version of a projection.
pub fn version(version: &v1::ProjectionVersion) -> impl Serialize + '_ {
    Deployed {
        projection: &version.projection,
        version: version.version,
        state: state_word(version.state()),
        active: version.active,
        taking_over: version.taking_over,
        build_paused: version.build_paused,
        position: version.position,
        head: version.head,
        lag: version.lag,
        rate: version.rate,
        seconds_left: version.seconds_left,
        content_hash: &version.content_hash,
        definition_hash: &version.definition_hash,
        collections: version.collections.iter().map(collection).collect(),
        on_error: on_error_word(version.on_error()),
        parked_events: version.parked_events,
        parked_streams: version.parked_streams,
        skipped_events: version.skipped_events,
        last_error_position: version.last_error_position,
        content_hash_late: version.content_hash_late,
        queued: version.queued,
        releases: &version.releases,
        error: version.error.as_deref(),
        pause: version.pause.as_ref().map(event_error_of),
    }
}

#[derive(Debug, Serialize)]
struct EventError<'a> {
    kind: &'static str,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event<'a>>,
}

/// An event that a version did not apply.
pub fn event_error(error: &v1::EventError) -> impl Serialize + '_ {
    event_error_of(error)
}

fn event_error_of(error: &v1::EventError) -> EventError<'_> {
    EventError {
        kind: kind_word(error.kind()),
        position: error.position,
        error: error.error.as_deref(),
        step: error.step,
        line: error.line,
        expression: error.expression.as_deref(),
        decided_at: error.decided_at,
        reason: error.reason.as_deref(),
        event: error.event.as_ref().map(event_of),
    }
}

/// What became of an event, in one word.
pub const fn kind_word(kind: v1::EventErrorKind) -> &'static str {
    match kind {
        v1::EventErrorKind::Unspecified => "unknown",
        v1::EventErrorKind::Paused => "paused",
        v1::EventErrorKind::Parked => "parked",
        v1::EventErrorKind::Waiting => "waiting",
        v1::EventErrorKind::Skipped => "skipped",
    }
}

const fn on_error_word(policy: v1::OnError) -> &'static str {
    match policy {
        v1::OnError::Unspecified => "unknown",
        v1::OnError::Pause => "pause",
        v1::OnError::Quarantine => "quarantine",
        v1::OnError::Skip => "skip",
    }
}

fn collection(info: &v1::CollectionInfo) -> Collection<'_> {
    Collection {
        name: &info.name,
        documents: info.documents,
        indexes: &info.indexes,
        incomplete: info.incomplete,
    }
}

/// A state in one word, as the documentation calls it.
pub const fn state_word(state: v1::VersionState) -> &'static str {
    match state {
        v1::VersionState::Unspecified => "unknown",
        v1::VersionState::Building => "building",
        v1::VersionState::CatchingUp => "catching_up",
        v1::VersionState::Ready => "ready",
        v1::VersionState::Active => "active",
        v1::VersionState::Standby => "standby",
        v1::VersionState::Retired => "retired",
        v1::VersionState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cli::text::to_line;

    #[test]
    fn an_event_is_one_line_with_its_data_as_json() {
        let recorded = v1::Event {
            position: 7,
            id: Bytes::from(vec![1; 16]),
            r#type: "a.b".into(),
            stream: "s".into(),
            revision: 2,
            tags: vec!["t".into()],
            data: Bytes::from_static(b"{\n \"n\": 1.10\n}"),
            metadata: None,
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            recorded_at: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            origin: None,
        };
        assert_eq!(
            to_line(&event(&recorded)),
            concat!(
                r#"{"position":7,"id":"01010101-0101-0101-0101-010101010101","type":"a.b","stream":"s","#,
                r#""revision":2,"tags":["t"],"data":{"n":1.10},"#,
                r#""time":"1970-01-01T00:00:00Z","recorded_at":"1970-01-01T00:00:01.5Z"}"#
            )
        );
    }

    #[test]
    fn a_document_keeps_its_key_and_text() {
        let stored = v1::Document {
            key: Some(crate::cli::text::parse_key(r#"["JFK","LAX"]"#).unwrap()),
            value: Bytes::from_static(b"{\"n\":30}"),
            position: 9,
        };
        assert_eq!(to_line(&document(&stored)), r#"{"key":["JFK","LAX"],"value":{"n":30},"position":9}"#);
    }
}
