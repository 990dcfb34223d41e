//! Decoded documents of a version: those that were read or written lately, and which of them the file does not have yet.
//!
//! Two generations within a budget of bytes: what is used moves to the young one; when that is full, the old one is
//! forgotten and the young one becomes old. Absence is remembered too. Invariants: a changed document is in the young
//! generation; generations change only when all changes are handed over, so that nothing is forgotten before the
//! hand-over behind it is in the file. Does not know the file.

use std::{collections::HashMap, mem, sync::Arc};

use foldhash::fast::RandomState;

use crate::{
    event::Position,
    json::{Json, Object},
    projection::key::Key,
};

/// Bytes that a value in a tree takes beside its text, roughly.
const VALUE_BYTES: usize = 48;
/// Bytes that a key and its places take, roughly.
const KEY_BYTES: usize = 160;

type Generation = HashMap<Key, Entry, RandomState>;

/// The documents of one version, by collection.
#[derive(Debug)]
pub(super) struct DocumentCache {
    collections: Vec<Generations>,
    young_bytes: usize,
    bytes_max: usize,
    /// Keys of changed documents, by collection.
    changed: Vec<Vec<Key>>,
    changed_bytes: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

/// What is known of one document.
#[derive(Debug)]
struct Entry {
    document: Option<Arc<Object>>,
    /// The event that last changed it; nothing where it is not changed.
    changed_at: Option<Position>,
    before: Before,
}

/// What there is under a key, as far as it is known; of an entry: what the file has once the last hand-over is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Before {
    /// It was not looked at.
    Unknown,
    /// This document, or none.
    Known(Option<Arc<Object>>),
}

/// What is to become of one document.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) key: Key,
    pub(super) document: Option<Arc<Object>>,
    /// The event that last changed it.
    pub(super) position: Position,
    pub(super) before: Before,
}

impl DocumentCache {
    pub(super) fn new(collections: usize, bytes_max: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(collections, Generations::default);
        Self {
            collections: all,
            young_bytes: 0,
            bytes_max,
            changed: vec![Vec::new(); collections],
            changed_bytes: 0,
        }
    }

    /// Bytes of changed documents.
    pub(super) const fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Whether documents that were read leave no room for more.
    pub(super) const fn is_full(&self) -> bool {
        self.young_bytes >= self.bytes_max
    }

    /// What is known of a document.
    pub(super) fn get(&mut self, collection: usize, key: &Key) -> Before {
        self.known(collection, key).map_or(Before::Unknown, |entry| Before::Known(entry.document.clone()))
    }

    /// A document that has changed since the last hand-over, and the event that last changed it.
    pub(super) fn changed(&self, collection: usize, key: &Key) -> Option<(Option<&Arc<Object>>, Position)> {
        let entry = self.collections[collection].young.get(key)?;
        Some((entry.document.as_ref(), entry.changed_at?))
    }

    /// Takes over what the file has.
    pub(super) fn learn(&mut self, collection: usize, key: &Key, document: Option<Arc<Object>>) {
        self.young_bytes += document_bytes(document.as_deref());
        let before = Before::Known(document.clone());
        let entry = Entry { document, changed_at: None, before };
        self.collections[collection].young.insert(key.clone(), entry);
    }

    /// Changes a document.
    pub(super) fn change(
        &mut self,
        collection: usize,
        key: Key,
        document: Option<Arc<Object>>,
        position: Position,
    ) {
        let bytes = document_bytes(document.as_deref());
        self.young_bytes += bytes;
        self.changed_bytes += bytes;
        let Some(entry) = self.known(collection, &key) else {
            self.changed[collection].push(key.clone());
            let entry = Entry { document, changed_at: Some(position), before: Before::Unknown };
            self.collections[collection].young.insert(key, entry);
            return;
        };
        let was = mem::replace(&mut entry.document, document);
        let first = entry.changed_at.replace(position).is_none();
        if first {
            // What was before stays until the hand-over.
            self.changed[collection].push(key);
        } else {
            let was_bytes = document_bytes(was.as_deref());
            self.young_bytes = self.young_bytes.saturating_sub(was_bytes);
            self.changed_bytes = self.changed_bytes.saturating_sub(was_bytes);
        }
    }

