//! What export and import files are read, what is refused where, and what becomes of events.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Tag},
    mesh::envelope::PublicEvent,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const EXPORT: &str = "export: flights\nversion: 1\nevents:\n";
const IMPORT: &str = "import: f\nfrom: {node: flights, export: flights, version: 1}\nstreams: 'flights/*'\n";

#[track_caller]
fn check<T>(parsed: Result<T, DefinitionError>, expected: &[&str]) {
    let problems = parsed.err().map(|error| error.problems).unwrap_or_default();
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (place, message) = expected.split_once(' ').unwrap();
            found.starts_with(&format!("f:{place}: ")) && found.contains(message)
        });
    assert!(fits, "expected {expected:#?}\nfound {found:#?}");
}

#[track_caller]
fn check_export(events: &str, expected: &[&str]) {
    check(Export::parse(&format!("{EXPORT}{events}"), "f"), expected);
}

#[track_caller]
fn check_import(rest: &str, expected: &[&str]) {
    check(Import::parse(&format!("{IMPORT}{rest}"), "f"), expected);
}

fn export(events: &str) -> Export {
    Export::parse(&format!("{EXPORT}{events}"), "f").unwrap_or_else(|error| panic!("{error}"))
}

fn import(rest: &str) -> Import {
    Import::parse(&format!("{IMPORT}{rest}"), "f").unwrap_or_else(|error| panic!("{error}"))
}

