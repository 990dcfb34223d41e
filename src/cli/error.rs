//! How a command ends badly: one line on stderr and an exit code.
//!
//! Owns the way from a gRPC status with its google.rpc details to one line that says what, why and what to do. Exit
//! codes: 0 for a reader that closed our output, 1 for what was refused or failed, 2 for usage.

use std::{fmt::Write as _, io};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

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
    /// Whoever read our output had enough.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// What the process exits with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
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
        Self::Failed(describe(&status))
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
    let details = status.get_error_details();
    let mut line = status.message().trim().to_owned();
    if line.is_empty() {
        code_name(status.code()).to_lowercase().clone_into(&mut line);
    }
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice());
    for violation in fields.unwrap_or_default() {
        add(&mut line, &violation.field, &violation.description);
    }
    let preconditions = details.precondition_failure().map(|failure| failure.violations.as_slice());
    for violation in preconditions.unwrap_or_default() {
        add(&mut line, &violation.subject, &violation.description);
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
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds what the message does not say already.
fn add(line: &mut String, subject: &str, description: &str) {
    if line.contains(description) && line.contains(subject) {
        return;
    }
    let _fits = write!(line, "; {subject}: {description}");
}

const fn code_name(code: Code) -> &'static str {
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

    use tonic_types::ErrorDetails;

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