    /// Hands all changes over, by collection; from now on they count as what the file has.
    pub(super) fn take_changes(&mut self) -> Vec<Vec<Changed>> {
        let mut all = Vec::with_capacity(self.collections.len());
        for (generations, keys) in self.collections.iter_mut().zip(&mut self.changed) {
            let taken = keys.drain(..).map(|key| {
                let entry = generations.young.get_mut(&key).expect("a changed document stays young");
                let position = entry.changed_at.take().expect("it was noted as changed");
                let document = entry.document.clone();
                let before = mem::replace(&mut entry.before, Before::Known(document.clone()));
                Changed { key, document, position, before }
            });
            all.push(taken.collect());
        }
        self.changed_bytes = 0;
        if self.young_bytes > self.bytes_max / 2 {
            for generations in &mut self.collections {
                generations.old = mem::take(&mut generations.young);
            }
            self.young_bytes = 0;
        }
        all
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.collections.len(), self.bytes_max);
    }

    /// What is known, moved to the young generation.
    fn known(&mut self, collection: usize, key: &Key) -> Option<&mut Entry> {
        let Generations { young, old } = &mut self.collections[collection];
        if !young.contains_key(key) {
            let (key, entry) = old.remove_entry(key)?;
            self.young_bytes += document_bytes(entry.document.as_deref());
            return Some(young.entry(key).or_insert(entry));
        }
        young.get_mut(key)
    }
}

/// The memory that a document and its key take, roughly.
fn document_bytes(document: Option<&Object>) -> usize {
    KEY_BYTES + document.map_or(0, object_bytes)
}

fn object_bytes(object: &Object) -> usize {
    let fields = object.iter().map(|(name, value)| name.len() + value_bytes(value));
    VALUE_BYTES + fields.sum::<usize>()
}

fn value_bytes(value: &Json) -> usize {
    match value {
        Json::Text(text) => VALUE_BYTES + text.len(),
        Json::Array(items) => VALUE_BYTES + items.iter().map(value_bytes).sum::<usize>(),
        Json::Object(object) => object_bytes(object),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Double(_) => VALUE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: i64) -> Key {
        Key::from_json(&Json::Int(number)).unwrap()
    }

    #[test]
    fn it_forgets_what_was_not_used_and_keeps_to_its_budget() {
        let mut cache = DocumentCache::new(1, 100 * KEY_BYTES);
        cache.learn(0, &key(0), None);
        for number in 1..1_000 {
            cache.learn(0, &key(number), None);
            assert_eq!(cache.get(0, &key(0)), Before::Known(None), "used all the time");
            assert_eq!(cache.take_changes()[0].len(), 0);
            let Generations { young, old } = &cache.collections[0];
            assert!(young.len() + old.len() <= 102);
        }
        assert_eq!(cache.get(0, &key(1)), Before::Unknown, "forgotten");
        assert_eq!(cache.get(0, &key(999)), Before::Known(None));
    }

    #[test]
    fn changes_are_never_forgotten_and_handed_over_once_with_what_was_before() {
        let mut cache = DocumentCache::new(2, 10 * KEY_BYTES);
        cache.learn(1, &key(1), None);
        let document = Some(Arc::new(Object::new()));
        for number in 0..100 {
            cache.change(1, key(number), document.clone(), Position::new(number as u64 + 1));
        }
        cache.change(1, key(1), None, Position::new(200));
        assert!(cache.is_full());
        let changes = cache.take_changes();
        assert_eq!((changes[0].len(), changes[1].len()), (0, 100));
        assert!(matches!(changes[1][0].before, Before::Unknown));
        assert!(matches!(changes[1][1].before, Before::Known(None)));
        assert_eq!((changes[1][1].position, &changes[1][1].document), (Position::new(200), &None));
        assert_eq!(cache.changed_bytes(), 0);
        assert_eq!(
            cache.get(1, &key(7)),
            Before::Known(document),
            "until the next hand-over, which may forget it"
        );
        assert!(cache.take_changes().iter().all(Vec::is_empty));
    }
}
