//! Writes a run file, from front to back, with bounded memory besides the resident sections.
//!
//! Ids in order; terms in order of key, each with its offsets ascending; resident sections; header. How the file
//! becomes durable is the matter of `sink`. Does not know where the terms come from.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{
    IndexError,
    codec::{BLOCK_BYTES, CHECKSUM_BYTES, checksum_seed, hash, hash_seed, put_varint},
    filter::KeyFilter,
    header::{Header, ID_ENTRY_BYTES, IDS_PER_BLOCK, Sections, run_name},
    postings::POSTING_HEADER_BYTES,
    sink::{Sink, write_file},
    terms::{Fences, Kind, List, Term},
};
use crate::disk::Disk;

/// Bytes of deltas that are kept in the dictionary rather than in posting blocks.
const INLINE_BYTES_MAX: usize = 128;
/// Bytes of an entry's key and numbers at most: a kind, a name of 256 bytes, varints.
const ENTRY_BYTES_MAX: usize = INLINE_BYTES_MAX + 257 + 48;

/// Which run is written, and for how many terms at most it shall have room.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunSize {
    pub(super) log_id: Uuid,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) terms: u64,
}

/// Writes the run that `fill` fills and gives its path. If that fails, the space is given back.
pub(super) fn write_run(
    disk: &dyn Disk,
    dir: &Path,
    size: RunSize,
    fill: impl FnOnce(&mut RunWriter<'_>) -> Result<(), IndexError>,
) -> Result<PathBuf, IndexError> {
    let seed = checksum_seed(size.log_id, size.first, size.last);
    write_file(disk, dir, &run_name(size.first, size.last), seed, |sink| {
        let mut writer = RunWriter::new(sink, size);
        fill(&mut writer)?;
        writer.finish()
    })
}

/// A run file in the making.
#[derive(Debug)]
pub(super) struct RunWriter<'a> {
    sink: Sink<'a>,
    header: Header,
    hash_seed: u64,
    ids: Vec<u8>,
    id_fences: Vec<u8>,
    dictionary: Vec<u8>,
    first_key: Vec<u8>,
    term_fences: Fences,
    term_filter: KeyFilter,
}

impl<'a> RunWriter<'a> {
    fn new(sink: Sink<'a>, size: RunSize) -> Self {
        let RunSize { log_id, first, last, terms } = size;
        let sections = Sections::default();
        Self {
            sink,
            header: Header { log_id, first, last, system_events: 0, ids: 0, terms: 0, sections, file_len: 0 },
            hash_seed: hash_seed(log_id),
            ids: vec![0; CHECKSUM_BYTES],
            id_fences: Vec::new(),
            dictionary: vec![0; CHECKSUM_BYTES],
            first_key: Vec::new(),
            term_fences: Fences::default(),
            term_filter: KeyFilter::with_room_for(terms),
        }
    }

    /// Adds an id, behind all ids below it and before all terms.
    pub(super) fn push_id(&mut self, id: &[u8; 16], offset: u32) -> Result<(), IndexError> {
        if self.ids.len() == CHECKSUM_BYTES {
            self.id_fences.extend_from_slice(id);
        }
        self.ids.extend_from_slice(id);
        self.ids.extend_from_slice(&offset.to_le_bytes());
        self.header.ids += 1;
        if self.ids.len() == CHECKSUM_BYTES + IDS_PER_BLOCK * ID_ENTRY_BYTES {
            self.flush_ids()?;
        }
        Ok(())
    }

    /// Adds a term behind all terms below it. `offsets` calls back with its offsets, ascending, at least one.
    pub(super) fn push_term(
        &mut self,
        key: &[u8],
        last_revision: u64,
        offsets: impl FnOnce(&mut dyn FnMut(u32) -> Result<(), IndexError>) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        self.flush_ids()?;
        let mut list = ListWriter::default();
        offsets(&mut |offset| list.push(offset, &mut self.sink))?;
        let term = list.finish(key, last_revision, &mut self.sink)?;
        if self.dictionary.len() + ENTRY_BYTES_MAX > BLOCK_BYTES {
            self.flush_dictionary()?;
        }
        if self.dictionary.len() == CHECKSUM_BYTES {
            self.first_key = key.to_vec();
        }
        term.put(&mut self.dictionary);
        self.term_filter.add(hash(self.hash_seed, key));
        self.header.terms += 1;
        if key[0] == Kind::System as u8 {
            self.header.system_events += u64::from(term.count);
        }
        Ok(())
    }

