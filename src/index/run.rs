//! A run: an immutable file that indexes a range of positions.
//!
//! Owns lookups in one run: header, fences and the filter of terms are in memory, everything else is read a block at a time and
//! checked against its checksum. Invariants: nothing read from a damaged block is ever used; a run that met damage
//! says so from then on, and the worker rebuilds it. Does not know other runs, the log, or how a run is written.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use uuid::Uuid;

use super::{
    IndexError,
    codec::{BLOCK_BYTES, CHECKSUM_BYTES, block_is_sound, checksum, checksum_seed},
    filter::KeyFilter,
    header::{HEADER_BYTES, HEADER_USED_BYTES, Header, ID_ENTRY_BYTES, IDS_PER_BLOCK, Section},
    terms::{Fences, Term, entry_from},
};
use crate::disk::{Access, Disk, File};

/// An open run file.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: Box<dyn File>,
    header: Header,
    checksum_seed: u32,
    /// The first id of each block of ids.
    pub(super) id_fences: Vec<[u8; 16]>,
    pub(super) term_fences: Fences,
    pub(super) term_filter: KeyFilter,
    damaged: AtomicBool,
}

impl Run {
    /// Opens a run of this log and reads what stays in memory.
    pub(super) fn open(disk: &dyn Disk, path: &Path, log_id: Uuid) -> Result<Self, IndexError> {
        let file = disk.open(path, Access::Read).map_err(IndexError::io("open", path))?;
        let damaged = |what: String| IndexError::Damaged { path: path.to_owned(), what };
        let mut bytes = vec![0; HEADER_USED_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| damaged(format!("the header: {error}")))?;
        let header = Header::decode(&bytes).map_err(|what| damaged(what.into()))?;
        let len = file.len().map_err(IndexError::io("read the length of", path))?;
        if len != header.file_len {
            return Err(damaged(format!("expected {} bytes, found {len}", header.file_len)));
        }
        if header.log_id != log_id {
            return Err(damaged(format!("expected a run of log {log_id}, found one of {}", header.log_id)));
        }
        let seed = checksum_seed(log_id, header.first, header.last);
        let section = |name: &str, section: Section| {
            let mut bytes = vec![0; section.len as usize];
            let read = file.read_exact_at(&mut bytes, section.offset);
            read.map_err(|error| damaged(format!("the {name}: {error}")))?;
            if checksum(seed, section.offset, &bytes) == section.checksum {
                Ok(bytes)
            } else {
                Err(damaged(format!("expected another checksum of the {name}")))
            }
        };
        let not_one = |name: &str| damaged(format!("expected {name} of another length"));
        let (id_fences, tail) = {
            let bytes = section("id fences", header.sections.id_fences)?;
            let (fences, tail) = bytes.as_chunks::<16>();
            (fences.to_vec(), tail.len())
        };
        if tail != 0 || id_fences.len() as u64 != header.ids.div_ceil(IDS_PER_BLOCK as u64) {
            return Err(not_one("id fences"));
        }
        let filter = |name, place| KeyFilter::decode(&section(name, place)?).ok_or_else(|| not_one(name));
        Ok(Self {
            term_filter: filter("term filter", header.sections.term_filter)?,
            term_fences: Fences::decode(&section("term fences", header.sections.term_fences)?)
                .ok_or_else(|| not_one("term fences"))?,
            id_fences,
            path: path.to_owned(),
            header,
            checksum_seed: seed,
            damaged: AtomicBool::new(false),
            file,
        })
    }

    /// The position of the event with this id. `block` is room for what is read.
    pub(super) fn position_of(&self, id: &[u8; 16], block: &mut Vec<u8>) -> Result<Option<u64>, IndexError> {
        let Some(number) = self.id_fences.partition_point(|fence| fence <= id).checked_sub(1) else {
            return Ok(None);
        };
        let entries = self.read_id_block(number, block)?;
        match entries.binary_search_by(|entry| entry[..16].cmp(id)) {
            Ok(at) => Ok(Some(self.header.first + u64::from(id_entry(&entries[at]).1))),
            Err(_) => Ok(None),
        }
    }

    /// The dictionary entry with this key, whose hash is `hash`.
    pub(super) fn term(&self, key: &[u8], hash: u64) -> Result<Option<Term>, IndexError> {
        if !self.term_filter.may_contain(hash) {
            return Ok(None);
        }
        let found = TermCursor::seek(self, key)?.term;
        Ok(found.filter(|term| term.key == key))
    }

