//! Every operation of a fixed life fails, once and for ever: nothing panics, no promise breaks, and after a healthy
//! reopening everything acknowledged is there.
//!
//! The life: open, append groups over several segments, write and merge runs of the index, follow with the projection,
//! deploy, sync the mark, close, reopen. Shares node, model and checkers with the campaign.

use std::io;

use crate::campaign::story::{Bug, Fault, Story};

/// Changing operations and reads of the undisturbed life.
fn calm() -> (u64, u64) {
    Story::new(7, Bug::default()).live(Fault::None).unwrap_or_else(|finding| panic!("{}", finding.what))
}

fn check(fault: Fault) {
    if let Err(finding) = Story::new(7, Bug::default()).live(fault) {
        panic!("{fault:?}: {:?}: {}", finding.checker, finding.what);
    }
}

#[test]
fn every_change_fails_once_and_for_ever() {
    let (changes, _) = calm();
    assert!(changes > 300, "{changes} operations are worth a sweep");
    for operation in 0..changes {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            check(Fault::Change { operation, kind });
            check(Fault::ChangesFrom { operation, kind });
        }
    }
}

#[test]
fn every_read_fails_once_and_for_ever() {
    let (_, reads) = calm();
    assert!(reads > 300, "{reads} reads are worth a sweep");
    for read in 0..reads {
        check(Fault::Read { read });
        check(Fault::ReadsFrom { read });
    }
}
