//! The versions of a registry whose projector is a service.
//!
//! Does not know what workers say.

use std::sync::{Arc, atomic::Ordering};

use super::{DeployError, Origin, Registry};
use crate::projection::{
    definition::Definition,
    handler::{emit::Emitter, hub::Hub},
    query::QueryError,
    status::Status,
};

/// Why no worker can attach to a version.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// There is no such version.
    #[error(transparent)]
    Unknown(#[from] QueryError),
    /// Its file says what events do.
    #[error(
        "projection {projection} version {version} is declarative: its file says what events do; a version for a service \
         has `handler: service`"
    )]
    Declarative {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// The definition that the worker brought is of another version.
    #[error("definition: expected projection {projection} version {version}, found {found}")]
    OtherDefinition {
        /// The projection that was named.
        projection: String,
        /// The version that was named.
        version: u32,
        /// What the definition says.
        found: String,
    },
    /// The definition that the worker brought is not in force.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

/// A version whose projector is a service.
#[derive(Debug, Clone)]
pub struct Handler {
    /// Where its workers go.
    pub hub: Arc<Hub>,
    /// Its definition.
    pub definition: Arc<Definition>,
    /// The log's identity, from which ids of emitted events follow.
    pub log_id: uuid::Uuid,
    status: Arc<Status>,
}

impl Handler {
    /// Why the version does not run.
    pub fn failure(&self) -> String {
        let progress = self.status.progress();
        let failure = progress.failure.or(progress.trouble);
        failure.map_or_else(|| "the version does not run".to_owned(), |failure| failure.to_string())
    }
}

/// What the handler of one version does, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerInfo {
    /// The projection's name.
    pub projection: String,
    /// The version.
    pub version: u32,
    /// Workers that are attached.
    pub workers: u64,
    /// Runs that are out.
    pub runs: u64,
    /// How often events were taken back because an answer was stale.
    pub cancellations: u64,
    /// How often a worker lost its events because it was silent or gone.
    pub losses: u64,
    /// Causes whose emitted events were not what the log has of them.
    pub emission_differences: u64,
}

impl HandlerInfo {
    /// Its counts by name.
    pub const fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("workers", self.workers),
            ("runs_out", self.runs),
            ("cancellations", self.cancellations),
            ("losses", self.losses),
            ("emission_differences", self.emission_differences),
        ]
    }
}

impl Registry {
    /// Where the workers of a version attach. A definition that is given is deployed first; repeating that changes
    /// nothing. May write files.
    pub fn handler(
        &self,
        projection: &str,
        version: u32,
        definition: Option<&str>,
        worker: &str,
    ) -> Result<Handler, HandlerError> {
        if let Some(text) = definition {
            let file = format!("(attached by {worker})");
            let definition = Definition::parse(text, &file).map_err(DeployError::from)?;
            if definition.name() != projection || definition.version() != version {
                let found = format!("{} version {}", definition.name(), definition.version());
                return Err(HandlerError::OtherDefinition {
                    projection: projection.to_owned(),
                    version,
                    found,
                });
            }
            if !definition.is_service() {
                return Err(HandlerError::Declarative { projection: projection.to_owned(), version });
            }
            self.deploy_from(Origin::Standing, definition, text, &file)?;
        }
        let found = {
            let projections = self.lock_projections();
            super::reads::named(&projections, projection)?.version(projection, version)?
        };
        let Some(hub) = &found.hub else {
            return Err(HandlerError::Declarative { projection: projection.to_owned(), version });
        };
        Ok(Handler {
            hub: Arc::clone(hub),
            definition: Arc::clone(found.store.definition()),
            log_id: self.log.events.log().log_id(),
            status: Arc::clone(&found.status),
        })
    }

    /// Emits for a version that is started; `active` is what the projection's active version is where it has none.
    pub(super) fn emitter(&self, definition: &Definition, active: u32) -> Emitter {
        let projections = self.lock_projections();
        let first = projections.get(definition.name()).map_or(active, |projection| projection.active);
        Emitter::new(self.log.events.clone(), self.log.appender.clone(), definition, first)
            .owning(self.log.ownership.clone())
    }

    /// What the handlers of all versions do.
    pub fn handlers(&self) -> Vec<HandlerInfo> {
        let all = self.all().into_iter();
        let info = |version: Arc<super::Version>| {
            let counts = &version.hub.as_ref()?.counts;
            let definition = version.store.definition();
            Some(HandlerInfo {
                projection: definition.name().to_owned(),
                version: definition.version(),
                workers: counts.workers.load(Ordering::Relaxed),
                runs: counts.runs.load(Ordering::Relaxed),
                cancellations: counts.cancellations.load(Ordering::Relaxed),
                losses: counts.losses.load(Ordering::Relaxed),
                emission_differences: counts.emission_differences.load(Ordering::Relaxed),
            })
        };
        all.filter_map(|(_, version)| info(version)).collect()
    }
}
