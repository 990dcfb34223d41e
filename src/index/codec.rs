//! Small pieces of the run format: variable-length integers, checksums, and the hash that filters use.
//!
//! Owns the byte-level forms that every section shares. Everything here is part of the file format: a change needs a
//! new format version. Does not know sections, files or events.

use uuid::Uuid;

/// Bytes of a full block: what one lookup reads.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Bytes of the checksum at the start of every block.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// What ties checksums to their run, so that a block of another run is never taken for one of this.
pub(super) fn checksum_seed(log_id: Uuid, first: u64, last: u64) -> u32 {
    let seed = crc32c::crc32c(log_id.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &first.to_le_bytes()), &last.to_le_bytes())
}

/// The CRC32C of `data` where it lies at `offset` of the run with this seed.
pub(super) fn checksum(seed: u32, offset: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &offset.to_le_bytes()), data)
}

/// Fills in the checksum at the start of a block that will lie at `offset`.
pub(super) fn seal_block(block: &mut [u8], seed: u32, offset: u64) {
    let sum = checksum(seed, offset, &block[CHECKSUM_BYTES..]);
    block[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Whether a block is as it was sealed.
pub(super) fn block_is_sound(block: &[u8], seed: u32, offset: u64) -> bool {
    block.len() > CHECKSUM_BYTES
        && block[..CHECKSUM_BYTES] == checksum(seed, offset, &block[CHECKSUM_BYTES..]).to_le_bytes()
}

/// Appends an integer in groups of seven bits, lowest first (LEB128).
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes fields off the front of some bytes; every method gives `None` where they end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Option<u64> {
        match self.0 {
            // By far the most frequent case.
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    pub(super) fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }
}

/// A 64-bit hash by folded multiplication; the same on every machine, for ever.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word), FACTOR).rotate_left(23);
    }
    fold(state ^ 0xD6E8_FEB8_6659_FD93, FACTOR | 1)
}

/// What makes the hashes of one log its own, so that keys chosen to collide in one log do not in another.
pub(super) fn hash_seed(log_id: Uuid) -> u64 {
    hash(0x6F75_7472_6967_6765, log_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_survive(value: u64, behind: u8) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert!(bytes.len() <= 10);
            prop_assert_eq!(Fields(&bytes[..bytes.len() - 1]).varint(), None);
            bytes.push(behind);
            let mut fields = Fields(&bytes);
            prop_assert_eq!(fields.varint(), Some(value));
            prop_assert_eq!(fields.0, &[behind][..]);
        }

        #[test]
        fn a_sealed_block_holds_every_bit_and_its_place(
            mut block in prop::collection::vec(any::<u8>(), 5..200),
            bit: usize,
            offset: u32,
        ) {
            let offset = u64::from(offset);
            seal_block(&mut block, 7, offset);
            prop_assert!(block_is_sound(&block, 7, offset));
            prop_assert!(!block_is_sound(&block, 8, offset));
            prop_assert!(!block_is_sound(&block, 7, offset + 1));
            let bit = bit % (block.len() * 8);
            block[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!block_is_sound(&block, 7, offset));
        }
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(hash(1, b""), hash(1, b""));
        assert_ne!(hash(1, b""), hash(2, b""));
        assert_ne!(hash(1, b"\0"), hash(1, b"\0\0"));
        assert_ne!(hash(1, b"flight-1"), hash(1, b"flight-2"));
    }
}
