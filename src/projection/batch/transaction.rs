//! What a batch does with the transactions of handlers: reads checked, changes taken in, documents read with their
//! positions.
//!
//! Invariants: a transaction whose reads do not hold leaves the batch as it was; what was handed over is written, so that what
//! is not changed has its position in the file. Does not know workers.

use bytes::Bytes;

use super::{Batch, check_indexes};
use crate::{
    event::Position,
    kv::KvError,
    projection::{
        declarative::Change,
        handler::transaction::{ReadDocument, TransactionError, TransactionStep, changes},
        key::Key,
        store::split_document,
    },
};

/// A read that does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {} of collection {}: {}", .read.key, .collection, self.difference())]
pub(crate) struct StaleRead {
    /// What was read.
    pub(crate) read: ReadDocument,
    /// The name of its collection.
    pub(crate) collection: Box<str>,
    /// The document's position; none if there is no such document.
    pub(crate) actual: Option<Position>,
}

impl StaleRead {
    fn difference(&self) -> String {
        let words = |position: Option<Position>| match position {
            Some(position) => format!("as of position {position}"),
            None => "missing".to_owned(),
        };
        format!("the worker saw it {}, and it is {}", words(self.read.position), words(self.actual))
    }
}

impl Batch {
    /// Passes all events up to this one, which change nothing.
    pub(crate) fn pass_to(&mut self, position: Position) {
        assert!(position >= self.state.cursor, "a batch never goes back");
        self.events += position.get() - self.state.cursor.get();
        self.state.cursor = position;
    }

    /// The first of these reads that does not hold.
    pub(crate) fn stale_read(&mut self, reads: &[ReadDocument]) -> Result<Option<StaleRead>, KvError> {
        for read in reads {
            let actual = self.position_of(read.collection, &read.key)?;
            if actual != read.position {
                let collection = self.store.definition().collections()[read.collection].name.clone();
                return Ok(Some(StaleRead { read: read.clone(), collection, actual }));
            }
        }
        Ok(None)
    }

    /// Applies a transaction as the event at `position`, which is behind the cursor; on an error the batch is as it was.
    pub(crate) fn apply_transaction(
        &mut self,
        position: Position,
        steps: Vec<TransactionStep>,
    ) -> Result<(), TransactionError> {
        assert!(position > self.state.cursor, "events are applied in order");
        self.change_as(position, steps)?;
        self.pass_to(position);
        Ok(())
    }

    /// Applies a transaction as an event that was passed before; its documents count as changed at `at`. On an error the
    /// batch is as it was.
    pub(crate) fn apply_transaction_late(
        &mut self,
        position: Position,
        at: Position,
        steps: Vec<TransactionStep>,
    ) -> Result<(), TransactionError> {
        assert!(position <= self.state.cursor, "only what was passed can be late");
        self.change_as(at, steps)?;
        self.ledger.note_late();
        Ok(())
    }

    fn change_as(&mut self, at: Position, steps: Vec<TransactionStep>) -> Result<(), TransactionError> {
        let changes = changes(steps, self)?;
        for change in &changes {
            check_indexes(&self.store, change).map_err(|error| TransactionError::Fault(error.to_string()))?;
        }
        for Change { collection, key, document } in changes {
            self.cache.change(collection, key, document, at);
        }
        Ok(())
    }

    /// The event that last changed a document; none if there is no such document.
    fn position_of(&mut self, collection: usize, key: &Key) -> Result<Option<Position>, KvError> {
        if let Some((document, position)) = self.cache.changed(collection, key) {
            return Ok(document.map(|_| position));
        }
        self.stored(collection, key, |position, _| position)
    }

    /// A document with its position, as canonical text.
    pub(crate) fn document(
        &mut self,
        collection: usize,
        key: &Key,
    ) -> Result<Option<(Position, Bytes)>, KvError> {
        if let Some((document, position)) = self.cache.changed(collection, key) {
            return Ok(document.map(|document| {
                let mut text = String::new();
                document.write(&mut text);
                (position, text.into())
            }));
        }
        self.stored(collection, key, |position, text| (position, Bytes::copy_from_slice(text)))
    }

    fn stored<T>(
        &mut self,
        collection: usize,
        key: &Key,
        read: impl FnOnce(Position, &[u8]) -> T,
    ) -> Result<Option<T>, KvError> {
        match self.tables()?[collection].get(key.as_bytes())? {
            None => Ok(None),
            Some(stored) => {
                let (position, text) = split_document(stored.value())?;
                Ok(Some(read(position, text)))
            }
        }
    }
}
