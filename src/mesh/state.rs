//! What the mesh of a node shows of itself, and what it can be told to do: plain values, in the words of status.
//!
//! Owns the names of states and stop reasons as metrics, logs and the command line show them. Does not know how any of
//! it comes about; `app` turns these into the API's own types.

use uuid::Uuid;

use crate::event::{ImportCursor, Position};

use super::{envelope::ExportName, quarantine::Counts};

/// All of it, as of one step of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshStatus {
    /// This node.
    pub node: String,
    /// Its log.
    pub log_id: Uuid,
    /// The connection.
    pub bus: BusStatus,
    /// Why this node takes no appends, if it has met its own published past above its log.
    pub rewound: Option<Rewound>,
    /// What it exports, by name and version.
    pub exports: Vec<ExportStatus>,
    /// What it imports, by name.
    pub imports: Vec<ImportStatus>,
    /// Definition files that cannot be used, and why.
    pub problems: Vec<String>,
}

/// The connection to the bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BusStatus {
    /// There is one.
    pub is_connected: bool,
    /// Since when it is as it is, in nanoseconds since 1970.
    pub since_unix_nanos: i64,
    /// Why there is none, or what went wrong last.
    pub last_error: Option<String>,
    /// How often it was lost.
    pub disconnects: u64,
}

/// The node's own past, published, that its log does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// Whose place it is.
    pub export: ExportName,
    /// The epoch of the published place.
    pub epoch: u64,
    /// Its number in the export.
    pub seq: u64,
    /// Its position: above the log's head, or another event stands there now.
    pub position: Position,
    /// The log's head when this was found.
    pub head: Position,
}

/// One version of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportStatus {
    /// Whose sequence.
    pub name: ExportName,
    /// The hash of its definition.
    pub definition: [u8; 32],
    /// What it is doing.
    pub state: ExportState,
    /// Why it stands still, in words.
    pub last_error: Option<String>,
    /// The log is read up to here.
    pub position: Position,
    /// Events exported so far.
    pub seq: u64,
    /// Of these, the bus has acknowledged so many.
    pub acknowledged_seq: u64,
    /// Messages that are published and not acknowledged.
    pub in_flight: usize,
    /// Messages that were sent again after they were looked for and not found.
    pub resent: u64,
    /// Messages whose publish came to an unknown end and that were found on the bus.
    pub found_again: u64,
    /// Parts of repairs that were served.
    pub repairs_served: u64,
    /// Events acknowledged in the last second or so.
    pub rate_per_second: u64,
}

/// What an export is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExportState {
    /// It looks for the place at which it goes on.
    Starting,
    /// There is more to publish.
    Publishing,
    /// Everything is published and acknowledged.
    Following,
    /// There is no connection.
    Disconnected,
    /// Another log publishes under this node's name.
    NameTaken,
    /// This node's log is below what it has published: `Rewound` has the place.
    Rewound,
    /// The definition is not the one under which this version was published.
    DefinitionChanged,
    /// It cannot go on; `last_error` says why.
    Failed,
}

impl ExportState {
    /// In status, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Publishing => "publishing",
            Self::Following => "following",
            Self::Disconnected => "disconnected",
            Self::NameTaken => "NODE_NAME_TAKEN",
            Self::Rewound => "LOG_REWOUND",
            Self::DefinitionChanged => "DEFINITION_CHANGED",
            Self::Failed => "failed",
        }
    }
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportStatus {
    /// Its name.
    pub import: String,
    /// Whose sequence it takes.
    pub from: ExportName,
    /// What it is doing.
    pub state: ImportState,
    /// Why it stands still, or repairs.
    pub stop: Option<Stop>,
    /// What went wrong last, also what is over.
    pub last_error: Option<String>,
    /// How far it has come, durably; none before its first event.
    pub cursor: Option<ImportCursor>,
    /// The highest number that the owner has signed for, as far as this node has seen.
    pub owner_seq: u64,
    /// Events appended by this import since the node started.
    pub appended: u64,
    /// Events handled in the last second or so.
    pub rate_per_second: u64,
    /// Repairs.
    pub repair: RepairStatus,
    /// What is set aside.
    pub aside: Counts,
}

impl ImportStatus {
    /// Events that the owner has signed for and that are not handled.
    pub fn lag(&self) -> u64 {
        self.owner_seq.saturating_sub(self.cursor.as_ref().map_or(0, |cursor| cursor.seq))
    }
}

