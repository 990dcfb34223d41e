//! The resident filter over the ids of all runs, and the file that keeps it over a restart.
//!
//! One filter answers for the whole log, so an absent id costs one probe whatever the log's size. Owns the filter's
//! size and the form of its file. Invariants: the id of every event from `first` to `upto` passes; the filter takes at
//! most the bytes it is given, with fewer bits a key where that is not enough. Adding is the background work's alone.
//! Does not know runs.
//!
//! The file `ids.filter` is a header, padded to `HEADER_BYTES`, and the filter's blocks in pieces of `PIECE_BYTES`,
//! each behind its checksum. All integers are little-endian. The header is written last; the file is replaced whole.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;

use super::{
    IndexError,
    codec::{CHECKSUM_BYTES, Fields, block_is_sound, checksum_seed},
    filter::{FILTER_BLOCK_BYTES, KeyFilter},
    header::HEADER_BYTES,
    sink::write_file,
};
use crate::disk::{Access, Disk};

/// The name of the file.
pub(super) const FILTER_NAME: &str = "ids.filter";

const MAGIC: [u8; 8] = *b"outr-idf";
const VERSION: u32 = 1;
/// Bytes of the header that are not padding.
const HEADER_USED_BYTES: usize = 8 + 4 + 4 + 16 + 4 * 8 + 4;
/// Bytes of filter behind one checksum.
const PIECE_BYTES: usize = 64 * 1024;
const PIECE_BLOCKS: usize = PIECE_BYTES / FILTER_BLOCK_BYTES;

/// The ids of a stretch of the log, approximately.
#[derive(Debug)]
pub(super) struct IdFilter {
    filter: KeyFilter,
    /// The position of the first event whose id is here.
    first: u64,
    /// The position of the last one.
    upto: AtomicU64,
    keys: AtomicU64,
}

/// What the file says of the filter in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FilterHeader {
    log_id: Uuid,
    first: u64,
    upto: u64,
    keys: u64,
    blocks: u64,
}

impl IdFilter {
    /// An empty filter that begins at this position, with room for `keys` ids, or as many as `bytes_max` allow.
    pub(super) fn new(first: u64, keys: u64, bytes_max: u64) -> Self {
        let blocks = KeyFilter::blocks_for(keys).min(blocks_max(bytes_max));
        Self {
            filter: KeyFilter::of_blocks(blocks),
            first,
            upto: AtomicU64::new(first - 1),
            keys: AtomicU64::new(0),
        }
    }

    /// Adds the id with this hash.
    pub(super) fn add(&self, hash: u64) {
        self.filter.add(hash);
    }

