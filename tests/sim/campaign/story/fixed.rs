//! The fixed life of the sweep: the same steps each time, with one thing that goes wrong.

use std::io;

use outrigger::{clock::Clock as _, follower::Follower as _};

use super::{Finding, Story};
use crate::campaign::check::{Checked, Checker, Trouble};

/// The one thing that goes wrong in a life of the sweep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    None,
    Change { operation: u64, kind: io::ErrorKind },
    ChangesFrom { operation: u64, kind: io::ErrorKind },
    Read { read: u64 },
    ReadsFrom { read: u64 },
}

impl Story {
    /// Lives the fixed life of the sweep; gives how many changes and reads it took.
    pub(crate) fn live(self, fault: Fault) -> Result<(u64, u64), Finding> {
        self.guarded(|mut story| {
            story.live_through(fault).map_err(|trouble| (trouble, story.disk.fault_site()))?;
            Ok((story.disk.operations(), story.disk.reads()))
        })
    }

    fn live_through(&mut self, fault: Fault) -> Checked {
        match fault {
            Fault::None => {}
            Fault::Change { operation, kind } => self.disk.fail_at(operation, kind),
            Fault::ChangesFrom { operation, kind } => self.disk.fail_from(operation, kind),
            Fault::Read { read } => self.disk.fail_read_at(read, io::ErrorKind::Other),
            Fault::ReadsFrom { read } => self.disk.fail_reads_from(read, io::ErrorKind::Other),
        }
        for _ in 0..2 {
            match self.fixed_round() {
                Err(Trouble::Refused(..)) if self.is_excused() => break,
                lived => lived?,
            }
        }
        if let Some(site) = self.disk.fault_site() {
            self.damaged.note_fault(site);
        }
        let seed = self.clock.random() as u64;
        self.disk = if seed.is_multiple_of(2) { self.disk.kill(seed) } else { self.disk.crash(seed) };
        let mut node = self.open()?;
        self.look(&mut node)?;
        self.settle(&mut node)
    }

    fn fixed_round(&mut self) -> Checked {
        let mut node = self.open()?;
        self.look(&mut node)?;
        for _ in 0..8 {
            for _ in 0..3 {
                self.append(&mut node)?;
            }
            while node.index.step().map_err(|error| Checker::Index.refused(error))? {}
            node.catch_up()?;
            node.committer.idle().map_err(|error| Checker::Opens.refused(error))?;
        }
        self.deploy(&node)?;
        node.runner.finish();
        node.appender.close();
        node.commit().map_err(|error| Checker::Opens.refused(error))?;
        Ok(())
    }
}
