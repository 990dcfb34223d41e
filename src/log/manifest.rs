//! The manifest: whose log this is, where it begins, and its epochs. The one file that is replaced.
//!
//! Its existence is what makes a directory a log. Does not know segments.

use std::io;

use uuid::Uuid;

use super::{
    Directory, LogError,
    epochs::{Epoch, EpochHistory, EpochStart},
    format::{VERSION, bytes_at, position_at, u32_at, u64_at},
};
use crate::{disk, event::Position, limits::LOG_MANIFEST_BYTES_MAX};

const MAGIC: [u8; 8] = *b"ORMANIFE";
const HEADER_BYTES: usize = 48;
const EPOCH_BYTES: usize = 24;

/// What the log is, apart from its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) log_id: Uuid,
    /// The log begins here; what was before is archived.
    pub(crate) first: Position,
    pub(crate) node: String,
    pub(crate) epochs: EpochHistory,
}

enum Refused {
    Newer(u32),
    Damaged(&'static str),
}

impl Manifest {
    /// Reads the manifest of a directory; `None` if there is none.
    pub(crate) fn load(directory: &Directory) -> Result<Option<Self>, LogError> {
        let path = directory.manifest();
        let bytes = match disk::read_file(directory.disk(), &path, LOG_MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("read", &path)(error)),
        };
        match Self::decode(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Refused::Newer(found)) => Err(LogError::NewerFormat { path, found, known: VERSION }),
            Err(Refused::Damaged(what)) => Err(LogError::corrupt(&path, 0, (Position::new(1), None), what)),
        }
    }

    /// Puts this manifest in place of the directory's, durably.
    pub(crate) fn store(&self, directory: &Directory) -> Result<(), LogError> {
        let path = directory.manifest();
        let bytes = self.encode();
        let stored = disk::replace_file(directory.disk(), &path, &bytes);
        stored.map_err(|error| directory.refusal("write", &path, bytes.len() as u64, error))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.node.len() as u32).to_le_bytes());
        out.extend(self.log_id.as_bytes());
        out.extend(self.first.get().to_le_bytes());
        out.extend((self.epochs.starts().len() as u64).to_le_bytes());
        out.extend(self.node.as_bytes());
        for start in self.epochs.starts() {
            out.extend(start.epoch.counter.to_le_bytes());
            out.extend(start.epoch.random.to_le_bytes());
            out.extend(start.first.get().to_le_bytes());
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// The manifest with these bytes, if they are one of a known format.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let damaged = |what| Err(Refused::Damaged(what));
        if bytes.len() < HEADER_BYTES + 4 || bytes[..8] != MAGIC {
            return damaged("expected the manifest of a log, found something else");
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(Refused::Newer(version));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - 4);
        if version == 0 || crc32c::crc32c(content) != u32_at(checksum, 0) {
            return damaged("the manifest's checksum does not match");
        }
        let node_bytes = u32_at(content, 12) as usize;
        let epochs = u64_at(content, 40);
        let rest = &content[HEADER_BYTES..];
        let expected =
            (epochs as usize).checked_mul(EPOCH_BYTES).and_then(|bytes| bytes.checked_add(node_bytes));
        if expected != Some(rest.len()) {
            return damaged("the manifest's lengths do not add up");
        }
        let (node, starts) = rest.split_at(node_bytes);
        let start = |bytes: &[u8]| EpochStart {
            epoch: Epoch { counter: u64_at(bytes, 0), random: u64_at(bytes, 8) },
            first: position_at(bytes, 16),
        };
        if position_at(content, 32) == Position::ZERO {
            return damaged("the manifest lets the log begin at position 0");
        }
        let Some(epochs) = EpochHistory::new(starts.chunks_exact(EPOCH_BYTES).map(start).collect()) else {
            return damaged("the manifest's epochs do not ascend");
        };
        let Ok(node) = std::str::from_utf8(node) else {
            return damaged("the manifest's node name is not UTF-8");
        };
        Ok(Self {
            log_id: Uuid::from_bytes(bytes_at(content, 16)),
            first: position_at(content, 32),
            node: node.to_owned(),
            epochs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut epochs = EpochHistory::default();
        epochs.begin(7, Position::new(1));
        epochs.begin(8, Position::new(12));
        Manifest { log_id: Uuid::from_u128(5), first: Position::new(1), node: "flights".to_owned(), epochs }
    }

    #[test]
    fn a_manifest_survives_its_encoding_and_every_flipped_bit_is_found() {
        let mut bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes).ok(), Some(manifest()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit} flipped silently");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "cut to {len} silently");
        }
    }

    #[test]
    fn a_newer_manifest_is_told_from_a_damaged_one() {
        let mut bytes = manifest().encode();
        bytes[8] = 2;
        assert!(matches!(Manifest::decode(&bytes), Err(Refused::Newer(2))));
    }
}
