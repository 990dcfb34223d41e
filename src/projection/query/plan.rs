//! What a List scans: a range of bytes in one table, from where, in which direction, filtered by what.
//!
//! A plan is a checked query: whoever holds one need not check it again. Does not read documents.

use std::ops::Bound;

use super::{ListQuery, Mask, QueryError, Selection};
use crate::{
    expression::Expression,
    json::Json,
    limits::{EXPRESSION_BYTES_MAX, LIST_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX},
    projection::{
        definition::{Definition, IndexDefinition},
        entries::{QUERY_TEXT_BYTES_MAX, encode_indexed},
        key::{Key, prefix_end},
        page::{Fingerprint, PageToken, fingerprint},
    },
};

/// From where to where a table is scanned.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A checked query.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) collection: usize,
    /// The index's place and definition; `None`: keys are scanned.
    pub(crate) index: Option<(usize, IndexDefinition)>,
    /// The whole range of the query: from here on (inclusive) ...
    pub(crate) start: Vec<u8>,
    /// ... to here (exclusive; `None`: to the end).
    pub(crate) end: Option<Vec<u8>>,
    /// The last entry of the page before.
    pub(crate) resume: Option<Vec<u8>>,
    pub(super) descending: bool,
    pub(crate) filter: Option<Expression>,
    pub(crate) mask: Option<Mask>,
    pub(crate) page_size: usize,
    /// Bytes of stored documents on one page; one document may exceed it alone.
    pub(crate) bytes_max: usize,
    pub(crate) fingerprint: Fingerprint,
    words: String,
}

impl Plan {
    /// Checks a query against what the version has.
    pub(crate) fn new(definition: &Definition, query: &ListQuery) -> Result<Self, QueryError> {
        let collection = find_collection(definition, &query.collection)?;
        let page_size = check_page_size(query.page_size)?;
        let filter = query.filter.as_deref().map(compile).transpose()?;
        let range = match &query.selection {
            Selection::Keys { prefix, from, to } => keys(prefix.as_ref(), from.as_ref(), to.as_ref()),
            Selection::Index { index, equals, from, to } => {
                let (at, index) = find_index(definition, collection, index)?;
                by_index(at, index, equals, from.as_ref(), to.as_ref())?
            }
        };
        let fingerprint = fingerprint_of(definition.name(), query, &range);
        let resume = match &query.page_token {
            None => None,
            Some(text) => Some(resume(definition, text, &fingerprint)?),
        };
        let order = if query.descending { "descending" } else { "ascending" };
        Ok(Self {
            collection,
            words: format!("{} of collection {}, {order}", range.words, query.collection),
            index: range.index,
            start: range.start,
            end: range.end,
            resume,
            descending: query.descending,
            filter,
            mask: Mask::new(&query.fields)?,
            page_size,
            bytes_max: LIST_BYTES_MAX,
            fingerprint,
        })
    }

    /// The token of a page of `definition` that ended with this entry.
    pub(super) fn token(&self, definition: &Definition, last: Vec<u8>) -> String {
        let token = PageToken {
            projection: crc32c::crc32c(definition.name().as_bytes()),
            version: definition.version(),
            definition: std::array::from_fn(|at| definition.hash()[at]),
            fingerprint: self.fingerprint,
            last,
        };
        token.encode()
    }

    /// Whether a key or index entry lies in the query's range.
    pub(crate) fn has_in_range(&self, entry: &[u8]) -> bool {
        entry >= &self.start[..] && self.end.as_deref().is_none_or(|end| entry < end)
    }

    /// Whether nothing but the collection was asked for.
    pub(super) fn is_whole_collection(&self) -> bool {
        let all = self.start.is_empty() && self.end.is_none();
        all && self.index.is_none() && self.filter.is_none() && self.resume.is_none()
    }

    pub(super) fn words(&self) -> String {
        self.words.clone()
    }

    pub(super) fn index_name(&self) -> Option<&str> {
        self.index.as_ref().map(|(_, index)| &*index.name)
    }

    pub(super) fn filter_normal_form(&self) -> Option<String> {
        self.filter.as_ref().map(Expression::normal_form)
    }

    /// What is left to scan; `None` if nothing can be there.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        let resume = self.resume.as_deref();
        let (start, end) = match (self.descending, resume) {
            (false, Some(last)) => (Bound::Excluded(last), self.end.as_deref()),
            (true, Some(last)) => (Bound::Included(&self.start[..]), Some(last)),
            (_, None) => (Bound::Included(&self.start[..]), self.end.as_deref()),
        };
        let Some(end) = end else {
            return Some((start, Bound::Unbounded));
        };
        let (Bound::Included(low) | Bound::Excluded(low)) = start else {
            return None;
        };
        (low < end).then_some((start, Bound::Excluded(end)))
    }
}

/// A range of one table.
struct Range {
    index: Option<(usize, IndexDefinition)>,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    words: String,
}

fn keys(prefix: Option<&Key>, from: Option<&Key>, to: Option<&Key>) -> Range {
    let prefix_bytes = prefix.map(Key::encode_prefix).unwrap_or_default();
    let start = from.map(Key::encode).unwrap_or_default().max(prefix_bytes.clone());
    let ends = [prefix_end(&prefix_bytes), to.map(Key::encode)];
    let mut words = Vec::new();
    words.extend(prefix.map(|prefix| format!("with prefix {}", prefix.to_json())));
    words.extend(from.map(|from| format!("from {}", from.to_json())));
    words.extend(to.map(|to| format!("below {}", to.to_json())));
    let words = if words.is_empty() { "all".to_owned() } else { words.join(", ") };
    Range { index: None, start, end: ends.into_iter().flatten().min(), words: format!("KEYS {words}") }
}

