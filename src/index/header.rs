//! The first bytes of a run file: which positions it covers and where its resident sections lie.
//!
//! Owns the layout of the header and the names of run files. Does not read files.
//!
//! A run file is: the header, padded to `HEADER_BYTES`; the ids, in full blocks; dictionary and posting blocks, mixed;
//! the three resident sections. All integers are little-endian. The header is written last.

use uuid::Uuid;

use super::codec::{BLOCK_BYTES, Fields};

/// Where the ids begin.
pub(super) const HEADER_BYTES: u64 = BLOCK_BYTES as u64;
/// Bytes of an id and the offset of its position.
pub(super) const ID_ENTRY_BYTES: usize = 20;
/// Ids in a block, behind its checksum.
pub(super) const IDS_PER_BLOCK: usize = (BLOCK_BYTES - 4) / ID_ENTRY_BYTES;
/// Bytes of the header that are not padding.
pub(super) const HEADER_USED_BYTES: usize = 8 + 4 + 4 + 16 + 5 * 8 + SECTIONS * 20 + 8 + 4;

const MAGIC: [u8; 8] = *b"outr-idx";
const VERSION: u32 = 2;
const SECTIONS: usize = 3;

/// The header of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: Uuid,
    /// The position of the first event.
    pub(super) first: u64,
    /// The position of the last event.
    pub(super) last: u64,
    /// How many events are the system's own.
    pub(super) system_events: u64,
    pub(super) ids: u64,
    pub(super) terms: u64,
    pub(super) sections: Sections,
    pub(super) file_len: u64,
}

/// The sections that are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sections {
    pub(super) id_fences: Section,
    pub(super) term_fences: Section,
    pub(super) term_filter: Section,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) checksum: u32,
}

impl Header {
    /// Its bytes, without padding.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_USED_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.log_id.as_bytes());
        for number in [self.first, self.last, self.system_events, self.ids, self.terms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let Sections { id_fences, term_fences, term_filter } = self.sections;
        for section in [id_fences, term_fences, term_filter] {
            out.extend_from_slice(&section.offset.to_le_bytes());
            out.extend_from_slice(&section.len.to_le_bytes());
            out.extend_from_slice(&section.checksum.to_le_bytes());
        }
        out.extend_from_slice(&self.file_len.to_le_bytes());
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The header with these bytes; the error says what was expected.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let body = bytes.get(..HEADER_USED_BYTES - 4).ok_or("expected a whole header")?;
        let mut fields = Fields(bytes);
        if fields.array() != Some(MAGIC) {
            return Err("expected the magic bytes of an index run");
        }
        if fields.u32() != Some(VERSION) {
            return Err("expected format version 2");
        }
        if bytes.get(body.len()..HEADER_USED_BYTES) != Some(&crc32c::crc32c(body).to_le_bytes()[..]) {
            return Err("expected another checksum of the header");
        }
        let header = Self::take(fields).ok_or("expected a whole header")?;
        let section_fits = |section: &Section| {
            section.offset.checked_add(section.len).is_some_and(|end| end <= header.file_len)
        };
        let Sections { id_fences, term_fences, term_filter } = header.sections;
        if ![id_fences, term_fences, term_filter].iter().all(section_fits) {
            return Err("expected sections inside the file");
        }
        if header.first == 0
            || header.last < header.first
            || header.last - header.first >= u64::from(u32::MAX)
        {
            return Err("expected a range of positions");
        }
        Ok(header)
    }

    /// The fields behind the version.
    fn take(mut fields: Fields<'_>) -> Option<Self> {
        fields.u32()?;
        let log_id = Uuid::from_bytes(fields.array()?);
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = fields.u64()?;
        }
        let mut sections = [Section::default(); SECTIONS];
        for section in &mut sections {
            *section = Section { offset: fields.u64()?, len: fields.u64()?, checksum: fields.u32()? };
        }
        let [first, last, system_events, ids, terms] = numbers;
        let [id_fences, term_fences, term_filter] = sections;
        let sections = Sections { id_fences, term_fences, term_filter };
        Some(Self { log_id, first, last, system_events, ids, terms, sections, file_len: fields.u64()? })
    }
}

/// The name of the run that covers these positions.
pub(super) fn run_name(first: u64, last: u64) -> String {
    format!("{first:020}-{last:020}.run")
}

/// The positions that a run of this name covers.
pub(super) fn parse_run_name(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".run")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (run_name(first, last) == name && 0 < first && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let section = |offset| Section { offset, len: 100, checksum: 7 };
        Header {
            log_id: Uuid::from_u128(9),
            first: 5,
            last: 8,
            system_events: 1,
            ids: 4,
            terms: 6,
            sections: Sections {
                id_fences: section(4096),
                term_fences: section(4196),
                term_filter: section(4296),
            },
            file_len: 4396,
        }
    }

    #[test]
    fn a_header_survives_and_every_flipped_bit_is_seen() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_USED_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        let check = |change: fn(&mut Header), expected: &str| {
            let mut header = header();
            change(&mut header);
            let error = Header::decode(&header.encode()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(|header| header.sections.term_filter.len += 1, "inside the file");
        check(|header| header.sections.id_fences.offset = u64::MAX, "inside the file");
        check(|header| header.first = 0, "a range");
        check(|header| header.last = 4, "a range");
        check(|header| header.last = 1 << 40, "a range");
    }

    #[test]
    fn names_say_what_a_run_covers() {
        assert_eq!(parse_run_name(&run_name(1, 131_072)), Some((1, 131_072)));
        for name in ["1-2.run", "00000000000000000002-00000000000000000001.run", "x.run", "LOCK"] {
            assert_eq!(parse_run_name(name), None, "{name}");
        }
        assert_eq!(parse_run_name(&format!("{}.new", run_name(1, 2))), None);
    }
}
