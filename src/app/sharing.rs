//! What a node shares: its key, whom it trusts, what it owns, and the mesh, which runs where there is something to share
//! and a bus to share it over.
//!
//! The directories of definitions are desired state: they are watched while the node runs, as is the file of trusted keys. A definition that cannot be used is a problem of its export or import, never of the node.

use std::{io, path::PathBuf, sync::Arc};

use tokio::runtime::Handle as Runtime;

use super::{
    AppError, Opened, mesh_api,
    mesh_keys::{self, TrustFile, TrustInForce},
    ownership,
};
use crate::{
    api::mesh::Handle,
    clock::Clock,
    config::Config,
    disk::{Disk, watch::Watch},
    event::Position,
    lifecycle::Lifecycle,
    limits::IMPORT_BULK_BEHIND,
    mesh::{
        bus::Bus,
        definition::{
            Export, Import,
            directory::{read_exports, read_imports},
        },
        nats::{NatsBus, NatsSettings, StreamSize},
        node::{
            Mesh, Parts,
            driver::{Driver, ErrorsQuery, MeshHandle},
        },
        state::CommandError,
        store::Store,
        trust::SigningKey,
    },
    ownership::InForce,
};

/// What the API and shutdown are given of it.
pub(super) struct Sharing {
    pub(super) ownership: InForce,
    pub(super) mesh: Handle,
    /// When the node's key goes out of force.
    pub(super) key_expiry: Arc<dyn Fn() -> Option<i64> + Send + Sync>,
    /// The mesh on its thread, where it runs.
    pub(super) driver: Option<Driver>,
}

/// Reads keys and definitions and starts the mesh. A key or trust file that cannot be used keeps the node from starting; a
/// definition that cannot be used does not.
pub(super) fn start(
    config: &Config,
    opened: &Opened,
    lifecycle: &Lifecycle,
    bus: Option<Arc<dyn Bus>>,
) -> Result<Sharing, AppError> {
    let Opened { disk, clock, events, .. } = opened;
    let key = mesh_keys::signing_key(config).map_err(AppError::Keys)?;
    let trust_file =
        config.mesh.trust_file.as_deref().map(|file| TrustFile::open(Arc::clone(disk), file)).transpose();
    let mut trust_file = trust_file.map_err(AppError::Keys)?;
    let trust = trust_file.as_ref().map(|file| file.trust().clone()).unwrap_or_default();
    let (owned, problems) = ownership::read(config, &**disk);
    for problem in problems {
        tracing::error!(problem, "an import file cannot be used");
    }
    let public_key = key.as_ref().map(|key| key.public().to_owned());
    let key_expiry = key_expiry(&config.node, public_key.clone(), trust.clone());
    let ownership = opened.ownership.clone();
    ownership.set(owned);
    let shares = config.exports_dir.is_some() || config.imports_dir.is_some();
    if let Some(file) = &config.mesh.nats_creds_file {
        mesh_keys::check_credentials(file).map_err(AppError::Keys)?;
    }
    let bus = if shares { bus.or_else(|| nats(config, opened)) } else { None };
    let Some(bus) = bus else {
        if let Some(mut file) = trust_file {
            let path = [file.path().to_path_buf()];
            keep(Watch::start("mesh-files", &path, move || file.look()), lifecycle)?;
        }
        let log_id = events.log().log_id();
        let mesh = mesh_api::absent(&config.node, log_id, trust, public_key, Arc::clone(clock));
        return Ok(Sharing { ownership, mesh, key_expiry, driver: None });
    };
    if key.is_none() && config.exports_dir.is_some() {
        let what = "exports.dir is set, and events are published under a signature: set mesh.key_file \
                    (`outrigger mesh keygen --out FILE` makes one)";
        return Err(AppError::Keys(what.into()));
    }
    // A node that exports nothing signs nothing.
    let key = Arc::new(key.unwrap_or_else(SigningKey::generate));
    let driver = drive(config, opened, &bus, key, &trust)?;
    let mut definitions = Definitions {
        config: config.clone(),
        disk: Arc::clone(disk),
        ownership: ownership.clone(),
        handle: driver.handle().clone(),
        trust: trust.clone(),
        trust_file: trust_file.take(),
        seen: Seen::default(),
    };
    // Who calls the node once it answers finds the exports and imports that it began with.
    definitions.look();
    let paths = definitions.paths();
    keep(Watch::start("mesh-files", &paths, move || definitions.look()), lifecycle)?;
    let mesh = handle(driver.handle().clone(), trust, public_key, Arc::clone(clock));
    Ok(Sharing { ownership, mesh, key_expiry, driver: Some(driver) })
}

