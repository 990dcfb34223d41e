//! What all bytes of a log have in common: where fields lie, how checksums are seeded, how hashes are chained.
//!
//! All integers are little-endian. A checksum of anything inside a log begins with the log's id, so that bytes of
//! another log never pass. Hashes depend on payloads, positions and the log's id alone, not on segments or offsets.
//! Does not know files.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::event::Position;

/// The format of manifest, segments and sidecars that this program writes, and the newest one it reads.
pub(crate) const VERSION: u32 = 1;

/// A SHA-256 value: the hash over all records up to a position.
pub(crate) type Chain = [u8; 32];

/// The beginning of every checksum of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(log_id: Uuid) -> Self {
        Self(crc32c::crc32c(log_id.as_bytes()))
    }

    /// The beginning of the checksum of a record at this position.
    pub(crate) fn at(self, position: Position) -> Self {
        Self(crc32c::crc32c_append(self.0, &position.get().to_le_bytes()))
    }

    /// The CRC-32C of these parts in a row.
    pub(crate) fn checksum(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(self.0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

/// The chain before the first record of a log.
pub(crate) fn genesis(log_id: Uuid) -> Chain {
    Sha256::new().chain_update([2]).chain_update(log_id.as_bytes()).finalize().into()
}

/// The chain of a group while its records' digests come in.
pub(crate) struct Link(Sha256);

impl Link {
    pub(crate) fn new(before: &Chain, first: Position, records: u32) -> Self {
        let hash =
            Sha256::new().chain_update([1]).chain_update(before).chain_update(first.get().to_le_bytes());
        Self(hash.chain_update(records.to_le_bytes()))
    }

    pub(crate) fn add(&mut self, payload: &[u8]) {
        let digest = Sha256::new().chain_update([0]).chain_update(payload).finalize();
        self.0.update(digest);
    }

    pub(crate) fn finish(self) -> Chain {
        self.0.finalize().into()
    }
}

/// The bytes at a fixed place. The place lies inside: every caller holds a buffer of the structure's full length.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

pub(crate) fn position_at(bytes: &[u8], at: usize) -> Position {
    Position::new(u64_at(bytes, at))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
