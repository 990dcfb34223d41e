//! One life of one node: rounds of opening, looking, working and stopping, on a disk that fails by seed.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use outrigger::{
    clock::{Clock as _, SimClock},
    disk::sim::{SimDisk, Site},
    follower::Follower as _,
    log::RecoveryReport,
    sabotage::Sabotage,
};

use super::{
    branches::{Before, count_branches},
    check::{Checked, Checker, Trouble},
    histogram::Histogram,
    look::{Known, source_of},
    node::Node,
    place::classify,
    plan::{Armed, Damaged, Past, aim_again, arm, damage, is_torn, lose_power},
    request::{Requests, Sent, below},
};

mod appending;
mod fixed;

pub(crate) use fixed::{Fault, Lived};

const ROUNDS: usize = 10;
/// Runs of the index that a story damages at the most: one a round.
const DAMAGED_RUNS_MAX: usize = ROUNDS;
const STEPS_MAX: u64 = 14;
/// Steps of a round that is to crash at a site.
const STEPS_TO_TARGET_MAX: u64 = 30;

/// A bug that is built into a story's node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bug {
    /// In the code.
    pub(crate) sabotage: Option<Sabotage>,
    /// At the disk seam: operations that the code leaves out.
    pub(crate) left_out: Option<fn(&Site) -> bool>,
}

/// A broken promise, and who saw it.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) seed: u64,
    pub(crate) checker: Checker,
    pub(crate) what: String,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    PowerLoss,
    Kill,
    CleanStop,
}

#[derive(Debug)]
pub(crate) struct Story {
    seed: u64,
    clock: Arc<SimClock>,
    disk: SimDisk,
    bug: Bug,
    segment_bytes: u64,
    /// Counts rounds over stories.
    turn: u64,
    armed: Armed,
    damaged: Damaged,
    /// The projection's file was begun to the end.
    is_projected: bool,
    /// A group was cut short by power loss.
    is_torn: bool,
    /// A run of the index was left unfinished.
    is_unfinished: bool,
    sent: Vec<Sent>,
    known: Known,
    /// Versions that were deployed, and whether their deployment was acknowledged.
    deployed: HashMap<u32, bool>,
    crashed_at: u64,
    histogram: Histogram,
}

impl Story {
    pub(crate) fn new(seed: u64, bug: Bug) -> Self {
        let clock = SimClock::new(seed);
        let segment_bytes = [13_000, 16_384, 20_000, 65_536][clock.random() as usize % 4];
        Self {
            seed,
            disk: SimDisk::new(seed),
            clock: Arc::new(clock),
            bug,
            segment_bytes,
            turn: seed,
            armed: Armed::default(),
            damaged: Damaged::default(),
            is_projected: false,
            is_torn: false,
            is_unfinished: false,
            sent: Vec::new(),
            known: Known::default(),
            deployed: HashMap::new(),
            crashed_at: 0,
            histogram: Histogram::default(),
        }
    }

    /// Tells the story; a panic is a finding too.
    pub(crate) fn run(self) -> Result<Histogram, Finding> {
        self.guarded(|mut story| {
            story.tell().map_err(|trouble| (trouble, story.disk.fault_site()))?;
            Ok(story.histogram)
        })
    }

    fn guarded<T>(self, tell: impl FnOnce(Self) -> Result<T, (Trouble, Option<Site>)>) -> Result<T, Finding> {
        let seed = self.seed;
        let told = catch_unwind(AssertUnwindSafe(move || tell(self)));
        let finding = |checker, what| Finding { seed, checker, what };
        match told {
            Ok(Ok(histogram)) => Ok(histogram),
            Ok(Err((trouble, site))) => {
                let (Trouble::Broken(checker, _) | Trouble::Refused(checker, _)) = &trouble;
                Err(finding(*checker, format!("{trouble} (newest fault: {site:?})")))
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(finding(Checker::Panics, text.unwrap_or_default()))
            }
        }
    }

