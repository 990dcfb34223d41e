//! Resume tokens: how far a watcher has come, of which query and version, as an opaque text.
//!
//! Invariant: a token goes on only where it came from. Layout before the hexadecimal digits: format 1, CRC32C of the
//! projection's name (4 bytes), version (4), the definition's first 4 hash bytes, the query's fingerprint (16), log id
//! (16), epoch (8), position (8), base of the change table (8), CRC32C of all before (4); numbers big-endian. Deliberately
//! does not know whether what it names is still there.

use uuid::Uuid;

use crate::{
    event::{Position, Token},
    projection::page::{self, hex, unhex},
};

const FORMAT: u8 = 1;
const BODY_BYTES: usize = 1 + 4 + 4 + 4 + 16 + 16 + 8 + 8 + 8;

/// How far a watcher has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken {
    /// CRC32C of the projection's name.
    pub projection: u32,
    /// The version that was watched.
    pub version: u32,
    /// The first bytes of its definition's hash.
    pub definition: [u8; 4],
    /// What was watched.
    pub fingerprint: [u8; 16],
    /// The point of the log up to which everything was told.
    pub log: Token,
    /// Where the table of changes began.
    pub base: Position,
}

/// What a watch asks for: what it selects and which fields of it.
pub(super) fn fingerprint(selected: &[u8; 16], fields: &[String]) -> [u8; 16] {
    page::fingerprint([&selected[..]].into_iter().chain(fields.iter().map(String::as_bytes)))
}

impl ResumeToken {
    /// The text that a client gets.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + 4);
        bytes.push(FORMAT);
        bytes.extend(self.projection.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.definition);
        bytes.extend(self.fingerprint);
        bytes.extend(self.log.log_id.as_bytes());
        for number in [self.log.epoch, self.log.position.get(), self.base.get()] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        hex(&bytes)
    }

    /// Reads a text of `encode`; `None` if it is none.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let body: &[u8; BODY_BYTES] = body.try_into().ok()?;
        if body[0] != FORMAT || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let mut rest = &body[1..];
        Some(Self {
            projection: u32::from_be_bytes(take(&mut rest)?),
            version: u32::from_be_bytes(take(&mut rest)?),
            definition: take(&mut rest)?,
            fingerprint: take(&mut rest)?,
            log: Token {
                log_id: Uuid::from_bytes(take(&mut rest)?),
                epoch: u64::from_be_bytes(take(&mut rest)?),
                position: Position::new(u64::from_be_bytes(take(&mut rest)?)),
            },
            base: Position::new(u64::from_be_bytes(take(&mut rest)?)),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (part, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_survive_their_text_and_damage_is_seen() {
        let token = ResumeToken {
            projection: 1,
            version: 2,
            definition: [3; 4],
            fingerprint: fingerprint(&[4; 16], &["a".into()]),
            log: Token { log_id: Uuid::from_u128(5), epoch: 6, position: Position::new(7) },
            base: Position::new(8),
        };
        let text = token.encode();
        assert_eq!(ResumeToken::decode(&text), Some(token));
        for at in 0..text.len() {
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(ResumeToken::decode(&damaged), None);
        }
        assert_eq!(ResumeToken::decode(&text[..text.len() - 2]), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}|[0-9a-f]{0,160}") {
            prop_assert_eq!(ResumeToken::decode(&text), None);
        }
    }
}
