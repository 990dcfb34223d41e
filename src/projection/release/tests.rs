//! Tests of the fold and of the forms.

use super::*;
use crate::clock::{Clock as _, SimClock};

fn bound(of: &[(&str, u32)]) -> Bound {
    of.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect()
}

fn fold(steps: &[(&str, Step)]) -> Releases {
    let clock = SimClock::new(1);
    let mut releases = Releases::default();
    for (at, (release, step)) in (1..).zip(steps) {
        let decision =
            ReleaseDecision { release: (*release).into(), step: step.clone(), reason: "because".into() };
        let id = uuid::Builder::from_random_bytes(clock.random().to_be_bytes()).into_uuid();
        let event = decision.to_event(EventId::from_uuid(id).unwrap());
        assert_eq!(ReleaseDecision::read(&event), Ok(Some(decision)));
        let recorded = RecordedEvent {
            position: Position::new(10 * at),
            revision: Revision::new(at),
            recorded_at_unix_nanos: 0,
            event,
            tracking: None,
            origin: None,
            cursor: None,
        };
        releases.fold(&recorded).unwrap();
        // Once more: it is folded already.
        releases.fold(&recorded).unwrap();
    }
    releases
}

#[test]
fn a_release_names_what_was_applied_last_and_remembers_what_it_put_away() {
    let promoted = Step::Promoted { versions: bound(&[("a", 2)]), from: bound(&[("a", 1)]) };
    let steps = [
        ("blue", Step::Applied(bound(&[("a", 1), ("b", 1)]))),
        ("green", Step::Applied(bound(&[("a", 2)]))),
        ("green", Step::Applied(bound(&[("a", 2), ("b", 1)]))),
        ("green", promoted),
    ];
    let releases = fold(&steps);
    let green = releases.get("green").unwrap();
    assert_eq!(green.versions, bound(&[("a", 2), ("b", 1)]));
    assert_eq!(green.applied_at, Position::new(30));
    let promotion = green.promotion.as_ref().unwrap();
    assert_eq!((promotion.at, &promotion.from), (Position::new(40), &bound(&[("a", 1)])));
    assert_eq!((releases.naming("a", 1), releases.naming("b", 1)), (Some("blue"), Some("blue")));
    assert_eq!((releases.naming("a", 2), releases.naming("a", 3)), (Some("green"), None));
    assert_eq!(releases.revision(), Revision::new(4));
    assert_eq!(releases.step_of(Position::new(39)), Some(Position::new(39)), "appended right before");
    assert_eq!((releases.step_of(Position::new(38)), releases.step_of(Position::new(40))), (None, None));

    let mut more = steps.to_vec();
    more.extend([("green", Step::RolledBack(bound(&[("a", 1)]))), ("blue", Step::Removed)]);
    let releases = fold(&more);
    assert_eq!(releases.get("green").unwrap().promotion, None);
    assert_eq!(releases.all().keys().collect::<Vec<_>>(), ["green"]);
}

#[test]
fn names_are_labels() {
    for good in ["a", "green", "v1-2", &"x".repeat(63)] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", "-a", "a-", "Green", "a.b", "ä", &"x".repeat(64)] {
        let Invalid(refused) = check_name(bad).unwrap_err();
        assert!(refused.contains(&format!("found {bad:?}")), "{refused}");
    }
}
