//! What one document puts into an index: entries whose bytes order as the indexed values do.
//!
//! Invariants: an entry is the encoded values of the index's fields, in order, followed by the document's encoded key,
//! so it belongs to one document. Missing and null are indexed as null; an array is indexed by each of its elements, of
//! which equal ones count once; a document whose field is an object, or an array without indexable elements, has no
//! entry. A text is cut at a bound that every text of a query stays below, so a cut text never equals a queried one
//! and orders against it as the whole text does. Does not know redb, or where documents are kept.

use crate::{
    event::Invalid,
    json::{Json, Object},
    limits::{INDEX_ENTRIES_MAX, INDEX_TEXT_BYTES_MAX},
    projection::key::encode_value,
};

/// Bytes that a text in a query of an index may have: below every cut.
pub const QUERY_TEXT_BYTES_MAX: usize = INDEX_TEXT_BYTES_MAX - 4;

/// Whether a document can be indexed by these fields; the error says why not.
pub fn check(fields: &[Box<str>], document: &Object) -> Result<(), Invalid> {
    let arrays = || fields.iter().filter_map(|field| array(document, field));
    match (arrays().count(), arrays().next()) {
        (0, _) | (_, None) => Ok(()),
        (1, Some((field, items))) if items.len() > INDEX_ENTRIES_MAX => Err(Invalid(format!(
            "expected at most {INDEX_ENTRIES_MAX} elements in the indexed field {field:?}, found {}",
            items.len()
        ))),
        (1, Some(_)) => Ok(()),
        (count, Some((field, _))) => Err(Invalid(format!(
            "expected at most one array among the fields of an index, found {count}, the first in {field:?}"
        ))),
    }
}

/// The entries of a document that `check` accepts, sorted, each once.
pub fn entries(fields: &[Box<str>], document: &Object, key: &[u8]) -> Vec<Vec<u8>> {
    let spread = fields
        .iter()
        .position(|field| array(document, field).is_some());
    let values: Vec<&Json> = fields
        .iter()
        .map(|field| document.get(field).unwrap_or(&Json::Null))
        .collect();
    let mut entries: Vec<Vec<u8>> = match spread.map(|at| (at, values[at])) {
        Some((at, Json::Array(items))) => items
            .iter()
            .filter_map(|item| {
                let values = values.iter().enumerate();
                entry(values.map(|(i, value)| if i == at { item } else { *value }), key)
            })
            .collect(),
        _ => entry(values.into_iter(), key).into_iter().collect(),
    };
    entries.sort_unstable();
    entries.dedup();
    entries
}

/// Whether a document may have more than one entry.
pub fn spreads(fields: &[Box<str>], document: &Object) -> bool {
    fields.iter().any(|field| array(document, field).is_some())
}

/// Appends the bytes of one indexed value; `false` if it is an array or object.
pub fn encode_indexed(value: &Json, out: &mut Vec<u8>) -> bool {
    match value {
        Json::Text(text) if text.len() > INDEX_TEXT_BYTES_MAX => {
            let mut end = INDEX_TEXT_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            encode_value(&Json::Text(text[..end].into()), out)
        }
        value => encode_value(value, out),
    }
}

fn array<'a>(document: &'a Object, field: &'a str) -> Option<(&'a str, &'a [Json])> {
    match document.get(field) {
        Some(Json::Array(items)) => Some((field, items)),
        _ => None,
    }
}

fn entry<'a>(values: impl Iterator<Item = &'a Json>, key: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(32 + key.len());
    for value in values {
        if !encode_indexed(value, &mut out) {
            return None;
        }
    }
    out.extend_from_slice(key);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        match Json::parse(text.as_bytes()).unwrap() {
            Json::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    /// The values of the entries, each as a JSON array of the fields' values.
    fn check_entries(document: &str, expected: &[&str]) {
        let fields = ["a".into(), "b".into()];
        let document = object(document);
        let mut wanted: Vec<Vec<u8>> = expected
            .iter()
            .map(|values| {
                let Json::Array(values) = Json::parse(values.as_bytes()).unwrap() else {
                    panic!("{values} is no array");
                };
                entry(values.iter(), b"key").unwrap()
            })
            .collect();
        wanted.sort_unstable();
        assert_eq!(entries(&fields, &document, b"key"), wanted, "{expected:?}");
        assert_eq!(check(&fields, &document), Ok(()));
    }

    #[test]
    fn documents_are_indexed_by_their_values() {
        check_entries(r#"{"a":1,"b":"x"}"#, &[r#"[1,"x"]"#]);
        check_entries(r#"{"a":1}"#, &["[1,null]"]);
        check_entries(r#"{"a":1,"b":null}"#, &["[1,null]"]);
        check_entries(r#"{"a":["x","y","x"],"b":2}"#, &[r#"["x",2]"#, r#"["y",2]"#]);
        check_entries(r#"{"a":[{"c":1},[2],3],"b":2}"#, &["[3,2]"]);
        check_entries(r#"{"a":[],"b":2}"#, &[]);
        check_entries(r#"{"a":{"c":1},"b":2}"#, &[]);
    }

    #[test]
    fn two_arrays_and_too_many_elements_are_refused() {
        let fields = ["a".into(), "b".into()];
        let refused = check(&fields, &object(r#"{"a":[1],"b":[2]}"#)).unwrap_err();
        assert!(refused.0.contains("found 2"), "{refused}");
        let many = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(INDEX_ENTRIES_MAX));
        let refused = check(&fields, &object(&many)).unwrap_err();
        assert!(refused.0.contains("found 1001"), "{refused}");
    }

    #[test]
    fn a_cut_text_orders_as_the_whole_one_against_all_that_can_be_queried() {
        let bytes = |text: &str| {
            let mut out = Vec::new();
            assert!(encode_indexed(&Json::Text(text.into()), &mut out));
            out
        };
        let long = "ä".repeat(INDEX_TEXT_BYTES_MAX);
        let odd = format!("a{long}");
        for whole in [&long, &odd] {
            for queried in ["", "a", "aä", "z", "ä", "\u{ff}", &whole[..QUERY_TEXT_BYTES_MAX - 1]] {
                assert!(queried.len() <= QUERY_TEXT_BYTES_MAX);
                assert_eq!(bytes(whole).cmp(&bytes(queried)), whole.as_str().cmp(queried));
            }
        }
    }
}
