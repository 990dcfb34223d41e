//! A hash over a multiset of documents: the sum, modulo 2^256, of one SHA-256 per document.
//!
//! Invariants: equal documents give equal hashes, whatever the order and the batches they were written in; adding a
//! document and taking it away again leaves the hash as it was. Neither positions nor the definition are part of it.
//! Deliberately does not know where documents are kept.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The sum, least significant limb first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentHash([u64; 4]);

impl ContentHash {
    /// Adds a document: its collection's name, its encoded key, its canonical text.
    pub fn add(&mut self, collection: &str, key: &[u8], text: &[u8]) {
        let mut carry = false;
        for (limb, term) in self.0.iter_mut().zip(limbs(&digest(collection, key, text))) {
            let (sum, over) = limb.overflowing_add(term);
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_carry);
        }
    }

    /// Takes a document away that was added.
    pub fn take(&mut self, collection: &str, key: &[u8], text: &[u8]) {
        let mut borrow = false;
        for (limb, term) in self.0.iter_mut().zip(limbs(&digest(collection, key, text))) {
            let (rest, under) = limb.overflowing_sub(term);
            let (rest, under_borrow) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, under || under_borrow);
        }
    }

    /// 32 bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// Reads the bytes of `to_bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(limbs(bytes))
    }
}

/// 64 hexadecimal digits, most significant first.
impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

/// Collection and key are preceded by their lengths, so that no two documents hash the same bytes.
fn digest(collection: &str, key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update((collection.len() as u64).to_be_bytes());
    hasher.update(collection);
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(text);
    hasher.finalize().into()
}

fn limbs(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|at| {
        let limb: [u8; 8] = std::array::from_fn(|byte| bytes[8 * at + byte]);
        u64::from_le_bytes(limb)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_of_one_document_is_its_digest() {
        let mut hash = ContentHash::default();
        assert_eq!(hash.to_string(), "0".repeat(64));
        hash.add("c", b"k", b"{}");
        assert_eq!(hash.to_bytes(), digest("c", b"k", b"{}"));
        assert_eq!(ContentHash::from_bytes(&hash.to_bytes()), hash);
        let mut other = ContentHash::default();
        other.add("ck", b"", b"{}");
        assert_ne!(other, hash, "the border between collection and key counts");
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_taking_undoes_adding(
            keys in prop::collection::vec(any::<[u8; 3]>(), 1..20),
            taken in 0_usize..20,
        ) {
            let taken = taken % keys.len();
            let mut forwards = ContentHash::default();
            for key in &keys {
                forwards.add("c", key, b"{}");
            }
            forwards.take("c", &keys[taken], b"{}");
            let mut backwards = ContentHash::default();
            for (at, key) in keys.iter().enumerate().rev() {
                if at != taken {
                    backwards.add("c", key, b"{}");
                }
            }
            prop_assert_eq!(forwards, backwards);
        }
    }
}
