//! How long a read waits, and for what.
//!
//! Invariants: a read with a token sees at least that point, or fails, or says that it is stale; an unpinned read
//! does not answer below the version's floor, so what is read never goes back in time, over restarts too. A version
//! that stopped for good answers from what it has, but not a token beyond that. Does not read documents.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{QueryError, ReadContext, ReadOptions, Reading};
use crate::{
    event::Position,
    events::history::check_token,
    follower::Head,
    kv::KvError,
    limits::{AT_LEAST_WAIT_DEFAULT, AT_LEAST_WAIT_MAX},
    log::LogReader,
    projection::{
        status::{Progress, Status},
        store::{Snapshot, Store},
    },
};

/// What a read waits on.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) store: &'a Arc<Store>,
    pub(crate) status: &'a Status,
    pub(crate) reader: &'a LogReader,
    pub(crate) head: &'a Head,
}

/// Until when a read that begins now may wait.
pub(crate) fn deadline(options: &ReadOptions) -> Result<Instant, QueryError> {
    Ok(Instant::now() + check_timeout(options.timeout)?)
}

/// A snapshot that is as fresh as the options ask.
pub(crate) async fn read(
    source: &Source<'_>,
    options: &ReadOptions,
    deadline: Instant,
) -> Result<Reading, QueryError> {
    if let Some(token) = &options.at_least {
        check_token(source.reader, token)?;
    }
    let wanted = |progress: &Progress| {
        let token = options.at_least.map_or(Position::ZERO, |token| token.position);
        match options.version {
            None if progress.failure.is_none() => token.max(progress.floor),
            _ => token,
        }
    };
    let is_fresh = |progress: &Progress| progress.open && progress.as_of >= wanted(progress);
    if let Some(wanted) = source.status.look(|progress| is_fresh(progress).then(|| wanted(progress)))
        && let Ok(snapshot) = source.store.shared_snapshot()
        && snapshot.state().cursor >= wanted
    {
        return Ok(reading(source, snapshot, false));
    }
    let mut progress = source.status.subscribe();
    loop {
        let settled =
            |progress: &Progress| is_fresh(progress) || progress.failure.is_some() || progress.stopped;
        let in_time = timeout_at(deadline, progress.wait_for(settled)).await.map(drop).is_ok();
        let seen = progress.borrow_and_update().clone();
        let answers = is_fresh(&seen) || (seen.open && options.allow_stale);
        if !answers {
            return Err(refusal(source, &seen, wanted(&seen)));
        }
        let snapshot = match source.store.shared_snapshot() {
            Ok(snapshot) => Some(snapshot),
            Err(KvError::Closed) if in_time && seen.failure.is_none() && !seen.stopped => None,
            Err(KvError::Closed) => return Err(unavailable(source, &seen)),
            Err(error) => return Err(error.into()),
        };
        let stale = snapshot.as_ref().is_none_or(|snapshot| snapshot.state().cursor < wanted(&seen));
        let Some(snapshot) = snapshot.filter(|_| !stale || options.allow_stale) else {
            // Closed, or built anew, since the look. Whoever closes a file publishes that before, so a change that was not
            // looked at is there already, and none is missed: this never spins.
            match timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) | Err(_) => return Err(unavailable(source, &seen)),
            }
        };
        return Ok(reading(source, snapshot, stale));
    }
}

/// What is visible now.
pub(crate) fn now(source: &Source<'_>) -> Result<Reading, KvError> {
    Ok(reading(source, source.store.shared_snapshot()?, false))
}

fn reading(source: &Source<'_>, snapshot: Arc<Snapshot>, stale: bool) -> Reading {
    let as_of = snapshot.state().cursor;
    let context = ReadContext {
        projection: source.store.definition().name().into(),
        version: source.store.definition().version(),
        as_of,
        head: source.head.get().max(as_of),
        stale,
        incomplete: false,
    };
    Reading::new(snapshot, context)
}

fn refusal(source: &Source<'_>, seen: &Progress, wanted: Position) -> QueryError {
    match &seen.failure {
        Some(failure) if !seen.open => QueryError::VersionFailed { failure: Arc::clone(failure) },
        None if !seen.open => unavailable(source, seen),
        failure => QueryError::DeadlineExceeded {
            projection: source.store.definition().name().to_owned(),
            version: source.store.definition().version(),
            wanted,
            as_of: seen.as_of,
            failure: failure.clone(),
        },
    }
}

fn unavailable(source: &Source<'_>, seen: &Progress) -> QueryError {
    QueryError::Unavailable {
        projection: source.store.definition().name().to_owned(),
        version: source.store.definition().version(),
        trouble: seen.trouble.clone(),
    }
}

fn check_timeout(timeout: Option<Duration>) -> Result<Duration, QueryError> {
    match timeout {
        None => Ok(AT_LEAST_WAIT_DEFAULT),
        Some(timeout) if timeout > Duration::ZERO && timeout <= AT_LEAST_WAIT_MAX => Ok(timeout),
        Some(timeout) => {
            let message = format!("expected above 0 s and at most {AT_LEAST_WAIT_MAX:?}, found {timeout:?}");
            Err(QueryError::limit(
                "options.timeout",
                message,
                AT_LEAST_WAIT_MAX.as_secs() as usize,
                timeout.as_secs() as usize,
            ))
        }
    }
}

#[cfg(test)]
mod tests;
