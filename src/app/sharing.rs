//! What a node shares: its key, whom it trusts, what it owns, and the mesh, which runs where there is something to share
//! and a bus to share it over.
//!
//! The directories of definitions are desired state: they are looked at again while the node runs, as is the file of
//! trusted keys. A definition that cannot be used is a problem of its export or import, never of the node.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle as Runtime;

use super::{
    AppError, mesh_api,
    mesh_keys::{self, TrustInForce},
    ownership,
};
use crate::{
    api::mesh::Handle,
    append::Appender,
    clock::Clock,
    config::Config,
    disk::Disk,
    event::Position,
    events::Events,
    lifecycle::Lifecycle,
    mesh::{
        bus::Bus,
        definition::{
            Export, Import,
            directory::{read_exports, read_imports},
        },
        nats::{NatsBus, NatsSettings, StreamSize},
        node::{
            Mesh, Parts,
            driver::{Driver, MeshHandle},
        },
        state::CommandError,
        store::Store,
        trust::SigningKey,
    },
    ownership::InForce,
};

/// How often the directories of definitions and the keys in force are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the API and shutdown are given of it.
pub(super) struct Sharing {
    pub(super) ownership: InForce,
    pub(super) mesh: Handle,
    /// The mesh on its thread, where it runs.
    pub(super) driver: Option<Driver>,
}

/// What sharing needs of the node.
pub(super) struct Node<'a> {
    pub(super) config: &'a Config,
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) events: &'a Events,
    pub(super) appender: &'a Appender,
    pub(super) lifecycle: &'a Lifecycle,
    /// A bus that is handed in, instead of NATS.
    pub(super) bus: Option<Arc<dyn Bus>>,
}

/// Reads keys and definitions and starts the mesh. A key or trust file that cannot be used keeps the node from starting; a
/// definition that cannot be used does not.
pub(super) fn start(node: Node<'_>) -> Result<Sharing, AppError> {
    let Node { config, disk, clock, events, lifecycle, .. } = &node;
    let key = mesh_keys::signing_key(config).map_err(AppError::Keys)?;
    let trust = mesh_keys::watch_trust(Arc::clone(disk), config.mesh.trust_file.as_deref(), lifecycle)
        .map_err(AppError::Keys)?;
    let (owned, problems) = ownership::read(config, &***disk);
    for problem in problems {
        tracing::error!(problem, "an import file cannot be used");
    }
    let public_key = key.as_ref().map(|key| key.public().to_owned());
    let ownership = InForce::new(owned);
    let shares = config.exports_dir.is_some() || config.imports_dir.is_some();
    let Some(bus) = bus(&node).filter(|_| shares) else {
        let log_id = events.log().log_id();
        let mesh = mesh_api::absent(&config.node, log_id, trust, public_key, Arc::clone(clock));
        return Ok(Sharing { ownership, mesh, driver: None });
    };
    if key.is_none() && config.exports_dir.is_some() {
        let what = "exports.dir is set, and events are published under a signature: set mesh.key_file \
                    (`outrigger mesh keygen --out FILE` makes one)";
        return Err(AppError::Keys(what.into()));
    }
    // A node that exports nothing signs nothing.
    let key = Arc::new(key.unwrap_or_else(SigningKey::generate));
    let driver = drive(&node, &bus, key, &trust)?;
    let definitions = Definitions {
        config: (*config).clone(),
        disk: Arc::clone(disk),
        ownership: ownership.clone(),
        handle: driver.handle().clone(),
        trust: trust.clone(),
        seen: Seen::default(),
    };
    let lifecycle = (*lifecycle).clone();
    lifecycle.clone().tasks().spawn(definitions.watch(lifecycle));
    let mesh = handle(driver.handle().clone(), trust, public_key, Arc::clone(clock));
    Ok(Sharing { ownership, mesh, driver: Some(driver) })
}

/// The bus: what was handed in, or NATS where the configuration names it.
fn bus(node: &Node<'_>) -> Option<Arc<dyn Bus>> {
    if let Some(bus) = &node.bus {
        return Some(Arc::clone(bus));
    }
    let mesh = &node.config.mesh;
    let url = mesh.nats_url.as_ref()?;
    let settings = NatsSettings {
        credentials_file: mesh.nats_creds_file.clone(),
        create_stream: mesh.create_stream.then(StreamSize::default),
        ..NatsSettings::new(&node.config.node, url)
    };
    let (clock, disk) = (Arc::clone(node.clock), Arc::clone(node.disk));
    Some(Arc::new(NatsBus::start(settings, &Runtime::current(), clock, disk)))
}

