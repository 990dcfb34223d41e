//! The offsets of many terms in one piece of memory.
//!
//! Most terms of a part have one to three events, whose offsets stand in the list itself; longer lists have chunks of a
//! common pool, each twice as large as the one before, and give the smaller ones back. So adding an offset allocates
//! next to never. Invariant: the offsets of a list ascend, each once. Does not know what they mean.

/// Offsets that stand in the list itself.
const FEW: usize = 3;
/// Offsets in the smallest chunk.
const CHUNK_MIN: u32 = 8;

/// One term's offsets; belongs to one pool.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct List {
    len: u32,
    /// The offsets, where they are few; else the start and the size of a chunk, and the last offset.
    words: [u32; FEW],
}

/// Where longer lists are.
#[derive(Debug, Default)]
pub(super) struct Pool {
    words: Vec<u32>,
    /// Starts of chunks without a list, by how often `CHUNK_MIN` was doubled for them.
    free: Vec<Vec<u32>>,
}

impl List {
    /// Adds an offset behind the others; does nothing if it is the last one already.
    #[inline]
    pub(super) fn push(&mut self, pool: &mut Pool, offset: u32) {
        if self.last() == Some(offset) {
            return;
        }
        let len = self.len as usize;
        if len < FEW {
            self.words[len] = offset;
        } else {
            if len == FEW {
                let start = pool.take(CHUNK_MIN);
                pool.words[start as usize..][..FEW].copy_from_slice(&self.words);
                self.words[..2].copy_from_slice(&[start, CHUNK_MIN]);
            } else if self.len == self.words[1] {
                let [start, size, _] = self.words;
                let larger = pool.take(2 * size);
                pool.words.copy_within(start as usize..(start + size) as usize, larger as usize);
                pool.give_back(start, size);
                self.words[..2].copy_from_slice(&[larger, 2 * size]);
            }
            pool.words[self.words[0] as usize + len] = offset;
            self.words[2] = offset;
        }
        self.len += 1;
    }

    /// All of them.
    #[inline]
    pub(super) fn offsets<'a>(&'a self, pool: &'a Pool) -> &'a [u32] {
        let len = self.len as usize;
        if len <= FEW { &self.words[..len] } else { &pool.words[self.words[0] as usize..][..len] }
    }

    /// The last one.
    #[inline]
    pub(super) fn last(&self) -> Option<u32> {
        (self.len as usize).min(FEW).checked_sub(1).map(|at| self.words[at])
    }
}

impl Pool {
    /// An empty pool with room for as much as this one has.
    pub(super) fn alike(&self) -> Self {
        Self { words: Vec::with_capacity(self.words.len()), free: Vec::new() }
    }

    fn take(&mut self, size: u32) -> u32 {
        if let Some(start) = self.free.get_mut(class(size)).and_then(Vec::pop) {
            return start;
        }
        let start = self.words.len();
        self.words.resize(start + size as usize, 0);
        start as u32
    }

    fn give_back(&mut self, start: u32, size: u32) {
        let class = class(size);
        if self.free.len() <= class {
            self.free.resize_with(class + 1, Vec::new);
        }
        self.free[class].push(start);
    }
}

fn class(size: u32) -> usize {
    (size / CHUNK_MIN).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_keep_their_offsets_in_order_and_once(pushes in prop::collection::vec((0_usize..5, any::<bool>()), 0..600)) {
            let mut pool = Pool::default();
            let mut lists = [List::default(); 5];
            let mut expected = vec![Vec::new(); 5];
            for (offset, (at, twice)) in pushes.into_iter().enumerate() {
                for _ in 0..=u8::from(twice) {
                    lists[at].push(&mut pool, offset as u32);
                }
                expected[at].push(offset as u32);
                prop_assert_eq!(lists[at].last(), Some(offset as u32));
            }
            for (list, expected) in lists.iter().zip(&expected) {
                prop_assert_eq!(list.offsets(&pool), &expected[..]);
            }
        }
    }

    #[test]
    fn chunks_that_were_given_back_are_used_again() {
        let mut pool = Pool::default();
        let mut lists = [List::default(); 2];
        for list in &mut lists {
            (0..1_000).for_each(|offset| list.push(&mut pool, offset));
        }
        assert_eq!(pool.words.len(), 8 + 16 + 32 + 64 + 128 + 256 + 512 + 1024 + 1024);
    }
}
