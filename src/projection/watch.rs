//! One watcher: the documents that a query selects, then their changes, from snapshot after snapshot.
//!
//! Invariants: a watcher that puts what it is told into a map has, at each `SnapshotComplete` and at the end of each
//! group of changes, exactly what a list at that position gives; nothing is told twice or left out, also over a resume.
//! Where the changes since its last position are not to be had, it is told to forget everything and gets a snapshot.
//! What is kept for a watcher is bounded; of several changes of a document it is told the newest only.
//! Deliberately does not know when a newer snapshot is there, or to whom messages go.

use std::sync::Arc;

use crate::{
    event::{Position, Token},
    events::history::check_token,
    kv::KvError,
    limits::{PAGE_SIZE_MAX, STREAM_MESSAGE_BYTES_MAX, WATCH_BATCH_CHANGES_MAX},
    log::LogReader,
    projection::{
        change_table::{Place, Reach},
        definition::Definition,
        interest::Range,
        key::Key,
        query::{Document, ListQuery, Plan, QueryError, ReadContext, Reading, decode_key, masked, selects},
        store::split_document,
    },
};

mod known;
mod token;

use known::Known;
pub use token::ResumeToken;

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Forget everything: a snapshot follows.
    Reset(ResetReason),
    /// Documents of the snapshot, in order of the selection.
    Documents(Vec<Document>),
    /// The snapshot is complete.
    SnapshotComplete {
        /// What the snapshot was.
        context: ReadContext,
        /// Goes on from here.
        resume: ResumeToken,
    },
    /// What changed since, in order of position.
    Changes {
        /// The changes; may be none at the end of a group.
        changes: Vec<Change>,
        /// Goes on from here; absent: more of the same group follows.
        resume: Option<ResumeToken>,
    },
}

/// A change of what a watcher selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The document is new or changed.
    Put(Document),
    /// It is not there any more, or no longer selected.
    Deleted {
        /// Its key.
        key: Key,
        /// The event that did it.
        position: Position,
    },
}

/// Why a watcher has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The changes since are not kept any more.
    ChangesTrimmed,
    /// The version was built anew.
    Rebuilt,
    /// The version is gone; another one answers.
    VersionGone,
    /// Another version is active now.
    VersionChanged,
    /// The log lost what the watcher had seen.
    StaleEpoch,
}

impl ResetReason {
    /// `UPPER_SNAKE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangesTrimmed => "CHANGES_TRIMMED",
            Self::Rebuilt => "REBUILT",
            Self::VersionGone => "VERSION_GONE",
            Self::VersionChanged => "VERSION_CHANGED",
            Self::StaleEpoch => "STALE_EPOCH",
        }
    }
}

/// One watcher.
#[derive(Debug)]
pub struct Watch {
    plan: Plan,
    definition: Arc<Definition>,
    fingerprint: [u8; 16],
    /// How far the watcher has come; `None`: it needs a snapshot.
    cursor: Option<Cursor>,
    /// It was told to have come here.
    told: Position,
    known: Known,
    reset: Option<ResetReason>,
    /// Changes of one message.
    batch_max: usize,
    /// What is being told.
    group: Option<Group>,
}

/// How far a watcher has come, and of which table.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    position: Position,
    base: Position,
    log: Token,
}

/// Messages that come from one snapshot.
#[derive(Debug)]
struct Group {
    reading: Reading,
    reach: Reach,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Documents, from where the plan resumes.
    Snapshot { done: bool },
    /// What changed behind a place.
    Changes { place: Place, begun: bool },
}

impl Watch {
    /// A watcher of what `query` selects of a version, from the beginning or behind a token. Order and page of the query
    /// do not matter.
    pub fn new(
        definition: &Arc<Definition>,
        query: &ListQuery,
        resume: Option<&ResumeToken>,
        reader: &LogReader,
    ) -> Result<Self, QueryError> {
        let plain = ListQuery { page_size: None, page_token: None, descending: false, ..query.clone() };
        let mut plan = Plan::new(definition, &plain)?;
        (plan.page_size, plan.bytes_max) = (PAGE_SIZE_MAX as usize, STREAM_MESSAGE_BYTES_MAX);
        let fingerprint = token::fingerprint(&plan.fingerprint, &query.fields);
        let mut watch = Self {
            plan,
            definition: Arc::clone(definition),
            fingerprint,
            cursor: None,
            told: Position::ZERO,
            known: Known::nothing(),
            reset: None,
            batch_max: WATCH_BATCH_CHANGES_MAX,
            group: None,
        };
        if let Some(resume) = resume {
            if resume.fingerprint != fingerprint {
                return Err(QueryError::ResumeTokenMismatch);
            }
            match watch.check(resume, reader) {
                Err(reason) => watch.reset = Some(reason),
                Ok(cursor) => {
                    watch.cursor = Some(cursor);
                    watch.told = cursor.position;
                    watch.known = Known::anything();
                }
            }
        }
        Ok(watch)
    }

