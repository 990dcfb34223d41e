//! The head of a segment: three blocks of 4,096 bytes, which are the header and two slots for commit marks.
//!
//! The header is written once, before the segment gets its name. Marks alternate between the slots, so that a torn
//! write costs the newer one at most; each has a block to itself, so that no write touches the page of another. Does
//! not know groups.

use std::path::Path;

use uuid::Uuid;

use super::{
    Directory, LogError,
    epochs::Epoch,
    format::{Chain, Seed, VERSION, bytes_at, position_at, put, u32_at, u64_at},
};
use crate::{
    disk::{Access, File},
    event::Position,
};

const BLOCK_BYTES: u64 = 4_096;
/// Where a segment's groups begin.
pub(crate) const HEAD_BYTES: u64 = 3 * BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"ORSEGMEN";
const HEADER_BYTES: usize = 104;
const MARK_MAGIC: [u8; 8] = *b"ORCOMMIT";
const MARK_BYTES: usize = 80;

/// What a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: Uuid,
    /// The position of its first record; also its name.
    pub(crate) first: Position,
    /// The first position of the segment before; zero where the log began with this one.
    pub(crate) previous: Position,
    /// The chain before its first record.
    pub(crate) chain: Chain,
    /// The newest epoch when it was made.
    pub(crate) epoch: Epoch,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &(HEAD_BYTES as u32).to_le_bytes());
        put(&mut out, 16, self.log_id.as_bytes());
        put(&mut out, 32, &self.first.get().to_le_bytes());
        put(&mut out, 40, &self.previous.get().to_le_bytes());
        put(&mut out, 48, &self.chain);
        put(&mut out, 80, &self.epoch.counter.to_le_bytes());
        put(&mut out, 88, &self.epoch.random.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..100]);
        put(&mut out, 100, &checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Refused> {
        if bytes[..8] != MAGIC {
            return Err(Refused::Damaged("expected the header of a segment"));
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(Refused::Newer(version));
        }
        if crc32c::crc32c(&bytes[..100]) != u32_at(bytes, 100) {
            return Err(Refused::Damaged("the checksum of the segment's header does not match"));
        }
        if version == 0 || u32_at(bytes, 12) != HEAD_BYTES as u32 {
            return Err(Refused::Damaged("the segment's header has an unknown layout"));
        }
        Ok(Self {
            log_id: Uuid::from_bytes(bytes_at(bytes, 16)),
            first: position_at(bytes, 32),
            previous: position_at(bytes, 40),
            chain: bytes_at(bytes, 48),
            epoch: Epoch { counter: u64_at(bytes, 80), random: u64_at(bytes, 88) },
        })
    }
}

impl SegmentHeader {
    /// Whether bytes decode, as they are or with their checksum set right.
    pub(crate) fn untrusted(bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return false;
        };
        let mut sealed = *bytes;
        let checksum = crc32c::crc32c(&sealed[..100]);
        put(&mut sealed, 100, &checksum.to_le_bytes());
        Self::decode(bytes).is_ok() || Self::decode(&sealed).is_ok()
    }
}

enum Refused {
    Newer(u32),
    Damaged(&'static str),
}

/// Opens a segment and checks that it is the one of this name, of this log.
pub(crate) fn open(
    directory: &Directory,
    log_id: Uuid,
    first: Position,
    access: Access,
) -> Result<(Box<dyn File>, SegmentHeader), LogError> {
    let path = directory.segment(first);
    let file = directory.disk().open(&path, access);
    let file = file.map_err(LogError::io("open", &path))?;
    let damaged = |what: String| LogError::corrupt(&path, 0, (first, None), what);
    let mut bytes = [0; HEADER_BYTES];
    if file.len().map_err(LogError::io("read", &path))? < HEAD_BYTES {
        return Err(damaged("the file is shorter than a segment's head".into()));
    }
    file.read_exact_at(&mut bytes, 0).map_err(LogError::io("read", &path))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.first != first => {
            Err(damaged(format!("expected the segment of position {first}, found that of {}", header.first)))
        }
        Ok(header) if header.log_id != log_id => {
            Err(damaged(format!("expected a segment of log {log_id}, found one of {}", header.log_id)))
        }
        Ok(header) => Ok((file, header)),
        Err(Refused::Newer(found)) => Err(LogError::NewerFormat { path, found, known: VERSION }),
        Err(Refused::Damaged(what)) => Err(damaged(what.into())),
    }
}

/// A promise about a segment: everything before `offset` has been synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// 0, 1, 2 ... in this segment; the higher of the two slots counts.
    pub(crate) sequence: u64,
    /// Behind the last group that it vouches for.
    pub(crate) offset: u64,
    /// The last position of that group.
    pub(crate) last: Position,
    /// The chain behind that group.
    pub(crate) chain: Chain,
}

impl Mark {
    /// The mark of a segment without groups.
    pub(crate) fn initial(first: Position, chain: Chain) -> Self {
        Self { sequence: 0, offset: HEAD_BYTES, last: Position::new(first.get() - 1), chain }
    }

