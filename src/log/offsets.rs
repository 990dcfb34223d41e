//! Where the records of a segment begin: in memory while it grows, in a sidecar file once it is sealed.
//!
//! A sidecar is disposable: it is never synced, its checksums decide whether it counts, and walking the segment makes
//! it anew. Does not know what stands at the offsets.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use super::{
    Directory, LogError,
    format::{Seed, VERSION, position_at, put, u32_at, u64_at},
};
use crate::{
    disk::{Access, File},
    event::Position,
};

const MAGIC: [u8; 8] = *b"OROFFSET";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 4;
/// Bytes of a sidecar that are checked at once.
const CHECK_BYTES: usize = 1 << 16;

/// Where the records of one segment begin.
#[derive(Debug)]
pub(crate) enum Offsets {
    /// Of a segment that grows, or whose sidecar could not be written.
    Memory(RwLock<Starts>),
    /// Of a sealed segment.
    Sidecar(Sidecar),
}

/// The beginnings of records, and where the last one's group ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    pub(crate) starts: Vec<u32>,
    pub(crate) end: u64,
}

/// A checked sidecar file.
#[derive(Debug)]
pub(crate) struct Sidecar {
    file: Box<dyn File>,
    path: PathBuf,
    records: u64,
    end: u64,
}

impl Starts {
    /// Of a segment without records.
    pub(crate) fn empty(end: u64) -> Self {
        Self { starts: Vec::new(), end }
    }

    /// From the first record's beginning to the end.
    pub(crate) fn bytes(&self) -> usize {
        self.starts.first().map_or(0, |first| (self.end - u64::from(*first)) as usize)
    }

    /// Of the first `bytes` at most, how many whole records.
    pub(crate) fn records_in(&self, bytes: usize) -> usize {
        let Some(first) = self.starts.first() else {
            return 0;
        };
        let limit = u64::from(*first).saturating_add(bytes as u64);
        if self.end <= limit {
            self.starts.len()
        } else {
            // A record ends at the latest where the next one begins.
            let behind = self.starts.partition_point(|start| u64::from(*start) <= limit);
            behind.saturating_sub(1)
        }
    }

    /// Only the first `records`.
    pub(crate) fn truncate(&mut self, records: usize) {
        if let Some(next) = self.starts.get(records) {
            self.end = u64::from(*next);
            self.starts.truncate(records);
        }
    }

    /// Only the last records that fit in `bytes`, at least one.
    pub(crate) fn keep_back(&mut self, bytes: usize) {
        let least = self.end.saturating_sub(bytes as u64);
        let skipped = self.starts.partition_point(|start| u64::from(*start) < least);
        self.starts.drain(..skipped.min(self.starts.len().saturating_sub(1)));
    }
}

impl Offsets {
    pub(crate) fn memory(starts: Starts) -> Self {
        Self::Memory(RwLock::new(starts))
    }

    /// Adds the records of a group that became durable at `base`.
    pub(crate) fn push(&self, starts: &[u32], base: u64, end: u64) {
        let Self::Memory(memory) = self else {
            unreachable!("only a segment whose offsets are in memory grows")
        };
        let mut memory = memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.starts.extend(starts.iter().map(|start| base as u32 + start));
        memory.end = end;
    }

    /// The beginnings of all records of a segment that grows.
    pub(crate) fn all(&self) -> Starts {
        let Self::Memory(memory) = self else {
            unreachable!("only a segment whose offsets are in memory grows")
        };
        memory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The beginnings of `count` records from the `from`-th on, which are there.
    pub(crate) fn span(&self, from: u64, count: usize) -> Result<Starts, LogError> {
        match self {
            Self::Memory(memory) => {
                let memory = memory.read().unwrap_or_else(PoisonError::into_inner);
                let (from, upto) = (from as usize, from as usize + count);
                Ok(Starts {
                    starts: memory.starts[from..upto].to_vec(),
                    end: memory.starts.get(upto).map_or(memory.end, |next| u64::from(*next)),
                })
            }
            Self::Sidecar(sidecar) => sidecar.span(from, count),
        }
    }
}

impl Sidecar {
    /// Opens and checks the sidecar of a segment. `None` if it is missing, damaged or of other records; what it says
    /// can always be had from the segment.
    pub(crate) fn open(directory: &Directory, seed: Seed, first: Position, records: u64) -> Option<Self> {
        let path = directory.offsets(first);
        let file = directory.disk().open(&path, Access::Read).ok()?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let fits = header[..8] == MAGIC
            && u32_at(&header, 8) == VERSION
            && seed.checksum(&[&header[..44]]) == u32_at(&header, 44)
            && position_at(&header, 16) == first
            && u64_at(&header, 24) == records
            && file.len().ok()? == HEADER_BYTES as u64 + records * ENTRY_BYTES as u64;
        let checksum = fits.then(|| entries_checksum(&*file, seed, records)).flatten()?;
        (checksum == u32_at(&header, 40)).then(|| Self { end: u64_at(&header, 32), file, path, records })
    }

    /// The beginnings of all records.
    pub(crate) fn all(&self) -> Result<Starts, LogError> {
        self.span(0, self.records as usize)
    }

