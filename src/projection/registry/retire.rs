//! The end of versions: retired by decision, removed with their files.
//!
//! Invariants: the decision is durable before anything is removed, and a start finishes what a crash left; the version that
//! answers is never removed, nor one that something needs, nor one that still has to emit. Does not know how a retired
//! version comes back (`deploy`).

use std::sync::{Arc, PoisonError};

use super::{
    DeployError, Registry, Version, VersionsError,
    decide::{check_emits_upto, check_reason},
};
use crate::{
    append::Expectation,
    event::Position,
    kv,
    projection::{decisions, release, store::path_of, versions::Change},
};

impl Registry {
    /// Decides that a version is removed for good; gives where the decision stands. `remove_retired` carries it out.
    pub async fn retire(
        &self,
        projection: &str,
        version: u32,
        reason: &str,
    ) -> Result<Position, VersionsError> {
        check_reason(reason)?;
        let known = self.known(projection)?;
        if known.decisions.versions().retired(version).is_some() {
            return Err(VersionsError::Retired { projection: projection.to_owned(), version });
        }
        let found = self.deployed(projection, version)?;
        if known.answering == version {
            return Err(VersionsError::Active { projection: projection.to_owned(), version });
        }
        let definition_hash = *found.store.definition().hash();
        let change = Change::Retire { version, definition_hash, active: known.active };
        if let Err(refused) = known.decisions.versions().check(&change) {
            return Err(known.refusal(projection, &change, refused));
        }
        let releases = self.learn_releases()?;
        if let Some(release) = releases.naming(projection, version) {
            let by = format!("release {release}; apply that with another version, or remove it, first");
            return Err(VersionsError::Needed { projection: projection.to_owned(), version, by });
        }
        let turns = known.decisions.activations(known.active);
        let last =
            turns.intervals().filter(|turn| turn.version == version).filter_map(|turn| turn.upto).last();
        if let Some(upto) = last {
            check_has_emitted(projection, &found, upto)?;
        }
        let unnamed =
            Expectation { stream: release::stream(), expected: decisions::expect(releases.revision()) };
        self.decide_change_unless(projection, &known, change, reason, vec![unnamed]).await
    }

    /// Stops and removes all versions of a projection that are decided to be retired. Waits for threads and files: not
    /// for tasks.
    pub fn remove_retired(&self, projection: &str) -> Result<(), VersionsError> {
        let _deploying = self.deploying.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_retired_now(projection).map_err(VersionsError::NotRemoved)
    }

    /// The same for who holds the lock of deployments.
    pub(super) fn remove_retired_now(&self, projection: &str) -> Result<(), DeployError> {
        for version in self.take_retired(projection) {
            self.stop_version(&version);
            version.status.stopped("the version is retired");
            version.store.remove()?;
            self.meta.remove(projection, version.number())?;
            tracing::info!(projection, version = version.number(), "retired");
        }
        Ok(())
    }

    /// What is left of a version that was retired before the start.
    pub(super) fn remove_left_over(&self, projection: &str, version: u32) -> Result<(), DeployError> {
        kv::remove(&*self.disk, &path_of(&self.config.dir, projection, version))?;
        Ok(self.meta.remove(projection, version)?)
    }

    /// Takes the retired versions out, so that nobody finds them any more.
    fn take_retired(&self, projection: &str) -> Vec<Arc<Version>> {
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = projections.get_mut(projection) else {
            return Vec::new();
        };
        let (decided, active) = (&found.decided, found.active);
        let numbers = found.versions.keys().copied();
        let retired: Vec<u32> =
            numbers.filter(|number| *number != active && decided.retired(*number).is_some()).collect();
        retired.iter().filter_map(|number| found.versions.remove(number)).collect()
    }
}

/// All that a version has to emit must be in the log before it goes: nobody else may emit for these events.
fn check_has_emitted(projection: &str, version: &Version, upto: Position) -> Result<(), VersionsError> {
    check_emits_upto(projection, version, upto)?;
    let as_of = version.status.progress().as_of;
    if version.hub.is_none() || as_of >= upto {
        return Ok(());
    }
    Err(VersionsError::EmitterBehind {
        projection: projection.to_owned(),
        version: version.number(),
        position: as_of,
        upto,
        why: "it is on its way".to_owned(),
    })
}