    /// From now on it has the ids of all events up to this position, of which `keys` were added just now.
    pub(super) fn cover(&self, upto: u64, keys: u64) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.upto.fetch_max(upto, Ordering::Relaxed);
    }

    /// False only if no event from the first position to the last has the id with this hash. Counts its probes.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64, probes: &mut u64) -> bool {
        *probes += 1;
        self.filter.may_contain(hash)
    }

    /// The position of the first event whose id is here.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The position of the last event whose id is here.
    pub(super) fn upto(&self) -> u64 {
        self.upto.load(Ordering::Relaxed)
    }

    /// How many ids were added.
    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Whether it holds more ids than it was made for.
    pub(super) fn is_over_full(&self) -> bool {
        self.keys() > self.filter.room()
    }

    /// Whether it is as large as it may be.
    pub(super) fn is_largest(&self, bytes_max: u64) -> bool {
        self.filter.blocks() >= blocks_max(bytes_max)
    }

    /// Bytes it takes in memory.
    pub(super) fn size_bytes(&self) -> u64 {
        self.filter.size_bytes() as u64
    }

    /// Puts it in place of the file, durably.
    pub(super) fn store(&self, disk: &dyn Disk, dir: &Path, log_id: Uuid) -> Result<(), IndexError> {
        let header = FilterHeader {
            log_id,
            first: self.first,
            upto: self.upto(),
            keys: self.keys(),
            blocks: self.filter.blocks(),
        };
        write_file(disk, dir, FILTER_NAME, header.checksum_seed(), |mut sink| {
            let mut piece = Vec::with_capacity(CHECKSUM_BYTES + PIECE_BYTES);
            for start in (0..header.blocks as usize).step_by(PIECE_BLOCKS) {
                piece.clear();
                piece.resize(CHECKSUM_BYTES, 0);
                self.filter.put_blocks(start, PIECE_BLOCKS, &mut piece);
                sink.block(&mut piece)?;
            }
            sink.finish(header.encode(), FILTER_NAME)
        })?;
        Ok(())
    }

    /// The filter in the file; `None` if there is none.
    pub(super) fn load(
        disk: &dyn Disk,
        dir: &Path,
        log_id: Uuid,
        bytes_max: u64,
    ) -> Result<Option<Self>, IndexError> {
        let path = dir.join(FILTER_NAME);
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IndexError::io("open", &path)(error)),
        };
        let damaged = |what: String| IndexError::Damaged { path: path.clone(), what };
        let mut bytes = vec![0; HEADER_USED_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| damaged(format!("the header: {error}")))?;
        let header = FilterHeader::decode(&bytes).map_err(|what| damaged(what.into()))?;
        if header.log_id != log_id {
            return Err(damaged(format!("expected ids of log {log_id}, found those of {}", header.log_id)));
        }
        if header.blocks > blocks_max(bytes_max) {
            return Err(damaged(format!(
                "expected a filter of at most {bytes_max} bytes, as limits.memory allows now"
            )));
        }
        let filter = KeyFilter::of_blocks(header.blocks);
        let (mut offset, mut start) = (HEADER_BYTES, 0);
        while start < header.blocks as usize {
            let blocks = (header.blocks as usize - start).min(PIECE_BLOCKS);
            bytes.resize(CHECKSUM_BYTES + blocks * FILTER_BLOCK_BYTES, 0);
            let read = file.read_exact_at(&mut bytes, offset);
            read.map_err(|error| damaged(format!("the piece at byte {offset} cannot be read: {error}")))?;
            if !block_is_sound(&bytes, header.checksum_seed(), offset) {
                return Err(damaged(format!("expected another checksum of the piece at byte {offset}")));
            }
            let filled = filter.fill_blocks(start, &bytes[CHECKSUM_BYTES..]);
            filled.expect("the piece has the bytes of these blocks");
            offset += bytes.len() as u64;
            start += blocks;
        }
        let (upto, keys) = (AtomicU64::new(header.upto), AtomicU64::new(header.keys));
        Ok(Some(Self { filter, first: header.first, upto, keys }))
    }
}

fn blocks_max(bytes_max: u64) -> u64 {
    (bytes_max / FILTER_BLOCK_BYTES as u64).max(1)
}

