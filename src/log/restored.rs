//! The restored mark: that a log's directory is a copy which was put in place of a newer one.
//!
//! The first opening of such a log begins an epoch whose counter no opening of the original ever had (the time, in milliseconds),
//! so that whoever has seen what the copy lacks is told where their histories part. The mark stays until that was accepted in the
//! log itself; killed before, the next opening does it again. It also keeps the number with which a configuration asked for this
//! last: one number, one restore. The file is replaced as a whole; without it nothing was ever restored. Does not know what accepting
//! means.

use std::{io, path::Path, sync::Arc};

use super::{
    Directory, LogError,
    format::{VERSION, put, u32_at, u64_at},
    manifest::Manifest,
};
use crate::{
    disk::{self, Disk},
    event::Position,
};

const MAGIC: [u8; 8] = *b"ORRESTOR";
const BYTES: usize = 28;
const PENDING: u32 = 1;

/// What a log's directory says of restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Restored {
    /// The number with which a restore was asked for last.
    pub(crate) number: u64,
    /// The log is a copy that has not been accepted yet.
    pub(crate) is_pending: bool,
}

impl Restored {
    /// What the directory says; the default where it says nothing.
    pub(crate) fn load(directory: &Directory) -> Result<Self, LogError> {
        let path = directory.restored();
        let bytes = match disk::read_file(directory.disk(), &path, BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(LogError::io("read", &path)(error)),
        };
        let damaged = |what: &str| Err(LogError::corrupt(&path, 0, (Position::new(1), None), what));
        if bytes.len() != BYTES || bytes[..8] != MAGIC {
            return damaged("expected the mark of a restored log, found something else");
        }
        let found = u32_at(&bytes, 8);
        if found > VERSION {
            return Err(LogError::NewerFormat { path, found, known: VERSION });
        }
        if crc32c::crc32c(&bytes[..24]) != u32_at(&bytes, 24) {
            return damaged("the checksum of the restored mark does not match");
        }
        Ok(Self { number: u64_at(&bytes, 16), is_pending: u32_at(&bytes, 12) & PENDING != 0 })
    }

    /// What it says once a restore of this number is asked for: each number counts once. A log that does not exist yet has
    /// nothing to part from.
    pub(super) fn asked(directory: &Directory, number: u64) -> Result<Self, LogError> {
        let restored = Self::load(directory)?;
        if number <= restored.number {
            return Ok(restored);
        }
        let exists = Manifest::load(directory)?.is_some();
        let asked = Self { number, is_pending: restored.is_pending || exists };
        asked.store(directory)?;
        Ok(asked)
    }

    pub(crate) fn store(self, directory: &Directory) -> Result<(), LogError> {
        let path = directory.restored();
        let stored = disk::replace_file(directory.disk(), &path, &self.encode());
        stored.map_err(|error| directory.refusal("write", &path, BYTES as u64, error))
    }

    fn encode(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &(if self.is_pending { PENDING } else { 0 }).to_le_bytes());
        put(&mut out, 16, &self.number.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..24]);
        put(&mut out, 24, &checksum.to_le_bytes());
        out
    }
}

/// Marks a log that no process has open as a copy in place of a newer one; where a name is given, it is that node's from now on.
pub fn mark_restored(disk: &Arc<dyn Disk>, dir: &Path, node: Option<&str>) -> Result<(), LogError> {
    let directory = Directory::new(Arc::clone(disk), dir.to_owned(), None);
    let Some(mut manifest) = Manifest::load(&directory)? else {
        return Err(LogError::NoLog { dir: dir.to_owned() });
    };
    if let Some(node) = node {
        node.clone_into(&mut manifest.node);
        manifest.store(&directory)?;
    }
    let before = Restored::load(&directory)?;
    Restored { is_pending: true, ..before }.store(&directory)
}

/// That the log is a copy was accepted in the log itself: later openings are like any other. For who holds the log open.
pub fn settle_restored(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), LogError> {
    let directory = Directory::new(Arc::clone(disk), dir.to_owned(), None);
    let before = Restored::load(&directory)?;
    Restored { is_pending: false, ..before }.store(&directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    fn directory() -> (SimDisk, Directory) {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/log")).unwrap();
        let directory = Directory::new(Arc::new(disk.clone()), "/log".into(), None);
        (disk, directory)
    }

    #[test]
    fn the_mark_has_these_bytes() {
        let mark = Restored { number: 7, is_pending: true };
        let expected = b"ORRESTOR\x01\0\0\0\x01\0\0\0\x07\0\0\0\0\0\0\0";
        assert_eq!(mark.encode()[..24], expected[..]);
        assert_eq!(u32_at(&mark.encode(), 24), crc32c::crc32c(expected));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (disk, directory) = directory();
        assert_eq!(Restored::load(&directory).unwrap(), Restored::default());
        let mark = Restored { number: 7, is_pending: true };
        mark.store(&directory).unwrap();
        assert_eq!(Restored::load(&directory).unwrap(), mark);
        for bit in 0..BYTES as u64 * 8 {
            disk.flip_bit(Path::new("/log/restored"), bit).unwrap();
            assert!(Restored::load(&directory).is_err(), "bit {bit} flipped silently");
            disk.flip_bit(Path::new("/log/restored"), bit).unwrap();
        }
    }

    #[test]
    fn a_number_counts_once_and_not_for_a_log_that_begins() {
        let (_, directory) = directory();
        let asked = |number| Restored::asked(&directory, number).unwrap();
        assert_eq!(asked(0), Restored::default());
        assert_eq!(asked(2), Restored { number: 2, is_pending: false }, "there is no log yet");
        let manifest = Manifest {
            log_id: uuid::Uuid::from_u128(5),
            first: Position::new(1),
            node: "flights".into(),
            epochs: super::super::epochs::EpochHistory::default(),
        };
        manifest.store(&directory).unwrap();
        assert_eq!(asked(2), Restored { number: 2, is_pending: false });
        assert_eq!(asked(3), Restored { number: 3, is_pending: true });
        assert_eq!(asked(3), Restored { number: 3, is_pending: true }, "until it is settled");
        Restored { number: 3, is_pending: false }.store(&directory).unwrap();
        assert_eq!(asked(3), Restored { number: 3, is_pending: false });
        assert_eq!(asked(1), Restored { number: 3, is_pending: false });
    }
}
