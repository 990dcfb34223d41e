//! The plan of a cut: a small file whose existence means that the cut has been decided, and is to be carried out.
//!
//! Owns its bytes; `docs/log-format.md` has them. Does not know the steps.

use std::io;

use uuid::Uuid;

use crate::{
    disk,
    event::Position,
    limits::LOG_MANIFEST_BYTES_MAX,
    log::{
        Directory, LogError,
        format::{Chain, VERSION, bytes_at, position_at, u32_at, u64_at},
        manifest::Manifest,
        segment::HEAD_BYTES,
    },
};

const MAGIC: [u8; 8] = *b"ORREPAIR";
const HEADER_BYTES: usize = 88;

/// Where a log ends from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CutPlan {
    pub(super) log_id: Uuid,
    /// The segment that becomes the last one.
    pub(super) segment: Position,
    /// Where its groups end.
    pub(super) offset: u64,
    /// The last position before that.
    pub(super) last: Position,
    /// The chain behind that position.
    pub(super) chain: Chain,
    /// The manifest that takes the place of the directory's.
    pub(super) manifest: Manifest,
}

impl CutPlan {
    /// Makes it the directory's plan, durably.
    pub(super) fn store(&self, directory: &Directory) -> Result<(), LogError> {
        let (path, bytes) = (directory.repair(), self.encode());
        let stored = disk::replace_file(directory.disk(), &path, &bytes);
        stored.map_err(|error| directory.refusal("write", &path, bytes.len() as u64, error))
    }

    /// The directory's plan, if there is one.
    pub(super) fn load(directory: &Directory) -> Result<Option<Self>, LogError> {
        let path = directory.repair();
        let bytes_max = LOG_MANIFEST_BYTES_MAX + HEADER_BYTES + 4;
        match disk::read_file(directory.disk(), &path, bytes_max) {
            Ok(bytes) => Self::decode(&bytes).map(Some).ok_or_else(|| {
                let what = "expected the plan of a repair, found something else";
                LogError::corrupt(&path, 0, (Position::new(1), None), what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("read", &path)(error)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.log_id.as_bytes());
        out.extend(self.segment.get().to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.last.get().to_le_bytes());
        out.extend(self.chain);
        out.extend(self.manifest.encode());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<4>()?;
        let (header, manifest) = content.split_at_checked(HEADER_BYTES)?;
        let fits = header[..8] == MAGIC
            && u32_at(header, 8) == VERSION
            && crc32c::crc32c(content) == u32::from_le_bytes(*checksum);
        let plan = fits.then(|| -> Option<Self> {
            Some(Self {
                log_id: Uuid::from_bytes(bytes_at(header, 16)),
                segment: position_at(header, 32),
                offset: u64_at(header, 40),
                last: position_at(header, 48),
                chain: bytes_at(header, 56),
                manifest: Manifest::from_bytes(manifest)?,
            })
        })??;
        (plan.manifest.log_id == plan.log_id && plan.offset >= HEAD_BYTES).then_some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::epochs::EpochHistory;

    #[test]
    fn a_plan_survives_its_encoding_and_every_flipped_bit_is_found() {
        let log_id = Uuid::from_u128(5);
        let mut epochs = EpochHistory::default();
        epochs.begin(7, Position::new(1));
        let manifest = Manifest { log_id, first: Position::new(1), node: "flights".to_owned(), epochs };
        let segment = Position::new(9);
        let plan =
            CutPlan { log_id, segment, offset: HEAD_BYTES, last: Position::new(8), chain: [3; 32], manifest };
        let mut bytes = plan.encode();
        assert_eq!(CutPlan::decode(&bytes), Some(plan));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CutPlan::decode(&bytes), None, "bit {bit} flipped silently");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert_eq!(CutPlan::decode(&bytes[..len]), None, "cut to {len} silently");
        }
    }
}
