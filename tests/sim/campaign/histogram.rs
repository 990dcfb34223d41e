//! What happened in a campaign, and how often: stops by site, branches of recovery, answers.

use std::collections::BTreeMap;

use outrigger::disk::sim::Site;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// Power losses and kills at a changing operation or after a failed one.
    pub(crate) crashes: u64,
    /// Those of them that found writes which no sync had covered.
    pub(crate) unsynced: u64,
    /// Crashes and failures by the operation that they hit.
    pub(crate) sites: BTreeMap<Site, u64>,
    /// All changing operations that were carried out or tried, by site.
    pub(crate) seen: BTreeMap<Site, u64>,
    pub(crate) events: BTreeMap<&'static str, u64>,
}

impl Histogram {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.unsynced += other.unsynced;
        for (site, count) in other.sites {
            *self.sites.entry(site).or_default() += count;
        }
        for (site, count) in other.seen {
            *self.seen.entry(site).or_default() += count;
        }
        for (what, count) in other.events {
            *self.events.entry(what).or_default() += count;
        }
    }

    #[expect(clippy::print_stdout, reason = "a campaign says what it has seen")]
    pub(crate) fn print(&self) {
        println!("{} crashes, {} of them with unsynced data", self.crashes, self.unsynced);
        for (what, count) in &self.events {
            println!("  {count:>8}  {what}");
        }
        for (site @ Site { phase, action, place }, seen) in &self.seen {
            let crashes = self.sites.get(site).unwrap_or(&0);
            println!("  {crashes:>8} of {seen:>8}  (\"{phase}\", Action::{action:?}, \"{place}\"),");
        }
    }
}
