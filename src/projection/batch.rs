//! The write-back batch of a version: many events over documents that stay decoded, then one transaction.
//!
//! Invariants: an event is in the batch whole or not at all; a document is written once a batch, in order of keys, with
//! its index entries, the ledger and the cursor in the same transaction; reads see what is cached, then the file. What was
//! taken out of the batch is written before the next is taken, by this thread or another one. After a commit failed, nothing
//! is known about the file: it has to be opened again. Does not know when to commit, or threads.

use std::sync::Arc;

use redb::ReadOnlyTable;

use crate::{
    event::{Invalid, Position, RecordedEvent},
    json::{Json, Object},
    kv::{KvError, Persistence},
    projection::{
        change_table,
        content_hash::ContentHash,
        declarative::{ApplyError, Change, Documents, StoreFailure, apply, apply_parsed},
        definition::Definition,
        entries,
        key::Key,
        ledger::{Ledger, LedgerChanges},
        state::State,
        store::{Store, split_document, write_state},
    },
    sabotage::Sabotage,
};

mod documents;
mod flush;
mod transaction;

use documents::{Before, Changed, DocumentCache};
pub(crate) use transaction::StaleRead;

/// Why an event is not in the batch; the batch is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The definition cannot take it, or the documents could not be read.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It makes a document that cannot be indexed.
    #[error("document {key} of collection {collection}: {invalid}")]
    Index {
        /// The document's collection.
        collection: String,
        /// The document's key.
        key: Key,
        /// What was expected and what was found.
        invalid: Invalid,
    },
}

/// Applies events to the documents of one open store.
#[derive(Debug)]
pub struct Batch {
    store: Arc<Store>,
    /// What is committed, and the cursor of the batch.
    state: State,
    events: u64,
    ledger: Ledger,
    cache: DocumentCache,
    file: Option<OpenTables>,
}

/// What a batch came to, out of its hands and not written yet.
#[derive(Debug)]
pub struct Outgoing {
    store: Arc<Store>,
    changes: Vec<Vec<Changed>>,
    ledger: LedgerChanges,
    /// All but the content hash, which the write before it gives.
    state: State,
    /// How many events it holds.
    pub events: u64,
    /// Bytes of its documents, as estimated.
    pub bytes: usize,
}

/// The committed documents, while a batch reads them.
struct OpenTables(Vec<OpenTable>);

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

impl std::fmt::Debug for OpenTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenTables").field(&self.0.len()).finish()
    }
}

impl Batch {
    /// An empty batch over a store that was opened with this state.
    pub fn new(store: Arc<Store>, state: State) -> Self {
        let collections = store.definition().collections().len();
        let cache = DocumentCache::new(collections, store.memory().documents_bytes());
        Self { store, state, events: 0, ledger: Ledger::default(), cache, file: None }
    }

