//! What steps do to documents, as tables over the offline engine.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    event::{Event, EventId, EventType, Position, Revision, StreamId, Tag},
    projection::offline::{Memory, diff, run},
};

fn event(number: u64, event_type: &str, data: &str) -> RecordedEvent {
    RecordedEvent {
        position: Position::new(number),
        revision: Revision::new(1),
        recorded_at_unix_nanos: 1_357_028_130_250_000_000,
        event: Event {
            id: EventId::from_uuid(Uuid::from_u128(u128::from(number))).unwrap(),
            event_type: EventType::parse(event_type).unwrap(),
            stream: StreamId::parse("s").unwrap(),
            tags: vec![Tag::parse("x:1").unwrap()],
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: Some(Bytes::from_static(b"{\"user\": \"u\"}")),
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

/// One event type `e` with these steps, over the collections `docs` and `other`.
fn definition(steps: &str) -> Definition {
    let head = "projection: p\nversion: 1\ncollections: {docs: {}, other: {}}\nevents:\n  e:\n";
    Definition::parse(&format!("{head}{steps}"), "p").unwrap_or_else(|error| panic!("{error}"))
}

fn run_all(definition: &Definition, data: &[&str]) -> Result<Json, String> {
    let events = data.iter().enumerate().map(|(at, data)| event(at as u64 + 1, "e", data));
    match run(definition, events) {
        Ok(memory) => Ok(memory.to_json(definition)),
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
fn check(steps: &str, data: &[&str], expected: &str) {
    let documents = run_all(&definition(steps), data).unwrap_or_else(|error| panic!("{steps}\n{error}"));
    let differences = diff(&documents, &Json::parse(expected.as_bytes()).unwrap()).unwrap();
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{steps}\n{}", lines.join("\n"));
}

#[track_caller]
fn check_fault(steps: &str, data: &[&str], expected: &str) {
    let found = run_all(&definition(steps), data).expect_err(steps);
    assert!(found.contains(expected), "{steps}\nexpected {expected}\nfound {found}");
}

#[test]
fn put_replaces_merge_keeps_delete_removes() {
    let put = "    - {put: docs, key: data.k, value: {a: '${data.a}', n: ~}}\n";
    check(put, &[r#"{"k":"x","a":1}"#, r#"{"k":"x","a":[2.0]}"#], r#"{"docs":{"x":{"a":[2],"n":null}}}"#);
    let merge =
        "    - {merge: docs, key: data.k, value: {a: '${data.?a}', b: $unset, c: {d: '${data.k}!'}}}\n";
    check(merge, &[r#"{"k":"x"}"#], r#"{"docs":{"x":{"a":null,"c":{"d":"x!"}}}}"#);
    let both = format!("    - {{put: docs, key: data.k, value: {{b: 1, c: {{e: 2}}, z: 3}}}}\n{merge}");
    check(&both, &[r#"{"k":"x"}"#], r#"{"docs":{"x":{"a":null,"c":{"d":"x!"},"z":3}}}"#);
    let delete = format!("{both}    - {{when: data.?gone.orValue(false), delete: docs, key: data.k}}\n");
    check(&delete, &[r#"{"k":"x","gone":true}"#], r#"{"docs":{}}"#);
    check("    - {delete: docs, key: data}\n", &["\"x\""], r#"{"docs":{}}"#);
    let whole = "    - {put: docs, key: data.k, value: '${data}'}\n    - {merge: docs, key: data.k, value: '${{\"m\": 1}}'}\n";
    check(whole, &[r#"{"k":"x"}"#], r#"{"docs":{"x":{"k":"x","m":1}}}"#);
}

#[test]
fn add_counts_missing_as_zero_and_refuses_what_is_no_number() {
    let add = "    - {add: docs, key: '\"k\"', value: {n: 1, sum: '${data}'}}\n";
    check(add, &["1", "2.5", "0.5", "-4"], r#"{"docs":{"k":{"n":4,"sum":0}}}"#);
    check(add, &["9007199254740993", "1"], r#"{"docs":{"k":{"n":2,"sum":9007199254740994}}}"#);
    check_fault(add, &["9223372036854775807", "1"], "the result does not fit a 64-bit integer");
    check_fault(add, &["1e308", "1e308"], "the result is not a finite number");
    check_fault(add, &["null"], "value.sum: expected an increment that is a number, found null");
    check_fault(add, &["\"1\""], "expected an increment that is a number, found the text \"1\"");
    let null = format!("    - {{put: docs, key: '\"k\"', value: {{sum: ~}}}}\n{add}");
    check_fault(
        &null,
        &["1"],
        "step 2 of e (line 7), key \"k\", value.sum: expected the field that is a number, found null",
    );
}

#[test]
fn a_fault_says_where_and_leaves_nothing() {
    let steps = "    - {put: docs, key: data.k, value: {}}\n    - {put: other, key: data.k, value: {a: {b: ['${1 + data.x}']}}}\n";
    let definition = definition(steps);
    let mut memory = Memory::new(&definition);
    let error = memory.apply(&definition, &event(9, "e", r#"{"k":"a","x":null}"#)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event at position 9: step 2 of e (line 7), key \"a\", value.a.b.0, in `1 + data.x`: `1` is the integer 1 and \
         `data.x` is null, and + takes numbers, texts, lists or times"
    );
    assert_eq!(memory.to_json(&definition).to_string(), r#"{"docs":{},"other":{}}"#);
    check_fault(steps, &["{}"], "step 1 of e (line 6), key, in `data.k`: `data.k` is missing");
    check_fault(
        steps,
        &[r#"{"k":null}"#],
        "key: expected a key of text, integer or boolean parts, found null",
    );
    check_fault(steps, &[r#"{"k":1.5}"#], "found 1.5");
    check_fault(
        "    - {when: data, delete: docs, key: '1'}\n",
        &["1"],
        "when, in `data`: `data` is the integer 1, expected a boolean",
    );
    check_fault(
        "    - {for_each: data, delete: docs, key: '1'}\n",
        &["{}"],
        "for_each, in `data`: expected a list, found a map",
    );
    check_fault(
        "    - {put: docs, key: '1', value: '${data}'}\n",
        &["[]"],
        "value, in `data`: expected a map of fields, found a list",
    );
    check_fault(
        "    - {put: docs, key: '1', value: {a: 'x ${data}'}}\n",
        &["null"],
        "value.a, in `data`: `data` is null, expected what can stand in a text",
    );
    check_fault("    - {let: {a: data.b}, put: docs, key: a, value: {}}\n", &["{}"], "let.a, in `data.b`");
}

#[test]
fn steps_see_what_former_steps_wrote() {
    let steps = "    - {add: docs, key: '\"n\"', value: {n: 1}}\n    - {when: doc.n > 1, put: other, key: '\"n\"', value: {n: '${lookup(\"docs\", \"n\").n}'}}\n";
    check_fault(steps, &["0"], "so it has no field `n`");
    let steps = steps.replace("when: doc.n", "when: lookup(\"docs\", \"n\").n");
    let steps =
        steps.replace("{when: lookup(\"docs\", \"n\").n > 1,", "{when: 'lookup(\"docs\", \"n\").n > 1',");
    check(&steps, &["0"], r#"{"docs":{"n":{"n":1}},"other":{}}"#);
    check(&steps, &["0", "0", "0"], r#"{"docs":{"n":{"n":3}},"other":{"n":{"n":3}}}"#);
    let gone = "    - {put: docs, key: '1', value: {}}\n    - {delete: docs, key: '1'}\n    - {put: other, key: '1', value: {was: '${lookup(\"docs\", 1)}'}}\n";
    check(gone, &["0"], r#"{"docs":{},"other":{"[1]":{"was":null}}}"#);
}

#[test]
fn loops_and_names_are_evaluated_when_they_are_needed() {
    let steps = "    - for_each: data.legs\n      let: {miles: item.miles, far: miles > 100, seen: doc.?n.orValue(0)}\n      when: has(item.miles)\n      \
                 put: docs\n      key: [item.to, far]\n      value: {n: '${seen + 1}', last: '${miles}', of: '${event.position}'}\n";
    check(
        steps,
        &[r#"{"legs":[{"to":"a","miles":100},{"to":"a","miles":101},{"to":"b"},{"to":"a","miles":5}]}"#],
        r#"{"docs":{"[\"a\",false]":{"n":2,"last":5,"of":1},"[\"a\",true]":{"n":1,"last":101,"of":1}}}"#,
    );
    let unused = "    - {let: {a: data.missing, b: '1'}, put: docs, key: b, value: {b: '${b}'}}\n";
    check(unused, &["{}"], r#"{"docs":{"[1]":{"b":1}}}"#);
    let by_doc =
        "    - {let: {n: doc.?n.orValue(0)}, when: n < 2, merge: docs, key: data, value: {n: '${n + 1}'}}\n";
    check(by_doc, &["\"k\"", "\"k\"", "\"k\""], r#"{"docs":{"k":{"n":2}}}"#);
    let key_late = "    - {when: data.ok, put: docs, key: data.k, value: {}}\n";
    check(key_late, &[r#"{"ok":false}"#], r#"{"docs":{}}"#);
    let optional = "    - {let: {a: data.?a}, put: docs, key: '1', value: {a: '${a.orValue(5)}', b: '${a.b.orValue(6)}', c: '${a}'}}\n";
    check(optional, &["{}", r#"{"a":{"b":1}}"#], r#"{"docs":{"[1]":{"a":{"b":1},"b":1,"c":{"b":1}}}}"#);
}

#[test]
fn the_event_is_a_variable() {
    let steps = "    - {put: docs, key: event.id, value: {e: '${event.type} ${event.stream} ${event.revision}', t: '${event.time}', \
                 at: '${event.recorded_at}', tags: '${event.tags}', by: '${event.metadata.user}'}}\n    - {put: other, key: '1', value: {n: '${event.size()}'}}\n";
    check(
        steps,
        &["null"],
        r#"{"docs":{"00000000-0000-0000-0000-000000000001":{"e":"e s 1","t":"2013-01-01T08:15:30.25Z","at":"2013-01-01T08:15:30.25Z",
            "tags":["x:1"],"by":"u"}},"other":{"[1]":{"n":9}}}"#,
    );
}

#[test]
fn documents_and_events_are_bounded() {
    let grow = "    - {merge: docs, key: '1', value: {x: '${doc}'}}\n";
    check_fault(
        grow,
        &["0"; 200],
        "event at position 111: step 1 of e (line 6), key [1], value: the document nests deeper than 110",
    );
    let long = format!("\"{}\"", "y".repeat(300_000));
    let double = "    - {put: docs, key: '1', value: {a: '${data}', b: '${data}${data}${data}'}}\n";
    check_fault(double, &[&long], "at most 1048576 bytes, found 1200");
    let controls = "    - {put: docs, key: '1', value: {a: '${data}'}}\n";
    let text = format!("\"{}\"", "z".repeat(900_000));
    check(controls, &[&text], &format!(r#"{{"docs":{{"[1]":{{"a":{text}}}}}}}"#));
    let many = format!("[{}]", (0..10_001).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    check_fault(
        "    - {for_each: data, put: docs, key: item, value: {}}\n",
        &[&many],
        "at most 10000 documents",
    );
    let counted = "    - {for_each: data, add: docs, key: item % 100, value: {n: 1}}\n";
    let documents = run_all(&definition(counted), &[&many]).unwrap().to_string();
    assert!(documents.starts_with(r#"{"docs":{"[0]":{"n":101},"[10]":{"n":100},"#), "{documents}");
}

#[derive(Debug, thiserror::Error)]
#[error("disk on fire")]
struct OnFire;

struct Broken;

impl Documents for Broken {
    fn get(&mut self, _: usize, _: &Key) -> Result<Option<Arc<Object>>, StoreFailure> {
        Err(Box::new(OnFire))
    }
}

#[test]
fn a_store_that_fails_is_not_the_events_fault() {
    for steps in [
        "    - {merge: docs, key: '1', value: {}}\n",
        "    - {when: 'doc == null || true', put: docs, key: '1', value: {}}\n",
        "    - {when: 'lookup(\"docs\", 1) == null || true', put: docs, key: '1', value: {}}\n",
    ] {
        let result = apply(&definition(steps), &event(1, "e", "0"), &mut Broken);
        assert!(matches!(result, Err(ApplyError::Store(_))), "{steps}");
    }
    let put = definition("    - {put: docs, key: '1', value: {}}\n");
    assert_eq!(apply(&put, &event(1, "e", "0"), &mut Broken).unwrap().len(), 1, "a put reads nothing");
    assert_eq!(apply(&put, &event(1, "other", "no json"), &mut Broken).unwrap(), []);
    assert!(matches!(apply(&put, &event(1, "e", "{"), &mut Broken), Err(ApplyError::Content(_))));
}

/// The projection that the documentation begins with.
#[test]
fn departures_of_an_airport_are_counted() {
    let text = include_str!("../../../docs/projections.md");
    let yaml = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let definition = Definition::parse(yaml, "departures.yaml").unwrap();
    let flight =
        |flight: &str, more: &str| format!(r#"{{"flight":"{flight}","origin":"EWR","carrier":"UA"{more}}}"#);
    let events = [
        ("flight.scheduled", flight("UA1", r#","dest":"IAH","number":1545"#)),
        ("flight.scheduled", flight("UA2", r#","dest":"ORD","number":"0007""#)),
        ("flight.departed", flight("UA1", r#","delay_minutes":2"#)),
        ("flight.departed", flight("UA2", r#","delay_minutes":-4"#)),
        ("flight.cancelled", flight("UA2", "")),
        ("flight.cancelled", r#"{"flight":"ZZ1","carrier":"ZZ"}"#.to_owned()),
        ("flight.landed", "not looked at".to_owned()),
    ];
    let events = events.iter().zip(1..).map(|((event_type, data), number)| event(number, event_type, data));
    let documents = run(&definition, events).unwrap().to_json(&definition);
    let expected = r#"{
        "airports": {"EWR": {"departures": 2, "delay_sum": -2}},
        "flights": {
            "UA1": {"origin": "EWR", "dest": "IAH", "label": "UA1545", "status": "departed", "delay_minutes": 2},
            "UA2": {"origin": "EWR", "dest": "ORD", "label": "UA0007", "status": "cancelled", "delay_minutes": -4}
        }
    }"#;
    assert_eq!(diff(&documents, &Json::parse(expected.as_bytes()).unwrap()).unwrap(), []);
}

#[test]
fn differences_are_told_line_by_line() {
    let actual = r#"{"docs":{"a":{"n":1,"l":[1,2],"m":{"x":1}},"b":{}},"other":{"z":{}}}"#;
    let expected = r#"{"docs":{"a":{"n":1.0,"l":[1,3,4],"m":{"y":2}},"c":{"k":"v"}}}"#;
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let lines = diff(&json(actual), &json(expected)).unwrap();
    assert_eq!(
        lines.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            r#"docs "a".l.1: expected 3, found 2"#,
            r#"docs "a".l.2: expected 4, found nothing"#,
            r#"docs "a".m.x: expected nothing, found 1"#,
            r#"docs "a".m.y: expected 2, found nothing"#,
            r#"docs "b": expected nothing, found {}"#,
            r#"docs "c": expected {"k":"v"}, found nothing"#,
        ]
    );
    assert!(diff(&json(actual), &json(r#"{"dogs":{}}"#)).unwrap_err().0.contains("known are docs, other"));
    assert!(diff(&json(actual), &json("[]")).is_err());
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-20_i64..20).prop_map(|value| value.to_string()),
        (-8_i32..8).prop_map(|value| format!("{}", f64::from(value) / 4.0)),
        any::<f64>().prop_filter_map("finite", |value| value.is_finite().then(|| format!("{value:e}"))),
        "[a-cü\"\\\\]{0,3}".prop_map(|text| Json::Text(text.into()).to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|fields| {
                let fields: Vec<String> =
                    fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    /// What is in memory is what would be read back from disk, whatever the event holds.
    #[test]
    fn documents_equal_their_stored_form(data in prop::collection::vec(any_json(), 1..6)) {
        let definition = definition(
            "    - {put: docs, key: event.position, value: {d: '${data}', k: '${data.?a}', l: [1.0, '${[data, 2.0]}']}}\n    \
             - {when: 'type_ok', let: {type_ok: 'data.?a.orValue(0) in [0, 1, 2.5]'}, add: other, key: '1', value: {n: '${data.?a.orValue(0)}'}}\n",
        );
        let mut memory = Memory::new(&definition);
        for (data, number) in data.iter().zip(1..) {
            let applied = memory.apply(&definition, &event(number, "e", data));
            prop_assert!(applied.is_ok(), "{applied:?}");
        }
        for collection in 0..2 {
            for (_, document) in memory.documents(collection) {
                let text = Json::Object((**document).clone()).to_string();
                prop_assert_eq!(Json::parse_stored(text.as_bytes()).unwrap(), Json::Object((**document).clone()));
            }
        }
    }

    /// `add` is exact while numbers are integers, and what a loop over doubles gives otherwise.
    #[test]
    fn sums_are_those_of_a_plain_loop(ints in prop::collection::vec(-1_000_000_i64..1_000_000, 1..20), halves in prop::collection::vec(-99_i32..99, 0..20)) {
        let doubles = halves.iter().map(|half| f64::from(*half) / 2.0);
        let data: Vec<String> = ints.iter().map(ToString::to_string).chain(doubles.clone().map(|double| format!("{double:?}"))).collect();
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let documents = run_all(&definition("    - {add: docs, key: '\"k\"', value: {n: '${data}'}}\n"), &data).unwrap();
        let total = ints.iter().sum::<i64>() as f64 + doubles.sum::<f64>();
        let expected = format!(r#"{{"docs":{{"k":{{"n":{total:?}}}}},"other":{{}}}}"#);
        prop_assert_eq!(diff(&documents, &Json::parse(expected.as_bytes()).unwrap()).unwrap(), []);
    }
}
