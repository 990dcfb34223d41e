//! Events that versions could not apply: what they are, and what people decide about them.
//!
//! Invariants: a skip is a compare-and-set; it names the event at which the version stands, and of two that come at once
//! one is refused, by the revision of the projection's stream of decisions. What was decided is durable when the answer
//! comes; the version acts on it by itself. Does not know gRPC.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Registry, Version, VersionInfo};
use crate::{
    append::AppendError,
    event::{Position, RecordedEvent},
    events::EventsError,
    kv::KvError,
    limits::{DECISION_REASON_BYTES_MAX, DECISION_WAIT_MAX, LIST_BYTES_MAX},
    projection::{
        decisions::{self, Decision, Decisions},
        failure::Failure,
        ledger::{Entry, Skipped},
        query::QueryError,
        status::{Progress, Role},
    },
};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventErrorKind {
    /// The version stands still before it.
    Paused,
    /// It is parked, the first of its stream.
    Parked,
    /// It is parked and waits for the first of its stream.
    Waiting,
    /// It was passed by.
    Skipped,
}

/// An event that a version did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError {
    /// What became of it.
    pub kind: EventErrorKind,
    /// Where it is.
    pub position: Position,
    /// The event itself; absent if the log's record cannot be read.
    pub event: Option<RecordedEvent>,
    /// Why it could not be applied; absent for one that waits, or that was skipped without a try.
    pub failure: Option<Failure>,
    /// Where the decision to skip it stands; absent unless it was skipped by one.
    pub decided_at: Option<Position>,
    /// The decision's reason; may be empty.
    pub reason: String,
}

/// Events that a version did not apply, a page of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorPage {
    /// The version.
    pub version: VersionInfo,
    /// The one that it stands still before, then the others in order of position.
    pub errors: Vec<EventError>,
    /// The token of the next page; absent on the last one.
    pub next_page_token: Option<String>,
}

/// What a retry or skip led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Where the decision stands in the log; absent where a version that stands still was only asked to try.
    pub position: Option<Position>,
    /// The version behind it, or as it stands when it takes long.
    pub version: VersionInfo,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such version, or its file cannot be read at the moment.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Nothing failed.
    #[error(
        "projection {projection} version {version} stands at no event and has none parked: there is nothing to retry"
    )]
    NothingToRetry {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
    },
    /// The event named is not one that the version stands at.
    #[error("projection {projection} version {version} does not stand at position {expected}: {}; \
             look at its errors and decide again", stands(*.actual, *.skipped_at))]
    StandsElsewhere {
        /// The projection.
        projection: String,
        /// The version.
        version: u32,
        /// Where it was expected.
        expected: Position,
        /// Where it stands, or the first event that it has parked.
        actual: Option<Position>,
        /// Where the decision to skip the expected event stands, if there is one.
        skipped_at: Option<Position>,
    },
    /// Somebody else decides at the same time.
    #[error(
        "another decision about projection {projection} is under way or came first; look at its errors and decide again"
    )]
    Conflict {
        /// The projection.
        projection: String,
    },
    /// The reason is too long.
    #[error("expected at most {DECISION_REASON_BYTES_MAX} bytes, found {found}")]
    ReasonTooLong {
        /// How long it is.
        found: usize,
    },
    /// The decision was not appended.
    #[error(transparent)]
    Append(AppendError),
    /// Decisions made before could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
}

impl From<KvError> for DecideError {
    fn from(error: KvError) -> Self {
        Self::Query(error.into())
    }
}

fn stands(actual: Option<Position>, skipped_at: Option<Position>) -> String {
    match (skipped_at, actual) {
        (Some(at), _) => format!("the event is skipped already, by the decision at position {at}"),
        (None, Some(actual)) => format!("it stands at position {actual}"),
        (None, None) => "it stands at no event and has none parked".to_owned(),
    }
}

