//! The campaign: a whole node without threads on a disk that fails in every way by seed, stopped at any operation, and
//! held against a naive model after every stop.
//!
//! A story (`story`) is one life of one node (`node`): rounds of opening, looking (`look`), working with random requests
//! (`request`) and stopping as planned (`plan`). The checkers have names (`check`). Stories share nothing but what they
//! count (`histogram`): branches of recovery (`branches`) and call sites (`sites`, `place`).

use std::thread;

mod branches;
mod bugs;
mod check;
mod documents;
mod histogram;
mod look;
mod model;
mod node;
mod place;
mod plan;
mod request;
pub(crate) mod sites;
pub(crate) mod story;
mod subscriber;

use histogram::Histogram;
use story::{Bug, Finding, Story};

/// Stories are told until there have been so many crashes; a few more than coverage asks for.
const CRASHES_DEFAULT: u64 = 22_000;
/// From so many crashes on every call site and branch must have been hit.
const CRASHES_FOR_COVERAGE: u64 = 20_000;
/// How often each must have been hit then.
const HITS_MIN: u64 = 100;
const THREADS: u64 = 2;

/// A number from outside, which sizes a campaign.
#[expect(clippy::disallowed_methods, reason = "a campaign is sized from outside")]
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tells stories, every `THREADS`-th from `first` on, until so many crashes are counted.
fn tell(first: u64, crashes: u64) -> Result<Histogram, Finding> {
    let mut histogram = Histogram::default();
    let mut seed = first;
    while histogram.crashes < crashes {
        histogram.merge(Story::new(seed, Bug::default()).run()?);
        histogram.count("stories");
        seed += THREADS;
    }
    Ok(histogram)
}

#[test]
fn every_promise_holds_over_crashes_at_any_operation() {
    let (first, crashes) = (asked("TEST_SEED", 1), asked("TEST_CRASHES", CRASHES_DEFAULT));
    let threads: Vec<_> =
        (0..THREADS).map(|at| thread::spawn(move || tell(first + at, crashes.div_ceil(THREADS)))).collect();
    let mut histogram = Histogram::default();
    for thread in threads {
        match thread.join().expect("stories catch panics") {
            Ok(told) => histogram.merge(told),
            Err(finding) => panic!("seed {}: {:?}: {}", finding.seed, finding.checker, finding.what),
        }
    }
    histogram.print();
    assert!(2 * histogram.unsynced >= histogram.crashes, "most crashes found everything synced");
    check_sites(&histogram);
    if histogram.crashes >= CRASHES_FOR_COVERAGE {
        check_coverage(&histogram);
    }
}

/// Every changing operation comes from a call site that the campaign knows.
fn check_sites(histogram: &Histogram) {
    let strangers: Vec<_> =
        histogram.seen.keys().filter(|site| site.action.is_change() && !sites::is_known(site)).collect();
    assert!(strangers.is_empty(), "call sites that stand in no list of sites.rs: {strangers:#?}");
}

fn check_coverage(histogram: &Histogram) {
    let sites = sites::wanted().map(|site| (format!("{site:?}"), histogram.sites.get(&site)));
    let branches = branches::BRANCHES.iter().map(|what| ((*what).to_owned(), histogram.events.get(what)));
    let missed: Vec<_> =
        sites.chain(branches).filter(|(_, hits)| hits.is_none_or(|hits| *hits < HITS_MIN)).collect();
    assert!(missed.is_empty(), "hit less than {HITS_MIN} times: {missed:#?}");
}

#[test]
fn a_story_is_told_twice_the_same() {
    for seed in 40..60 {
        let tell = || Story::new(seed, Bug::default()).run().map_err(|finding| finding.what);
        assert_eq!(tell(), tell());
    }
}
