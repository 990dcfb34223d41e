//! A model check: every order in which a small node can decide, carry out, apply, crash and lose `meta.redb`.
//!
//! The decisions are those of the product (`Versions`); around them stands the least of a node that can go wrong. Held in
//! every state that can be reached: one version answers, it is deployed and not retired, and so is the one that is to
//! answer; no event's emissions are in the log twice, and none is missing once every version has come to the end.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::{Change, Versions};
use crate::event::Position;

/// What stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Entry {
    Decision(u8, u32, u32),
    /// An event for which the active version emits.
    Cause,
}

/// A rule of a node; each can be left out, to see that the check sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A start does not believe `meta.redb` that a version answers which the log has as retired.
    AskTheLog,
    /// A version that answers is not retired, whatever is decided about the next one.
    SpareTheAnswering,
    /// A version is retired only when it has emitted for all events of its turns.
    WaitForEmissions,
    /// A version keeps account of how far it has emitted, beyond its own end.
    KeepAccount,
}

/// All rules but one.
#[derive(Debug, Clone, Copy)]
struct Rules {
    left_out: Option<Rule>,
}

impl Rules {
    fn have(self, rule: Rule) -> bool {
        self.left_out != Some(rule)
    }
}

/// How large a world may grow.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    versions: u32,
    log: usize,
    emits: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Entry>,
    /// Running versions, and how much of the log each has applied.
    running: BTreeMap<u32, usize>,
    meta: u32,
    answering: u32,
    /// How often each event's emissions are in the log, by its position.
    emitted: BTreeMap<usize, u8>,
    /// How far each version has emitted.
    account: BTreeMap<u32, usize>,
}

impl Entry {
    fn of(change: &Change) -> Self {
        match *change {
            Change::Promote { version, from } => Self::Decision(0, version, from.unwrap_or(0)),
            Change::RollBack { version, from } => Self::Decision(1, version, from),
            Change::Retire { version, active, .. } => Self::Decision(2, version, active),
            Change::Restore { version } => Self::Decision(3, version, 0),
        }
    }

    fn change(&self) -> Option<Change> {
        match *self {
            Self::Decision(0, version, from) => Some(Change::Promote { version, from: Some(from) }),
            Self::Decision(1, version, from) => Some(Change::RollBack { version, from }),
            Self::Decision(2, version, active) => {
                Some(Change::Retire { version, definition_hash: [version as u8; 32], active })
            }
            Self::Decision(_, version, _) => Some(Change::Restore { version }),
            Self::Cause => None,
        }
    }
}

