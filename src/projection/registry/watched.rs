//! A version as a watcher follows it: snapshot after snapshot, for as long as the version is there.
//!
//! Invariants: a watcher that names no version goes over to another one when that becomes active, and is not told less than
//! it was told already; every other one stays on the version it began with; nothing is looked at until the version has been at the head
//! once, and then at once when something changed that concerns the watcher. Does not know what a watcher is told.

use std::sync::Arc;

use tokio::time::sleep;

use super::{Registry, Version, reads::Resolved};
use crate::{
    event::Position,
    follower::Head,
    kv::KvError,
    limits::ADVANCE_WAIT,
    log::LogReader,
    projection::{
        definition::Definition,
        interest::Seat,
        query::{ListQuery, QueryError, ReadOptions, Reading, freshness},
        status::Progress,
        watch::{ResetReason, ResumeToken, Watch},
    },
};

/// The version of one watcher.
#[derive(Debug)]
pub struct Watched {
    version: Arc<Version>,
    /// Of a watcher that names no version: the turn in which this one is active.
    turn: Option<u64>,
    /// The watcher was told so much already.
    told: Position,
    seat: Seat,
    reader: LogReader,
    head: Head,
}

impl Registry {
    /// A watcher of what a query selects, and the version that it watches: the one named, or the active one. Where a resume
    /// token is of another version, it begins with a reset.
    pub fn watch(
        &self,
        projection: &str,
        options: &ReadOptions,
        query: &ListQuery,
        resume_token: Option<&str>,
    ) -> Result<(Watched, Watch), QueryError> {
        let resume = match resume_token {
            None => None,
            Some(text) => Some(ResumeToken::decode(text).ok_or(QueryError::ResumeTokenInvalid)?),
        };
        if let Some(resume) = &resume {
            let asked_otherwise = options.version.is_some_and(|version| version != resume.version);
            if asked_otherwise || resume.projection != crc32c::crc32c(projection.as_bytes()) {
                return Err(QueryError::ResumeTokenMismatch);
            }
        }
        self.standing_options(projection, options)?;
        let Resolved { version, turn } = self.resolve(projection, options, None)?;
        let mut watch =
            Watch::new(version.store.definition(), query, resume.as_ref(), self.log.events.log())?;
        let other = resume.filter(|resume| resume.version != version.number());
        let told = other.as_ref().map_or(Position::ZERO, |resume| resume.log.position);
        if other.is_some_and(|resume| self.find(projection, resume.version).is_some()) {
            watch.begin_because(ResetReason::VersionChanged);
        }
        Ok((self.watched(version, turn, told.min(self.head.get()), &watch), watch))
    }

    /// The same for a watcher whose version is active no longer, and that was told so much.
    pub fn watch_on(
        &self,
        projection: &str,
        options: &ReadOptions,
        query: &ListQuery,
        told: Position,
    ) -> Result<(Watched, Watch), QueryError> {
        let Resolved { version, turn } = self.resolve(projection, options, None)?;
        let mut watch = Watch::new(version.store.definition(), query, None, self.log.events.log())?;
        watch.begin_because(ResetReason::VersionChanged);
        Ok((self.watched(version, turn, told, &watch), watch))
    }

    /// Resolves when a watcher has to go over to another version.
    pub async fn watched_elsewhere(&self, projection: &str, watched: &Watched) {
        match watched.turn {
            Some(turn) => self.turn_over(projection, turn).await,
            None => std::future::pending().await,
        }
    }

    fn watched(&self, version: Arc<Version>, turn: Option<u64>, told: Position, watch: &Watch) -> Watched {
        // Before the first look, so that nothing comes between.
        let seat = version.store.seat(watch.range());
        Watched { seat, version, turn, told, reader: self.log.events.log().clone(), head: self.head.clone() }
    }
}

impl Watched {
    /// The first snapshot, as fresh as the options ask. Waits for the first build to be done, however long it takes.
    pub async fn first(&self, options: &ReadOptions) -> Result<Reading, QueryError> {
        let mut progress = self.version.status.subscribe();
        let settled = |progress: &Progress| {
            progress.built && progress.as_of >= self.told || progress.failure.is_some() || progress.stopped
        };
        let seen = progress.wait_for(settled).await.map(|progress| progress.clone());
        self.check(seen.unwrap_or_else(|_| self.version.status.progress()))?;
        freshness::read(&self.source(), options, freshness::deadline(options)?).await
    }

    /// A snapshot that may concern the watcher, as soon as there is one; and some while after the version has gone on
    /// otherwise, one that tells how far.
    pub async fn later(&self, behind: Option<Position>) -> Result<Reading, QueryError> {
        let mut progress = self.version.status.subscribe();
        loop {
            let more = |progress: &Progress| progress.open && progress.built && Some(progress.as_of) > behind;
            let over = |progress: &Progress| progress.stopped || never_built(progress);
            let went_on = async {
                let seen = progress.wait_for(|progress| more(progress) || over(progress)).await;
                let is_over = seen.is_ok_and(|progress| over(&progress));
                if !is_over {
                    sleep(ADVANCE_WAIT).await;
                }
            };
            tokio::select! {
                () = self.seat.woken() => {}
                () = went_on => {}
            }
            self.check(self.version.status.progress())?;
            match freshness::now(&self.source()) {
                Ok(reading) => return Ok(reading),
                // The runner says when it is open again.
                Err(KvError::Closed) => drop(progress.changed().await),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An error where the version will never show anything new.
    fn check(&self, progress: Progress) -> Result<(), QueryError> {
        if progress.stopped {
            let definition = self.definition();
            return Err(QueryError::VersionGone {
                projection: definition.name().to_owned(),
                version: definition.version(),
                reason: progress.trouble.unwrap_or_else(|| "it was stopped".into()),
            });
        }
        match progress.failure {
            Some(failure) if !progress.built => Err(QueryError::VersionFailed { failure }),
            _ => Ok(()),
        }
    }

    fn definition(&self) -> &Definition {
        self.version.store.definition()
    }

    fn source(&self) -> freshness::Source<'_> {
        freshness::Source {
            store: &self.version.store,
            status: &self.version.status,
            reader: &self.reader,
            head: &self.head,
        }
    }
}

fn never_built(progress: &Progress) -> bool {
    progress.failure.is_some() && !progress.built
}
