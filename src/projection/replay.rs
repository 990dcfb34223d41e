//! Builds a version a second time, in a file of its own beside the running one, and compares the two.
//!
//! Invariants: the second build goes through the same runner as the first, over the same log, up to exactly the position of
//! one snapshot of the running version; the running version is only read; the second file is gone when the replay is. The
//! caller decides how fast it goes, by the pauses it makes between steps. Does not know who asks.

use std::{io, path::PathBuf, sync::Arc};

use redb::AccessGuard;

use crate::{
    event::Position,
    follower::{Follower as _, Head, Step},
    kv::KvError,
    limits::{REPLAY_DIFFERENCES_MAX, REPLAY_STEP_EVENTS},
    projection::{
        content_hash::ContentHash,
        exclusive::{Exclusive, ExclusiveGuard},
        key::Key,
        merge::{Merge, Rows},
        query::QueryError,
        runner::Runner,
        status::Status,
        store::{Snapshot, Store, split_document},
    },
};

/// Why a replay does not come to a result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such version.
    #[error(transparent)]
    Version(#[from] QueryError),
    /// Another one is running.
    #[error("another verification is running; one runs at a time, try again when it is over")]
    Busy,
    /// A service says what events do.
    #[error(
        "a service handles the events of this version, which cannot be built without it; attach it as another version"
    )]
    Service,
    /// The second file might not fit.
    #[error("a second build may need {needed_bytes} bytes, and {free_bytes} are free; free some space first")]
    NoSpace {
        /// What the running version takes, and what must stay free.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The second build met an event that it cannot apply.
    #[error("the second build stopped, which the running version did not: {0}")]
    Stopped(String),
    /// A file could not be read or written.
    #[error("a second build of the projection: {0}")]
    File(#[from] KvError),
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The second file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// What was read from log or file cannot be used.
    #[error("a second build of the projection waits: {0}")]
    Trouble(String),
}

/// How far a replay is.
#[derive(Debug)]
pub enum ReplayStep {
    /// It goes on.
    Progress {
        /// What the second build has applied.
        position: Position,
        /// How far it has to go by now.
        target: Position,
    },
    /// It is over.
    Done(Box<Comparison>),
}

/// What two builds of one version have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Both were compared as they are at this position.
    pub position: Position,
    /// What the running version says.
    pub content_hash: ContentHash,
    /// Over its documents as they are in its file.
    pub documents_hash: ContentHash,
    /// Of the second build.
    pub rebuilt_hash: ContentHash,
    /// Documents that were compared.
    pub documents: u64,
    /// Documents that are different.
    pub different: u64,
    /// Index entries that one of them has and the other has not, or has otherwise.
    pub different_entries: u64,
    /// The first of the documents.
    pub differences: Vec<DocumentDifference>,
}

/// A document that is not the same in both builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentDifference {
    /// Its collection.
    pub collection: String,
    /// Its key, as JSON.
    pub key: String,
    /// What the running version has.
    pub running: Option<String>,
    /// What the second build has.
    pub rebuilt: Option<String>,
}

impl Comparison {
    /// Both builds are the same in every way, and the running version's hash is that of its documents.
    pub fn is_equal(&self) -> bool {
        self.different == 0
            && self.different_entries == 0
            && self.content_hash == self.documents_hash
            && self.content_hash == self.rebuilt_hash
    }
}

/// A second build.
#[derive(Debug)]
pub struct Replay {
    running: Arc<Store>,
    running_status: Arc<Status>,
    second: Arc<Store>,
    second_status: Arc<Status>,
    runner: Runner,
    /// How far the runner may go.
    head: Head,
    _turn: ExclusiveGuard,
}

impl Replay {
    /// Of a running version, into a store whose file is removed before and after. `follow` makes the runner that fills it
    /// up to a head of its own.
    pub fn new(
        (running, running_status): (Arc<Store>, Arc<Status>),
        second: Store,
        turn: &Exclusive,
        follow: impl FnOnce(Arc<Store>, Arc<Status>, Head) -> Runner,
    ) -> Result<Self, ReplayError> {
        let turn = turn.take().ok_or(ReplayError::Busy)?;
        second.remove()?;
        let (second, head) = (Arc::new(second), Head::new(Position::ZERO));
        let second_status = Arc::new(Status::new(Position::ZERO, false));
        let runner = follow(Arc::clone(&second), Arc::clone(&second_status), head.clone());
        Ok(Self { running, running_status, second, second_status, runner, head, _turn: turn })
    }

    /// The version.
    pub fn version(&self) -> u32 {
        self.running.definition().version()
    }

