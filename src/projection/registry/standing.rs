//! Standing versions: builds of deployed definitions up to a position of the past, which stay there.
//!
//! Invariants: a label names one build of a projection until it is removed, over restarts and whatever becomes of the
//! version it was made of; what it shows is the state at exactly its position, or nothing yet. It never answers queries
//! that do not name its label. Does not know when the event at a position was recorded (`until`).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

use super::{DefinitionProblem, Registry, Version};
use crate::{
    event::Position,
    events::history::check_token,
    follower::{Stop, drive},
    limits::{LABEL_BYTES_MAX, STANDING_VERSIONS_MAX},
    meta::standing::StandingRow,
    process,
    projection::{
        content_hash::ContentHash,
        definition::Definition,
        query::{QueryError, ReadOptions},
        runner::Runner,
        status::Status,
        store::Store,
    },
};

mod error;
mod until;

pub use error::StandingError;
pub use until::Until;

/// The standing versions of all projections, by projection and label.
#[derive(Debug, Default)]
pub(super) struct Standings(RwLock<BTreeMap<(String, String), Standing>>);

#[derive(Debug, Clone)]
struct Standing {
    row: Arc<StandingRow>,
    /// `None`: its definition is one that this program does not take.
    version: Option<Arc<Version>>,
}

/// A build up to a position.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingInfo {
    /// The projection's name.
    pub projection: String,
    /// What it is called.
    pub label: String,
    /// The version whose definition it has.
    pub version: u32,
    /// Where it stands when it is built.
    pub until: Position,
    /// The last event it has applied.
    pub position: Position,
    /// It stands there.
    pub built: bool,
    /// It does not come there by itself.
    pub failed: bool,
    /// Events applied a second, over the last seconds.
    pub rate: f64,
    /// Over all documents; absent while the file is closed.
    pub content_hash: Option<ContentHash>,
    /// Why it does not come there, or what it is trying again.
    pub error: Option<String>,
}

impl StandingInfo {
    /// While it is built: how long that takes at the rate of the last seconds.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.until.get() - self.position.get().min(self.until.get());
        (left > 0 && self.rate > 0.0).then(|| left as f64 / self.rate)
    }
}

impl Registry {
    /// Begins to build the definition of a deployed version once more, up to a point of the log, where it stands under a
    /// label. Reads and writes files.
    pub fn build_standing(
        &self,
        projection: &str,
        version: u32,
        until: Until,
        label: &str,
    ) -> Result<StandingInfo, StandingError> {
        check_label(label)?;
        let deployed = self
            .resolve(projection, &ReadOptions { version: Some(version), ..ReadOptions::default() }, None)?
            .version;
        if deployed.store.definition().is_service() {
            return Err(StandingError::Service { projection: projection.to_owned(), version });
        }
        let until = self.position_of(until)?;
        let _deploying = self.deploying.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.meta.standing()?;
        let labels: Vec<_> = rows.iter().filter(|row| row.projection == projection).collect();
        if let Some(taken) = labels.iter().find(|row| row.label == label) {
            return Err(StandingError::Taken { row: Box::new((*taken).clone()) });
        }
        if labels.len() >= STANDING_VERSIONS_MAX {
            return Err(StandingError::TooMany { projection: projection.to_owned() });
        }
        self.check_space(&deployed.store)?;
        let source = self.meta.deployed()?.into_iter();
        let mut source = source.filter(|row| row.projection == projection && row.version == version);
        let unknown =
            || QueryError::UnknownVersion { projection: projection.to_owned(), version, known: Vec::new() };
        let source = source.next().ok_or_else(unknown)?;
        let row = StandingRow {
            projection: projection.to_owned(),
            label: label.to_owned(),
            version,
            until,
            epoch: self.log.events.log().epoch_at(until),
            file: source.file,
            source: source.source,
        };
        self.meta.put_standing(&row)?;
        let standing = match self.stand(row) {
            Ok(standing) => standing,
            Err(error) => {
                self.meta.remove_standing(projection, label)?;
                return Err(error);
            }
        };
        tracing::info!(projection, version, label, %until, "a standing version is built");
        Ok(standing.info())
    }

