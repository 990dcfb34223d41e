//! Whether the disk would hold another version.
//!
//! A version is taken to grow as large as the largest one of its projection, with as much again for what redb writes beside
//! it. Of a projection's first version nothing is known: it needs what the log leaves to others. Does not know what happens
//! when the disk fills up later.

use super::{DeployError, Registry};
use crate::{disk::Access, projection::definition::Definition};

/// redb copies pages before it frees them, and compacts a first build: its file is for a while about twice as long.
const GROWTH: u64 = 2;

impl Registry {
    /// Refuses a version whose build would fill the disk.
    pub(super) fn check_room(&self, definition: &Definition) -> Result<(), DeployError> {
        let unreadable = |error| DeployError::Room { dir: self.config.dir.clone(), error };
        let free_bytes = self.disk.free_bytes(&self.config.dir).map_err(unreadable)?;
        let others = self.all().into_iter().map(|(_, version)| version);
        let others = others.filter(|other| other.store.definition().name() == definition.name());
        // One whose file is not there yet tells nothing.
        let sizes =
            others.filter_map(|other| self.disk.open(other.store.path(), Access::Read).ok()?.len().ok());
        let needed_bytes = sizes.max().unwrap_or(0).saturating_mul(GROWTH);
        let reserve_bytes = self.config.low_water_bytes;
        if free_bytes < needed_bytes.saturating_add(reserve_bytes) {
            return Err(DeployError::DiskFull {
                projection: definition.name().to_owned(),
                version: definition.version(),
                needed_bytes,
                reserve_bytes,
                free_bytes,
            });
        }
        Ok(())
    }
}
