//! What the steps of one event have written so far, over the documents as they were.

use std::{collections::HashMap, sync::Arc};

use super::{Change, Documents, StoreFailure};
use crate::{
    expression::{EvaluateError, Found, Lookup},
    json::{Json, Object},
    projection::key::Key,
};

/// Writes of one event, each document once, in order of first touch.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    changes: Vec<Change>,
    /// Where the change of a document is; kept only when there are too many to look through.
    places: HashMap<(usize, Key), usize>,
}

/// Changes that are looked through one by one.
const LOOKED_THROUGH_MAX: usize = 16;

impl Overlay {
    fn find(&self, collection: usize, key: &Key) -> Option<usize> {
        if self.places.is_empty() {
            self.changes.iter().position(|change| change.collection == collection && change.key == *key)
        } else {
            self.places.get(&(collection, key.clone())).copied()
        }
    }

    pub(super) fn set(&mut self, collection: usize, key: Key, document: Option<Arc<Object>>) {
        if let Some(at) = self.find(collection, &key) {
            self.changes[at].document = document;
            return;
        }
        if !self.places.is_empty() {
            self.places.insert((collection, key.clone()), self.changes.len());
        }
        self.changes.push(Change { collection, key, document });
        if self.places.is_empty() && self.changes.len() > LOOKED_THROUGH_MAX {
            let places = self.changes.iter().enumerate();
            self.places = places.map(|(at, change)| ((change.collection, change.key.clone()), at)).collect();
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// The documents as the next step sees them.
pub(super) struct Store<'d> {
    documents: &'d mut dyn Documents,
    pub(super) overlay: Overlay,
    /// Set when the documents could not be read; then nothing else counts.
    pub(super) failure: Option<StoreFailure>,
}

impl<'d> Store<'d> {
    pub(super) fn new(documents: &'d mut dyn Documents) -> Self {
        Self { documents, overlay: Overlay::default(), failure: None }
    }

    pub(super) fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, EvaluateError> {
        if let Some(at) = self.overlay.find(collection, key) {
            return Ok(self.overlay.changes[at].document.clone());
        }
        self.documents.get(collection, key).map_err(|failure| {
            self.failure = Some(failure);
            EvaluateError::fatal("the documents could not be read".into())
        })
    }
}

impl Lookup for Store<'_> {
    fn lookup(&mut self, collection: usize, key: &Json) -> Result<Found, EvaluateError> {
        let key = Key::from_json(key).map_err(|invalid| EvaluateError::new(invalid.0))?;
        self.get(collection, &key)
    }
}
