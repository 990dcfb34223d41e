//! Why a standing version is not built, or not removed.

use std::{io, path::PathBuf};

use crate::{
    event::Position,
    events::EventsError,
    kv::KvError,
    meta::{MetaError, standing::StandingRow},
    projection::{query::QueryError, replay::ReplayError},
};

/// Why a standing version is not built, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// There is no such version or label, or what was asked is not right.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A service says what events do.
    #[error(
        "projection {projection} version {version}: a service handles its events, so its state at a position of the past \
         cannot be built without the service; attach the service under a new version number instead"
    )]
    Service {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// The label is in use.
    #[error(
        "projection {} has a standing version {:?} already, a build of version {} up to position {}; choose another label, \
         or remove it first (projection remove {} --label {})",
        .row.projection, .row.label, .row.version, .row.until, .row.projection, .row.label
    )]
    Taken {
        /// The one that has it.
        row: Box<StandingRow>,
    },
    /// There are too many.
    #[error(
        "projection {projection} has {} standing versions, which is the most; remove one first",
        crate::limits::STANDING_VERSIONS_MAX
    )]
    TooMany {
        /// The projection.
        projection: String,
    },
    /// The position is not in the log.
    #[error("until: expected a position from {first} to the head {head}, found {found}")]
    NotInLog {
        /// Where the log begins.
        first: Position,
        /// Where it ends.
        head: Position,
        /// What was asked for.
        found: Position,
    },
    /// Nothing was recorded at the time or before.
    #[error("until: expected a time at which the log had an event; its first one was recorded later")]
    BeforeAll,
    /// The time has not passed.
    #[error("until: expected a time that has passed; events may still be recorded before it")]
    NotPassed,
    /// The second file might not fit, or the first one's size could not be read.
    #[error(transparent)]
    Space(#[from] ReplayError),
    /// The definition that was deployed is not one that this program takes.
    #[error("{file}: {error}")]
    Definition {
        /// The file it came from.
        file: String,
        /// What is wrong with it.
        error: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// It could not be recorded.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Its file could not be removed.
    #[error("the file of the standing version: {0}")]
    File(#[from] KvError),
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// The system did not give a thread to follow the log.
    #[error("a standing version cannot be built: {0}")]
    Thread(io::Error),
}
