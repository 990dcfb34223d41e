//! How definitions become versions: from the directory, from people, from workers.
//!
//! Invariants: a (projection, version) has one definition for ever, except under `dev`; a retired number comes back by a
//! person's wish only, and only with the definition it had; one deployment at a time. Does not know where files are.

use std::{path::PathBuf, sync::PoisonError};

use super::{DefinitionProblem, Registry, Source, changes, desired};
use crate::{
    append::AppendError,
    events::EventsError,
    kv::KvError,
    meta::MetaError,
    projection::{
        decisions::{self, Decision},
        definition::{Definition, DefinitionError},
        page::hex,
        versions::Change,
    },
};

/// Who wants a definition to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A person, or a program on a person's behalf: means it.
    Person,
    /// It lies in a directory, or a worker brought it along: was there before, and will be again.
    Standing,
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
    /// This version is retired, and only a person brings it back.
    #[error(
        "{file}: projection {projection} version {version} is retired; projection deploy brings it back, if the file \
         says what it said then"
    )]
    Retired {
        /// The file.
        file: String,
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// This version is retired and had another definition.
    #[error(
        "{file}: projection {projection} version {version} was retired with another definition (its hash is {before}, \
         that of the file is {found}); give the file a new version number"
    )]
    RetiredOtherwise {
        /// The file.
        file: String,
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// The first digits of the hash that it had.
        before: String,
        /// The same of the hash that was found.
        found: String,
    },
    /// The disk would not hold it.
    #[error(
        "projection {projection} version {version}: its file may take {needed_bytes} bytes, {free_bytes} are free and \
        {reserve_bytes} are kept for the log; make room, or retire a version that is not needed, and deploy it again"
    )]
    DiskFull {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// What it may take.
        needed_bytes: u64,
        /// What is kept for appends.
        reserve_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// How much is free could not be told.
    #[error("measuring the free space of {}: {error}", dir.display())]
    Room {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It could not be recorded.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Decisions made before could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// That a retired version comes back could not be decided.
    #[error("the decision to deploy it again was not appended: {0}")]
    Append(AppendError),
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
    /// The version was retired and is built anew.
    Restored,
}

impl Registry {
    /// Deploys a definition. Repeating it changes nothing. May append a decision and wait for it: not for tasks.
    pub fn deploy(
        &self,
        definition: Definition,
        source: &str,
        file: &str,
    ) -> Result<Deployment, DeployError> {
        self.deploy_from(Origin::Person, definition, source, file)
    }

    /// The same on somebody's wish.
    pub fn deploy_from(
        &self,
        origin: Origin,
        definition: Definition,
        source: &str,
        file: &str,
    ) -> Result<Deployment, DeployError> {
        let _deploying = self.deploying.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, version) = (definition.name().to_owned(), definition.version());
        if self.find(&name, version).is_none() {
            self.check_room(&definition)?;
        }
        let mut entry = self.entry(&name, version)?;
        let mut restored = false;
        if let Some(hash) = entry.decided.retired(version) {
            // Also what a lost `meta.redb` does not know of.
            self.remove_retired_now(&name)?;
            self.remove_left_over(&name, version)?;
            check_retired(origin, &definition, hash, file)?;
            self.restore(&name, version)?;
            entry = self.entry(&name, version)?;
            restored = true;
        }
        let before = self.find(&name, version);
        let deployment = match &before {
            None if restored => Deployment::Restored,
            None => Deployment::New,
            Some(before) if before.store.definition().hash() == definition.hash() => {
                return Ok(Deployment::Unchanged);
            }
            Some(_) if self.config.dev => Deployment::Rebuilt,
            Some(before) => {
                let old = self.meta.deployed_source(&name, version)?;
                return Err(DeployError::Changed {
                    file: file.to_owned(),
                    projection: name,
                    version,
                    changes: changes::in_words((before.store.definition(), &old), (&definition, source)),
                });
            }
        };
        if entry.is_new && entry.active != version {
            // The log says who is active, although `meta.redb` does not know of the projection.
            self.meta.set_active(&name, entry.active)?;
        }
        self.meta.deploy(&name, version, definition.hash(), file, source)?;
        let mut floor = entry.floor;
        if let Some(before) = before {
            self.stop_version(&before);
            let progress = before.status.progress();
            floor = floor.max(progress.floor).max(progress.as_of);
            before.status.stopped("its definition has changed, it is built anew");
            before.store.remove()?;
        }
        self.start(definition, entry, floor, false)?;
        self.signal();
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
        // Nobody knows what a file wants that cannot be read.
        let wants = problems.is_empty().then(|| {
            desired::wants(definitions.iter().map(|(definition, _, file)| (definition, file.as_str())))
        });
        for (definition, text, file) in definitions {
            let name = definition.name().to_owned();
            match self.deploy_from(Origin::Standing, definition, text, file) {
                // The file was there before the version was retired, and may stay: it wants nothing.
                Ok(_) | Err(DeployError::Retired { .. }) => {}
                Err(error) => problems.push(DefinitionProblem {
                    file: file.clone(),
                    projection: Some(name),
                    error: error.to_string(),
                }),
            }
        }
        let in_force = |want: &Option<desired::Wanted>| {
            let file = want.as_ref().map(|(.., file)| file);
            file.is_none_or(|file| problems.iter().all(|problem| problem.file != *file))
        };
        let wants = wants.map(|wants| wants.into_iter().filter(|(_, want)| in_force(want)).collect());
        if let Some(Err(error)) = wants.map(|wants| self.want(wants)) {
            tracing::error!(%error, "what definition files want to be active could not be recorded");
        }
        problems.sort_by(|a, b| a.file.cmp(&b.file));
        let before = std::mem::replace(&mut self.lock_problems().of_sources, problems.clone());
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!(file = %problem.file, error = %problem.error, "a definition is not in force");
        }
    }

    /// Decides that a retired version is there again.
    fn restore(&self, projection: &str, version: u32) -> Result<(), DeployError> {
        let decisions = self.decisions(projection)?;
        let decision = Decision::Versions { change: Change::Restore { version }, reason: String::new() };
        let expected = decisions::expect(decisions.revision());
        let request = decisions::request(&*self.log.clock, projection, &decision, expected);
        let answer = self.log.appender.submit(request).map_err(DeployError::Append)?;
        let unanswered = || AppendError::OutcomeUnknown("the committer stopped".into());
        answer.blocking_recv().unwrap_or_else(|_| Err(unanswered())).map_err(DeployError::Append)?;
        Ok(self.learn(projection)?)
    }
}

/// Whether a retired version may come back.
fn check_retired(
    origin: Origin,
    definition: &Definition,
    hash: &[u8; 32],
    file: &str,
) -> Result<(), DeployError> {
    let (file, projection) = (file.to_owned(), definition.name().to_owned());
    let version = definition.version();
    if hash != definition.hash() {
        let digits = |hash: &[u8; 32]| hex(&hash[..8]);
        let (before, found) = (digits(hash), digits(definition.hash()));
        return Err(DeployError::RetiredOtherwise { file, projection, version, before, found });
    }
    match origin {
        Origin::Person => Ok(()),
        Origin::Standing => Err(DeployError::Retired { file, projection, version }),
    }
}
