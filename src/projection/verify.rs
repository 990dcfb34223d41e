//! The file of a version as a verification sees it: whether redb can read it, and whose events its documents have seen.
//!
//! Does not change the file, and does not know whether its version is deployed.

use std::path::Path;

use redb::ReadableDatabase as _;

use super::{state::State, store};
use crate::{
    disk::Disk,
    kv::{self, KvError},
    projection::store::LogFacts,
};

/// Reads all of a file and gives its state; `None` if it was never begun. What does not fit the log is an error, as
/// it is when a node opens the file.
pub fn inspect(disk: &dyn Disk, path: &Path, log: &LogFacts<'_>) -> Result<Option<State>, KvError> {
    let database = kv::open_read_only(disk, path)?;
    let read = database.begin_read()?;
    let Some((state, _definition)) = store::any_state(&read)? else {
        return Ok(None);
    };
    store::check_fits(&state, log).map(|()| Some(state))
}