    /// Removes a standing version and its file.
    pub fn remove_standing(&self, projection: &str, label: &str) -> Result<(), StandingError> {
        let _deploying = self.deploying.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = self.find_standing(projection, label)?;
        match &standing.version {
            Some(version) => {
                self.stop_version(version);
                version.status.stopped("it was removed");
                version.store.remove()?;
            }
            None => self.remove_file(&standing.row)?,
        }
        self.meta.remove_standing(projection, label)?;
        self.write_standings().remove(&(projection.to_owned(), label.to_owned()));
        tracing::info!(projection, label, "a standing version was removed");
        Ok(())
    }

    /// All standing versions, by projection and label.
    pub fn standing(&self) -> Vec<StandingInfo> {
        let all: Vec<Standing> = self.read_standings().values().cloned().collect();
        all.iter().map(Standing::info).collect()
    }

    /// Starts what was built before the start of the node; problems are those of its definitions.
    pub(super) fn start_standing(&self, rows: Vec<StandingRow>) {
        for row in rows {
            let (file, projection) = (row.file.clone(), row.projection.clone());
            let place = format!("standing version {} of projection {projection}", row.label);
            if let Err(error) = self.stand(row.clone()) {
                let error = format!("{place}: {error}");
                let problem = DefinitionProblem { file, projection: Some(projection), error };
                self.lock_problems().at_start.push(problem);
                let standing = Standing { row: Arc::new(row), version: None };
                self.put_standing(standing);
            }
        }
    }

    /// The standing version that a query names.
    pub(super) fn resolve_standing(
        &self,
        projection: &str,
        label: &str,
        version: Option<u32>,
    ) -> Result<Arc<Version>, QueryError> {
        let standing = self.find_standing(projection, label)?;
        if let Some(version) = version.filter(|version| *version != standing.row.version) {
            let message = format!(
                "expected {}, of which the standing version {label:?} is a build, or none; found {version}",
                standing.row.version
            );
            return Err(QueryError::invalid("options.version", message));
        }
        standing.version.ok_or_else(|| QueryError::VersionFailed {
            failure: format!("the definition of the standing version {label:?} is not in force").into(),
        })
    }

    /// What a query asks that names a label: exactly the position where the version stands. `None`: it names none.
    pub(super) fn standing_options(
        &self,
        projection: &str,
        options: &ReadOptions,
    ) -> Result<Option<ReadOptions>, QueryError> {
        let Some(label) = &options.label else {
            return Ok(None);
        };
        let until = self.find_standing(projection, label)?.row.until;
        if let Some(token) = &options.at_least {
            check_token(self.log.events.log(), token)?;
            if token.position > until {
                return Err(QueryError::BeyondStanding {
                    projection: projection.to_owned(),
                    label: label.clone(),
                    until,
                    wanted: token.position,
                });
            }
        }
        let at_least = Some(self.log.events.token(until));
        Ok(Some(ReadOptions { at_least, ..options.clone() }))
    }

    /// Stops all of them, everything applied durable, and closes their files.
    pub(super) fn stop_standing(&self) {
        let all: Vec<_> =
            self.read_standings().values().filter_map(|standing| standing.version.clone()).collect();
        for version in all {
            self.stop_version(&version);
            version.status.stopped("the node stops");
            version.store.close();
        }
    }

    fn find_standing(&self, projection: &str, label: &str) -> Result<Standing, QueryError> {
        let standings = self.read_standings();
        let found = standings.get(&(projection.to_owned(), label.to_owned()));
        found.cloned().ok_or_else(|| QueryError::UnknownLabel {
            projection: projection.to_owned(),
            label: label.to_owned(),
            known: standings
                .keys()
                .filter(|(of, _)| of == projection)
                .map(|(_, label)| label.clone())
                .collect(),
        })
    }