    /// Makes the run durable under its name, which it gives back.
    fn finish(mut self) -> Result<PathBuf, IndexError> {
        self.flush_ids()?;
        self.flush_dictionary()?;
        self.header.sections = Sections {
            id_fences: self.sink.section(&self.id_fences)?,
            term_fences: self.sink.section(&self.term_fences.encode())?,
            term_filter: self.sink.section(&self.term_filter.encode())?,
        };
        self.header.file_len = self.sink.offset();
        self.sink.finish(self.header.encode(), &run_name(self.header.first, self.header.last))
    }

    fn flush_ids(&mut self) -> Result<(), IndexError> {
        if self.ids.len() > CHECKSUM_BYTES {
            self.ids.resize(BLOCK_BYTES, 0);
            self.sink.block(&mut self.ids)?;
            self.ids.truncate(CHECKSUM_BYTES);
        }
        Ok(())
    }

    fn flush_dictionary(&mut self) -> Result<(), IndexError> {
        if self.dictionary.len() > CHECKSUM_BYTES {
            self.term_fences.push(&self.first_key, self.sink.offset(), self.dictionary.len());
            self.sink.block(&mut self.dictionary)?;
            self.dictionary.truncate(CHECKSUM_BYTES);
        }
        Ok(())
    }
}

/// One posting list in the making: the offsets since the last full block.
#[derive(Debug, Default)]
struct ListWriter {
    count: u32,
    first: u32,
    last: u32,
    /// First offset of the block in the making, and how many deltas stand behind it.
    block_first: u32,
    block_deltas: u16,
    deltas: Vec<u8>,
    /// Where the first block lies, once there is one.
    start: Option<u64>,
}

impl ListWriter {
    fn push(&mut self, offset: u32, sink: &mut Sink<'_>) -> Result<(), IndexError> {
        assert!(self.count == 0 || offset > self.last, "offsets of a term ascend");
        if self.count == 0 {
            self.first = offset;
            self.block_first = offset;
        } else if POSTING_HEADER_BYTES + self.deltas.len() + 5 > BLOCK_BYTES {
            self.flush(BLOCK_BYTES, sink)?;
            self.block_first = offset;
        } else {
            put_varint(&mut self.deltas, u64::from(offset - self.last));
            self.block_deltas += 1;
        }
        self.count += 1;
        self.last = offset;
        Ok(())
    }

    fn finish(mut self, key: &[u8], last_revision: u64, sink: &mut Sink<'_>) -> Result<Term, IndexError> {
        assert!(self.count > 0, "a term has a position");
        let list = if self.start.is_none() && self.deltas.len() <= INLINE_BYTES_MAX {
            List::Inline(std::mem::take(&mut self.deltas))
        } else {
            self.flush(0, sink)?;
            let offset = self.start.unwrap_or_else(|| sink.offset());
            List::Blocks { offset, len: sink.offset() - offset }
        };
        Ok(Term {
            key: key.to_vec(),
            count: self.count,
            last_revision,
            first: self.first,
            last: self.last,
            list,
        })
    }

    fn flush(&mut self, len_min: usize, sink: &mut Sink<'_>) -> Result<(), IndexError> {
        self.start.get_or_insert(sink.offset());
        let mut block = vec![0; CHECKSUM_BYTES];
        block.extend_from_slice(&self.block_first.to_le_bytes());
        block.extend_from_slice(&self.last.to_le_bytes());
        block.extend_from_slice(&self.block_deltas.to_le_bytes());
        block.append(&mut self.deltas);
        block.resize(block.len().max(len_min), 0);
        self.block_deltas = 0;
        sink.block(&mut block)
    }
}
