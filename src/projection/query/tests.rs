//! Tests of queries against a naive model of documents.

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    disk::sim::SimDisk,
    json::Object,
    limits::LIST_SCAN_MAX,
    projection::{
        key::KeyPart,
        testing::{DATA, DEFINITION, Driven, Node},
    },
};

fn key(number: u64) -> Key {
    Key::new(vec![KeyPart::Text(format!("k{}", number % 3).into()), KeyPart::Int(number as i64)]).unwrap()
}

/// Makes another query of one.
type Change = fn(&mut ListQuery);

/// A version that holds these documents under `key(0)`, `key(1)` ...
fn built(documents: &[String]) -> (Node, Driven) {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    let events: Vec<_> = documents
        .iter()
        .zip(0..)
        .map(|(fields, number)| ("doc.put", format!(r#"{{"key":{},{fields}}}"#, key(number).to_json())))
        .collect();
    for chunk in events.chunks(1_000) {
        node.append(chunk);
    }
    let mut version = node.version(DEFINITION);
    version.run();
    (node, version)
}

fn reading(version: &Driven) -> Reading {
    let snapshot = version.store.snapshot().unwrap();
    let context = ReadContext {
        projection: "p".into(),
        version: 1,
        as_of: snapshot.state().cursor,
        head: snapshot.state().cursor,
        stale: false,
        incomplete: false,
    };
    Reading::new(snapshot, context)
}

fn query(selection: Selection) -> ListQuery {
    ListQuery { collection: "docs".into(), selection, ..ListQuery::default() }
}

fn by_index(index: &str, equals: &[&str], from: Option<&str>, to: Option<&str>) -> Selection {
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    Selection::Index {
        index: index.into(),
        equals: equals.iter().map(|text| json(text)).collect(),
        from: from.map(json),
        to: to.map(json),
    }
}

/// All pages of a query, one after the other.
fn walk(reading: &Reading, query: &ListQuery) -> Vec<Document> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = reading.list(&query).unwrap();
        assert!(page.documents.len() <= query.page_size.unwrap_or(100) as usize);
        found.extend(page.documents);
        match page.next_page_token {
            Some(token) => query.page_token = Some(token),
            None => return found,
        }
    }
}

/// How values order in an index, told naively.
fn rank(value: &Json) -> (u8, f64, String) {
    match value {
        Json::Null => (0, 0.0, String::new()),
        Json::Bool(value) => (1, f64::from(u8::from(*value)), String::new()),
        Json::Int(value) => (2, *value as f64, String::new()),
        Json::Double(value) => (2, *value, String::new()),
        Json::Text(text) => (3, 0.0, text.to_string()),
        Json::Array(_) | Json::Object(_) => panic!("{value} is not indexed"),
    }
}

type Row = Vec<(u8, f64, String)>;

/// The rows that a document has in an index.
fn rows(document: &Object, fields: &[&str]) -> Vec<Row> {
    let null = Json::Null;
    let mut rows: Vec<Row> = vec![Vec::new()];
    for field in fields {
        let value = document.get(field).unwrap_or(&null);
        let each = match value {
            Json::Array(items) => items.iter().collect(),
            Json::Object(_) => Vec::new(),
            value => vec![value],
        };
        rows = rows
            .iter()
            .flat_map(|row| each.iter().map(|value| [&row[..], &[rank(value)]].concat()))
            .collect();
    }
    rows
}

/// What the query selects, told naively: the documents by their first row in the range, then by key.
fn expected(all: &[Document], query: &ListQuery) -> Vec<Document> {
    let mut selected: Vec<(Row, Vec<u8>, &Document)> = Vec::new();
    for document in all {
        let Json::Object(object) = Json::parse_stored(&document.value).unwrap() else {
            panic!("no object");
        };
        let rows = match &query.selection {
            Selection::Keys { prefix, from, to } => {
                let encoded = document.key.encode();
                let inside =
                    prefix.as_ref().is_none_or(|prefix| encoded.starts_with(&prefix.encode_prefix()))
                        && from.as_ref().is_none_or(|from| encoded >= from.encode())
                        && to.as_ref().is_none_or(|to| encoded < to.encode());
                if inside { vec![Vec::new()] } else { Vec::new() }
            }
            Selection::Index { index, equals, from, to } => {
                let fields: &[&str] = match index.as_str() {
                    "by_a" => &["a"],
                    "by_a_b" => &["a", "b"],
                    _ => &["tags", "a"],
                };
                let mut rows = rows(&object, fields);
                rows.retain(|row| {
                    equals.iter().zip(row).all(|(value, found)| rank(value) == *found)
                        && from.as_ref().is_none_or(|from| row[equals.len()] >= rank(from))
                        && to.as_ref().is_none_or(|to| row[equals.len()] < rank(to))
                });
                rows
            }
        };
        let order = |a: &Row, b: &Row| a.partial_cmp(b).unwrap();
        let row =
            if query.descending { rows.into_iter().max_by(order) } else { rows.into_iter().min_by(order) };
        selected.extend(row.map(|row| (row, document.key.encode(), document)));
    }
    selected.sort_by(|a, b| (&a.0, &a.1).partial_cmp(&(&b.0, &b.1)).unwrap());
    if query.descending {
        selected.reverse();
    }
    selected.into_iter().map(|(.., document)| document.clone()).collect()
}

fn any_fields() -> impl Strategy<Value = String> {
    let scalar = "null|true|[0-2]|0\\.5|-1|\"[a-b]?\"";
    let tags = prop_oneof![
        "null|\"[a-c]\"|\\{\"x\":1\\}",
        prop::collection::vec("\"[a-c]\"", 0..4).prop_map(|tags| format!("[{}]", tags.join(","))),
    ];
    (scalar, scalar, tags).prop_map(|(a, b, tags)| format!(r#""a":{a},"b":{b},"tags":{tags}"#))
}

fn any_selection() -> impl Strategy<Value = Selection> {
    let json =
        || "null|true|[0-2]|0\\.5|-1|\"[a-c]?\"".prop_map(|text| Json::parse(text.as_bytes()).unwrap());
    let optional_key = || prop::option::of((0_u64..12).prop_map(key));
    let prefix = prop::option::of("k|k[0-2]|x".prop_map(|text| Key::text(&text).unwrap()));
    prop_oneof![
        (prefix, optional_key(), optional_key()).prop_map(|(prefix, from, to)| Selection::Keys {
            prefix,
            from,
            to
        }),
        (
            0_usize..3,
            prop::collection::vec(json(), 2),
            0_usize..3,
            prop::option::of(json()),
            prop::option::of(json())
        )
            .prop_map(|(index, mut equals, count, from, to)| {
                let (index, fields) = [("by_a", 1), ("by_a_b", 2), ("by_tags", 2)][index];
                equals.truncate(count.min(fields));
                let open = equals.len() < fields;
                Selection::Index {
                    index: index.into(),
                    equals,
                    from: from.filter(|_| open),
                    to: to.filter(|_| open),
                }
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn lists_equal_a_naive_model(
        documents in prop::collection::vec(any_fields(), 0..25),
        queries in prop::collection::vec((any_selection(), any::<bool>(), 1_u32..6), 12),
    ) {
        let (_node, version) = built(&documents);
        let reading = reading(&version);
        let all = walk(&reading, &query(Selection::all()));
        prop_assert_eq!(all.len(), documents.len());
        for (selection, descending, page_size) in queries {
            let mut query = query(selection);
            query.descending = descending;
            query.page_size = Some(page_size);
            let expected = expected(&all, &query);
            let found = walk(&reading, &query);
            prop_assert_eq!(&found, &expected, "{:?}", query);
            let explained = reading.explain(&query).unwrap();
            prop_assert_eq!(explained.collection_size, all.len() as u64);
            prop_assert!(explained.range_size >= expected.len() as u64);
        }
    }
}

#[test]
fn a_document_is_found_by_its_key() {
    let (_node, version) = built(&[r#""a":1,"b":2,"tags":null"#.into()]);
    let reading = reading(&version);
    let document = reading.get("docs", &key(0), &[]).unwrap();
    assert_eq!(&document.value[..], br#"{"a":1,"b":2,"tags":null}"#);
    assert_eq!(document.position, Position::new(1));
    assert!(matches!(reading.get("docs", &key(1), &[]), Err(QueryError::DocumentNotFound { .. })));
    let both = reading.batch_get("docs", &[key(1), key(0)], &[]).unwrap();
    assert_eq!(both, [None, Some(document)]);
    let unknown = reading.get("dogs", &key(0), &[]).unwrap_err().to_string();
    assert!(unknown.contains("\"dogs\"; collections: docs, sums"), "{unknown}");
    assert!(matches!(
        reading.batch_get("docs", &[], &[]),
        Err(QueryError::InvalidArgument { field: "keys", .. })
    ));
}

#[test]
fn filters_select_and_their_errors_name_the_document() {
    let documents: Vec<String> = (0..10).map(|a| format!(r#""a":{a},"b":null,"tags":null"#)).collect();
    let (_node, version) = built(&documents);
    let reading = reading(&version);
    let mut query = query(Selection::all());
    query.filter = Some("doc.a >= 3 && key[0] == 'k1'".into());
    let found: Vec<u64> = walk(&reading, &query).iter().map(|document| document.position.get() - 1).collect();
    assert_eq!(found, [4, 7]);
    assert!(reading.explain(&query).unwrap().filter.is_some());
    query.filter = Some("doc.missing > 1".into());
    let refused = reading.list(&query).unwrap_err();
    assert!(matches!(&refused, QueryError::FilterFailed { key, .. } if key.contains("k0")), "{refused}");
    query.filter = Some("doc.a >".into());
    assert!(matches!(reading.list(&query), Err(QueryError::InvalidArgument { field: "filter", .. })));
}

fn check_refused(reading: &Reading, query: &ListQuery, expected: &str) {
    let refused = reading.list(query).unwrap_err().to_string();
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(reading.explain(query).unwrap_err().to_string(), refused);
}

#[test]
fn wrong_queries_are_refused_with_what_was_expected() {
    let (_node, version) = built(&[]);
    let reading = reading(&version);
    check_refused(&reading, &query(by_index("by_z", &[], None, None)), "indexes: by_a, by_a_b, by_tags");
    check_refused(&reading, &query(by_index("by_a", &["1", "2"], None, None)), "has 1 fields, found 2");
    check_refused(&reading, &query(by_index("by_a", &["1"], Some("2"), None)), "index.from: all 1 fields");
    check_refused(&reading, &query(by_index("by_a", &["[1]"], None, None)), "expected null, a boolean");
    let long = format!("\"{}\"", "x".repeat(600));
    check_refused(&reading, &query(by_index("by_a", &[&long], None, None)), "at most 508 bytes, found 600");
    for page_size in [0, 1_001] {
        let mut query = query(Selection::all());
        query.page_size = Some(page_size);
        check_refused(&reading, &query, &format!("expected 1 to 1000, found {page_size}"));
    }
}

#[test]
fn page_tokens_belong_to_their_query() {
    let documents: Vec<String> = (0..9).map(|a| format!(r#""a":{a},"b":null,"tags":null"#)).collect();
    let (_node, version) = built(&documents);
    let reading = reading(&version);
    let mut first = query(Selection::all());
    first.page_size = Some(4);
    let token = reading.list(&first).unwrap().next_page_token.unwrap();
    let with = |change: &dyn Fn(&mut ListQuery)| {
        let mut query = first.clone();
        query.page_token = Some(token.clone());
        change(&mut query);
        reading.list(&query)
    };
    assert_eq!(with(&|query| query.page_size = Some(2)).unwrap().documents.len(), 2);
    let others: [Change; 4] = [
        |query| query.descending = true,
        |query| query.collection = "sums".into(),
        |query| query.filter = Some("true".into()),
        |query| query.selection = by_index("by_a", &[], None, None),
    ];
    for other in others {
        assert!(matches!(with(&other), Err(QueryError::PageTokenMismatch)));
    }
    assert!(matches!(
        with(&|query| query.page_token = Some("00ff".into())),
        Err(QueryError::PageTokenInvalid)
    ));
}

#[test]
fn a_page_ends_where_its_work_is_bounded() {
    let documents: Vec<String> =
        (0..LIST_SCAN_MAX + 5).map(|_| r#""a":1,"b":null,"tags":null"#.into()).collect();
    let (_node, version) = built(&documents);
    let reading = reading(&version);
    let mut query = query(Selection::all());
    query.filter = Some("doc.a == 2".into());
    let page = reading.list(&query).unwrap();
    assert_eq!((page.documents.len(), page.scanned), (0, LIST_SCAN_MAX));
    query.page_token = page.next_page_token;
    let page = reading.list(&query).unwrap();
    assert_eq!((page.scanned, page.next_page_token), (5, None));
    let explained = reading.explain(&query).unwrap();
    assert_eq!(explained.collection_size, LIST_SCAN_MAX as u64 + 5);

    let large = format!(r#""a":"{}","b":null,"tags":null"#, "x".repeat(500_000));
    let (_node, version) = built(&vec![large; 10]);
    let reading = reading_of(&version);
    let mut query = self::query(Selection::all());
    assert_eq!(reading.list(&query).unwrap().documents.len(), 8, "4 MiB");
    query.filter = Some("true".into());
    let keys: BTreeMap<_, _> = walk(&reading, &query).into_iter().map(|at| (at.key.encode(), at)).collect();
    assert_eq!(keys.len(), 10);
}

fn reading_of(version: &Driven) -> Reading {
    reading(version)
}
