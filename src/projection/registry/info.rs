//! What a registry tells people and probes about its versions.

use std::sync::Arc;

use super::{Projection, Registry, Version};
use crate::{
    event::Position,
    projection::{
        content_hash::ContentHash,
        failure::{OnError, Pause},
        ledger::Counts,
        page::hex,
        query::QueryError,
        status::{Role, VersionState},
        store::Snapshot,
    },
};

/// One version of a projection.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any may hold beside any other"
)]
pub struct VersionInfo {
    /// The projection's name.
    pub projection: String,
    /// The version, from 1.
    pub version: u32,
    /// How it stands.
    pub state: VersionState,
    /// It answers the queries that name no version.
    pub active: bool,
    /// The last event it has applied and shows.
    pub position: Position,
    /// The log's last visible position.
    pub head: Position,
    /// Events applied a second, over the last seconds.
    pub rate: f64,
    /// Events applied since the node started.
    pub applied: u64,
    /// Events that could not be applied since then, every try counted.
    pub failures: u64,
    /// Over all documents; absent while the file is closed.
    pub content_hash: Option<ContentHash>,
    /// SHA-256 of the definition, as hex.
    pub definition_hash: String,
    /// By name.
    pub collections: Vec<CollectionInfo>,
    /// Why it stopped, or what it is trying again.
    pub error: Option<String>,
    /// It waits for its turn to build.
    pub queued: bool,
    /// The releases that name it.
    pub releases: Vec<String>,
    /// What it does about events that it cannot apply.
    pub on_error: OnError,
    /// Where it stands still, and why.
    pub pause: Option<Arc<Pause>>,
    /// What it has set aside.
    pub counts: Counts,
    /// Its build is paused by a person.
    pub build_paused: bool,
    /// It was decided to be active, and another one still is.
    pub taking_over: bool,
}

/// Which version of a projection is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveInfo {
    /// The projection's name.
    pub projection: String,
    /// The version that answers.
    pub answering: u32,
    /// The version that was decided to.
    pub active: u32,
    /// How often another version was decided to be active.
    pub turns: usize,
}

/// A version that is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredInfo {
    /// The projection's name.
    pub projection: String,
    /// The version.
    pub version: u32,
    /// SHA-256 of the definition that it had, as hex.
    pub definition_hash: String,
    /// The log's last visible position.
    pub head: Position,
}

impl VersionInfo {
    /// Events that it has not applied yet.
    pub const fn lag(&self) -> u64 {
        self.head.get().saturating_sub(self.position.get())
    }

    /// While it builds or catches up: how long that takes at the rate of the last seconds.
    pub fn seconds_left(&self) -> Option<f64> {
        let behind = matches!(self.state, VersionState::Building | VersionState::CatchingUp);
        (behind && self.rate > 0.0).then(|| self.lag() as f64 / self.rate)
    }

    /// The last event that it could not apply; 0: there is none.
    pub fn last_error(&self) -> Position {
        self.pause.as_ref().map_or(self.counts.last_error, |pause| pause.position)
    }
}

/// One collection of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Its name.
    pub name: String,
    /// How many documents it holds.
    pub documents: u64,
    /// Its indexes, by name.
    pub indexes: Vec<String>,
    /// Parked events would change it.
    pub incomplete: bool,
}

/// A definition that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionProblem {
    /// The file.
    pub file: String,
    /// The projection it names, where that could be read.
    pub projection: Option<String>,
    /// What is wrong with it, with line and column where it can be told.
    pub error: String,
}

/// Whether queries find what they found before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Each version that is waited for, and what for; empty: ready.
    pub waiting_for: Vec<String>,
}

impl Readiness {
    /// Nothing is waited for.
    pub const fn is_ready(&self) -> bool {
        self.waiting_for.is_empty()
    }
}

impl Registry {
    /// All versions, by projection, then version.
    pub fn list(&self) -> Vec<VersionInfo> {
        let all = self.all();
        all.iter().map(|(role, version)| self.info(*role, version)).collect()
    }

    /// Which versions are active, by projection.
    pub fn active(&self) -> Vec<ActiveInfo> {
        let info = |(name, found): (&String, &Projection)| ActiveInfo {
            projection: name.clone(),
            answering: found.active,
            active: found.decided.active().unwrap_or(found.active),
            turns: found.decided.turns(),
        };
        self.lock_projections().iter().map(info).collect()
    }

