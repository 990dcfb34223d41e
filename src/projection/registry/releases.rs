//! Releases: labels over versions of several projections, and what is decided about them.
//!
//! Invariants: a release is promoted, or its promotion taken back, by one append, so all of it is decided or nothing, and
//! its versions become active together (`flip`); of decisions that come at once one is taken, by the revisions of the
//! streams they rest on; a version that a release names is not retired. Does not know gRPC, or where definitions come from.

use std::{collections::BTreeMap, sync::PoisonError};

use super::{
    Registry, VersionsError,
    decide::{Known, check_reason},
};
use crate::{
    append::{AppendError, Expectation, Request},
    event::{EventId, Invalid, Position},
    events::EventsError,
    limits::{PROMOTE_LAG_DEFAULT, RELEASE_PROJECTIONS_MAX, RELEASES_MAX},
    projection::{
        decisions::{self, Decision},
        query::QueryError,
        release::{
            self, Bound, Release, ReleaseDecision, Releases, Step,
            plan::{self, Plan, Standing, Standings, Unplanned},
        },
        versions::Change,
    },
};

/// What came of a decision about a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseTurn {
    /// Where the decision stands; absent where nothing was to be decided.
    pub position: Option<Position>,
    /// The projections that it concerned.
    pub turns: Vec<ProjectionTurn>,
}

/// What a decision about a release did to one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionTurn {
    /// The projection.
    pub projection: String,
    /// The version that was active before.
    pub before: u32,
    /// The version that is active, as decided.
    pub active: u32,
    /// The version that answers queries now.
    pub answering: u32,
}

/// Why nothing was decided about a release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It cannot be named so.
    #[error(transparent)]
    Name(#[from] Invalid),
    /// There is no such release.
    #[error("there is no release {release}, known: {}", known_releases(known))]
    Unknown {
        /// What was asked for.
        release: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It names no version, or too many.
    #[error("expected 1 to {RELEASE_PROJECTIONS_MAX} projections in a release, found {found}")]
    Size {
        /// How many were found.
        found: usize,
    },
    /// There are as many as there may be.
    #[error("there are {RELEASES_MAX} releases already; remove one that is not needed any more")]
    TooMany,
    /// Its promotion was taken back, or it was not promoted.
    #[error("release {release} is not promoted, or that was taken back: there is nothing to roll back")]
    NotPromoted {
        /// The release.
        release: String,
    },
    /// Something was decided about one of its projections since.
    #[error(
        "release {release} made version {expected} of projection {projection} active, and version {actual} is active now; \
         roll back the projections one by one"
    )]
    Moved {
        /// The release.
        release: String,
        /// The projection.
        projection: String,
        /// What the release made active.
        expected: u32,
        /// What is active now.
        actual: u32,
    },
    /// Somebody else decided at the same time.
    #[error(
        "another decision about release {release} or its projections came first; look again and decide anew"
    )]
    Conflict {
        /// The release.
        release: String,
    },
    /// One of its versions is not to be active.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// The decision was not appended.
    #[error(transparent)]
    Append(AppendError),
    /// Decisions made before could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
}

