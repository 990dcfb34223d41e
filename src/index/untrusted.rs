//! The decoders of run files over arbitrary bytes: a door for fuzzing and property tests, and for nothing else.
//!
//! Checksums keep arbitrary bytes from the checks behind them, so the doors set them right first. None may panic or
//! allocate by what the bytes say.

use std::path::Path;

use uuid::Uuid;

use super::{
    codec::{Fields, checksum_seed, seal_block},
    filter::KeyFilter,
    header::{HEADER_BYTES, HEADER_USED_BYTES, Header, run_name},
    terms::{Fences, decode_deltas, entry_from},
    verify::IndexVerifier,
};
use crate::disk::{Disk as _, sim::SimDisk};

/// A header with its checksum set right.
pub fn header(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    seal_header(&mut bytes);
    Header::decode(&bytes).is_ok()
}

fn seal_header(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..HEADER_USED_BYTES) {
        let (body, checksum) = header.split_at_mut(HEADER_USED_BYTES - 4);
        checksum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
}

/// A dictionary block whose checksum has matched; how many entries it has.
pub fn dictionary_block(bytes: &[u8]) -> usize {
    let (mut at, mut entries) = (0, 0);
    while let Ok(Some((term, behind))) = entry_from(bytes, at, &[]) {
        if let super::terms::List::Inline(deltas) = &term.list {
            term.inline_offsets(deltas);
        }
        assert!(behind > at, "an entry has bytes");
        (at, entries) = (behind, entries + 1);
    }
    entries
}

/// Sections that stay in memory, and the deltas of a posting list.
pub fn sections(bytes: &[u8]) -> bool {
    let fences = Fences::decode(bytes);
    if let Some(fences) = &fences
        && fences.len() > 0
    {
        fences.block(fences.find(b"key"));
    }
    let filter = KeyFilter::decode(bytes);
    let passes = filter.as_ref().is_some_and(|filter| filter.may_contain(7));
    let mut offsets = vec![0];
    let deltas = decode_deltas(Fields(bytes), bytes.len(), &mut offsets);
    fences.is_some() || passes || deltas.is_some()
}

/// A whole run file, every checksum of which is set right where its header says that something lies.
pub fn run(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    seal_header(&mut bytes);
    let Ok(mut header) = Header::decode(&bytes) else {
        return false;
    };
    header.file_len = bytes.len() as u64;
    let seed = checksum_seed(header.log_id, header.first, header.last);
    for at in (HEADER_BYTES as usize..bytes.len()).step_by(4_096) {
        let end = bytes.len().min(at + 4_096);
        if end - at > 4 {
            seal_block(&mut bytes[at..end], seed, at as u64);
        }
    }
    let sections = &mut header.sections;
    for section in [&mut sections.id_fences, &mut sections.term_fences, &mut sections.term_filter] {
        let from = section.offset.min(bytes.len() as u64) as usize;
        section.offset = from as u64;
        section.len = section.len.min((bytes.len() - from) as u64);
        let content = &bytes[from..from + section.len as usize];
        section.checksum = super::codec::checksum(seed, section.offset, content);
    }
    let encoded = header.encode();
    bytes[..encoded.len()].copy_from_slice(&encoded);
    let disk = SimDisk::new(1);
    let dir = Path::new("/index");
    let written = disk
        .create_dir_all(dir)
        .and_then(|()| disk.create_new(&dir.join(run_name(header.first, header.last))))
        .and_then(|file| file.write_all_at(&bytes, 0));
    let log_id: Uuid = header.log_id;
    written.is_ok()
        && IndexVerifier::open(&disk, dir, log_id, &mut |_| ()).is_ok_and(|index| index.is_whole())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(
            rest in prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..4, any::<u8>()], 0..400),
        ) {
            let mut start = b"outr-idx\x01\0\0\0\0\0\0\0".to_vec();
            start.extend(&rest);
            header(&start);
            dictionary_block(&rest);
            sections(&rest);
            run(&start);
        }
    }
}
