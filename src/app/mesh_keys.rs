//! The node's key and the file of trusted keys: read at start, the latter again whenever its content changes.
//!
//! A key file that others can read is refused; a trust file that cannot be used at start is an error, and later the keys in
//! force stay and the reason is logged once a change. Only with `dev` a key is made where there is none.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{
    config::Config,
    disk::{self, Disk, real::RealDisk},
    lifecycle::Lifecycle,
    limits::{KEY_FILE_BYTES_MAX, TRUST_FILE_BYTES_MAX},
    mesh::trust::{SigningKey, Trust, check_key_file_mode},
};

const REREAD_EVERY: Duration = Duration::from_secs(5);

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

/// The trust in force, kept up to date until the node stops. Without a file nobody is trusted.
pub(crate) fn watch_trust(
    disk: Arc<dyn Disk>,
    file: Option<&Path>,
    lifecycle: &Lifecycle,
) -> Result<TrustInForce, String> {
    let trust = TrustInForce::default();
    let Some(file) = file.map(Path::to_path_buf) else {
        return Ok(trust);
    };
    let text = read(&*disk, &file)?;
    trust.set(parse(&file, &text)?);
    lifecycle.tasks().spawn(reread(disk, file, text, trust.clone(), lifecycle.clone()));
    Ok(trust)
}

async fn reread(
    disk: Arc<dyn Disk>,
    file: PathBuf,
    mut text: String,
    trust: TrustInForce,
    lifecycle: Lifecycle,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REREAD_EVERY) => {}
            () = lifecycle.stop().cancelled() => return,
        }
        let now = read(&*disk, &file).unwrap_or_default();
        if now == text {
            continue;
        }
        match parse(&file, &now) {
            Ok(new) => {
                tracing::info!(file = %file.display(), "the file of trusted keys has changed and is in force");
                trust.set(new);
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the file of trusted keys is ignored; the keys before it stay in force"
                );
            }
        }
        text = now;
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
