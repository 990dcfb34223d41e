//! Every operation of a fixed life fails, once and for ever: nothing panics, no promise breaks, and after a healthy
//! reopening everything acknowledged is there.
//!
//! The life: open, append groups over several segments, write and merge runs of the index, follow with the projection,
//! deploy, sync the mark, close, reopen. Shares node, model and checkers with the campaign. No call site of the life is
//! left out, and the life leaves out few of the campaign's.

use std::{collections::BTreeSet, io, sync::LazyLock};

use outrigger::disk::sim::Site;

use crate::campaign::{
    sites,
    story::{Fault, Lived, Story},
};

/// The undisturbed life.
static CALM: LazyLock<Lived> =
    LazyLock::new(|| Story::live(Fault::None).unwrap_or_else(|finding| panic!("{}", finding.what)));

/// Lives once for each fault; every call site must have failed.
fn sweep(changing: bool, faults: impl Iterator<Item = Fault>) {
    let mut failed = BTreeSet::new();
    for fault in faults {
        match Story::live(fault) {
            Ok(lived) => failed.extend(lived.fault),
            Err(finding) => panic!("{fault:?}: {:?}: {}", finding.checker, finding.what),
        }
    }
    let missed: Vec<Site> = CALM.sites_of(changing).difference(&failed).copied().collect();
    assert!(missed.is_empty(), "call sites that never failed: {missed:#?}");
}

fn sweep_changes(fault: impl Fn(u64) -> Fault) {
    sweep(true, (0..CALM.changes).map(fault));
}

#[test]
fn the_life_is_worth_a_sweep() {
    let lived: BTreeSet<Site> = CALM.sites_of(true);
    let common: BTreeSet<Site> = sites::common().collect();
    let left_out: Vec<&Site> = common.difference(&lived).collect();
    assert!(left_out.is_empty(), "the life does not come to {left_out:#?}");
    assert!(CALM.sites_of(false).len() > 40, "{:#?}", CALM.sites_of(false));
}

#[test]
fn every_change_fails_once() {
    sweep_changes(|operation| Fault::Change { operation, kind: io::ErrorKind::Other });
}

#[test]
fn every_change_fails_once_for_want_of_room() {
    sweep_changes(|operation| Fault::Change { operation, kind: io::ErrorKind::StorageFull });
}

#[test]
fn every_change_fails_for_ever() {
    sweep_changes(|operation| Fault::ChangesFrom { operation, kind: io::ErrorKind::Other });
}

#[test]
fn every_change_fails_for_ever_for_want_of_room() {
    sweep_changes(|operation| Fault::ChangesFrom { operation, kind: io::ErrorKind::StorageFull });
}

#[test]
fn every_read_fails_once() {
    sweep(false, (0..CALM.reads).map(|read| Fault::Read { read }));
}

#[test]
fn every_read_fails_for_ever() {
    sweep(false, (0..CALM.reads).map(|read| Fault::ReadsFrom { read }));
}
