//! The one redb file of a projection version: its tables, its state record, its snapshots.
//!
//! Invariants: documents, indexes and the state record change in one transaction, so a snapshot's state says exactly
//! which events its documents have seen. A file belongs to one definition and one log; one that does not fit, or whose
//! cursor the log does not know, is set aside and begun anew at position 0.
//!
//! Tables: `state` (one record, and one of `change_table`, which owns `changes`), `d:<collection>` (encoded key ->
//! position, 8 bytes big-endian, then canonical text), `i:<collection>:<index>` (entry -> bytes of the key at its end, and a
//! mark), and those of `ledger`. Deliberately does not know batches, threads, queries.

mod upkeep;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use crate::{
    disk::Disk,
    event::Position,
    kv::{self, KvError, Persistence, SetAside, Syncs},
    projection::{
        content_hash::ContentHash,
        definition::Definition,
        interest::{Concerned, Range, Seat, Seats},
        key::Key,
        ledger::{self, Counts, Entry, Ledger},
        memory::Share,
        recent::Recent,
        state::State,
    },
    sabotage::Sabotage,
};

/// What is known of the documents as a whole.
pub(crate) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
/// Its record of which events they have seen.
pub(crate) const STATE_KEY: &str = "state";

/// A table of documents, for writing.
pub(crate) type DocumentTable<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;
/// A table of documents, for reading.
pub(crate) type DocumentTableRead = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// A table of index entries, for writing.
pub(crate) type IndexTable<'a> = TableDefinition<'a, &'static [u8], u16>;

/// The file of one version; closed until `open`, and again while it is reopened.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    tables: Arc<Tables>,
    slot: RwLock<Option<Database>>,
    /// What is committed, while nothing newer is.
    recent: Recent,
    /// One for each snapshot, beside its own.
    readers: Arc<()>,
    /// Who waits for changes.
    seats: Seats,
    memory: Share,
    syncs: Syncs,
    sabotage: Option<Sabotage>,
}

/// What the log says that a file must agree with.
pub struct LogFacts<'a> {
    /// The log's identity.
    pub log_id: Uuid,
    /// Its last position.
    pub head: Position,
    /// The epoch that wrote a position.
    pub epoch_at: &'a dyn Fn(Position) -> u64,
}

impl std::fmt::Debug for LogFacts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFacts")
            .field("log_id", &self.log_id)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// The names of the tables, by place in the definition.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) definition: Arc<Definition>,
    pub(crate) collections: Vec<CollectionTables>,
}

/// The names of one collection's tables.
#[derive(Debug)]
pub(crate) struct CollectionTables {
    pub(crate) documents: String,
    pub(crate) indexes: Vec<String>,
}

impl Tables {
    fn new(definition: Arc<Definition>) -> Self {
        let collections = definition.collections().iter().map(|collection| CollectionTables {
            documents: format!("d:{}", collection.name),
            indexes: collection
                .indexes
                .iter()
                .map(|index| format!("i:{}:{}", collection.name, index.name))
                .collect(),
        });
        Self { collections: collections.collect(), definition }
    }
}