    /// Writes the mark into the slot of its sequence number. Durable with the file's next sync.
    pub(crate) fn write(
        &self,
        file: &dyn File,
        path: &Path,
        seed: Seed,
        first: Position,
    ) -> Result<(), LogError> {
        let at = slot(self.sequence % 2);
        file.write_all_at(&self.encode(seed, first), at).map_err(LogError::io("write", path))
    }

    /// Writes the mark and nothing into the other slot. Durable with the file's next sync.
    pub(crate) fn write_alone(&self, file: &dyn File, seed: Seed, first: Position) -> std::io::Result<()> {
        file.write_all_at(&[0; MARK_BYTES], slot((self.sequence + 1) % 2))?;
        file.write_all_at(&self.encode(seed, first), slot(self.sequence % 2))
    }

    /// The newest mark of a segment; `None` if neither slot holds one.
    pub(crate) fn read(
        file: &dyn File,
        path: &Path,
        seed: Seed,
        first: Position,
    ) -> Result<Option<Self>, LogError> {
        let mut newest: Option<Self> = None;
        for number in 0..2 {
            let mut bytes = [0; MARK_BYTES];
            file.read_exact_at(&mut bytes, slot(number)).map_err(LogError::io("read", path))?;
            let mark = Self::decode(&bytes, seed, first).filter(|mark| mark.sequence % 2 == number);
            if mark.is_some_and(|mark| newest.is_none_or(|newest| newest.sequence < mark.sequence)) {
                newest = mark;
            }
        }
        Ok(newest)
    }

    fn encode(&self, seed: Seed, first: Position) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        put(&mut out, 0, &MARK_MAGIC);
        put(&mut out, 8, &self.sequence.to_le_bytes());
        put(&mut out, 16, &self.offset.to_le_bytes());
        put(&mut out, 24, &self.last.get().to_le_bytes());
        put(&mut out, 32, &first.get().to_le_bytes());
        put(&mut out, 40, &self.chain);
        let checksum = seed.checksum(&[&out[..76]]);
        put(&mut out, 76, &checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; MARK_BYTES], seed: Seed, first: Position) -> Option<Self> {
        let valid = bytes[..8] == MARK_MAGIC
            && seed.checksum(&[&bytes[..76]]) == u32_at(bytes, 76)
            && position_at(bytes, 32) == first;
        valid.then(|| Self {
            sequence: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            last: position_at(bytes, 24),
            chain: bytes_at(bytes, 40),
        })
    }
}

impl Mark {
    /// Whether bytes decode, as they are or with their checksum set right.
    pub(crate) fn untrusted(bytes: &[u8], seed: Seed, first: Position) -> bool {
        let Some(bytes) = bytes.first_chunk::<MARK_BYTES>() else {
            return false;
        };
        let mut sealed = *bytes;
        let checksum = seed.checksum(&[&sealed[..76]]);
        put(&mut sealed, 76, &checksum.to_le_bytes());
        Self::decode(bytes, seed, first).is_some() || Self::decode(&sealed, seed, first).is_some()
    }
}

/// Writes header and mark into the bytes of a segment's head.
pub(crate) fn write_head(head: &mut [u8], header: &SegmentHeader, mark: &Mark, seed: Seed) {
    put(head, 0, &header.encode());
    put(head, slot(mark.sequence % 2) as usize, &mark.encode(seed, header.first));
}

fn slot(number: u64) -> u64 {
    BLOCK_BYTES * (1 + number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, sim::SimDisk};

    #[test]
    fn a_header_survives_its_encoding_and_every_flipped_bit_is_found() {
        let header = SegmentHeader {
            log_id: Uuid::from_u128(4),
            first: Position::new(9),
            previous: Position::new(2),
            chain: [3; 32],
            epoch: Epoch { counter: 1, random: 2 },
        };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes).ok(), Some(header));
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit} flipped silently");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_newer_of_two_marks_counts_and_a_damaged_one_does_not() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/")).unwrap();
        let path = Path::new("/segment");
        let file = disk.create_new(path).unwrap();
        file.set_len(HEAD_BYTES).unwrap();
        let (seed, first) = (Seed::new(Uuid::from_u128(4)), Position::new(9));
        let read = || Mark::read(&*file, path, seed, first).unwrap();
        assert_eq!(read(), None);
        let mark = |sequence: u64| Mark {
            sequence,
            offset: HEAD_BYTES + 8 * sequence,
            last: Position::new(8 + sequence),
            chain: [sequence as u8; 32],
        };
        for sequence in 0..3 {
            mark(sequence).write(&*file, path, seed, first).unwrap();
            assert_eq!(read(), Some(mark(sequence)));
        }
        for bit in 0..MARK_BYTES as u64 * 8 {
            disk.flip_bit(path, slot(0) * 8 + bit).unwrap();
            assert_eq!(read(), Some(mark(1)), "bit {bit}");
            disk.flip_bit(path, slot(0) * 8 + bit).unwrap();
        }
        let other = Mark::read(&*file, path, seed, Position::new(10)).unwrap();
        assert_eq!(other, None, "a mark counts in its own segment only");
    }
}
