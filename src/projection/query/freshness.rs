//! How long a read waits, and for what.
//!
//! Invariants: a read with a token sees at least that point, or fails, or says that it is stale; an unpinned read
//! does not answer below the version's floor, so what is read never goes back in time, over restarts too. A version
//! that stopped for good answers from what it has, but not a token beyond that. Does not read documents.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{QueryError, ReadContext, ReadOptions, Reading};
use crate::{
    event::{Position, Token},
    follower::Head,
    kv::KvError,
    limits::{AT_LEAST_WAIT_DEFAULT, AT_LEAST_WAIT_MAX},
    log::LogReader,
    projection::{
        status::{Progress, Status},
        store::Store,
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

/// A snapshot that is as fresh as the options ask.
pub(crate) async fn read(source: &Source<'_>, options: &ReadOptions) -> Result<Reading, QueryError> {
    let deadline = Instant::now() + check_timeout(options.timeout)?;
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
        let snapshot = match source.store.snapshot() {
            Ok(snapshot) => snapshot,
            // Closed just now: the runner says when it is open again.
            Err(KvError::Closed) if in_time && seen.failure.is_none() && !seen.stopped => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(KvError::Closed) => return Err(unavailable(source, &seen)),
            Err(error) => return Err(error.into()),
        };
        let as_of = snapshot.state().cursor;
        let stale = as_of < wanted(&seen);
        if stale && !options.allow_stale {
            // Built anew between the look and the snapshot.
            tokio::task::yield_now().await;
            continue;
        }
        let context = ReadContext {
            projection: source.store.definition().name().into(),
            version: source.store.definition().version(),
            as_of,
            head: source.head.get().max(as_of),
            stale,
        };
        return Ok(Reading::new(snapshot, context));
    }
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

/// Whether the point a token names is in this log's history, or may still come to be.
pub(crate) fn check_token(reader: &LogReader, token: &Token) -> Result<(), QueryError> {
    if token.log_id != reader.log_id() {
        return Err(QueryError::TokenOtherLog { expected: reader.log_id(), found: token.log_id });
    }
    let starts: Vec<(u64, Position)> =
        reader.epochs().iter().map(|start| (start.epoch.counter, start.first)).collect();
    match epoch_end(&starts, token.epoch) {
        Some(end) if token.position > end => {
            Err(QueryError::StaleEpoch { epoch: token.epoch, position: token.position, end })
        }
        _ => Ok(()),
    }
}

/// The last position that an epoch, or one before it, wrote; `None`: it may still write. `starts` is the log's history.
/// An epoch that wrote nothing is not in the history and ends where its successor begins; one that is newer than the
/// newest ends before everything.
fn epoch_end(starts: &[(u64, Position)], epoch: u64) -> Option<Position> {
    let newest = starts.last().map_or(0, |(counter, _)| *counter);
    if epoch > newest {
        return Some(Position::ZERO);
    }
    let successor = starts.iter().find(|(counter, _)| *counter > epoch);
    successor.map(|(_, first)| Position::new(first.get().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_held_against_the_history_of_epochs() {
        let starts = [(1, Position::new(1)), (3, Position::new(11)), (4, Position::new(21))];
        let end = |epoch| epoch_end(&starts, epoch).map(Position::get);
        assert_eq!(end(0), Some(0));
        assert_eq!(end(1), Some(10));
        assert_eq!(end(2), Some(10), "it wrote nothing");
        assert_eq!(end(3), Some(20));
        assert_eq!(end(4), None, "it goes on writing");
        assert_eq!(end(5), Some(0), "there is no such epoch");
    }
}
