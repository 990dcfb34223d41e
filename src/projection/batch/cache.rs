//! Decoded documents that a version read or wrote lately, within a budget of bytes.
//!
//! Two generations: what is used moves to the young one; when that is full, the old one is forgotten and the young one
//! becomes old. Absence is remembered too. Does not know which documents are changed.

use std::{collections::HashMap, mem, sync::Arc};

use crate::{
    json::{Json, Object},
    projection::key::Key,
};

/// Bytes that a value in a tree takes beside its text, roughly.
const VALUE_BYTES: usize = 48;
/// Bytes that a key takes in a map, roughly.
const KEY_BYTES: usize = 96;

type Generation = HashMap<(usize, Key), Option<Arc<Object>>>;

/// The cache of one version.
#[derive(Debug)]
pub(super) struct DocumentCache {
    young: Generation,
    old: Generation,
    young_bytes: usize,
    bytes_max: usize,
}

impl DocumentCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, bytes_max }
    }

    /// The document, or that there is none; `None` if it is not known.
    pub(super) fn get(&mut self, at: &(usize, Key)) -> Option<&Option<Arc<Object>>> {
        if !self.young.contains_key(at) {
            let (at, document) = self.old.remove_entry(at)?;
            self.put(at, document);
        }
        self.young.get(at).or_else(|| self.old.get(at))
    }

    pub(super) fn put(&mut self, at: (usize, Key), document: Option<Arc<Object>>) {
        self.young_bytes += document_bytes(document.as_deref());
        self.young.insert(at, document);
        if self.young_bytes > self.bytes_max / 2 {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }
}

/// The memory that a document and its key take, roughly.
pub(super) fn document_bytes(document: Option<&Object>) -> usize {
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

    #[test]
    fn it_forgets_what_was_not_used_and_keeps_to_its_budget() {
        let at = |number: i64| (0, Key::from_json(&Json::Int(number)).unwrap());
        let mut cache = DocumentCache::new(100 * KEY_BYTES);
        cache.put(at(0), None);
        for number in 1..1_000 {
            cache.put(at(number), None);
            assert_eq!(cache.get(&at(0)), Some(&None), "used all the time");
            assert!(cache.young.len() + cache.old.len() <= 102);
        }
        assert_eq!(cache.get(&at(1)), None, "forgotten");
        assert_eq!(cache.get(&at(999)), Some(&None));
    }
}
