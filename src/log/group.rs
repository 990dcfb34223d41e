//! Groups and records: the bytes that one write and one sync make durable.
//!
//! A group is a header, its records, zero bytes up to a multiple of 8, and a trailer with the chain. A group counts
//! only when every checksum, every length and the chain are right; then it counts as a whole. Lengths are checked and
//! bounded before anything is allocated by them. Does not know segments: groups can be copied byte for byte.

use super::{
    epochs::Epoch,
    format::{Chain, Link, Seed, bytes_at, position_at, put, u16_at, u32_at, u64_at},
};
use crate::{
    event::Position,
    limits::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX},
};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
const TRAILER_BYTES: usize = 40;
/// Groups begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// Bytes of all records of a group with their headers.
const BODY_BYTES_MAX: usize = GROUP_BYTES_MAX + GROUP_RECORDS_MAX * RECORD_HEADER_BYTES;

pub(crate) const MAGIC: [u8; 4] = *b"ORGR";
const VERSION: u16 = 1;
const END_MAGIC: [u8; 4] = *b"ORGE";
/// No flags are in use: bits 0 to 3 are kept for compression, 4 for a tombstone, 5 for a record without a position.
const FLAGS_KNOWN: u32 = 0;

/// What stands at the head of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// The position of the first record.
    pub(crate) first: Position,
    pub(crate) records: u32,
    /// Bytes of all records with their headers.
    pub(crate) body_bytes: u32,
    pub(crate) epoch: Epoch,
    /// The last position that was durable before this group was written.
    pub(crate) synced_upto: Position,
}

impl GroupHeader {
    fn encode(&self, seed: Seed) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 4, &VERSION.to_le_bytes());
        put(&mut out, 8, &self.body_bytes.to_le_bytes());
        put(&mut out, 12, &self.records.to_le_bytes());
        put(&mut out, 16, &self.records.to_le_bytes());
        put(&mut out, 24, &self.first.get().to_le_bytes());
        put(&mut out, 32, &self.epoch.counter.to_le_bytes());
        put(&mut out, 40, &self.epoch.random.to_le_bytes());
        put(&mut out, 48, &self.synced_upto.get().to_le_bytes());
        let checksum = seed.checksum(&[&out[..60]]);
        put(&mut out, 60, &checksum.to_le_bytes());
        out
    }

    /// Reads the first 64 bytes of a group.
    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Result<Self, String> {
        if bytes[..4] != MAGIC {
            return Err(format!(
                "expected a group that begins with {MAGIC:02x?}, found {:02x?}",
                &bytes[..4]
            ));
        }
        if seed.checksum(&[&bytes[..60]]) != u32_at(bytes, 60) {
            return Err("the checksum of a group's header does not match".into());
        }
        let header = Self {
            body_bytes: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            first: position_at(bytes, 24),
            epoch: Epoch { counter: u64_at(bytes, 32), random: u64_at(bytes, 40) },
            synced_upto: position_at(bytes, 48),
        };
        let (records, body) = (header.records as usize, header.body_bytes as usize);
        let known = u16_at(bytes, 4) == VERSION && u16_at(bytes, 6) == 0 && bytes[20..24] == [0; 4];
        if !known || u32_at(bytes, 16) != header.records || bytes[56..60] != [0; 4] {
            return Err("the group's header has a version or flags that format 1 does not know".into());
        }
        let bounded = (1..=GROUP_RECORDS_MAX).contains(&records)
            && (records * RECORD_HEADER_BYTES..=BODY_BYTES_MAX).contains(&body);
        if !bounded || header.first == Position::ZERO {
            return Err(format!("a group cannot hold {records} records in {body} bytes"));
        }
        Ok(header)
    }

    /// Bytes of the whole group.
    pub(crate) fn group_bytes(&self) -> usize {
        group_bytes(self.body_bytes as usize)
    }

    /// The position of the last record.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.records) - 1)
    }
}

fn group_bytes(body_bytes: usize) -> usize {
    trailer_at(body_bytes) + TRAILER_BYTES
}

