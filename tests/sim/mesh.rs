//! The mesh in simulation: nodes on simulated disks and a bus in memory, both failing by seed.
//!
//! A seed is a story (`world`): owners append, everybody crashes at any operation, the bus loses, repeats, reorders, damages
//! and forgets, somebody forges. What importers hold is held against what their owners let out, told naively
//! (`check`). Single rules have scenarios of their own (`scenarios`), and each rule has a bug that breaks it (`bugs`).

mod bugs;
mod check;
mod node;
mod outage;
mod quarantine;
mod restored;
mod scenarios;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use outrigger::sabotage::Sabotage;
use world::{Told, World};

/// Seeds of a normal run.
const SEEDS_DEFAULT: u64 = 200;
const THREADS: u64 = 2;
const EVENTS_MIN: u64 = 200;
const FAULTS_MIN: u64 = 5;

#[expect(clippy::disallowed_methods, reason = "a simulation is sized from outside")]
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A story; a panic is a finding too.
fn told(seed: u64, sabotage: Option<Sabotage>) -> Result<Told, String> {
    match catch_unwind(AssertUnwindSafe(|| World::tell(seed, sabotage))) {
        Ok(told) => told,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

#[test]
fn imports_hold_what_owners_let_out_whatever_happens() {
    let (first, count) = (asked("TEST_SEED", 1), asked("TEST_MESH_SEEDS", SEEDS_DEFAULT));
    let tell = move |thread: u64| -> Vec<Told> {
        let seeds = (first..first + count).filter(|seed| seed % THREADS == thread);
        let one = |seed| told(seed, None).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        seeds.map(one).collect()
    };
    let threads: Vec<_> = (0..THREADS).map(|at| thread::spawn(move || tell(at))).collect();
    let told: Vec<Told> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    for told in &told {
        assert!(told.appended >= EVENTS_MIN, "{told:?}");
        assert!(told.faults >= FAULTS_MIN, "{told:?}");
    }
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} events appended, {} imported, {} faults, {} crashes, {} stops",
        told.len(),
        sum(|told| told.appended),
        sum(|told| told.held as u64),
        sum(|told| told.faults),
        sum(|told| told.crashes),
        sum(|told| told.stops),
    );
}

#[test]
fn a_story_of_the_mesh_is_told_twice_the_same() {
    for seed in 900..903 {
        let tell = || format!("{:?}", told(seed, None));
        assert_eq!(tell(), tell());
    }
}
