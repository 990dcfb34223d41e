//! The only way out: how every refusal becomes a gRPC status with google.rpc details.
//!
//! Invariants: each status carries an `ErrorInfo` with an `UPPER_SNAKE` reason; what names a field carries a
//! `BadRequest`; what a state refused carries a `PreconditionFailure`; what is worth repeating carries a `RetryInfo`.
//! Errors are told to the client here and logged nowhere else, but for those that are the node's own fault.

use std::{collections::HashMap, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use super::proto::v1;
use crate::{
    append::{AppendError, Expected, FailedCondition, FailedExpectation},
    events::{EventsError, history::TokenError},
    ownership::NotOwner,
};

const DOMAIN: &str = "outrigger";

/// A refusal on its way out. Boxed: it travels in the error branch of everything at the edge.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    reason: &'static str,
    message: String,
    fields: Vec<FieldViolation>,
    preconditions: Vec<PreconditionViolation>,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with its reason and its one line: what, where, what was expected, what to do.
    pub(crate) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            reason,
            message: message.into(),
            fields: Vec::new(),
            preconditions: Vec::new(),
            metadata: HashMap::new(),
            retry_after: None,
        }))
    }

    /// A field of the request is not what it should be. The message is built from both.
    pub(crate) fn field(reason: &'static str, field: impl Into<String>, what: impl fmt::Display) -> Self {
        let field = field.into();
        let what = what.to_string();
        let mut refusal = Self::new(Code::InvalidArgument, reason, format!("{field}: {what}"));
        refusal.0.metadata.insert("field".into(), field.clone());
        refusal.0.fields.push(FieldViolation::new(field, what));
        refusal
    }

    /// A field is over a limit.
    pub(crate) fn limit(
        field: impl Into<String>,
        limit: impl fmt::Display,
        actual: impl fmt::Display,
        unit: &str,
    ) -> Self {
        let what = format!("expected at most {limit} {unit}, found {actual}");
        Self::field("LIMIT_EXCEEDED", field, what).with("limit", limit).with("actual", actual)
    }

    /// An event is another node's to append.
    pub(crate) fn not_owner(index: usize, refused: NotOwner) -> Self {
        let field = refused.field.as_str();
        let refusal = Self::field("NOT_OWNER", format!("events[{index}].{field}"), &refused)
            .code(Code::PermissionDenied)
            .with(field, &refused.value);
        match &refused.owner {
            Some(owner) => refusal.with("owner", owner),
            None => refusal,
        }
    }

    /// A token names no point of this log's history.
    pub(crate) fn token(error: TokenError, field: &str) -> Self {
        match error {
            TokenError::OtherLog { .. } => Self::field("TOKEN_OF_OTHER_LOG", field, error),
            TokenError::StaleEpoch { end, .. } => {
                let what = format!("the epoch ends at position {end}");
                Self::new(
                    Code::Aborted,
                    "STALE_EPOCH",
                    format!("{field}: {error}; go on from position {end}"),
                )
                .precondition("EPOCH_HISTORY", field, what)
                .with("position", end)
            }
        }
    }

    /// Adds a fact that programs can read; of several of one name the first stands.
    pub(crate) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.metadata.entry(key.into()).or_insert_with(|| value.to_string());
        self
    }

    /// Says when repeating makes sense.
    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Its reason, `UPPER_SNAKE`.
    pub(crate) fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The same refusal under another code.
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// Adds a condition that does not hold.
    pub(crate) fn precondition(
        mut self,
        kind: &str,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        self.0.preconditions.push(PreconditionViolation::new(kind, subject, what));
        self
    }

    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.0.reason, DOMAIN, self.0.metadata.clone());
        if !self.0.fields.is_empty() {
            details.set_bad_request(self.0.fields.clone());
        }
        if !self.0.preconditions.is_empty() {
            details.set_precondition_failure(self.0.preconditions.clone());
        }
        if self.0.retry_after.is_some() {
            details.set_retry_info(self.0.retry_after);
        }
        details
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let details = refusal.details();
        Self::with_error_details(refusal.0.code, refusal.0.message, details)
    }
}