fn drive(
    node: &Node<'_>,
    bus: &Arc<dyn Bus>,
    key: Arc<SigningKey>,
    trust: &TrustInForce,
) -> Result<Driver, AppError> {
    let Node { config, disk, clock, events, appender, .. } = node;
    let path = config.data_dir.join("mesh.redb");
    let store = Store::open(disk, &path, events.log().log_id());
    let store = store.map_err(|error| AppError::Mesh(format!("mesh.redb: {error}")))?;
    let mesh = Mesh::new(Parts {
        node: config.node.clone(),
        bus: Arc::clone(bus),
        events: (*events).clone(),
        appender: (*appender).clone(),
        clock: Arc::clone(clock),
        store,
        key,
        trust: trust.get(),
        sabotage: None,
    });
    Driver::start(mesh, Arc::clone(clock), bus, events.head())
        .map_err(|error| AppError::Thread(format!("the mesh's thread could not be started: {error}")))
}

/// The mesh as the API sees it.
fn handle(mesh: MeshHandle, trust: TrustInForce, own_key: Option<String>, clock: Arc<dyn Clock>) -> Handle {
    let (showing, deciding) = (mesh.clone(), mesh.clone());
    Handle {
        status: Arc::new(move || mesh_api::status_out(showing.status())),
        peers: Arc::new(move || {
            let imports = mesh.status().imports;
            mesh_api::peers_out(&trust.get(), own_key.as_deref(), &imports, clock.now_unix_nanos())
        }),
        decide: Arc::new(move |command, reason| {
            let answer = deciding.command(mesh_api::command_in(command, reason));
            Box::pin(async move {
                let gone = |_| CommandError::Unavailable("the mesh is stopping".into());
                let position = match answer {
                    Ok(answer) => answer.await.unwrap_or_else(|error| Err(gone(error))),
                    Err(error) => Err(error),
                };
                position.map(Position::get).map_err(mesh_api::refusal_out)
            })
        }),
    }
}

/// The directories of definitions and the keys in force, looked at again and again.
struct Definitions {
    config: Config,
    disk: Arc<dyn Disk>,
    ownership: InForce,
    handle: MeshHandle,
    trust: TrustInForce,
    seen: Seen,
}

/// What was given to the mesh last.
#[derive(Default)]
struct Seen {
    exports: Option<(Vec<([u8; 32], Vec<String>)>, Vec<String>)>,
    imports: Option<(Vec<[u8; 32]>, Vec<String>)>,
    trust: Option<Arc<crate::mesh::trust::Trust>>,
}

impl Definitions {
    async fn watch(mut self, lifecycle: Lifecycle) {
        loop {
            self.look_at_trust();
            let looked = tokio::task::spawn_blocking(move || {
                self.look_at_exports();
                self.look_at_imports();
                self
            });
            match looked.await {
                Ok(definitions) => self = definitions,
                Err(error) => {
                    tracing::error!(%error, "definitions of exports and imports are no longer looked at");
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = lifecycle.stop().cancelled() => return,
            }
        }
    }

    fn look_at_trust(&mut self) {
        let trust = self.trust.get();
        if self.seen.trust.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &trust)) {
            return;
        }
        match self.handle.set_trust(Arc::clone(&trust)) {
            Ok(()) => self.seen.trust = Some(trust),
            Err(error) => tracing::warn!(%error, "new keys are not in force yet"),
        }
    }

    fn look_at_exports(&mut self) {
        let Some(dir) = &self.config.exports_dir else { return };
        let directory = read_exports(&*self.disk, dir);
        let exports: Vec<Arc<Export>> = directory.files.into_values().map(Arc::new).collect();
        let importers = |export: &Export| -> Vec<String> {
            export.importers().into_iter().flatten().map(str::to_owned).collect()
        };
        let hashes = exports.iter().map(|export| (*export.hash(), importers(export))).collect();
        let seen = (hashes, directory.problems.clone());
        if self.seen.exports.as_ref() == Some(&seen) {
            return;
        }
        for problem in &directory.problems {
            tracing::error!(problem, "an export file cannot be used");
        }
        match self.handle.set_exports(exports, directory.problems) {
            Ok(()) => self.seen.exports = Some(seen),
            Err(error) => tracing::warn!(%error, "new exports are not in force yet"),
        }
    }

    fn look_at_imports(&mut self) {
        let Some(dir) = &self.config.imports_dir else { return };
        let directory = read_imports(&*self.disk, dir);
        let imports: Vec<Arc<Import>> = directory.files.into_values().map(Arc::new).collect();
        let seen = (imports.iter().map(|import| *import.hash()).collect(), directory.problems.clone());
        if self.seen.imports.as_ref() == Some(&seen) {
            return;
        }
        if self.seen.imports.is_some() {
            for problem in &directory.problems {
                tracing::error!(problem, "an import file cannot be used");
            }
            self.ownership.set(ownership::of(&self.config, imports.iter().map(|import| &**import)));
        }
        match self.handle.set_imports(imports, directory.problems) {
            Ok(()) => self.seen.imports = Some(seen),
            Err(error) => tracing::warn!(%error, "new imports are not in force yet"),
        }
    }
}
