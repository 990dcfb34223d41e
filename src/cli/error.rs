//! How a command ends badly: what stands on stderr, and an exit code.
//!
//! Owns the way from a gRPC status with its google.rpc details to one line that says what, why and what to do (further
//! failed conditions follow, a line each), or to one JSON object for programs. Exit codes: 0 for a reader that closed our output, 1 for what was refused or failed, 2 for usage.

use std::{collections::BTreeMap, fmt::Write as _, io};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{render, text::to_line};
use crate::{api::proto::v1::Failure, config::ConfigError, event::Invalid};

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line cannot mean anything.
    #[error("{0}")]
    Usage(String),
    /// It was refused, or it failed.
    #[error("{0}")]
    Failed(String),
    /// The node refused it.
    #[error("{}", describe(.0))]
    Refused(Box<Status>),
    /// Whoever read our output had enough.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// What the process exits with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) | Self::Refused(_) => 1,
            Self::Usage(_) => 2,
        }
    }

    /// A usage error about one argument.
    pub fn usage(argument: &str, Invalid(reason): &Invalid) -> Self {
        Self::Usage(format!("{argument}: {reason}"))
    }

    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// For people: one line, and a line each for further conditions of an append that failed.
    pub fn lines(&self) -> String {
        match self {
            Self::Refused(status) => {
                let others = conditions_unsaid(status);
                let others = others.iter().map(|other| format!("\n  also: {other}"));
                format!("error: {}{}", sentence(status, &[]), others.collect::<String>())
            }
            other => format!("error: {}", one_line(&other.to_string())),
        }
    }

    /// For programs: one JSON object on one line, `{"error": {"message": ..., ...}}`.
    pub fn json(&self) -> String {
        match self {
            Self::Refused(status) => to_line(&BTreeMap::from([("error", render::refusal(status))])),
            other => {
                let message = BTreeMap::from([("message", one_line(&other.to_string()))]);
                to_line(&BTreeMap::from([("error", message)]))
            }
        }
    }
}

/// Texts of others, a configuration's say, may have line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Errors of writing to standard output; all other I/O is described where it happens.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Failed(format!("cannot write to standard output: {error}"))
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        if error.is_usage() { Self::Usage(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// The status that a unary call would have ended with.
pub fn status_of(failure: Failure) -> Status {
    let code = Code::from_i32(failure.code);
    let details = tonic_types::Status {
        code: failure.code,
        message: failure.message.clone(),
        details: failure.details,
    };
    Status::with_details(code, failure.message, details.encode_to_vec().into())
}

/// The reason (`UPPER_SNAKE`) that the status carries, or else its code.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| code_name(status.code()).to_owned(), |info| info.reason)
}

/// One line: what went wrong, in which field, when to try again, and the reason.
pub fn describe(status: &Status) -> String {
    sentence(status, &conditions_unsaid(status))
}

/// The one line, with these conditions in it.
fn sentence(status: &Status, conditions: &[String]) -> String {
    let details = status.get_error_details();
    let mut line = message(status);
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice());
    for violation in fields.unwrap_or_default() {
        if !says(&line, &violation.field, &violation.description) {
            let _fits = write!(line, "; {}", about(&violation.field, &violation.description));
        }
    }
    for condition in conditions {
        let _fits = write!(line, "; {condition}");
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _fits = write!(line, "; try again in {} ms", delay.as_millis());
    }
    match status.code() {
        Code::Unauthenticated => line.push_str("; pass --token or set OUTRIGGER_TOKEN"),
        Code::Unimplemented => line.push_str("; is this an Outrigger node of the same version?"),
        _ => {}
    }
    let _fits = write!(line, " ({})", reason(status));
    one_line(&line)
}

fn message(status: &Status) -> String {
    let message = status.message().trim();
    if message.is_empty() { code_name(status.code()).to_lowercase() } else { message.to_owned() }
}

/// Of several failed conditions, those that the message does not name already.
fn conditions_unsaid(status: &Status) -> Vec<String> {
    let message = message(status);
    let failure = status.get_details_precondition_failure();
    let violations = failure.map(|failure| failure.violations).unwrap_or_default();
    if violations.len() < 2 {
        return Vec::new();
    }
    let unsaid = violations.iter().filter(|at| !says(&message, &at.subject, &at.description));
    unsaid.map(|at| one_line(&about(&at.subject, &at.description))).collect()
}

