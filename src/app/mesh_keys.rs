//! The node's key and the file of trusted keys: read at start, and again whenever their content changes.
//!
//! A key file that others can read is refused; a trust file that cannot be used at start is an error, and later the keys in
//! force stay and the reason is logged once a change. Only with `dev` a key is made where there is none.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    config::Config,
    disk::{self, Disk, real::RealDisk},
    limits::{KEY_FILE_BYTES_MAX, TRUST_FILE_BYTES_MAX},
    mesh::trust::{SigningKey, Trust, check_key_file_mode, check_secret_file_mode},
};

/// The name of the key that `dev` makes, in the data directory.
const DEV_KEY_FILE: &str = "mesh.nk";

/// The trust in force. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct TrustInForce(Arc<RwLock<Arc<Trust>>>);

impl TrustInForce {
    /// As it is now.
    pub(crate) fn get(&self) -> Arc<Trust> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, trust: Trust) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }
}

impl fmt::Debug for TrustInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The key that this node signs with; none where it signs nothing.
pub(crate) fn signing_key(config: &Config) -> Result<Option<SigningKey>, String> {
    let file = match &config.mesh.key_file {
        Some(file) => file.clone(),
        None if config.dev && config.exports_dir.is_some() => config.data_dir.join(DEV_KEY_FILE),
        None => return Ok(None),
    };
    let refused = |error: &dyn fmt::Display| format!("key file {}: {error}", file.display());
    match RealDisk.mode(&file) {
        Ok(mode) => check_key_file_mode(&file.display().to_string(), mode).map_err(|invalid| invalid.0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && config.dev => {
            let key = SigningKey::generate();
            let content = format!("{}\n", key.seed());
            RealDisk.create_private(&file, content.as_bytes()).map_err(|error| refused(&error))?;
            tracing::warn!(file = %file.display(), public = key.public(), "a key was made, since this is a trial (dev)");
            return Ok(Some(key));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused(&"there is none; `outrigger mesh keygen --out FILE` makes one"));
        }
        Err(error) => return Err(refused(&error)),
    }
    let bytes = disk::read_file(&RealDisk, &file, KEY_FILE_BYTES_MAX).map_err(|error| refused(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| refused(&"expected text"))?;
    SigningKey::from_seed(&text).map(Some).map_err(|invalid| refused(&invalid))
}

/// Whether the file with this node's credentials for NATS may be used: others cannot read it. One that is not there yet may come
/// before the first connection.
pub(crate) fn check_credentials(file: &Path) -> Result<(), String> {
    match RealDisk.mode(file) {
        Ok(mode) => check_secret_file_mode("credentials file", &file.display().to_string(), mode)
            .map_err(|invalid| format!("mesh.nats.creds_file: {invalid}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("mesh.nats.creds_file: {}: {error}", file.display())),
    }
}

/// The file of trusted keys, and what of it is in force.
#[derive(Debug)]
pub(crate) struct TrustFile {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    text: String,
    trust: TrustInForce,
}

impl TrustFile {
    /// Reads the file; it must be one that can be used.
    pub(crate) fn open(disk: Arc<dyn Disk>, file: &Path) -> Result<Self, String> {
        let text = read(&*disk, file)?;
        let trust = TrustInForce::default();
        trust.set(parse(file, &text)?);
        Ok(Self { disk, file: file.to_path_buf(), text, trust })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// The trust that it puts in force.
    pub(crate) const fn trust(&self) -> &TrustInForce {
        &self.trust
    }

    /// Reads it again; what cannot be used leaves the keys before it in force.
    pub(crate) fn look(&mut self) {
        let now = read(&*self.disk, &self.file).unwrap_or_default();
        if now == self.text {
            return;
        }
        match parse(&self.file, &now) {
            Ok(new) => {
                tracing::info!(file = %self.file.display(), "the file of trusted keys has changed and is in force");
                self.trust.set(new);
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the file of trusted keys is ignored; the keys before it stay in force"
                );
            }
        }
        self.text = now;
    }
}

fn read(disk: &dyn Disk, file: &Path) -> Result<String, String> {
    let refused = |error: &dyn fmt::Display| format!("trust file {}: {error}", file.display());
    let bytes = disk::read_file(disk, file, TRUST_FILE_BYTES_MAX).map_err(|error| refused(&error))?;
    String::from_utf8(bytes).map_err(|error| refused(&error))
}

fn parse(file: &Path, text: &str) -> Result<Trust, String> {
    Trust::parse(text, &file.display().to_string()).map_err(|error| error.to_string().replace('\n', "; "))
}
