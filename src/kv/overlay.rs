//! Looking at a redb file without changing a byte of it, although redb recovers a file when it opens it.
//!
//! Owns the storage that reads from the file and keeps what is written in memory, up to a bound. Does not know tables.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, Database, StorageBackend};

use super::KvError;
use crate::{
    disk::{Access, Disk, File},
    limits::{VERIFY_CACHE_BYTES, VERIFY_OVERLAY_BYTES_MAX},
};

const PAGE_BYTES: u64 = 4_096;

/// Opens a file for looking at it and checks all of its pages. What redb writes stays in memory.
pub fn open_read_only(disk: &dyn Disk, path: &Path) -> Result<Database, KvError> {
    let file = disk.open(path, Access::Read)?;
    let len = file.len()?;
    if len == 0 {
        return Err(KvError::Damaged("it is empty".into()));
    }
    let backend = Overlay { file, pages: Mutex::new(Pages { len, below: len, written: HashMap::new() }) };
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Database, KvError> {
        let mut database = Builder::new().set_cache_size(VERIFY_CACHE_BYTES).create_with_backend(backend)?;
        if database.check_integrity()? {
            Ok(database)
        } else {
            Err(KvError::Damaged("its pages do not hang together".into()))
        }
    }));
    opened.unwrap_or_else(|_| Err(KvError::Damaged("reading it failed an internal check of redb".into())))
}

/// A file, and what was written over it.
#[derive(Debug)]
struct Overlay {
    file: Box<dyn File>,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    len: u64,
    /// What lies in the file from here on does not count any more.
    below: u64,
    written: HashMap<u64, Box<[u8; PAGE_BYTES as usize]>>,
}

impl Overlay {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of the file, zeros where it has none.
    fn read_below(&self, below: u64, out: &mut [u8], offset: u64) -> io::Result<()> {
        let there = below.saturating_sub(offset).min(out.len() as u64) as usize;
        self.file.read_exact_at(&mut out[..there], offset)?;
        out[there..].fill(0);
        Ok(())
    }

    fn write_page(&self, pages: &mut Pages, number: u64, at: usize, data: &[u8]) -> io::Result<()> {
        if !pages.written.contains_key(&number) {
            if (pages.written.len() as u64 + 1) * PAGE_BYTES > VERIFY_OVERLAY_BYTES_MAX {
                let what =
                    format!("recovering it takes more than {VERIFY_OVERLAY_BYTES_MAX} bytes of memory");
                return Err(io::Error::other(what));
            }
            let mut page = Box::new([0; PAGE_BYTES as usize]);
            self.read_below(pages.below, &mut page[..], number * PAGE_BYTES)?;
            pages.written.insert(number, page);
        }
        if let Some(page) = pages.written.get_mut(&number) {
            page[at..at + data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}

/// The pieces of `offset..offset + len` by page: page number, place in the page, place in the piece.
pub(super) fn by_page(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = ((offset + done as u64) % PAGE_BYTES) as usize;
        let bytes = (PAGE_BYTES as usize - at).min(len - done);
        let piece = ((offset + done as u64) / PAGE_BYTES, at, done..done + bytes);
        done += bytes;
        (bytes > 0).then_some(piece)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let pages = self.pages();
        if offset + out.len() as u64 > pages.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(pages.below, out, offset)?;
        for (number, at, piece) in by_page(offset, out.len()) {
            if let Some(page) = pages.written.get(&number) {
                let bytes = piece.len();
                out[piece].copy_from_slice(&page[at..at + bytes]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut pages = self.pages();
        if len < pages.len {
            pages.written.retain(|number, _| number * PAGE_BYTES < len);
            pages.below = pages.below.min(len);
            let rest = (len % PAGE_BYTES) as usize;
            if let Some(page) = pages.written.get_mut(&(len / PAGE_BYTES)) {
                page[rest..].fill(0);
            }
        }
        pages.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = self.pages();
        for (number, at, piece) in by_page(offset, data.len()) {
            self.write_page(&mut pages, number, at, &data[piece])?;
        }
        pages.len = pages.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::sim::SimDisk;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Len(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..20_000, prop::collection::vec(1_u8.., 1..9_000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0_u64..30_000).prop_map(Step::Len),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_would_and_leaves_the_file_alone(
            before in prop::collection::vec(any::<u8>(), 1..20_000),
            steps in prop::collection::vec(step(), 1..8),
        ) {
            let disk = SimDisk::new(1);
            disk.create_dir_all(Path::new("/d")).unwrap();
            let path = Path::new("/d/file");
            disk.create_new(path).unwrap().write_all_at(&before, 0).unwrap();
            let operations = disk.operations();
            let (file, len) = (disk.open(path, Access::Read).unwrap(), before.len() as u64);
            let pages = Pages { len, below: len, written: HashMap::new() };
            let overlay = Overlay { file, pages: Mutex::new(pages) };
            let mut model = before;
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        overlay.write(at, &data).unwrap();
                        let end = at as usize + data.len();
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].copy_from_slice(&data);
                    }
                    Step::Len(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                let mut found = vec![9; model.len()];
                overlay.read(0, &mut found).unwrap();
                prop_assert!(found == model);
            }
            prop_assert_eq!(disk.operations(), operations);
        }
    }
}
