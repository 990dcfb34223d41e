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
    projection::{
        definition::{FieldPath, IndexDefinition},
        key::encode_value,
    },
};

/// Bytes that a text in a query of an index may have: below every cut.
pub const QUERY_TEXT_BYTES_MAX: usize = INDEX_TEXT_BYTES_MAX - 4;

/// Whether a document can be indexed; the error says why not.
pub fn check(index: &IndexDefinition, document: &Object) -> Result<(), Invalid> {
    let mut arrays = index.paths.iter().filter_map(|path| Some((path, array(document, path)?)));
    let Some((path, items)) = arrays.next() else {
        return Ok(());
    };
    if let Some((other, _)) = arrays.next() {
        return Err(Invalid(format!(
            "index {}: expected at most one array among its fields, found arrays in {path} and in {other}",
            index.name
        )));
    }
    if items.len() > INDEX_ENTRIES_MAX {
        return Err(Invalid(format!(
            "index {}: expected at most {INDEX_ENTRIES_MAX} elements in {path}, found {}",
            index.name,
            items.len()
        )));
    }
    Ok(())
}

/// The entries of a document that `check` accepts, sorted, each once.
pub fn entries(index: &IndexDefinition, document: &Object, key: &[u8]) -> Vec<Vec<u8>> {
    let values: Vec<&Json> =
        index.paths.iter().map(|path| path.get(document).unwrap_or(&Json::Null)).collect();
    let spread = values.iter().position(|value| matches!(value, Json::Array(_)));
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

fn array<'a>(document: &'a Object, path: &FieldPath) -> Option<&'a [Json]> {
    match path.get(document) {
        Some(Json::Array(items)) => Some(items),
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
    use crate::projection::definition::Definition;

    fn object(text: &str) -> Object {
        match Json::parse(text.as_bytes()).unwrap() {
            Json::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    fn index() -> IndexDefinition {
        let source = "projection: p\nversion: 1\ncollections:\n  c:\n    indexes:\n      i: [a, b.c]\nevents:\n  e:\n    - { delete: c, key: data }\n";
        Definition::parse(source, "p.yaml").unwrap().collections()[0].indexes[0].clone()
    }

    /// The values of the entries, each as a JSON array of the fields' values.
    fn check_entries(document: &str, expected: &[&str]) {
        let index = index();
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
        assert_eq!(entries(&index, &document, b"key"), wanted, "{expected:?}");
        assert_eq!(check(&index, &document), Ok(()));
    }

    #[test]
    fn documents_are_indexed_by_their_values() {
        check_entries(r#"{"a":1,"b":{"c":"x"}}"#, &[r#"[1,"x"]"#]);
        check_entries(r#"{"a":1}"#, &["[1,null]"]);
        check_entries(r#"{"a":1,"b":null}"#, &["[1,null]"]);
        check_entries(r#"{"a":["x","y","x"],"b":{"c":2}}"#, &[r#"["x",2]"#, r#"["y",2]"#]);
        check_entries(r#"{"a":[{"c":1},[2],3],"b":{"c":2}}"#, &["[3,2]"]);
        check_entries(r#"{"a":[],"b":{"c":2}}"#, &[]);
        check_entries(r#"{"a":{"c":1},"b":{"c":2}}"#, &[]);
    }

    #[test]
    fn two_arrays_and_too_many_elements_are_refused() {
        let index = index();
        let refused = check(&index, &object(r#"{"a":[1],"b":{"c":[2]}}"#)).unwrap_err();
        assert!(refused.0.contains("in a and in b.c"), "{refused}");
        let many = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(INDEX_ENTRIES_MAX));
        let refused = check(&index, &object(&many)).unwrap_err();
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
            let prefix: String = whole.chars().take(QUERY_TEXT_BYTES_MAX / 2).collect();
            for queried in ["", "a", "aä", "z", "ä", "\u{ff}", &prefix] {
                assert!(queried.len() <= QUERY_TEXT_BYTES_MAX);
                assert_eq!(bytes(whole).cmp(&bytes(queried)), whole.as_str().cmp(queried));
            }
        }
    }
}
