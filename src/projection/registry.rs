//! The projections of a node: which versions there are, which is active, and a running follower for each.
//!
//! Invariants: what is deployed stays deployed, over restarts and vanished files; a (projection, version) has one
//! definition for ever, except under `dev`; the first version of a projection is its active one (of several that come
//! at once, the lowest); a definition that is refused is a problem of its file and of nothing else.
//! Deliberately does not know where definition files are, or gRPC.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
};

use crate::{
    append::{AppendError, Appender, Expected},
    clock::Clock,
    disk::Disk,
    event::Position,
    events::{Events, EventsError},
    follower::{Head, Stop, drive},
    kv::KvError,
    meta::{Meta, MetaError},
    projection::{
        decisions::{self, Decision, Decisions},
        definition::{Definition, DefinitionError},
        handler::{feed::Feed, hub::Hub},
        memory::Budget,
        page::PageToken,
        query::{QueryError, ReadOptions, Reading, freshness},
        replay::ReplayTurn,
        runner::{DurableTurn, Runner},
        status::Status,
        store::Store,
    },
};

mod changes;
mod errors;
mod handlers;
mod holds;
mod info;
mod second;
mod watched;

pub use errors::{DecideError, Decided, ErrorPage, EventError, EventErrorKind};
pub use handlers::{Handler, HandlerError, HandlerInfo};
pub use info::{CollectionInfo, DefinitionProblem, Readiness, VersionInfo};
pub use watched::Watched;

/// How a registry runs.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Where the files of versions are.
    pub dir: PathBuf,
    /// A definition that changed in place is built anew instead of refused.
    pub dev: bool,
    /// Bytes that all versions share.
    pub memory_bytes: u64,
}

/// The log that versions follow, and the way to append decisions to it.
#[derive(Debug)]
pub struct RegistryLog {
    /// What is in it.
    pub events: Events,
    /// Where decisions are appended.
    pub appender: Appender,
    /// Where their ids come from.
    pub clock: Arc<dyn Clock>,
}

/// Why the registry did not open.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was deployed could not be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The directory of the versions' files could not be made.
    #[error("{}: {error}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the file system said.
        error: std::io::Error,
    },
}

/// Why a definition is not in force.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// It says something that a definition cannot say.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// This version is deployed with another definition.
    #[error(
        "{file}: projection {projection} version {version} is deployed with another definition: {changes}; \
        give the file a new version number, or serve with --dev to build it anew in place"
    )]
    Changed {
        /// The file.
        file: String,
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// What is different, in words.
        changes: String,
    },
    /// It could not be recorded.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The file of the version before could not be removed.
    #[error(transparent)]
    File(#[from] KvError),
    /// The system did not give a thread to follow the log.
    #[error("projection {projection} version {version}: {error}")]
    Thread {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What a deployment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// The version is new.
    New,
    /// The version was there with this definition.
    Unchanged,
    /// The version was there with another definition and is built anew.
    Rebuilt,
}

/// The text of a definition, or why it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name, as problems name it.
    pub file: String,
    /// Its text, or what is wrong with the file.
    pub text: Result<String, String>,
}

/// The projections of a node.
#[derive(Debug)]
pub struct Registry {
    disk: Arc<dyn Disk>,
    config: RegistryConfig,
    meta: Meta,
    log: RegistryLog,
    head: Head,
    /// The head recovered at start: what was deployed before answers unpinned reads from here on.
    head_at_start: Position,
    turn: DurableTurn,
    replaying: ReplayTurn,
    memory: Budget,
    projections: RwLock<BTreeMap<String, Projection>>,
    problems: Mutex<Problems>,
    /// Held while something is deployed.
    deploying: Mutex<()>,
}

/// The versions of one projection.
#[derive(Debug, Clone)]
struct Projection {
    active: u32,
    versions: BTreeMap<u32, Arc<Version>>,
}

/// What is wrong with definitions.
#[derive(Debug, Default)]
struct Problems {
    /// With what was deployed before the start.
    at_start: Vec<DefinitionProblem>,
    /// With the sources as they were last applied.
    of_sources: Vec<DefinitionProblem>,
}

/// One version and its follower.
#[derive(Debug)]
struct Version {
    store: Arc<Store>,
    status: Arc<Status>,
    stop: Stop,
    /// Where the workers of a service's version meet its runner.
    hub: Option<Arc<Hub>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    deployed_before_start: bool,
}

