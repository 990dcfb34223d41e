//! An owner whose log was restored from a backup: it goes on at once, importers that are ahead say so, and a resync heals.

use std::{path::Path, sync::Arc};

use outrigger::{
    disk::Disk,
    event::Position,
    log::mark_restored,
    mesh::state::{Command, ExportState, ImportState, StopReason},
};

use super::{check::held, node::event, world::World};

const FLIGHTS: usize = 0;
const OPERATIONS: usize = 2;

/// A world in which flights runs on a restored copy, what operations holds of the original, and the copy's head.
fn restored(keeps_places: bool) -> (World, usize, Position) {
    let mut world = World::kind(None);
    let copy = world.nodes[FLIGHTS].disk.kill(1);
    let head = world.nodes[FLIGHTS].log().len() as u64;
    for _ in 0..20 {
        world.append_some(FLIGHTS);
    }
    world.turn(10);
    let before = held(&world.nodes[OPERATIONS].log(), "flights").len();
    world.nodes[FLIGHTS].life = None;
    if !keeps_places {
        copy.remove_file(Path::new("/data/mesh.redb")).unwrap();
    }
    let seam: Arc<dyn Disk> = Arc::new(copy.clone());
    mark_restored(&seam, "/data/log".as_ref(), None).unwrap();
    world.nodes[FLIGHTS].disk = copy;
    (world, before, Position::new(head))
}

fn check_goes_on(keeps_places: bool, crashes: bool) {
    let (mut world, before, head) = restored(keeps_places);
    world.turn(10);
    for n in 5_001..5_030 {
        let data = format!("{{\"n\": {n}}}");
        world.nodes[FLIGHTS].append_now(event("flight.departed", n, &data)).expect("nothing is rewound here");
        if crashes && n % 10 == 0 {
            world.nodes[FLIGHTS].crash();
            world.turn(2);
        }
    }
    world.turn(80);
    let now = world.now;
    for export in world.nodes[FLIGHTS].status(now).exports {
        assert!(!matches!(export.state, ExportState::Rewound | ExportState::NameTaken), "{export:?}");
    }
    let status = world.nodes[OPERATIONS].import_status("flights", now);
    let stop = status.stop.filter(|stop| stop.reason == StopReason::StaleEpoch);
    let stop = stop.unwrap_or_else(|| panic!("STALE_EPOCH was not noticed: {:?}", status.state));
    let divergence = stop.divergence.expect("it says where the histories part");
    assert!(divergence.position <= head, "{divergence:?} is behind {head}");

    let resync = Command::ResyncImport { import: "flights".into(), reason: "the owner was restored".into() };
    world.nodes[OPERATIONS].command(resync, now).unwrap();
    world.turn(20);
    let now = world.now;
    assert_eq!(world.nodes[OPERATIONS].import_status("flights", now).state, ImportState::Following);
    assert_eq!(numbers_after(&mut world, before), expected_numbers());
}

/// The importer is told, and somebody decides, before the owner has published anything new: the bus still has the lost past.
fn check_lost_past_stays_lost(crashes: bool) {
    let (mut world, before, _) = restored(false);
    // An import that hears nothing for a minute asks its owner.
    world.turn(150);
    let now = world.now;
    let stop = world.nodes[OPERATIONS].import_status("flights", now).stop.expect("the owner was asked");
    assert_eq!(stop.reason, StopReason::StaleEpoch);
    let resync = Command::ResyncImport { import: "flights".into(), reason: "the owner was restored".into() };
    world.nodes[OPERATIONS].command(resync, now).unwrap();
    for _ in 0..3 {
        if crashes {
            world.nodes[OPERATIONS].crash();
        }
        world.turn(20);
        let now = world.now;
        assert_eq!(world.nodes[OPERATIONS].import_status("flights", now).state, ImportState::Following);
    }
    assert_eq!(held(&world.nodes[OPERATIONS].log(), "flights").len(), before, "nothing came again");
    for n in 5_001..5_030 {
        let data = format!("{{\"n\": {n}}}");
        world.nodes[FLIGHTS].append_now(event("flight.departed", n, &data)).unwrap();
    }
    world.turn(80);
    let now = world.now;
    assert_eq!(world.nodes[OPERATIONS].import_status("flights", now).state, ImportState::Following);
    assert_eq!(numbers_after(&mut world, before), expected_numbers());
}

/// What operations holds of flights behind the first so many.
fn numbers_after(world: &mut World, before: usize) -> Vec<u64> {
    held(&world.nodes[OPERATIONS].log(), "flights")[before..].iter().map(|(.., n)| *n).collect()
}

/// What comes of the flights 5,001 to 5,029.
fn expected_numbers() -> Vec<u64> {
    (5_001..5_030)
        .filter(|n| n % 7 != 0)
        .flat_map(|n| std::iter::repeat_n(n, if n % 3 == 0 { 2 } else { 1 }))
        .collect()
}

#[test]
fn what_a_restored_owner_lost_is_not_read_again_from_the_bus() {
    check_lost_past_stays_lost(false);
}

#[test]
fn the_same_while_the_importer_crashes() {
    check_lost_past_stays_lost(true);
}

#[test]
fn importers_of_a_restored_owner_are_told_and_healed() {
    check_goes_on(false, false);
}

#[test]
fn the_same_of_a_volume_that_has_its_places_on_the_bus() {
    check_goes_on(true, false);
}

#[test]
fn the_same_while_the_owner_crashes() {
    check_goes_on(false, true);
}
