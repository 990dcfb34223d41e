//! Runs a definition over events in memory, with the same engine that the node has, and compares what comes out.
//!
//! For checking and testing projections without a node. Does not read files.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    event::{Invalid, Position, RecordedEvent},
    json::{
        Json, Object,
        difference::{paired, walk},
    },
    projection::{
        declarative::{ApplyError, Documents, StoreFailure, apply},
        definition::Definition,
        key::Key,
    },
};

/// The documents of a projection version, in memory.
#[derive(Debug, Default)]
pub struct Memory {
    collections: Vec<InMemory>,
}

/// The documents of a collection by encoded key.
type InMemory = BTreeMap<Vec<u8>, (Key, Arc<Object>)>;

/// Which event was not applied, and why.
#[derive(Debug, thiserror::Error)]
#[error("event at position {position}: {error}")]
pub struct OfflineError {
    /// Of the event.
    pub position: Position,
    /// Why.
    pub error: ApplyError,
}

impl Documents for Memory {
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure> {
        let documents = self.collections.get(collection);
        Ok(documents.and_then(|documents| documents.get(&key.encode())).map(|(_, document)| document.clone()))
    }
}

impl Memory {
    /// Without documents.
    pub fn new(definition: &Definition) -> Self {
        Self { collections: definition.collections().iter().map(|_| BTreeMap::new()).collect() }
    }

    /// Applies one event, wholly or not at all.
    pub fn apply(&mut self, definition: &Definition, event: &RecordedEvent) -> Result<(), OfflineError> {
        let position = event.position;
        let changes = apply(definition, event, self).map_err(|error| OfflineError { position, error })?;
        for change in changes {
            let documents = &mut self.collections[change.collection];
            let bytes = change.key.encode();
            match change.document {
                Some(document) => documents.insert(bytes, (change.key, document)),
                None => documents.remove(&bytes),
            };
        }
        Ok(())
    }

    /// The documents of a collection in order of their keys.
    pub fn documents(&self, collection: usize) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        let documents = self.collections.get(collection);
        documents.into_iter().flat_map(|documents| documents.values()).map(|(key, document)| (key, document))
    }

    /// All documents as `{collection: {key: document}}`, keys as the text that shows them.
    pub fn to_json(&self, definition: &Definition) -> Json {
        let collections = definition.collections().iter().enumerate().map(|(at, collection)| {
            let documents = self.documents(at);
            let fields =
                documents.map(|(key, document)| (key.to_string().into(), Json::Object((**document).clone())));
            ((&*collection.name).into(), Json::Object(fields.collect()))
        });
        Json::Object(collections.collect())
    }
}

/// Applies events in order; stops at the first that cannot be applied.
pub fn run<E: std::borrow::Borrow<RecordedEvent>>(
    definition: &Definition,
    events: impl IntoIterator<Item = E>,
) -> Result<Memory, OfflineError> {
    let mut memory = Memory::new(definition);
    for event in events {
        memory.apply(definition, event.borrow())?;
    }
    Ok(memory)
}

/// One way in which documents are not as expected. Displays as one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The collection's name.
    pub collection: String,
    /// The key as it is shown.
    pub key: String,
    /// The way to the field, joined by dots; empty for the whole document.
    pub path: String,
    /// What was expected; `None`: nothing.
    pub expected: Option<Json>,
    /// What is there; `None`: nothing.
    pub actual: Option<Json>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, key, path, .. } = self;
        let of = if path.is_empty() { "" } else { "." };
        write!(f, "{collection} {key:?}{of}{path}: ")?;
        match (&self.expected, &self.actual) {
            (Some(expected), Some(actual)) => write!(f, "expected {expected}, found {actual}"),
            (Some(expected), None) => write!(f, "expected {expected}, found nothing"),
            (None, Some(actual)) => write!(f, "expected nothing, found {actual}"),
            (None, None) => f.write_str("the same"),
        }
    }
}

/// Compares documents with expected ones, both as `{collection: {key: document}}`. A collection that is not among
/// the expected ones is not compared; numbers compare by value.
pub fn diff(actual: &Json, expected: &Json) -> Result<Vec<Difference>, Invalid> {
    let shape = || Invalid("expected documents as {collection: {key: document}}".into());
    let (Json::Object(actual), Json::Object(expected)) = (actual, expected) else {
        return Err(shape());
    };
    let mut differences = Vec::new();
    for (collection, expected) in expected.iter() {
        let Json::Object(expected) = expected else {
            return Err(shape());
        };
        let actual = match actual.get(collection) {
            Some(Json::Object(actual)) => actual,
            Some(_) => return Err(shape()),
            None => {
                let known: Vec<&str> = actual.iter().map(|(name, _)| name).collect();
                let message = format!("unknown collection {collection:?}: known are {}", known.join(", "));
                return Err(Invalid(message));
            }
        };
        for (key, expected, actual) in paired(expected, actual) {
            walk(expected, actual, &mut |path, expected, actual| {
                differences.push(Difference {
                    collection: collection.to_owned(),
                    key: key.to_owned(),
                    path: path.join("."),
                    expected: expected.cloned(),
                    actual: actual.cloned(),
                });
            });
        }
    }
    Ok(differences)
}
