//! Walks the range of a plan: gathers one page, or counts.
//!
//! Invariants: a document comes once, at the first of its entries in the query's range; a walk ends at the size or bytes
//! of its page, or at the documents looked at, whichever is first, and says which. Does not check queries.

use redb::ReadOnlyTable;

use super::{Document, QueryError, plan::Plan};
use crate::{
    event::Position,
    json::Json,
    kv::KvError,
    limits::{COUNT_SCAN_MAX, LIST_SCAN_MAX},
    projection::{
        entries::entries,
        key::Key,
        store::{Snapshot, split_document, split_entry},
    },
};

/// Where the documents of a page go.
pub(super) trait Sink {
    /// Takes a document: its encoded key, position and canonical text.
    fn take(&mut self, key: &[u8], position: Position, text: &[u8]) -> Result<(), QueryError>;
}

impl Sink for Vec<Document> {
    fn take(&mut self, key: &[u8], position: Position, text: &[u8]) -> Result<(), QueryError> {
        let value = bytes::Bytes::copy_from_slice(text);
        self.push(Document { key: decode_key(key)?, value, position });
        Ok(())
    }
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The last entry looked at, if there is more behind it.
    pub(super) last: Option<Vec<u8>>,
    /// Documents selected.
    pub(super) selected: usize,
    /// Documents looked at.
    pub(super) scanned: usize,
    /// It ended because it had looked at so many documents.
    pub(super) limit_hit: bool,
}

/// One page of the plan's documents.
pub(super) fn page(snapshot: &Snapshot, plan: &Plan, sink: &mut impl Sink) -> Result<End, QueryError> {
    let mut bytes = 0;
    walk(snapshot, plan, LIST_SCAN_MAX, Some(plan.page_size), |candidate, selected| {
        candidate.with(|stored| {
            if selected > 0 && bytes + stored.len() > plan.bytes_max {
                return Ok(false);
            }
            bytes += stored.len();
            let (position, text) = split_document(stored)?;
            match &plan.mask {
                None => sink.take(candidate.key, position, text)?,
                Some(mask) => sink.take(candidate.key, position, &masked(mask, candidate.key, text)?)?,
            }
            Ok(true)
        })
    })
}

/// How many documents the plan selects, from where it resumes.
pub(super) fn count(snapshot: &Snapshot, plan: &Plan) -> Result<End, QueryError> {
    if plan.is_whole_collection() {
        let selected = collection_size(snapshot, plan)? as usize;
        return Ok(End { last: None, selected, scanned: 0, limit_hit: false });
    }
    walk(snapshot, plan, COUNT_SCAN_MAX, None, |_, _| Ok(true))
}

/// The documents in the plan's collection.
pub(super) fn collection_size(snapshot: &Snapshot, plan: &Plan) -> Result<u64, QueryError> {
    Ok(snapshot.document_count(plan.collection)?)
}

/// The entries in the plan's range, up to the scan limit.
pub(super) fn range_size(snapshot: &Snapshot, plan: &Plan) -> Result<u64, QueryError> {
    let count = match plan.index {
        None => count_entries(&snapshot.documents(plan.collection)?, plan)?,
        Some((index, _)) => count_entries(&snapshot.index(plan.collection, index)?, plan)?,
    };
    Ok(count as u64)
}

fn count_entries<V: redb::Value>(
    table: &ReadOnlyTable<&'static [u8], V>,
    plan: &Plan,
) -> Result<usize, KvError> {
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

/// A document's canonical text, as a mask leaves it.
pub(crate) fn masked(mask: &super::Mask, key: &[u8], text: &[u8]) -> Result<Vec<u8>, QueryError> {
    mask.apply(text).ok_or_else(|| damaged(key, "its text is not canonical"))
}

/// An entry of the range that is walked.
struct Candidate<'a> {
    entry: &'a [u8],
    /// The document's key, encoded.
    key: &'a [u8],
    /// The document has more entries in the index.
    several: bool,
    stored: Stored<'a>,
}

/// The document of an entry.
enum Stored<'a> {
    Here(&'a [u8]),
    In(&'a ReadOnlyTable<&'static [u8], &'static [u8]>),
}

impl Candidate<'_> {
    /// Looks at the stored document.
    fn with<T>(&self, look: impl FnOnce(&[u8]) -> Result<T, QueryError>) -> Result<T, QueryError> {
        match self.stored {
            Stored::Here(stored) => look(stored),
            Stored::In(documents) => {
                let stored = documents.get(self.key).map_err(KvError::from)?;
                let missing = || KvError::Damaged("an index entry has no document".into());
                look(stored.ok_or_else(missing)?.value())
            }
        }
    }

    fn is_selected(&self, plan: &Plan) -> Result<bool, QueryError> {
        if plan.filter.is_none() && !self.several {
            return Ok(true);
        }
        self.with(|stored| {
            let document = parse(self.key, split_document(stored)?.1)?;
            if self.several && !self.is_first(plan, &document) {
                return Ok(false);
            }
            passes(plan, self.key, &document)
        })
    }

    /// Whether this is the first of the document's entries that the whole scan meets.
    fn is_first(&self, plan: &Plan, document: &Json) -> bool {
        let (Some((_, index)), Json::Object(document)) = (&plan.index, document) else {
            return true;
        };
        let entries = entries(index, document, self.key);
        let mut inside = entries.iter().filter(|entry| plan.has_in_range(entry));
        let first = if plan.descending { inside.next_back() } else { inside.next() };
        first.is_some_and(|first| first == self.entry)
    }
}