    /// The entries of the n-th block of ids, in order of id. `block` is room for what is read; it keeps its length, so
    /// that the next read into it costs no more than the read.
    pub(super) fn read_id_block<'b>(
        &self,
        number: usize,
        block: &'b mut Vec<u8>,
    ) -> Result<&'b [[u8; ID_ENTRY_BYTES]], IndexError> {
        let offset = HEADER_BYTES + (number * BLOCK_BYTES) as u64;
        self.read_block(offset, BLOCK_BYTES, block)?;
        let count = (self.header.ids as usize - number * IDS_PER_BLOCK).min(IDS_PER_BLOCK);
        let (entries, _) = block[CHECKSUM_BYTES..].as_chunks();
        Ok(&entries[..count])
    }

    /// Reads a block, its checksum included, and checks it.
    pub(super) fn read_block(&self, offset: u64, len: usize, block: &mut Vec<u8>) -> Result<(), IndexError> {
        // A place comes from bytes that were read: it is bounded before anything is allocated by it.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.header.file_len) {
            return Err(self.damage(format!("a block at byte {offset} would reach beyond the file")));
        }
        if block.len() < len {
            *block = vec![0; len];
        }
        block.truncate(len);
        if let Err(error) = self.file.read_exact_at(block, offset) {
            return Err(self.damage(format!("the block at byte {offset} cannot be read: {error}")));
        }
        if block_is_sound(block, self.checksum_seed, offset) {
            Ok(())
        } else {
            Err(self.damage(format!("expected another checksum of the block at byte {offset}")))
        }
    }

    /// Marks the run as damaged.
    pub(super) fn damage(&self, what: String) -> IndexError {
        self.damaged.store(true, Ordering::Release);
        IndexError::Damaged { path: self.path.clone(), what }
    }

    /// Whether a read met damage.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// The position of its first event.
    pub(super) fn first(&self) -> u64 {
        self.header.first
    }

    /// The position of its last event.
    pub(super) fn last(&self) -> u64 {
        self.header.last
    }

    /// How many events it indexes.
    pub(super) fn events(&self) -> u64 {
        self.last() - self.first() + 1
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many blocks of ids there are.
    pub(super) fn id_blocks(&self) -> usize {
        self.id_fences.len()
    }

    /// Bytes of filter and fences in memory.
    pub(super) fn resident_bytes(&self) -> usize {
        self.term_filter.size_bytes() + self.id_fences.len() * 16 + self.term_fences.size_bytes()
    }
}

/// An id and the offset of its position.
pub(super) fn id_entry(entry: &[u8; ID_ENTRY_BYTES]) -> ([u8; 16], u32) {
    let mut id = [0; 16];
    id.copy_from_slice(&entry[..16]);
    (id, u32::from_le_bytes([entry[16], entry[17], entry[18], entry[19]]))
}

/// Walks the dictionary of a run in order of key, one block in memory.
#[derive(Debug)]
pub(super) struct TermCursor<'a> {
    run: &'a Run,
    /// The number of the block behind the current one.
    next_block: usize,
    block: Vec<u8>,
    at: usize,
    /// Where the cursor stands; `None` behind the end.
    pub(super) term: Option<Term>,
}

impl<'a> TermCursor<'a> {
    /// Stands at the first term whose key is not below `key`.
    pub(super) fn seek(run: &'a Run, key: &[u8]) -> Result<Self, IndexError> {
        let next_block = run.term_fences.find(key);
        let mut cursor = Self { run, next_block, block: Vec::new(), at: 0, term: None };
        cursor.advance_to(key)?;
        Ok(cursor)
    }

    /// Moves to the next term.
    pub(super) fn advance(&mut self) -> Result<(), IndexError> {
        self.advance_to(&[])
    }

    fn advance_to(&mut self, key: &[u8]) -> Result<(), IndexError> {
        loop {
            if !self.block.is_empty() {
                let entry = entry_from(&self.block, self.at, key)
                    .map_err(|_| self.run.damage("expected entries in a dictionary block".into()))?;
                if let Some((term, behind)) = entry {
                    self.at = behind;
                    self.term = Some(term);
                    return Ok(());
                }
            }
            if self.next_block == self.run.term_fences.len() {
                self.term = None;
                return Ok(());
            }
            let (offset, len) = self.run.term_fences.block(self.next_block);
            self.run.read_block(offset, len, &mut self.block)?;
            self.next_block += 1;
            self.at = 0;
        }
    }
}
