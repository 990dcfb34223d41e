//! Page tokens: where a list stopped, and of which query and version, as an opaque text.
//!
//! Invariants: a token answers only the query it came from; a text that is no token is told from a token of another
//! query. Layout before the hexadecimal digits: format 1, CRC32C of the projection's name (4 bytes, big-endian), version
//! (4 bytes, big-endian), the definition's first 4 hash bytes, the query's fingerprint (16 bytes), the last entry looked
//! at, CRC32C of all before (4 bytes, big-endian).
//! Deliberately does not know what an entry means.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 4 + 4 + 4 + 16;
const CRC_BYTES: usize = 4;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    /// CRC32C of the projection's name.
    pub projection: u32,
    /// The version that gave the page.
    pub version: u32,
    /// The first bytes of its definition's hash.
    pub definition: [u8; 4],
    /// What was asked.
    pub fingerprint: Fingerprint,
    /// The last key or index entry looked at.
    pub last: Vec<u8>,
}

/// The identity of a query, without page size, page token and freshness.
pub type Fingerprint = [u8; 16];

/// The fingerprint of a query that consists of these parts.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    std::array::from_fn(|at| digest[at])
}

impl PageToken {
    /// The text that a client gets.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.last.len() + CRC_BYTES);
        bytes.push(FORMAT);
        bytes.extend(self.projection.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.definition);
        bytes.extend(self.fingerprint);
        bytes.extend(&self.last);
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        hex(&bytes)
    }

    /// Reads a text of `encode`; `None` if it is none.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
        let (head, last) = body.split_first_chunk::<HEAD_BYTES>()?;
        if head[0] != FORMAT || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let (projection, rest) = head[1..].split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (definition, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            projection: u32::from_be_bytes(*projection),
            version: u32::from_be_bytes(*version),
            definition: *definition,
            fingerprint: rest.try_into().ok()?,
            last: last.to_vec(),
        })
    }
}

/// Two lower-case hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes all text");
        out
    })
}

/// Reads what `hex` wrote; `None` if it is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_survive_their_text_and_damage_is_seen(
            version in any::<u32>(),
            last in prop::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let token = PageToken {
                projection: crc32c::crc32c(b"p"),
                version,
                definition: [1, 2, 3, 4],
                fingerprint: fingerprint([&b"q"[..]]),
                last,
            };
            let text = token.encode();
            prop_assert_eq!(PageToken::decode(&text), Some(token));
            let at = at.index(text.len());
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(PageToken::decode(&damaged), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}|[0-9a-f]{0,120}") {
            prop_assert_eq!(PageToken::decode(&text), None);
        }
    }

    #[test]
    fn the_borders_between_parts_count() {
        assert_ne!(fingerprint([&b"a"[..], b"bc"]), fingerprint([&b"ab"[..], b"c"]));
    }
}
