//! A resident filter over keys: says "certainly not there" or "perhaps there".
//!
//! A split-block Bloom filter (Putze, Sanders, Singler 2007; the layout of Parquet): one key touches one block of 256
//! bits and sets a bit in each of its eight words of 32. At 10 bits a key about one absent key in a hundred passes.
//! Invariant: a key that was added always passes, for whoever learns of it after the adding; keys may be added while
//! others ask. Does not know what the keys are; they come as hashes.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes of a block.
pub(super) const FILTER_BLOCK_BYTES: usize = 32;

/// Bits of filter for each expected key.
const BITS_PER_KEY: u64 = 10;
/// Words of 64 bits in a block; each holds two of the filter's words.
const WORDS: usize = FILTER_BLOCK_BYTES / 8;
const BLOCK_BITS: u64 = 8 * FILTER_BLOCK_BYTES as u64;
const SALTS: [u32; 2 * WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// A set of key hashes, approximately.
pub(super) struct KeyFilter(Box<[Block]>);

/// Aligned, so that a probe touches one line of the processor's cache.
#[derive(Default)]
#[repr(align(32))]
struct Block([AtomicU64; WORDS]);

impl KeyFilter {
    /// An empty filter with room for `keys` keys.
    pub(super) fn with_room_for(keys: u64) -> Self {
        Self::of_blocks(Self::blocks_for(keys))
    }

    /// An empty filter of so many blocks, at least one.
    pub(super) fn of_blocks(blocks: u64) -> Self {
        Self((0..blocks.max(1)).map(|_| Block::default()).collect())
    }

    /// How many blocks give `keys` keys their room.
    pub(super) fn blocks_for(keys: u64) -> u64 {
        (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1)
    }

    /// For how many keys it has room.
    pub(super) fn room(&self) -> u64 {
        self.blocks() * BLOCK_BITS / BITS_PER_KEY
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    /// Adds the key with this hash.
    pub(super) fn add(&self, hash: u64) {
        let Block(words) = &self.0[self.block_of(hash)];
        for (word, bits) in words.iter().zip(bits_of(hash)) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// False only if no key with this hash was added.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let Block(words) = &self.0[self.block_of(hash)];
        // Without an early end: the loads overlap, and what a probe costs does not depend on its key.
        let missing =
            words.iter().zip(bits_of(hash)).map(|(word, bits)| !word.load(Ordering::Relaxed) & bits);
        missing.fold(0, |all, bits| all | bits) == 0
    }

    /// Its bytes in a file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        self.put_blocks(0, self.0.len(), &mut out);
        out
    }

    /// Appends the bytes of `count` blocks from `start` on, fewer at the end.
    pub(super) fn put_blocks(&self, start: usize, count: usize, out: &mut Vec<u8>) {
        for Block(words) in self.0.iter().skip(start).take(count) {
            for word in words {
                out.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
        }
    }

    /// Adds what blocks with these bytes hold to those from `start` on; `None` if they are not blocks of this filter.
    pub(super) fn fill_blocks(&self, start: usize, bytes: &[u8]) -> Option<()> {
        let (stored, tail) = bytes.as_chunks::<8>();
        let blocks = self.0.get(start..start + bytes.len() / FILTER_BLOCK_BYTES)?;
        let words = blocks.iter().flat_map(|Block(words)| words);
        for (word, stored) in words.zip(stored) {
            word.store(u64::from_le_bytes(*stored), Ordering::Relaxed);
        }
        (tail.is_empty() && bytes.len().is_multiple_of(FILTER_BLOCK_BYTES)).then_some(())
    }

    /// The filter with these bytes, unless they are no whole number of blocks.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let blocks = (bytes.len() / FILTER_BLOCK_BYTES) as u64;
        let filter = (blocks > 0).then(|| Self::of_blocks(blocks))?;
        filter.fill_blocks(0, bytes)?;
        Some(filter)
    }

    /// Bytes it takes in memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.0.len() * FILTER_BLOCK_BYTES
    }

    fn block_of(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFilter").field("blocks", &self.0.len()).finish_non_exhaustive()
    }
}

#[inline]
fn bits_of(hash: u64) -> [u64; WORDS] {
    let bit = |salt: u32| 1_u64 << ((hash as u32).wrapping_mul(salt) >> 27);
    std::array::from_fn(|word| bit(SALTS[2 * word]) | bit(SALTS[2 * word + 1]) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::codec::hash;

    #[test]
    fn it_passes_all_keys_and_few_others() {
        let key = |number: u64| hash(3, &number.to_le_bytes());
        let filter = KeyFilter::with_room_for(10_000);
        assert!(filter.room() >= 10_000);
        (0..10_000).for_each(|number| filter.add(key(number)));
        let filter = KeyFilter::decode(&filter.encode()).unwrap();
        assert!((0..10_000).all(|number| filter.may_contain(key(number))));
        let passed = (10_000..110_000).filter(|number| filter.may_contain(key(*number))).count();
        assert!(passed < 2_000, "{passed} of 100,000 absent keys pass");
        assert!(filter.size_bytes() <= 12_544, "{} bytes for 10,000 keys", filter.size_bytes());
    }

    #[test]
    fn pieces_of_a_filter_are_the_filter() {
        let filter = KeyFilter::of_blocks(7);
        (0..60).for_each(|number: u64| filter.add(hash(1, &number.to_le_bytes())));
        let copy = KeyFilter::of_blocks(7);
        for start in [0, 3, 6] {
            let mut bytes = Vec::new();
            filter.put_blocks(start, 3, &mut bytes);
            copy.fill_blocks(start, &bytes).unwrap();
        }
        assert_eq!(copy.encode(), filter.encode());
        assert!(copy.fill_blocks(6, &[0; 64]).is_none(), "behind the end");
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        assert!(KeyFilter::decode(&[]).is_none());
        assert!(KeyFilter::decode(&[0; 31]).is_none());
        assert!(KeyFilter::decode(&[0; 40]).is_none());
        assert!(!KeyFilter::decode(&[0; 32]).unwrap().may_contain(9));
    }
}
