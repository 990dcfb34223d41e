//! An hour without a bus, or with one that answers nothing: what the mesh of an owner holds in memory stays the same.

use outrigger::mesh::memory::{Fault, Faults, MemoryBroker};
use stats_alloc::Region;

use super::{
    node::{SimNode, event},
    world::{FLIGHTS, trust_in},
};
use crate::HEAP;

const STEP: i64 = 250_000_000;
const STEPS_AN_HOUR: u64 = 3_600 * 4;
/// By then every queue that fills during an outage is as full as it gets.
const STEPS_AT_FIRST: u64 = 600 * 4;
/// What may still come and go: tables that grow by doubling, a place more or less.
const SLACK_BYTES: i64 = 16 * 1_024;

/// Bytes that were allocated, and not freed, since the region began.
fn net(region: &Region<'_, std::alloc::System>) -> i64 {
    let change = region.change();
    change.bytes_allocated as i64 - change.bytes_deallocated as i64
}

/// An owner appends for an hour; how much more its mesh holds at the end, and how much its log.
fn hour(outage: impl FnOnce(&MemoryBroker)) -> (i64, i64) {
    let broker = MemoryBroker::new(5, Faults::none());
    let mut owner = SimNode::new("flights", 5, &broker, &trust_in(&["flights"])).exporting(FLIGHTS);
    let mut now = 1_700_000_000_000_000_000;
    for _ in 0..20 {
        owner.step(now);
        now += STEP;
    }
    outage(&broker);
    let (mut held, mut stored, mut held_at_first) = (0, 0, 0);
    for step in 0..STEPS_AN_HOUR {
        now += STEP;
        let n = 1 + step;
        let region = Region::new(HEAP);
        let appended = owner.append_now(event("flight.departed", n, &format!("{{\"n\": {n}}}")));
        assert!(appended.is_ok(), "{appended:?}");
        stored += net(&region);
        let region = Region::new(HEAP);
        owner.life().mesh.step(now);
        held += net(&region);
        owner.life().commit().unwrap();
        if step == STEPS_AT_FIRST {
            held_at_first = held;
        }
    }
    (held - held_at_first, stored)
}

#[test]
fn the_outbox_holds_the_same_however_long_the_bus_is_away() {
    let (grown, stored) = hour(|broker| broker.cut("flights"));
    // What the log took shows that the measure sees what is kept.
    assert!(stored > 1_000_000, "{stored}");
    assert!(grown < SLACK_BYTES, "{grown} bytes more after an hour");
}

#[test]
fn the_outbox_holds_the_same_however_long_the_bus_answers_nothing() {
    let (grown, _) = hour(|broker| broker.set_faults(Faults::none().with(Fault::Drop, 1_000_000)));
    assert!(grown < SLACK_BYTES, "{grown} bytes more after an hour");
}
