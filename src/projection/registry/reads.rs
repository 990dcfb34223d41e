//! Who answers a read: the version that is named, the standing one of a label, that of a release, that of a page token, or
//! the active one.
//!
//! Invariant: what unpinned reads show never goes back, whoever answers: a read that took its snapshot looks again whether
//! the active version is still the one it asked, in the same turn, and asks anew if not; a version becomes active only when
//! it shows as much as the one before could have shown until then (`flip`). No read fails because of a flip, or waits
//! longer for it than it may wait. Does not know what is read.

use std::{collections::BTreeMap, sync::Arc};

use super::{Projection, Registry, Version};
use crate::projection::{
    page::PageToken,
    query::{QueryError, ReadOptions, Reading, freshness},
};

/// The version that answers a read.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) version: Arc<Version>,
    /// Of an unpinned read: the turn in which the version is active. It answers in no other.
    pub(super) turn: Option<u64>,
}

impl Registry {
    /// A snapshot of the version that answers, as fresh as the options ask. A page token keeps the version of its page.
    pub async fn read(
        &self,
        projection: &str,
        options: &ReadOptions,
        page_token: Option<&str>,
    ) -> Result<Reading, QueryError> {
        let standing = self.standing_options(projection, options)?;
        let options = standing.as_ref().unwrap_or(options);
        let deadline = freshness::deadline(options)?;
        loop {
            let Resolved { version, turn } = self.resolve(projection, options, page_token)?;
            let source = freshness::Source {
                store: &version.store,
                status: &version.status,
                reader: self.log.events.log(),
                head: &self.head,
            };
            let read = freshness::read(&source, options, deadline);
            let Some(turn) = turn else {
                return read.await;
            };
            let answer = tokio::select! {
                biased;
                answer = read => answer,
                () = self.turn_over(projection, turn) => continue,
            };
            if self.turn(projection) == Some(turn) {
                return answer;
            }
        }
    }

    /// The version that answers.
    pub(super) fn resolve(
        &self,
        projection: &str,
        options: &ReadOptions,
        page_token: Option<&str>,
    ) -> Result<Resolved, QueryError> {
        if let Some(label) = &options.label {
            let version = self.resolve_standing(projection, label, options.version)?;
            return Ok(Resolved { version, turn: None });
        }
        let release =
            options.release.as_deref().filter(|_| options.version.is_none() && page_token.is_none());
        let version = match release {
            Some(release) => Some(self.named_by(release, projection)?),
            None => options.version,
        };
        let projections = self.lock_projections();
        let found = named(&projections, projection)?;
        let pinned = |version| Resolved { version, turn: None };
        let Some(text) = page_token else {
            return match version {
                Some(version) => found.version(projection, version).map(pinned),
                None => Ok(Resolved { version: found.answering(projection)?, turn: Some(found.flips) }),
            };
        };
        let token = PageToken::decode(text).ok_or(QueryError::PageTokenInvalid)?;
        let asked_otherwise = options.version.is_some_and(|version| version != token.version);
        if asked_otherwise || token.projection != crc32c::crc32c(projection.as_bytes()) {
            return Err(QueryError::PageTokenMismatch);
        }
        let version = found.version(projection, token.version).map_err(|_| QueryError::PageExpired {
            projection: projection.to_owned(),
            version: token.version,
        });
        version.map(pinned)
    }

    /// Which turn it is: the number changes whenever another version becomes active.
    pub(super) fn turn(&self, projection: &str) -> Option<u64> {
        let projections = self.lock_projections();
        projections.get(projection).map(|projection| projection.flips)
    }

    /// Resolves when another version is active than in this turn.
    pub(super) async fn turn_over(&self, projection: &str, turn: u64) {
        let mut turns = self.turns.subscribe();
        while self.turn(projection) == Some(turn) {
            if turns.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Projection {
    /// The active version.
    fn answering(&self, projection: &str) -> Result<Arc<Version>, QueryError> {
        self.versions.get(&self.active).cloned().ok_or_else(|| QueryError::ActiveNotDeployed {
            projection: projection.to_owned(),
            version: self.active,
            known: self.versions.keys().copied().collect(),
        })
    }
}

/// A projection that has versions.
pub(super) fn named<'p>(
    projections: &'p BTreeMap<String, Projection>,
    name: &str,
) -> Result<&'p Projection, QueryError> {
    let deployed = |projection: &&Projection| !projection.versions.is_empty();
    projections.get(name).filter(deployed).ok_or_else(|| QueryError::UnknownProjection {
        projection: name.to_owned(),
        known: projections
            .iter()
            .filter(|(_, found)| deployed(found))
            .map(|(name, _)| name.clone())
            .collect(),
    })
}
