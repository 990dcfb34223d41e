//! Decisions about which version is active: promote and roll back.
//!
//! Invariants: the event is the decision and is durable before anything follows from it; of decisions that come at once one
//! is taken, by the revision of the projection's stream; nothing is decided that could not be carried out as things stand.
//! Whoever calls must see to it that a call goes on to its end although its client is gone. Does not know how a version
//! takes over (`flip`).

use std::sync::{Arc, PoisonError, atomic::Ordering};

use tokio::time::timeout;

use super::{Registry, Version, VersionsError, reads::named};
use crate::{
    append::{AppendError, Expectation},
    event::Position,
    events::EventsError,
    limits::{DECISION_REASON_BYTES_MAX, DECISION_WAIT_MAX, PROMOTE_LAG_DEFAULT},
    projection::{
        decisions::{self, Decision, Decisions},
        query::QueryError,
        status::{Progress, Role},
        versions::{Change, Refused},
    },
};

/// What is asked of a promote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promote {
    /// The version that is to be active.
    pub version: u32,
    /// Refused unless this one is active.
    pub expect_active: Option<u32>,
    /// How many events it may be behind the head; absent: 1,000.
    pub max_lag: Option<u64>,
    /// Why, in a person's words; may be empty.
    pub reason: String,
}

/// What came of a decision about the active version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Where the decision stands; absent where nothing was to be decided.
    pub position: Option<Position>,
    /// The version that was active before, as decided.
    pub before: u32,
    /// The version that is active, as decided.
    pub active: u32,
    /// The version that answers queries now; another one only while the active one is on its way.
    pub answering: u32,
}

/// What is known when something is decided.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) decisions: Decisions,
    /// The active version, as decided; where nothing was decided the one that answers.
    pub(super) active: u32,
    /// The version that answers.
    pub(super) answering: u32,
}

impl Registry {
    /// Decides that a version becomes active, and waits a while until it is.
    pub async fn promote(&self, projection: &str, promote: &Promote) -> Result<Turn, VersionsError> {
        check_reason(&promote.reason)?;
        let known = self.known(projection)?;
        if let Some(expected) = promote.expect_active.filter(|expected| *expected != known.active) {
            let (projection, actual) = (projection.to_owned(), known.active);
            return Err(VersionsError::OtherActive { projection, expected, actual });
        }
        let version = promote.version;
        let change = Change::Promote { version, from: Some(known.active) };
        match known.decisions.versions().check(&change) {
            Ok(()) => {}
            Err(Refused::Active) => return Ok(self.turned(projection, None, &known, version).await),
            Err(refused) => return Err(known.refusal(projection, &change, refused)),
        }
        let candidate = self.deployed(projection, version)?;
        self.check_ready(&candidate, Some(promote.max_lag.unwrap_or(PROMOTE_LAG_DEFAULT)))?;
        self.check_emitter(projection, known.active)?;
        let at = self.decide_change(projection, &known, change, &promote.reason).await?;
        Ok(self.turned(projection, Some(at), &known, version).await)
    }

    /// Decides that the version that was active before becomes it again, and waits a while until it is.
    pub async fn roll_back(
        &self,
        projection: &str,
        expect_active: Option<u32>,
        reason: &str,
    ) -> Result<Turn, VersionsError> {
        check_reason(reason)?;
        let known = self.known(projection)?;
        let active = known.active;
        if let Some(expected) = expect_active.filter(|expected| *expected != active) {
            let projection = projection.to_owned();
            return Err(VersionsError::OtherActive { projection, expected, actual: active });
        }
        let Some(version) = known.decisions.versions().before() else {
            return Err(VersionsError::NothingBefore { projection: projection.to_owned(), active });
        };
        let change = Change::RollBack { version, from: active };
        if let Err(refused) = known.decisions.versions().check(&change) {
            return Err(known.refusal(projection, &change, refused));
        }
        let candidate = self.deployed(projection, version)?;
        self.check_ready(&candidate, None)?;
        self.check_emitter(projection, active)?;
        let at = self.decide_change(projection, &known, change, reason).await?;
        Ok(self.turned(projection, Some(at), &known, version).await)
    }

