//! The fixed life of the sweep: the same steps each time, with one thing that goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use outrigger::{clock::Clock as _, disk::sim::Site, follower::Follower as _};

use super::{Bug, Finding, Story};
use crate::campaign::check::{Checked, Checker, Trouble};

/// Small segments, so that a short life writes several.
const SEGMENT_BYTES: u64 = 16_384;
/// Turns of work in each of a life's two rounds.
const TURNS: usize = 4;
/// Batches of requests in a turn.
const BATCHES: usize = 3;

/// The one thing that goes wrong in a life of the sweep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    None,
    Change { operation: u64, kind: io::ErrorKind },
    ChangesFrom { operation: u64, kind: io::ErrorKind },
    Read { read: u64 },
    ReadsFrom { read: u64 },
}

/// What a life came to.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    /// Changing operations and reads until it ended or failed.
    pub(crate) changes: u64,
    pub(crate) reads: u64,
    /// All sites of these, and how often.
    pub(crate) sites: BTreeMap<Site, u64>,
    /// Where it failed last.
    pub(crate) fault: Option<Site>,
}

impl Lived {
    /// The call sites of changing operations, or of reads.
    pub(crate) fn sites_of(&self, changing: bool) -> BTreeSet<Site> {
        self.sites.keys().copied().filter(|site| site.action.is_change() == changing).collect()
    }
}

impl Story {
    /// Lives the fixed life of the sweep, and looks at what is left of it on a disk that does not fail.
    pub(crate) fn live(fault: Fault) -> Result<Lived, Finding> {
        let story = Self { segment_bytes: SEGMENT_BYTES, ..Self::new(7, Bug::default()) };
        story.guarded(|mut story| {
            let lived = story.live_through(fault);
            lived.map_err(|trouble| (trouble, story.disk.fault_site()))
        })
    }

    fn live_through(&mut self, fault: Fault) -> Checked<Lived> {
        let mut lived = Lived::default();
        for is_last in [false, true] {
            self.disk.trace();
            self.arm(fault);
            let round = self.fixed_round(is_last);
            lived.changes = self.disk.operations();
            lived.reads = self.disk.reads();
            lived.sites.append(&mut self.disk.traced());
            lived.fault = self.disk.fault_site();
            match round {
                Ok(()) | Err(Trouble::Refused(..)) if self.is_excused() => break,
                ended => ended?,
            }
            let seed = self.clock.random() as u64;
            self.disk = if is_last { self.disk.kill(seed) } else { self.disk.crash(seed) };
        }
        if let Some(site) = lived.fault {
            self.damaged.note_fault(site);
        }
        let seed = self.clock.random() as u64;
        self.disk = if seed.is_multiple_of(2) { self.disk.kill(seed) } else { self.disk.crash(seed) };
        let mut node = self.open()?;
        self.look(&mut node)?;
        self.settle(&mut node)?;
        Ok(lived)
    }

    fn arm(&self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::Change { operation, kind } => self.disk.fail_at(operation, kind),
            Fault::ChangesFrom { operation, kind } => self.disk.fail_from(operation, kind),
            Fault::Read { read } => self.disk.fail_read_at(read, io::ErrorKind::Other),
            Fault::ReadsFrom { read } => self.disk.fail_reads_from(read, io::ErrorKind::Other),
        }
    }

    /// The first round ends in the middle of its work, the last one as a node stops.
    fn fixed_round(&mut self, is_last: bool) -> Checked {
        let mut node = self.open()?;
        self.disk.enter("looking");
        self.look(&mut node)?;
        for turn in 1..=TURNS {
            for _ in 0..BATCHES {
                self.append(&mut node)?;
            }
            self.disk.enter("projecting");
            node.catch_up()?;
            if turn < TURNS {
                self.disk.enter("idle");
                node.committer.idle().map_err(|error| Checker::Opens.refused(error))?;
            }
            // Meanwhile the index had to make room for itself.
            if turn % 3 == 0 {
                self.disk.enter("background");
                while node.index.step().map_err(|error| Checker::Index.refused(error))? {}
            }
        }
        self.deploy(&node)?;
        if !is_last {
            return Ok(());
        }
        self.disk.enter("stopping");
        node.runner.finish();
        node.appender.close();
        node.commit().map_err(|error| Checker::Opens.refused(error))?;
        node.index.stop().map_err(|error| Checker::Index.refused(error))
    }
}