    /// Starts the follower of a standing version.
    fn stand(&self, row: StandingRow) -> Result<Standing, StandingError> {
        let definition = Definition::parse(&row.source, &row.file).map_err(|error| {
            StandingError::Definition { file: row.file.clone(), error: error.to_string() }
        })?;
        let stop = Stop::default();
        let store =
            Store::new(Arc::clone(&self.disk), &self.config.dir, Arc::new(definition), self.memory.take())
                .with_extension(&extension(&row.label))
                .writing_behind();
        // Below its position it shows nothing.
        let (store, status) = (Arc::new(store), Arc::new(Status::new(row.until, false)));
        let log = self.log.events.log();
        let is_cut = row.until > log.head() || log.epoch_at(row.until) != row.epoch;
        let mut thread = None;
        if is_cut {
            status.failed(&format!(
                "the log was cut below position {}, at which the standing version {:?} of projection {} stood; remove it \
                 and build it anew",
                row.until, row.label, row.projection
            ));
        } else {
            let (of_store, of_status) = (Arc::clone(&store), Arc::clone(&status));
            let turn = self.turn.clone();
            let mut runner = Runner::new(of_store, of_status, &self.log.events, turn, stop.clone())
                .until(row.until)
                .taking_turns(&self.builds, false);
            let (head, stop) = (self.head.clone(), stop.clone());
            let spawned =
                thread::Builder::new().name(format!("{}-{}", row.projection, row.label)).spawn(move || {
                    process::give_way(process::Work::Following);
                    drive(&mut runner, &head, &stop);
                });
            thread = Some(spawned.map_err(StandingError::Thread)?);
        }
        let thread = Mutex::new(thread);
        let held = Mutex::default();
        let version = Version { store, status, stop, hub: None, thread, held, deployed_before_start: false };
        let standing = Standing { row: Arc::new(row), version: Some(Arc::new(version)) };
        self.put_standing(standing.clone());
        Ok(standing)
    }

    /// The file of one that has no store.
    fn remove_file(&self, row: &StandingRow) -> Result<(), StandingError> {
        let name = format!("{}-v{}.{}", row.projection, row.version, extension(&row.label));
        let path: PathBuf = self.config.dir.join(name);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StandingError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    fn put_standing(&self, standing: Standing) {
        let key = (standing.row.projection.clone(), standing.row.label.clone());
        self.write_standings().insert(key, standing);
    }

    fn read_standings(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<(String, String), Standing>> {
        self.standing.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_standings(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<(String, String), Standing>> {
        self.standing.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn info(&self) -> StandingInfo {
        let StandingRow { projection, label, version, until, .. } = &*self.row;
        let progress = self.version.as_ref().map(|version| version.status.progress()).unwrap_or_default();
        let snapshot = self.version.as_ref().and_then(|version| version.store.snapshot().ok());
        let position = snapshot.as_ref().map_or(progress.as_of, |snapshot| snapshot.state().cursor);
        let not_in_force = self.version.is_none().then(|| "its definition is not in force".to_owned());
        let trouble = progress.failure.clone().or(progress.trouble).map(|trouble| trouble.to_string());
        StandingInfo {
            projection: projection.clone(),
            label: label.clone(),
            version: *version,
            until: *until,
            position,
            built: progress.open && position >= *until,
            failed: progress.failure.is_some() || self.version.is_none(),
            rate: self.version.as_ref().map_or(0.0, |version| version.status.rate()),
            content_hash: snapshot.map(|snapshot| snapshot.state().content_hash),
            error: trouble.or(not_in_force),
        }
    }
}

/// What the file is called behind the name of the version; no version's own file has a dot there.
fn extension(label: &str) -> String {
    format!("standing-{label}.redb")
}

fn check_label(label: &str) -> Result<(), QueryError> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_good) {
        return Ok(());
    }
    let message = format!("expected 1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -, found {label:?}");
    Err(QueryError::invalid("label", message))
}