impl Registry {
    /// The events that a version (the active one where none is named) did not apply.
    pub fn errors(
        &self,
        projection: &str,
        version: Option<u32>,
        page_size: usize,
        page_token: Option<&str>,
    ) -> Result<ErrorPage, DecideError> {
        let (version, role) = self.version(projection, version)?;
        let after = match page_token {
            None => None,
            Some(token) => Some(read_token(token, &version).ok_or(QueryError::PageTokenInvalid)?),
        };
        let snapshot = version.store.snapshot()?;
        let mut errors = Vec::new();
        let mut bytes = 0;
        let mut add = |position: Position, entry: Option<Entry>, failure: Option<Failure>| {
            let error = self.event_error(position, entry, failure)?;
            bytes += error.event.as_ref().map_or(0, |recorded| recorded.event.size_bytes());
            errors.push(error);
            Ok::<_, DecideError>(bytes < LIST_BYTES_MAX)
        };
        if let (None, Some(pause)) = (after, version.status.progress().pause) {
            add(pause.position, None, Some(pause.failure.clone()))?;
        }
        let after = after.unwrap_or(Position::ZERO);
        let entries = snapshot.set_aside_page(after, page_size + 1)?;
        let mut next = None;
        for (number, (position, entry)) in entries.into_iter().enumerate() {
            if number == page_size || next.is_some_and(|(_, is_full)| is_full) {
                let last = next.map_or(after, |(last, _)| last);
                let next_page_token = Some(format!("{}-{last}", version.number()));
                return Ok(ErrorPage { version: self.info(role, &version), errors, next_page_token });
            }
            next = Some((position, !add(position, Some(entry), None)?));
        }
        Ok(ErrorPage { version: self.info(role, &version), errors, next_page_token: None })
    }

    /// Lets a version try again what it could not apply: the event it stands at, and those that it has parked.
    pub async fn retry(
        &self,
        projection: &str,
        version: Option<u32>,
        reason: &str,
    ) -> Result<Decided, DecideError> {
        check_reason(reason)?;
        let (version, role) = self.version(projection, version)?;
        let seen = version.status.subscribe();
        let mut position = None;
        if version.status.progress().pause.is_some() {
            let number = version.status.control().ask_try();
            self.head.nudge(&version.stop);
            wait(seen, |progress| progress.tries >= number).await;
        } else if version.store.snapshot()?.counts()?.parked_events > 0 {
            let decision = Decision::Retried { version: version.number(), reason: reason.to_owned() };
            let appended = self.decide(projection, &decision, crate::append::Expected::Any).await;
            let at = appended.map_err(DecideError::Append)?;
            position = Some(at);
            wait(seen, |progress| progress.as_of >= at || progress.pause.is_some()).await;
        } else {
            let (projection, version) = (projection.to_owned(), version.number());
            return Err(DecideError::NothingToRetry { projection, version });
        }
        Ok(Decided { position, version: self.info(role, &version) })
    }

    /// Decides that a version passes an event by for good. It must stand at this event, or have it parked as the first of
    /// its stream.
    pub async fn skip(
        &self,
        projection: &str,
        version: Option<u32>,
        expected: Position,
        reason: &str,
    ) -> Result<Decided, DecideError> {
        check_reason(reason)?;
        let (version, role) = self.version(projection, version)?;
        let conflict = || DecideError::Conflict { projection: projection.to_owned() };
        let deciding = version.status.control().decide().ok_or_else(conflict)?;
        let decisions = self.decisions(projection)?;
        // A decision that the version has not come to yet may take the event away.
        let upto = decisions.last();
        let settled = |progress: &Progress| progress.as_of >= upto || progress.pause.is_some();
        if !wait(version.status.subscribe(), settled).await {
            return Err(conflict());
        }
        stands_at(&version, &decisions, expected)?;
        let stood_at = version.status.progress().pause.map(|pause| pause.position);
        let decision = Decision::EventSkipped {
            version: Some(version.number()),
            position: expected,
            reason: reason.to_owned(),
        };
        let at = match self.decide(projection, &decision, decisions::expect(decisions.revision())).await {
            Ok(at) => at,
            Err(AppendError::ConditionsFailed(_)) => return Err(conflict()),
            Err(error) => return Err(DecideError::Append(error)),
        };
        drop(deciding);
        let seen = version.status.subscribe();
        self.head.nudge(&version.stop);
        let moved = |progress: &Progress| {
            let pause = progress.pause.as_ref().map(|pause| pause.position);
            progress.as_of >= at || (pause.is_some() && pause != stood_at)
        };
        wait(seen, moved).await;
        Ok(Decided { position: Some(at), version: self.info(role, &version) })
    }

