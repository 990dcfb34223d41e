//! Every operation of a fixed life fails, once and for ever: nothing panics, no promise breaks, and after a healthy
//! reopening everything acknowledged is there.
//!
//! The life: open, append groups over several segments, write and merge runs of the index, follow with the projection,
//! deploy, sync the mark, lose power, recover, go on, stop. Shares node, model and checkers with the campaign. No call
//! site of the life is left out, and the life leaves out none to which rounds of the campaign usually come.

use std::{collections::BTreeSet, io, sync::LazyLock};

use outrigger::disk::sim::Site;

use crate::campaign::{
    sites,
    story::{Fault, Lived, Story},
};

/// The undisturbed life.
static CALM: LazyLock<Lived> =
    LazyLock::new(|| Story::live(Fault::None).unwrap_or_else(|finding| panic!("{}", finding.what)));

/// Lives once for each fault, which must have come; gives where.
fn sweep(faults: impl Iterator<Item = Fault>) -> BTreeSet<Site> {
    let live = |fault| match Story::live(fault) {
        Ok(lived) => lived.fault.unwrap_or_else(|| panic!("{fault:?} never came")),
        Err(finding) => panic!("{fault:?}: {:?}: {}", finding.checker, finding.what),
    };
    faults.map(live).collect()
}

/// The same; the faults come once, so that where they come is where they were sent: no call site is left out.
fn sweep_all(changing: bool, faults: impl Iterator<Item = Fault>) {
    let failed = sweep(faults);
    let missed: Vec<Site> = CALM.sites_of(changing).difference(&failed).copied().collect();
    assert!(missed.is_empty(), "call sites that never failed: {missed:#?}");
}

#[test]
fn the_life_is_worth_a_sweep() {
    let lived: BTreeSet<Site> = CALM.sites_of(true);
    let common: BTreeSet<Site> = sites::common().collect();
    let left_out: Vec<&Site> = common.difference(&lived).collect();
    assert!(left_out.is_empty(), "the life does not come to {left_out:#?}");
    assert!(CALM.sites_of(false).len() > 40, "{:#?}", CALM.sites_of(false));
}

fn check_changes(kind: io::ErrorKind) {
    sweep_all(true, (0..CALM.changes).map(|operation| Fault::Change { operation, kind }));
}

fn check_changes_for_ever(kind: io::ErrorKind) {
    sweep((0..CALM.changes).map(|operation| Fault::ChangesFrom { operation, kind }));
}

#[test]
fn every_change_fails_once() {
    check_changes(io::ErrorKind::Other);
}

#[test]
fn every_change_fails_once_for_want_of_room() {
    check_changes(io::ErrorKind::StorageFull);
}

#[test]
fn every_change_fails_for_ever() {
    check_changes_for_ever(io::ErrorKind::Other);
}

#[test]
fn every_change_fails_for_ever_for_want_of_room() {
    check_changes_for_ever(io::ErrorKind::StorageFull);
}

#[test]
fn every_read_fails_once() {
    sweep_all(false, (0..CALM.reads).map(|read| Fault::Read { read }));
}

#[test]
fn every_read_fails_for_ever() {
    sweep((0..CALM.reads).map(|read| Fault::ReadsFrom { read }));
}