    fn tell(&mut self) -> Checked {
        for round in 0..ROUNDS {
            self.disk.classify(classify);
            let damage = if round > 0 && below(&self.clock, 3) == 0 {
                damage(&self.disk, &self.clock, &mut self.damaged)
            } else {
                None
            };
            self.turn = self.seed + 7 * round as u64;
            let past = Past {
                rounds: round,
                turn: self.turn,
                is_torn: self.is_torn,
                is_unfinished: self.is_unfinished,
                damage,
            };
            self.armed = arm(&self.disk, &self.clock, past);
            self.disk.trace();
            if let Some(left_out) = self.bug.left_out {
                self.disk.ignore(left_out);
            }
            let end = match self.round() {
                Err(Trouble::Refused(..)) if self.is_excused() => self.end_of_fault(),
                ended => ended?,
            };
            self.stop(end);
        }
        // The last word has a machine that does not fail.
        self.armed = Armed::default();
        self.disk.set_free_bytes(None);
        let mut node = self.open()?;
        self.look(&mut node)?;
        self.settle(&mut node)
    }

    /// Whether the disk has given the node a reason to refuse.
    fn is_excused(&self) -> bool {
        self.disk.is_crashed() || self.disk.fault_site().is_some() || self.armed.is_full
    }

    fn end_of_fault(&self) -> End {
        if self.disk.is_crashed() {
            End::PowerLoss
        } else if below(&self.clock, 2) == 0 {
            End::Kill
        } else {
            End::PowerLoss
        }
    }

    fn stop(&mut self, end: End) {
        let (end, is_crash) = match end {
            End::CleanStop => (End::Kill, false),
            end if self.disk.is_crashed() && below(&self.clock, 8) > 0 => (end, true),
            // A process may die at that very point, too.
            _ if self.disk.is_crashed() => (End::Kill, true),
            end => (end, true),
        };
        if is_crash && self.disk.operations() > self.crashed_at {
            self.crashed_at = self.disk.operations();
            self.histogram.crashes += 1;
            self.histogram.unsynced += u64::from(self.disk.has_unsynced());
            if let Some(site) = self.disk.fault_site() {
                *self.histogram.sites.entry(site).or_default() += 1;
            }
        }
        if let Some(site) = self.disk.fault_site().filter(|_| !self.disk.is_crashed()) {
            self.damaged.note_fault(site);
        }
        for (site, count) in self.disk.traced() {
            *self.histogram.seen.entry(site).or_default() += count;
        }
        self.histogram.count(match (is_crash, end) {
            (false, _) => "stop: clean",
            (true, End::Kill) => "stop: kill",
            (true, _) => "stop: power loss",
        });
        let is_unfinished = |site: Site| site.place == "index run in the making";
        self.is_unfinished = self.disk.fault_site().is_some_and(is_unfinished);
        self.disk = if end == End::PowerLoss {
            lose_power(&self.disk, &self.clock)
        } else {
            self.disk.kill(self.clock.random() as u64)
        };
        self.is_torn = end == End::PowerLoss && is_torn(&self.disk);
        self.disk.set_free_bytes(None);
    }

    fn open(&mut self) -> Checked<Node> {
        self.disk.classify(classify);
        let before = Before::of(&self.disk);
        self.disk.enter("opening");
        let mut recovered = |report: &RecoveryReport| {
            count_branches(&mut self.histogram, &before, report, self.armed.is_full);
        };
        let (bytes, sabotage) = (self.segment_bytes, self.bug.sabotage);
        let node = Node::open(&self.disk, &self.clock, bytes, sabotage, &mut recovered);
        if let Ok(node) = &node
            && node.meta.set_aside().is_some()
            && std::mem::take(&mut self.damaged.meta)
        {
            self.histogram.count("meta: set aside");
            self.deployed.values_mut().for_each(|is_certain| *is_certain = false);
        }
        node
    }

    fn round(&mut self) -> Checked<End> {
        let mut node = self.open()?;
        self.disk.enter("looking");
        self.look(&mut node)?;
        aim_again(&self.disk, &mut self.armed, self.turn);
        let steps =
            if self.armed.target.is_some() { STEPS_TO_TARGET_MAX } else { below(&self.clock, STEPS_MAX) };
        for _ in 0..=steps {
            self.step(&mut node)?;
        }
        Ok(match below(&self.clock, 4) {
            kind if kind > 1 || self.wants("stopping") => {
                self.disk.enter("stopping");
                node.runner.finish();
                node.appender.close();
                node.commit().map_err(|error| Checker::Opens.refused(error))?;
                // A damaged run may be found only now.
                match node.index.stop() {
                    Err(error) if !self.damaged.index => return Err(Checker::Index.refused(error)),
                    _ => End::CleanStop,
                }
            }
            0 => End::PowerLoss,
            _ => End::Kill,
        })
    }