impl Store {
    /// The file of a version in `dir`, closed.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, definition: Arc<Definition>, memory: Share) -> Self {
        let path = path_of(dir, definition.name(), definition.version());
        let tables = Arc::new(Tables::new(definition));
        Self {
            disk,
            path,
            tables,
            slot: RwLock::new(None),
            recent: Recent::default(),
            readers: Arc::default(),
            seats: Seats::default(),
            memory,
            syncs: Syncs::Through,
            sabotage: None,
        }
    }

    /// The same with another file, whose name has this extension.
    #[must_use]
    pub fn with_extension(mut self, extension: &str) -> Self {
        self.path.set_extension(extension);
        self
    }

    /// The same, its commits durable a moment later: no commit waits for the disk. Another thread writes.
    #[must_use]
    pub fn writing_behind(mut self) -> Self {
        self.syncs = Syncs::Behind(self.memory.behind_bytes());
        self
    }

    /// The same with a bug built in, for simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Option<Sabotage>) -> Self {
        self.sabotage = sabotage;
        self
    }

    pub(crate) fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// The memory it may use.
    pub const fn memory(&self) -> &Share {
        &self.memory
    }

    /// The definition whose documents it holds.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.tables.definition
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, or a new one in place of one that does not fit, and gives its state.
    pub fn open(&self, log: &LogFacts<'_>) -> Result<(State, Option<SetAside>), KvError> {
        self.close();
        let (database, damaged) = self.open_file()?;
        let (database, state, unfit) = match self.check(&database, log) {
            Ok(Some(state)) => (database, state, None),
            Ok(None) => {
                let state = self.begin(&database, log)?;
                (database, state, None)
            }
            Err(KvError::Damaged(reason)) => {
                drop(database);
                let aside = kv::set_aside(&*self.disk, &self.path, reason)?;
                let (database, _) = self.open_file()?;
                let state = self.begin(&database, log)?;
                (database, state, Some(aside))
            }
            Err(error) => return Err(error),
        };
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok((state, unfit.or(damaged)))
    }

    fn open_file(&self) -> Result<(Database, Option<SetAside>), KvError> {
        kv::open_or_replace(&*self.disk, &self.path, self.memory.pages_bytes(), self.syncs)
    }

    /// Closes the file. Snapshots that are still held fail with `KvError::Closed` from now on.
    pub fn close(&self) {
        self.recent.forget();
        drop(self.slot.write().unwrap_or_else(PoisonError::into_inner).take());
        // Somebody may have shared one more just before.
        self.recent.forget();
        self.seats.wake_all();
    }

    /// Closes the file and puts it out of the way; the next `open` begins a new one.
    pub fn discard(&self, reason: String) -> Result<SetAside, KvError> {
        self.close();
        kv::set_aside(&*self.disk, &self.path, reason)
    }

    /// Closes the file and removes it; the next `open` begins a new one.
    pub fn remove(&self) -> Result<(), KvError> {
        self.close();
        kv::remove(&*self.disk, &self.path)
    }

    /// What is committed now.
    pub fn snapshot(&self) -> Result<Snapshot, KvError> {
        let (read, reader) = self.with(|database| Ok((database.begin_read()?, Arc::clone(&self.readers))))?;
        let state = read_state(&read, &self.tables.definition)?
            .ok_or_else(|| KvError::Damaged("it has no state record".into()))?;
        let opened = self.tables.collections.iter().map(|_| OnceLock::new()).collect();
        let counts = OnceLock::new();
        Ok(Snapshot { read, state, tables: Arc::clone(&self.tables), opened, counts, _reader: reader })
    }

    /// The same, shared with all who read between two commits.
    pub(crate) fn shared_snapshot(&self) -> Result<Arc<Snapshot>, KvError> {
        match self.recent.get() {
            Ok(snapshot) => Ok(snapshot),
            Err(since) => {
                let snapshot = Arc::new(self.snapshot()?);
                self.recent.share(since, &snapshot);
                Ok(snapshot)
            }
        }
    }

    /// A seat for a watcher.
    pub(super) fn seat(&self, range: Range) -> Seat {
        self.seats.seat(range)
    }

    /// Whom changes of documents concern.
    pub(super) fn concerned<'a>(
        &self,
        changes: impl Iterator<Item = (usize, &'a Key)> + Clone,
        count: usize,
    ) -> Concerned {
        self.seats.concerned(changes, count)
    }

    /// Wakes watchers: the commit that concerns them is visible.
    pub(super) fn wake(&self, concerned: Concerned) {
        self.seats.wake(concerned);
    }

    /// Commits a change; whoever reads from now on sees it.
    pub(crate) fn commit(&self, write: WriteTransaction) -> Result<(), KvError> {
        let committed = write.commit();
        self.recent.forget();
        Ok(committed?)
    }

    /// Begins a change. There is one writer, so this does not wait.
    pub(crate) fn begin_write(&self, persistence: Persistence) -> Result<WriteTransaction, KvError> {
        self.with(|database| kv::begin_write(database, persistence))
    }

    pub(crate) fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    fn with<T>(&self, use_it: impl FnOnce(&Database) -> Result<T, KvError>) -> Result<T, KvError> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        use_it(slot.as_ref().ok_or(KvError::Closed)?)
    }

    /// The state of a file that fits; `None` for a file that was never begun.
    fn check(&self, database: &Database, log: &LogFacts<'_>) -> Result<Option<State>, KvError> {
        let read = database.begin_read()?;
        let Some(state) = read_state(&read, self.definition())? else {
            return Ok(None);
        };
        check_fits(&state, log).map(|()| Some(state))
    }

    /// Puts the tables and the first state into an empty file.
    fn begin(&self, database: &Database, log: &LogFacts<'_>) -> Result<State, KvError> {
        let state = State::new(log.log_id);
        let write = kv::begin_write(database, Persistence::Durable)?;
        for collection in &self.tables.collections {
            write.open_table(DocumentTable::new(&collection.documents))?;
            for index in &collection.indexes {
                write.open_table(IndexTable::new(index))?;
            }
        }
        write_state(&write, &state, self.definition())?;
        write.commit()?;
        Ok(state)
    }
}

/// Where the file of a version in `dir` is.
pub(super) fn path_of(dir: &Path, projection: &str, version: u32) -> PathBuf {
    dir.join(format!("{projection}-v{version}.redb"))
}

/// Whether documents have seen the events of this log, and none but these.
pub(super) fn check_fits(state: &State, log: &LogFacts<'_>) -> Result<(), KvError> {
    let unfit = |reason: String| Err(KvError::Damaged(reason));
    if state.log_id != log.log_id {
        return unfit(format!("it follows the log {}, not {}", state.log_id, log.log_id));
    }
    if state.cursor > log.head {
        return unfit(format!("its cursor {} is above the log's head {}", state.cursor, log.head));
    }
    if state.cursor > Position::ZERO && (log.epoch_at)(state.cursor) != state.epoch {
        return unfit(format!(
            "position {} was written by epoch {}, it followed epoch {}",
            state.cursor,
            (log.epoch_at)(state.cursor),
            state.epoch
        ));
    }
    Ok(())
}

