//! Fast randomness from a seed: ids, choices, text that does not compress. For load, never for secrets.
//!
//! The generator is xoshiro256++ (Blackman, Vigna 2019), seeded through splitmix64 (Steele, Lea, Flood 2014): its period
//! is so long that runs of different seeds never give the same id. Does not know events.

/// Symbols of base64, by their value.
const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// The sequence of a seed and of a number that sets it apart from others of that seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut state = seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F);
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is not 0; as even as load needs it.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// The 16 bytes of a UUID of version 4.
    pub fn id(&mut self) -> [u8; 16] {
        let bits = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().into_bytes()
    }

    /// Fills `text` with random symbols of base64.
    pub fn fill_base64(&mut self, text: &mut [u8]) {
        for eight in text.chunks_mut(8) {
            let bytes = self.bits().to_le_bytes();
            eight.copy_from_slice(&bytes[..eight.len()]);
        }
        // Without a table, so that the compiler makes vector code of it.
        for byte in text {
            let value = *byte & 63;
            let mut symbol = value.wrapping_add(b'A');
            symbol = if value >= 26 { value.wrapping_add(b'a' - 26) } else { symbol };
            symbol = if value >= 52 { value.wrapping_sub(52 - b'0') } else { symbol };
            symbol = if value == 62 { SYMBOLS[62] } else { symbol };
            symbol = if value == 63 { SYMBOLS[63] } else { symbol };
            *byte = symbol;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_numbers_set_sequences_apart() {
        let first = |seed, number| Random::new(seed, number).bits();
        assert_eq!(first(7, 1), first(7, 1));
        let all: HashSet<u64> = (0..100).flat_map(|n| [first(7, n), first(8, n)]).collect();
        assert_eq!(all.len(), 200);
    }

    #[test]
    fn ids_are_distinct_and_of_version_4() {
        let mut random = Random::new(1, 0);
        let ids: HashSet<[u8; 16]> = (0..10_000).map(|_| random.id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| uuid::Uuid::from_bytes(*id).get_version_num() == 4));
    }

    #[test]
    fn text_uses_every_symbol_of_base64_and_no_other() {
        let mut text = vec![0; 65_537];
        Random::new(3, 0).fill_base64(&mut text);
        let mut counts = [0_u32; 256];
        for byte in text {
            counts[usize::from(byte)] += 1;
        }
        let expected = 65_537 / 64;
        assert!(SYMBOLS.iter().all(|s| counts[usize::from(*s)].abs_diff(expected) < expected / 4));
        assert_eq!(SYMBOLS.iter().map(|s| counts[usize::from(*s)]).sum::<u32>(), 65_537);
    }
}
