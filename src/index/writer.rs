//! Writes a run file, from front to back, with bounded memory besides the resident sections.
//!
//! Steps: create `<name>.new`; ids in order; terms in order of key, each with its offsets ascending; resident
//! sections; header; sync; rename to `<name>`; sync the directory. Commit point: the rename, once the directory is
//! synced. Recovery: a `.new` file is removed at start. Invariant: a file under its final name is whole.
//! Does not know where the terms come from.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    IndexError,
    codec::{BLOCK_BYTES, CHECKSUM_BYTES, checksum, checksum_seed, hash, hash_seed, put_varint, seal_block},
    filter::KeyFilter,
    header::{HEADER_BYTES, Header, ID_ENTRY_BYTES, IDS_PER_BLOCK, Section, Sections, run_name},
    postings::POSTING_HEADER_BYTES,
    terms::{Fences, Kind, List, Term},
};
use crate::{
    disk::{Disk, File},
    limits::INDEX_SYNC_BYTES,
};

/// Bytes of deltas that are kept in the dictionary rather than in posting blocks.
const INLINE_BYTES_MAX: usize = 128;
/// Bytes of an entry's key and numbers at most: a kind, a name of 256 bytes, varints.
const ENTRY_BYTES_MAX: usize = INLINE_BYTES_MAX + 257 + 48;
/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Which run is written, and for how many ids and terms at most it shall have room.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunSize {
    pub(super) log_id: Uuid,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) ids: u64,
    pub(super) terms: u64,
}

/// Writes the run that `fill` fills and gives its path. If that fails, the space is given back.
pub(super) fn write_run(
    disk: &dyn Disk,
    dir: &Path,
    size: RunSize,
    fill: impl FnOnce(&mut RunWriter<'_>) -> Result<(), IndexError>,
) -> Result<PathBuf, IndexError> {
    let path = dir.join(format!("{}.new", run_name(size.first, size.last)));
    remove_if_there(disk, &path)?;
    let written = RunWriter::create(disk, dir, &path, size).and_then(|mut writer| {
        fill(&mut writer)?;
        writer.finish()
    });
    if written.is_err() && remove_if_there(disk, &path).is_err() {
        tracing::warn!(path = %path.display(), "an unfinished index file cannot be removed; the next start removes it");
    }
    written
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), IndexError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IndexError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A run file in the making.
#[derive(Debug)]
pub(super) struct RunWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    sink: Sink,
    header: Header,
    hash_seed: u64,
    ids: Vec<u8>,
    id_fences: Vec<u8>,
    id_filter: KeyFilter,
    dictionary: Vec<u8>,
    first_key: Vec<u8>,
    term_fences: Fences,
    term_filter: KeyFilter,
}

impl<'a> RunWriter<'a> {
    fn create(disk: &'a dyn Disk, dir: &'a Path, path: &Path, size: RunSize) -> Result<Self, IndexError> {
        let RunSize { log_id, first, last, ids, terms } = size;
        let path = path.to_owned();
        let file = disk.create_new(&path).map_err(IndexError::io("create", &path))?;
        let seed = checksum_seed(log_id, first, last);
        let sections = Sections::default();
        Ok(Self {
            disk,
            dir,
            sink: Sink { file, path, seed, offset: HEADER_BYTES, buffer: Vec::new(), unsynced: 0 },
            header: Header { log_id, first, last, system_events: 0, ids: 0, terms: 0, sections, file_len: 0 },
            hash_seed: hash_seed(log_id),
            ids: vec![0; CHECKSUM_BYTES],
            id_fences: Vec::new(),
            id_filter: KeyFilter::with_room_for(ids),
            dictionary: vec![0; CHECKSUM_BYTES],
            first_key: Vec::new(),
            term_fences: Fences::default(),
            term_filter: KeyFilter::with_room_for(terms),
        })
    }

    /// Adds an id, behind all ids below it and before all terms.
    pub(super) fn push_id(&mut self, id: &[u8; 16], offset: u32) -> Result<(), IndexError> {
        if self.ids.len() == CHECKSUM_BYTES {
            self.id_fences.extend_from_slice(id);
        }
        self.ids.extend_from_slice(id);
        self.ids.extend_from_slice(&offset.to_le_bytes());
        self.id_filter.add(hash(self.hash_seed, id));
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
            id_filter: self.sink.section(&self.id_filter.encode())?,
            term_fences: self.sink.section(&self.term_fences.encode())?,
            term_filter: self.sink.section(&self.term_filter.encode())?,
        };
        self.header.file_len = self.sink.offset;
        self.sink.finish(&self.header)?;
        let path = self.dir.join(run_name(self.header.first, self.header.last));
        self.disk.rename(&self.sink.path, &path).map_err(IndexError::io("rename", &self.sink.path))?;
        self.disk.sync_dir(self.dir).map_err(IndexError::io("sync", self.dir))?;
        Ok(path)
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
            self.term_fences.push(&self.first_key, self.sink.offset, self.dictionary.len());
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
    fn push(&mut self, offset: u32, sink: &mut Sink) -> Result<(), IndexError> {
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

    fn finish(mut self, key: &[u8], last_revision: u64, sink: &mut Sink) -> Result<Term, IndexError> {
        assert!(self.count > 0, "a term has a position");
        let list = if self.start.is_none() && self.deltas.len() <= INLINE_BYTES_MAX {
            List::Inline(std::mem::take(&mut self.deltas))
        } else {
            self.flush(0, sink)?;
            let offset = self.start.unwrap_or(sink.offset);
            List::Blocks { offset, len: sink.offset - offset }
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

    fn flush(&mut self, len_min: usize, sink: &mut Sink) -> Result<(), IndexError> {
        self.start.get_or_insert(sink.offset);
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

/// Appends to the file through a buffer.
#[derive(Debug)]
struct Sink {
    file: Box<dyn File>,
    path: PathBuf,
    seed: u32,
    /// Where the next byte goes.
    offset: u64,
    buffer: Vec<u8>,
    unsynced: u64,
}

impl Sink {
    /// Seals a block and appends it.
    fn block(&mut self, block: &mut [u8]) -> Result<(), IndexError> {
        seal_block(block, self.seed, self.offset);
        self.append(block)
    }

    fn section(&mut self, bytes: &[u8]) -> Result<Section, IndexError> {
        let offset = self.offset;
        self.append(bytes)?;
        Ok(Section { offset, len: bytes.len() as u64, checksum: checksum(self.seed, offset, bytes) })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.buffer.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let start = self.offset - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, start).map_err(IndexError::io("write", &self.path))?;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= INDEX_SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), IndexError> {
        self.unsynced = 0;
        self.file.sync_data().map_err(IndexError::io("sync", &self.path))
    }

    fn finish(&mut self, header: &Header) -> Result<(), IndexError> {
        self.flush()?;
        let mut bytes = header.encode();
        bytes.resize(HEADER_BYTES as usize, 0);
        self.file.write_all_at(&bytes, 0).map_err(IndexError::io("write", &self.path))?;
        self.sync()
    }
}
