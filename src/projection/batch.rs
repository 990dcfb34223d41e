//! The write-back batch of a version: many events over documents that stay decoded, then one transaction.
//!
//! Invariants: an event is in the batch whole or not at all; a document is written once a batch, in order of keys, with
//! its index entries and the cursor in the same transaction; reads see batch, then cache, then file. After a commit
//! failed, nothing is known about the file: it has to be opened again. Does not know when to commit, or threads.

use std::{collections::HashMap, sync::Arc};

use redb::ReadOnlyTable;

use crate::{
    event::{Invalid, Position, RecordedEvent},
    json::{Json, Object},
    kv::{KvError, Persistence},
    projection::{
        change_table,
        declarative::{ApplyError, Change, Documents, StoreFailure, apply},
        entries,
        key::Key,
        state::State,
        store::{Store, split_document, write_state},
    },
    sabotage::Sabotage,
};

mod cache;
mod flush;

use cache::{DocumentCache, document_bytes};

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

/// What a batch leaves of one document.
#[derive(Debug)]
struct Pending {
    document: Option<Arc<Object>>,
    /// The event that last changed it.
    position: Position,
}

/// Applies events to the documents of one open store.
#[derive(Debug)]
pub struct Batch {
    store: Arc<Store>,
    /// What is committed, and the cursor of the batch.
    state: State,
    pending: HashMap<(usize, Key), Pending>,
    pending_bytes: usize,
    events: u64,
    cache: DocumentCache,
    file: Option<OpenTables>,
}

/// The committed documents, while a batch reads them.
struct OpenTables(Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>);

impl std::fmt::Debug for OpenTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenTables").field(&self.0.len()).finish()
    }
}

impl Batch {
    /// An empty batch over a store that was opened with this state.
    pub fn new(store: Arc<Store>, state: State) -> Self {
        let documents_bytes = store.memory().documents_bytes();
        Self {
            store,
            state,
            pending: HashMap::new(),
            pending_bytes: 0,
            events: 0,
            cache: DocumentCache::new(documents_bytes),
            file: None,
        }
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
        self.pending_bytes
    }

    /// Applies the event behind the cursor. On an error the batch is as it was.
    pub fn apply(&mut self, event: &RecordedEvent) -> Result<(), BatchError> {
        assert_eq!(event.position, self.state.cursor.next(), "events are applied without gaps");
        let store = Arc::clone(&self.store);
        let definition = store.definition();
        if definition.handles(event.event.event_type.as_str()) {
            let changes = apply(definition, event, self)?;
            for change in &changes {
                check_indexes(&store, change)?;
            }
            for change in changes {
                self.take(change, event.position);
            }
        }
        self.state.cursor = event.position;
        self.events += 1;
        Ok(())
    }

    /// Writes what has changed, and the cursor, whose position `epoch` wrote. Gives the new state.
    pub fn commit(&mut self, epoch: u64, built: bool, persistence: Persistence) -> Result<State, KvError> {
        self.file = None;
        self.state.epoch = epoch;
        self.state.built |= built;
        let write = self.store.begin_write(persistence)?;
        let tables = Arc::clone(self.store.tables());
        if !self.store.is_sabotaged(Sabotage::CursorAhead) {
            flush::write_documents(&write, &tables, &self.pending, &mut self.state.content_hash)?;
        }
        let changes = self.pending.iter().map(|((at, key), pending)| (pending.position, *at, key));
        change_table::record(&write, &self.state, changes)?;
        write_state(&write, &self.state, &tables.definition)?;
        self.store.commit(write)?;
        for (at, pending) in self.pending.drain() {
            self.cache.put(at, pending.document);
        }
        self.pending_bytes = 0;
        self.events = 0;
        Ok(self.state)
    }

    /// Begins anew over the store as it was just opened with this state.
    pub fn reset(&mut self, state: State) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.events = 0;
        self.cache.clear();
        self.file = None;
        self.state = state;
    }

    fn take(&mut self, change: Change, position: Position) {
        self.pending_bytes += document_bytes(change.document.as_deref());
        let pending = Pending { document: change.document, position };
        if let Some(before) = self.pending.insert((change.collection, change.key), pending) {
            self.pending_bytes -= document_bytes(before.document.as_deref());
        }
    }

    fn read(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, KvError> {
        if self.file.is_none() {
            let snapshot = self.store.snapshot()?;
            let collections = 0..self.store.definition().collections().len();
            let tables: Result<_, KvError> = collections.map(|at| snapshot.documents(at)).collect();
            self.file = Some(OpenTables(tables?));
        }
        let tables = self.file.as_ref().map_or(&[][..], |file| &file.0);
        match tables[collection].get(&key.encode()[..])? {
            None => Ok(None),
            Some(stored) => Ok(Some(Arc::new(decode(stored.value())?))),
        }
    }
}

impl Documents for Batch {
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure> {
        let at = (collection, key.clone());
        if let Some(pending) = self.pending.get(&at) {
            return Ok(pending.document.clone());
        }
        if let Some(known) = self.cache.get(&at) {
            return Ok(known.clone());
        }
        let document = self.read(collection, key)?;
        self.cache.put(at, document.clone());
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
