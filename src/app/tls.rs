//! The files of TLS: read at start, and again whenever their content changes.
//!
//! Files that cannot be used at start are an error; later what is in force stays, and the reason is logged once a change. Which
//! certificate is in force shows in the metric of its end. Does not know handshakes.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use crate::{
    api::tls::{Checked, Material, Tls},
    clock::Clock,
    config::Tls as Files,
    disk::{self, Disk},
    lifecycle::Lifecycle,
    limits::TLS_FILE_BYTES_MAX,
    metrics::Metrics,
};

const REREAD_EVERY: Duration = Duration::from_secs(2);
const NANOS_A_SECOND: i64 = 1_000_000_000;

/// TLS in force, kept up to date until the node stops.
pub(super) fn watch(
    disk: Arc<dyn Disk>,
    files: &Files,
    clock: &dyn Clock,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<Tls, String> {
    let material = read(&*disk, files)?;
    let checked = check(&material)?;
    if checked.not_after_unix_seconds < clock.now_unix_nanos() / NANOS_A_SECOND {
        tracing::warn!(file = %files.cert_file.display(), "the certificate has ended; clients will refuse it");
    }
    metrics.tls_certificate_expiry.set(checked.not_after_unix_seconds);
    let tls = Tls::new(&checked);
    let watched = Watched { disk, files: files.clone(), seen: Ok(material), tls: tls.clone() };
    let (metrics, lifecycle) = (Arc::clone(metrics), lifecycle.clone());
    lifecycle.clone().tasks().spawn(watched.reread(metrics, lifecycle));
    Ok(tls)
}

struct Watched {
    disk: Arc<dyn Disk>,
    files: Files,
    /// What was read last, good or not.
    seen: Result<Material, String>,
    tls: Tls,
}

impl Watched {
    async fn reread(mut self, metrics: Arc<Metrics>, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REREAD_EVERY) => {}
                () = lifecycle.stop().cancelled() => return,
            }
            let now = read(&*self.disk, &self.files);
            if now == self.seen {
                continue;
            }
            match now.as_ref().map_err(Clone::clone).and_then(check) {
                Ok(checked) => {
                    tracing::info!(file = %self.files.cert_file.display(), "the files of TLS have changed and are in force");
                    metrics.tls_certificate_expiry.set(checked.not_after_unix_seconds);
                    self.tls.set(&checked);
                }
                Err(error) => {
                    tracing::error!(error, "the files of TLS are ignored; those before them stay in force");
                }
            }
            self.seen = now;
        }
    }
}

fn check(material: &Material) -> Result<Checked, String> {
    material.check().map_err(|error| format!("TLS: {error}"))
}

fn read(disk: &dyn Disk, files: &Files) -> Result<Material, String> {
    let file = |path: &Path| {
        let name = path.display().to_string();
        let refused = |error: &dyn fmt::Display| format!("TLS: {name}: {error}");
        let bytes = disk::read_file(disk, path, TLS_FILE_BYTES_MAX).map_err(|error| refused(&error))?;
        Ok::<_, String>((name, bytes))
    };
    Ok(Material {
        cert: file(&files.cert_file)?,
        key: file(&files.key_file)?,
        client_ca: files.client_ca_file.as_deref().map(file).transpose()?,
    })
}
