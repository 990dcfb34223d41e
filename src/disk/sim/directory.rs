//! One simulated directory: what processes see, what the medium holds, and what lies between.
//!
//! Does not know what is in the files.

use std::collections::BTreeMap;

use super::random::Random;

#[derive(Debug, Default, Clone)]
pub(super) struct Directory {
    pub(super) visible: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<Entry>,
}

/// A change of a directory that no sync has covered.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Created(String, u64),
    Renamed(String, String, u64),
    Removed(String),
}

impl Directory {
    fn apply(names: &mut BTreeMap<String, u64>, entry: &Entry) {
        match entry {
            Entry::Created(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Entry::Renamed(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Entry::Removed(name) => {
                names.remove(name);
            }
        }
    }

    pub(super) fn change(&mut self, entry: Entry) {
        Self::apply(&mut self.visible, &entry);
        self.unsynced.push(entry);
    }

    pub(super) fn is_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.visible);
        self.unsynced.clear();
    }

    /// All files that a process sees now or may see after a crash.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        let unsynced = self.unsynced.iter().filter_map(|entry| match entry {
            Entry::Created(_, inode) | Entry::Renamed(_, _, inode) => Some(*inode),
            Entry::Removed(_) => None,
        });
        self.visible.values().chain(self.durable.values()).copied().chain(unsynced)
    }

    /// Of the unsynced changes a crash keeps a beginning or any subset.
    pub(super) fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut names = self.durable.clone();
        let in_order = random.below(2) == 0;
        let kept = random.below(self.unsynced.len() as u64 + 1);
        for (i, entry) in self.unsynced.iter().enumerate() {
            if if in_order { (i as u64) < kept } else { random.below(2) == 0 } {
                Self::apply(&mut names, entry);
            }
        }
        Self { visible: names.clone(), durable: names, unsynced: Vec::new() }
    }
}