fn recorded(event_type: &str, data: &str) -> RecordedEvent {
    RecordedEvent {
        position: Position::new(12),
        revision: Revision::new(3),
        recorded_at_unix_nanos: 1_357_028_130_250_000_000,
        event: Event {
            id: EventId::from_uuid(Uuid::from_u128(77)).unwrap(),
            event_type: EventType::parse(event_type).unwrap(),
            stream: StreamId::parse("UA1545").unwrap(),
            tags: vec![Tag::parse("carrier:UA").unwrap(), Tag::parse("secret:1").unwrap()],
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: Some(format!("{{\"user\":\"u\",\"traceparent\":\"{TRACE}\"}}").into()),
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

fn public(event_type: &str, data: &str) -> PublicEvent {
    export("  a: {data: all}\n  b.c: {data: all}\n").publish(&recorded(event_type, data)).unwrap().unwrap()
}

/// One line of what is made: type, stream, tags, data.
fn shown(event_type: &EventType, stream: &StreamId, tags: &[Tag], data: &Bytes) -> String {
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    format!("{event_type} {stream} [{}] {}", tags.join(","), String::from_utf8_lossy(data))
}

#[track_caller]
fn check_published(events: &str, event_type: &str, data: &str, expected: &str) {
    let published = match export(events).publish(&recorded(event_type, data)) {
        Ok(None) => "nothing".to_owned(),
        Ok(Some(event)) => shown(&event.event_type, &event.stream, &event.tags, &event.data),
        Err(error) => error.to_string(),
    };
    assert_eq!(published, expected, "{events}");
}

#[track_caller]
fn check_mapped(rest: &str, event: &PublicEvent, expected: &[&str]) {
    let mapped: Vec<String> = match import(rest).map(event) {
        Ok(events) => events.iter().map(|e| shown(&e.event_type, &e.stream, &e.tags, &e.data)).collect(),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(mapped, expected, "{rest}");
}

#[test]
fn an_export_lets_out_what_it_names() {
    let data = r#"{"flight": "UA1545", "crew": {"captain": "x", "seats": 3}, "delay": 2.0}"#;
    check_published("  a: {data: all}", "a", data, &format!("a UA1545 [] {data}"));
    check_published("  a: {data: all}", "other", data, "nothing");
    check_published(
        "  a: {as: b.c, keep: [flight, crew.seats, nope]}",
        "a",
        data,
        r#"b.c UA1545 [] {"crew":{"seats":3},"flight":"UA1545"}"#,
    );
    check_published(
        "  a:\n    data: {what: '${data.flight} ${event.revision}', delay: '${data.delay}', n: [1, ~]}\n    \
         stream: 'flight/${data.flight}'\n    tags: ['x', 'flight:${data.flight}', 'x']\n",
        "a",
        data,
        r#"a flight/UA1545 [flight:UA1545,x] {"delay":2,"n":[1,null],"what":"UA1545 3"}"#,
    );
    check_published(
        "  a: {data: '${data.crew}', when: data.delay > 1}",
        "a",
        data,
        r#"a UA1545 [] {"captain":"x","seats":3}"#,
    );
    check_published("  a: {data: '${data.crew}', when: data.delay > 2}", "a", data, "nothing");
    check_published("  a: {data: {by: '${event.metadata.user}'}}", "a", data, r#"a UA1545 [] {"by":"u"}"#);
}

#[test]
fn what_is_published_says_when_and_in_which_trace() {
    let exported = export("  a: {data: all}\n");
    let event = exported.publish(&recorded("a", "1")).unwrap().unwrap();
    assert_eq!(
        event.time_unix_nanos, 1_357_028_130_250_000_000,
        "when it was recorded, if nobody said better"
    );
    assert_eq!(event.trace.as_deref(), Some(TRACE));
    for metadata in ["{\"traceparent\":\"secret\"}", "{\"traceparent\":1}", "{\"user\":\"traceparent\"}"] {
        let mut private = recorded("a", "1");
        private.event.metadata = Some(metadata.into());
        (private.event.time_unix_nanos, private.position) = (Some(5), Position::new(99));
        let event = exported.publish(&private).unwrap().unwrap();
        assert_eq!((event.trace, event.time_unix_nanos), (None, 5), "{metadata}");
    }
}

#[test]
fn what_cannot_be_published_says_where() {
    let fails = |events: &str, data: &str, expected: &str| check_published(events, "a", data, expected);
    fails(
        "  a: {data: {x: '${data.y}'}}",
        "{}",
        "a (line 4), data.x, in `data.y`: `data.y` is missing (write `.?y` or has(...) where it may be)",
    );
    fails(
        "  a: {data: all, when: data}",
        "1",
        "a (line 4), when, in `data`: `data` is the integer 1, expected a boolean",
    );
    fails("  a: {keep: [b]}", "[1]", "a (line 4), keep: expected data that is a map, found a list");
    fails(
        "  a: {data: all, stream: '${data}'}",
        "1",
        "a (line 4), stream: expected a text, found the integer 1",
    );
    fails(
        "  a: {data: all, stream: '$import-${data}'}",
        "1",
        "a (line 4), stream: streams that begin with $ are reserved for the system, found \"$import-1\"",
    );
    fails(
        "  a: {data: all, tags: [x, '${data}']}",
        "\"\"",
        "a (line 4), tags.1: expected some text, found none",
    );
    let long = format!("\"{}\"", "x".repeat(600_000));
    fails(
        "  a: {data: {b: '${data}', c: '${data}'}}",
        &long,
        "a (line 4): the event has 1200022 bytes, 1048576 are the most",
    );
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    fails(
        "  a: {data: {b: '${data}'}}",
        &deep,
        "a (line 4), data: the data nests 101 lists and maps deep, 100 are the most",
    );
}

#[test]
fn an_export_file_is_checked_as_a_whole() {
    check(Export::parse("", "f"), &["1:1 expected an export file, a map, found nothing"]);
    check(
        Export::parse("export: A\nversion: 0\nimporters: [x, 5]\nevent: {}\n", "f"),
        &[
            "1:1 missing key `events`",
            "1:9 expected a name of a-z 0-9 -",
            "2:10 expected a whole number from 1 to 2147483648",
            "3:16 expected a name of a-z 0-9 -",
            "4:1 unknown key `event` in an export file: did you mean `events`?",
        ],
    );
    check(
        Export::parse("export: a\nversion: 1\nimporters: a\nevents: {}", "f"),
        &["3:12 expected a list of nodes", "4:9 expected 1 to 256 event types"],
    );
    check_export(
        "  $a: {data: all}\n  b: {}\n  c: {data: all, keep: [x]}\n  d: {data: x}\n  e: {keep: []}\n  f: {keep: [a, a..b, 1, a]}\n",
        &[
            "4:3 not an event type",
            "5:6 expected what of the data goes out: `data: all`, `data: {...}` or `keep: [...]`",
            "6:18 expected one of `data` and `keep`, found both",
            "7:13 expected `all`, a map of fields or one ${...}, found the text \"x\"",
            "8:13 expected a list of 1 to 256 field paths",
            "9:17 expected a field path such as carrier or address.city",
            "9:23 expected a field path",
            "9:26 the field a is repeated",
        ],
    );
    check_export(
        "  a: {as: $b, data: {x: '${dta.y}'}, when: event.tag == 'x', stream: 5, tags: x}\n  b: {data: all, stream: $c, tags: [1, \"\"]}\n  c: {data: {x: '${doc.y}'}}\n",
        &[
            "4:11 event types that begin with $ are reserved",
            "4:28 unknown variable `dta`: did you mean `data`?",
            "4:44 `event` has no field `tag`: did you mean `event.tags`?",
            "4:70 expected a stream, a text that may hold ${...}, found the number 5",
            "4:79 expected a list of tags",
            "5:26 a stream: streams that begin with $ are reserved",
            "5:37 expected a tag, a text that may hold ${...}, found the number 1",
            "5:40 a tag: expected some text, found none",
            "6:20 `doc`: it is known in steps of projections only",
        ],
    );
    check(Export::parse(&"#".repeat((1 << 20) + 1), "f"), &["1:1 at most 1048576 bytes"]);
}

#[test]
fn an_import_takes_all_as_it_comes_where_it_names_nothing() {
    let event = PublicEvent { tags: vec![Tag::parse("t").unwrap()], ..public("a", "[ 1 ]") };
    check_mapped("", &event, &["a flights/UA1545 [t] [ 1 ]"]);
    check_mapped("events: {a: }\n", &event, &["a flights/UA1545 [t] [ 1 ]"]);
    check_mapped("events: {a: {when: 'data[0] == 1'}}\n", &event, &["a flights/UA1545 [t] [ 1 ]"]);
    check_mapped("events: {a: {when: 'data[0] == 2'}}\n", &event, &[]);
    check_mapped("events: {a: {append: []}}\n", &event, &[]);
    check_mapped("events: {b: }\n", &event, &[]);
    let one = Import::parse(&IMPORT.replace("'flights/*'", "board"), "f").unwrap();
    assert_eq!(one.map(&event).unwrap()[0].stream.as_str(), "board");
    assert_eq!(one.map(&event).unwrap()[0].time_unix_nanos, event.time_unix_nanos);
}

#[test]
fn an_import_makes_none_one_or_many() {
    let event = public("b.c", r#"{"flight":"UA1","legs":2}"#);
    let append = "events:\n  b.c:\n    append:\n    - {type: board.flight, stream: 'flights/${data.flight}', tags: ['leg:${data.legs}'], data: {id: '${event.id}'}}\n    \
                  - {type: board.legs, when: data.legs > 1, keep: [legs]}\n    - {when: data.legs > 2}\n    - {}\n";
    check_mapped(
        append,
        &event,
        &[
            r#"board.flight flights/UA1 [leg:2] {"id":"00000000-0000-0000-0000-00000000004d"}"#,
            r#"board.legs flights/UA1545 [] {"legs":2}"#,
            r#"b.c flights/UA1545 [] {"flight":"UA1","legs":2}"#,
        ],
    );
    check_mapped(
        "events:\n  b.c: {append: [{stream: 'elsewhere/${data.flight}'}]}\n",
        &event,
        &["b.c (line 5), stream: expected a stream that fits `streams: flights/*`, found \"elsewhere/UA1\""],
    );
    check_mapped(
        "events:\n  b.c:\n    append:\n    - {data: {x: '${data.z}'}}\n",
        &event,
        &["b.c (line 7), data.x, in `data.z`: `data.z` is missing (write `.?z` or has(...) where it may be)"],
    );
    let long = PublicEvent { stream: StreamId::parse(&"s".repeat(250)).unwrap(), ..event };
    check_mapped("", &long, &["b.c, stream: expected at most 256 bytes, found 258"]);
    let large = public("b.c", &format!("\"{}\"", "x".repeat(900_000)));
    check_mapped(
        "events:\n  b.c: {append: [{}, {}, {}]}\n",
        &large,
        &["b.c (line 5), append: the events have 2700057 bytes together, 2097152 are the most"],
    );
}

#[test]
fn an_import_file_is_checked_as_a_whole() {
    check(
        Import::parse(
            "import: a\nfrom: {node: N, export: e, version: x}\nstreams: '*'\non_error: stop\nevents: {}\n",
            "f",
        ),
        &[
            "2:14 expected a name of a-z 0-9 -",
            "2:37 expected a whole number from 1",
            "3:10 an import does not take all streams",
            "4:11 expected one of pause, quarantine, skip",
            "5:9 expected 1 to 256 event types",
        ],
    );
    check(
        Import::parse("import: a\nfrom: flights\nstream: x\n", "f"),
        &[
            "1:1 missing key `streams`",
            "2:7 expected `from`, a map, found the text \"flights\"",
            "3:1 unknown key `stream` in an import file: did you mean `streams`?",
        ],
    );
    check(
        Import::parse("import: a\nfrom: {node: n}\nstreams: a*b\n", "f"),
        &["2:7 missing key `export`", "2:7 missing key `version`", "3:10 found a `*` that is not at the end"],
    );
    check_import(
        "events: {a: {append: {}}, b: {append: [{as: x}]}, c: {when: event.position > 1}}\n",
        &[
            "4:22 expected a list of at most 64 events, found a map",
            "4:41 unknown key `as` in an event to append",
            "4:61 `event` has no field `position`",
        ],
    );
}

#[test]
fn the_examples_of_the_documentation_are_read() {
    let text = include_str!("../../../docs/mesh.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let of = |start: &str| blocks.iter().find(|block| block.starts_with(start)).unwrap();
    let export = Export::parse(of("export: "), "f").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(export.public_types(), ["flight.left", "flight.scheduled", "gate.opened"]);
    let import = Import::parse(of("import: "), "f").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(import.event_types().unwrap(), ["flight.left", "flight.scheduled"]);
    let trust =
        crate::mesh::trust::Trust::parse(of("flights:"), "f").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((trust.keys_of("flights").len(), trust.keys_of("weather").len()), (2, 1));
    assert_eq!(blocks.len(), 4);
}

#[test]
fn directories_are_read_file_by_file() {
    use crate::{
        disk::{Disk as _, replace_file, sim::SimDisk},
        mesh::definition::directory::{imported, read_exports, read_imports},
    };
    use std::path::Path;
    let (disk, dir) = (SimDisk::new(1), Path::new("/imports"));
    disk.create_dir_all(dir).unwrap();
    let write = |name: &str, text: &str| replace_file(&disk, &dir.join(name), text.as_bytes()).unwrap();
    write("a.yaml", IMPORT);
    write("b.yml", &IMPORT.replace("import: f", "import: g"));
    write("c.yaml", &IMPORT.replace("flights/*", "other/*"));
    write("d.yaml", "import: 5\n");
    write("e.yaml", &IMPORT.replace("import: f", "import: h").replace("flights/*", "h"));
    write(".f.yaml", "ignored");
    write("notes.txt", "ignored");
    let read = read_imports(&disk, dir);
    assert_eq!(read.files.keys().collect::<Vec<_>>(), ["a.yaml", "e.yaml"]);
    for expected in [
        "/imports/b.yml: streams flights/* of the import g overlap with flights/* of the import f, which is defined in a.yaml",
        "/imports/c.yaml: the import f is defined in a.yaml already; this file is not used",
        "/imports/d.yaml:1:1: missing key `from`",
        "/imports/d.yaml:1:9: expected a name",
    ] {
        assert!(
            read.problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected}\n{:#?}",
            read.problems
        );
    }
    assert_eq!(imported(&read.files["a.yaml"]).owner, "flights");
    let missing = read_exports(&disk, Path::new("/none"));
    assert!(missing.problems[0].starts_with("/none: the directory cannot be read"), "{:?}", missing.problems);
    write("x.yaml", EXPORT.trim_end_matches("events:\n"));
    let exports = read_exports(&disk, dir);
    assert!(exports.files.is_empty() && exports.problems.iter().any(|p| p.contains("missing key `events`")));
}

#[test]
fn hashes_are_of_what_decides() {
    let hash = |text: &str| *Export::parse(text, "f").unwrap().hash();
    let one = "export: a\nversion: 1\nevents: {x: {data: all}}\n";
    let same = "# for all\nversion: 1\nexport: 'a'\nimporters: [b]\nevents:\n  x:\n    data: all\n";
    assert_eq!(hash(one), hash(same));
    assert_ne!(hash(one), hash(&one.replace("all", "{}")));
    assert_ne!(hash(one), hash(&one.replace("version: 1", "version: 2")));
    let import = |text: &str| *Import::parse(text, "f").unwrap().hash();
    assert_ne!(import(IMPORT), import(&IMPORT.replace("flights/*", "f/*")));
}

#[test]
fn an_export_knows_its_types_and_who_may_ask() {
    let text = "export: a\nversion: 1\nimporters: [b]\nevents: {x: {data: all}, y: {as: x, data: all}, w: {as: z, data: all}}\n";
    let export = Export::parse(text, "f").unwrap();
    assert_eq!((export.event_types(), export.public_types()), (vec!["w", "x", "y"], vec!["x", "z"]));
    assert!(export.allows("b") && !export.allows("c"));
    assert!(self::export("  x: {data: all}\n").allows("anybody"));
}

#[test]
fn derived_ids_tell_all_parts_apart() {
    let log = Uuid::from_u128(7);
    let id = |log, epoch, position, import: &str, ordinal| {
        derived_id(log, epoch, Position::new(position), import, ordinal)
    };
    let ids = [
        id(log, 1, 2, "a", 0),
        id(Uuid::from_u128(8), 1, 2, "a", 0),
        id(log, 12, 2, "a", 0),
        id(log, 1, 22, "a", 0),
        id(log, 1, 2, "b", 0),
        id(log, 1, 2, "a", 1),
    ];
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
    assert_eq!(ids[0], id(log, 1, 2, "a", 0));
    assert_eq!(ids[0].to_string(), "c76143d2-b6b7-54d7-ba69-37b419c11d3f");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        drop(Export::parse(&text, "f"));
        drop(Import::parse(&text, "f"));
    }
}
