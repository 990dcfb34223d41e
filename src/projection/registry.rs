//! The projections of a node: which versions there are, which is active, and a running follower for each.
//!
//! Invariants: what is deployed stays deployed until it is retired, over restarts and vanished files; the first version of
//! a projection is its active one (of several that come at once, the lowest) until the log decides otherwise; a definition
//! that is refused is a problem of its file and of nothing else. How definitions become versions is in `deploy`, what is
//! decided about them in `decide` and `retire`, who answers in `flip` and `reads`.
//! Deliberately does not know where definition files are, or gRPC.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    thread,
};

use tokio::sync::watch;

use crate::{
    append::{AppendError, Appender, Expected},
    clock::Clock,
    disk::Disk,
    event::{Position, Revision},
    events::{Events, EventsError},
    follower::{Head, Stop, drive},
    meta::{Deployed, Meta, MetaError},
    ownership::InForce,
    process,
    projection::{
        builds::Builds,
        decisions::{self, Decision, Decisions},
        definition::Definition,
        exclusive::Exclusive,
        handler::{feed::Feed, hub::Hub},
        hold::Hold,
        memory::Budget,
        query::QueryError,
        release::Releases,
        runner::{Runner, Turns},
        status::{Role, Status},
        store::Store,
        versions::Versions,
    },
    sabotage::Sabotage,
};

mod backup;
mod changes;
mod compare;
mod decide;
mod deploy;
mod desired;
mod errors;
mod flip;
mod handlers;
mod hold_build;
mod holds;
mod info;
mod reads;
mod releases;
mod retire;
mod room;
mod second;
mod standing;
mod versions_error;
mod watched;

pub use decide::{Promote, Turn};
pub use deploy::{DeployError, Deployment, Origin};
use desired::Want;
pub use errors::{DecideError, Decided, ErrorPage, EventError, EventErrorKind};
pub use handlers::{Handler, HandlerError, HandlerInfo};
pub use hold_build::Paused;
pub use info::{ActiveInfo, CollectionInfo, DefinitionProblem, Readiness, RetiredInfo, VersionInfo};
pub use releases::{ProjectionTurn, ReleaseError, ReleaseTurn};
pub use standing::{StandingError, StandingInfo, Until};
pub use versions_error::VersionsError;
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
    /// How many first builds of long stretches go on at once.
    pub builds: usize,
    /// A version is refused where less than this would be left of the disk.
    pub low_water_bytes: u64,
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
    /// What handlers may emit: the node's own.
    pub ownership: InForce,
}

/// Why the registry did not open.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was deployed could not be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// What was decided about releases could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The directory of the versions' files could not be made.
    #[error("{}: {error}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the file system said.
        error: std::io::Error,
    },
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
    turn: Turns,
    builds: Builds,
    replaying: Exclusive,
    comparing: Exclusive,
    standing: standing::Standings,
    memory: Budget,
    projections: RwLock<BTreeMap<String, Projection>>,
    problems: Mutex<Problems>,
    /// What the log says about releases, as far as it is known here.
    releases: RwLock<Releases>,
    /// What definition files want to be active.
    wants: Mutex<BTreeMap<String, Want>>,
    /// Held while something is deployed or removed.
    deploying: Mutex<()>,
    /// Told when the log decided something about versions, or another one answers.
    turns: watch::Sender<u64>,
    sabotage: Option<Sabotage>,
}

/// The versions of one projection.
#[derive(Debug)]
struct Projection {
    /// Answers the queries that name no version.
    active: u32,
    /// What `meta.redb` has as the active version.
    recorded: u32,
    /// Counts how often another version became active here.
    flips: u64,
    /// What the log says about versions, up to this revision of its decisions.
    decided: Versions,
    decided_at: Revision,
    versions: BTreeMap<u32, Arc<Version>>,
}

