//! One simulated file: what the cache holds, what the medium holds, and which sectors differ knowingly or unknowingly.
//!
//! A sector is `dirty` between its write and the next sync, and `lost` when a sync failed to write it and yet left it
//! clean. Only dirty sectors are ever written to the medium. A length that was set is found after a crash as it was or
//! as it should be; a file that grew by writing may be found anywhere in between. Does not know directories.

use std::{collections::BTreeSet, path::PathBuf};

use super::{content::Content, random::Random};

/// What a crash keeps or loses as a unit.
pub(super) const SECTOR_BYTES: u64 = 512;

const SECTOR: usize = SECTOR_BYTES as usize;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What it was called last; operations on open files are told by it.
    pub(super) path: PathBuf,
    cached: Content,
    durable: Content,
    dirty: Sectors,
    lost: BTreeSet<usize>,
    /// Changes of the length since the last sync, in order.
    lengths: Vec<Length>,
}

/// A change of a file's length.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// By a write behind the end.
    Grown(usize),
    /// By setting it.
    Set(usize),
}

impl Inode {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    pub(super) fn sectors(&self) -> u64 {
        self.len().div_ceil(SECTOR_BYTES)
    }

    pub(super) fn is_unsynced(&self) -> bool {
        !self.lengths.is_empty() || !self.dirty.is_empty()
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        self.cached.read(buf, offset as usize)
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64, random: &mut Random) {
        if data.is_empty() {
            return;
        }
        let (from, upto) = (offset as usize, offset as usize + data.len());
        if upto > self.cached.len() {
            self.resize(upto);
            self.lengths.push(Length::Grown(upto));
        }
        for sector in from / SECTOR..=(upto - 1) / SECTOR {
            // The system may write a dirty page at any time, so a crash can also show what stood here in between.
            if !self.dirty.insert(sector) && random.below(4) == 0 {
                copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
            }
            self.lost.remove(&sector);
        }
        self.cached.write(data, from);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len != self.len() {
            self.resize(len as usize);
            self.lengths.push(Length::Set(len as usize));
        }
    }

    fn resize(&mut self, new: usize) {
        let old = self.cached.len();
        self.cached.resize(new);
        let gone = new.div_ceil(SECTOR);
        self.dirty.truncate(gone);
        self.lost.retain(|sector| *sector < gone);
        // Bytes that were cut or have come anew read as zeros; the medium may hold something else there.
        (old.min(new) / SECTOR..gone).for_each(|sector| _ = self.dirty.insert(sector));
    }

    pub(super) fn sync(&mut self) {
        if self.lost.is_empty() {
            self.durable.clone_from(&self.cached);
            self.dirty = Sectors::default();
        } else {
            self.durable.resize(self.cached.len());
            for sector in std::mem::take(&mut self.dirty).iter() {
                copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
            }
        }
        self.lengths.clear();
    }

    /// Some sectors reach the medium, the others are lost; all are clean afterwards.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let left = self.length_left(random);
        self.durable.resize(left);
        self.lengths.clear();
        for sector in std::mem::take(&mut self.dirty).iter() {
            if random.below(2) == 0 {
                copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
            } else {
                self.lost.insert(sector);
            }
        }
        // A length that did not get there takes the sectors behind it along.
        let behind = left.div_ceil(SECTOR)..self.cached.len().div_ceil(SECTOR);
        self.lost.extend(behind);
    }

    pub(super) fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut left = self.durable.clone();
        left.resize(self.length_left(random));
        // Now and then nothing or everything survives; mostly it is a mixture, in which few sectors are torn.
        let kept_of_16 = [0, 4, 8, 12, 15, 16][random.below(6) as usize];
        for sector in self.dirty.iter() {
            if random.below(16) < kept_of_16 {
                let torn = random.below(16) == 0;
                let bytes = if torn { random.below(SECTOR_BYTES) as usize } else { SECTOR };
                copy_sector(&mut left, &self.cached, sector, bytes);
            }
        }
        Self { path: self.path.clone(), cached: left.clone(), durable: left, ..Self::default() }
    }

    /// A length that the medium may have now: one of those since the last sync, mostly the newest.
    fn length_left(&self, random: &mut Random) -> usize {
        let synced = self.durable.len();
        if self.lengths.is_empty() {
            return synced;
        }
        let count = self.lengths.len();
        let kept = if random.below(2) == 0 { count } else { random.below(count as u64 + 1) as usize };
        let before = match kept.checked_sub(2).map(|at| self.lengths[at]) {
            None => synced,
            Some(Length::Grown(len) | Length::Set(len)) => len,
        };
        match kept.checked_sub(1).map(|at| self.lengths[at]) {
            None => synced,
            Some(Length::Set(len)) => len,
            Some(Length::Grown(len)) if random.below(2) == 0 => len,
            Some(Length::Grown(len)) => before + random.below((len - before) as u64 + 1) as usize,
        }
    }

    /// The cache outlives the process, but a clean page may be dropped and read anew.
    pub(super) fn after_kill(&self, random: &mut Random) -> Self {
        let mut after = self.clone();
        for sector in &self.lost {
            if random.below(4) == 0 {
                let zeros = [0; SECTOR];
                let from = (sector * SECTOR).min(after.cached.len());
                let bytes = SECTOR.min(after.cached.len() - from);
                after.cached.write(&zeros[..bytes], from);
                copy_sector(&mut after.cached, &self.durable, *sector, SECTOR);
                after.lost.remove(sector);
            }
        }
        after
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        self.cached.flip_bit(bit);
        self.durable.flip_bit(bit);
    }
}

/// Copies the first `bytes` of a sector, as far as both contents reach.
fn copy_sector(to: &mut Content, from: &Content, sector: usize, bytes: usize) {
    to.copy(from, sector * SECTOR, sector * SECTOR + bytes);
}

/// A set of sectors.
#[derive(Debug, Clone, Default)]
struct Sectors(Vec<u64>);

impl Sectors {
    /// Whether it is new.
    fn insert(&mut self, sector: usize) -> bool {
        let (word, bit) = (sector / 64, 1_u64 << (sector % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Only those below `end` stay.
    fn truncate(&mut self, end: usize) {
        self.0.truncate(end.div_ceil(64));
        if let (Some(last), true) = (self.0.get_mut(end / 64), !end.is_multiple_of(64)) {
            *last &= (1 << (end % 64)) - 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let filled = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
        filled.flat_map(move |(at, word)| bits(*word).map(move |bit| at * 64 + bit))
    }
}
