//! A log's directory: the names of its files, and its I/O told with names.
//!
//! Does not know what is in the files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::LogError;
use crate::{
    disk::{Disk, File},
    event::Position,
    sabotage::Sabotage,
};

const SEGMENT: &str = ".log";
/// Digits of a position in a file name: names order as positions do.
const DIGITS: usize = 20;
/// What one write of zeros covers.
static ZEROS: [u8; 65_536] = [0; 65_536];

/// Where a log lives.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    sabotage: Option<Sabotage>,
}

impl Directory {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf, sabotage: Option<Sabotage>) -> Self {
        Self { disk, path, sabotage }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path.join("manifest")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("LOCK")
    }

    /// What a repair has decided to do, from its commit point until it is done.
    pub(crate) fn repair(&self) -> PathBuf {
        self.path.join("repair")
    }

    /// That the directory is a copy in place of a newer one.
    pub(crate) fn restored(&self) -> PathBuf {
        self.path.join("restored")
    }

    pub(crate) fn spare(&self) -> PathBuf {
        self.path.join("spare")
    }

    pub(crate) fn segment(&self, first: Position) -> PathBuf {
        self.path.join(format!("{:020}{SEGMENT}", first.get()))
    }

    pub(crate) fn offsets(&self, first: Position) -> PathBuf {
        self.path.join(format!("{:020}.offsets", first.get()))
    }

    /// Bytes cut from a segment at an offset by the recovery of the opening before this epoch began.
    pub(crate) fn quarantine(&self, first: Position, offset: u64, epoch: u64) -> PathBuf {
        let name = format!("{:020}-{offset}-{epoch}.quarantine", first.get());
        self.path.join(name)
    }

    /// The first positions of all segments, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<Position>, LogError> {
        let names = self.disk.list(&self.path);
        let names = names.map_err(LogError::io("list", &self.path))?;
        let first = |name: &String| {
            let digits = name.strip_suffix(SEGMENT)?;
            let valid = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
            if valid { digits.parse().ok().map(Position::new) } else { None }
        };
        Ok(names.iter().filter_map(first).collect())
    }

    /// Makes creations, renames and removals durable.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        if self.is_sabotaged(Sabotage::SkipDirectorySync) {
            return Ok(());
        }
        self.disk.sync_dir(&self.path).map_err(LogError::io("sync", &self.path))
    }

    /// Makes a file's writes durable.
    pub(crate) fn sync_file(&self, file: &dyn File, path: &Path) -> Result<(), LogError> {
        if self.is_sabotaged(Sabotage::SkipSync) {
            return Ok(());
        }
        let mut synced = file.sync_data();
        if synced.is_err() && self.is_sabotaged(Sabotage::RetrySync) {
            synced = file.sync_data();
        }
        synced.map_err(LogError::io("sync", path))
    }

    /// Writes zeros over `from..upto`, growing the file where needed.
    pub(crate) fn write_zeros(
        &self,
        file: &dyn File,
        path: &Path,
        mut from: u64,
        upto: u64,
    ) -> Result<(), LogError> {
        while from < upto {
            let bytes = (ZEROS.len() as u64).min(upto - from);
            let written = file.write_all_at(&ZEROS[..bytes as usize], from);
            written.map_err(|error| self.refusal("write", path, upto - from, error))?;
            from += bytes;
        }
        Ok(())
    }

    /// An error of a step that reserves room: a full disk is a refusal, all else is an error like any other.
    pub(crate) fn refusal(
        &self,
        action: &'static str,
        path: &Path,
        needed_bytes: u64,
        error: io::Error,
    ) -> LogError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::DiskFull {
                dir: self.path.clone(),
                needed_bytes,
                reserve_bytes: 0,
                free_bytes: self.disk.free_bytes(&self.path).unwrap_or(0),
            },
            _ => LogError::io(action, path)(error),
        }
    }
}
