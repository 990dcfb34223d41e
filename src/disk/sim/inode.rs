//! One simulated file: what the cache holds, what the medium holds, and which sectors differ knowingly or unknowingly.
//!
//! A sector is `dirty` between its write and the next sync, and `lost` when a sync failed to write it and yet left it
//! clean. Only dirty sectors are ever written to the medium. Does not know its name.

use std::collections::BTreeSet;

use super::random::Random;

/// What a crash keeps or loses as a unit.
pub(super) const SECTOR_BYTES: u64 = 512;

const SECTOR: usize = SECTOR_BYTES as usize;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    lost: BTreeSet<usize>,
    len_dirty: bool,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    pub(super) fn sectors(&self) -> u64 {
        self.len().div_ceil(SECTOR_BYTES)
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.len_dirty || !self.dirty.is_empty()
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let from = self.cached.len().min(offset as usize);
        let count = buf.len().min(self.cached.len() - from);
        buf[..count].copy_from_slice(&self.cached[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64, random: &mut Random) {
        if data.is_empty() {
            return;
        }
        let (from, upto) = (offset as usize, offset as usize + data.len());
        if upto > self.cached.len() {
            self.set_len(upto as u64);
        }
        for sector in from / SECTOR..=(upto - 1) / SECTOR {
            // The system may write a dirty page at any time, so a crash can also show what stood here in between.
            if !self.dirty.insert(sector) && random.below(4) == 0 {
                copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
            }
            self.lost.remove(&sector);
        }
        self.cached[from..upto].copy_from_slice(data);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let (old, new) = (self.cached.len(), len as usize);
        if new == old {
            return;
        }
        self.cached.resize(new, 0);
        self.len_dirty = true;
        let gone = new.div_ceil(SECTOR);
        self.dirty.retain(|sector| *sector < gone);
        self.lost.retain(|sector| *sector < gone);
        // Bytes that were cut or have come anew read as zeros; the medium may hold something else there.
        self.dirty.extend(old.min(new) / SECTOR..gone);
    }

    pub(super) fn sync(&mut self) {
        if self.len_dirty {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            // Writing a sector out also makes the length durable that it needs.
            let end = ((sector + 1) * SECTOR).min(self.cached.len());
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
        }
        self.len_dirty = false;
    }

    /// Some sectors reach the medium, the others are lost; all are clean afterwards.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        if std::mem::take(&mut self.len_dirty) && random.below(2) == 0 {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if random.below(2) == 0 {
                copy_sector(&mut self.durable, &self.cached, sector, SECTOR);
            } else {
                self.lost.insert(sector);
            }
        }
    }

    pub(super) fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut left = self.durable.clone();
        if self.len_dirty {
            let (least, most) =
                (self.durable.len().min(self.cached.len()), self.durable.len().max(self.cached.len()));
            match random.below(4) {
                0 => {}
                1 => left.resize(least + random.below((most - least) as u64 + 1) as usize, 0),
                _ => left.resize(self.cached.len(), 0),
            }
        }
        // Now and then nothing or everything survives; mostly it is a mixture, in which few sectors are torn.
        let kept_of_16 = [0, 4, 8, 12, 15, 16][random.below(6) as usize];
        for sector in &self.dirty {
            if random.below(16) < kept_of_16 {
                let torn = random.below(16) == 0;
                let bytes = if torn { random.below(SECTOR_BYTES) as usize } else { SECTOR };
                copy_sector(&mut left, &self.cached, *sector, bytes);
            }
        }
        Self { cached: left.clone(), durable: left, ..Self::default() }
    }

    /// The cache outlives the process, but a clean page may be dropped and read anew.
    pub(super) fn after_kill(&self, random: &mut Random) -> Self {
        let mut after = self.clone();
        for sector in &self.lost {
            if random.below(4) == 0 {
                let (from, upto) = range(*sector, SECTOR, after.cached.len());
                after.cached[from..upto].fill(0);
                copy_sector(&mut after.cached, &self.durable, *sector, SECTOR);
                after.lost.remove(sector);
            }
        }
        after
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        let byte = (bit / 8) as usize;
        for content in [&mut self.cached, &mut self.durable] {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

/// Copies the first `bytes` of a sector, as far as both contents reach.
fn copy_sector(to: &mut [u8], from: &[u8], sector: usize, bytes: usize) {
    let (start, end) = range(sector, bytes, to.len().min(from.len()));
    to[start..end].copy_from_slice(&from[start..end]);
}

fn range(sector: usize, bytes: usize, len: usize) -> (usize, usize) {
    let start = (sector * SECTOR).min(len);
    (start, (sector * SECTOR + bytes).min(len).max(start))
}
