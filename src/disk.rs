//! Seam: files. The log and redb see the disk through this page and through nothing else.
//!
//! The crash contract, in words. A write is visible to readers at once and durable only after `sync_data` on its file
//! returned Ok. Before that a crash may keep any subset of the unsynced 512-byte sectors, in any order. A file's
//! length counts as data. Creating, renaming and removing a file are durable only after `sync_dir` on its directory
//! returned Ok. After `sync_data` failed nothing is known about any write since the last success: pages may read back
//! as written and be lost all the same, and a second sync may succeed without having written them.
//!
//! Deliberately does not know: segments, redb, retries. An error is reported, never repaired here.

use std::{fmt, io, path::Path};

pub mod real;
pub mod sim;
pub mod watch;

/// A file system. Paths are as the process sees them.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates the directory and its parents, and syncs every directory that gained an entry.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens an existing file. `NotFound` if there is none.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;
    /// Creates a file for reading and writing. `AlreadyExists` if there is one. Durable after `sync_dir`.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Replaces `to`, if it exists, in one step. Durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_dir`.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// The names of the files (not directories) in a directory, sorted. `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or directory of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written on the file system that holds `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock of a file, creating it, and writes `holder` into it. `WouldBlock` if another process
    /// holds it; its text is then the error's message. Released when the guard drops or the process ends.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockGuard>>;
    /// Keeps others from taking the lock of a file, and changes nothing. `None` if there is no such file; `WouldBlock` if
    /// another process holds it, as for `lock`.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
}

/// What an open file may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An open file. Positioned reads and writes only; may be shared between threads.
#[expect(clippy::len_without_is_empty, reason = "an empty file is no case of its own")]
pub trait File: Send + Sync + fmt::Debug {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes; 0 only at or behind the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data`, growing the file where needed. Durable after `sync_data`.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file or grows it with zeros. Durable after `sync_data`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes all writes that returned before this call durable. Never call it again after it failed.
    fn sync_data(&self) -> io::Result<()>;

    /// Fills `buf`; `UnexpectedEof` if the file ends first.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds a lock until it drops.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// Reads a whole file of at most `max` bytes; `InvalidData` if it is longer.
pub fn read_file(disk: &dyn Disk, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let len = file.len()?;
    if len > max as u64 {
        let message = format!("{} is {len} bytes long; at most {max} are read", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts `bytes` in place of the file in one durable step: new file, sync, rename, directory sync.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match disk.remove_file(new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.create_new(new)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(new, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
