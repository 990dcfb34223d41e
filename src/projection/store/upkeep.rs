//! What is done to a version's file beside its documents: its pages are brought together, and its memory is given back.
//!
//! Invariant: nobody loses a snapshot by it; while somebody reads, the file stays as it is. Does not know when it is time.

use std::sync::{Arc, PoisonError};

use redb::CompactionError;

use super::Store;
use crate::{
    disk::Access,
    kv::{self, KvError},
    limits::COMPACT_BYTES_MIN,
};

impl Store {
    /// Whether the file is so large that it is worth compacting.
    pub fn is_large(&self) -> Result<bool, KvError> {
        Ok(self.disk.open(&self.path, Access::Read)?.len()? >= COMPACT_BYTES_MIN)
    }

    /// Brings the file's pages together and cuts it. Meanwhile it is closed for everyone else; where somebody reads it at
    /// the moment it stays as it is.
    pub fn compact(&self) -> Result<(), KvError> {
        self.recent.forget();
        let taken = self.slot.write().unwrap_or_else(PoisonError::into_inner).take();
        let mut database = taken.ok_or(KvError::Closed)?;
        let compacted = database.compact();
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        match compacted {
            Ok(_) | Err(CompactionError::TransactionInProgress) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether anybody has read what is committed since the last call, or since the last commit.
    pub(crate) fn was_read(&self) -> bool {
        self.recent.forget()
    }

    /// Gives back the memory of the file's pages, which redb keeps until a file is closed; `false`: somebody reads. Who
    /// begins to read meanwhile waits until the file is open again. Every change must be committed.
    pub(crate) fn rest(&self) -> Result<bool, KvError> {
        self.recent.forget();
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&self.readers) > 1 {
            return Ok(false);
        }
        drop(slot.take().ok_or(KvError::Closed)?);
        *slot = Some(kv::open(&*self.disk, &self.path, self.memory.pages_bytes(), self.syncs)?);
        Ok(true)
    }
}
