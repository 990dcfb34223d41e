//! Tests of decisions: their forms, their fold, their way through the index.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    disk::sim::SimDisk,
    event::EventType,
    projection::{
        testing::{DATA, Node},
        versions::Change,
    },
};

fn id(number: u128) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(number)).unwrap()
}

fn recorded(position: u64, revision: u64, decision: &Decision) -> RecordedEvent {
    RecordedEvent {
        position: Position::new(position),
        revision: Revision::new(revision),
        recorded_at_unix_nanos: 1,
        event: decision.to_event("p", id(u128::from(position))),
        tracking: None,
        origin: None,
        cursor: None,
    }
}

fn skip(version: Option<u32>, position: u64) -> Decision {
    Decision::EventSkipped {
        version,
        position: Position::new(position),
        reason: format!("because of {position}"),
    }
}

fn changed(change: Change) -> Decision {
    Decision::Versions { change, reason: String::new() }
}

fn promoted(version: u32) -> Decision {
    changed(Change::Promote { version, from: None })
}

#[test]
fn the_events_have_the_form_they_always_had() {
    let check = |decision: &Decision, event_type: &str, data: &str| {
        let event = decision.to_event("departures", id(1));
        assert_eq!(event.stream.as_str(), "$projection-departures");
        assert_eq!(event.event_type.as_str(), event_type);
        assert_eq!(event.data, data);
        assert_eq!(Decision::read(&event).as_ref(), Ok(&Some(decision.clone())));
    };
    let because = r#""reason":"because of 7""#;
    check(
        &skip(Some(2), 7),
        "$projection.event_skipped",
        &format!(r#"{{"position":7,{because},"version":2}}"#),
    );
    check(&skip(None, 7), "$projection.event_skipped", &format!(r#"{{"position":7,{because}}}"#));
    let retried = Decision::Retried { version: 3, reason: String::new() };
    check(&retried, "$projection.retried", r#"{"version":3}"#);
    check(&promoted(4), "$projection.promoted", r#"{"version":4}"#);
    let from = changed(Change::Promote { version: 4, from: Some(3) });
    check(&from, "$projection.promoted", r#"{"from":3,"version":4}"#);
    let back = Decision::Versions {
        change: Change::RollBack { version: 3, from: 4 },
        reason: "because of 7".into(),
    };
    check(&back, "$projection.rolled_back", &format!(r#"{{"from":4,{because},"version":3}}"#));
    let retired = changed(Change::Retire { version: 3, definition_hash: [171; 32], active: 4 });
    let hash = "ab".repeat(32);
    check(
        &retired,
        "$projection.retired",
        &format!(r#"{{"active":4,"definition_hash":"{hash}","version":3}}"#),
    );
    check(&changed(Change::Restore { version: 3 }), "$projection.restored", r#"{"version":3}"#);
}

#[test]
fn what_a_newer_program_wrote_is_passed_over_and_what_is_broken_is_named() {
    let mut event = promoted(1).to_event("p", id(1));
    event.data = Bytes::from_static(b"{\"version\":\"two\"}");
    let refused = Decision::read(&event).unwrap_err();
    assert!(refused.0.contains("expected a number as version"), "{refused}");
    event.data = Bytes::from_static(b"{}");
    assert!(Decision::read(&event).unwrap_err().0.contains("expected version"));
    event.event_type = EventType::parse_any("$projection.unheard_of").unwrap();
    assert_eq!(Decision::read(&event), Ok(None));
}

#[test]
fn a_skip_for_a_version_is_no_skip_for_others_and_one_for_all_waits_for_a_failure() {
    let mut decisions = Decisions::new("p");
    decisions.fold(&recorded(20, 1, &skip(Some(2), 7))).unwrap();
    decisions.fold(&recorded(21, 2, &skip(None, 8))).unwrap();
    let at = |position| Position::new(position);
    assert_eq!(decisions.skip_of(2, at(7)).unwrap().decided_at, at(20));
    assert_eq!(decisions.skip_of(1, at(7)), None);
    assert_eq!(decisions.skip_of_failing(1, at(7)), None);
    assert_eq!(decisions.skip_of(1, at(8)), None);
    assert_eq!(decisions.skip_of_failing(1, at(8)).unwrap().decided_at, at(21));
    let gap = decisions.fold(&recorded(30, 4, &skip(None, 9))).unwrap_err();
    assert!(gap.0.contains("expected revision 3"), "{gap}");
    assert_eq!(decisions.revision(), Revision::new(2));
}

#[test]
fn decisions_are_found_through_the_index_among_other_events() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    let filler: Vec<_> = (0..50).map(|number| ("doc.put", format!(r#"{{"key":"k{number}"}}"#))).collect();
    let mut expected = Decisions::new("p");
    let mut promotions = Vec::new();
    for round in 1..6_u32 {
        node.append(&filler);
        let decisions = [skip(Some(round), u64::from(round)), promoted(round + 1)];
        for decision in &decisions {
            let at = node.decide("p", decision);
            node.decide("other", decision);
            if let Decision::Versions { change: Change::Promote { version, .. }, .. } = decision {
                promotions.push((at, *version));
            }
        }
        // What is learned little by little is what is learned at once.
        expected.refresh(&node.events(), node.head.get()).unwrap();
    }
    let mut decisions = Decisions::new("p");
    decisions.refresh(&node.events(), node.head.get()).unwrap();
    assert_eq!(decisions, expected);
    assert_eq!(decisions.revision(), Revision::new(10));
    assert!((1..6).all(|round| decisions.skip_of(round, Position::new(u64::from(round))).is_some()));
    assert_eq!(decisions.activations(1), Activations::new(1, promotions));
    let mut unknown = Decisions::new("nobody");
    unknown.refresh(&node.events(), node.head.get()).unwrap();
    assert_eq!(unknown.revision(), Revision::NONE);
}

#[test]
fn clients_cannot_append_decisions() {
    assert!(StreamId::parse(stream_of("p").as_str()).is_err());
    for event_type in
        [form::EVENT_SKIPPED, form::RETRIED, form::PROMOTED, form::ROLLED_BACK, form::RETIRED, form::RESTORED]
    {
        assert!(EventType::parse(event_type).is_err());
    }
}

proptest! {
    #[test]
    fn the_fold_knows_every_skip_once_whatever_is_repeated(
        steps in prop::collection::vec((prop::option::of(1_u32..4), 1_u64..20, any::<bool>()), 1..20),
    ) {
        let mut decisions = Decisions::new("p");
        for (at, (version, position, again)) in steps.iter().enumerate() {
            let event = recorded(100 + at as u64, at as u64 + 1, &skip(*version, *position));
            decisions.fold(&event).unwrap();
            if *again {
                decisions.fold(&event).unwrap();
            }
        }
        prop_assert_eq!(decisions.revision(), Revision::new(steps.len() as u64));
        for version in 1..4 {
            for position in 1..20 {
                let first = |wanted: &dyn Fn(Option<u32>) -> bool| {
                    let found = steps.iter().position(|(named, at, _)| *at == position && wanted(*named));
                    found.map(|at| Position::new(100 + at as u64))
                };
                let found = decisions.skip_of(version, Position::new(position)).map(|skip| skip.decided_at);
                prop_assert_eq!(found, first(&|named| named == Some(version)));
                let failing = decisions.skip_of_failing(version, Position::new(position));
                prop_assert_eq!(failing.is_some(), first(&|named| named.is_none_or(|named| named == version)).is_some());
            }
        }
    }
}