    /// The same over a file that has set events aside.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger, ..self }
    }

    /// Gives back what it keeps of committed documents; nothing may be uncommitted.
    pub(crate) fn rest(&mut self) {
        assert_eq!(self.events, 0, "what is not committed is not in the file yet");
        let collections = self.store.definition().collections().len();
        self.cache = DocumentCache::new(collections, self.store.memory().documents_bytes());
        self.file = None;
    }

    /// What the version has set aside.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The same to change; it is written with the next commit.
    pub(crate) const fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The last event applied.
    pub const fn cursor(&self) -> Position {
        self.state.cursor
    }

    /// Events applied since the last commit.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of documents changed since the last commit, as estimated.
    pub const fn bytes(&self) -> usize {
        self.cache.changed_bytes()
    }

    /// Whether it holds as much as it may.
    pub const fn is_full(&self) -> bool {
        self.cache.is_full()
    }

    /// Applies the event behind the cursor. On an error the batch is as it was.
    pub fn apply(&mut self, event: &RecordedEvent) -> Result<(), BatchError> {
        self.apply_with(event, |definition, documents| apply(definition, event, documents))
    }

    /// The same with the event's data, read by `declarative::parse_data` for this definition.
    pub fn apply_parsed(&mut self, event: &RecordedEvent, data: &Json) -> Result<(), BatchError> {
        self.apply_with(event, |definition, documents| apply_parsed(definition, event, data, documents))
    }

    fn apply_with(
        &mut self,
        event: &RecordedEvent,
        apply: impl FnOnce(&Definition, &mut dyn Documents) -> Result<Vec<Change>, ApplyError>,
    ) -> Result<(), BatchError> {
        self.change(event, event.position, apply)?;
        self.pass(event.position);
        Ok(())
    }

    /// Applies an event that was passed before; its documents count as changed at `at`. On an error the batch is as it
    /// was.
    pub(crate) fn apply_late(&mut self, event: &RecordedEvent, at: Position) -> Result<(), BatchError> {
        assert!(event.position <= self.state.cursor, "only what was passed can be late");
        self.change(event, at, |definition, documents| apply(definition, event, documents))?;
        self.ledger.note_late();
        Ok(())
    }

    /// Moves the cursor to the event behind it, whatever became of that.
    pub(crate) fn pass(&mut self, position: Position) {
        assert_eq!(position, self.state.cursor.next(), "events are passed without gaps");
        self.state.cursor = position;
        self.events += 1;
    }

    fn change(
        &mut self,
        event: &RecordedEvent,
        at: Position,
        apply: impl FnOnce(&Definition, &mut dyn Documents) -> Result<Vec<Change>, ApplyError>,
    ) -> Result<(), BatchError> {
        let store = Arc::clone(&self.store);
        let definition = store.definition();
        if definition.handles(event.event.event_type.as_str()) {
            let changes = apply(definition, self)?;
            for change in &changes {
                check_indexes(&store, change)?;
            }
            for Change { collection, key, document } in changes {
                self.cache.change(collection, key, document, at);
            }
        }
        Ok(())
    }

    /// Writes what has changed, and the cursor, whose position `epoch` wrote. Gives the new state.
    pub fn commit(&mut self, epoch: u64, built: bool, persistence: Persistence) -> Result<State, KvError> {
        let hash = self.state.content_hash;
        let state = self.take_out(epoch, built).write(hash, persistence)?;
        self.written(state.content_hash);
        Ok(state)
    }

    /// Takes everything out, to be written; reads of the batch see it all the same. What was taken out before is written.
    pub fn take_out(&mut self, epoch: u64, built: bool) -> Outgoing {
        self.file = None;
        self.state.epoch = epoch;
        self.state.built |= built;
        let bytes = self.cache.changed_bytes();
        let changes = self.cache.take_changes();
        let ledger = self.ledger.take_changes();
        let events = std::mem::take(&mut self.events);
        Outgoing { store: Arc::clone(&self.store), changes, ledger, state: self.state, events, bytes }
    }

    /// What was taken out is written; the file's documents have this hash now.
    pub fn written(&mut self, content_hash: ContentHash) {
        self.state.content_hash = content_hash;
    }

    /// Over all documents that are written.
    pub const fn content_hash(&self) -> ContentHash {
        self.state.content_hash
    }

    /// Begins anew over the store as it was just opened with this state.
    pub fn reset(&mut self, state: State) {
        self.events = 0;
        self.ledger = Ledger::default();
        self.cache.clear();
        self.file = None;
        self.state = state;
    }

    fn read(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, KvError> {
        match self.tables()?[collection].get(key.as_bytes())? {
            None => Ok(None),
            Some(stored) => Ok(Some(Arc::new(decode(stored.value())?))),
        }
    }

    /// The committed documents.
    fn tables(&mut self) -> Result<&[OpenTable], KvError> {
        if self.file.is_none() {
            let snapshot = self.store.snapshot()?;
            let collections = 0..self.store.definition().collections().len();
            let tables: Result<_, KvError> = collections.map(|at| snapshot.documents(at)).collect();
            self.file = Some(OpenTables(tables?));
        }
        Ok(self.file.as_ref().map_or(&[][..], |file| &file.0))
    }
}

impl Outgoing {
    /// Writes it to the file, whose documents have this hash. Gives the new state.
    pub fn write(self, hash: ContentHash, persistence: Persistence) -> Result<State, KvError> {
        let mut state = State { content_hash: hash, ..self.state };
        let apart = self.store.is_sabotaged(Sabotage::LedgerApart);
        if apart {
            let write = self.store.begin_write(persistence)?;
            self.ledger.write(&write)?;
            self.store.commit(write)?;
        }
        let write = self.store.begin_write(persistence)?;
        let tables = self.store.tables();
        let changes = self.changes.iter().enumerate();
        let changes = changes.flat_map(|(at, changes)| changes.iter().map(move |changed| (at, changed)));
        let count = self.changes.iter().map(Vec::len).sum();
        let concerned = self.store.concerned(changes.clone().map(|(at, changed)| (at, &changed.key)), count);
        let untold = usize::from(count > 1 && self.store.is_sabotaged(Sabotage::ChangeUntold));
        let told = changes.skip(untold);
        change_table::record(&write, &state, told.map(|(at, changed)| (changed.position, at, &changed.key)))?;
        if !self.store.is_sabotaged(Sabotage::CursorAhead) {
            let stale_hash = self.store.is_sabotaged(Sabotage::StaleHash);
            let mut hashing = flush::Hashing { hash: &mut state.content_hash, stale: stale_hash };
            flush::write_documents(&write, tables, self.changes, &mut hashing)?;
        }
        if !apart {
            self.ledger.write(&write)?;
        }
        write_state(&write, &state, &tables.definition)?;
        self.store.commit(write)?;
        self.store.wake(concerned);
        Ok(state)
    }
}

impl Documents for Batch {
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure> {
        if let Before::Known(known) = self.cache.get(collection, key) {
            return Ok(known);
        }
        let document = self.read(collection, key)?;
        self.cache.learn(collection, key, document.clone());
        Ok(document)
    }
}

/// A stored document as a tree.
fn decode(stored: &[u8]) -> Result<Object, KvError> {
    let (_, text) = split_document(stored)?;
    match Json::parse_stored(text) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(KvError::Damaged("a stored document is no object".into())),
        Err(error) => Err(KvError::Damaged(format!("a stored document: {error}"))),
    }
}

fn check_indexes(store: &Store, change: &Change) -> Result<(), BatchError> {
    let collection = &store.definition().collections()[change.collection];
    let Some(document) = &change.document else {
        return Ok(());
    };
    for index in &collection.indexes {
        entries::check(index, document).map_err(|invalid| BatchError::Index {
            collection: collection.name.to_string(),
            key: change.key.clone(),
            invalid,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