    /// What there is to know before something is decided.
    pub(super) fn known(&self, projection: &str) -> Result<Known, VersionsError> {
        let answering = {
            let projections = self.lock_projections();
            named(&projections, projection)?.active
        };
        let decisions = self.decisions(projection)?;
        Ok(Known { active: decisions.versions().active().unwrap_or(answering), decisions, answering })
    }

    /// Appends what was found to be in order, unless something else was decided meanwhile, and learns of it.
    pub(super) async fn decide_change(
        &self,
        projection: &str,
        known: &Known,
        change: Change,
        reason: &str,
    ) -> Result<Position, VersionsError> {
        self.decide_change_unless(projection, known, change, reason, Vec::new()).await
    }

    /// The same where other streams must not change either.
    pub(super) async fn decide_change_unless(
        &self,
        projection: &str,
        known: &Known,
        change: Change,
        reason: &str,
        others: Vec<Expectation>,
    ) -> Result<Position, VersionsError> {
        let decision = Decision::Versions { change, reason: reason.to_owned() };
        let expected = decisions::expect(known.decisions.revision());
        let mut request = decisions::request(&*self.log.clock, projection, &decision, expected);
        request.expectations.extend(others);
        // As it stands in the log; hashes are texts there.
        let said = request.events[0].clone();
        let at = match self.log.appender.append(request).await {
            Ok(appended) => appended.position,
            Err(AppendError::ConditionsFailed(_)) => {
                return Err(VersionsError::Conflict { projection: projection.to_owned() });
            }
            Err(error) => return Err(VersionsError::Append(error)),
        };
        tracing::info!(projection, position = at.get(), decision = %said.event_type, data = %String::from_utf8_lossy(&said.data), "decided");
        self.learn(projection)?;
        self.release_active(projection)?;
        Ok(at)
    }

    /// Learns of what the log decided about a projection's versions. Reads the log.
    pub fn learn(&self, projection: &str) -> Result<(), EventsError> {
        self.learn_all(&[projection])
    }

    /// The same of several projections, at one moment.
    pub(super) fn learn_all(&self, names: &[&str]) -> Result<(), EventsError> {
        let all: Result<Vec<_>, _> = names.iter().map(|name| self.decisions(name)).collect();
        let all = all?;
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        for (name, decisions) in names.iter().zip(all) {
            if let Some(found) = projections.get_mut(*name)
                && decisions.revision() > found.decided_at
            {
                found.decided = decisions.versions().clone();
                found.decided_at = decisions.revision();
            }
        }
        drop(projections);
        self.signal();
        Ok(())
    }

    /// A version that runs.
    pub(super) fn deployed(&self, projection: &str, version: u32) -> Result<Arc<Version>, VersionsError> {
        let projections = self.lock_projections();
        Ok(named(&projections, projection)?.version(projection, version)?)
    }

    /// Whether a version can take over; without a bound it may be behind as far as it likes.
    pub(super) fn check_ready(&self, version: &Version, max_lag: Option<u64>) -> Result<(), VersionsError> {
        let progress = version.status.progress();
        let head = self.head.get();
        let lag = head.get().saturating_sub(progress.as_of.get());
        let Some((why, on_its_way)) = unready(&progress, version.is_held(), lag, max_lag) else {
            return Ok(());
        };
        Err(VersionsError::NotReady {
            projection: version.store.definition().name().to_owned(),
            version: version.number(),
            state: progress.state(head, Role::Other),
            on_its_way,
            position: progress.as_of,
            lag,
            max_lag: max_lag.unwrap_or(u64::MAX),
            why,
        })
    }

    /// Whether the version that is to emit for all events up to the decision can do that.
    pub(super) fn check_emitter(&self, projection: &str, active: u32) -> Result<(), VersionsError> {
        let version = match self.deployed(projection, active) {
            Ok(version) => version,
            Err(VersionsError::Query(QueryError::UnknownVersion { .. })) => return Ok(()),
            Err(error) => return Err(error),
        };
        check_emits_upto(projection, &version, self.head.get())
    }

