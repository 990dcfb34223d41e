//! Reads of one version's documents, from one snapshot.
//!
//! Owns what Get, `BatchGet`, List, Count and Explain mean. Invariants: an answer comes from one snapshot and says which; work
//! and size of an answer are bounded; a page token continues exactly the query it came from. Deliberately does not know
//! gRPC, how a version is found (`registry`), or how long a read waits (`query::freshness`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    event::{Position, Token},
    json::Json,
    kv::KvError,
    limits::BATCH_GET_KEYS_MAX,
    projection::{
        failure::OnError,
        key::Key,
        store::{Snapshot, split_document},
    },
};

mod error;
pub(crate) mod freshness;
mod mask;
mod plan;
mod scan;
mod stream;
mod wire;

pub use error::QueryError;
pub(crate) use mask::Mask;
pub(crate) use plan::Plan;
use scan::Sink as _;
pub(crate) use scan::{decode_key, masked, selects};
pub use stream::Pages;
use wire::WireDocuments;

/// Which version answers and how fresh it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Absent: the active one.
    pub version: Option<u32>,
    /// The standing version of this label answers.
    pub label: Option<String>,
    /// The version that this release names answers, unless `version` or `label` say otherwise.
    pub release: Option<String>,
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
    /// Parked events would change the collection asked for.
    pub incomplete: bool,
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
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Only these fields of the documents; none: whole documents.
    pub fields: Vec<String>,
    /// The standing version that is asked; its tokens go on nowhere else.
    pub label: Option<String>,
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

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

impl Selection {
    /// Everything, in order of key.
    pub const fn all() -> Self {
        Self::Keys { prefix: None, from: None, to: None }
    }
}

/// A page of documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub documents: Vec<Document>,
    /// Absent on the last page.
    pub next_page_token: Option<String>,
    /// How many documents were looked at.
    pub scanned: usize,
    /// It ended because it had looked at as many documents as a call may.
    pub scan_limit_hit: bool,
}

/// How many documents a query selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Those counted by this call.
    pub count: u64,
    /// Goes on counting; present where the call had looked at as many documents as it may.
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
    snapshot: Arc<Snapshot>,
    context: ReadContext,
}

impl Reading {
    pub(crate) fn new(snapshot: impl Into<Arc<Snapshot>>, context: ReadContext) -> Self {
        Self { snapshot: snapshot.into(), context }
    }

    /// What its answers say about their snapshot.
    pub const fn context(&self) -> &ReadContext {
        &self.context
    }

    /// The same, to those who ask for this collection.
    pub fn context_of(&self, collection: &str) -> Result<ReadContext, QueryError> {
        match self.snapshot.definition().collection(collection) {
            Some(at) => self.context_at(at),
            None => Ok(self.context.clone()),
        }
    }

    /// The same by the collection's number.
    pub(crate) fn context_at(&self, collection: usize) -> Result<ReadContext, QueryError> {
        // Only a version that parks events can lack some.
        let incomplete = match self.snapshot.definition().on_error() {
            OnError::Quarantine => self.snapshot.counts()?.is_incomplete(collection),
            OnError::Pause | OnError::Skip => false,
        };
        Ok(ReadContext { incomplete, ..self.context.clone() })
    }

    /// One document; an error if there is none. `fields`: only these; none: all.
    pub fn get(&self, collection: &str, key: &Key, fields: &[String]) -> Result<Document, QueryError> {
        let mut found = self.batch_get(collection, std::slice::from_ref(key), fields)?;
        found.pop().flatten().ok_or_else(|| self.not_found(collection, key))
    }

    fn not_found(&self, collection: &str, key: &Key) -> QueryError {
        QueryError::DocumentNotFound {
            projection: self.context.projection.to_string(),
            collection: collection.to_owned(),
            key: key.to_string(),
        }
    }

    /// One document as the field `document` of a `GetResponse`; an error if there is none.
    pub(crate) fn get_wire(
        &self,
        collection: &str,
        key: &Key,
        fields: &[String],
    ) -> Result<Vec<u8>, QueryError> {
        let at = plan::find_collection(self.snapshot.definition(), collection)?;
        let mask = Mask::new(fields)?;
        let encoded = key.as_bytes();
        let stored = self.snapshot.shared_documents(at)?.get(encoded).map_err(KvError::from)?;
        let stored = stored.ok_or_else(|| self.not_found(collection, key))?;
        let (position, text) = split_document(stored.value())?;
        let mut documents = WireDocuments::default();
        match mask {
            None => documents.take(encoded, position, text)?,
            Some(mask) => documents.take(encoded, position, &masked(&mask, encoded, text)?)?,
        }
        Ok(documents.0)
    }