fn known_releases(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Registry {
    /// All releases, by name.
    pub fn releases(&self) -> Vec<(String, Release)> {
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        releases.all().iter().map(|(name, release)| (name.clone(), release.clone())).collect()
    }

    /// One release.
    pub fn release(&self, release: &str) -> Result<Release, ReleaseError> {
        find(&self.releases.read().unwrap_or_else(PoisonError::into_inner), release).cloned()
    }

    /// Decides that a release names these versions, which are deployed. Repeating it decides nothing.
    pub async fn apply_release(
        &self,
        release: &str,
        versions: Bound,
        reason: &str,
    ) -> Result<Option<Position>, ReleaseError> {
        release::check_name(release)?;
        check_reason(reason)?;
        if !(1..=RELEASE_PROJECTIONS_MAX).contains(&versions.len()) {
            return Err(ReleaseError::Size { found: versions.len() });
        }
        let releases = self.learn_releases()?;
        match releases.get(release) {
            Some(found) if found.versions == versions => return Ok(None),
            None if releases.all().len() >= RELEASES_MAX => return Err(ReleaseError::TooMany),
            _ => {}
        }
        let known = self.all_known(versions.keys())?;
        for (projection, version) in &versions {
            self.deployed(projection, *version)?;
        }
        let step = plan::apply(&versions, &standings(&known))
            .map_err(|(projection, version)| VersionsError::Retired { projection, version })?;
        let plan = Plan { step, changes: Vec::new(), turns: Vec::new() };
        Ok(Some(self.decide_release(release, &releases, plan, reason, &known).await?))
    }

    /// Decides that all versions of a release become active, and waits a while until they are.
    pub async fn promote_release(
        &self,
        release: &str,
        max_lag: Option<u64>,
        reason: &str,
    ) -> Result<ReleaseTurn, ReleaseError> {
        check_reason(reason)?;
        let releases = self.learn_releases()?;
        let found = find(&releases, release)?;
        let known = self.all_known(found.versions.keys())?;
        let plan = plan::promote(found, &standings(&known)).map_err(|why| refusal(release, &known, why))?;
        self.check_candidates(&plan, Some(max_lag.unwrap_or(PROMOTE_LAG_DEFAULT)))?;
        let turns = plan.turns.clone();
        let position = if plan.changes.is_empty() {
            None
        } else {
            Some(self.decide_release(release, &releases, plan, reason, &known).await?)
        };
        Ok(ReleaseTurn { position, turns: self.all_turned(turns).await })
    }

    /// Decides that the versions which a release's promotion put away become active again.
    pub async fn roll_back_release(&self, release: &str, reason: &str) -> Result<ReleaseTurn, ReleaseError> {
        check_reason(reason)?;
        let releases = self.learn_releases()?;
        let found = find(&releases, release)?;
        let known = self.all_known(found.promotion.iter().flat_map(|promotion| promotion.versions.keys()))?;
        let plan = plan::roll_back(found, &standings(&known)).map_err(|why| refusal(release, &known, why))?;
        self.check_candidates(&plan, None)?;
        let turns = plan.turns.clone();
        let at = self.decide_release(release, &releases, plan, reason, &known).await?;
        Ok(ReleaseTurn { position: Some(at), turns: self.all_turned(turns).await })
    }

    /// Decides that a release names nothing any more. Its versions stay.
    pub async fn remove_release(&self, release: &str, reason: &str) -> Result<Position, ReleaseError> {
        check_reason(reason)?;
        let releases = self.learn_releases()?;
        find(&releases, release)?;
        let plan = Plan { step: Step::Removed, changes: Vec::new(), turns: Vec::new() };
        self.decide_release(release, &releases, plan, reason, &BTreeMap::new()).await
    }

    /// The version of a projection that a release names.
    pub(super) fn named_by(&self, release: &str, projection: &str) -> Result<u32, QueryError> {
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        let found = releases.get(release).ok_or_else(|| QueryError::UnknownRelease {
            release: release.to_owned(),
            known: releases.all().keys().cloned().collect(),
        })?;
        found.versions.get(projection).copied().ok_or_else(|| QueryError::NotInRelease {
            release: release.to_owned(),
            projection: projection.to_owned(),
            known: found.versions.keys().cloned().collect(),
        })
    }

    /// The releases that name a version.
    pub(super) fn releases_of(&self, projection: &str, version: u32) -> Vec<String> {
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        let names = |release: &&Release| release.versions.get(projection) == Some(&version);
        let all = releases.all().iter().filter(|(_, release)| names(release));
        all.map(|(name, _)| name.clone()).collect()
    }

    /// Learns of what the log decided about releases. Reads the log.
    pub(super) fn learn_releases(&self) -> Result<Releases, EventsError> {
        let mut releases = self.releases.read().unwrap_or_else(PoisonError::into_inner).clone();
        releases.refresh(&self.log.events, self.head.get())?;
        let mut known = self.releases.write().unwrap_or_else(PoisonError::into_inner);
        if releases.revision() >= known.revision() {
            known.clone_from(&releases);
        }
        Ok(releases)
    }

    fn all_known<'n>(
        &self,
        projections: impl Iterator<Item = &'n String>,
    ) -> Result<BTreeMap<&'n str, Known>, VersionsError> {
        projections.map(|projection| Ok((projection.as_str(), self.known(projection)?))).collect()
    }

    /// Whether all versions that become active by a plan can take over, and those before have done what only they may do.
    fn check_candidates(&self, plan: &Plan, max_lag: Option<u64>) -> Result<(), VersionsError> {
        let changes = |projection: &str| plan.changes.iter().any(|(name, _)| name == projection);
        for (projection, before, version) in plan.turns.iter().filter(|(name, ..)| changes(name)) {
            self.check_ready(&*self.deployed(projection, *version)?, max_lag)?;
            self.check_emitter(projection, *before)?;
        }
        Ok(())
    }

    /// Appends a step of a release with what it decides about projections, unless something else was decided about one that
    /// it rests on, and learns of all of it.
    async fn decide_release(
        &self,
        release: &str,
        before: &Releases,
        plan: Plan,
        reason: &str,
        rests_on: &BTreeMap<&str, Known>,
    ) -> Result<Position, ReleaseError> {
        let Plan { step, changes, .. } = plan;
        let decision = ReleaseDecision { release: release.to_owned(), step, reason: reason.to_owned() };
        let next_id = || {
            let id = uuid::Builder::from_random_bytes(self.log.clock.random().to_be_bytes()).into_uuid();
            EventId::from_uuid(id).expect("a UUID of version 4 is not nil")
        };
        let projections: Vec<_> = changes.iter().map(|(projection, _)| projection.clone()).collect();
        let of_projection = |(projection, change): (String, Change)| {
            let decision = Decision::Versions { change, reason: reason.to_owned() };
            decision.to_event(&projection, next_id())
        };
        let mut events: Vec<_> = changes.into_iter().map(of_projection).collect();
        let said = decision.to_event(next_id());
        events.push(said.clone());
        let expect = |stream, revision| Expectation { stream, expected: decisions::expect(revision) };
        let mut expectations: Vec<_> = rests_on
            .iter()
            .map(|(projection, known)| expect(decisions::stream_of(projection), known.decisions.revision()))
            .collect();
        expectations.push(expect(release::stream(), before.revision()));
        let request = Request { expectations, ..Request::of(events) };
        let at = match self.log.appender.append(request).await {
            Ok(appended) => appended.position,
            Err(AppendError::ConditionsFailed(_)) => {
                return Err(ReleaseError::Conflict { release: release.to_owned() });
            }
            Err(error) => return Err(ReleaseError::Append(error)),
        };
        tracing::info!(release, position = at.get(), decision = %said.event_type, data = %String::from_utf8_lossy(&said.data), "decided");
        // First what belongs together, then what there is to do.
        self.learn_releases()?;
        let projections: Vec<_> = projections.iter().map(String::as_str).collect();
        self.learn_all(&projections)?;
        for projection in projections {
            self.release_active(projection)?;
        }
        Ok(at)
    }

    async fn all_turned(&self, turns: Vec<(String, u32, u32)>) -> Vec<ProjectionTurn> {
        let mut all = Vec::with_capacity(turns.len());
        for (projection, before, active) in turns {
            let answering = self.wait_turned(&projection, active).await.unwrap_or(before);
            all.push(ProjectionTurn { projection, before, active, answering });
        }
        all
    }
}

fn standings<'k>(known: &'k BTreeMap<&str, Known>) -> Standings<'k> {
    let standing = |known: &'k Known| Standing { decided: known.decisions.versions(), active: known.active };
    known.iter().map(|(projection, known)| (*projection, standing(known))).collect()
}

fn refusal(release: &str, known: &BTreeMap<&str, Known>, why: Unplanned) -> ReleaseError {
    let release = release.to_owned();
    match why {
        Unplanned::NotPromoted => ReleaseError::NotPromoted { release },
        Unplanned::Moved { projection, expected, actual } => {
            ReleaseError::Moved { release, projection, expected, actual }
        }
        Unplanned::Against { projection, change, refused } => {
            known[projection.as_str()].refusal(&projection, &change, refused).into()
        }
    }
}

fn find<'r>(releases: &'r Releases, release: &str) -> Result<&'r Release, ReleaseError> {
    releases.get(release).ok_or_else(|| ReleaseError::Unknown {
        release: release.to_owned(),
        known: releases.all().keys().cloned().collect(),
    })
}