    /// Waits a while until what was decided is done.
    async fn turned(&self, projection: &str, position: Option<Position>, known: &Known, active: u32) -> Turn {
        let answering = self.wait_turned(projection, active).await.unwrap_or(known.answering);
        Turn { position, before: known.active, active, answering }
    }

    /// Waits a while until a version answers that was decided to; gives the one that does then.
    pub(super) async fn wait_turned(&self, projection: &str, active: u32) -> Option<u32> {
        let mut turns = self.turns.subscribe();
        let done = async {
            while self.answering(projection).is_some_and(|(answering, decided)| {
                answering != active && decided.is_none_or(|decided| decided == active)
            }) {
                if turns.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whether it took too long is what the answer tells.
        drop(timeout(DECISION_WAIT_MAX, done).await);
        self.answering(projection).map(|(answering, _)| answering)
    }

    /// The version that answers, and the one that was decided to.
    fn answering(&self, projection: &str) -> Option<(u32, Option<u32>)> {
        let projections = self.lock_projections();
        projections.get(projection).map(|found| (found.active, found.decided.active()))
    }
}

impl Known {
    /// Why a change is refused.
    pub(super) fn refusal(&self, projection: &str, change: &Change, refused: Refused) -> VersionsError {
        let projection = projection.to_owned();
        let (Change::Promote { version, .. }
        | Change::RollBack { version, .. }
        | Change::Retire { version, .. }
        | Change::Restore { version }) = *change;
        match refused {
            Refused::Active => VersionsError::Active { projection, version },
            Refused::Retired => VersionsError::Retired { projection, version },
            Refused::NothingBefore => VersionsError::NothingBefore { projection, active: self.active },
            Refused::OtherActive(actual) => {
                VersionsError::OtherActive { projection, expected: self.active, actual }
            }
            Refused::NotRetired => VersionsError::Conflict { projection },
        }
    }
}

/// Why a version cannot take over, and whether waiting may help.
fn unready(progress: &Progress, is_held: bool, lag: u64, max_lag: Option<u64>) -> Option<(String, bool)> {
    if let Some(failure) = &progress.failure {
        return Some((failure.to_string(), false));
    }
    if progress.stopped {
        return Some(("it is not followed any more".to_owned(), false));
    }
    if is_held {
        return Some(("its build is paused; projection resume lets it go on".to_owned(), false));
    }
    if !progress.built {
        return Some((format!("it is built for the first time and {lag} events behind"), true));
    }
    if !progress.open {
        let trouble = progress.trouble.as_ref().map(|trouble| format!(" ({trouble})"));
        return Some((format!("its file is being opened{}", trouble.unwrap_or_default()), true));
    }
    let max_lag = max_lag.filter(|max_lag| lag > *max_lag)?;
    Some((format!("it is {lag} events behind, expected at most {max_lag}"), true))
}

pub(super) fn check_reason(reason: &str) -> Result<(), VersionsError> {
    match reason.len() {
        0..=DECISION_REASON_BYTES_MAX => Ok(()),
        found => Err(VersionsError::ReasonTooLong { found }),
    }
}

/// Whether a version that has to emit for the events up to a position has done so, or will.
pub(super) fn check_emits_upto(
    projection: &str,
    version: &Version,
    upto: Position,
) -> Result<(), VersionsError> {
    let Some(hub) = &version.hub else {
        return Ok(());
    };
    let progress = version.status.progress();
    let has_workers = hub.counts.workers.load(Ordering::Relaxed) > 0;
    let why = match progress.failure.or(progress.trouble) {
        _ if progress.as_of >= upto => return Ok(()),
        Some(failure) => failure.to_string(),
        None if !has_workers => "no worker is attached".to_owned(),
        None => return Ok(()),
    };
    Err(VersionsError::EmitterBehind {
        projection: projection.to_owned(),
        version: version.number(),
        position: progress.as_of,
        upto,
        why,
    })
}
