//! What can go wrong with a log, each with what it means for the caller.
//!
//! Only `DiskFull` and `GroupSize` leave a log that takes appends again; every other error of an append poisons it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::event::Position;

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory holds the log of a node of another name.
    #[error(
        "{} holds the log of node {found:?}, but this node is {expected:?}: name another data directory, or start as node {found:?}",
        dir.display()
    )]
    OtherNode {
        /// The log's directory.
        dir: PathBuf,
        /// Whose log it is.
        found: String,
        /// Whose log was asked for.
        expected: String,
    },
    /// There is nothing to look at.
    #[error("{} holds no log: name the data directory of a node, which has the folder log in it", dir.display())]
    NoLog {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Another process has the log open.
    #[error("{} is in use by {holder}: stop that process, or name another data directory", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// What the lock file says about its holder.
        holder: String,
    },
    /// A file was written by a newer program.
    #[error(
        "{} has format {found}, but this program knows formats up to {known}: start a newer outrigger",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Bytes that were durable are not what was written. Nothing was changed.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// There is no room to append. Nothing was written; appends resume once there is room.
    #[error(
        "the disk of {} is full: {needed_bytes} bytes are needed and {reserve_bytes} must stay free, {free_bytes} are free; make room and try again",
        dir.display()
    )]
    DiskFull {
        /// The log's directory.
        dir: PathBuf,
        /// What this step needs.
        needed_bytes: u64,
        /// What must stay free besides.
        reserve_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The group is empty or too large. Nothing was written.
    #[error(
        "a group holds 1 to {records_max} records and at most {bytes_max} bytes, found {records} and {bytes}"
    )]
    GroupSize {
        /// Records asked for.
        records: usize,
        /// Their bytes.
        bytes: usize,
        /// Records allowed.
        records_max: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// An earlier write or sync failed. Whether its group is durable is decided when the log is opened again.
    #[error("the log takes no appends since a write to it failed: restart the node, which recovers the log")]
    Poisoned,
    /// The operating system refused. Of an append: the log is poisoned, and whether the group is durable is unknown.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a log is damaged, and which events it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first position that cannot be trusted.
    pub first: Position,
    /// The last such position that is known to have been durable; absent where that cannot be told.
    pub last: Option<Position>,
    /// What was found and what was expected.
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, first, last, what } = self;
        write!(f, "{} is damaged at offset {offset}: {what}; ", path.display())?;
        match last {
            Some(last) if last > first => write!(f, "positions {first} to {last} are affected")?,
            Some(_) => write!(f, "position {first} is affected")?,
            None => write!(f, "positions from {first} on may be affected")?,
        }
        f.write_str(
            ". Nothing was changed: keep this directory as it is, and put the file back from a copy. `outrigger verify --data-dir DIR` \
             lists all damage; `outrigger repair --data-dir DIR` says what can be done about it (--restore-mark, \
             --restore-header, or --cut-from POSITION --lose COUNT)",
        )
    }
}

impl std::error::Error for Corruption {}

impl LogError {
    /// An error of the system, told with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(
        path: &Path,
        offset: u64,
        (first, last): (Position, Option<Position>),
        what: impl Into<String>,
    ) -> Self {
        Self::Corrupt(Box::new(Corruption { path: path.to_owned(), offset, first, last, what: what.into() }))
    }

    /// Whether the log is as it was and takes appends again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::GroupSize { .. })
    }
}
