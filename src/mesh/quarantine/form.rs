//! How the log tells of events that were set aside: system events of the stream `$import-NAME.unmapped`.
//!
//! `$import.quarantined` holds an event whole, as its owner published it, with the names from which ids are derived, so that
//! it can be mapped later without the owner. `$import.failed_again`, `$import.unparked` and `$import.dropped` say what became of
//! it. Invariants: each carries the origin of the public event; types that a newer program wrote are passed over. Pure.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ImportError, ImportErrorKind, Key};
use crate::{
    event::{Event, EventId, EventType, Invalid, Origin, Position, RecordedEvent, StreamId, Tag},
    events::EventsError,
    limits::FAILURE_TEXT_BYTES_MAX,
    mesh::{
        decisions::{system_event, unmapped_stream},
        envelope::PublicEvent,
    },
};

const QUARANTINED: &str = "$import.quarantined";
const FAILED_AGAIN: &str = "$import.failed_again";
const UNPARKED: &str = "$import.unparked";
const DROPPED: &str = "$import.dropped";

/// What an event of the stream says.
#[derive(Debug)]
pub enum Aside {
    /// An event is parked.
    Parked {
        /// The owner's public stream.
        stream: StreamId,
        /// It could not be mapped; else it waits.
        is_failed: bool,
        /// Where the owner has it: log, epoch and position.
        key: Key,
    },
    /// One was tried again and fails still.
    FailedAgain {
        /// Where it was parked.
        parked_at: Position,
    },
    /// One is parked no longer.
    Left {
        /// Where it was parked.
        parked_at: Position,
        /// Somebody decided to pass it by; else it was applied.
        is_skipped: bool,
    },
    /// One was passed by without being parked.
    PassedBy,
    /// Nothing that this program knows.
    Unknown,
}