fn by_index(
    at: usize,
    index: IndexDefinition,
    equals: &[Json],
    from: Option<&Json>,
    to: Option<&Json>,
) -> Result<Range, QueryError> {
    let fields = index.paths.len();
    if equals.len() > fields {
        let message = format!("index {} has {fields} fields, found {} values", index.name, equals.len());
        return Err(QueryError::limit("index.equals", message, fields, equals.len()));
    }
    let mut words = Vec::new();
    let mut prefix = Vec::new();
    for (path, value) in index.paths.iter().zip(equals) {
        encode("index.equals", value, &mut prefix)?;
        words.push(format!("{path} = {value}"));
    }
    let (mut start, mut end) = (prefix.clone(), prefix_end(&prefix));
    match (index.paths.get(equals.len()), from, to) {
        (_, None, None) => {}
        (None, ..) => {
            let message =
                format!("all {fields} fields of index {} are in `equals`, none is left", index.name);
            let field = if from.is_some() { "index.from" } else { "index.to" };
            return Err(QueryError::invalid(field, message));
        }
        (Some(path), from, to) => {
            if let Some(from) = from {
                encode("index.from", from, &mut start)?;
                words.push(format!("{path} >= {from}"));
            }
            if let Some(to) = to {
                let mut bytes = prefix;
                encode("index.to", to, &mut bytes)?;
                end = Some(bytes);
                words.push(format!("{path} < {to}"));
            }
        }
    }
    let words = if words.is_empty() { "all".to_owned() } else { format!("where {}", words.join(" and ")) };
    Ok(Range { words: format!("INDEX {} {words}", index.name), index: Some((at, index)), start, end })
}

fn encode(field: &'static str, value: &Json, out: &mut Vec<u8>) -> Result<(), QueryError> {
    if let Json::Text(text) = value
        && text.len() > QUERY_TEXT_BYTES_MAX
    {
        let message =
            format!("expected a text of at most {QUERY_TEXT_BYTES_MAX} bytes, found {}", text.len());
        return Err(QueryError::limit(field, message, QUERY_TEXT_BYTES_MAX, text.len()));
    }
    if encode_indexed(value, out) {
        Ok(())
    } else {
        Err(QueryError::invalid(
            field,
            "expected null, a boolean, a number or a text; arrays are indexed by their elements, objects are not",
        ))
    }
}

/// The place of a collection.
pub(super) fn find_collection(definition: &Definition, name: &str) -> Result<usize, QueryError> {
    definition.collection(name).ok_or_else(|| QueryError::UnknownCollection {
        projection: definition.name().to_owned(),
        version: definition.version(),
        collection: name.to_owned(),
        known: definition.collections().iter().map(|at| at.name.to_string()).collect(),
    })
}

fn find_index(
    definition: &Definition,
    collection: usize,
    name: &str,
) -> Result<(usize, IndexDefinition), QueryError> {
    let collection = &definition.collections()[collection];
    let at = collection.indexes.iter().position(|index| &*index.name == name);
    at.map(|at| (at, collection.indexes[at].clone())).ok_or_else(|| QueryError::UnknownIndex {
        collection: collection.name.to_string(),
        index: name.to_owned(),
        known: collection.indexes.iter().map(|index| index.name.to_string()).collect(),
    })
}

fn check_page_size(page_size: Option<u32>) -> Result<usize, QueryError> {
    match page_size.unwrap_or(PAGE_SIZE_DEFAULT) {
        size @ 1..=PAGE_SIZE_MAX => Ok(size as usize),
        size => {
            let message = format!("expected 1 to {PAGE_SIZE_MAX}, found {size}");
            Err(QueryError::limit("page_size", message, PAGE_SIZE_MAX as usize, size as usize))
        }
    }
}

fn compile(source: &str) -> Result<Expression, QueryError> {
    if source.len() > EXPRESSION_BYTES_MAX {
        let message = format!("expected at most {EXPRESSION_BYTES_MAX} bytes, found {}", source.len());
        return Err(QueryError::limit("filter", message, EXPRESSION_BYTES_MAX, source.len()));
    }
    Expression::compile(source, &["doc", "key"])
        .map_err(|error| QueryError::invalid("filter", error.to_string()))
}

fn fingerprint_of(projection: &str, query: &ListQuery, range: &Range) -> Fingerprint {
    let index = range.index.as_ref().map_or("", |(_, index)| &*index.name);
    let end = range.end.as_deref();
    let kinds = [u8::from(range.index.is_some()), u8::from(query.descending), u8::from(end.is_some())];
    let has_filter = [u8::from(query.filter.is_some())];
    let mut parts = vec![
        projection.as_bytes(),
        query.collection.as_bytes(),
        index.as_bytes(),
        &kinds,
        &range.start,
        end.unwrap_or_default(),
        &has_filter,
        query.filter.as_deref().unwrap_or_default().as_bytes(),
    ];
    parts.extend(query.label.as_deref().map(str::as_bytes));
    fingerprint(parts)
}

/// Where the page before ended, if the token belongs here.
fn resume(definition: &Definition, text: &str, fingerprint: &Fingerprint) -> Result<Vec<u8>, QueryError> {
    let token = PageToken::decode(text).ok_or(QueryError::PageTokenInvalid)?;
    if token.fingerprint != *fingerprint || token.version != definition.version() {
        return Err(QueryError::PageTokenMismatch);
    }
    if token.definition[..] != definition.hash()[..4] {
        return Err(QueryError::PageExpired {
            projection: definition.name().to_owned(),
            version: token.version,
        });
    }
    Ok(token.last)
}
