//! What projection files are read, and what is refused where.

use proptest::prelude::*;

use super::*;
use crate::limits::DEFINITION_BYTES_MAX;

const HEAD: &str = "projection: p\nversion: 1\ncollections: {docs: {}, other: {}}\n";

#[track_caller]
fn check(source: &str, expected: &[&str]) {
    let problems = match Definition::parse(source, "p.yaml") {
        Ok(_) => Vec::new(),
        Err(error) => error.problems,
    };
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (place, message) = expected.split_once(' ').unwrap();
            found.starts_with(&format!("p.yaml:{place}: ")) && found.contains(message)
        });
    assert!(fits, "{source}\nexpected {expected:#?}\nfound {found:#?}");
}

/// Steps of one event type, each on lines of its own from line 6 on.
#[track_caller]
fn check_steps(steps: &str, expected: &[&str]) {
    check(&format!("{HEAD}events:\n  a.b:\n{steps}"), expected);
}

/// The YAML blocks of the documentation.
fn documented() -> Vec<String> {
    let text = include_str!("../../../docs/projections.md");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_examples_of_the_documentation_are_read() {
    let examples = documented();
    assert_eq!(examples.len(), 3);
    for example in &examples {
        check(example, &[]);
    }
    let departures = Definition::parse(&examples[0], "departures.yaml").unwrap();
    assert_eq!((departures.name(), departures.version()), ("departures", 1));
    assert_eq!(departures.event_types(), ["flight.cancelled", "flight.departed", "flight.scheduled"]);
    assert!(departures.handles("flight.departed") && !departures.handles("flight.landed"));
    assert_eq!(departures.collection("airports"), Some(0));
    let flights = &departures.collections()[departures.collection("flights").unwrap()];
    assert_eq!(&*flights.indexes[0].name, "by_route");
    assert_eq!(
        flights.indexes[0].paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["origin", "dest"]
    );
}

#[test]
fn a_file_for_a_service_lists_types_and_nothing_else() {
    let text = format!("{HEAD}handler: service\nevents: [a.b, c]\n");
    let definition = Definition::parse(&text, "p.yaml").unwrap();
    assert!(definition.is_service() && definition.handles("c") && !definition.handles("d"));
    assert_eq!(definition.event_types(), ["a.b", "c"]);
    let other = text.replace("[a.b, c]", "[a.b]");
    assert_ne!(Definition::parse(&other, "p.yaml").unwrap().hash(), definition.hash());
    let service = |events: &str| format!("{HEAD}handler: service\nevents: {events}\n");
    check(&service("{a.b: [{delete: docs, key: data.x}]}"), &["5:9 expected a list of event types"]);
    check(&service("[]"), &["5:9 expected a list of event types"]);
    check(
        &service("[a.b, a.b, 7, $x]"),
        &[
            "5:15 the event type a.b is repeated",
            "5:20 expected an event type, found the number 7",
            "5:23 not an event type",
        ],
    );
    check(&format!("{HEAD}handler: python\nevents: [a.b]\n"), &["4:10 expected service"]);
    check(&format!("{HEAD}events: [a.b]\n"), &["4:9 expected event types with their steps"]);
}

#[test]
fn the_hash_is_of_what_the_file_says() {
    let hash = |text: &str| *Definition::parse(text, "p").unwrap().hash();
    let one = format!("{HEAD}events: {{a: [{{delete: docs, key: data.x}}]}}");
    let same = "# a comment\nversion: 1\nprojection: 'p'\ncollections:\n  other: {}\n  docs: {}\nevents:\n  a:\n  - key: data.x\n    delete: docs\n";
    let other = one.replace("data.x", "data.y");
    assert_eq!(hash(&one), hash(same));
    assert_ne!(hash(&one), hash(&other));
}

#[test]
fn the_head_of_a_file_is_checked() {
    check("", &["1:1 expected a projection file, a map, found nothing"]);
    check("[]", &["1:1 expected a projection file, a map, found a list"]);
    check("a: {b: 1", &["1:4 unclosed bracket"]);
    check("version: 1\nversion: 2", &["2:1 duplicate mapping key: version"]);
    check("<<: {a: 1}", &["1:1 merge keys are not allowed"]);
    check("a: !mine 1", &["1:10 unsupported tag"]);
    check("a: 1\n---\nb: 1", &["3:1 multiple YAML documents"]);
    check(&"#".repeat(DEFINITION_BYTES_MAX + 1), &["1:1 at most 1048576 bytes, found 1048577"]);
    check(
        "projection: Flights_1\nversion: 0\ncolections: {}\nevents: []",
        &[
            "1:1 missing key `collections`",
            "1:13 expected a name of a-z 0-9 -",
            "2:10 expected a whole number from 1 to 2147483648, found the number 0",
            "3:1 unknown key `colections` in a projection file: did you mean `collections`?",
        ],
    );
    check(
        "projection: p\nversion: 2147483649\ncollections: {}\nevents: {}",
        &[
            "2:10 found the number 2147483649",
            "3:14 expected 1 to 64 collections, found 0",
            "4:9 at least one event type",
        ],
    );
    check(
        "projection: p\nversion: 1\ncollections:\n  1a: {index: {}}\n  b: {indexes: {x y: [a..b], z: [], w: a}}\nevents: {$x: [], a..b: 3}",
        &[
            "4:3 expected the name of a collection",
            "4:8 unknown key `index` in a collection: did you mean `indexes`?",
            "5:17 expected the name of an index",
            "5:23 expected a field path such as origin",
            "5:33 expected a list of 1 to 8 field paths",
            "5:40 expected a list of 1 to 8 field paths, found the text \"a\"",
            "6:10 reserved for the system",
            "6:14 expected 1 to 64 steps, found 0",
            "6:18 joined by dots",
            "6:24 expected a list of steps, found the number 3",
        ],
    );
}

#[test]
fn a_step_names_one_operation_on_a_known_collection() {
    check_steps("    - {put: docs, merge: docs, key: data.x, value: {}}\n", &["6:7 found put and merge"]);
    check_steps(
        "    - {key: data.x}\n",
        &["6:7 expected a step with one of put, merge, add, delete, found none"],
    );
    check_steps(
        "    - {put: dogs, key: data.x, value: {}}\n",
        &["6:13 unknown collection `dogs`: did you mean `docs`?"],
    );
    check_steps("    - {put: elsewhere, key: data.x, value: {}}\n", &["6:13 known are docs, other"]);
    check_steps(
        "    - {put: docs, value: {}, wehn: 'true'}\n",
        &["6:7 missing key `key`", "6:30 did you mean `when`?"],
    );
    check_steps("    - {put: docs, key: data.x}\n", &["6:7 missing key `value`"]);
    check_steps(
        "    - {delete: docs, key: data.x, value: {}}\n",
        &["6:35 a step with `delete` has no `value`"],
    );
    check_steps(
        "    - {put: docs, key: data.x, value: 5}\n",
        &["6:39 expected `value` to be a map of fields, found the number 5"],
    );
    check_steps(
        "    - {put: docs, key: data.x, value: 'a ${data.x}'}\n",
        &["6:39 expected `value` to be a map"],
    );
    check_steps("    - {put: docs, key: data.x, value: '${data.x}'}\n", &[]);
    check_steps(
        "    - {add: docs, key: data.x, value: '${data.x}'}\n",
        &["6:39 expected `value` to be a map"],
    );
    check_steps("    - {put: docs, key: [], value: {}}\n", &["6:24 expected a key of 1 to 8 parts, found 0"]);
    check_steps("    - {put: docs, key: {a: 1}, value: {}}\n", &["6:24 expected an expression, found a map"]);
    check_steps("    - {put: docs, key: '${data.x}', value: {}}\n", &["6:24 without `${...}`"]);
    check_steps("    - {put: docs, key: 5, value: {a: 1, b: [true, ~, '${1}']}}\n", &[]);
}

#[test]
fn values_are_checked_for_their_operation() {
    check_steps(
        "    - add: docs\n      key: data.x\n      value: {a: 1, b: x, c: '${\"y\"}', d: '${data.n} ', e: ~, f: '${data.n}', g: -2.5}\n",
        &[
            "8:24 expected a number or one ${...} to add to `b`, found the text \"x\"",
            "8:30 to add to `c`",
            "8:43 to add to `d`",
            "8:60 to add to `e`, found nothing",
        ],
    );
    check_steps(
        "    - {merge: docs, key: data.x, value: {a: $unset, b: {c: $unset}}}\n",
        &["6:60 `$unset` is for top-level fields of `merge`"],
    );
    check_steps("    - {put: docs, key: data.x, value: {a: $unset}}\n", &["6:43 `$unset` is for top-level"]);
    check_steps("    - {put: docs, key: data.x, value: {'${data.x}': 1}}\n", &["6:40 names are fixed"]);
    check_steps(
        "    - {put: docs, key: data.x, value: {a: '$${x} ${data.x} ${data.y'}}\n",
        &["6:60 `${` is not closed"],
    );
    check_steps("    - {put: docs, key: data.x, value: {a: '$5 $$ $${x}', b: \"${'}'}\"}}\n", &[]);
}

#[test]
fn the_place_of_a_bad_expression_is_exact() {
    check_steps(
        "    - when: dta.x > 1\n      put: docs\n      key: 'data.x + ''a'' + nope'\n      value:\n        plain: ${data.x + nope}\n        \
         quoted: \"ä\\t\\u00e4 ${data.x + nope}\"\n        single: 'it''s ${nope}'\n",
        &[
            "6:13 unknown variable `dta`: did you mean `data`?",
            "8:30 unknown variable `nope`",
            "10:27 unknown variable `nope`",
            "11:39 unknown variable `nope`",
            "12:26 unknown variable `nope`",
        ],
    );
    check_steps(
        "    - put: docs\n      key: |\n        data.x +\n          nope\n      value:\n        a: >-\n          ${data.x +\n          nope}\n        b: |-\n\n          ${\n           nope}\n",
        &["9:11 unknown variable `nope`", "12:11 unknown variable `nope`", "17:12 unknown variable `nope`"],
    );
    check_steps(
        "    - {put: docs, key: &k nope, value: {}}\n    - {delete: docs, key: *k}\n",
        &["6:27 unknown variable `nope`", "7:27 unknown variable `nope`"],
    );
}

#[test]
fn variables_are_known_where_they_have_a_value() {
    check_steps(
        "    - {put: docs, key: item.x, value: {}}\n",
        &["6:24 `item`: it is known in steps with `for_each`"],
    );
    check_steps(
        "    - {for_each: doc.x, put: docs, key: item.x, value: {}}\n",
        &["6:18 `doc`: it is known behind `for_each`"],
    );
    check_steps(
        "    - {for_each: item, put: docs, key: item.x, value: {}}\n",
        &["6:18 unknown variable `item`"],
    );
    check_steps(
        "    - {let: {a: b, b: '1'}, put: docs, key: a, value: {}}\n",
        &["6:17 unknown variable `b`"],
    );
    check_steps(
        "    - {let: {data: '1', b-c: '1', in: '1', ok: '1'}, put: docs, key: ok, value: {}}\n",
        &["6:14 found `data`", "6:25 found `b-c`", "6:35 found `in`"],
    );
    check_steps(
        "    - {let: [a], put: docs, key: data.x, value: {}}\n",
        &["6:13 expected names and their expressions"],
    );
    check_steps(
        "    - {put: docs, key: doc.x, value: {}}\n",
        &["6:24 the key decides which document `doc` is"],
    );
    check_steps(
        "    - {let: {a: doc, b: \"a == null ? 1 : 2\"}, put: docs, key: [data.x, b], value: {}}\n",
        &["6:63 the key decides"],
    );
    check_steps(
        "    - {let: {a: doc.?n.orValue(0)}, when: a > 1, put: docs, key: data.x, value: {b: '${a}'}}\n",
        &[],
    );
    check_steps(
        "    - {put: docs, key: event.tag, value: {a: '${event.position}'}}\n",
        &["6:24 did you mean `event.tags`?"],
    );
    check_steps(
        "    - {put: docs, key: \"lookup('doc', 1).a\", value: {a: '${lookup(\"docs\", [1, 2])}'}}\n",
        &["6:32 unknown collection \"doc\": did you mean \"docs\"?"],
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        drop(Definition::parse(&text, "p"));
    }

    #[test]
    fn no_damaged_file_panics(at in any::<prop::sample::Index>(), length in 0_usize..12, put in "[ -~\\n]{0,6}") {
        for example in documented() {
            let start = at.index(example.len());
            let end = (start + length).min(example.len());
            if let (Some(head), Some(tail)) = (example.get(..start), example.get(end..)) {
                drop(Definition::parse(&format!("{head}{put}{tail}"), "p"));
            }
        }
    }
}