fn says(line: &str, subject: &str, description: &str) -> bool {
    line.contains(description) && line.contains(subject)
}

/// What is wrong with a subject, which many descriptions name themselves.
fn about(subject: &str, description: &str) -> String {
    if description.contains(subject) { description.to_owned() } else { format!("{subject}: {description}") }
}

/// The status code's name in the protocol.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, PreconditionViolation};

    use super::*;

    fn check(code: Code, message: &str, details: ErrorDetails, expected: &str) {
        let status = Status::with_error_details(code, message, details);
        assert_eq!(describe(&status), expected);
    }

    #[test]
    fn a_status_becomes_one_line() {
        check(Code::NotFound, "no such document", ErrorDetails::new(), "no such document (NOT_FOUND)");
        check(Code::Internal, "", ErrorDetails::new(), "internal (INTERNAL)");
        let mut details =
            ErrorDetails::with_bad_request_violation("events[3].type", "expected some text, found none");
        details.set_error_info("INVALID_EVENT", "outrigger", std::collections::HashMap::new());
        check(
            Code::InvalidArgument,
            "the request\nis wrong",
            details,
            "the request is wrong; events[3].type: expected some text, found none (INVALID_EVENT)",
        );
        check(
            Code::ResourceExhausted,
            "busy",
            ErrorDetails::with_retry_info(Some(Duration::from_millis(50))),
            "busy; try again in 50 ms (RESOURCE_EXHAUSTED)",
        );
    }

    #[test]
    fn failed_conditions_have_a_line_each_and_are_facts_for_programs() {
        let mut details = ErrorDetails::with_precondition_failure(vec![
            PreconditionViolation::new("EXPECTED_REVISION", "s", "stream \"s\" is at revision 1"),
            PreconditionViolation::new("EVENTS_MATCH", "fail_if_events_match[0]", "position 7 matches"),
        ]);
        details.set_error_info(
            "CONDITION_FAILED",
            "outrigger",
            std::collections::HashMap::from([("match_position".to_owned(), "7".to_owned())]),
        );
        let message = "2 conditions failed, the first: stream \"s\" is at revision 1";
        let error = CliError::from(Status::with_error_details(Code::Aborted, message, details));
        assert_eq!(
            error.lines(),
            format!(
                "error: {message} (CONDITION_FAILED)\n  also: fail_if_events_match[0]: position 7 matches"
            )
        );
        let json: serde_json::Value = serde_json::from_str(&error.json()).unwrap();
        assert_eq!(
            json["error"],
            serde_json::json!({
                "code": "ABORTED",
                "reason": "CONDITION_FAILED",
                "message": message,
                "metadata": { "match_position": "7" },
                "violations": [
                    { "type": "EXPECTED_REVISION", "subject": "s", "description": "stream \"s\" is at revision 1" },
                    { "type": "EVENTS_MATCH", "subject": "fail_if_events_match[0]", "description": "position 7 matches" },
                ],
            })
        );
        assert_eq!(CliError::failed("a\nb").lines(), "error: a b");
        assert_eq!(CliError::failed("a\nb").json(), r#"{"error":{"message":"a b"}}"#);
    }

    #[test]
    fn what_the_message_says_is_not_said_again() {
        check(
            Code::InvalidArgument,
            "limit: expected 1 or more, found 0",
            ErrorDetails::with_bad_request_violation("limit", "expected 1 or more, found 0"),
            "limit: expected 1 or more, found 0 (INVALID_ARGUMENT)",
        );
    }

    #[test]
    fn a_failure_of_a_stream_is_the_status_of_a_unary_call() {
        let mut details = ErrorDetails::new();
        details.set_error_info("ID_REUSED", "outrigger", std::collections::HashMap::new());
        let unary = Status::with_error_details(Code::AlreadyExists, "known id", details);
        let decoded = tonic_types::Status::decode(unary.details()).unwrap();
        let failure = Failure {
            code: Code::AlreadyExists as i32,
            message: "known id".into(),
            reason: "ID_REUSED".into(),
            details: decoded.details,
        };
        let status = status_of(failure);
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(reason(&status), "ID_REUSED");
        assert_eq!(describe(&status), "known id (ID_REUSED)");
    }
}