    fn span(&self, from: u64, count: usize) -> Result<Starts, LogError> {
        let more = usize::from(from + (count as u64) < self.records);
        let mut bytes = vec![0; (count + more) * ENTRY_BYTES];
        let offset = HEADER_BYTES as u64 + from * ENTRY_BYTES as u64;
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(LogError::io("read", &self.path))?;
        let mut starts: Vec<u32> = bytes.chunks_exact(ENTRY_BYTES).map(|entry| u32_at(entry, 0)).collect();
        let end = if more == 1 { starts.pop().map_or(self.end, u64::from) } else { self.end };
        // The checksum was right when the file was opened; this read may have come from elsewhere all the same.
        let ascends = starts.is_sorted() && starts.last().is_none_or(|last| u64::from(*last) < end);
        if !ascends {
            let error =
                std::io::Error::new(std::io::ErrorKind::InvalidData, "the record offsets do not ascend");
            return Err(LogError::io("read", &self.path)(error));
        }
        Ok(Starts { starts, end })
    }
}

fn entries_checksum(file: &dyn File, seed: Seed, records: u64) -> Option<u32> {
    let mut buffer = vec![0; CHECK_BYTES.min(records as usize * ENTRY_BYTES)];
    let mut checksum = seed.checksum(&[]);
    let (mut at, end) = (HEADER_BYTES as u64, HEADER_BYTES as u64 + records * ENTRY_BYTES as u64);
    while at < end {
        let bytes = (buffer.len() as u64).min(end - at) as usize;
        file.read_exact_at(&mut buffer[..bytes], at).ok()?;
        checksum = crc32c::crc32c_append(checksum, &buffer[..bytes]);
        at += bytes as u64;
    }
    Some(checksum)
}

/// Writes the sidecar of a segment. It is not synced, and the caller may go on without it.
pub(crate) fn store(
    directory: &Directory,
    seed: Seed,
    first: Position,
    starts: &Starts,
) -> std::io::Result<()> {
    let path = directory.offsets(first);
    let new = path.with_extension("offsets.new");
    let disk = directory.disk();
    for old in [&new, &path] {
        if disk.exists(old)? {
            disk.remove_file(old)?;
        }
    }
    write(disk.create_new(&new)?.as_ref(), seed, first, starts)?;
    disk.rename(&new, &path)
}

fn write(file: &dyn File, seed: Seed, first: Position, starts: &Starts) -> std::io::Result<()> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend(starts.starts.iter().flat_map(|start| start.to_le_bytes()));
    let entries_checksum = seed.checksum(&[&bytes[HEADER_BYTES..]]);
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, 8, &VERSION.to_le_bytes());
    put(&mut bytes, 16, &first.get().to_le_bytes());
    put(&mut bytes, 24, &(starts.starts.len() as u64).to_le_bytes());
    put(&mut bytes, 32, &starts.end.to_le_bytes());
    put(&mut bytes, 40, &entries_checksum.to_le_bytes());
    let checksum = seed.checksum(&[&bytes[..44]]);
    put(&mut bytes, 44, &checksum.to_le_bytes());
    file.write_all_at(&bytes, 0)
}

/// Says that a sidecar could not be written. Reading then walks the segment once more.
pub(crate) fn warn_not_stored(path: &Path, error: &std::io::Error) {
    tracing::warn!(path = %path.display(), %error, "the record offsets of a sealed segment were not kept; they will be made anew");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::disk::{Disk as _, sim::SimDisk};

    #[test]
    fn a_sidecar_gives_what_memory_gives_and_counts_only_undamaged() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/log")).unwrap();
        let directory = Directory::new(Arc::new(disk.clone()), "/log".into(), None);
        let (seed, first) = (Seed::new(Uuid::from_u128(3)), Position::new(11));
        let starts = Starts { starts: vec![12_352, 12_400, 12_900, 20_000], end: 20_100 };
        store(&directory, seed, first, &starts).unwrap();
        let open = |records| Sidecar::open(&directory, seed, first, records);
        let (memory, sidecar) = (Offsets::memory(starts.clone()), Offsets::Sidecar(open(4).unwrap()));
        for from in 0..4 {
            for count in 1..=(4 - from) as usize {
                assert_eq!(memory.span(from, count).unwrap(), sidecar.span(from, count).unwrap());
            }
        }
        assert!(open(3).is_none());
        for bit in 0..(HEADER_BYTES as u64 + 16) * 8 {
            disk.flip_bit(&directory.offsets(first), bit).unwrap();
            assert!(open(4).is_none(), "bit {bit} flipped silently");
            disk.flip_bit(&directory.offsets(first), bit).unwrap();
        }
    }

    #[test]
    fn spans_are_cut_to_a_number_of_bytes() {
        let starts = Starts { starts: vec![100, 150, 300], end: 400 };
        let records_in = |bytes| starts.records_in(bytes);
        assert_eq!([0, 49, 50, 199, 200, 299, 300].map(records_in), [0, 0, 1, 1, 2, 2, 3]);
        let kept = |bytes| {
            let mut starts = starts.clone();
            starts.keep_back(bytes);
            starts.starts.len()
        };
        assert_eq!([0, 99, 100, 249, 250, 300].map(kept), [1, 1, 1, 1, 2, 3]);
    }
}
