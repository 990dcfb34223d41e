//! A directory that keeps the newest backup of a node: segments under names that say what they hold, two small files, and
//! `backup.json`, whose replacement is the commit point.
//!
//! Invariants: a file has its name only when all of it is durable; no file that the manifest in force names is touched; what no manifest
//! names is removed after the commit, or when the next backup begins without `--resume`. Killed anywhere, the directory holds the
//! former backup. One process at a time.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::manifest::{BackupManifest, MANIFEST, is_plain};
use crate::{
    cli::{error::CliError, text::hex},
    disk::{self, Access, Disk, File, LockGuard},
    limits::{BACKUP_CHUNK_BYTES, BACKUP_MANIFEST_BYTES_MAX},
};

const LOCK: &str = "LOCK";
const NEW: &str = ".new";
/// A segment's name: two positions of 20 digits, a hash of 64, and what it is.
const SEGMENT_NAME_BYTES: usize = 20 + 1 + 20 + 1 + 64 + 4;

/// An open backup directory.
#[derive(Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    former: Option<BackupManifest>,
    /// Whole segments that are there, and their digests.
    there: Vec<(String, String)>,
    manifest: Option<BackupManifest>,
    receiving: Option<Receiving>,
    _lock: Box<dyn LockGuard>,
}

#[derive(Debug)]
struct Receiving {
    name: String,
    file: Box<dyn File>,
    bytes: u64,
    digest: Sha256,
}

