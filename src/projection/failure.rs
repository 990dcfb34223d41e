//! What happens when an event cannot be applied: the policies, and a failure in words and in parts.
//!
//! Owns the form in which failures are kept. Invariants: a failure of the same event in the same state reads the same, so
//! that a rebuild keeps the same; its texts are bounded. Does not know who failed (a definition, an index, a handler),
//! or how a policy is carried out (`ledger`, `runner`).

use std::fmt;

pub use crate::mapping::OnError;
use crate::{
    event::{Invalid, Position},
    json::{Json, Object},
    kv::KvError,
    limits::FAILURE_TEXT_BYTES_MAX,
    projection::{batch::BatchError, declarative::ApplyError},
};

/// Why an event was not applied. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// All of it, in one line.
    pub message: String,
    /// The step among those of the event's type, from 1, if it was one.
    pub step: Option<u64>,
    /// The step's line in the definition file, from 1.
    pub line: Option<u64>,
    /// The expression that failed, if it was one.
    pub expression: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// A failure without parts, such as one that a handler answers with.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: cut(message.into()), ..Self::default() }
    }

    /// What an event failed with; an error of the file is none of the event's.
    pub(crate) fn of(error: BatchError) -> Result<Self, KvError> {
        match error {
            BatchError::Apply(ApplyError::Event(fault)) => Ok(Self {
                message: cut(fault.to_string()),
                step: Some(fault.step as u64),
                line: Some(fault.line as u64),
                expression: fault.expression.map(cut),
            }),
            BatchError::Apply(ApplyError::Store(failure)) => Err(match failure.downcast::<KvError>() {
                Ok(error) => *error,
                Err(failure) => KvError::Io(failure.to_string()),
            }),
            error @ (BatchError::Apply(ApplyError::Content(_)) | BatchError::Index { .. }) => {
                Ok(Self::new(error.to_string()))
            }
        }
    }

    /// The form in which it is kept.
    pub(crate) fn to_json(&self) -> Json {
        let mut object = Object::new();
        object.insert("message", Json::Text(self.message.as_str().into()));
        for (name, number) in [("step", self.step), ("line", self.line)] {
            if let Some(number) = number {
                object.insert(name, Json::Int(number as i64));
            }
        }
        if let Some(expression) = &self.expression {
            object.insert("expression", Json::Text(expression.as_str().into()));
        }
        Json::Object(object)
    }

    /// Reads what `to_json` made.
    pub(crate) fn from_json(json: &Json) -> Result<Self, Invalid> {
        let invalid = || Invalid(format!("expected a failure with its message, found {json}"));
        let Json::Object(object) = json else {
            return Err(invalid());
        };
        let text = |name: &str| match object.get(name) {
            Some(Json::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        let number = |name: &str| match object.get(name) {
            Some(Json::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        Ok(Self {
            message: text("message").ok_or_else(invalid)?,
            step: number("step"),
            line: number("line"),
            expression: text("expression"),
        })
    }
}

/// One line within the bound.
fn cut(text: String) -> String {
    let mut text = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text };
    if text.len() > FAILURE_TEXT_BYTES_MAX {
        let mut end = FAILURE_TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}

/// Where a version stands still, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The event that it does not get past.
    pub position: Position,
    /// Why.
    pub failure: Failure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_kept_as_they_are_and_within_their_bound() {
        let failure = Failure {
            message: "step 1 of t (line 6), value.n: no number".into(),
            step: Some(1),
            line: Some(6),
            expression: Some("data.n".into()),
        };
        for failure in [failure, Failure::new("it just does not work")] {
            let kept = failure.to_json().to_string();
            let read = Failure::from_json(&Json::parse(kept.as_bytes()).unwrap()).unwrap();
            assert_eq!(read, failure);
        }
        assert!(Failure::from_json(&Json::Int(1)).is_err());
        let long = Failure::new("ä\n".repeat(FAILURE_TEXT_BYTES_MAX));
        assert!(long.message.len() <= FAILURE_TEXT_BYTES_MAX + 4 && long.message.ends_with(" ..."));
        assert!(!long.message.contains('\n'), "one line");
    }
}