/// One committed state of a version's documents.
pub struct Snapshot {
    read: ReadTransaction,
    state: State,
    tables: Arc<Tables>,
    /// Tables of documents that were looked at.
    opened: Vec<OnceLock<DocumentTableRead>>,
    counts: OnceLock<Counts>,
    /// The file stays open for it.
    _reader: Arc<()>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Which events its documents have seen.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The definition whose documents it holds.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.tables.definition
    }

    /// What follows from the events that were set aside.
    pub fn counts(&self) -> Result<Counts, KvError> {
        if let Some(counts) = self.counts.get() {
            return Ok(*counts);
        }
        let counts = ledger::counts(&self.read)?;
        Ok(*self.counts.get_or_init(|| counts))
    }

    /// Up to `limit` events that were set aside behind a position.
    pub fn set_aside_page(&self, after: Position, limit: usize) -> Result<Vec<(Position, Entry)>, KvError> {
        ledger::page(&self.read, after, limit)
    }

    /// All of what was set aside, as a batch goes on with it.
    pub(crate) fn ledger(&self) -> Result<Ledger, KvError> {
        Ledger::load(&self.read, self.definition())
    }

    /// How many documents a collection holds.
    pub fn document_count(&self, collection: usize) -> Result<u64, KvError> {
        Ok(self.documents(collection)?.len()?)
    }

    /// The content hash of the documents as they are in the tables; `state` has it as it was kept along the way.
    pub fn hash_documents(&self) -> Result<ContentHash, KvError> {
        let mut hash = ContentHash::default();
        for (at, collection) in self.definition().collections().iter().enumerate() {
            let documents = self.documents(at)?;
            for row in documents.iter()? {
                let (key, stored) = row?;
                hash.add(&collection.name, key.value(), split_document(stored.value())?.1);
            }
        }
        Ok(hash)
    }

    /// For tables that have another owner.
    pub(crate) const fn transaction(&self) -> &ReadTransaction {
        &self.read
    }

    /// The documents of a collection; opened once for all who share the snapshot.
    pub(crate) fn shared_documents(&self, collection: usize) -> Result<&DocumentTableRead, KvError> {
        if let Some(table) = self.opened[collection].get() {
            return Ok(table);
        }
        let table = self.documents(collection)?;
        Ok(self.opened[collection].get_or_init(|| table))
    }

    pub(crate) fn documents(&self, collection: usize) -> Result<DocumentTableRead, KvError> {
        let name = &self.tables.collections[collection].documents;
        Ok(self.read.open_table(DocumentTable::new(name))?)
    }

    pub(crate) fn index(
        &self,
        collection: usize,
        index: usize,
    ) -> Result<ReadOnlyTable<&'static [u8], u16>, KvError> {
        let name = &self.tables.collections[collection].indexes[index];
        Ok(self.read.open_table(IndexTable::new(name))?)
    }
}

/// The position and the canonical text that a stored document consists of.
pub(crate) fn split_document(stored: &[u8]) -> Result<(Position, &[u8]), KvError> {
    let (position, text) = stored
        .split_first_chunk()
        .ok_or_else(|| KvError::Damaged("a stored document is too short".into()))?;
    Ok((Position::new(u64::from_be_bytes(*position)), text))
}

/// Marks an entry of a document that has several in the index.
const SEVERAL: u16 = 1 << 15;

/// The value of an index entry.
pub(crate) fn entry_value(key_bytes: usize, several: bool) -> u16 {
    key_bytes as u16 | if several { SEVERAL } else { 0 }
}

/// The encoded key at the end of an entry, and whether its document has several in the index.
pub(crate) fn split_entry(entry: &[u8], value: u16) -> Result<(&[u8], bool), KvError> {
    let at = entry.len().checked_sub(usize::from(value & !SEVERAL));
    let key = at.map(|at| &entry[at..]);
    let key = key.ok_or_else(|| KvError::Damaged("an index entry is too short".into()))?;
    Ok((key, value & SEVERAL != 0))
}

pub(crate) fn write_state(
    write: &WriteTransaction,
    state: &State,
    definition: &Definition,
) -> Result<(), KvError> {
    let mut table = write.open_table(STATE)?;
    table.insert(STATE_KEY, &state.encode(definition.hash())[..])?;
    Ok(())
}

fn read_state(read: &ReadTransaction, definition: &Definition) -> Result<Option<State>, KvError> {
    match any_state(read)? {
        Some((_, hash)) if hash != *definition.hash() => {
            Err(KvError::Damaged("it was built by another definition".into()))
        }
        found => Ok(found.map(|(state, _)| state)),
    }
}

/// The state record and the hash of the definition that made it.
pub(super) fn any_state(read: &ReadTransaction) -> Result<Option<(State, [u8; 32])>, KvError> {
    let table = match read.open_table(STATE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(record) = table.get(STATE_KEY)? else {
        return Ok(None);
    };
    State::decode(record.value()).map_err(KvError::Damaged).map(Some)
}