/// Walks from where the plan resumes; `take` gets what is selected and how much was before it, and says `false` to end
/// in front of it.
fn walk(
    snapshot: &Snapshot,
    plan: &Plan,
    scan_max: usize,
    selected_max: Option<usize>,
    mut take: impl FnMut(&Candidate<'_>, usize) -> Result<bool, QueryError>,
) -> Result<End, QueryError> {
    let mut end = End { last: None, selected: 0, scanned: 0, limit_hit: false };
    let mut last = Vec::new();
    // Gives whether the walk goes on.
    let mut offer = |candidate: &Candidate<'_>| -> Result<bool, QueryError> {
        if Some(end.selected) == selected_max || end.scanned == scan_max {
            end.limit_hit = end.scanned == scan_max;
            return Ok(false);
        }
        if candidate.is_selected(plan)? {
            if !take(candidate, end.selected)? {
                return Ok(false);
            }
            end.selected += 1;
        }
        end.scanned += 1;
        last.clear();
        last.extend_from_slice(candidate.entry);
        Ok(true)
    };
    let whole = match plan.index {
        None => walk_keys(snapshot, plan, &mut offer)?,
        Some((index, _)) => walk_index(snapshot, plan, index, &mut offer)?,
    };
    end.last = (!whole).then_some(last);
    Ok(end)
}

/// Gives whether it came to the end of the range.
fn walk_keys(
    snapshot: &Snapshot,
    plan: &Plan,
    offer: &mut impl FnMut(&Candidate<'_>) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    let table = snapshot.shared_documents(plan.collection)?;
    let Some(bounds) = plan.bounds() else {
        return Ok(true);
    };
    let mut range = table.range::<&[u8]>(bounds).map_err(KvError::from)?;
    while let Some(row) = if plan.descending { range.next_back() } else { range.next() } {
        let (key, stored) = row.map_err(KvError::from)?;
        let key = key.value();
        let stored = Stored::Here(stored.value());
        if !offer(&Candidate { entry: key, key, several: false, stored })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives whether it came to the end of the range.
fn walk_index(
    snapshot: &Snapshot,
    plan: &Plan,
    index: usize,
    offer: &mut impl FnMut(&Candidate<'_>) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    let documents = snapshot.shared_documents(plan.collection)?;
    let table = snapshot.index(plan.collection, index)?;
    let Some(bounds) = plan.bounds() else {
        return Ok(true);
    };
    let mut range = table.range::<&[u8]>(bounds).map_err(KvError::from)?;
    while let Some(row) = if plan.descending { range.next_back() } else { range.next() } {
        let (entry, value) = row.map_err(KvError::from)?;
        let entry = entry.value();
        let (key, several) = split_entry(entry, value.value())?;
        if !offer(&Candidate { entry, key, several, stored: Stored::In(documents) })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a document, whatever led to it, is one of those that the plan selects.
pub(crate) fn selects(plan: &Plan, key: &[u8], text: &[u8]) -> Result<bool, QueryError> {
    match &plan.index {
        None if !plan.has_in_range(key) => return Ok(false),
        None if plan.filter.is_none() => return Ok(true),
        _ => {}
    }
    let document = parse(key, text)?;
    if let (Some((_, index)), Json::Object(document)) = (&plan.index, &document)
        && !entries(index, document, key).iter().any(|entry| plan.has_in_range(entry))
    {
        return Ok(false);
    }
    passes(plan, key, &document)
}

/// The key that these bytes stand for.
pub(crate) fn decode_key(key: &[u8]) -> Result<Key, QueryError> {
    Ok(Key::decode(key).map_err(|invalid| KvError::Damaged(invalid.0))?)
}

fn passes(plan: &Plan, key: &[u8], document: &Json) -> Result<bool, QueryError> {
    let Some(filter) = &plan.filter else {
        return Ok(true);
    };
    let key = decode_key(key)?;
    filter
        .evaluate_bool(&[document, &key.to_json()])
        .map_err(|error| QueryError::FilterFailed { key: key.to_string(), message: error.to_string() })
}

fn parse(key: &[u8], text: &[u8]) -> Result<Json, QueryError> {
    Json::parse_stored(text).map_err(|invalid| damaged(key, &invalid.0))
}

fn damaged(key: &[u8], what: &str) -> QueryError {
    let key = Key::decode(key).map_or_else(|invalid| invalid.0, |key| key.to_string());
    KvError::Damaged(format!("document {key}: {what}")).into()
}
