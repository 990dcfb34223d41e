//! Which version of a projection is to be active, as the decisions in its log have it: a pure fold.
//!
//! Invariants: once a version was named active there is always exactly one; a retired version is never it and comes back
//! with the definition it had or not at all; a change that breaks a rule changes nothing, so the fold takes any log; of
//! several turns of a version the latest counts, so that the history is no longer than there are versions.
//! Does not know which versions are deployed, how far they are, or which one answers at the moment (`registry::flip`).

use std::collections::{BTreeMap, BTreeSet};

use crate::{event::Position, projection::activation::Activations};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// A change of which versions there are or which of them is active.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A version becomes active.
    Promote {
        /// The version.
        version: u32,
        /// The one that is active before; absent in events of early programs.
        from: Option<u32>,
    },
    /// The version that was active before becomes it again.
    RollBack {
        /// The version before.
        version: u32,
        /// The one that is active until then.
        from: u32,
    },
    /// A version is removed for good.
    Retire {
        /// The version.
        version: u32,
        /// Its definition, the only one under which its number may come back.
        definition_hash: [u8; 32],
        /// The version that is active, so that the log says so even before the first promotion.
        active: u32,
    },
    /// A retired version is deployed again.
    Restore {
        /// The version.
        version: u32,
    },
}

/// Why a change is against the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The version is active already, or is it still.
    Active,
    /// The version is retired.
    Retired,
    /// The version is not retired.
    NotRetired,
    /// There is no version before the active one.
    NothingBefore,
    /// Another version is active than the change says.
    OtherActive(u32),
}

/// What the decisions up to some position say about the versions of a projection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// The version that was active before the first promotion.
    first: Option<u32>,
    /// Versions that were active and may be again, each at its latest turn; the last one is active.
    history: Vec<u32>,
    /// All that were ever active and are not retired.
    seasoned: BTreeSet<u32>,
    retired: BTreeMap<u32, [u8; 32]>,
    /// Where a version became active, in order.
    turns: Vec<(Position, u32)>,
}

impl Versions {
    /// The version that is to be active; `None`: nothing was decided, the first one is.
    pub fn active(&self) -> Option<u32> {
        self.history.last().copied()
    }

    /// The version that a rollback goes to.
    pub fn before(&self) -> Option<u32> {
        self.history.iter().rev().nth(1).copied()
    }

    /// Whether the version was active at some time and is not retired.
    pub fn was_active(&self, version: u32) -> bool {
        self.seasoned.contains(&version)
    }

    /// The hash of a retired version's definition.
    pub fn retired(&self, version: u32) -> Option<&[u8; 32]> {
        self.retired.get(&version)
    }

    /// All retired versions, with the hashes of their definitions.
    pub const fn all_retired(&self) -> &BTreeMap<u32, [u8; 32]> {
        &self.retired
    }

    /// Where another version became active last; 0: never.
    pub fn last_turn(&self) -> Position {
        self.turns.last().map_or(Position::ZERO, |(at, _)| *at)
    }

    /// Where versions became active, in order.
    pub fn all_turns(&self) -> &[(Position, u32)] {
        &self.turns
    }

    /// The turns that come after the last one by which this version, which answers, is active.
    pub fn turns_since(&self, answering: u32) -> &[(Position, u32)] {
        let last = self.turns.iter().rposition(|(_, version)| *version == answering);
        &self.turns[last.map_or(0, |last| last + 1)..]
    }

    /// How often another version became active.
    pub const fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The active versions along the log; `first` became active without an event, where the log does not say which did.
    pub fn activations(&self, first: u32) -> Activations {
        Activations::new(self.first.unwrap_or(first), self.turns.iter().copied())
    }

    /// Whether the rules allow a change.
    pub fn check(&self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::Promote { version, from } => {
                if self.retired.contains_key(version) {
                    return Err(Refused::Retired);
                }
                if self.active().or(*from) == Some(*version) {
                    return Err(Refused::Active);
                }
                from.map_or(Ok(()), |from| self.check_active(from))
            }
            Change::RollBack { version, from } => {
                let before = self.before().ok_or(Refused::NothingBefore)?;
                self.check_active(*from)?;
                if before == *version { Ok(()) } else { Err(Refused::NothingBefore) }
            }
            Change::Retire { version, active, .. } => {
                if self.retired.contains_key(version) {
                    return Err(Refused::Retired);
                }
                self.check_active(*active)?;
                if version == active { Err(Refused::Active) } else { Ok(()) }
            }
            Change::Restore { version } => self.retired.get(version).map(drop).ok_or(Refused::NotRetired),
        }
    }

    /// What a change supposes to be active must be it.
    fn check_active(&self, supposed: u32) -> Result<(), Refused> {
        if self.retired.contains_key(&supposed) {
            return Err(Refused::Retired);
        }
        match self.active() {
            Some(active) if active != supposed => Err(Refused::OtherActive(active)),
            _ => Ok(()),
        }
    }

    /// Learns of a change that stands at a position, above all before it; one against the rules changes nothing.
    pub fn fold(&mut self, at: Position, change: &Change) {
        if self.check(change).is_err() {
            return;
        }
        match *change {
            Change::Promote { version, from } => {
                if let Some(from) = from {
                    self.begin_with(from);
                }
                self.history.retain(|other| *other != version);
                self.turn_to(at, version);
                self.history.push(version);
            }
            Change::RollBack { version, .. } => {
                self.history.pop();
                self.turn_to(at, version);
            }
            Change::Retire { version, definition_hash, active } => {
                self.begin_with(active);
                self.history.retain(|other| *other != version);
                self.seasoned.remove(&version);
                self.retired.insert(version, definition_hash);
            }
            Change::Restore { version } => {
                self.retired.remove(&version);
            }
        }
    }

    /// The first decision says which version was active without one.
    fn begin_with(&mut self, first: u32) {
        if self.history.is_empty() {
            self.first = Some(first);
            self.history.push(first);
            self.seasoned.insert(first);
        }
    }

    fn turn_to(&mut self, at: Position, version: u32) {
        self.seasoned.insert(version);
        self.turns.push((at, version));
    }
}