    /// One document, or none, for each key. `fields`: only these; none: all.
    pub fn batch_get(
        &self,
        collection: &str,
        keys: &[Key],
        fields: &[String],
    ) -> Result<Vec<Option<Document>>, QueryError> {
        let at = plan::find_collection(self.snapshot.definition(), collection)?;
        if keys.is_empty() || keys.len() > BATCH_GET_KEYS_MAX {
            let expected = format!("expected 1 to {BATCH_GET_KEYS_MAX} keys, found {}", keys.len());
            return Err(QueryError::limit("keys", expected, BATCH_GET_KEYS_MAX, keys.len()));
        }
        let mask = Mask::new(fields)?;
        let table = self.snapshot.shared_documents(at)?;
        let get = |key: &Key| match table.get(key.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => document(key, stored.value(), mask.as_ref()).map(Some),
            Err(error) => Err(QueryError::File(error.into())),
        };
        keys.iter().map(get).collect()
    }

    /// A page of documents.
    pub fn list(&self, query: &ListQuery) -> Result<Page, QueryError> {
        let plan = Plan::new(self.snapshot.definition(), query)?;
        self.page(&plan).map(|(page, _)| page)
    }

    /// The same, its documents as the fields `documents` of a `ListResponse`, and the page without them.
    pub(crate) fn list_wire(&self, query: &ListQuery) -> Result<(Vec<u8>, Page), QueryError> {
        let plan = Plan::new(self.snapshot.definition(), query)?;
        let mut documents = WireDocuments::default();
        let end = scan::page(&self.snapshot, &plan, &mut documents)?;
        let (page, _) = self.page_of(&plan, Vec::new(), end);
        Ok((documents.0, page))
    }

    /// How many documents `list` would find, page after page.
    pub fn count(&self, query: &ListQuery) -> Result<Count, QueryError> {
        let plan = Plan::new(self.snapshot.definition(), query)?;
        let end = scan::count(&self.snapshot, &plan)?;
        let next_page_token = end.last.map(|last| plan.token(self.snapshot.definition(), last));
        Ok(Count { count: end.selected as u64, next_page_token, scanned: end.scanned })
    }

    /// How `list` would answer.
    pub fn explain(&self, query: &ListQuery) -> Result<Explanation, QueryError> {
        let plan = Plan::new(self.snapshot.definition(), query)?;
        Ok(Explanation {
            plan: plan.words(),
            index: plan.index_name().map(str::to_owned),
            filter: plan.filter_normal_form(),
            collection_size: scan::collection_size(&self.snapshot, &plan)?,
            range_size: scan::range_size(&self.snapshot, &plan)?,
        })
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A page, and its last entry if there is more behind it.
    pub(crate) fn page(&self, plan: &Plan) -> Result<(Page, Option<Vec<u8>>), QueryError> {
        let mut documents = Vec::new();
        let end = scan::page(&self.snapshot, plan, &mut documents)?;
        Ok(self.page_of(plan, documents, end))
    }

    fn page_of(&self, plan: &Plan, documents: Vec<Document>, end: scan::End) -> (Page, Option<Vec<u8>>) {
        let last = end.last.clone();
        let next_page_token = end.last.map(|last| plan.token(self.snapshot.definition(), last));
        let page = Page { documents, next_page_token, scanned: end.scanned, scan_limit_hit: end.limit_hit };
        (page, last)
    }
}

fn document(key: &Key, stored: &[u8], mask: Option<&Mask>) -> Result<Document, QueryError> {
    let (position, text) = split_document(stored)?;
    let value = match mask {
        None => Bytes::copy_from_slice(text),
        Some(mask) => masked(mask, key.as_bytes(), text)?.into(),
    };
    Ok(Document { key: key.clone(), value, position })
}

/// Documents as bytes, for tests of what they are on the wire.
#[cfg(test)]
pub(crate) fn wire_documents(documents: &[Document]) -> Vec<u8> {
    let mut wire = WireDocuments::default();
    for document in documents {
        wire.take(&document.key.encode(), document.position, &document.value).unwrap();
    }
    wire.0
}

#[cfg(test)]
mod tests;