fn trailer_at(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Bytes of a group of these payloads.
pub(crate) fn bytes_of<P: AsRef<[u8]>>(payloads: &[P]) -> usize {
    let payload_bytes: usize = payloads.iter().map(|payload| payload.as_ref().len()).sum();
    group_bytes(payload_bytes + payloads.len() * RECORD_HEADER_BYTES)
}

/// What a group takes over from the log it is appended to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    pub(crate) first: Position,
    pub(crate) epoch: Epoch,
    pub(crate) synced_upto: Position,
    pub(crate) chain: Chain,
}

/// Writes a group into the empty `out`, and where its records begin behind the group's own beginning into the empty
/// `starts`. Gives the chain behind the group.
pub(crate) fn encode<P: AsRef<[u8]>>(
    seed: Seed,
    before: &Before,
    payloads: &[P],
    out: &mut Vec<u8>,
    starts: &mut Vec<u32>,
) -> Chain {
    debug_assert!(out.is_empty() && starts.is_empty());
    let records = payloads.len() as u32;
    out.reserve(bytes_of(payloads));
    out.resize(HEADER_BYTES, 0);
    let mut link = Link::new(&before.chain, before.first, records);
    let mut position = before.first;
    for payload in payloads.iter().map(AsRef::as_ref) {
        starts.push(out.len() as u32);
        let mut header = [0; RECORD_HEADER_BYTES];
        put(&mut header, 0, &(payload.len() as u32).to_le_bytes());
        let checksum = seed.at(position).checksum(&[&header[..12], payload]);
        put(&mut header, 12, &checksum.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        link.add(payload);
        position = position.next();
    }
    let header = GroupHeader {
        first: before.first,
        records,
        body_bytes: (out.len() - HEADER_BYTES) as u32,
        epoch: before.epoch,
        synced_upto: before.synced_upto,
    };
    put(out, 0, &header.encode(seed));
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    let chain = link.finish();
    out.extend_from_slice(&chain);
    let padding = HEADER_BYTES + header.body_bytes as usize;
    let checksum = seed.checksum(&[&out[..HEADER_BYTES], &out[padding..]]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&END_MAGIC);
    chain
}

/// Checks the rest of a group whose header was read from its beginning, appends where its records begin, each plus
/// `base`, and gives the chain behind it. Where the chain before it is not known, its own word is taken for the chain
/// behind it. After an error `starts` may have grown.
pub(crate) fn check(
    group: &[u8],
    header: &GroupHeader,
    seed: Seed,
    before: Option<&Chain>,
    base: u64,
    starts: &mut Vec<u32>,
) -> Result<Chain, String> {
    let body_end = HEADER_BYTES + header.body_bytes as usize;
    let mut link = before.map(|before| Link::new(before, header.first, header.records));
    let mut at = HEADER_BYTES;
    for i in 0..header.records {
        let position = header.first.plus(u64::from(i));
        let payload = record(&group[at..body_end], seed, position)?;
        if let Some(link) = &mut link {
            link.add(&group[at + payload.start..at + payload.end]);
        }
        starts.push((base + at as u64) as u32);
        at += payload.end;
    }
    let trailer_at = trailer_at(header.body_bytes as usize);
    let trailer = &group[trailer_at..];
    let checksum = seed.checksum(&[&group[..HEADER_BYTES], &group[body_end..trailer_at], &trailer[..32]]);
    if at != body_end || checksum != u32_at(trailer, 32) || trailer[36..40] != END_MAGIC {
        return Err("the checksum of a group's trailer does not match".into());
    }
    let chain = bytes_at::<32>(trailer, 0);
    if link.is_some_and(|link| link.finish() != chain) {
        return Err("the chain does not continue: the group followed other records".into());
    }
    Ok(chain)
}

/// A sabotage of `check`: takes lengths and chain as they stand.
pub(crate) fn trust(group: &[u8], header: &GroupHeader, base: u64, starts: &mut Vec<u32>) -> Chain {
    let body_end = HEADER_BYTES + header.body_bytes as usize;
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        starts.push((base + at as u64) as u32);
        let len = group.get(at..at + 4).map_or(0, |bytes| u32_at(bytes, 0) as usize);
        at = (at + RECORD_HEADER_BYTES + len).min(body_end - RECORD_HEADER_BYTES);
    }
    bytes_at(&group[trailer_at(header.body_bytes as usize)..], 0)
}