impl Registry {
    /// Opens what was deployed before and begins to follow the log.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: RegistryConfig,
        meta: Meta,
        log: RegistryLog,
    ) -> Result<Self, RegistryError> {
        disk.create_dir_all(&config.dir)
            .map_err(|error| RegistryError::Dir { dir: config.dir.clone(), error })?;
        let deployed = meta.deployed()?;
        let active = meta.active()?;
        let memory = Budget::new(config.memory_bytes);
        let registry = Self {
            disk,
            config,
            meta,
            head_at_start: log.events.head().get(),
            head: log.events.head().clone(),
            log,
            turn: DurableTurn::default(),
            replaying: ReplayTurn::default(),
            memory,
            projections: RwLock::default(),
            problems: Mutex::default(),
            deploying: Mutex::default(),
        };
        for deployed in deployed {
            let active = active.get(&deployed.projection).copied().unwrap_or(deployed.version);
            let opened = Definition::parse(&deployed.source, &deployed.file)
                .map_err(DeployError::from)
                .and_then(|definition| registry.start(definition, active, registry.head_at_start, true));
            if let Err(error) = opened {
                let problem = DefinitionProblem {
                    file: deployed.file,
                    projection: Some(deployed.projection),
                    error: error.to_string(),
                };
                registry.lock_problems().at_start.push(problem);
            }
        }
        Ok(registry)
    }

    /// Deploys a definition. Repeating it changes nothing.
    pub fn deploy(
        &self,
        definition: Definition,
        source: &str,
        file: &str,
    ) -> Result<Deployment, DeployError> {
        let _deploying = self.deploying.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, version) = (definition.name().to_owned(), definition.version());
        let before = self.find(&name, version);
        let deployment = match &before {
            None => Deployment::New,
            Some(before) if before.store.definition().hash() == definition.hash() => {
                return Ok(Deployment::Unchanged);
            }
            Some(_) if self.config.dev => Deployment::Rebuilt,
            Some(before) => {
                return Err(DeployError::Changed {
                    file: file.to_owned(),
                    projection: name,
                    version,
                    changes: changes::in_words(before.store.definition(), &definition),
                });
            }
        };
        self.meta.deploy(&name, version, definition.hash(), file, source)?;
        let mut floor = Position::ZERO;
        if let Some(before) = before {
            self.stop_version(&before);
            let progress = before.status.progress();
            floor = progress.floor.max(progress.as_of);
            before.status.stopped("its definition has changed, it is built anew");
            before.store.remove()?;
        }
        self.start(definition, version, floor, false)?;
        tracing::info!(projection = %name, version, file, ?deployment, "deployed");
        Ok(deployment)
    }

    /// Deploys all sources, the lowest version of a projection first. Their problems replace those of the last call.
    pub fn apply_sources(&self, sources: &[Source]) {
        let mut problems = Vec::new();
        let mut definitions = Vec::new();
        for Source { file, text } in sources {
            let parsed = text.as_ref().map_err(Clone::clone).and_then(|text| {
                let definition = Definition::parse(text, file).map_err(|error| error.to_string())?;
                Ok((definition, text, file))
            });
            match parsed {
                Ok(parsed) => definitions.push(parsed),
                Err(error) => {
                    problems.push(DefinitionProblem { file: file.clone(), projection: None, error });
                }
            }
        }
        definitions.sort_by(|(a, ..), (b, ..)| (a.name(), a.version()).cmp(&(b.name(), b.version())));
        for (definition, text, file) in definitions {
            let name = definition.name().to_owned();
            if let Err(error) = self.deploy(definition, text, file) {
                problems.push(DefinitionProblem {
                    file: file.clone(),
                    projection: Some(name),
                    error: error.to_string(),
                });
            }
        }
        problems.sort_by(|a, b| a.file.cmp(&b.file));
        let before = std::mem::replace(&mut self.lock_problems().of_sources, problems.clone());
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!(file = %problem.file, error = %problem.error, "a definition is not in force");
        }
    }

    /// A snapshot of the version that answers, as fresh as the options ask. A page token keeps the version of its page.
    pub async fn read(
        &self,
        projection: &str,
        options: &ReadOptions,
        page_token: Option<&str>,
    ) -> Result<Reading, QueryError> {
        let version = self.resolve(projection, options, page_token)?;
        let source = freshness::Source {
            store: &version.store,
            status: &version.status,
            reader: self.log.events.log(),
            head: &self.head,
        };
        freshness::read(&source, options).await
    }

    /// Appends a decision about a projection and gives its position; it is durable then. The caller has to know that
    /// the projection is there and what the decision means.
    pub async fn decide(
        &self,
        projection: &str,
        decision: &Decision,
        expected: Expected,
    ) -> Result<Position, AppendError> {
        let RegistryLog { appender, clock, .. } = &self.log;
        decisions::append(appender, &**clock, projection, decision, expected).await
    }

    /// All decisions about a projection up to the visible head. Reads the log.
    pub fn decisions(&self, projection: &str) -> Result<Decisions, EventsError> {
        let mut decisions = Decisions::new(projection);
        decisions.refresh(&self.log.events, self.head.get())?;
        Ok(decisions)
    }

    /// Stops all versions at a batch edge, everything applied durable, and closes their files. May be repeated.
    pub fn stop(&self) {
        let versions: Vec<Arc<Version>> = self.all().into_iter().map(|(_, version)| version).collect();
        for version in &versions {
            self.head.stop(&version.stop);
        }
        for version in &versions {
            self.stop_version(version);
            version.status.stopped("the node stops");
            version.store.close();
        }
    }

    fn resolve(
        &self,
        projection: &str,
        options: &ReadOptions,
        page_token: Option<&str>,
    ) -> Result<Arc<Version>, QueryError> {
        let projections = self.projections.read().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = projections.get(projection) else {
            return Err(QueryError::UnknownProjection {
                projection: projection.to_owned(),
                known: projections.keys().cloned().collect(),
            });
        };
        let Some(text) = page_token else {
            let version = options.version.unwrap_or(found.active);
            return found.version(projection, version);
        };
        let token = PageToken::decode(text).ok_or(QueryError::PageTokenInvalid)?;
        let asked_otherwise = options.version.is_some_and(|version| version != token.version);
        if asked_otherwise || token.projection != crc32c::crc32c(projection.as_bytes()) {
            return Err(QueryError::PageTokenMismatch);
        }
        found.version(projection, token.version).map_err(|_| QueryError::PageExpired {
            projection: projection.to_owned(),
            version: token.version,
        })
    }

    /// Puts a version in place, closed, and starts its follower, which opens it.
    fn start(
        &self,
        definition: Definition,
        active: u32,
        floor: Position,
        deployed_before_start: bool,
    ) -> Result<(), DeployError> {
        let (name, number) = (definition.name().to_owned(), definition.version());
        let stop = Stop::default();
        let (hub, feed) = definition
            .is_service()
            .then(|| Hub::new(self.head.clone(), stop.clone()))
            .map(|(hub, inbox)| (hub, Feed::new(inbox, self.emitter(&definition, active))))
            .unzip();
        let (disk, memory) = (Arc::clone(&self.disk), self.memory.take());
        let store = Store::new(disk, &self.config.dir, Arc::new(definition), memory);
        let store = Arc::new(store.writing_behind());
        let status = Arc::new(Status::new(floor, deployed_before_start));
        let mut runner = Runner::new(
            Arc::clone(&store),
            Arc::clone(&status),
            &self.log.events,
            Arc::clone(&self.turn),
            stop.clone(),
        )
        .fed(feed);
        let (head, stop_of_thread) = (self.head.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name(format!("{name}-v{number}"))
            .spawn(move || drive(&mut runner, &head, &stop_of_thread))
            .map_err(|error| DeployError::Thread { projection: name.clone(), version: number, error })?;
        let version =
            Version { store, status, stop, hub, thread: Mutex::new(Some(thread)), deployed_before_start };
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        let projection =
            projections.entry(name).or_insert_with(|| Projection { active, versions: BTreeMap::new() });
        projection.versions.insert(number, Arc::new(version));
        Ok(())
    }

    fn stop_version(&self, version: &Version) {
        self.head.stop(&version.stop);
        let thread = version.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(file = %version.store.path().display(), "a projection's thread panicked");
        }
    }

    fn find(&self, projection: &str, version: u32) -> Option<Arc<Version>> {
        let projections = self.projections.read().unwrap_or_else(PoisonError::into_inner);
        projections.get(projection)?.versions.get(&version).cloned()
    }

    /// All versions, by projection and number, each with whether it is active.
    fn all(&self) -> Vec<(bool, Arc<Version>)> {
        let projections = self.projections.read().unwrap_or_else(PoisonError::into_inner);
        let each = projections.values().flat_map(|projection| {
            let versions = projection.versions.iter();
            versions.map(|(number, version)| (*number == projection.active, Arc::clone(version)))
        });
        each.collect()
    }

    fn lock_problems(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Projection {
    fn version(&self, projection: &str, number: u32) -> Result<Arc<Version>, QueryError> {
        self.versions.get(&number).cloned().ok_or_else(|| QueryError::UnknownVersion {
            projection: projection.to_owned(),
            version: number,
            known: self.versions.keys().copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
