//! What a backup takes of the registry: local state that the log does not say, and when the last backup was finished.

use super::Registry;
use crate::{
    event::Position,
    meta::{MetaError, backup::MetaSnapshot},
};

impl Registry {
    /// Deployed definitions and local state.
    pub fn snapshot(&self) -> Result<MetaSnapshot, MetaError> {
        self.meta.snapshot()
    }

    /// A backup up to this head is kept since this time.
    pub fn note_backup(&self, unix_seconds: u64, head: Position) -> Result<(), MetaError> {
        self.meta.note_backup(unix_seconds, head)
    }

    /// When the last backup was finished, in seconds since 1970, and its head.
    pub fn last_backup(&self) -> Result<Option<(u64, Position)>, MetaError> {
        self.meta.last_backup()
    }
}
