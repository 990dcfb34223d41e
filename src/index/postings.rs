//! Lists of ascending offsets with seeking in both directions: in memory, or in the blocks of a run file.
//!
//! Invariants: a seek gives the nearest offset at or behind (forward) or at or before (backward) its target; a list
//! on disk holds one block in memory, however long it is. A posting block is its checksum, its first and last offset,
//! the number of offsets behind the first, and these as deltas; all blocks of a list but the last are padded to
//! `BLOCK_BYTES`, so that the n-th block is found by its number. Does not know what the offsets mean.

use std::borrow::Cow;

use super::{
    Direction, IndexError,
    codec::{BLOCK_BYTES, CHECKSUM_BYTES, Fields},
    run::Run,
    terms::{List, Term, decode_deltas},
};

/// Bytes of a posting block before its deltas.
pub(super) const POSTING_HEADER_BYTES: usize = CHECKSUM_BYTES + 4 + 4 + 2;

/// A list of offsets, not empty.
#[derive(Debug)]
pub(super) enum Postings<'a> {
    Memory(MemoryList<'a>),
    Disk(DiskList<'a>),
}

impl<'a> Postings<'a> {
    /// A list in memory.
    pub(super) fn memory(offsets: &'a [u32]) -> Self {
        Self::Memory(MemoryList { offsets: Cow::Borrowed(offsets), hint: 0 })
    }

    /// The list of a term of this run.
    pub(super) fn of_term(run: &'a Run, term: &Term) -> Result<Self, IndexError> {
        match &term.list {
            List::Inline(deltas) => {
                let offsets = term
                    .inline_offsets(deltas)
                    .ok_or_else(|| run.damage("an inline posting list is cut short".into()))?;
                Ok(Self::Memory(MemoryList { offsets: Cow::Owned(offsets), hint: 0 }))
            }
            &List::Blocks { offset, len } => {
                let fits = offset.checked_add(len).is_some_and(|end| end <= run.header().file_len);
                if len == 0 || !fits {
                    return Err(run.damage("a posting list lies outside of the file".into()));
                }
                Ok(Self::Disk(DiskList { run, offset, len, first: term.first, last: term.last, block: None }))
            }
        }
    }

    /// The offset nearest to `target`, itself included, in this direction.
    pub(super) fn seek(&mut self, target: u32, direction: Direction) -> Result<Option<u32>, IndexError> {
        match self {
            Self::Memory(list) => Ok(list.seek(target, direction)),
            Self::Disk(list) => list.seek(target, direction),
        }
    }

    /// Calls `visit` with pieces of the list, ascending.
    pub(super) fn for_each_piece(
        &mut self,
        mut visit: impl FnMut(&[u32]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        match self {
            Self::Memory(list) => visit(&list.offsets),
            Self::Disk(list) => {
                for number in 0..list.blocks() {
                    visit(&list.decoded(number)?.offsets)?;
                }
                Ok(())
            }
        }
    }
}

/// Ascending offsets and where the last seek ended.
#[derive(Debug)]
pub(super) struct MemoryList<'a> {
    offsets: Cow<'a, [u32]>,
    hint: usize,
}

impl MemoryList<'_> {
    fn seek(&mut self, target: u32, direction: Direction) -> Option<u32> {
        let offsets = &self.offsets;
        let at = match direction {
            Direction::Forward => partition_point_from(offsets, self.hint, |offset| offset < target),
            Direction::Backward => {
                partition_point_from(offsets, self.hint, |offset| offset <= target).checked_sub(1)?
            }
        };
        self.hint = at;
        offsets.get(at).copied()
    }
}

/// Where `before` turns false, looked for from `hint` in growing steps.
fn partition_point_from(offsets: &[u32], hint: usize, before: impl Fn(u32) -> bool) -> usize {
    let mut step = 1;
    let (mut low, mut high);
    if hint < offsets.len() && before(offsets[hint]) {
        low = hint + 1;
        while low + step < offsets.len() && before(offsets[low + step]) {
            low += step + 1;
            step *= 2;
        }
        high = offsets.len().min(low + step);
    } else {
        high = hint.min(offsets.len());
        while step <= high && !before(offsets[high - step]) {
            high -= step;
            step *= 2;
        }
        low = high.saturating_sub(step);
    }
    low + offsets[low..high].partition_point(|offset| before(*offset))
}

/// A list in the blocks of a run.
#[derive(Debug)]
pub(super) struct DiskList<'a> {
    run: &'a Run,
    offset: u64,
    len: u64,
    first: u32,
    last: u32,
    block: Option<Block>,
}

