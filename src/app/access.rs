//! Who may call over what: tokens and TLS, read before anything is opened, since a wrong file should cost no recovery.

use std::sync::Arc;

use super::{AppError, tls, tokens};
use crate::{
    api::{middleware::auth::Tokens, tls::Tls},
    clock::SystemClock,
    config::Config,
    disk::{Disk, real::RealDisk},
    lifecycle::Lifecycle,
    metrics::Metrics,
};

/// What the gRPC listener asks for.
pub(super) struct Access {
    pub(super) tokens: Tokens,
    pub(super) tls: Option<Tls>,
}

/// Reads the files, and looks at them again until the node stops.
pub(super) fn read(
    config: &Config,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<Access, AppError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let watch = |files| tls::watch(Arc::clone(&disk), files, &SystemClock, metrics, lifecycle);
    let tls = config.grpc.tls.as_ref().map(watch).transpose().map_err(AppError::Tls)?;
    let tokens = tokens::watch(Arc::clone(&disk), config.grpc.token_file.as_deref(), lifecycle);
    Ok(Access { tokens: tokens.map_err(AppError::Tokens)?, tls })
}
