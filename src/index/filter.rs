//! A resident filter over the keys of a run: says "certainly not there" or "perhaps there".
//!
//! A split-block Bloom filter (Putze, Sanders, Singler 2007; the layout of Parquet): one key touches one block of 256
//! bits and sets a bit in each of its eight words. At 10 bits a key about one absent key in a hundred passes.
//! Invariant: a key that was added always passes. Does not know what the keys are; they come as hashes.

/// Bits of filter for each expected key.
const BITS_PER_KEY: u64 = 10;
const WORDS: usize = 8;
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// A set of key hashes, approximately.
#[derive(Debug)]
pub(super) struct KeyFilter(Vec<[u32; WORDS]>);

impl KeyFilter {
    /// An empty filter with room for `keys` keys.
    pub(super) fn with_room_for(keys: u64) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(32 * WORDS as u64).max(1);
        Self(vec![[0; WORDS]; blocks as usize])
    }

    /// Adds the key with this hash.
    pub(super) fn add(&mut self, hash: u64) {
        let block = self.block_of(hash);
        for (word, bit) in self.0[block].iter_mut().zip(bits_of(hash)) {
            *word |= bit;
        }
    }

    /// False only if no key with this hash was added.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let block = &self.0[self.block_of(hash)];
        block.iter().zip(bits_of(hash)).all(|(word, bit)| word & bit != 0)
    }

    /// Its bytes in a run file.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The filter with these bytes, unless they are no whole number of blocks.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(4 * WORDS) {
            return None;
        }
        let word = |chunk: &[u8]| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        let block = |chunk: &[u8]| std::array::from_fn(|at| word(&chunk[4 * at..]));
        Some(Self(bytes.chunks_exact(4 * WORDS).map(block).collect()))
    }

    /// Bytes it takes in memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.0.len() * 4 * WORDS
    }

    fn block_of(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }
}

fn bits_of(hash: u64) -> [u32; WORDS] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::codec::hash;

    #[test]
    fn it_passes_all_keys_and_few_others() {
        let key = |number: u64| hash(3, &number.to_le_bytes());
        let mut filter = KeyFilter::with_room_for(10_000);
        (0..10_000).for_each(|number| filter.add(key(number)));
        let filter = KeyFilter::decode(&filter.encode()).unwrap();
        assert!((0..10_000).all(|number| filter.may_contain(key(number))));
        let passed = (10_000..110_000).filter(|number| filter.may_contain(key(*number))).count();
        assert!(passed < 2_000, "{passed} of 100,000 absent keys pass");
        assert!(filter.size_bytes() <= 12_544, "{} bytes for 10,000 keys", filter.size_bytes());
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        assert!(KeyFilter::decode(&[]).is_none());
        assert!(KeyFilter::decode(&[0; 31]).is_none());
        assert!(!KeyFilter::decode(&[0; 32]).unwrap().may_contain(9));
    }
}