/// Repairs of an import since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// One is under way.
    pub is_asking: bool,
    /// Asked for.
    pub asked: u64,
    /// Events that came from the owner's log instead of the bus.
    pub events: u64,
    /// Why the last one came to nothing.
    pub last_error: Option<String>,
}

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImportState {
    /// It looks for the place at which it goes on.
    Starting,
    /// There is more to take over.
    Importing,
    /// It has everything that it knows of.
    Following,
    /// It asks the owner for what the bus does not give.
    Repairing,
    /// Somebody paused it.
    Paused,
    /// It stands still for the reason in `stop` until somebody acts.
    Stopped,
    /// There is no connection.
    Disconnected,
}

impl ImportState {
    /// In status, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Importing => "importing",
            Self::Following => "following",
            Self::Repairing => "repairing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why an import does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The reason's name.
    pub reason: StopReason,
    /// What was found and expected.
    pub message: String,
    /// The event's number in the export, where one is to blame.
    pub seq: u64,
    /// The event's position in the owner's log; `skip` names it.
    pub position: Position,
    /// Since when, in nanoseconds since 1970.
    pub since_unix_nanos: i64,
    /// Where the owner's history and this import part, for a stale epoch.
    pub divergence: Option<Divergence>,
}

/// Where an owner's history and an import part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// The last number in the export that both have.
    pub seq: u64,
    /// Its position in the owner's log.
    pub position: Position,
    /// The owner's newest number.
    pub owner_seq: u64,
}

/// The names of stop reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopReason {
    /// Events are missing.
    Gap,
    /// What came later contradicts the order: a lower epoch or position at a higher number, or the other way round.
    Regression,
    /// What came does not continue what was there.
    Fork,
    /// A signature does not hold.
    BadSignature,
    /// The trust file has no key of the owner.
    UnknownOwner,
    /// Another node than the owner signed.
    NotOwner,
    /// The owner's history no longer has the import's place.
    StaleEpoch,
    /// The import's mapping failed at an event.
    MappingFailed,
    /// The owner publishes another definition under the same version.
    DefinitionChanged,
}

impl StopReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Gap,
        Self::Regression,
        Self::Fork,
        Self::BadSignature,
        Self::UnknownOwner,
        Self::NotOwner,
        Self::StaleEpoch,
        Self::MappingFailed,
        Self::DefinitionChanged,
    ];

    /// In status, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "GAP",
            Self::Regression => "REGRESSION",
            Self::Fork => "FORK",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::UnknownOwner => "UNKNOWN_OWNER",
            Self::NotOwner => "NOT_OWNER",
            Self::StaleEpoch => "STALE_EPOCH",
            Self::MappingFailed => "MAPPING_FAILED",
            Self::DefinitionChanged => "DEFINITION_CHANGED",
        }
    }

    /// Whether the owner's own log may set it right without anybody acting.
    pub const fn is_repairable(self) -> bool {
        matches!(self, Self::Gap | Self::Regression | Self::Fork | Self::BadSignature)
    }
}

/// What somebody wants of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// An import is to stand still.
    Pause {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
    /// A paused or stopped import is to go on, where it stands.
    Resume {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
    /// An import is to try again what it could not map: the event at which it stands, and those that are parked.
    Retry {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
    /// An import is to pass an event by: the one at which it stands, or the first parked one of its stream.
    Skip {
        /// The import.
        import: String,
        /// The event's position in the owner's log, as `Stop` names it.
        expect_position: Position,
        /// Why.
        reason: String,
    },
    /// An import whose place the owner no longer has goes on from the last place that both have.
    ResyncImport {
        /// The import.
        import: String,
        /// Why.
        reason: String,
    },
    /// This node's log is what counts, whatever was published of a past that it does not have, or by another log.
    ResyncNode {
        /// Why.
        reason: String,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such import.
    #[error("there is no import {0:?}; `outrigger mesh imports` lists them")]
    NoImport(String),
    /// It does not fit what the import or node is doing.
    #[error("{0}")]
    Precondition(String),
    /// Nothing failed.
    #[error("{0}")]
    NothingToRetry(String),
    /// It stands elsewhere than expected.
    #[error("the import {}, expected {expected}; look again before skipping", stands(*.actual))]
    OtherPosition {
        /// As the command says.
        expected: Position,
        /// Where it stands, or the first event that it has parked; 0: at none.
        actual: Position,
    },
    /// The decision could not be appended.
    #[error("the decision could not be recorded: {0}")]
    Append(String),
    /// The mesh does not run, or has as many commands waiting as it takes.
    #[error("{0}")]
    Unavailable(String),
}

fn stands(actual: Position) -> String {
    match actual {
        Position::ZERO => "stands at no event and has none parked at its position".to_owned(),
        actual => format!("stands at position {actual}"),
    }
}

/// What came of a command: where its decision stands in this node's log.
pub type CommandAnswer = Result<Position, CommandError>;
