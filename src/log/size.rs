//! How much of the disk a log takes.
//!
//! Does not know free space.

use super::{LogError, LogReader};
use crate::{disk::Access, event::Position};

impl LogReader {
    /// Bytes of the file of a segment that does not grow any more.
    pub fn sealed_bytes(&self, first: Position) -> Result<u64, LogError> {
        let directory = self.shared().directory();
        let path = directory.segment(first);
        let len = directory.disk().open(&path, Access::Read).and_then(|file| file.len());
        len.map_err(LogError::io("measure", &path))
    }

    /// Bytes of the file of the segment that grows, with what is allocated ahead.
    pub fn growing_bytes(&self) -> Result<u64, LogError> {
        let active = self.shared().catalog().active.clone();
        active.file.len().map_err(LogError::io("measure", &active.path))
    }
}