    /// The event that a version stands still before.
    pub fn stands_at(&self, info: &VersionInfo) -> Option<EventError> {
        let pause = info.pause.as_ref()?;
        self.event_error(pause.position, None, Some(pause.failure.clone())).ok()
    }

    /// What people should know about versions that stand still or have events parked, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(_, version): (Role, Arc<Version>)| {
            let definition = version.store.definition();
            let (name, number) = (definition.name(), definition.version());
            if let Some(pause) = version.status.progress().pause {
                let (position, failure) = (pause.position, &pause.failure);
                return Some(format!(
                    "projection {name} version {number} is paused at position {position}: {failure}"
                ));
            }
            let counts = version.store.snapshot().and_then(|snapshot| snapshot.counts()).unwrap_or_default();
            (counts.parked_events > 0).then(|| {
                format!(
                    "projection {name} version {number}: parked events: {}, streams: {}; see projection errors {name}",
                    counts.parked_events, counts.parked_streams
                )
            })
        };
        self.all().into_iter().filter_map(warning).collect()
    }

    fn version(&self, projection: &str, version: Option<u32>) -> Result<(Arc<Version>, Role), QueryError> {
        let projections = self.lock_projections();
        let found = super::reads::named(&projections, projection)?;
        let number = version.unwrap_or(found.active);
        Ok((found.version(projection, number)?, found.role(number)))
    }

    fn event_error(
        &self,
        position: Position,
        entry: Option<Entry>,
        failure: Option<Failure>,
    ) -> Result<EventError, DecideError> {
        let event = match self.log.events.at(position) {
            Ok(event) => event,
            // What is listed may be listed because it cannot be decoded.
            Err(EventsError::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let none = Skipped::default();
        let (kind, failure, Skipped { decided_at, reason, .. }) = match entry {
            None => (EventErrorKind::Paused, failure, none),
            Some(Entry::Parked { failure: None, .. }) => (EventErrorKind::Waiting, None, none),
            Some(Entry::Parked { failure, .. }) => (EventErrorKind::Parked, failure, none),
            Some(Entry::Skipped(skipped)) => (EventErrorKind::Skipped, skipped.failure.clone(), skipped),
        };
        Ok(EventError { kind, position, event, failure, decided_at, reason })
    }
}

/// Whether the version stands at this event, or has it parked as the first of its stream.
fn stands_at(version: &Version, decisions: &Decisions, expected: Position) -> Result<(), DecideError> {
    let skipped_at = decisions.skip_of(version.number(), expected).map(|skip| skip.decided_at);
    let pause = version.status.progress().pause.map(|pause| pause.position);
    let ledger = version.store.snapshot()?.ledger()?;
    let is_parked = ledger.failure_at(expected).is_some();
    if skipped_at.is_none() && (pause == Some(expected) || is_parked) {
        return Ok(());
    }
    Err(DecideError::StandsElsewhere {
        projection: version.store.definition().name().to_owned(),
        version: version.number(),
        expected,
        actual: pause.or_else(|| ledger.parked().next()),
        skipped_at,
    })
}

fn read_token(token: &str, version: &Version) -> Option<Position> {
    let (number, position) = token.split_once('-')?;
    let is_of_version = number.parse() == Ok(version.number());
    position.parse().ok().map(Position::new).filter(|_| is_of_version)
}

fn check_reason(reason: &str) -> Result<(), DecideError> {
    match reason.len() {
        0..=DECISION_REASON_BYTES_MAX => Ok(()),
        found => Err(DecideError::ReasonTooLong { found }),
    }
}

/// Waits until the version is there, or stops; `false` if it takes too long.
async fn wait(mut seen: watch::Receiver<Progress>, there: impl Fn(&Progress) -> bool) -> bool {
    let deadline: Duration = DECISION_WAIT_MAX;
    let until = seen.wait_for(|progress| there(progress) || progress.stopped);
    timeout_at(Instant::now() + deadline, until).await.is_ok()
}