/// What a projection begins with, or has.
#[derive(Debug)]
struct Entry {
    active: u32,
    decided: Versions,
    decided_at: Revision,
    /// Below this a version that is new here must not answer.
    floor: Position,
    /// It has no version yet.
    is_new: bool,
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
    /// While its build is paused.
    held: Mutex<Option<Arc<Hold>>>,
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
        let standing = meta.standing()?;
        let memory = Budget::new(config.memory_bytes);
        let builds = Builds::new(config.builds);
        let registry = Self {
            disk,
            config,
            meta,
            head_at_start: log.events.head().get(),
            head: log.events.head().clone(),
            log,
            turn: Turns::default(),
            builds,
            replaying: Exclusive::default(),
            comparing: Exclusive::default(),
            standing: standing::Standings::default(),
            memory,
            projections: RwLock::default(),
            problems: Mutex::default(),
            releases: RwLock::default(),
            wants: Mutex::default(),
            deploying: Mutex::default(),
            turns: watch::Sender::new(0),
            sabotage: None,
        };
        registry.learn_releases()?;
        for deployed in deployed {
            let active = active.get(&deployed.projection).copied();
            if let Err(error) = registry.open_deployed(&deployed, active) {
                let problem = DefinitionProblem {
                    file: deployed.file,
                    projection: Some(deployed.projection),
                    error: error.to_string(),
                };
                registry.lock_problems().at_start.push(problem);
            }
        }
        registry.start_standing(standing);
        Ok(registry)
    }

    /// Starts a version that was deployed before; one that was retired meanwhile is removed at last.
    fn open_deployed(&self, deployed: &Deployed, active: Option<u32>) -> Result<(), DeployError> {
        let mut entry = self.entry(&deployed.projection, deployed.version)?;
        let stands = |active: &u32| entry.is_new && entry.decided.retired(*active).is_none();
        if let Some(active) = active.filter(stands) {
            entry.active = active;
        }
        if entry.decided.retired(deployed.version).is_some() {
            return self.remove_left_over(&deployed.projection, deployed.version);
        }
        let definition = Definition::parse(&deployed.source, &deployed.file)?;
        self.start(definition, entry, self.head_at_start, true)
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

    /// What a projection has, or begins with if its first version is `first`. Reads the log.
    fn entry(&self, projection: &str, first: u32) -> Result<Entry, EventsError> {
        if let Some(found) = self.lock_projections().get(projection) {
            let (decided, decided_at) = (found.decided.clone(), found.decided_at);
            let (active, floor) = (found.active, Position::ZERO);
            return Ok(Entry { active, decided, decided_at, floor, is_new: false });
        }
        let decisions = self.decisions(projection)?;
        let decided = decisions.versions().clone();
        // What was decided before was answered before: `meta.redb` was lost, and nobody knows how far that went.
        let floor = decided.active().map_or(Position::ZERO, |_| self.head_at_start);
        let (active, decided_at) = (decided.active().unwrap_or(first), decisions.revision());
        Ok(Entry { active, decided, decided_at, floor, is_new: true })
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
        self.stop_standing();
    }

    /// Puts a version in place, closed, and starts its follower, which opens it.
    fn start(
        &self,
        definition: Definition,
        entry: Entry,
        floor: Position,
        deployed_before_start: bool,
    ) -> Result<(), DeployError> {
        let (name, number) = (definition.name().to_owned(), definition.version());
        let stop = Stop::default();
        let (hub, feed) = definition
            .is_service()
            .then(|| Hub::new(self.head.clone(), stop.clone()))
            .map(|(hub, inbox)| (hub, Feed::new(inbox, self.emitter(&definition, entry.active))))
            .unzip();
        let (disk, memory) = (Arc::clone(&self.disk), self.memory.take());
        let store = Store::new(disk, &self.config.dir, Arc::new(definition), memory);
        let store = Arc::new(store.writing_behind());
        let status = Arc::new(Status::new(floor, deployed_before_start));
        let is_paused = number != entry.active && self.meta.paused()?.contains(&(name.clone(), number));
        let held = is_paused.then(|| {
            let (status, head) = (Arc::clone(&status), self.head.clone());
            Arc::new(Hold::place(status, head, stop.clone(), Position::ZERO))
        });
        let mut runner = Runner::new(
            Arc::clone(&store),
            Arc::clone(&status),
            &self.log.events,
            self.turn.clone(),
            stop.clone(),
        )
        .fed(feed)
        .taking_turns(&self.builds, number == entry.active);
        let (head, stop_of_thread) = (self.head.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name(format!("{name}-v{number}"))
            .spawn(move || {
                process::give_way(process::Work::Following);
                drive(&mut runner, &head, &stop_of_thread);
            })
            .map_err(|error| DeployError::Thread { projection: name.clone(), version: number, error })?;
        let (thread, held) = (Mutex::new(Some(thread)), Mutex::new(held));
        let version = Version { store, status, stop, hub, thread, held, deployed_before_start };
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        let projection = projections.entry(name).or_insert_with(|| Projection::new(entry));
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
        self.lock_projections().get(projection)?.versions.get(&version).cloned()
    }

    /// All versions, by projection and number, each with what it is among the others.
    fn all(&self) -> Vec<(Role, Arc<Version>)> {
        let projections = self.lock_projections();
        let each = projections.values().flat_map(|projection| {
            let versions = projection.versions.iter();
            versions.map(|(number, version)| (projection.role(*number), Arc::clone(version)))
        });
        each.collect()
    }

    fn lock_projections(&self) -> RwLockReadGuard<'_, BTreeMap<String, Projection>> {
        self.projections.read().unwrap_or_else(PoisonError::into_inner)
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

impl Version {
    fn number(&self) -> u32 {
        self.store.definition().version()
    }
}

impl Projection {
    fn new(entry: Entry) -> Self {
        let Entry { active, decided, decided_at, .. } = entry;
        Self { active, recorded: active, flips: 0, decided, decided_at, versions: BTreeMap::new() }
    }

    fn version(&self, projection: &str, number: u32) -> Result<Arc<Version>, QueryError> {
        self.versions.get(&number).cloned().ok_or_else(|| QueryError::UnknownVersion {
            projection: projection.to_owned(),
            version: number,
            known: self.versions.keys().copied().collect(),
        })
    }

    /// What a version is among the others.
    fn role(&self, version: u32) -> Role {
        if self.active == version {
            Role::Active
        } else if self.decided.active() == Some(version) {
            Role::Next
        } else if self.decided.was_active(version) {
            Role::Standby
        } else {
            Role::Other
        }
    }
}

#[cfg(test)]
mod tests;
