//! A data directory into which a restore has not come to its end is no data directory yet: a node that began an empty log in it
//! would be in the way of the restore, and take events that the restored log does not have.

use std::path::Path;

use super::AppError;
use crate::{disk::Disk, limits::RESTORING_DIR};

/// Refuses such a directory.
pub(super) fn refuse_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), AppError> {
    match disk.exists(&dir.join(RESTORING_DIR).join("log")) {
        Ok(false) => Ok(()),
        Ok(true) => Err(AppError::Restoring { dir: dir.to_owned() }),
        Err(error) => Err(AppError::DataDir { dir: dir.to_owned(), error }),
    }
}