/// A parked event with all that it takes to map it later.
#[derive(Debug)]
pub struct ParkedEvent {
    /// As its owner published it.
    pub event: PublicEvent,
    /// Where it came from.
    pub origin: Origin,
    /// The name under which ids of what comes of it are derived.
    pub ids: String,
    /// Why it could not be mapped; none: it waits for those before it.
    pub error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Quarantined {
    import: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    ids: String,
    id: String,
    r#type: String,
    stream: String,
    tags: Vec<String>,
    time_unix_nanos: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    data: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Again {
    import: String,
    parked_at: u64,
    error: String,
}

#[derive(Serialize, Deserialize)]
struct Left {
    import: String,
    parked_at: u64,
    outcome: Outcome,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Applied,
    Skipped,
}

#[derive(Serialize, Deserialize)]
struct Dropped {
    import: String,
    error: String,
    id: String,
    r#type: String,
    stream: String,
    tags: Vec<String>,
    #[serde(default)]
    is_decided: bool,
}

/// The event that parks a public one; `error` is why it cannot be mapped, none where it waits for those before it.
pub fn parked(id: EventId, import: &str, ids: &str, public: &PublicEvent, error: Option<&str>) -> Event {
    let data =
        serde_json::from_slice(&public.data).expect("published data were checked to be one JSON value");
    let quarantined = Quarantined {
        import: import.to_owned(),
        error: error.map(cut),
        ids: ids.to_owned(),
        id: public.id.to_string(),
        r#type: public.event_type.as_str().to_owned(),
        stream: public.stream.as_str().to_owned(),
        tags: texts(&public.tags),
        time_unix_nanos: public.time_unix_nanos,
        trace: public.trace.clone(),
        data,
    };
    system_event(id, QUARANTINED, unmapped_stream(import), &quarantined)
}

/// The event that says that a parked one was tried again and fails still.
pub fn failed_again(id: EventId, import: &str, parked_at: Position, error: &str) -> Event {
    let again = Again { import: import.to_owned(), parked_at: parked_at.get(), error: cut(error) };
    system_event(id, FAILED_AGAIN, unmapped_stream(import), &again)
}

/// The event that says that one is parked no longer.
pub fn unparked(id: EventId, import: &str, parked_at: Position, is_skipped: bool) -> Event {
    let outcome = if is_skipped { Outcome::Skipped } else { Outcome::Applied };
    let left = Left { import: import.to_owned(), parked_at: parked_at.get(), outcome };
    system_event(id, UNPARKED, unmapped_stream(import), &left)
}

/// The event that stands for a public one that was passed by; its data are not kept.
pub fn passed_by(id: EventId, import: &str, public: &PublicEvent, error: &str, is_decided: bool) -> Event {
    let dropped = Dropped {
        import: import.to_owned(),
        error: cut(error),
        id: public.id.to_string(),
        r#type: public.event_type.as_str().to_owned(),
        stream: public.stream.as_str().to_owned(),
        tags: texts(&public.tags),
        is_decided,
    };
    system_event(id, DROPPED, unmapped_stream(import), &dropped)
}

impl Aside {
    /// Reads an event of the stream.
    pub fn read(recorded: &RecordedEvent) -> Result<Self, Invalid> {
        match recorded.event.event_type.as_str() {
            QUARANTINED => {
                let Origin { log_id, epoch, position, .. } = *origin_of(recorded)?;
                let kept: Quarantined = data_of(recorded)?;
                Ok(Self::Parked {
                    stream: StreamId::parse(&kept.stream)?,
                    is_failed: kept.error.is_some(),
                    key: (log_id, epoch, position),
                })
            }
            FAILED_AGAIN => {
                let again: Again = data_of(recorded)?;
                Ok(Self::FailedAgain { parked_at: Position::new(again.parked_at) })
            }
            UNPARKED => {
                let Left { parked_at, outcome, .. } = data_of(recorded)?;
                let is_skipped = outcome == Outcome::Skipped;
                Ok(Self::Left { parked_at: Position::new(parked_at), is_skipped })
            }
            DROPPED => Ok(Self::PassedBy),
            _ => Ok(Self::Unknown),
        }
    }
}

impl ParkedEvent {
    /// Reads the event that parks it.
    pub fn read(recorded: &RecordedEvent) -> Result<Self, Invalid> {
        let origin = origin_of(recorded)?.clone();
        let kept: Quarantined = data_of(recorded)?;
        let tags: Result<Vec<Tag>, Invalid> = kept.tags.iter().map(|tag| Tag::parse(tag)).collect();
        let event = PublicEvent {
            id: origin.id,
            event_type: EventType::parse(&kept.r#type)?,
            stream: StreamId::parse(&kept.stream)?,
            tags: tags?,
            time_unix_nanos: kept.time_unix_nanos,
            data: Bytes::from(Box::<str>::from(kept.data).into_boxed_bytes()),
            trace: kept.trace,
        };
        Ok(Self { event, origin, ids: kept.ids, error: kept.error })
    }
}

/// What an event that failed again failed with.
pub(super) fn error_of(recorded: &RecordedEvent) -> Option<String> {
    data_of::<Again>(recorded).ok().map(|again| again.error)
}

/// An event that was passed by: dropped at once, or parked before.
pub(super) fn passed_error(
    recorded: &RecordedEvent,
    event: impl Fn(Position) -> Result<RecordedEvent, EventsError>,
) -> Result<ImportError, EventsError> {
    let (position, at) = (origin_of(recorded)?.position, recorded.position);
    let error = |event, error, is_decided| {
        let error = Some(error).filter(|error: &String| !error.is_empty());
        Ok(ImportError { kind: ImportErrorKind::Skipped, position, at, event, error, is_decided })
    };
    if recorded.event.event_type.as_str() == DROPPED {
        let dropped: Dropped = data_of(recorded)?;
        let tags: Result<Vec<Tag>, Invalid> = dropped.tags.iter().map(|tag| Tag::parse(tag)).collect();
        let event = PublicEvent {
            id: origin_of(recorded)?.id,
            event_type: EventType::parse(&dropped.r#type)?,
            stream: StreamId::parse(&dropped.stream)?,
            tags: tags?,
            time_unix_nanos: 0,
            data: Bytes::new(),
            trace: None,
        };
        return error(Some(event), dropped.error, dropped.is_decided);
    }
    let left: Left = data_of(recorded)?;
    let kept = ParkedEvent::read(&event(Position::new(left.parked_at))?)?;
    error(Some(kept.event), kept.error.unwrap_or_default(), true)
}

fn data_of<T: for<'de> Deserialize<'de>>(recorded: &RecordedEvent) -> Result<T, Invalid> {
    let read = serde_json::from_slice(&recorded.event.data);
    read.map_err(|error| Invalid(format!("{}: {error}", recorded.event.event_type)))
}

fn origin_of(recorded: &RecordedEvent) -> Result<&Origin, Invalid> {
    let missing = || Invalid(format!("{}: it has no origin", recorded.event.event_type));
    recorded.origin.as_deref().ok_or_else(missing)
}

fn texts(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(|tag| tag.as_str().to_owned()).collect()
}

/// A message of bounded length.
fn cut(message: &str) -> String {
    let mut end = message.len().min(FAILURE_TEXT_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}
