//! An entry of the ledger, and its stored form.
//!
//! Owns the form: one JSON object, `{"parked": STREAM, "type": TYPE, "failure"?}` or `{"skipped": {"failure"?,
//! "decided_at"?, "reason"?}}`. Fields that a newer program adds are passed over. Does not know tables.

use crate::{
    event::{EventType, Invalid, Position, StreamId},
    json::{Json, Object},
    kv::KvError,
    projection::{decisions, failure::Failure},
};

/// One event that a version set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It is not applied yet.
    Parked {
        /// Its stream.
        stream: StreamId,
        /// Its type.
        event_type: EventType,
        /// Why it could not be applied; `None`: it waits behind the first parked event of its stream.
        failure: Option<Failure>,
    },
    /// It was passed by for good.
    Skipped(Skipped),
}

/// Why an event was passed by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Why it could not be applied; `None`: it was not tried, because of the decision.
    pub failure: Option<Failure>,
    /// Where the decision to skip it stands; `None`: the version's policy says so.
    pub decided_at: Option<Position>,
    /// The decision's reason; may be empty.
    pub reason: String,
}

impl Skipped {
    /// By the version's policy.
    pub(crate) fn by_policy(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// By a decision.
    pub(crate) fn by(skip: &decisions::Skip, failure: Option<Failure>) -> Self {
        Self { failure, decided_at: Some(skip.decided_at), reason: skip.reason.clone() }
    }
}

impl Entry {
    pub(super) fn encode(&self) -> String {
        let mut object = Object::new();
        let with_failure = |object: &mut Object, failure: &Option<Failure>| {
            if let Some(failure) = failure {
                object.insert("failure", failure.to_json());
            }
        };
        match self {
            Self::Parked { stream, event_type, failure } => {
                object.insert("parked", Json::Text(stream.as_str().into()));
                object.insert("type", Json::Text(event_type.as_str().into()));
                with_failure(&mut object, failure);
            }
            Self::Skipped(Skipped { failure, decided_at, reason }) => {
                let mut skipped = Object::new();
                with_failure(&mut skipped, failure);
                if let Some(decided_at) = decided_at {
                    skipped.insert("decided_at", Json::Int(decided_at.get() as i64));
                }
                if !reason.is_empty() {
                    skipped.insert("reason", Json::Text(reason.as_str().into()));
                }
                object.insert("skipped", Json::Object(skipped));
            }
        }
        Json::Object(object).to_string()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, KvError> {
        let read = || -> Result<Self, Invalid> {
            let unknown = || Invalid("expected a parked or a skipped event".into());
            let Json::Object(object) = Json::parse_stored(bytes)? else {
                return Err(unknown());
            };
            let failure = |object: &Object| object.get("failure").map(Failure::from_json).transpose();
            match (object.get("parked"), object.get("type"), object.get("skipped")) {
                (Some(Json::Text(stream)), Some(Json::Text(event_type)), None) => Ok(Self::Parked {
                    stream: StreamId::parse_any(stream)?,
                    event_type: EventType::parse_any(event_type)?,
                    failure: failure(&object)?,
                }),
                (None, _, Some(Json::Object(skipped))) => Ok(Self::Skipped(Skipped {
                    failure: failure(skipped)?,
                    decided_at: match skipped.get("decided_at") {
                        Some(Json::Int(at)) => Some(Position::new(*at as u64)),
                        _ => None,
                    },
                    reason: match skipped.get("reason") {
                        Some(Json::Text(reason)) => reason.to_string(),
                        _ => String::new(),
                    },
                })),
                _ => Err(unknown()),
            }
        };
        read().map_err(|error| KvError::Damaged(format!("an entry of its ledger: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: &Entry, form: &str) {
        assert_eq!(entry.encode(), form);
        assert_eq!(&Entry::decode(form.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn entries_have_the_form_they_always_had() {
        let failure = Failure { step: Some(1), line: Some(6), ..Failure::new("no number") };
        let parked = |failure| Entry::Parked {
            stream: StreamId::parse("s 1").unwrap(),
            event_type: EventType::parse("t.u").unwrap(),
            failure,
        };
        check(&parked(None), r#"{"parked":"s 1","type":"t.u"}"#);
        let form = r#"{"line":6,"message":"no number","step":1}"#;
        check(
            &parked(Some(failure.clone())),
            &format!(r#"{{"failure":{form},"parked":"s 1","type":"t.u"}}"#),
        );
        let skipped = |skipped| Entry::Skipped(skipped);
        check(&skipped(Skipped::by_policy(failure)), &format!(r#"{{"skipped":{{"failure":{form}}}}}"#));
        let decision = decisions::Skip { decided_at: Position::new(9), reason: "known".into() };
        check(&skipped(Skipped::by(&decision, None)), r#"{"skipped":{"decided_at":9,"reason":"known"}}"#);
    }

    #[test]
    fn other_bytes_are_damage() {
        for other in ["", "1", "{}", r#"{"parked":"s"}"#, r#"{"parked":"","type":"t"}"#] {
            let refused = Entry::decode(other.as_bytes()).unwrap_err();
            assert!(refused.to_string().contains("an entry of its ledger"), "{other}: {refused}");
        }
    }
}