    /// Where a token goes on, or why nothing does.
    fn check(&self, resume: &ResumeToken, reader: &LogReader) -> Result<Cursor, ResetReason> {
        if resume.version != self.definition.version() {
            return Err(ResetReason::VersionGone);
        }
        if resume.definition[..] != self.definition.hash()[..4] {
            return Err(ResetReason::Rebuilt);
        }
        let position = resume.log.position;
        if check_token(reader, &resume.log).is_err() || position > reader.head() {
            return Err(ResetReason::StaleEpoch);
        }
        Ok(Cursor { position, base: resume.base, log: resume.log })
    }

    /// The documents whose changes concern it; of others it need not know.
    pub(crate) fn range(&self) -> Range {
        let (start, end) = match self.plan.index {
            None => (self.plan.start.clone(), self.plan.end.clone()),
            Some(_) => (Vec::new(), None),
        };
        Range { collection: self.plan.collection, start, end }
    }

    /// How far it has come; a snapshot at or below this has nothing new for it.
    pub fn position(&self) -> Option<Position> {
        self.cursor.map(|cursor| cursor.position)
    }

    /// How many events it has come further than it was told.
    pub fn untold(&self) -> u64 {
        self.cursor.map_or(0, |cursor| cursor.position.get() - self.told.get())
    }

    /// Whether a group is being told: `next_message` has more.
    pub const fn is_telling(&self) -> bool {
        self.group.is_some()
    }

    /// Looks at a newer snapshot; what it has for the watcher, `next_message` gives.
    pub fn look(&mut self, reading: Reading) -> Result<(), QueryError> {
        assert!(self.group.is_none(), "a group is told to its end before the next");
        let as_of = reading.snapshot().state().cursor;
        let Some(reach) = reading.snapshot().reach()? else {
            // The first build is not done; nobody watches it.
            return Ok(());
        };
        let content = match self.cursor {
            Some(cursor) if as_of <= cursor.position && cursor.base == reach.base => return Ok(()),
            Some(cursor) if cursor.base != reach.base => self.begin_anew(ResetReason::Rebuilt),
            Some(cursor) if cursor.position < reach.floor => self.begin_anew(ResetReason::ChangesTrimmed),
            Some(cursor) => Content::Changes { place: Place::behind(cursor.position), begun: false },
            None => self.begin_snapshot(),
        };
        self.group = Some(Group { reading, reach, content });
        Ok(())
    }

    /// Before it was told anything: it begins with a reset for this reason.
    pub(crate) fn begin_because(&mut self, reason: ResetReason) {
        self.reset = Some(reason);
    }

    fn begin_anew(&mut self, reason: ResetReason) -> Content {
        self.reset = Some(reason);
        self.begin_snapshot()
    }

    fn begin_snapshot(&mut self) -> Content {
        self.cursor = None;
        self.plan.resume = None;
        Content::Snapshot { done: false }
    }

    /// The next message; `None`: nothing until a newer snapshot is looked at.
    pub fn next_message(&mut self) -> Result<Option<Told>, QueryError> {
        let Some(mut group) = self.group.take() else {
            return Ok(None);
        };
        if let Some(reason) = self.reset.take() {
            self.known = Known::nothing();
            self.group = Some(group);
            return Ok(Some(Told::Reset(reason)));
        }
        let snapshot = matches!(group.content, Content::Snapshot { .. });
        let (told, over) =
            if snapshot { self.next_page(&mut group)? } else { self.next_changes(&mut group)? };
        if !over {
            self.group = Some(group);
        }
        Ok(told)
    }

    /// An empty group that tells how far the watcher has come, if it does not know that already.
    pub fn advance_message(&mut self) -> Option<Told> {
        let cursor = self.cursor.filter(|cursor| cursor.position > self.told && self.group.is_none())?;
        self.told = cursor.position;
        Some(Told::Changes { changes: Vec::new(), resume: Some(self.token(cursor)) })
    }

