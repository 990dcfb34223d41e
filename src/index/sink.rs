//! Writes an index file from front to back through a buffer, then its header, then makes it durable.
//!
//! Steps: create `<name>.new`; blocks and sections, synced every `INDEX_SYNC_BYTES`; header; sync; rename to `<name>`;
//! sync the directory. Commit point: the rename, once the directory is synced. Recovery: a `.new` file is removed at
//! start. Invariant: a file under its final name is whole. Does not know what the blocks hold.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    IndexError,
    codec::{checksum, seal_block},
    header::{HEADER_BYTES, Section},
};
use crate::{
    disk::{Disk, File},
    limits::INDEX_SYNC_BYTES,
};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file in the making.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    file: Box<dyn File>,
    /// Where it is until it is whole.
    path: PathBuf,
    /// What ties the checksums to this file.
    seed: u32,
    /// Where the next byte goes.
    offset: u64,
    buffer: Vec<u8>,
    unsynced: u64,
}

/// Writes the file that `fill` fills, which ends with `finish`, and gives its path. If that fails, the space is given
/// back.
pub(super) fn write_file<'a>(
    disk: &'a dyn Disk,
    dir: &'a Path,
    name: &str,
    seed: u32,
    fill: impl FnOnce(Sink<'a>) -> Result<PathBuf, IndexError>,
) -> Result<PathBuf, IndexError> {
    let path = dir.join(format!("{name}.new"));
    remove_if_there(disk, &path)?;
    let written = Sink::create(disk, dir, &path, seed).and_then(fill);
    if written.is_err() && remove_if_there(disk, &path).is_err() {
        tracing::warn!(path = %path.display(), "an unfinished index file cannot be removed; the next start removes it");
    }
    written
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), IndexError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IndexError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

impl<'a> Sink<'a> {
    fn create(disk: &'a dyn Disk, dir: &'a Path, path: &Path, seed: u32) -> Result<Self, IndexError> {
        let file = disk.create_new(path).map_err(IndexError::io("create", path))?;
        let path = path.to_owned();
        Ok(Self { disk, dir, file, path, seed, offset: HEADER_BYTES, buffer: Vec::new(), unsynced: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Seals a block and appends it.
    pub(super) fn block(&mut self, block: &mut [u8]) -> Result<(), IndexError> {
        seal_block(block, self.seed, self.offset);
        self.append(block)
    }

    /// Appends a section and says where it is.
    pub(super) fn section(&mut self, bytes: &[u8]) -> Result<Section, IndexError> {
        let offset = self.offset;
        self.append(bytes)?;
        Ok(Section { offset, len: bytes.len() as u64, checksum: checksum(self.seed, offset, bytes) })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.buffer.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let start = self.offset - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, start).map_err(IndexError::io("write", &self.path))?;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= INDEX_SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), IndexError> {
        self.unsynced = 0;
        self.file.sync_data().map_err(IndexError::io("sync", &self.path))
    }

    /// Writes the header and makes the file durable under its name, whose path it gives back.
    pub(super) fn finish(mut self, mut header: Vec<u8>, name: &str) -> Result<PathBuf, IndexError> {
        assert!(header.len() as u64 <= HEADER_BYTES, "a header fits before the blocks");
        self.flush()?;
        header.resize(HEADER_BYTES as usize, 0);
        self.file.write_all_at(&header, 0).map_err(IndexError::io("write", &self.path))?;
        self.sync()?;
        let path = self.dir.join(name);
        self.disk.rename(&self.path, &path).map_err(IndexError::io("rename", &self.path))?;
        self.disk.sync_dir(self.dir).map_err(IndexError::io("sync", self.dir))?;
        Ok(path)
    }
}