/// A refusal as the answer to one request of a stream: the status' details travel beside its code and message.
impl From<Refusal> for v1::Failure {
    fn from(refusal: Refusal) -> Self {
        let (code, reason, message) =
            (refusal.0.code as i32, refusal.0.reason.to_owned(), refusal.0.message.clone());
        let status = Status::from(refusal);
        let details = match <tonic_types::Status as prost::Message>::decode(status.details()) {
            Ok(status) => status.details,
            Err(_) => Vec::new(),
        };
        Self { code, message, reason, details }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let message = error.to_string();
        match error {
            AppendError::IdReused { index, position, field, .. } => {
                let message = format!("{message}; a repeated request must have the same content");
                Self::field("ID_REUSED", format!("events[{index}].id"), message)
                    .code(Code::AlreadyExists)
                    .with("position", position)
                    .with("differs", field)
            }
            AppendError::PartlyApplied { known } => {
                let start = Self::new(
                    Code::Aborted,
                    "PARTLY_APPLIED",
                    format!("{message}; set skip_existing to append the others"),
                );
                known.iter().fold(start, |refusal, (index, event)| {
                    let what = format!("the event {} is at position {}", event.id, event.position);
                    refusal.precondition("EVENT_EXISTS", format!("events[{index}]"), what)
                })
            }
            AppendError::ConditionsFailed(failed) => conditions_failed(&failed),
            AppendError::AfterBeyondHead { index, after, head } => {
                let what = format!("expected at most the head {head}, found {after}");
                Self::field("AFTER_BEYOND_HEAD", format!("fail_if_events_match[{index}].after"), what)
                    .code(Code::OutOfRange)
                    .with("head", head)
                    .with("actual", after)
            }
            AppendError::QueueFull { .. } => Self::new(
                Code::ResourceExhausted,
                "APPEND_QUEUE_FULL",
                format!("{message}; repeat a little later"),
            )
            .retry_after(Duration::from_millis(100)),
            AppendError::DiskFull(_) => Self::new(
                Code::ResourceExhausted,
                "DISK_FULL",
                format!("{message}; nothing was appended, reads go on; free space and repeat"),
            )
            .retry_after(Duration::from_secs(5)),
            AppendError::OutcomeUnknown(_) => Self::new(
                Code::Unavailable,
                "OUTCOME_UNKNOWN",
                format!("{message}; repeat with the same ids once the node is up again"),
            )
            .retry_after(Duration::from_secs(1)),
            AppendError::Unreadable(_) => Self::new(
                Code::Unavailable,
                "LOG_UNREADABLE",
                format!("{message}; nothing was appended; repeat"),
            )
            .retry_after(Duration::from_secs(1)),
            AppendError::LogRewound(_) => Self::new(Code::FailedPrecondition, "LOG_REWOUND", message),
            AppendError::Stopping => {
                Self::new(Code::Unavailable, "STOPPING", format!("{message}; nothing was appended; repeat"))
                    .retry_after(Duration::from_secs(1))
            }
        }
    }
}

/// Every failing condition is a violation; programs find the facts of the first of each kind in the metadata.
fn conditions_failed(failed: &[FailedCondition]) -> Refusal {
    let reason = match failed {
        [FailedCondition::Tracking { .. }] => "TRACKING_NOT_ADVANCED",
        _ => "CONDITION_FAILED",
    };
    let advice = match reason {
        "CONDITION_FAILED" => "read again and decide anew",
        _ => "what it was to append is handled already; go on behind the stored position",
    };
    let first = failed.first().map(condition_text).unwrap_or_default();
    let message = match failed.len() {
        1 => format!("a condition failed: {first}; {advice}"),
        count => format!("{count} conditions failed, the first: {first}; {advice}"),
    };
    let start = Refusal::new(Code::Aborted, reason, message);
    failed.iter().fold(start, |refusal, condition| {
        let what = condition_text(condition);
        match condition {
            FailedCondition::Stream(failed) => refusal
                .precondition("EXPECTED_REVISION", failed.expectation.stream.as_str(), what)
                .with("actual_revision", failed.actual)
                .with("position", failed.position),
            FailedCondition::Match { index, position, .. } => refusal
                .precondition("EVENTS_MATCH", format!("fail_if_events_match[{index}]"), what)
                .with("match_position", position),
            FailedCondition::Tracking { source, stored, .. } => {
                refusal.precondition("TRACKING", source.as_str(), what).with("stored_position", stored)
            }
        }
    })
}

fn condition_text(failed: &FailedCondition) -> String {
    match failed {
        FailedCondition::Stream(failed) => expectation_text(failed),
        FailedCondition::Match { index, after, position } => {
            let which = if after.get() == 0 { String::new() } else { format!(" behind position {after}") };
            format!(
                "fail_if_events_match[{index}]: expected no event{which} that matches, found one at position {position}"
            )
        }
        FailedCondition::Tracking { source, stored, requested } => format!(
            "tracking of {source:?}: expected a position above the stored {stored}, found {requested}"
        ),
    }
}

fn expectation_text(failed: &FailedExpectation) -> String {
    let stream = &failed.expectation.stream;
    let expected = match failed.expectation.expected {
        Expected::Revision(revision) => format!("at revision {revision}"),
        Expected::NoStream => "to have no event".into(),
        Expected::Exists => "to have an event".into(),
        Expected::Any => "in any state".into(),
    };
    match failed.actual.get() {
        0 => format!("stream {stream:?} was expected {expected} and has no event"),
        actual => {
            format!(
                "stream {stream:?} was expected {expected} and is at revision {actual} (position {})",
                failed.position
            )
        }
    }
}

impl From<EventsError> for Refusal {
    fn from(error: EventsError) -> Self {
        tracing::error!(%error, "events could not be read");
        let message = format!("events could not be read: {error}");
        match error {
            // The index is rebuilt from the log in the background.
            EventsError::Index(_) => {
                Self::new(Code::Unavailable, "INDEX_UNAVAILABLE", format!("{message}; repeat"))
                    .retry_after(Duration::from_secs(1))
            }
            _ => Self::new(Code::Internal, "LOG_UNREADABLE", message),
        }
    }
}
