//! How any redb file is opened: over the disk seam, with a named cache budget, and what its commits promise.
//!
//! Invariants: a buffered commit is visible at once and durable with the next durable one; a durable commit leaves the
//! allocator's state in the file, so that opening it after a crash does not walk it. A file that redb refuses, or that
//! makes it panic, is set aside under another name and never deleted here. After a failed sync the file takes no
//! further write until it is opened again.
//!
//! Deliberately does not know: tables, projections, what is rebuilt from where.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use redb::{Builder, Database, Durability, StorageBackend, StorageError, WriteTransaction};

use crate::{
    disk::{Access, Disk, File},
    limits::SET_ASIDE_FILES_MAX,
};

mod behind;
mod overlay;

pub use overlay::open_read_only;

use behind::Behind;

/// Why a redb file did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The disk refused; the file has to be opened again before it takes another write.
    #[error("the file system refused: {0}")]
    Io(String),
    /// The content is not what redb wrote.
    #[error("the file cannot be used: {0}")]
    Damaged(String),
    /// The file was closed meanwhile; another try finds it open again.
    #[error("the file is being reopened")]
    Closed,
}

impl From<io::Error> for KvError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<redb::Error> for KvError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::PreviousIo | redb::Error::LockPoisoned(_) | redb::Error::Unsupported => {
                Self::Io(error.to_string())
            }
            redb::Error::DatabaseClosed => Self::Closed,
            error => Self::Damaged(error.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for KvError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(
    StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::CompactionError
);

/// A file that was put out of the way, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// What it is called now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Visible at once, durable with the next durable commit; a crash rewinds to the last durable one.
    Buffered,
    /// Durable when `commit` returns, or where syncs are behind, a moment later; quick to open after a crash.
    Durable,
}

/// What a sync of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// It returns when everything is durable.
    Through,
    /// A barrier: it returns at once, and everything before it is durable before anything behind it. For files that
    /// have to be whole after a crash, and may be a moment old. So many bytes are on their way at the most; a writer that is further ahead waits.
    Behind(usize),
}

/// Opens the file, creating it where there is none.
pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize, syncs: Syncs) -> Result<Database, KvError> {
    let file = match disk.open(path, Access::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_new(path)?,
        Err(error) => return Err(error.into()),
    };
    // Also of a file that is there: the process that created it may have ended before it came to this.
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        match syncs {
            Syncs::Through => builder.create_with_backend(Backend { file, failed: AtomicBool::new(false) }),
            Syncs::Behind(bytes_max) => builder.create_with_backend(Behind::start(file, bytes_max)?),
        }
    }));
    match opened {
        Ok(database) => Ok(database?),
        Err(_) => Err(KvError::Damaged("reading it failed an internal check of redb".into())),
    }
}

/// As `open`; a file that is damaged is set aside and a new one put in its place.
pub fn open_or_replace(
    disk: &dyn Disk,
    path: &Path,
    cache_bytes: usize,
    syncs: Syncs,
) -> Result<(Database, Option<SetAside>), KvError> {
    match open(disk, path, cache_bytes, syncs) {
        Ok(database) => Ok((database, None)),
        Err(KvError::Damaged(reason)) => {
            let aside = set_aside(disk, path, reason)?;
            Ok((open(disk, path, cache_bytes, syncs)?, Some(aside)))
        }
        Err(error) => Err(error),
    }
}

/// Removes a file that is not open, if it is there.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), KvError> {
    match disk.remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?)
}

/// Renames a closed file to the first free `<name>.damaged-<n>`; where all are taken, the last one gives way.
pub fn set_aside(disk: &dyn Disk, path: &Path, reason: String) -> Result<SetAside, KvError> {
    let named = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    let mut number = 1;
    while number < SET_ASIDE_FILES_MAX && disk.exists(&named(number))? {
        number += 1;
    }
    let aside = named(number);
    disk.rename(path, &aside)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    tracing::warn!(file = %path.display(), aside = %aside.display(), %reason, "a file was set aside");
    Ok(SetAside { path: aside, reason })
}

/// Begins a write whose commit promises `persistence`.
pub fn begin_write(database: &Database, persistence: Persistence) -> Result<WriteTransaction, KvError> {
    let mut write = database.begin_write()?;
    match persistence {
        Persistence::Buffered => write.set_durability(Durability::None)?,
        Persistence::Durable => {
            write.set_durability(Durability::Immediate)?;
            write.set_quick_repair(true);
        }
    }
    Ok(write)
}