impl World {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            running: BTreeMap::from([(1, 0)]),
            meta: 1,
            answering: 1,
            emitted: BTreeMap::new(),
            account: BTreeMap::new(),
        }
    }

    /// What the log says up to and including an entry.
    fn decided(&self, upto: usize) -> Versions {
        let mut versions = Versions::default();
        for (at, entry) in self.log[..upto].iter().enumerate() {
            if let Some(change) = entry.change() {
                versions.fold(Position::new(at as u64 + 1), &change);
            }
        }
        versions
    }

    fn next(&self, rules: Rules, bounds: Bounds) -> Vec<Self> {
        let decided = self.decided(self.log.len());
        let active = decided.active().unwrap_or(self.answering);
        let mut worlds = Vec::new();
        if self.log.len() < bounds.log {
            worlds.extend(self.decisions(&decided, active, rules, bounds));
            if bounds.emits {
                let mut world = self.clone();
                world.log.push(Entry::Cause);
                worlds.push(world);
            }
        }
        for version in 2..=bounds.versions {
            if decided.retired(version).is_none() && !self.running.contains_key(&version) {
                let mut world = self.clone();
                world.running.insert(version, if bounds.emits { 0 } else { self.log.len() });
                worlds.push(world);
            }
        }
        worlds.extend(self.carried_out(active));
        if bounds.emits {
            worlds.extend(self.running.keys().filter_map(|version| self.applied(*version, rules)));
        }
        // A crash: what answers after it is what `meta.redb` says, or the log where that is lost.
        let is_gone = rules.have(Rule::AskTheLog) && decided.retired(self.meta).is_some();
        worlds.push(Self { answering: if is_gone { active } else { self.meta }, ..self.clone() });
        let first = decided.active().unwrap_or(1);
        worlds.push(Self { answering: first, meta: first, ..self.clone() });
        worlds
    }

    fn decisions(&self, decided: &Versions, active: u32, rules: Rules, bounds: Bounds) -> Vec<Self> {
        let mut changes = Vec::new();
        for version in 1..=bounds.versions {
            if self.running.contains_key(&version) {
                changes.push(Change::Promote { version, from: Some(active) });
                let spared = rules.have(Rule::SpareTheAnswering) && version == self.answering;
                let owes = bounds.emits && rules.have(Rule::WaitForEmissions) && self.owes(decided, version);
                if !spared && !owes {
                    changes.push(Change::Retire { version, definition_hash: [version as u8; 32], active });
                }
            }
            changes.push(Change::Restore { version });
        }
        if let Some(version) = decided.before().filter(|version| self.running.contains_key(version)) {
            changes.push(Change::RollBack { version, from: active });
        }
        let allowed = changes.into_iter().filter(|change| decided.check(change).is_ok());
        let decide = |change: Change| {
            let mut world = self.clone();
            world.log.push(Entry::of(&change));
            match change {
                Change::Retire { version, .. } => {
                    world.running.remove(&version);
                    if !rules.have(Rule::KeepAccount) {
                        world.account.remove(&version);
                    }
                }
                Change::Restore { version } => {
                    world.running.insert(version, 0);
                }
                _ => {}
            }
            world
        };
        allowed.map(decide).collect()
    }

    /// Whether a version has to emit for events that it has not come to.
    fn owes(&self, decided: &Versions, version: u32) -> bool {
        let turns = decided.activations(1);
        let ends = turns.intervals().filter(|turn| turn.version == version).filter_map(|turn| turn.upto);
        ends.last().is_some_and(|end| (self.running[&version] as u64) < end.get())
    }

    /// The next step of what is decided: `meta.redb` is told before another version answers.
    fn carried_out(&self, active: u32) -> Option<Self> {
        if self.meta != active {
            return Some(Self { meta: active, ..self.clone() });
        }
        (self.answering != active).then(|| Self { answering: active, ..self.clone() })
    }

    /// A version applies its next event, and emits what it has to.
    fn applied(&self, version: u32, rules: Rules) -> Option<Self> {
        let at = self.running[&version];
        let entry = self.log.get(at)?;
        let mut world = self.clone();
        world.running.insert(version, at + 1);
        let emitted =
            if rules.have(Rule::KeepAccount) { self.account.get(&version).copied().unwrap_or(0) } else { 0 };
        let is_active = || {
            let turns = self.decided(at + 1).activations(1);
            turns.active_at(Position::new(at as u64 + 1)) == version
        };
        if *entry == Entry::Cause && at + 1 > emitted && is_active() {
            *world.emitted.entry(at).or_default() += 1;
            world.account.insert(version, at + 1);
        }
        Some(world)
    }

    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        let decided = self.decided(self.log.len());
        let active = decided.active().unwrap_or(self.answering);
        for (version, what) in [(self.answering, "answers"), (active, "is to answer")] {
            if decided.retired(version).is_some() || !self.running.contains_key(&version) {
                return Err(format!("version {version} {what} and is not there: {self:?}"));
            }
        }
        if self.emitted.values().any(|times| *times > 1) {
            return Err(format!("emitted twice: {self:?}"));
        }
        let is_at_end = self.running.values().all(|applied| *applied == self.log.len());
        let causes: BTreeSet<usize> =
            (0..self.log.len()).filter(|at| self.log[*at] == Entry::Cause).collect();
        if is_at_end && causes.iter().any(|cause| !self.emitted.contains_key(cause)) {
            return Err(format!("never emitted: {self:?}"));
        }
        Ok(())
    }
}

/// Goes through all worlds that can be reached; how many these are, or what is wrong with one.
fn explore(rules: Rules, bounds: Bounds) -> Result<usize, String> {
    let mut seen = HashSet::from([World::new()]);
    let mut waiting = VecDeque::from([World::new()]);
    while let Some(world) = waiting.pop_front() {
        world.check()?;
        for next in world.next(rules, bounds) {
            if seen.insert(next.clone()) {
                waiting.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

const DECIDING: Bounds = Bounds { versions: 3, log: 5, emits: false };
const EMITTING: Bounds = Bounds { versions: 2, log: 5, emits: true };

#[test]
fn one_version_answers_in_every_state_that_can_be_reached() {
    let states = explore(Rules { left_out: None }, DECIDING).unwrap();
    assert!(states > 5_000, "{states}");
}

#[test]
fn every_event_is_emitted_for_once_in_every_state_that_can_be_reached() {
    let states = explore(Rules { left_out: None }, EMITTING).unwrap();
    assert!(states > 5_000, "{states}");
}

#[test]
fn a_rule_that_is_left_out_is_seen() {
    let wrong = [
        (Rule::AskTheLog, DECIDING, "is not there"),
        (Rule::SpareTheAnswering, DECIDING, "is not there"),
        (Rule::WaitForEmissions, EMITTING, "never emitted"),
        (Rule::KeepAccount, EMITTING, "emitted twice"),
    ];
    for (rule, bounds, expected) in wrong {
        let found = explore(Rules { left_out: Some(rule) }, bounds).expect_err(expected);
        assert!(found.contains(expected), "{rule:?}: {found}");
    }
}
