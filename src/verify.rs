//! Verifying a data directory that no process has open: log, events, index, and the files beside them.
//!
//! Owns which files a data directory has and the one list of what is wrong with them. Invariants: not one byte is
//! changed; memory is bounded; damage does not end the look. What can be rebuilt from the log is told apart from what is
//! lost. Does not know how anything is repaired or printed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    disk::{Access, Disk},
    event::{Position, RecordedEvent},
    index::{IndexError, IndexVerified, IndexVerifier},
    log::{EpochStart, LogError, LogInspection, LogInspector},
    meta::Meta,
    projection::{self, store::LogFacts},
};

mod events;
mod finding;

use events::EventCheck;
pub use events::EventsVerified;
pub use finding::{Finding, Part};

/// Where a node keeps what.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The data directory at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The files of the index.
    pub fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    /// What is deployed.
    pub fn meta(&self) -> PathBuf {
        self.0.join("meta.redb")
    }

    /// The files of projections.
    pub fn projections(&self) -> PathBuf {
        self.0.join("projections")
    }
}

/// Why a data directory could not be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log is in use, is none, or its manifest is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index's directory could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A directory could not be read.
    #[error("cannot list {}: {error}", dir.display())]
    List {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What a data directory holds and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it is.
    pub dir: DataDir,
    /// Whose it is.
    pub node: String,
    /// The log's identity.
    pub log_id: Uuid,
    /// Where the log begins.
    pub first: Position,
    /// The epochs of its manifest.
    pub epochs: Vec<EpochStart>,
    /// The log's files.
    pub log: LogInspection,
    /// What the records hold.
    pub events: EventsVerified,
    /// The index's files.
    pub index: IndexVerified,
    /// `meta.redb` and the files of projections.
    pub files: Vec<FileVerified>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// A redb file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVerified {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub part: Part,
    /// Of a projection's: up to where its documents have seen the log. Why it is not used, if it is not what it should be.
    pub state: Result<Option<Position>, String>,
}

/// How far a verification is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Read so far.
    pub bytes: u64,
    /// To be read, about.
    pub bytes_total: u64,
    /// Events seen so far.
    pub events: u64,
}

/// Verifies a data directory. `told` hears how far it is, now and then.
pub fn verify(
    disk: &Arc<dyn Disk>,
    dir: &DataDir,
    told: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let inspector = LogInspector::open(Arc::clone(disk), &dir.log())?;
    verify_held(&**disk, dir, &inspector, told)
}

/// As `verify`, of a log whose lock is held already.
pub fn verify_held(
    disk: &dyn Disk,
    dir: &DataDir,
    inspector: &LogInspector,
    told: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let bytes_total = [dir.index(), dir.projections()]
        .iter()
        .map(|dir| bytes_of(disk, dir))
        .sum::<Result<u64, VerifyError>>()?
        + inspector.bytes();
    let mut progress = Progress { bytes: 0, bytes_total, events: 0 };
    let mut index = IndexVerifier::open(disk, &dir.index(), inspector.log_id(), &mut |bytes| {
        progress.bytes += bytes;
        told(progress);
    })?;
    let mut events = EventCheck::default();
    let log = inspector.inspect(&mut |bytes, records| {
        progress.bytes += bytes;
        progress.events += records.len() as u64;
        for (position, payload) in records {
            match RecordedEvent::decode(position, payload) {
                Ok(event) => {
                    events.add(&event);
                    index.add(&event);
                }
                Err(error) => events.undecodable(position, error.0),
            }
        }
        told(progress);
    })?;
    let index = index.finish(inspector.first_position(), log.head);
    let files = files(disk, dir, inspector, log.head)?;
    Ok(Report {
        dir: dir.clone(),
        node: inspector.node().to_owned(),
        log_id: inspector.log_id(),
        first: inspector.first_position(),
        epochs: inspector.epochs().to_vec(),
        events: events.finish(),
        index,
        files,
        log,
        bytes: progress.bytes,
    })
}

/// Looks at the redb files of a data directory.
fn files(
    disk: &dyn Disk,
    dir: &DataDir,
    inspector: &LogInspector,
    head: Position,
) -> Result<Vec<FileVerified>, VerifyError> {
    let mut files = Vec::new();
    let path = dir.meta();
    if disk.open(&path, Access::Read).is_ok() {
        let state = Meta::inspect(disk, &path).map(|_| None).map_err(|error| error.to_string());
        files.push(FileVerified { path, part: Part::Meta, state });
    }
    let epoch_at = |position| inspector.epoch_at(position);
    let facts = LogFacts { log_id: inspector.log_id(), head, epoch_at: &epoch_at };
    for name in list(disk, &dir.projections())? {
        let path = dir.projections().join(&name);
        if path.extension().is_some_and(|extension| extension == "redb") {
            let state = projection::verify::inspect(disk, &path, &facts);
            let state = state.map(|state| state.map(|state| state.cursor)).map_err(|error| error.to_string());
            files.push(FileVerified { path, part: Part::Projection, state });
        }
    }
    Ok(files)
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, VerifyError> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| VerifyError::List { dir: dir.to_owned(), error }),
    }
}

/// Bytes of all files of a directory.
fn bytes_of(disk: &dyn Disk, dir: &Path) -> Result<u64, VerifyError> {
    let len = |name: &String| disk.open(&dir.join(name), Access::Read).and_then(|file| file.len()).ok();
    Ok(list(disk, dir)?.iter().filter_map(len).sum())
}
