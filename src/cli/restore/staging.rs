//! Where a restore keeps what it has not finished: a data directory below the data directory.
//!
//! Invariants: a file that is there under its name is durable as a whole; one restore at a time. Does not know what is right.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use crate::{
    cli::{
        backup::{
            directory::{digest_of, failed},
            manifest::{BackupFile, BackupManifest, Kind},
        },
        error::CliError,
        text::hex,
    },
    disk::{Disk, File, LockGuard},
    verify::DataDir,
};

/// Local state, as the backup has it.
pub const META_JSON: &str = "meta.json";
const LOCK: &str = "LOCK";
const NEW: &str = ".new";

/// The directory, open.
#[derive(Debug)]
pub struct Staging {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Box<dyn LockGuard>,
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    path: PathBuf,
    file: Box<dyn File>,
    bytes: u64,
    digest: Sha256,
}

impl Staging {
    /// Opens it, with what an interrupted restore left.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, CliError> {
        disk.create_dir_all(dir).map_err(|error| failed("create", dir, &error))?;
        let holder = format!("process {}", std::process::id());
        let lock = disk.lock(&dir.join(LOCK), &holder).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                CliError::failed(format!("another restore goes on in {}: {error}", dir.display()))
            }
            _ => failed("lock", dir, &error),
        })?;
        let log = DataDir::new(dir).log();
        disk.create_dir_all(&log).map_err(|error| failed("create", &log, &error))?;
        Ok(Self { disk, dir: dir.to_owned(), lock, writing: None })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes what is of no file of this backup, and sees that there is room for it.
    pub fn prepare(&self, manifest: &BackupManifest) -> Result<(), CliError> {
        let log = DataDir::new(&self.dir).log();
        let wanted: Vec<PathBuf> = manifest.files.iter().map(|file| self.path_of(file)).collect();
        let mut there = 0;
        for name in self.disk.list(&log).map_err(|error| failed("list", &log, &error))? {
            let path = log.join(name);
            if wanted.contains(&path) {
                let len = self.disk.open(&path, crate::disk::Access::Read).and_then(|file| file.len());
                there += len.map_err(|error| failed("read", &path, &error))?;
            } else {
                self.disk.remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
        let needed = bytes.saturating_sub(there);
        let free = self.disk.free_bytes(&self.dir).map_err(|error| failed("measure", &self.dir, &error))?;
        if free < needed {
            return Err(CliError::failed(format!(
                "the disk of {} is too small: {needed} bytes are needed, {free} are free; make room and run it again",
                self.dir.display()
            )));
        }
        Ok(())
    }

    /// Whether a file is there as it should be.
    pub fn has(&self, file: &BackupFile) -> Result<bool, CliError> {
        let path = self.path_of(file);
        if !self.disk.exists(&path).map_err(|error| failed("look at", &path, &error))? {
            return Ok(false);
        }
        Ok(digest_of(&*self.disk, &path)? == (file.bytes, file.sha256.clone()))
    }

    /// A file begins.
    pub fn begin(&mut self, file: &BackupFile) -> Result<(), CliError> {
        let path = self.path_of(file);
        let new = new_of(&path);
        match self.disk.remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &new, &error));
            }
            _ => {}
        }
        let open = self.disk.create_new(&new).map_err(|error| failed("create", &new, &error))?;
        self.writing = Some(Writing { path, file: open, bytes: 0, digest: Sha256::new() });
        Ok(())
    }

    /// Its next bytes.
    pub fn data(&mut self, data: &[u8]) -> Result<(), CliError> {
        let Some(writing) = &mut self.writing else {
            return Err(CliError::failed("the backup is damaged: bytes of no file"));
        };
        let written = writing.file.write_all_at(data, writing.bytes);
        written.map_err(|error| {
            failed("write", &writing.path, &format!("{error}; make room and run it again"))
        })?;
        writing.digest.update(data);
        writing.bytes += data.len() as u64;
        Ok(())
    }

    /// It ends: it is durable and has its name. Gives its length and digest.
    pub fn end(&mut self) -> Result<(u64, String), CliError> {
        let Some(Writing { path, file, bytes, digest }) = self.writing.take() else {
            return Err(CliError::failed("the backup is damaged: a file ends that did not begin"));
        };
        let new = new_of(&path);
        file.sync_data().map_err(|error| failed("sync", &new, &error))?;
        self.disk.rename(&new, &path).map_err(|error| failed("rename", &new, &error))?;
        let dir = path.parent().unwrap_or(&self.dir);
        self.disk.sync_dir(dir).map_err(|error| failed("sync", dir, &error))?;
        Ok((bytes, hex(&digest.finalize())))
    }

    /// Lets go of it; what is not to be kept is gone.
    pub fn close(self) -> Result<PathBuf, CliError> {
        let Self { disk, dir, lock, .. } = self;
        for name in [META_JSON, LOCK] {
            let path = dir.join(name);
            disk.remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        drop(lock);
        Ok(dir)
    }

    fn path_of(&self, file: &BackupFile) -> PathBuf {
        let log = DataDir::new(&self.dir).log();
        match file.kind {
            Kind::Segment => log.join(format!("{:020}.log", file.first)),
            Kind::LogManifest => log.join("manifest"),
            Kind::Meta => self.dir.join(META_JSON),
        }
    }
}

fn new_of(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    new.into()
}
