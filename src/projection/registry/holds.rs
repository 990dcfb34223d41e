//! Holds of deployed versions.

use std::sync::Arc;

use super::{Registry, Version};
use crate::{
    event::Position,
    projection::{
        hold::Hold,
        query::{QueryError, ReadOptions},
    },
};

impl Registry {
    /// Lets a version go up to and including `at` and no further, while the hold lives; one that is further stays where it
    /// is, and at position 0 any does.
    pub fn hold(&self, projection: &str, version: u32, at: Position) -> Result<Hold, QueryError> {
        let options = ReadOptions { version: Some(version), ..ReadOptions::default() };
        let version = self.resolve(projection, &options, None)?;
        Ok(self.hold_version(&version.version, at))
    }

    pub(super) fn hold_version(&self, version: &Version, at: Position) -> Hold {
        Hold::place(Arc::clone(&version.status), self.head.clone(), version.stop.clone(), at)
    }
}