    fn wants(&self, phase: &str) -> bool {
        self.armed.target.is_some_and(|site| site.phase == phase)
    }

    /// Holds everything against what is known.
    fn look(&mut self, node: &mut Node) -> Checked {
        self.known.look(&node.reader, &self.sent)?;
        self.look_at_index(node)?;
        Known::look_at_meta(node, &self.deployed)?;
        let asides = self.asides();
        self.disk.enter("projecting");
        node.catch_up()?;
        // Listed before the excuse is asked for: the listing itself may be what fails.
        let found = self.asides();
        let has_reason = self.damaged.projection || !self.is_projected || self.is_excused();
        if found > asides {
            self.histogram.count("projection: set aside");
            self.damaged.projection = false;
        }
        self.is_projected = true;
        Checker::Projection.holds(found == asides || has_reason, || {
            "its file was set aside although nothing had damaged it".to_owned()
        })?;
        self.known.look_at_projection(node)
    }

    fn asides(&self) -> usize {
        use outrigger::disk::Disk as _;
        let names = self.disk.list("/data/projections".as_ref()).unwrap_or_default();
        names.iter().filter(|name| name.contains(".damaged-")).count()
    }

    /// A damaged run says so once, and is then built anew.
    fn look_at_index(&mut self, node: &Node) -> Checked {
        let requests = self.requests();
        match self.known.look_at_index(node, &requests) {
            Err(Trouble::Refused(..)) if self.damaged.index => {}
            looked => return looked,
        }
        self.histogram.count("index: damaged run built anew");
        self.disk.enter("background");
        self.index_at_rest(node)
    }

    /// Lets the index do all its work, and looks at it. Each damaged run may say so once.
    fn index_at_rest(&self, node: &Node) -> Checked {
        let rest = || {
            while node.index.step().map_err(|error| Checker::Index.refused(error))? {}
            self.known.look_at_index(node, &self.requests())
        };
        for _ in 0..DAMAGED_RUNS_MAX {
            match rest() {
                Err(Trouble::Refused(..)) if self.damaged.index => {}
                rested => return rested,
            }
        }
        rest()
    }

    /// Brings everything to rest and looks once more.
    fn settle(&mut self, node: &mut Node) -> Checked {
        self.index_at_rest(node)?;
        node.catch_up()?;
        self.known.look_at_projection(node)
    }

    fn requests(&self) -> Requests<'_> {
        let head = self.known.model.head().get();
        Requests { clock: &self.clock, sent: &self.sent, head, tracked: &self.known.model }
    }

    fn step(&mut self, node: &mut Node) -> Checked {
        let wanted = self.armed.target.filter(|_| below(&self.clock, 3) == 0).map(|site| site.phase);
        let kind = match wanted {
            Some("idle") => 12,
            Some("background") => 13,
            Some("projecting") => 16,
            Some("deploying") => 19,
            Some("appending") => 0,
            _ => below(&self.clock, 20),
        };
        match kind {
            0..=11 => self.append(node),
            12 => {
                self.disk.enter("idle");
                let idle = node.committer.idle().and_then(|()| node.committer.rest());
                idle.map_err(|error| Checker::Opens.refused(error))
            }
            13..=15 => {
                self.disk.enter("background");
                match node.index.step() {
                    Err(error) if !self.damaged.index => Err(Checker::Index.refused(error)),
                    _ => Ok(()),
                }
            }
            16 | 17 => {
                self.disk.enter("projecting");
                node.catch_up()?;
                self.known.look_at_projection(node)
            }
            18 => {
                self.disk.enter("projecting");
                node.runner.finish();
                Ok(())
            }
            _ => self.deploy(node),
        }
    }

    fn deploy(&mut self, node: &Node) -> Checked {
        self.disk.enter("deploying");
        let version = self.deployed.len() as u32 + 1;
        self.deployed.insert(version, false);
        let (hash, source) = ([version as u8; 32], source_of(version));
        let deployed = node.meta.deploy("p", version, &hash, "p.yaml", &source);
        deployed.map_err(|error| Checker::Meta.refused(error))?;
        self.deployed.insert(version, true);
        Ok(())
    }
}
