//! What a node shares: its key, whom it trusts, what it owns, and the mesh as the API sees it.

use std::sync::Arc;

use super::{AppError, mesh_api, mesh_keys, ownership};
use crate::{
    api::mesh::Handle, clock::Clock, config::Config, disk::Disk, events::Events, lifecycle::Lifecycle,
    ownership::InForce,
};

/// What the API is given of it.
pub(super) struct Sharing {
    pub(super) ownership: InForce,
    pub(super) mesh: Handle,
}

/// Reads keys and definitions. A key or trust file that cannot be used keeps the node from starting; an import file that
/// cannot be used does not.
pub(super) fn start(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    events: &Events,
    lifecycle: &Lifecycle,
) -> Result<Sharing, AppError> {
    let key = mesh_keys::signing_key(config).map_err(AppError::Keys)?;
    let trust = mesh_keys::watch_trust(Arc::clone(disk), config.mesh.trust_file.as_deref(), lifecycle)
        .map_err(AppError::Keys)?;
    let (owned, problems) = ownership::read(config, &**disk);
    for problem in problems {
        tracing::error!(problem, "an import file cannot be used");
    }
    let public_key = key.as_ref().map(|key| key.public().to_owned());
    let log_id = events.log().log_id();
    let mesh = mesh_api::absent(&config.node, log_id, trust, public_key, Arc::clone(clock));
    Ok(Sharing { ownership: InForce::new(owned), mesh })
}