    /// A bounded piece of the work; behind the last one the comparison.
    pub fn step(&mut self) -> Result<ReplayStep, ReplayError> {
        let target = self.running_status.progress().as_of;
        let next = self.head.get().plus(REPLAY_STEP_EVENTS);
        if next < target {
            self.build(next)?;
            return Ok(ReplayStep::Progress { position: next, target });
        }
        let running = self.running.snapshot()?;
        if running.state().cursor < self.head.get() {
            // It was opened again meanwhile, and is on its way back to where it was.
            return Ok(ReplayStep::Progress { position: self.head.get(), target });
        }
        self.build(running.state().cursor)?;
        let comparison = compare(&running, &self.second.snapshot()?)?;
        Ok(ReplayStep::Done(Box::new(comparison)))
    }

    /// Builds up to a position.
    fn build(&mut self, upto: Position) -> Result<(), ReplayError> {
        self.head.advance(upto);
        loop {
            match self.runner.step() {
                Step::More => {}
                Step::CaughtUp(..) => return Ok(()),
                Step::Retry(_) => {
                    let trouble = self.second_status.progress().trouble;
                    return Err(ReplayError::Trouble(trouble.as_deref().unwrap_or("unknown").to_owned()));
                }
                Step::Over | Step::Paused(..) | Step::Held(_) => {
                    let failure = self.second_status.progress().failure;
                    return Err(ReplayError::Stopped(failure.as_deref().unwrap_or("unknown").to_owned()));
                }
            }
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.runner.finish();
        if let Err(error) = self.second.remove() {
            let file = self.second.path().display();
            tracing::warn!(%file, %error, "the file of a verification could not be removed; the next one does it");
        }
    }
}

/// Compares all documents and index entries of two snapshots of one definition.
fn compare(running: &Snapshot, rebuilt: &Snapshot) -> Result<Comparison, KvError> {
    let mut comparison = Comparison {
        position: running.state().cursor,
        content_hash: running.state().content_hash,
        documents_hash: ContentHash::default(),
        rebuilt_hash: rebuilt.state().content_hash,
        documents: 0,
        different: 0,
        different_entries: 0,
        differences: Vec::new(),
    };
    for (at, collection) in running.definition().collections().iter().enumerate() {
        compare_documents(&mut comparison, &collection.name, (running, rebuilt), at)?;
        for index in 0..collection.indexes.len() {
            comparison.different_entries += different_entries((running, rebuilt), at, index)?;
        }
    }
    Ok(comparison)
}

fn compare_documents(
    comparison: &mut Comparison,
    collection: &str,
    (running, rebuilt): (&Snapshot, &Snapshot),
    at: usize,
) -> Result<(), KvError> {
    let (running, rebuilt) = (running.documents(at)?, rebuilt.documents(at)?);
    for pair in Merge::new(Rows::of(Some(&running))?, Rows::of(Some(&rebuilt))?) {
        let (key, mine, theirs) = pair?;
        let stored = mine.as_ref().map(AccessGuard::value);
        let again = theirs.as_ref().map(AccessGuard::value);
        comparison.documents += 1;
        if let Some(stored) = stored {
            comparison.documents_hash.add(collection, &key, split_document(stored)?.1);
        }
        if stored != again {
            comparison.different += 1;
            if comparison.differences.len() < REPLAY_DIFFERENCES_MAX {
                comparison.differences.push(difference(collection, &key, stored, again)?);
            }
        }
    }
    Ok(())
}

fn difference(
    collection: &str,
    key: &[u8],
    running: Option<&[u8]>,
    rebuilt: Option<&[u8]>,
) -> Result<DocumentDifference, KvError> {
    let text = |stored: Option<&[u8]>| -> Result<Option<String>, KvError> {
        let text = stored.map(|stored| split_document(stored).map(|(_, text)| text)).transpose()?;
        Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
    };
    let key = Key::decode(key).map_err(|invalid| KvError::Damaged(invalid.0))?;
    Ok(DocumentDifference {
        collection: collection.to_owned(),
        key: key.to_json().to_string(),
        running: text(running)?,
        rebuilt: text(rebuilt)?,
    })
}

/// How many entries only one of the two has, or has with another value.
fn different_entries(
    (running, rebuilt): (&Snapshot, &Snapshot),
    collection: usize,
    index: usize,
) -> Result<u64, KvError> {
    let (running, rebuilt) = (running.index(collection, index)?, rebuilt.index(collection, index)?);
    let mut different = 0;
    for pair in Merge::new(Rows::of(Some(&running))?, Rows::of(Some(&rebuilt))?) {
        let (_, mine, theirs) = pair?;
        different += u64::from(mine.map(|entry| entry.value()) != theirs.map(|entry| entry.value()));
    }
    Ok(different)
}

#[cfg(test)]
mod tests;
