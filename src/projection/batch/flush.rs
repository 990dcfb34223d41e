//! Writes a batch into the tables of one transaction: documents in order of keys, then each index in order of entries.
//!
//! Invariants: the content hash changes by exactly the documents that change; an index holds exactly the entries of the
//! documents that are there. Does not know cursors or commits.

use std::sync::Arc;

use redb::WriteTransaction;

use super::{
    decode,
    documents::{Before, Changed},
};
use crate::{
    json::Object,
    kv::KvError,
    projection::{
        content_hash::ContentHash,
        definition::{Collection, IndexDefinition},
        entries::entries,
        store::{CollectionTables, DocumentTable, IndexTable, Tables, entry_value, split_document},
    },
};

/// Entries to take out (`None`) and to put in, with their values.
type IndexChanges = Vec<(Vec<u8>, Option<u16>)>;

/// The content hash that goes along.
pub(super) struct Hashing<'h> {
    pub(super) hash: &'h mut ContentHash,
    /// A deliberate bug: what is replaced stays in it.
    pub(super) stale: bool,
}

pub(super) fn write_documents(
    write: &WriteTransaction,
    tables: &Tables,
    changes: Vec<Vec<Changed>>,
    hashing: &mut Hashing<'_>,
) -> Result<(), KvError> {
    let collections = tables.definition.collections().iter().zip(&tables.collections);
    for ((collection, names), mut documents) in collections.zip(changes) {
        if !documents.is_empty() {
            documents.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            write_collection(write, collection, names, &documents, hashing)?;
        }
    }
    Ok(())
}

fn write_collection(
    write: &WriteTransaction,
    collection: &Collection,
    names: &CollectionTables,
    documents: &[Changed],
    Hashing { hash, stale }: &mut Hashing<'_>,
) -> Result<(), KvError> {
    let mut changes: Vec<IndexChanges> = Vec::new();
    changes.resize_with(collection.indexes.len(), Vec::new);
    let mut table = write.open_table(DocumentTable::new(&names.documents))?;
    let mut text = String::new();
    let mut value = Vec::new();
    for Changed { key, document, position, before } in documents {
        let key = key.as_bytes();
        let stored = match document {
            Some(document) => {
                text.clear();
                document.write(&mut text);
                value.clear();
                value.extend(position.get().to_be_bytes());
                value.extend(text.as_bytes());
                hash.add(&collection.name, key, text.as_bytes());
                table.insert(key, &value[..])?
            }
            None => table.remove(key)?,
        };
        let mut old = None;
        if let Some(stored) = stored {
            if !*stale {
                hash.take(&collection.name, key, split_document(stored.value())?.1);
            }
            if !collection.indexes.is_empty() {
                old = match before {
                    Before::Known(Some(before)) => Some(Arc::clone(before)),
                    Before::Known(None) | Before::Unknown => Some(Arc::new(decode(stored.value())?)),
                };
            }
        }
        index_changes(collection, key, old.as_deref(), document.as_deref(), &mut changes);
    }
    drop(table);
    for (name, mut changes) in names.indexes.iter().zip(changes) {
        changes.sort_unstable();
        let mut table = write.open_table(IndexTable::new(name))?;
        for (entry, value) in &changes {
            match value {
                Some(value) => drop(table.insert(&entry[..], value)?),
                None => drop(table.remove(&entry[..])?),
            }
        }
    }
    Ok(())
}

/// Notes which entries of each index go and come when a document changes.
fn index_changes(
    collection: &Collection,
    key: &[u8],
    old: Option<&Object>,
    new: Option<&Object>,
    changes: &mut [IndexChanges],
) {
    for (index, changes) in collection.indexes.iter().zip(changes) {
        if same_fields(index, old, new) {
            continue;
        }
        let entries_of = |document: Option<&Object>| {
            document.map_or_else(Vec::new, |document| entries(index, document, key))
        };
        let (old, new) = (entries_of(old), entries_of(new));
        let gone = old.iter().filter(|entry| new.binary_search(entry).is_err());
        changes.extend(gone.map(|entry| (entry.clone(), None)));
        // What stays is written again where the mark changes.
        let marked = (old.len() > 1) == (new.len() > 1);
        let value = entry_value(key.len(), new.len() > 1);
        let come = new.into_iter().filter(|entry| !marked || old.binary_search(entry).is_err());
        changes.extend(come.map(|entry| (entry, Some(value))));
    }
}

/// Whether both documents are there and have the same values in all fields of an index.
fn same_fields(index: &IndexDefinition, old: Option<&Object>, new: Option<&Object>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    index.paths.iter().all(|path| path.get(old) == path.get(new))
}
