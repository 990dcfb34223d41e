//! The forms of decisions: system events `$projection.*` in the stream `$projection-NAME`.
//!
//! Owns names and fields of these events. Types that a newer program wrote are passed over. Does not know what follows from
//! a decision.

use bytes::Bytes;

use crate::{
    event::{Event, EventId, EventType, Invalid, Position, StreamId},
    json::{Json, Object},
    projection::{
        page::{hex, unhex},
        versions::Change,
    },
};

pub(super) const EVENT_SKIPPED: &str = "$projection.event_skipped";
pub(super) const RETRIED: &str = "$projection.retried";
pub(super) const PROMOTED: &str = "$projection.promoted";
pub(super) const ROLLED_BACK: &str = "$projection.rolled_back";
pub(super) const RETIRED: &str = "$projection.retired";
pub(super) const RESTORED: &str = "$projection.restored";

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// An event that could not be applied is passed by for good.
    EventSkipped {
        /// The version that does not apply it. `None`: every version that cannot.
        version: Option<u32>,
        /// The event.
        position: Position,
        /// Why, in a person's words; may be empty.
        reason: String,
    },
    /// A version applies its parked events, late, when it comes to this decision.
    Retried {
        /// The version.
        version: u32,
        /// Why, in a person's words; may be empty.
        reason: String,
    },
    /// Another version is to be active from this decision's own position on, or a version goes or comes back.
    Versions {
        /// What changes.
        change: Change,
        /// Why, in a person's words; may be empty.
        reason: String,
    },
}

impl Decision {
    /// What an event says; `None` if it is no decision that this program knows.
    pub fn read(event: &Event) -> Result<Option<Self>, Invalid> {
        let event_type = event.event_type.as_str();
        if !matches!(event_type, EVENT_SKIPPED | RETRIED | PROMOTED | ROLLED_BACK | RETIRED | RESTORED) {
            return Ok(None);
        }
        let Json::Object(data) = Json::parse(&event.data)? else {
            return Err(Invalid(format!("the data of {event_type}: expected an object")));
        };
        let fields = Fields { event_type, data };
        let reason = match fields.data.get("reason") {
            Some(Json::Text(reason)) => reason.to_string(),
            _ => String::new(),
        };
        let change = match event_type {
            EVENT_SKIPPED => {
                let (version, position) = (fields.version("version")?, fields.number("position", u64::MAX)?);
                let position = Position::new(position.ok_or_else(|| fields.missing("position"))?);
                return Ok(Some(Self::EventSkipped { version, position, reason }));
            }
            RETRIED => return Ok(Some(Self::Retried { version: fields.required("version")?, reason })),
            PROMOTED => {
                Change::Promote { version: fields.required("version")?, from: fields.version("from")? }
            }
            ROLLED_BACK => {
                Change::RollBack { version: fields.required("version")?, from: fields.required("from")? }
            }
            RETIRED => Change::Retire {
                version: fields.required("version")?,
                definition_hash: fields.hash("definition_hash")?,
                active: fields.required("active")?,
            },
            _ => Change::Restore { version: fields.required("version")? },
        };
        Ok(Some(Self::Versions { change, reason }))
    }

    /// The event that says so.
    pub fn to_event(&self, projection: &str, id: EventId) -> Event {
        let mut data = Object::new();
        let number = |number: u32| Json::Int(i64::from(number));
        let (event_type, version, reason) = match self {
            Self::EventSkipped { version, position, reason } => {
                data.insert("position", Json::Int(position.get() as i64));
                (EVENT_SKIPPED, *version, reason)
            }
            Self::Retried { version, reason } => (RETRIED, Some(*version), reason),
            Self::Versions { change, reason } => {
                let (event_type, version) = match change {
                    Change::Promote { version, from } => {
                        if let Some(from) = from {
                            data.insert("from", number(*from));
                        }
                        (PROMOTED, version)
                    }
                    Change::RollBack { version, from } => {
                        data.insert("from", number(*from));
                        (ROLLED_BACK, version)
                    }
                    Change::Retire { version, definition_hash, active } => {
                        data.insert("definition_hash", Json::Text(hex(definition_hash).into()));
                        data.insert("active", number(*active));
                        (RETIRED, version)
                    }
                    Change::Restore { version } => (RESTORED, version),
                };
                (event_type, Some(*version), reason)
            }
        };
        if let Some(version) = version {
            data.insert("version", number(version));
        }
        if !reason.is_empty() {
            data.insert("reason", Json::Text(reason.as_str().into()));
        }
        Event {
            id,
            event_type: EventType::parse_any(event_type).expect("the types of decisions are valid"),
            stream: stream_of(projection),
            tags: Vec::new(),
            data: Bytes::from(Json::Object(data).to_string()),
            metadata: None,
            time_unix_nanos: None,
        }
    }
}

/// The fields of a decision's data.
struct Fields<'e> {
    event_type: &'e str,
    data: Object,
}

impl Fields<'_> {
    fn missing(&self, field: &str) -> Invalid {
        Invalid(format!("the data of {}: expected {field}", self.event_type))
    }

    fn number(&self, field: &str, max: u64) -> Result<Option<u64>, Invalid> {
        let event_type = self.event_type;
        match self.data.get(field) {
            None => Ok(None),
            Some(Json::Int(found)) => match u64::try_from(*found).ok().filter(|found| *found <= max) {
                Some(found) => Ok(Some(found)),
                None => Err(Invalid(format!("the data of {event_type}: {field} is out of range: {found}"))),
            },
            Some(found) => {
                Err(Invalid(format!("the data of {event_type}: expected a number as {field}, found {found}")))
            }
        }
    }

    fn version(&self, field: &str) -> Result<Option<u32>, Invalid> {
        Ok(self.number(field, u64::from(u32::MAX))?.map(|version| version as u32))
    }

    fn required(&self, field: &str) -> Result<u32, Invalid> {
        self.version(field)?.ok_or_else(|| self.missing(field))
    }

    fn hash(&self, field: &str) -> Result<[u8; 32], Invalid> {
        let bytes = match self.data.get(field) {
            Some(Json::Text(text)) => unhex(text),
            _ => None,
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| self.missing(field))
    }
}

/// The stream that holds the decisions about a projection.
pub fn stream_of(projection: &str) -> StreamId {
    StreamId::parse_any(&format!("$projection-{projection}"))
        .expect("names of projections are short and plain")
}