/// Checks the record of `position` at the beginning of `bytes` and gives where its payload lies.
pub(crate) fn record(bytes: &[u8], seed: Seed, position: Position) -> Result<std::ops::Range<usize>, String> {
    let damaged = |what: &str| Err(format!("record at position {position}: {what}"));
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER_BYTES) else {
        return damaged("it is cut short");
    };
    let len = u32_at(header, 0) as usize;
    let Some(payload) = rest.get(..len) else {
        return damaged("its length reaches beyond its group");
    };
    if seed.at(position).checksum(&[&header[..12], payload]) != u32_at(header, 12) {
        return damaged("its checksum does not match");
    }
    if u32_at(header, 4) & !FLAGS_KNOWN != 0 || u32_at(header, 8) != 0 {
        return damaged("it has flags or a key that format 1 does not know");
    }
    Ok(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn seed() -> Seed {
        Seed::new(Uuid::from_u128(77))
    }

    fn before() -> Before {
        Before {
            first: Position::new(41),
            epoch: Epoch { counter: 3, random: 9 },
            synced_upto: Position::new(40),
            chain: [5; 32],
        }
    }

    fn encoded(payloads: &[Bytes]) -> (Vec<u8>, Vec<u32>, Chain) {
        let (mut out, mut starts) = (Vec::new(), Vec::new());
        let chain = encode(seed(), &before(), payloads, &mut out, &mut starts);
        (out, starts, chain)
    }

    fn decoded(group: &[u8], seed: Seed) -> Result<(GroupHeader, Vec<u32>, Chain), String> {
        let header = GroupHeader::decode(group, seed)?;
        if header.group_bytes() != group.len() {
            return Err("length".into());
        }
        let mut starts = Vec::new();
        let chain = check(group, &header, seed, Some(&before().chain), 0, &mut starts)?;
        Ok((header, starts, chain))
    }

    fn payloads() -> impl Strategy<Value = Vec<Bytes>> {
        let payload = proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
        proptest::collection::vec(payload, 1..8)
    }

    proptest! {
        #[test]
        fn a_group_survives_its_encoding(payloads in payloads()) {
            let (group, starts, chain) = encoded(&payloads);
            prop_assert_eq!(group.len(), bytes_of(&payloads));
            prop_assert_eq!(group.len() % ALIGNMENT, 0);
            let (header, found, end) = decoded(&group, seed()).unwrap();
            prop_assert_eq!((header.first, header.last()), (Position::new(41), Position::new(40 + payloads.len() as u64)));
            prop_assert_eq!((&found, end), (&starts, chain));
            for (i, start) in found.iter().enumerate() {
                let bytes = &group[*start as usize..];
                let payload = record(bytes, seed(), Position::new(41 + i as u64)).unwrap();
                prop_assert_eq!(&bytes[payload], &payloads[i][..]);
            }
        }

        #[test]
        fn every_flipped_bit_is_found(payloads in payloads(), bit in any::<prop::sample::Index>()) {
            let (mut group, ..) = encoded(&payloads);
            let bit = bit.index(group.len() * 8);
            group[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decoded(&group, seed()).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES..400)) {
            bytes[..4].copy_from_slice(&MAGIC);
            prop_assert!(GroupHeader::decode(&bytes, seed()).is_err());
            prop_assert!(record(&bytes, seed(), Position::new(1)).is_err());
        }
    }

    #[test]
    fn a_record_is_good_at_its_own_position_of_its_own_log_only() {
        let (group, ..) = encoded(&[Bytes::from_static(b"payload")]);
        let bytes = &group[HEADER_BYTES..];
        assert!(record(bytes, seed(), Position::new(41)).is_ok());
        assert!(record(bytes, seed(), Position::new(42)).is_err());
        assert!(record(bytes, Seed::new(Uuid::from_u128(78)), Position::new(41)).is_err());
        assert!(decoded(&group, Seed::new(Uuid::from_u128(78))).is_err());
    }

    #[test]
    fn a_group_continues_one_chain_only() {
        let (group, ..) = encoded(&[Bytes::from_static(b"payload")]);
        let header = GroupHeader::decode(&group, seed()).unwrap();
        let check = |before: Option<&Chain>| check(&group, &header, seed(), before, 0, &mut Vec::new());
        let refused = check(Some(&[6; 32])).unwrap_err();
        assert!(refused.contains("the chain does not continue"), "{refused}");
        assert_eq!(check(None), check(Some(&before().chain)));
    }
}
