//! Builds that people pause: a version that is not active stands still until it is resumed, over restarts too.
//!
//! Invariant: what is paused is in `meta.redb`, so that a start finds it; the version that answers, or is to, is never
//! paused. Does not know how a version is held (`projection::hold`).

use std::sync::{Arc, PoisonError};

use super::{Projection, Registry, Version, VersionsError, decide::Known};
use crate::{event::Position, limits::DECISION_WAIT_MAX};

/// A build is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paused {
    /// It was before.
    pub before: bool,
    /// Where it stands.
    pub position: Position,
}

impl Registry {
    /// Lets a version stand still where it is.
    pub async fn pause(self: &Arc<Self>, projection: &str, version: u32) -> Result<Paused, VersionsError> {
        let Known { active, answering, .. } = self.known(projection)?;
        let found = self.deployed(projection, version)?;
        if version == active || version == answering {
            return Err(VersionsError::Active { projection: projection.to_owned(), version });
        }
        let before = found.is_held();
        if !before {
            self.record_paused(&found, true).await?;
            let hold = Arc::new(self.hold_version(&found, Position::ZERO));
            *found.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
        }
        // A decision that came meanwhile has not seen the hold, or is seen here.
        let Known { active, answering, .. } = self.known(projection)?;
        if version == active || version == answering {
            self.resume(projection, version).await?;
            return Err(VersionsError::Active { projection: projection.to_owned(), version });
        }
        // A version that failed or is being opened stands anyway.
        let position = match found.stands().await {
            Some(position) => position,
            None => found.status.progress().as_of,
        };
        Ok(Paused { before, position })
    }

    /// Lets a paused version go on; whether it was paused.
    pub async fn resume(self: &Arc<Self>, projection: &str, version: u32) -> Result<bool, VersionsError> {
        let found = self.deployed(projection, version)?;
        if !found.is_held() {
            return Ok(false);
        }
        self.record_paused(&found, false).await?;
        drop(found.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(true)
    }

    async fn record_paused(self: &Arc<Self>, version: &Version, paused: bool) -> Result<(), VersionsError> {
        let (registry, number) = (Arc::clone(self), version.number());
        let projection = version.store.definition().name().to_owned();
        let recorded =
            tokio::task::spawn_blocking(move || registry.meta.set_paused(&projection, number, paused));
        Ok(recorded.await.map_err(|error| VersionsError::Task(error.to_string()))??)
    }
}

impl Registry {
    /// Lets the version go on that is to be active.
    pub(super) fn release_active(&self, projection: &str) -> Result<(), VersionsError> {
        let active = {
            let projections = self.lock_projections();
            let active = |found: &Projection| found.versions.get(&found.decided.active()?).cloned();
            projections.get(projection).and_then(active)
        };
        if let Some(active) = active.filter(|active| active.is_held()) {
            self.meta.set_paused(projection, active.number(), false)?;
            drop(active.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        Ok(())
    }
}

impl Version {
    /// Whether its build is paused.
    pub(super) fn is_held(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Where it stands, once it does.
    async fn stands(&self) -> Option<Position> {
        let hold = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        hold.stands(DECISION_WAIT_MAX).await.ok()
    }
}
