//! Second builds of versions, to be compared with the running ones.

use std::sync::Arc;

use super::Registry;
use crate::{
    disk::Access,
    follower::Stop,
    limits::LOW_WATER_BYTES_DEFAULT,
    projection::{
        query::ReadOptions,
        replay::{Replay, ReplayError},
        runner::{Runner, Turns},
        store::Store,
    },
};

/// What the file of a second build is called, behind the name of the version.
const EXTENSION: &str = "second";

impl Registry {
    /// Begins to build a version a second time; the active one where none is named. One replay runs at a time.
    pub fn replay(&self, projection: &str, version: Option<u32>) -> Result<Replay, ReplayError> {
        let options = ReadOptions { version, ..ReadOptions::default() };
        let running = self.resolve(projection, &options, None)?.version;
        if running.store.definition().is_service() {
            return Err(ReplayError::Service);
        }
        self.check_space(&running.store)?;
        let definition = Arc::clone(running.store.definition());
        let (disk, memory) = (Arc::clone(&self.disk), self.memory.take());
        let second = Store::new(disk, &self.config.dir, definition, memory).with_extension(EXTENSION);
        let running = (Arc::clone(&running.store), Arc::clone(&running.status));
        Replay::new(running, second.writing_behind(), &self.replaying, |store, status, head| {
            Runner::new(store, status, &self.log.events, Turns::default(), Stop::default()).upto(head)
        })
    }

    /// A second file may take as much as the first.
    pub(super) fn check_space(&self, running: &Store) -> Result<(), ReplayError> {
        let failed = |error| ReplayError::Io { path: running.path().to_owned(), error };
        let len = self.disk.open(running.path(), Access::Read).and_then(|file| file.len()).map_err(failed)?;
        let free_bytes = self.disk.free_bytes(&self.config.dir).map_err(failed)?;
        let needed_bytes = len + LOW_WATER_BYTES_DEFAULT;
        if free_bytes < needed_bytes {
            return Err(ReplayError::NoSpace { needed_bytes, free_bytes });
        }
        Ok(())
    }
}