    /// Documents, then the end of the snapshot. Gives whether the group is over.
    fn next_page(&mut self, group: &mut Group) -> Result<(Option<Told>, bool), QueryError> {
        let Content::Snapshot { done } = &mut group.content else {
            return Ok((None, true));
        };
        if !*done {
            let (page, last) = group.reading.page(&self.plan)?;
            *done = last.is_none();
            self.plan.resume = last;
            for document in &page.documents {
                self.known.put(document.key.as_bytes());
            }
            if !page.documents.is_empty() || !*done {
                return Ok((Some(Told::Documents(page.documents)), false));
            }
        }
        let resume = self.arrive(group);
        let context = group.reading.context_at(self.plan.collection)?;
        Ok((Some(Told::SnapshotComplete { context, resume }), true))
    }

    /// Changes. Gives whether the group is over.
    fn next_changes(&mut self, group: &mut Group) -> Result<(Option<Told>, bool), QueryError> {
        let snapshot = group.reading.snapshot();
        let table = snapshot.shared_documents(self.plan.collection)?;
        let Content::Changes { place, begun } = &mut group.content else {
            return Ok((None, true));
        };
        let (mut changes, mut bytes, mut over) = (Vec::new(), 0, false);
        while !over && changes.is_empty() {
            let entries = snapshot.changes_behind(*place, self.plan.collection, self.batch_max)?;
            over = entries.len() < self.batch_max;
            for (at, key) in entries {
                if bytes >= STREAM_MESSAGE_BYTES_MAX {
                    over = false;
                    break;
                }
                *place = at;
                if self.plan.index.is_none() && !self.plan.has_in_range(&key) {
                    continue;
                }
                let stored = table.get(&key[..]).map_err(KvError::from)?;
                let stored = stored.as_ref().map(redb::AccessGuard::value);
                let change = self.change(at.position(), &key, stored)?;
                if let Some(Change::Put(document)) = &change {
                    bytes += document.value.len();
                }
                changes.extend(change);
            }
        }
        if !over {
            *begun = true;
            return Ok((Some(Told::Changes { changes, resume: None }), false));
        }
        let silent = changes.is_empty() && !*begun;
        if silent {
            self.cursor = Some(cursor_of(group));
            return Ok((None, true));
        }
        let resume = Some(self.arrive(group));
        Ok((Some(Told::Changes { changes, resume }), true))
    }

    /// What a document that changed is to the watcher now; `None`: nothing.
    fn change(
        &mut self,
        position: Position,
        key: &[u8],
        stored: Option<&[u8]>,
    ) -> Result<Option<Change>, QueryError> {
        if let Some(stored) = stored {
            let (changed_at, text) = split_document(stored)?;
            if changed_at > position {
                // It is told where it changed last.
                return Ok(None);
            }
            if selects(&self.plan, key, text)? {
                self.known.put(key);
                let value = match &self.plan.mask {
                    None => text.to_vec(),
                    Some(mask) => masked(mask, key, text)?,
                };
                let document = Document { key: decode_key(key)?, value: value.into(), position: changed_at };
                return Ok(Some(Change::Put(document)));
            }
        }
        if !self.known.take(key) {
            return Ok(None);
        }
        Ok(Some(Change::Deleted { key: decode_key(key)?, position }))
    }

    /// The watcher has seen all of the group.
    fn arrive(&mut self, group: &Group) -> ResumeToken {
        let cursor = cursor_of(group);
        self.cursor = Some(cursor);
        self.told = cursor.position;
        self.token(cursor)
    }

    fn token(&self, cursor: Cursor) -> ResumeToken {
        ResumeToken {
            projection: crc32c::crc32c(self.definition.name().as_bytes()),
            version: self.definition.version(),
            definition: std::array::from_fn(|at| self.definition.hash()[at]),
            fingerprint: self.fingerprint,
            log: cursor.log,
            base: cursor.base,
        }
    }
}

fn cursor_of(group: &Group) -> Cursor {
    let state = group.reading.snapshot().state();
    let log = Token { log_id: state.log_id, epoch: state.epoch, position: state.cursor };
    Cursor { position: state.cursor, base: group.reach.base, log }
}

#[cfg(test)]
mod tests;
