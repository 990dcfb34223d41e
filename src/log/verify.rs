//! Going through whole segments after the log was opened: to make a lost sidecar anew, and to verify a log.
//!
//! A sealed segment ends where the next one begins; what its file holds behind that does not count.

use super::{
    LogError, LogReader,
    format::Chain,
    offsets::{self, Offsets, Sidecar, Starts},
    reader::{Segment, Shared},
    scan::{Source, Step, Walk},
    segment::{self, SegmentHeader},
};
use crate::{disk::Access, event::Position};

/// What a verified log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Records checked.
    pub records: u64,
    /// Segments walked.
    pub segments: usize,
    /// The hash over all records up to the head that the log had.
    pub chain: [u8; 32],
}

/// Opens a sealed segment whose last position is `last`. Makes its sidecar anew if there is no good one.
pub(super) fn open_sealed(shared: &Shared, first: Position, last: Position) -> Result<Segment, LogError> {
    let directory = shared.directory();
    let (file, header) = segment::open(directory, shared.log_id(), first, Access::Read)?;
    let records = last.get() - first.get() + 1;
    if let Some(sidecar) = Sidecar::open(directory, shared.seed(), first, records) {
        return Ok(Segment::sealed(directory, first, file, sidecar));
    }
    let path = directory.segment(first);
    let source = Source::new(&*file, &path, shared.seed())?;
    let (starts, _, _) = walk(shared, source, &header, last, &mut |_| true)?;
    if let Err(error) = offsets::store(directory, shared.seed(), first, &starts) {
        offsets::warn_not_stored(&path, &error);
    }
    Ok(Segment { first, path, file, offsets: Offsets::memory(starts) })
}

/// Checks all groups of a segment up to `last`, which must be the end of one. `pace` is told the bytes of every group and
/// may end the walk; whether it went to the end is given too.
fn walk(
    shared: &Shared,
    source: Source<'_>,
    header: &SegmentHeader,
    last: Position,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Result<(Starts, Chain, bool), LogError> {
    let mut walk = Walk::new(source, shared.epochs(), header.first, header.chain);
    while walk.next <= last {
        let before = walk.at;
        if let Step::Stop(what) = walk.step()? {
            let positions = (walk.next, Some(last));
            return Err(LogError::corrupt(source.path, walk.at, positions, what));
        }
        if !pace(walk.at - before) {
            return Ok((Starts { starts: walk.starts, end: walk.at }, walk.chain, false));
        }
    }
    if walk.next != last.next() {
        let what = format!("a group reaches beyond position {last}, where the next segment begins");
        return Err(LogError::corrupt(source.path, walk.at, (last.next(), None), what));
    }
    let starts = Starts { starts: walk.starts, end: walk.at };
    Ok((starts, walk.chain, true))
}

impl LogReader {
    /// The first positions of all segments that do not grow any more.
    pub fn sealed_segments(&self) -> Vec<Position> {
        self.shared().catalog().sealed.clone()
    }

    /// Checks a sealed segment, from its header to the chain that the next one continues. `pace` is told the bytes of
    /// every group as it has been checked, and ends the check where it gives false; then the answer is false.
    pub fn verify_sealed(
        &self,
        first: Position,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, LogError> {
        let shared = self.shared();
        let catalog = shared.catalog();
        let behind = catalog.sealed.partition_point(|sealed| *sealed <= first);
        let next = catalog.sealed.get(behind).copied().unwrap_or(catalog.active.first);
        let last = Position::new(next.get() - 1);
        let (file, header) = segment::open(shared.directory(), shared.log_id(), first, Access::Read)?;
        let path = shared.directory().segment(first);
        let (_, chain, whole) =
            walk(shared, Source::new(&*file, &path, shared.seed())?, &header, last, pace)?;
        if whole {
            let (_, header) = segment::open(shared.directory(), shared.log_id(), next, Access::Read)?;
            if header.chain != chain {
                let what = "the segment does not continue the chain of the one before";
                return Err(LogError::corrupt(&shared.directory().segment(next), 0, (next, None), what));
            }
        }
        Ok(whole)
    }

    /// Checks every byte of the log that counts, up to the head: checksums, lengths, positions, epochs and the chain over
    /// all segments. Reads everything, in bounded memory.
    pub fn verify(&self) -> Result<Verified, LogError> {
        let shared = self.shared();
        let head = self.head();
        let catalog = shared.catalog();
        let firsts: Vec<Position> = catalog.sealed.iter().copied().chain([catalog.active.first]).collect();
        let mut chain: Option<Chain> = None;
        for (i, first) in firsts.iter().enumerate() {
            let next = firsts.get(i + 1);
            let last = next.map_or(head, |next| Position::new(next.get() - 1));
            let (file, header) = segment::open(shared.directory(), shared.log_id(), *first, Access::Read)?;
            let path = shared.directory().segment(*first);
            if chain.is_some_and(|chain| chain != header.chain) {
                let what = "the segment does not continue the chain of the one before";
                return Err(LogError::corrupt(&path, 0, (*first, Some(last)), what));
            }
            let source = Source::new(&*file, &path, shared.seed())?;
            chain = Some(walk(shared, source, &header, last, &mut |_| true)?.1);
        }
        Ok(Verified {
            records: head.next().get() - self.first_position().get(),
            segments: firsts.len(),
            chain: chain.expect("a log has a segment"),
        })
    }
}
