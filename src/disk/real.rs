//! The operating system's files: the only place of the crate that touches them.
//!
//! Owns the translation of the disk seam into system calls, one to one. Does not know what files mean, and repairs
//! nothing: an error goes to the caller as the system gave it.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{Access, Disk, File, LockGuard};

/// Bytes of a lock file that are read to say who holds it.
const HOLDER_BYTES_MAX: u64 = 256;

/// The file system of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

impl RealDisk {
    /// The bytes that a file takes on the disk: those of holes do not count.
    pub fn allocated_bytes(&self, path: &Path) -> io::Result<u64> {
        const BLOCK_BYTES: u64 = 512;
        Ok(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path)?) * BLOCK_BYTES)
    }

    /// The permission bits of a file.
    pub fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(std::os::unix::fs::MetadataExt::mode(&fs::metadata(path)?) & 0o7777)
    }

    /// Sets the permission bits of a file.
    pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    }

    /// Removes an empty directory, durably.
    pub fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)?;
        self.sync_dir(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }

    /// Whether there is a Unix socket of that name.
    pub fn is_socket(&self, path: &Path) -> io::Result<bool> {
        Ok(std::os::unix::fs::FileTypeExt::is_socket(&fs::metadata(path)?.file_type()))
    }

    /// The kind of the file system that holds a directory; `other` where it is none of those that matter.
    pub fn file_system(&self, dir: &Path) -> io::Result<&'static str> {
        #[cfg(target_os = "linux")]
        {
            // From linux/magic.h and statfs(2).
            let kind = rustix::fs::statfs(dir)?.f_type as u64 & 0xffff_ffff;
            Ok(match kind {
                0xef53 => "ext4",
                0x5846_5342 => "xfs",
                0x9123_683e => "btrfs",
                0x2fc1_2fc1 => "zfs",
                0x0102_1994 => "tmpfs",
                0x794c_7630 => "overlayfs",
                0x6969 => "nfs",
                0xff53_4d42 | 0xfe53_4d42 => "smb",
                0x6573_5546 => "fuse",
                _ => "other",
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            fs::metadata(dir).map(|_| "other")
        }
    }

    /// Creates a file that only its owner may read and change, with this content, durably. `AlreadyExists` if there is one.
    #[expect(clippy::disallowed_methods, reason = "this is the one owner of the operating system's files")]
    pub fn create_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
        let file = options.open(path)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => self.sync_dir(dir),
            _ => self.sync_dir(Path::new(".")),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one owner of the operating system's files")]
impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let write = access == Access::ReadWrite;
        let file = fs::OpenOptions::new().read(true).write(write).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let (false, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockGuard>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all_at(holder.as_bytes(), 0)?;
                Ok(Box::new(RealLock { _file: file }))
            }
            Err(error) => Err(refusal(&file, error)),
        }
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let file = match fs::OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(error) => Err(refusal(&file, error)),
        }
    }
}

/// Why a lock could not be had, with the text of whoever holds it.
fn refusal(mut file: &fs::File, error: fs::TryLockError) -> io::Error {
    match error {
        fs::TryLockError::WouldBlock => {
            let mut text = String::new();
            // Whoever holds the lock may be writing its name just now; the refusal stands without it.
            if file.by_ref().take(HOLDER_BYTES_MAX).read_to_string(&mut text).is_err() || text.is_empty() {
                "another process".clone_into(&mut text);
            }
            io::Error::new(io::ErrorKind::WouldBlock, text)
        }
        fs::TryLockError::Error(error) => error,
    }
}

/// The lock goes with the descriptor.
#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl LockGuard for RealLock {}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_file, replace_file};

    #[test]
    fn files_are_created_replaced_listed_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("a/b");
        RealDisk.create_dir_all(&dir).unwrap();
        RealDisk.create_dir_all(&dir).unwrap();
        let path = dir.join("one");
        replace_file(&RealDisk, &path, b"first").unwrap();
        replace_file(&RealDisk, &path, b"second").unwrap();
        assert_eq!(read_file(&RealDisk, &path, 6).unwrap(), b"second");
        assert_eq!(read_file(&RealDisk, &path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(RealDisk.list(&dir).unwrap(), ["one"]);
        assert_eq!(RealDisk.create_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let file = RealDisk.open(&path, Access::ReadWrite).unwrap();
        file.write_all_at(b"!", 9).unwrap();
        assert_eq!(file.len().unwrap(), 10);
        file.set_len(3).unwrap();
        let mut buf = [0; 8];
        assert_eq!(file.read_at(&mut buf, 1).unwrap(), 2);
        assert!(RealDisk.free_bytes(&dir).unwrap() > 0);
        RealDisk.remove_file(&path).unwrap();
        assert!(!RealDisk.exists(&path).unwrap());
        assert_eq!(RealDisk.list(&dir.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_is_held_once_and_says_by_whom() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("LOCK");
        let guard = RealDisk.lock(&path, "process 7").unwrap();
        let refused = RealDisk.lock(&path, "process 8").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(refused.to_string(), "process 7");
        assert_eq!(RealDisk.lock_shared(&path).unwrap_err().to_string(), "process 7");
        drop(guard);
        let shared = RealDisk.lock_shared(&path).unwrap().unwrap();
        assert!(RealDisk.lock(&path, "process 9").is_err());
        drop(shared);
        drop(RealDisk.lock(&path, "process 9").unwrap());
        assert!(RealDisk.lock_shared(&path.with_extension("none")).unwrap().is_none());
    }
}
