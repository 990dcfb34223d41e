//! Tests of the fold: what each change does, and what the rules refuse.

use proptest::prelude::*;

use super::*;

fn promote(version: u32, from: u32) -> Change {
    Change::Promote { version, from: Some(from) }
}

fn back(version: u32, from: u32) -> Change {
    Change::RollBack { version, from }
}

fn retire(version: u32, active: u32) -> Change {
    Change::Retire { version, definition_hash: [version as u8; 32], active }
}

/// Folds changes at positions 10, 20, 30 ...; each must be allowed.
fn fold(changes: &[Change]) -> Versions {
    let mut versions = Versions::default();
    for (at, change) in (1..).zip(changes) {
        assert_eq!(versions.check(change), Ok(()), "{change:?} after {versions:?}");
        versions.fold(Position::new(10 * at), change);
    }
    versions
}

fn check(changes: &[Change], active: u32, before: Option<u32>) -> Versions {
    let versions = fold(changes);
    assert_eq!((versions.active(), versions.before()), (Some(active), before), "{changes:?}");
    versions
}

#[test]
fn promotes_and_rollbacks_walk_through_the_versions_that_were_active() {
    assert_eq!((Versions::default().active(), Versions::default().before()), (None, None));
    check(&[promote(2, 1)], 2, Some(1));
    check(&[promote(2, 1), back(1, 2)], 1, None);
    check(&[promote(2, 1), promote(3, 2), back(2, 3), back(1, 2)], 1, None);
    // Each version is in the history once, at its latest turn.
    check(&[promote(2, 1), promote(1, 2)], 1, Some(2));
    check(&[promote(2, 1), promote(1, 2), promote(2, 1), promote(3, 2)], 3, Some(2));
    let versions = check(&[promote(2, 1), back(1, 2), promote(3, 1)], 3, Some(1));
    assert!([1, 2, 3].iter().all(|version| versions.was_active(*version)));
    assert!(!versions.was_active(4));
    let expected = Activations::new(1, [(10, 2), (20, 1), (30, 3)].map(|(at, v)| (Position::new(at), v)));
    assert_eq!(versions.activations(9), expected, "the log says which version was the first");
}

#[test]
fn a_retired_version_is_out_of_the_history_and_comes_back_as_one_that_was_never_active() {
    let versions = check(&[promote(2, 1), promote(3, 2), retire(2, 3)], 3, Some(1));
    assert_eq!(versions.retired(2), Some(&[2; 32]));
    assert!(!versions.was_active(2));
    assert_eq!(versions.check(&promote(2, 3)), Err(Refused::Retired));
    assert_eq!(versions.check(&retire(2, 3)), Err(Refused::Retired));
    let again = check(
        &[promote(2, 1), promote(3, 2), retire(2, 3), Change::Restore { version: 2 }, promote(2, 3)],
        2,
        Some(3),
    );
    assert_eq!(again.all_retired().len(), 0);
    // Before anything was decided the event says who is active.
    check(&[retire(1, 2)], 2, None);
}

#[test]
fn what_is_against_the_rules_is_refused_and_changes_nothing() {
    let versions = fold(&[promote(2, 1), retire(1, 2)]);
    let refused = [
        (promote(2, 2), Refused::Active),
        (promote(3, 1), Refused::Retired),
        (promote(3, 4), Refused::OtherActive(2)),
        (promote(1, 2), Refused::Retired),
        (back(1, 2), Refused::NothingBefore),
        (retire(2, 2), Refused::Active),
        (retire(3, 5), Refused::OtherActive(2)),
        (Change::Restore { version: 2 }, Refused::NotRetired),
    ];
    for (change, expected) in refused {
        assert_eq!(versions.check(&change), Err(expected), "{change:?}");
        let mut after = versions.clone();
        after.fold(Position::new(100), &change);
        assert_eq!(after, versions, "{change:?}");
    }
    assert_eq!(Versions::default().check(&promote(1, 1)), Err(Refused::Active));
    let early = fold(&[Change::Promote { version: 2, from: None }]);
    assert_eq!((early.active(), early.before()), (Some(2), None));
    assert_eq!(early.activations(7).active_at(Position::new(1)), 7);
}

fn any_change() -> impl Strategy<Value = Change> {
    let version = 1_u32..5;
    prop_oneof![
        (version.clone(), prop::option::of(version.clone()))
            .prop_map(|(version, from)| Change::Promote { version, from }),
        (version.clone(), version.clone()).prop_map(|(version, from)| back(version, from)),
        (version.clone(), version.clone()).prop_map(|(version, active)| retire(version, active)),
        version.prop_map(|version| Change::Restore { version }),
    ]
}

proptest! {
    #[test]
    fn whatever_the_log_says_one_version_is_active_and_none_that_is_retired(
        changes in prop::collection::vec(any_change(), 0..40),
    ) {
        let mut versions = Versions::default();
        for (at, change) in (1..).zip(&changes) {
            let before = versions.clone();
            versions.fold(Position::new(at), change);
            prop_assert!(before.active().is_none() || versions.active().is_some());
            if let Some(active) = versions.active() {
                prop_assert!(versions.retired(active).is_none());
                prop_assert_eq!(versions.activations(active).latest(), active);
            }
            if let Some(before) = versions.before() {
                prop_assert!(versions.retired(before).is_none());
                prop_assert_ne!(Some(before), versions.active());
                let change = back(before, versions.active().unwrap());
                prop_assert_eq!(versions.check(&change), Ok(()));
            }
        }
    }
}
