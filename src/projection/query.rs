//! Reads of one version's documents, from one snapshot.
//!
//! Owns what Get, `BatchGet`, List and Explain mean. Invariants: an answer comes from one snapshot and says which; work
//! and size of an answer are bounded; a page token continues exactly the query it came from. Deliberately does not know
//! gRPC, how a version is found (`registry`), or how long a read waits (`query::freshness`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    event::{Position, Token},
    json::Json,
    limits::BATCH_GET_KEYS_MAX,
    projection::{
        key::Key,
        store::{Snapshot, split_document},
    },
};

mod error;
pub(crate) mod freshness;
mod plan;
mod scan;

pub use error::QueryError;
use plan::Plan;

/// Which version answers and how fresh it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Absent: the active one.
    pub version: Option<u32>,
    /// Wait until this point of the log is visible.
    pub at_least: Option<Token>,
    /// How long to wait; absent: 5 s.
    pub timeout: Option<Duration>,
    /// When the wait ends without success: answer with what is there, marked as stale.
    pub allow_stale: bool,
}

/// What every answer says about its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadContext {
    /// The projection.
    pub projection: Arc<str>,
    /// The version that answered.
    pub version: u32,
    /// All events up to this position are in the answer, none above it.
    pub as_of: Position,
    /// The log's last durable position at the time of the answer.
    pub head: Position,
    /// The snapshot is older than was asked for.
    pub stale: bool,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: Key,
    /// A JSON object as canonical text.
    pub value: Bytes,
    /// The event that last changed it.
    pub position: Position,
}

/// What a List selects, how, and how much of it at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// The collection.
    pub collection: String,
    /// Which documents, in which order.
    pub selection: Selection,
    /// A boolean expression over `doc` and `key`.
    pub filter: Option<String>,
    /// The order goes down.
    pub descending: bool,
    /// 1 to 1,000; absent: 100.
    pub page_size: Option<u32>,
    /// The token of the page before.
    pub page_token: Option<String>,
}

/// Which documents, in which order.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// By key: all that satisfy what is given.
    Keys {
        /// Keys that begin with these parts; where the last is text, it may be a prefix itself.
        prefix: Option<Key>,
        /// From this key on.
        from: Option<Key>,
        /// Below this key.
        to: Option<Key>,
    },
    /// By index.
    Index {
        /// The index.
        index: String,
        /// What its first fields equal.
        equals: Vec<Json>,
        /// The field behind them is this or above.
        from: Option<Json>,
        /// The field behind them is below this.
        to: Option<Json>,
    },
}

impl Selection {
    /// Everything, in order of key.
    pub const fn all() -> Self {
        Self::Keys { prefix: None, from: None, to: None }
    }
}

/// A page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub documents: Vec<Document>,
    /// Absent on the last page.
    pub next_page_token: Option<String>,
    /// How many documents were looked at.
    pub scanned: usize,
}

/// How a List would be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `KEYS` or `INDEX`, then what is scanned, in words.
    pub plan: String,
    /// The index used.
    pub index: Option<String>,
    /// The filter in its normal form.
    pub filter: Option<String>,
    /// The documents in the collection.
    pub collection_size: u64,
    /// The entries in the scanned range, counted up to the scan limit.
    pub range_size: u64,
}

/// One snapshot of one version, ready to answer.
#[derive(Debug)]
pub struct Reading {
    snapshot: Snapshot,
    context: ReadContext,
}

impl Reading {
    pub(crate) const fn new(snapshot: Snapshot, context: ReadContext) -> Self {
        Self { snapshot, context }
    }

    /// What its answers say about their snapshot.
    pub const fn context(&self) -> &ReadContext {
        &self.context
    }

    /// One document; an error if there is none.
    pub fn get(&self, collection: &str, key: &Key) -> Result<Document, QueryError> {
        let mut found = self.batch_get(collection, std::slice::from_ref(key))?;
        found.pop().flatten().ok_or_else(|| QueryError::DocumentNotFound {
            projection: self.context.projection.to_string(),
            collection: collection.to_owned(),
            key: key.to_string(),
        })
    }

    /// One document, or none, for each key.
    pub fn batch_get(&self, collection: &str, keys: &[Key]) -> Result<Vec<Option<Document>>, QueryError> {
        let at = self.collection(collection)?;
        if keys.is_empty() || keys.len() > BATCH_GET_KEYS_MAX {
            let expected = format!("expected 1 to {BATCH_GET_KEYS_MAX} keys, found {}", keys.len());
            return Err(QueryError::limit("keys", expected, BATCH_GET_KEYS_MAX, keys.len()));
        }
        let table = self.snapshot.documents(at)?;
        let get = |key: &Key| match table.get(&key.encode()[..]) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => document(key.clone(), stored.value()).map(Some),
            Err(error) => Err(QueryError::File(error.into())),
        };
        keys.iter().map(get).collect()
    }

    /// A page of documents.
    pub fn list(&self, query: &ListQuery) -> Result<Page, QueryError> {
        let plan = Plan::new(self, query)?;
        scan::page(self, &plan)
    }

    /// How `list` would answer.
    pub fn explain(&self, query: &ListQuery) -> Result<Explanation, QueryError> {
        let plan = Plan::new(self, query)?;
        Ok(Explanation {
            plan: plan.words(),
            index: plan.index_name().map(str::to_owned),
            filter: plan.filter_normal_form(),
            collection_size: scan::collection_size(self, &plan)?,
            range_size: scan::range_size(self, &plan)?,
        })
    }

    fn collection(&self, name: &str) -> Result<usize, QueryError> {
        let definition = self.snapshot.definition();
        definition.collection(name).ok_or_else(|| QueryError::UnknownCollection {
            projection: definition.name().to_owned(),
            version: definition.version(),
            collection: name.to_owned(),
            known: definition.collections().iter().map(|at| at.name.to_string()).collect(),
        })
    }
}

fn document(key: Key, stored: &[u8]) -> Result<Document, QueryError> {
    let (position, text) = split_document(stored)?;
    Ok(Document { key, value: Bytes::copy_from_slice(text), position })
}

#[cfg(test)]
mod tests;
