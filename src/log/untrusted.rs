//! The decoders of the log over arbitrary bytes: a door for fuzzing and property tests, and for nothing else.
//!
//! Checksums keep arbitrary bytes from the checks behind them, so most doors set the checksums right first. Each says
//! whether the bytes were taken for what they were tried as; none may panic or allocate by what the bytes say.

use uuid::Uuid;

use super::{
    format::{Seed, put, u32_at},
    group::{self, GroupHeader, HEADER_BYTES, RECORD_HEADER_BYTES},
    manifest::Manifest,
    repair::CutPlan,
    segment::{Mark, SegmentHeader},
};
use crate::event::Position;

fn seed() -> Seed {
    Seed::new(Uuid::from_u128(77))
}

/// A group: header, records and trailer, as it is and with all checksums set right.
pub fn group(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let as_it_is = check_group(&bytes);
    seal_group(&mut bytes);
    check_group(&bytes) || as_it_is
}

fn check_group(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..HEADER_BYTES).and_then(|head| GroupHeader::decode(head, seed()).ok())
    else {
        return false;
    };
    let Some(whole) = bytes.get(..header.group_bytes()) else {
        return false;
    };
    let check = |before| group::check(whole, &header, seed(), before, 0, &mut Vec::new());
    let alone = check(None).is_ok();
    assert!(alone || check(Some(&[0; 32])).is_err(), "a group that continues a chain is good by itself");
    alone
}

fn seal_group(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let checksum = seed().checksum(&[&bytes[..60]]);
    put(bytes, 60, &checksum.to_le_bytes());
    let Ok(header) = GroupHeader::decode(&bytes[..HEADER_BYTES], seed()) else {
        return;
    };
    let (mut at, mut position) = (HEADER_BYTES, header.first);
    for _ in 0..header.records {
        let Some(record) = bytes.get_mut(at..) else {
            return;
        };
        let Some(len) = seal_record(record, position) else {
            break;
        };
        at += len;
        position = position.next();
    }
    let end = HEADER_BYTES + header.body_bytes as usize;
    let trailer = end.next_multiple_of(group::ALIGNMENT);
    if bytes.len() >= trailer + 40 {
        let checksum =
            seed().checksum(&[&bytes[..HEADER_BYTES], &bytes[end..trailer], &bytes[trailer..trailer + 32]]);
        put(bytes, trailer + 32, &checksum.to_le_bytes());
    }
}

/// Sets the checksum of a record right; gives its length if it lies inside.
fn seal_record(bytes: &mut [u8], position: Position) -> Option<usize> {
    let len = RECORD_HEADER_BYTES.checked_add(u32_at(bytes.get(..RECORD_HEADER_BYTES)?, 0) as usize)?;
    let record = bytes.get_mut(..len)?;
    let checksum = seed().at(position).checksum(&[&record[..12], &record[RECORD_HEADER_BYTES..]]);
    put(record, 12, &checksum.to_le_bytes());
    Some(len)
}

/// A record, as it is and with its checksum set right.
pub fn record(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let position = Position::new(41);
    let as_it_is = group::record(&bytes, seed(), position).is_ok();
    seal_record(&mut bytes, position);
    let record = group::record(&bytes, seed(), position);
    record.map_or(as_it_is, |payload| bytes.get(payload).is_some())
}

/// A commit mark, as it is and with its checksum set right.
pub fn mark(bytes: &[u8]) -> bool {
    Mark::untrusted(bytes, seed(), Position::new(9))
}

/// A segment's header, as it is and with its checksum set right.
pub fn segment_header(bytes: &[u8]) -> bool {
    SegmentHeader::untrusted(bytes)
}

/// A manifest, and the plan of a repair, as they are and with their checksums set right.
pub fn manifest(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let decode = |bytes: &[u8]| {
        let manifest = Manifest::from_bytes(bytes);
        if let Some(manifest) = &manifest {
            assert_eq!(manifest.encode(), bytes, "a manifest has one form");
        }
        manifest.is_some() || CutPlan::decode(bytes).is_some()
    };
    let as_it_is = decode(&bytes);
    if let Some(at) = bytes.len().checked_sub(4) {
        let checksum = crc32c::crc32c(&bytes[..at]);
        put(&mut bytes, at, &checksum.to_le_bytes());
    }
    decode(&bytes) || as_it_is
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Door = fn(&[u8]) -> bool;

    /// Bytes that begin as the structure does.
    fn bytes(magic: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        let small = prop_oneof![3 => Just(0_u8), 1 => 0_u8..4, 1 => any::<u8>()];
        prop::collection::vec(small, 0..300).prop_map(move |rest| [magic, &rest].concat())
    }

    fn check(door: Door, magic: &'static [u8]) {
        proptest!(|(bytes in bytes(magic))| {
            // No answer is wrong; that it comes is what is tested.
            door(&bytes);
        });
    }

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        check(group, b"ORGR\x01\0\0\0");
        check(record, b"");
        check(mark, b"ORCOMMIT");
        check(segment_header, b"ORSEGMEN\x01\0\0\0\0\x30\0\0");
        check(manifest, b"ORMANIFE\x01\0\0\0");
        check(manifest, b"ORREPAIR\x01\0\0\0");
    }

    #[test]
    fn the_doors_lead_to_the_checks_behind_the_checksums() {
        assert!(record(&[0; RECORD_HEADER_BYTES]));
        let mut one = vec![0; 64 + 16 + 40];
        put(&mut one, 0, b"ORGR\x01\0\0\0\x10\0\0\0\x01\0\0\0\x01\0\0\0");
        put(&mut one, 24, &[5]);
        put(&mut one, 64 + 16 + 36, b"ORGE");
        assert!(group(&one));
        let mut mark_bytes = [0; 80];
        put(&mut mark_bytes, 0, b"ORCOMMIT");
        put(&mut mark_bytes, 32, &[9]);
        assert!(mark(&mark_bytes));
    }
}
