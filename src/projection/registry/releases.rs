//! Releases: labels over versions of several projections, and what is decided about them.
//!
//! Invariants: a release is promoted, or its promotion taken back, by one append, so all of it is decided or nothing, and
//! its versions become active together (`flip`); of decisions that come at once one is taken, by the revisions of the
//! streams they rest on; a version that a release names is not retired. Does not know gRPC, or where definitions come from.

use std::sync::PoisonError;

use super::{Registry, VersionsError, decide::check_reason};
use crate::{
    append::{AppendError, Expectation, Request},
    event::{EventId, Invalid, Position},
    events::EventsError,
    limits::{PROMOTE_LAG_DEFAULT, RELEASE_PROJECTIONS_MAX, RELEASES_MAX},
    projection::{
        decisions::{self, Decision},
        query::QueryError,
        release::{self, Bound, Release, ReleaseDecision, Releases, Step},
        versions::{Change, Refused},
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

/// Decisions that are one append.
#[derive(Debug, Default)]
struct Together {
    changes: Vec<(String, Decision)>,
    expectations: Vec<Expectation>,
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
        let mut together = Together::default();
        for (projection, version) in &versions {
            let known = self.known(projection)?;
            self.deployed(projection, *version)?;
            if known.decisions.versions().retired(*version).is_some() {
                let (projection, version) = (projection.clone(), *version);
                return Err(VersionsError::Retired { projection, version }.into());
            }
            together.expect(projection, &known.decisions);
        }
        let at = self.decide_release(release, &releases, Step::Applied(versions), reason, together).await?;
        Ok(Some(at))
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
        let mut together = Together::default();
        let (mut versions, mut from, mut turns) = (Bound::new(), Bound::new(), Vec::new());
        for (projection, version) in &find(&releases, release)?.versions {
            let known = self.known(projection)?;
            let change = Change::Promote { version: *version, from: Some(known.active) };
            turns.push((projection.clone(), known.active, *version));
            together.expect(projection, &known.decisions);
            match known.decisions.versions().check(&change) {
                Ok(()) => {}
                Err(Refused::Active) => continue,
                Err(refused) => return Err(known.refusal(projection, &change, refused).into()),
            }
            let candidate = self.deployed(projection, *version)?;
            self.check_ready(&candidate, Some(max_lag.unwrap_or(PROMOTE_LAG_DEFAULT)))?;
            self.check_emitter(projection, known.active)?;
            versions.insert(projection.clone(), *version);
            from.insert(projection.clone(), known.active);
            together.decide(projection, change, reason);
        }
        let position = if versions.is_empty() {
            None
        } else {
            let step = Step::Promoted { versions, from };
            Some(self.decide_release(release, &releases, step, reason, together).await?)
        };
        Ok(ReleaseTurn { position, turns: self.all_turned(turns).await })
    }

    /// Decides that the versions which a release's promotion put away become active again.
    pub async fn roll_back_release(&self, release: &str, reason: &str) -> Result<ReleaseTurn, ReleaseError> {
        check_reason(reason)?;
        let releases = self.learn_releases()?;
        let promotion = find(&releases, release)?.promotion.clone();
        let promotion = promotion.ok_or_else(|| ReleaseError::NotPromoted { release: release.to_owned() })?;
        let (mut together, mut turns) = (Together::default(), Vec::new());
        for (projection, made_active) in &promotion.versions {
            let known = self.known(projection)?;
            let (expected, actual) = (*made_active, known.active);
            if expected != actual {
                let (release, projection) = (release.to_owned(), projection.clone());
                return Err(ReleaseError::Moved { release, projection, expected, actual });
            }
            let version = promotion.from.get(projection).copied().unwrap_or(expected);
            let decided = known.decisions.versions();
            let change = if decided.before() == Some(version) {
                Change::RollBack { version, from: actual }
            } else {
                Change::Promote { version, from: Some(actual) }
            };
            decided.check(&change).map_err(|refused| known.refusal(projection, &change, refused))?;
            let candidate = self.deployed(projection, version)?;
            self.check_ready(&candidate, None)?;
            self.check_emitter(projection, actual)?;
            turns.push((projection.clone(), actual, version));
            together.expect(projection, &known.decisions);
            together.decide(projection, change, reason);
        }
        let step = Step::RolledBack(promotion.from);
        let at = self.decide_release(release, &releases, step, reason, together).await?;
        Ok(ReleaseTurn { position: Some(at), turns: self.all_turned(turns).await })
    }

    /// Decides that a release names nothing any more. Its versions stay.
    pub async fn remove_release(&self, release: &str, reason: &str) -> Result<Position, ReleaseError> {
        check_reason(reason)?;
        let releases = self.learn_releases()?;
        find(&releases, release)?;
        self.decide_release(release, &releases, Step::Removed, reason, Together::default()).await
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

    /// Appends a step of a release with what it decides about projections, and learns of all of it.
    async fn decide_release(
        &self,
        release: &str,
        before: &Releases,
        step: Step,
        reason: &str,
        together: Together,
    ) -> Result<Position, ReleaseError> {
        let decision = ReleaseDecision { release: release.to_owned(), step, reason: reason.to_owned() };
        let Together { changes, mut expectations } = together;
        let next_id = || {
            let id = uuid::Builder::from_random_bytes(self.log.clock.random().to_be_bytes()).into_uuid();
            EventId::from_uuid(id).expect("a UUID of version 4 is not nil")
        };
        let mut events: Vec<_> =
            changes.iter().map(|(projection, decision)| decision.to_event(projection, next_id())).collect();
        events.push(decision.to_event(next_id()));
        let expected = decisions::expect(before.revision());
        expectations.push(Expectation { stream: release::stream(), expected });
        let request = Request { expectations, ..Request::of(events) };
        let at = match self.log.appender.append(request).await {
            Ok(appended) => appended.position,
            Err(AppendError::ConditionsFailed(_)) => {
                return Err(ReleaseError::Conflict { release: release.to_owned() });
            }
            Err(error) => return Err(ReleaseError::Append(error)),
        };
        tracing::info!(release, position = at.get(), step = ?decision.step, "decided");
        // First what belongs together, then what there is to do.
        self.learn_releases()?;
        let projections: Vec<_> = changes.iter().map(|(projection, _)| projection.as_str()).collect();
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

impl Together {
    /// Nothing else may be decided about this projection meanwhile.
    fn expect(&mut self, projection: &str, decisions: &decisions::Decisions) {
        let expected = decisions::expect(decisions.revision());
        self.expectations.push(Expectation { stream: decisions::stream_of(projection), expected });
    }

    fn decide(&mut self, projection: &str, change: Change, reason: &str) {
        let decision = Decision::Versions { change, reason: reason.to_owned() };
        self.changes.push((projection.to_owned(), decision));
    }
}

fn find<'r>(releases: &'r Releases, release: &str) -> Result<&'r Release, ReleaseError> {
    releases.get(release).ok_or_else(|| ReleaseError::Unknown {
        release: release.to_owned(),
        known: releases.all().keys().cloned().collect(),
    })
}
