//! Writes a batch into the tables of one transaction: documents in order of keys, then each index in order of entries.
//!
//! Invariants: the content hash changes by exactly the documents that change; an index holds exactly the entries of the
//! documents that are there. Does not know cursors or commits.

use std::collections::HashMap;

use redb::WriteTransaction;

use super::{Pending, decode};
use crate::{
    json::Object,
    kv::KvError,
    projection::{
        content_hash::ContentHash,
        definition::Collection,
        entries::entries,
        key::Key,
        store::{CollectionTables, DocumentTable, IndexTable, Tables, entry_value, split_document},
    },
};

/// Entries to take out (`None`) and to put in, with their values.
type IndexChanges = Vec<(Vec<u8>, Option<u16>)>;

pub(super) fn write_documents(
    write: &WriteTransaction,
    tables: &Tables,
    pending: &HashMap<(usize, Key), Pending>,
    hash: &mut ContentHash,
) -> Result<(), KvError> {
    let mut by_collection: Vec<Vec<(Vec<u8>, &Pending)>> = Vec::new();
    by_collection.resize_with(tables.collections.len(), Vec::new);
    for ((collection, key), pending) in pending {
        by_collection[*collection].push((key.encode(), pending));
    }
    for (at, mut documents) in by_collection.into_iter().enumerate() {
        if documents.is_empty() {
            continue;
        }
        documents.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let collection = &tables.definition.collections()[at];
        write_collection(write, collection, &tables.collections[at], &documents, hash)?;
    }
    Ok(())
}

fn write_collection(
    write: &WriteTransaction,
    collection: &Collection,
    names: &CollectionTables,
    documents: &[(Vec<u8>, &Pending)],
    hash: &mut ContentHash,
) -> Result<(), KvError> {
    let mut changes: Vec<IndexChanges> = Vec::new();
    changes.resize_with(collection.indexes.len(), Vec::new);
    let mut table = write.open_table(DocumentTable::new(&names.documents))?;
    let mut text = String::new();
    let mut value = Vec::new();
    for (key, pending) in documents {
        let before = match &pending.document {
            Some(document) => {
                text.clear();
                document.write(&mut text);
                value.clear();
                value.extend(pending.position.get().to_be_bytes());
                value.extend(text.as_bytes());
                hash.add(&collection.name, key, text.as_bytes());
                table.insert(&key[..], &value[..])?
            }
            None => table.remove(&key[..])?,
        };
        let mut old = None;
        if let Some(before) = before {
            hash.take(&collection.name, key, split_document(before.value())?.1);
            if !collection.indexes.is_empty() {
                old = Some(decode(before.value())?);
            }
        }
        let new = pending.document.as_deref();
        index_changes(collection, key, old.as_ref(), new, &mut changes);
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
