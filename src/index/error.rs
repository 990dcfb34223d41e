//! What can go wrong in the index. The log is ground state, so none of these loses anything.

use std::{io, path::PathBuf};

/// Why the index could not answer, write or open.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The disk refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A run file does not hold what was written to it. It is rebuilt from the log in the background; repeat the call.
    #[error("index file {} is damaged: {what}; it is being rebuilt from the log, repeat the call", path.display())]
    Damaged {
        /// The run file.
        path: PathBuf,
        /// What was expected, and where.
        what: String,
    },
    /// The log could not be read or decoded while the index caught up with it or was rebuilt.
    #[error("cannot read the log to build the index: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Run files cannot be written, and memory holds as many unwritten parts as it may.
    #[error(
        "{parts} parts of the index wait to be written: {reason}; make room on the disk of the data directory"
    )]
    Backlog {
        /// Parts in memory.
        parts: usize,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The index is being closed; the work in progress was given up and is repeated at the next start.
    #[error("the index is closing")]
    Closing,
}

impl IndexError {
    /// For `map_err` on disk operations.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
