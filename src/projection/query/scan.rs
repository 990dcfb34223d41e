//! Walks the range of a plan and gathers one page.
//!
//! Invariants: a document comes once, at the first of its entries in the query's range; a page ends at its size, its
//! bytes or the documents looked at, whichever is first. Does not check queries.

use redb::ReadOnlyTable;

use super::{Document, Page, QueryError, Reading, document, plan::Plan};
use crate::{
    json::Json,
    kv::KvError,
    limits::{LIST_BYTES_MAX, LIST_SCAN_MAX},
    projection::{
        entries::entries,
        key::Key,
        page::PageToken,
        store::{split_document, split_entry},
    },
};

/// One page of the plan's documents.
pub(super) fn page(reading: &Reading, plan: &Plan) -> Result<Page, QueryError> {
    let mut gathered = Gathered::new(plan);
    let more = match plan.index {
        None => scan_keys(reading, plan, &mut gathered)?,
        Some((index, _)) => scan_index(reading, plan, index, &mut gathered)?,
    };
    let next = more.then(|| PageToken {
        projection: crc32c::crc32c(reading.context.projection.as_bytes()),
        version: reading.context.version,
        definition: std::array::from_fn(|at| reading.snapshot.definition().hash()[at]),
        fingerprint: plan.fingerprint,
        last: gathered.last,
    });
    Ok(Page {
        documents: gathered.documents,
        next_page_token: next.map(|token| token.encode()),
        scanned: gathered.scanned,
    })
}

/// The documents in the plan's collection.
pub(super) fn collection_size(reading: &Reading, plan: &Plan) -> Result<u64, QueryError> {
    Ok(reading.snapshot.document_count(plan.collection)?)
}

/// The entries in the plan's range, up to the scan limit.
pub(super) fn range_size(reading: &Reading, plan: &Plan) -> Result<u64, QueryError> {
    let count = match plan.index {
        None => count(&reading.snapshot.documents(plan.collection)?, plan)?,
        Some((index, _)) => count(&reading.snapshot.index(plan.collection, index)?, plan)?,
    };
    Ok(count as u64)
}

fn count<V: redb::Value>(table: &ReadOnlyTable<&'static [u8], V>, plan: &Plan) -> Result<usize, KvError> {
    let Some(bounds) = plan.bounds() else {
        return Ok(0);
    };
    let mut count = 0;
    for row in table.range::<&[u8]>(bounds)?.take(LIST_SCAN_MAX) {
        row?;
        count += 1;
    }
    Ok(count)
}

/// Gives whether there is more behind the page.
fn scan_keys(reading: &Reading, plan: &Plan, gathered: &mut Gathered<'_>) -> Result<bool, QueryError> {
    let table = reading.snapshot.documents(plan.collection)?;
    let Some(bounds) = plan.bounds() else {
        return Ok(false);
    };
    let mut range = table.range::<&[u8]>(bounds).map_err(KvError::from)?;
    while let Some(row) = if plan.descending { range.next_back() } else { range.next() } {
        let (key, stored) = row.map_err(KvError::from)?;
        if !gathered.offer(key.value(), key.value(), stored.value(), false)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives whether there is more behind the page.
fn scan_index(
    reading: &Reading,
    plan: &Plan,
    index: usize,
    gathered: &mut Gathered<'_>,
) -> Result<bool, QueryError> {
    let documents = reading.snapshot.documents(plan.collection)?;
    let table = reading.snapshot.index(plan.collection, index)?;
    let Some(bounds) = plan.bounds() else {
        return Ok(false);
    };
    let mut range = table.range::<&[u8]>(bounds).map_err(KvError::from)?;
    while let Some(row) = if plan.descending { range.next_back() } else { range.next() } {
        let (entry, value) = row.map_err(KvError::from)?;
        let (key, several) = split_entry(entry.value(), value.value())?;
        let stored = documents.get(key).map_err(KvError::from)?;
        let stored = stored.ok_or_else(|| KvError::Damaged("an index entry has no document".into()))?;
        if !gathered.offer(entry.value(), key, stored.value(), several)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A page in the making.
struct Gathered<'a> {
    plan: &'a Plan,
    documents: Vec<Document>,
    bytes: usize,
    scanned: usize,
    /// The last entry looked at.
    last: Vec<u8>,
}

impl<'a> Gathered<'a> {
    const fn new(plan: &'a Plan) -> Self {
        Self { plan, documents: Vec::new(), bytes: 0, scanned: 0, last: Vec::new() }
    }

    /// Takes one more document where it belongs to the page; `false`: the page is full, and this one is behind it.
    fn offer(&mut self, entry: &[u8], key: &[u8], stored: &[u8], several: bool) -> Result<bool, QueryError> {
        if self.documents.len() == self.plan.page_size || self.scanned == LIST_SCAN_MAX {
            return Ok(false);
        }
        let key = Key::decode(key).map_err(|invalid| KvError::Damaged(invalid.0))?;
        if self.selects(entry, &key, stored, several)? {
            if self.bytes + stored.len() > LIST_BYTES_MAX && !self.documents.is_empty() {
                return Ok(false);
            }
            self.bytes += stored.len();
            self.documents.push(document(key, stored)?);
        }
        self.scanned += 1;
        self.last.clear();
        self.last.extend_from_slice(entry);
        Ok(true)
    }

    fn selects(&self, entry: &[u8], key: &Key, stored: &[u8], several: bool) -> Result<bool, QueryError> {
        if self.plan.filter.is_none() && !several {
            return Ok(true);
        }
        let (_, text) = split_document(stored)?;
        let document = Json::parse_stored(text)
            .map_err(|invalid| KvError::Damaged(format!("document {key}: {invalid}")))?;
        if several && !self.is_first(entry, key, &document) {
            return Ok(false);
        }
        let Some(filter) = &self.plan.filter else {
            return Ok(true);
        };
        filter
            .evaluate_bool(&[&document, &key.to_json()])
            .map_err(|error| QueryError::FilterFailed { key: key.to_string(), message: error.to_string() })
    }

    /// Whether this is the first of the document's entries that the whole scan meets.
    fn is_first(&self, entry: &[u8], key: &Key, document: &Json) -> bool {
        let (Some((_, index)), Json::Object(document)) = (&self.plan.index, document) else {
            return true;
        };
        let entries = entries(index, document, &key.encode());
        let end = self.plan.end.as_ref();
        let mut inside =
            entries.iter().filter(|entry| **entry >= self.plan.start && end.is_none_or(|end| *entry < end));
        let first = if self.plan.descending { inside.next_back() } else { inside.next() };
        first.is_some_and(|first| first == entry)
    }
}