/// When the node's own key goes out of force, as the trust file says now.
fn key_expiry(
    node: &str,
    public_key: Option<String>,
    trust: TrustInForce,
) -> Arc<dyn Fn() -> Option<i64> + Send + Sync> {
    let node = node.to_owned();
    Arc::new(move || {
        let trust = trust.get();
        let own = trust.keys_of(&node).iter().find(|key| Some(&key.public) == public_key.as_ref());
        own.and_then(|key| key.not_after_unix_nanos)
    })
}

/// Keeps a watch until the node stops.
fn keep(watch: io::Result<Watch>, lifecycle: &Lifecycle) -> Result<(), AppError> {
    let watch = watch
        .map_err(|error| AppError::Thread(format!("the files of the mesh cannot be watched: {error}")))?;
    let stop = lifecycle.stop().clone();
    lifecycle.tasks().spawn(async move {
        stop.cancelled().await;
        // Its thread ends first.
        drop(tokio::task::spawn_blocking(move || drop(watch)).await);
    });
    Ok(())
}

/// NATS, where the configuration names it.
fn nats(config: &Config, opened: &Opened) -> Option<Arc<dyn Bus>> {
    let mesh = &config.mesh;
    let url = mesh.nats_url.as_ref()?;
    let settings = NatsSettings {
        credentials_file: mesh.nats_creds_file.clone(),
        create_stream: mesh.create_stream.then(StreamSize::default),
        ..NatsSettings::new(&config.node, url)
    };
    let (clock, disk) = (Arc::clone(&opened.clock), Arc::clone(&opened.disk));
    Some(Arc::new(NatsBus::start(settings, &Runtime::current(), clock, disk)))
}

fn drive(
    config: &Config,
    opened: &Opened,
    bus: &Arc<dyn Bus>,
    key: Arc<SigningKey>,
    trust: &TrustInForce,
) -> Result<Driver, AppError> {
    let Opened { disk, clock, events, appender, .. } = opened;
    let path = config.data_dir.join("mesh.redb");
    let store = Store::open(disk, &path, events.log().log_id());
    let store = store.map_err(|error| AppError::Mesh(format!("mesh.redb: {error}")))?;
    let mesh = Mesh::new(Parts {
        node: config.node.clone(),
        bus: Arc::clone(bus),
        events: events.clone(),
        appender: appender.clone(),
        clock: Arc::clone(clock),
        store,
        key,
        trust: trust.get(),
        bulk_behind: IMPORT_BULK_BEHIND,
        sabotage: None,
    });
    Driver::start(mesh, Arc::clone(clock), bus, events.head())
        .map_err(|error| AppError::Thread(format!("the mesh's thread could not be started: {error}")))
}

/// The mesh as the API sees it.
fn handle(mesh: MeshHandle, trust: TrustInForce, own_key: Option<String>, clock: Arc<dyn Clock>) -> Handle {
    let (showing, deciding, telling) = (mesh.clone(), mesh.clone(), mesh.clone());
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
        errors: Arc::new(move |import, after, count_max| {
            let query = ErrorsQuery { import, after: after.map(Position::new), count_max };
            let answer = telling.errors(query);
            Box::pin(async move {
                let gone = || CommandError::Unavailable("the mesh is stopping".into());
                let page = match answer {
                    Ok(answer) => answer.await.unwrap_or_else(|_| Err(gone())),
                    Err(error) => Err(error),
                };
                page.map(mesh_api::errors_out).map_err(mesh_api::refusal_out)
            })
        }),
    }
}

/// The directories of definitions and the keys in force, looked at whenever they may have changed.
struct Definitions {
    config: Config,
    disk: Arc<dyn Disk>,
    ownership: InForce,
    handle: MeshHandle,
    trust: TrustInForce,
    trust_file: Option<TrustFile>,
    seen: Seen,
}

/// The hash of an export and who may ask for repairs.
type SeenExport = ([u8; 32], Vec<String>);

/// What was given to the mesh last.
#[derive(Default)]
struct Seen {
    exports: Option<(Vec<SeenExport>, Vec<String>)>,
    imports: Option<(Vec<[u8; 32]>, Vec<String>)>,
    trust: Option<Arc<crate::mesh::trust::Trust>>,
}

impl Definitions {
    /// What is watched.
    fn paths(&self) -> Vec<PathBuf> {
        let Config { exports_dir, imports_dir, .. } = &self.config;
        let trust_file = self.trust_file.as_ref().map(|file| file.path().to_path_buf());
        exports_dir.iter().chain(imports_dir).cloned().chain(trust_file).collect()
    }

    fn look(&mut self) {
        if let Some(file) = &mut self.trust_file {
            file.look();
        }
        self.look_at_trust();
        self.look_at_exports();
        self.look_at_imports();
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
