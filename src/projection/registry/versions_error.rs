//! Why nothing was decided about versions, each with what an answer over the wire has to say.

use crate::{
    append::AppendError,
    event::Position,
    events::EventsError,
    limits::DECISION_REASON_BYTES_MAX,
    meta::MetaError,
    projection::{query::QueryError, registry::DeployError, status::VersionState},
};

/// Why nothing was decided about versions, or what was decided is not done.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// There is no such version.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The version is retired.
    #[error(
        "projection {projection} version {version} is retired; projection deploy with the file it had brings it back"
    )]
    Retired {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// Another version is active than was expected.
    #[error(
        "projection {projection}: expected version {expected} to be active, it is version {actual}; look again and decide anew"
    )]
    OtherActive {
        /// The projection.
        projection: String,
        /// What was expected.
        expected: u32,
        /// The active one.
        actual: u32,
    },
    /// The version cannot take over.
    #[error(
        "projection {projection} version {version} is not ready: {why}; projection show {projection} tells more"
    )]
    NotReady {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// How it stands.
        state: VersionState,
        /// Waiting may help.
        on_its_way: bool,
        /// What it shows.
        position: Position,
        /// How many events it is behind.
        lag: u64,
        /// How many it may be.
        max_lag: u64,
        /// In words.
        why: String,
    },
    /// The version that emits for earlier events cannot go on, and nobody else may emit for these.
    #[error(
        "projection {projection} version {version} still has to emit for the events behind position {position} up to {upto} \
         and does not go on: {why}; let it go on (attach its workers, retry or skip the event it stands at) and try again"
    )]
    EmitterBehind {
        /// The projection.
        projection: String,
        /// The version that is to emit.
        version: u32,
        /// It has come so far.
        position: Position,
        /// Up to here it emits.
        upto: Position,
        /// Why it does not go on.
        why: String,
    },
    /// No version was active before this one.
    #[error(
        "projection {projection}: no version was active before version {active}, or it is retired; nothing to roll back to"
    )]
    NothingBefore {
        /// The projection.
        projection: String,
        /// The active version.
        active: u32,
    },
    /// The version answers queries.
    #[error("projection {projection} version {version} is active; promote another version first")]
    Active {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// Something else needs the version.
    #[error("projection {projection} version {version} is needed by {by}")]
    Needed {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// What needs it.
        by: String,
    },
    /// Somebody else decided first.
    #[error("another decision about projection {projection} came first; look again and decide anew")]
    Conflict {
        /// The projection.
        projection: String,
    },
    /// The reason is too long.
    #[error("expected at most {DECISION_REASON_BYTES_MAX} bytes, found {found}")]
    ReasonTooLong {
        /// How long it is.
        found: usize,
    },
    /// The decision was not appended.
    #[error(transparent)]
    Append(AppendError),
    /// Decisions made before could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// It could not be recorded.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A thread that was to record it did not end.
    #[error("it could not be recorded: {0}")]
    Task(String),
    /// It is decided; the file of the version could not be removed.
    #[error("it is decided, and the next start finishes it: {0}")]
    NotRemoved(DeployError),
}