impl FilterHeader {
    fn checksum_seed(&self) -> u32 {
        checksum_seed(self.log_id, self.first, self.upto)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_USED_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.log_id.as_bytes());
        for number in [self.first, self.upto, self.keys, self.blocks] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let cut_short = "expected a whole header";
        let body = bytes.get(..HEADER_USED_BYTES - 4).ok_or(cut_short)?;
        let mut fields = Fields(bytes);
        if fields.array() != Some(MAGIC) {
            return Err("expected the magic bytes of a filter of ids");
        }
        if fields.u32() != Some(VERSION) {
            return Err("expected format version 1");
        }
        if bytes.get(body.len()..HEADER_USED_BYTES) != Some(&crc32c::crc32c(body).to_le_bytes()[..]) {
            return Err("expected another checksum of the header");
        }
        let header = Self::take(fields).ok_or(cut_short)?;
        let fits = header.first > 0 && header.upto + 1 >= header.first && header.blocks > 0;
        if fits { Ok(header) } else { Err("expected a range of positions and blocks") }
    }

    /// The fields behind the version.
    fn take(mut fields: Fields<'_>) -> Option<Self> {
        fields.u32()?;
        Some(Self {
            log_id: Uuid::from_bytes(fields.array()?),
            first: fields.u64()?,
            upto: fields.u64()?,
            keys: fields.u64()?,
            blocks: fields.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{disk::sim::SimDisk, index::codec::hash};

    const LOG_ID: Uuid = Uuid::from_u128(3);

    fn key(number: u64) -> u64 {
        hash(1, &number.to_le_bytes())
    }

    fn stored(keys: u64) -> (SimDisk, PathBuf, IdFilter) {
        let (disk, dir) = (SimDisk::new(1), PathBuf::from("/index"));
        disk.create_dir_all(&dir).unwrap();
        let filter = IdFilter::new(5, keys, u64::MAX);
        (0..keys).for_each(|number| filter.add(key(number)));
        filter.cover(5 + keys - 1, keys);
        filter.store(&disk, &dir, LOG_ID).unwrap();
        (disk, dir, filter)
    }

    #[test]
    fn a_filter_survives_its_file() {
        let (disk, dir, filter) = stored(120_000);
        let loaded = IdFilter::load(&disk, &dir, LOG_ID, u64::MAX).unwrap().unwrap();
        assert_eq!((loaded.first(), loaded.upto(), loaded.keys()), (5, 120_004, 120_000));
        assert_eq!(loaded.filter.encode(), filter.filter.encode(), "of several pieces");
        assert!(!loaded.is_over_full());
        loaded.cover(200_000, 100_000);
        assert!(loaded.is_over_full() && !loaded.is_largest(u64::MAX));
    }

    #[test]
    fn every_flipped_bit_of_the_file_is_seen() {
        let (disk, dir, _) = stored(100);
        let path = dir.join(FILTER_NAME);
        let used = HEADER_USED_BYTES as u64 * 8;
        let body = HEADER_BYTES * 8;
        let end = disk.open(&path, Access::Read).unwrap().len().unwrap() * 8;
        for bit in (0..used).chain(body..end) {
            disk.flip_bit(&path, bit).unwrap();
            let loaded = IdFilter::load(&disk, &dir, LOG_ID, u64::MAX);
            assert!(matches!(loaded, Err(IndexError::Damaged { .. })), "bit {bit}");
            disk.flip_bit(&path, bit).unwrap();
        }
        assert!(IdFilter::load(&disk, &dir, LOG_ID, u64::MAX).unwrap().is_some());
    }

    #[test]
    fn a_file_that_is_cut_or_foreign_or_too_large_is_refused() {
        let (disk, dir, filter) = stored(100);
        let refused = |log_id, bytes_max| {
            assert!(matches!(
                IdFilter::load(&disk, &dir, log_id, bytes_max),
                Err(IndexError::Damaged { .. })
            ));
        };
        refused(Uuid::from_u128(4), u64::MAX);
        refused(LOG_ID, filter.size_bytes() - 1);
        let file = disk.open(&dir.join(FILTER_NAME), Access::ReadWrite).unwrap();
        for len in (0..file.len().unwrap()).rev().step_by(7) {
            file.set_len(len).unwrap();
            refused(LOG_ID, u64::MAX);
        }
        disk.remove_file(&dir.join(FILTER_NAME)).unwrap();
        assert!(IdFilter::load(&disk, &dir, LOG_ID, u64::MAX).unwrap().is_none());
    }

    #[test]
    fn a_filter_stays_within_its_bytes() {
        let filter = IdFilter::new(1, 1_000_000, 4_096);
        assert_eq!(filter.size_bytes(), 4_096);
        assert!(filter.is_largest(4_096));
        assert_eq!(IdFilter::new(1, 0, 0).size_bytes(), 32);
    }
}