/// Reads the manifest of a backup directory; none if there is none.
pub fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<BackupManifest>, CliError> {
    let path = dir.join(MANIFEST);
    match disk::read_file(disk, &path, BACKUP_MANIFEST_BYTES_MAX) {
        Ok(text) => BackupManifest::parse(&text).map(Some).map_err(|what| {
            CliError::failed(format!("{} is no manifest of a backup: {what}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// The SHA-256 of a file's bytes, and their number.
pub fn digest_of(disk: &dyn Disk, path: &Path) -> Result<(u64, String), CliError> {
    let read = || -> io::Result<(u64, String)> {
        let file = disk.open(path, Access::Read)?;
        let (mut digest, mut at, mut buffer) = (Sha256::new(), 0, vec![0; BACKUP_CHUNK_BYTES]);
        loop {
            let read = file.read_at(&mut buffer, at)?;
            if read == 0 {
                return Ok((at, hex(&digest.finalize())));
            }
            digest.update(&buffer[..read]);
            at += read as u64;
        }
    };
    read().map_err(|error| failed("read", path, &error))
}

/// An error of the system, told with what was tried on which path.
pub fn failed(action: &str, path: &Path, error: &dyn fmt::Display) -> CliError {
    CliError::failed(format!("cannot {action} {}: {error}", path.display()))
}

impl Directory {
    /// Opens a directory, making it if need be. Without `resume` what an interrupted backup left is removed.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, resume: bool) -> Result<Self, CliError> {
        disk.create_dir_all(path).map_err(|error| failed("create", path, &error))?;
        let holder = format!("process {}", std::process::id());
        let lock = disk.lock(&path.join(LOCK), &holder).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => CliError::failed(format!(
                "{} is in use by {error}: another backup goes there; wait until it has ended",
                path.display()
            )),
            _ => failed("lock", path, &error),
        })?;
        let former = read_manifest(&*disk, path)?;
        let mut directory = Self {
            disk,
            path: path.to_owned(),
            former,
            there: Vec::new(),
            manifest: None,
            receiving: None,
            _lock: lock,
        };
        directory.look(resume)?;
        Ok(directory)
    }

    /// Learns which whole segments are there, and removes what is of no use.
    fn look(&mut self, resume: bool) -> Result<(), CliError> {
        let names = self.disk.list(&self.path).map_err(|error| failed("list", &self.path, &error))?;
        for name in names {
            if name == LOCK || name == MANIFEST {
                continue;
            }
            let path = self.path.join(&name);
            if let Some(known) = self.former.as_ref().and_then(|former| former.file(&name)) {
                let len = self.disk.open(&path, Access::Read).and_then(|file| file.len());
                if len.is_ok_and(|len| len == known.bytes) && is_segment(&name) {
                    self.there.push((name, known.sha256.clone()));
                }
            } else if resume && is_segment(&name) {
                self.there.push((name, digest_of(&*self.disk, &path)?.1));
            } else if is_ours(&name) {
                self.disk.remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    /// Names of segments that need not be sent.
    pub fn have(&self) -> Vec<String> {
        let have = self.there.iter().map(|(name, _)| name.clone());
        have.take(crate::limits::BACKUP_HAVE_MAX).collect()
    }

    /// The backup that is to come, which must go on from the one that is there.
    pub fn begin(&mut self, mut manifest: BackupManifest) -> Result<(), CliError> {
        let dir = self.path.display();
        if let Some(former) = &self.former {
            if former.log_id != manifest.log_id {
                return Err(CliError::failed(format!(
                    "{dir} holds a backup of log {} (node {}), and this node's log is {}: name a directory of its own for each log",
                    former.log_id, former.node, manifest.log_id
                )));
            }
            if !manifest.continues(former) {
                return Err(CliError::failed(format!(
                    "{dir} holds a backup up to position {} of epoch {}, which this node's log (head {}) does not have: it was restored \
                     from an older copy. The backup stays as it is; name another directory",
                    former.head, former.epoch, manifest.head
                )));
            }
        }
        for file in &mut manifest.files {
            if let Some((_, sha256)) = self.there.iter().find(|(name, _)| *name == file.name) {
                file.sha256.clone_from(sha256);
                // A segment that was the newest is kept as it was copied then.
                let path = self.path.join(&file.name);
                let len = self.disk.open(&path, Access::Read).and_then(|there| there.len());
                file.bytes = len.map_err(|error| failed("read", &path, &error))?;
            }
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    /// Bytes of the files that are not there.
    pub fn bytes_to_come(&self) -> u64 {
        let files = self.manifest.iter().flat_map(|manifest| &manifest.files);
        files.filter(|file| file.sha256.is_empty()).map(|file| file.bytes).sum()
    }

    /// A file begins.
    pub fn file(&mut self, name: &str) -> Result<(), CliError> {
        let expected = self.manifest.as_ref().and_then(|manifest| manifest.file(name));
        if expected.is_none() || self.receiving.is_some() {
            return Err(CliError::failed(format!("the node sent {name:?} where it does not belong")));
        }
        let path = self.path.join(format!("{name}{NEW}"));
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path, &error));
            }
            _ => {}
        }
        let file = self.disk.create_new(&path).map_err(|error| failed("create", &path, &error))?;
        self.receiving = Some(Receiving { name: name.to_owned(), file, bytes: 0, digest: Sha256::new() });
        Ok(())
    }

    /// Its next bytes.
    pub fn data(&mut self, data: &[u8]) -> Result<(), CliError> {
        let Some(receiving) = &mut self.receiving else {
            return Err(CliError::failed("the node sent bytes of no file"));
        };
        let written = receiving.file.write_all_at(data, receiving.bytes);
        written.map_err(|error| {
            let path = self.path.join(&receiving.name);
            let what =
                format!("{error}; the backup before this one is whole. Make room, then repeat with --resume");
            failed("write", &path, &what)
        })?;
        receiving.digest.update(data);
        receiving.bytes += data.len() as u64;
        Ok(())
    }

    /// It ends: it gets its name when it is what was sent, and durable.
    pub fn file_end(&mut self, sha256: &str) -> Result<(), CliError> {
        let (Some(receiving), Some(manifest)) = (self.receiving.take(), &mut self.manifest) else {
            return Err(CliError::failed("the node ended a file that it did not begin"));
        };
        let Receiving { name, file, bytes, digest } = receiving;
        let entry = manifest.files.iter_mut().find(|entry| entry.name == name);
        let entry = entry.expect("it was looked for when it began");
        if bytes != entry.bytes || hex(&digest.finalize()) != sha256 {
            return Err(CliError::failed(format!(
                "{name} is not what the node sent ({bytes} bytes came, {} were announced); repeat with --resume",
                entry.bytes
            )));
        }
        sha256.clone_into(&mut entry.sha256);
        let (new, path) = (self.path.join(format!("{name}{NEW}")), self.path.join(&name));
        file.sync_data().map_err(|error| failed("sync", &new, &error))?;
        self.disk.rename(&new, &path).map_err(|error| failed("rename", &new, &error))
    }

    /// Puts the new backup in place of the former one, then removes what only the former one had.
    pub fn commit(&mut self) -> Result<BackupManifest, CliError> {
        let Some(manifest) = self.manifest.take() else {
            return Err(CliError::failed("the node sent no backup"));
        };
        if let Some(missing) = manifest.files.iter().find(|file| file.sha256.is_empty()) {
            return Err(CliError::failed(format!(
                "the node did not send {}; repeat with --resume",
                missing.name
            )));
        }
        self.disk.sync_dir(&self.path).map_err(|error| failed("sync", &self.path, &error))?;
        let path = self.path.join(MANIFEST);
        let replaced = disk::replace_file(&*self.disk, &path, &manifest.text());
        replaced.map_err(|error| failed("write", &path, &error))?;
        self.former = Some(manifest.clone());
        self.there.clear();
        self.look(false)?;
        Ok(manifest)
    }
}

/// Whether a name is one of a whole segment.
fn is_segment(name: &str) -> bool {
    name.len() == SEGMENT_NAME_BYTES
        && name.strip_suffix(".log").is_some()
        && name.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a name is one that a backup gives.
fn is_ours(name: &str) -> bool {
    let whole = name.strip_suffix(NEW).unwrap_or(name);
    is_plain(whole)
        && (is_segment(whole)
            || whole.starts_with("manifest-")
            || whole.starts_with("meta-")
            || whole == MANIFEST)
}

#[cfg(test)]
mod tests;
