//! Why a node does not run, or no longer: errors of starting and stopping, for whoever started it.

use std::{io, path::PathBuf};

use crate::{
    config::Listen, events::EventsError, index::IndexError, limits::RESTORING_DIR, log::LogError,
    mesh::restored::AcceptError, meta::MetaError, projection::registry::RegistryError,
};

/// Why a node does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener could not be bound.
    #[error("{setting} cannot listen on {addr}: {error}; choose another address or stop what listens there")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its address.
        addr: Listen,
        /// What the system says.
        error: io::Error,
    },
    /// The data directory cannot be used.
    #[error("data directory {dir}: {error}")]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The files of TLS cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The token file cannot be used.
    #[error("{0}")]
    Tokens(String),
    /// The mesh cannot start.
    #[error("{0}")]
    Mesh(String),
    /// The node's key or the file of trusted keys cannot be used.
    #[error("{0}")]
    Keys(String),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A restored log cannot be accepted.
    #[error(transparent)]
    Restored(#[from] AcceptError),
    /// A restore into the data directory did not come to its end.
    #[error("a restore into {} did not come to its end: run it again, or remove {}", dir.display(), dir.join(RESTORING_DIR).display())]
    Restoring {
        /// The data directory.
        dir: PathBuf,
    },
    /// The committer cannot start.
    #[error(transparent)]
    Committer(#[from] EventsError),
    /// What the node knows beside its log cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The projections cannot be opened.
    #[error(transparent)]
    Projections(#[from] RegistryError),
    /// A definition that the command line names cannot be used.
    #[error("{0}")]
    Definition(String),
    /// The projection definitions cannot be watched.
    #[error("projection definitions cannot be watched: {0}")]
    Watch(io::Error),
    /// A thread or task could not be started or did not end as it should.
    #[error("{0}")]
    Thread(String),
    /// The node could not go on.
    #[error("the node had to stop: {0}; start it again, it recovers at start")]
    Failed(String),
}
