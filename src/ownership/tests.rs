//! Who may append what, and what is said to the others.

use super::*;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn operations() -> Ownership {
    Ownership {
        types: Some(patterns(&["board.*", "note"])),
        streams: Some(patterns(&["board/*", "notes"])),
        imports: vec![Imported {
            import: "from-flights".into(),
            owner: "flights".into(),
            types: vec!["flight.departed".into()],
            streams: Pattern::parse("board/flights/*").unwrap(),
        }],
    }
}

#[track_caller]
fn check(ownership: &Ownership, event_type: &str, stream: &str, expected: &str) {
    let found = ownership.may_append(event_type, stream);
    let found = found.map_or_else(|refused| format!("{refused} ({:?})", refused.owner), |()| "yes".into());
    assert_eq!(found, expected);
}

#[test]
fn a_node_without_settings_owns_all_that_it_does_not_import() {
    check(&Ownership::default(), "a", "b", "yes");
    let importing = Ownership { types: None, streams: None, ..operations() };
    check(&importing, "flight.departed", "b", "yes");
    check(
        &importing,
        "a",
        "board/flights/UA1",
        "stream \"board/flights/UA1\" is not this node's own: the import from-flights keeps events of the node flights in \
         board/flights/*: append at flights (Some(\"flights\"))",
    );
}

#[test]
fn types_and_streams_are_both_asked_for() {
    let ownership = operations();
    check(&ownership, "board.made", "board/1", "yes");
    check(&ownership, "note", "notes", "yes");
    check(
        &ownership,
        "notes",
        "notes",
        "type \"notes\" is not this node's own: owns.types names board.*, note only (None)",
    );
    check(
        &ownership,
        "board",
        "notes",
        "type \"board\" is not this node's own: owns.types names board.*, note only (None)",
    );
    check(
        &ownership,
        "note",
        "notes/1",
        "stream \"notes/1\" is not this node's own: owns.streams names board/*, notes only (None)",
    );
    check(
        &ownership,
        "flight.departed",
        "notes",
        "type \"flight.departed\" is not this node's own: owns.types names board.*, note only; the import from-flights takes \
         this type from the node flights: append it there (Some(\"flights\"))",
    );
    check(
        &ownership,
        "note",
        "board/flights/x",
        "stream \"board/flights/x\" is not this node's own: the import from-flights keeps events of the node flights in \
         board/flights/*: append at flights (Some(\"flights\"))",
    );
    let nothing = Ownership { types: Some(patterns(&[])), ..Ownership::default() };
    check(&nothing, "a", "b", "type \"a\" is not this node's own: owns.types names nothing (None)");
}

#[test]
fn what_is_imported_is_never_exported() {
    let ownership = Ownership::default();
    assert_eq!(ownership.may_export("a", "b", None), Ok(()));
    let refused = ownership.may_export("a", "b", Some("flights")).unwrap_err();
    assert_eq!(refused.owner.as_deref(), Some("flights"));
    assert!(operations().may_export("flight.departed", "board/1", None).is_err());
}

#[test]
fn patterns_are_names_or_their_beginnings() {
    let fits = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
    assert!(
        fits("flight.*", "flight.departed") && !fits("flight.*", "flight") && !fits("flight.*", "flights.x")
    );
    assert!(fits("*", "anything") && fits("a", "a") && !fits("a", "ab") && fits("a*", "a"));
    for (pattern, expected) in [
        ("", "found none"),
        ("a*b", "not at the end"),
        ("a**", "more than one"),
        ("$x", "the system's own"),
        ("a\nb", "control characters"),
    ] {
        let error = Pattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let overlap = |a: &str, b: &str| Pattern::parse(a).unwrap().overlaps(&Pattern::parse(b).unwrap());
    assert!(overlap("a*", "ab*") && overlap("ab*", "a*") && overlap("a", "a*") && overlap("*", "x"));
    assert!(!overlap("a*", "b*") && !overlap("a", "ab*") && !overlap("a", "b"));
    assert_eq!(Pattern::parse("a.*").unwrap().to_string(), "a.*");
}

#[test]
fn decisions_are_explained() {
    let shown = |ownership: &Ownership, event_type, stream| {
        let lines = ownership.explain(event_type, stream);
        lines
            .iter()
            .map(|e| format!("{} {} {}: {}", e.field.as_str(), e.value, e.is_own, e.why))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&operations(), Some("board.x"), Some("notes")),
        ["stream notes true: owns.streams names notes", "type board.x true: owns.types names board.*"]
    );
    assert_eq!(
        shown(&Ownership::default(), Some("a"), None),
        ["type a true: owns.types is not set, and nothing is imported"]
    );
    let importing = Ownership { types: None, streams: None, ..operations() };
    assert_eq!(
        shown(&importing, None, Some("s")),
        ["stream s true: owns.streams is not set, and no import takes it"]
    );
    assert_eq!(
        shown(&importing, Some("flight.departed"), None),
        [
            "type flight.departed true: owns.types is not set; the import from-flights takes this type too, into board/flights/*"
        ]
    );
    assert_eq!(shown(&operations(), Some("x"), None), ["type x false: owns.types names board.*, note only"]);
}

#[test]
fn what_is_in_force_can_be_replaced() {
    let in_force = InForce::new(operations());
    let shared = in_force.clone();
    in_force.set(Ownership::default());
    assert_eq!(*shared.get(), Ownership::default());
}