    /// All retired versions, by projection, then version.
    pub fn retired(&self) -> Vec<RetiredInfo> {
        let (projections, head) = (self.lock_projections(), self.head.get());
        let of_projection = |(name, found): (&String, &Projection)| {
            let retired = found.decided.all_retired().iter();
            let info = |(version, hash): (&u32, &[u8; 32])| RetiredInfo {
                projection: name.clone(),
                version: *version,
                definition_hash: hex(hash),
                head,
            };
            retired.map(info).collect::<Vec<_>>()
        };
        projections.iter().flat_map(of_projection).collect()
    }

    /// The versions of one projection.
    pub fn show(&self, projection: &str) -> Result<Vec<VersionInfo>, QueryError> {
        let all = self.list();
        if !all.iter().any(|version| version.projection == projection) {
            let mut known: Vec<String> = all.into_iter().map(|version| version.projection).collect();
            known.dedup();
            return Err(QueryError::UnknownProjection { projection: projection.to_owned(), known });
        }
        let of_projection = all.into_iter().filter(|version| version.projection == projection);
        Ok(of_projection.collect())
    }

    /// The definitions that are not in force, by file.
    pub fn problems(&self) -> Vec<DefinitionProblem> {
        let unmet = self.unmet_wants();
        let problems = self.lock_problems();
        problems.at_start.iter().chain(&problems.of_sources).chain(&unmet).cloned().collect()
    }

    /// Whether the active version of every projection that was deployed before the start is open and at the head
    /// recovered at start. One that failed does not count: waiting would not help it. One deployed since does not
    /// either: nobody has read it yet.
    pub fn required_ready(&self) -> Readiness {
        let waits = |(role, version): (Role, Arc<Version>)| {
            let progress = version.status.progress();
            let required = role.is_active() && version.deployed_before_start && progress.failure.is_none();
            let ready = progress.open && progress.as_of >= self.head_at_start;
            let definition = version.store.definition();
            (required && !ready).then(|| {
                format!(
                    "projection {} version {} is at position {}, wanted {}",
                    definition.name(),
                    definition.version(),
                    progress.as_of,
                    self.head_at_start
                )
            })
        };
        Readiness { waiting_for: self.all().into_iter().filter_map(waits).collect() }
    }

    pub(super) fn info(&self, role: Role, version: &Version) -> VersionInfo {
        let definition = version.store.definition();
        let progress = version.status.progress();
        let snapshot = version.store.snapshot().ok();
        let position = snapshot.as_ref().map_or(progress.as_of, |snapshot| snapshot.state().cursor);
        let head = self.head.get().max(position);
        let counts = snapshot.as_ref().and_then(|snapshot| snapshot.counts().ok()).unwrap_or_default();
        let collections = definition.collections().iter().enumerate();
        let (applied, failures) = version.status.totals();
        VersionInfo {
            projection: definition.name().to_owned(),
            version: definition.version(),
            state: progress.state(head, role),
            active: role.is_active(),
            position,
            head,
            rate: version.status.rate(),
            applied,
            failures,
            content_hash: snapshot.as_ref().map(|snapshot| snapshot.state().content_hash),
            definition_hash: hex(definition.hash()),
            collections: collections
                .map(|(at, collection)| CollectionInfo {
                    name: collection.name.to_string(),
                    documents: snapshot.as_ref().map_or(0, |snapshot| documents(snapshot, at)),
                    indexes: collection.indexes.iter().map(|index| index.name.to_string()).collect(),
                    incomplete: counts.is_incomplete(at),
                })
                .collect(),
            error: progress.failure.or(progress.trouble).map(|error| error.to_string()),
            queued: progress.queued,
            releases: self.releases_of(definition.name(), definition.version()),
            on_error: definition.on_error(),
            pause: progress.pause,
            counts,
            build_paused: version.is_held(),
            taking_over: role == Role::Next,
        }
    }
}

/// How many documents a collection holds; 0 where the file cannot say, which the version's own state tells.
fn documents(snapshot: &Snapshot, collection: usize) -> u64 {
    snapshot.document_count(collection).unwrap_or(0)
}