/// The block that was read last.
#[derive(Debug)]
struct Block {
    number: u64,
    first: u32,
    last: u32,
    bytes: Vec<u8>,
    /// Empty until a seek ends in this block: most blocks are only looked at in passing.
    list: MemoryList<'static>,
}

impl DiskList<'_> {
    fn seek(&mut self, target: u32, direction: Direction) -> Result<Option<u32>, IndexError> {
        match direction {
            Direction::Forward if target > self.last => return Ok(None),
            Direction::Forward if target <= self.first => return Ok(Some(self.first)),
            Direction::Backward if target < self.first => return Ok(None),
            Direction::Backward if target >= self.last => return Ok(Some(self.last)),
            _ => {}
        }
        let number = self.locate(target, direction)?;
        let found = self.decoded(number)?.seek(target, direction);
        found
            .map(Some)
            .ok_or_else(|| self.run.damage(format!("posting block {number} lacks an end of its list")))
    }

    /// The block that holds the answer: forward the first that ends at or behind the target, backward the last that
    /// begins at or before it. Looks near the current block first.
    fn locate(&mut self, target: u32, direction: Direction) -> Result<u64, IndexError> {
        let (mut low, mut high) = (0, self.blocks() - 1);
        // Without a block in this direction to step on from, the first probe is the middle.
        let mut step = high + 1;
        if let Some(block) = &self.block {
            if (block.first..=block.last).contains(&target) {
                return Ok(block.number);
            }
            match direction {
                Direction::Forward if block.last < target => (low, step) = (block.number + 1, 1),
                Direction::Backward if block.first > target => {
                    (high, step) = (block.number.saturating_sub(1), 1);
                }
                Direction::Forward => high = block.number,
                Direction::Backward => low = block.number,
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match direction {
                Direction::Forward => {
                    let probe = middle.min(low + step - 1);
                    if self.load(probe)?.last < target {
                        low = probe + 1;
                    } else {
                        high = probe;
                    }
                }
                Direction::Backward => {
                    let probe = (middle + (high - low) % 2).max((high + 1).saturating_sub(step));
                    if self.load(probe)?.first > target {
                        high = probe - 1;
                    } else {
                        low = probe;
                    }
                }
            }
            step = step.saturating_mul(2);
        }
        Ok(low)
    }

    fn decoded(&mut self, number: u64) -> Result<&mut MemoryList<'static>, IndexError> {
        let run = self.run;
        let block = self.load(number)?;
        if block.list.offsets.is_empty() {
            let mut offsets = vec![block.first];
            let mut fields = Fields(&block.bytes[POSTING_HEADER_BYTES - 2..]);
            let decoded = fields.u16().and_then(|count| decode_deltas(fields, count.into(), &mut offsets));
            if decoded.is_none() || offsets.last() != Some(&block.last) {
                return Err(run.damage(format!("posting block {number} does not hold what its header says")));
            }
            block.list = MemoryList { offsets: Cow::Owned(offsets), hint: 0 };
        }
        Ok(&mut block.list)
    }

    fn load(&mut self, number: u64) -> Result<&mut Block, IndexError> {
        let mut bytes = match self.block.take() {
            Some(block) if block.number == number => return Ok(self.block.insert(block)),
            Some(block) => block.bytes,
            None => Vec::new(),
        };
        let start = number * BLOCK_BYTES as u64;
        let len = (self.len - start).min(BLOCK_BYTES as u64) as usize;
        self.run.read_block(self.offset + start, len, &mut bytes)?;
        let mut fields = Fields(bytes.get(CHECKSUM_BYTES..).unwrap_or_default());
        let (Some(first), Some(last), Some(_)) = (fields.u32(), fields.u32(), fields.u16()) else {
            return Err(self.run.damage(format!("posting block {number} is too short for its header")));
        };
        let list = MemoryList { offsets: Cow::Borrowed(&[]), hint: 0 };
        Ok(self.block.insert(Block { number, first, last, bytes, list }))
    }

    fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn seeks_in_memory_equal_a_linear_search(
            offsets in prop::collection::btree_set(0_u32..200, 1..60),
            seeks in prop::collection::vec((0_u32..210, any::<bool>()), 1..40),
        ) {
            let offsets: Vec<u32> = offsets.into_iter().collect();
            let mut list = Postings::memory(&offsets);
            for (target, forward) in seeks {
                let (direction, expected) = if forward {
                    (Direction::Forward, offsets.iter().find(|offset| **offset >= target))
                } else {
                    (Direction::Backward, offsets.iter().rev().find(|offset| **offset <= target))
                };
                prop_assert_eq!(list.seek(target, direction).unwrap(), expected.copied());
            }
        }
    }
}
