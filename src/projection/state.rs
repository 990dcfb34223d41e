//! The state record of a version's file: which events its documents have seen.
//!
//! Owns the record's bytes: format (4, big-endian), definition hash (32), log id (16), epoch (8), cursor (8), content
//! hash (32), 1 if the first build is done (1), CRC32C of all before (4). Does not know where it is kept.

use uuid::Uuid;

use crate::{event::Position, projection::content_hash::ContentHash};

const FORMAT: u32 = 1;
const BODY_BYTES: usize = 4 + 32 + 16 + 8 + 8 + 32 + 1;
/// Bytes of a record.
pub(crate) const STATE_BYTES: usize = BODY_BYTES + 4;

/// Which events a version's documents have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The log it follows.
    pub log_id: Uuid,
    /// The epoch that wrote the event at the cursor; 0 at position 0.
    pub epoch: u64,
    /// All events up to this position are in the documents, none above it.
    pub cursor: Position,
    /// Over all documents.
    pub content_hash: ContentHash,
    /// It has been at the head once.
    pub built: bool,
}

impl State {
    /// Before all events of a log.
    pub fn new(log_id: Uuid) -> Self {
        Self { log_id, epoch: 0, cursor: Position::ZERO, content_hash: ContentHash::default(), built: false }
    }

    /// The record of documents that a definition with this hash made.
    pub(crate) fn encode(&self, definition_hash: &[u8; 32]) -> [u8; STATE_BYTES] {
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        bytes.extend(FORMAT.to_be_bytes());
        bytes.extend(definition_hash);
        bytes.extend(self.log_id.as_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.cursor.get().to_be_bytes());
        bytes.extend(self.content_hash.to_bytes());
        bytes.push(u8::from(self.built));
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        bytes.try_into().expect("the parts add up to the record's length")
    }

    /// Reads a record; gives the hash of the definition too. The error says in words what is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, [u8; 32]), String> {
        let damaged = || "its state record is damaged".to_owned();
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if body.len() != BODY_BYTES || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
            return Err(damaged());
        }
        let mut at = 0;
        let format = u32::from_be_bytes(part(body, &mut at));
        if format != FORMAT {
            return Err(format!("its state record has format {format}, expected {FORMAT}"));
        }
        let definition_hash = part(body, &mut at);
        let state = Self {
            log_id: Uuid::from_bytes(part(body, &mut at)),
            epoch: u64::from_be_bytes(part(body, &mut at)),
            cursor: Position::new(u64::from_be_bytes(part(body, &mut at))),
            content_hash: ContentHash::from_bytes(&part(body, &mut at)),
            built: part::<1>(body, &mut at) == [1],
        };
        Ok((state, definition_hash))
    }
}

fn part<const N: usize>(body: &[u8], at: &mut usize) -> [u8; N] {
    let part = std::array::from_fn(|byte| body[*at + byte]);
    *at += N;
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::page::hex;

    #[test]
    fn the_record_has_the_bytes_it_always_had() {
        let mut state = State::new(Uuid::from_bytes([7; 16]));
        state.epoch = 3;
        state.cursor = Position::new(80_491);
        state.content_hash.add("c", b"k", b"{}");
        state.built = true;
        let record = state.encode(&[9; 32]);
        assert_eq!(State::decode(&record), Ok((state, [9; 32])));
        let expected = format!(
            "00000001{}{}0000000000000003{:016x}{}01",
            "09".repeat(32),
            "07".repeat(16),
            80_491,
            hex(&state.content_hash.to_bytes()),
        );
        assert_eq!(hex(&record[..BODY_BYTES]), expected);
        for bit in 0..8 * STATE_BYTES {
            let mut damaged = record;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(State::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
