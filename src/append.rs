//! Appending events: the way from a checked request to a durable, indexed, visible group.
//!
//! Owns the queue in front of the committer and the words in which appends succeed or fail. Invariants: the queue is
//! bounded in bytes and requests, and full means refused at once; every submitted request gets exactly one answer;
//! an answer that depends on state is given only when the state it was judged against is durable. Reading order:
//! here, `queue`, `decide` (pure), `facts` (what it judges by), `group`, `committer` (the thread). Does not know gRPC, segments or projections.

use crate::{
    event::{Event, EventId, ImportCursor, Origin, Position, Revision, Source, StreamId, Tracking},
    index::{Filter, QueryItem},
    trace::TraceContext,
};

pub mod boundary;
pub mod committer;
pub mod decide;
mod facts;
mod group;
mod queue;
mod traced;

pub use queue::{Appender, Intake};

/// Events to append, all or none; checked, ids unique within the request.
#[derive(Debug, Clone)]
pub struct Request {
    /// 1 to 1,000 events.
    pub events: Vec<Event>,
    /// All of these must hold; at most one for each stream.
    pub expectations: Vec<Expectation>,
    /// All of these must hold too; with the expectations at most 64.
    pub boundaries: Vec<Boundary>,
    /// Stored with the events; refused where it does not advance.
    pub tracking: Option<Tracking>,
    /// Append the events that are not known yet instead of refusing a partly known request.
    pub skip_existing: bool,
    /// What the position stored of the tracked source must be, exactly. No client can set it.
    pub tracked: Option<u64>,
    /// Where the events came from, one for each; empty where they begin here. No client can set it.
    pub origins: Vec<Origin>,
    /// In which trace it is appended.
    pub trace: Option<TraceContext>,
    /// How far an import comes with this request; stored with the last of its events. No client can set it.
    pub cursor: Option<Box<ImportCursor>>,
}

impl Request {
    /// A request without conditions.
    pub fn of(events: Vec<Event>) -> Self {
        Self {
            events,
            expectations: Vec::new(),
            boundaries: Vec::new(),
            tracking: None,
            skip_existing: false,
            tracked: None,
            origins: Vec::new(),
            trace: None,
            cursor: None,
        }
    }
}

/// A dynamic consistency boundary: no event behind a position may match a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// The query as a filter: 1 to 32 items and nothing else; never the system's own events.
    pub(crate) filter: Filter,
    /// Events up to here do not count.
    pub after: Position,
    /// Up to here, which is durable, nothing behind `after` matches; at least `after`.
    checked_upto: Position,
    /// The first event behind `after` that matches, if it was found; it is durable.
    broken_at: Option<Position>,
}

impl Boundary {
    /// A boundary of these items, of which each names a type or a tag.
    pub fn new(items: Vec<QueryItem>, after: Position) -> Self {
        let filter = Filter { query: items, ..Filter::default() };
        Self { filter, after, checked_upto: after, broken_at: None }
    }
}

/// What must hold of one stream before the request's own events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The stream.
    pub stream: StreamId,
    /// What is expected of it.
    pub expected: Expected,
}

/// What is expected of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Its last revision is this one.
    Revision(Revision),
    /// It has no event.
    NoStream,
    /// It has at least one event.
    Exists,
    /// Nothing.
    Any,
}

/// The request's events are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// One for each event of the request, in its order.
    pub events: Vec<AppendedEvent>,
    /// The highest of their positions.
    pub position: Position,
}

impl Appended {
    /// Whether nothing was appended because every event was known.
    pub fn already_applied(&self) -> bool {
        self.events.iter().all(|event| event.already_existed)
    }
}

/// Where one event of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedEvent {
    /// Its id.
    pub id: EventId,
    /// Its position.
    pub position: Position,
    /// Its revision in its stream.
    pub revision: Revision,
    /// It was in the log before this request.
    pub already_existed: bool,
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailedCondition {
    /// A stream is not at the revision expected.
    Stream(FailedExpectation),
    /// An event matches a query that none may match.
    Match {
        /// The index of the boundary in the request.
        index: usize,
        /// Events behind this position counted.
        after: Position,
        /// The first of those that match.
        position: Position,
    },
    /// A source's position would not advance.
    Tracking {
        /// The consumer's name for the source.
        source: Source,
        /// Its stored position.
        stored: u64,
        /// The position in the request.
        requested: u64,
    },
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedExpectation {
    /// What was expected.
    pub expectation: Expectation,
    /// The stream's last revision; `Revision::NONE` if it has no event.
    pub actual: Revision,
    /// The position of its last event; `Position::ZERO` if it has none.
    pub position: Position,
}

/// Why an append did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// An id is known with other content.
    #[error("event {index} has the id {id} of the event at position {position}, which has another {field}")]
    IdReused {
        /// The event's index in the request.
        index: usize,
        /// Its id.
        id: EventId,
        /// Where the id is.
        position: Position,
        /// What differs first: type, stream, tags, data or time.
        field: &'static str,
    },
    /// Some events are known, and the request does not say to skip them.
    #[error("{} of the request's events are in the log already, the first is event {} at position {}",
        known.len(), known[0].0, known[0].1.position)]
    PartlyApplied {
        /// The known ones with their index in the request; at least one.
        known: Vec<(usize, AppendedEvent)>,
    },
    /// Conditions do not hold.
    #[error("{} of the request's conditions failed", .0.len())]
    ConditionsFailed(Vec<FailedCondition>),
    /// A condition names a position that the log does not have yet.
    #[error("fail_if_events_match[{index}].after is {after}, and the log ends at position {head}")]
    AfterBeyondHead {
        /// The index of the boundary in the request.
        index: usize,
        /// What it names.
        after: Position,
        /// The log's last position.
        head: Position,
    },
    /// Too much waits for the committer.
    #[error("{queued_bytes} bytes of appends wait for the disk; at most {bytes_max} may")]
    QueueFull {
        /// Bytes that may wait.
        bytes_max: usize,
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// There is no room for more events; reads go on.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// The group may or may not be durable.
    #[error("the append may or may not have happened: {0}")]
    OutcomeUnknown(String),
    /// State that the request depends on cannot be read.
    #[error("the log could not be read to judge the append: {0}")]
    Unreadable(String),
    /// The node has published what its log does not have: somebody must decide before it goes on.
    #[error("{0}")]
    LogRewound(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// The answer to one request.
pub type Answer = Result<Appended, AppendError>;