/// A file of the disk seam as redb's storage.
#[derive(Debug)]
struct Backend {
    file: Box<dyn File>,
    /// A write or sync failed: nothing is known about the file's durable content any more.
    failed: AtomicBool,
}

impl Backend {
    fn guarded(&self, write: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier write of this file failed"));
        }
        write(&*self.file).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // redb knows a file by its length, so a length is durable before anything else happens to the file.
        self.guarded(|file| {
            file.set_len(len)?;
            file.sync_data()
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.guarded(|file| file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.guarded(|file| file.write_all_at(data, offset))
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase as _, TableDefinition};

    use super::*;
    use crate::disk::sim::SimDisk;

    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
    const CACHE_BYTES: usize = 1 << 20;

    fn disk() -> SimDisk {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk
    }

    fn path() -> &'static Path {
        Path::new("/d/file.redb")
    }

    fn insert(database: &Database, number: u64, persistence: Persistence) -> Result<(), KvError> {
        let write = begin_write(database, persistence)?;
        write.open_table(NUMBERS)?.insert(number, number)?;
        Ok(write.commit()?)
    }

    fn highest(database: &Database) -> Result<u64, KvError> {
        use redb::ReadableTable as _;
        let table = database.begin_read()?.open_table(NUMBERS)?;
        Ok(table.last()?.map_or(0, |(number, _)| number.value()))
    }

    #[test]
    fn durable_commits_survive_every_crash_and_take_buffered_ones_with_them() {
        let disk = disk();
        let database = open(&disk, path(), CACHE_BYTES, Syncs::Through).unwrap();
        insert(&database, 1, Persistence::Buffered).unwrap();
        insert(&database, 2, Persistence::Durable).unwrap();
        insert(&database, 3, Persistence::Buffered).unwrap();
        assert_eq!(highest(&database).unwrap(), 3);
        for seed in 0..20 {
            let after = disk.crash(seed);
            let (database, aside) = open_or_replace(&after, path(), CACHE_BYTES, Syncs::Through).unwrap();
            assert_eq!((highest(&database).unwrap(), aside), (2, None), "seed {seed}");
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside_and_the_last_name_gives_way() {
        let disk = disk();
        for round in 1..=SET_ASIDE_FILES_MAX + 2 {
            let file = disk.create_new(path()).unwrap();
            file.write_all_at(&[round as u8; 9_000], 0).unwrap();
            assert!(matches!(open(&disk, path(), CACHE_BYTES, Syncs::Through), Err(KvError::Damaged(_))));
            let (database, aside) = open_or_replace(&disk, path(), CACHE_BYTES, Syncs::Through).unwrap();
            let number = round.min(SET_ASIDE_FILES_MAX);
            assert_eq!(aside.unwrap().path, PathBuf::from(format!("/d/file.redb.damaged-{number}")));
            drop(database);
            disk.remove_file(path()).unwrap();
        }
        assert_eq!(disk.list(Path::new("/d")).unwrap().len(), SET_ASIDE_FILES_MAX);
    }

    #[test]
    fn after_a_failed_sync_a_file_takes_no_write_until_it_is_opened_again() {
        let disk = disk();
        let database = open(&disk, path(), CACHE_BYTES, Syncs::Through).unwrap();
        insert(&database, 1, Persistence::Durable).unwrap();
        let before = disk.operations();
        insert(&database, 2, Persistence::Durable).unwrap();
        let operations = disk.operations() - before;
        for fault in 0..operations {
            let disk = disk.kill(fault);
            let database = open(&disk, path(), CACHE_BYTES, Syncs::Through).unwrap();
            disk.fail_at(disk.operations() + fault, io::ErrorKind::Other);
            if insert(&database, 3, Persistence::Durable).is_err() {
                assert!(insert(&database, 4, Persistence::Durable).is_err(), "fault {fault}");
            }
            drop(database);
            let after = disk.crash(fault);
            let (database, aside) = open_or_replace(&after, path(), CACHE_BYTES, Syncs::Through).unwrap();
            assert_eq!(aside, None, "fault {fault}");
            assert!([2, 3].contains(&highest(&database).unwrap()), "fault {fault}");
        }
    }
}
