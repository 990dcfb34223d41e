//! Merging adjacent runs into one, so that few runs answer for a log of any size.
//!
//! Owns the choice of what to merge (pure) and the merge itself, which streams: a block of ids and of dictionary for
//! each source is in memory, besides the resident sections of the new run. Does not know when it is called.

use std::{ops::Range, path::PathBuf, sync::Arc};

use uuid::Uuid;

use super::{
    IndexError,
    header::ID_ENTRY_BYTES,
    postings::Postings,
    run::{Run, TermCursor, id_entry},
    writer::{RunSize, RunWriter, write_run},
};
use crate::{
    disk::Disk,
    limits::{INDEX_MERGE_FAN_IN, INDEX_MERGED_EVENTS_MAX},
};

/// Which of the runs with these sizes, in order of position, should become one: `INDEX_MERGE_FAN_IN` neighbours of the
/// lowest tier that has as many, counting smaller ones that are shut in before the last of them. Tier t holds 4^t times
/// `run_events`. Small runs at the end are left alone: more will come and fill their own tier.
pub(super) fn due(sizes: &[u64], run_events: u32) -> Option<Range<usize>> {
    let fan_in = INDEX_MERGE_FAN_IN as u64;
    let tier = |size: u64| (size / u64::from(run_events)).max(1).ilog(fan_in);
    let highest = sizes.iter().map(|size| tier(*size)).max()?;
    (0..=highest).find_map(|allowed| {
        let windows = sizes.windows(INDEX_MERGE_FAN_IN);
        let fits = |window: &[u64]| {
            window.iter().all(|size| tier(*size) <= allowed)
                && window.last().is_some_and(|size| tier(*size) == allowed)
                && window.iter().sum::<u64>() <= INDEX_MERGED_EVENTS_MAX
        };
        let start = windows.enumerate().find_map(|(start, window)| fits(window).then_some(start))?;
        Some(start..start + INDEX_MERGE_FAN_IN)
    })
}

/// Writes one run that says what these adjacent runs say. `pause` is called after every few blocks and may end it.
pub(super) fn merge(
    disk: &dyn Disk,
    dir: &std::path::Path,
    log_id: Uuid,
    runs: &[Arc<Run>],
    mut pause: impl FnMut() -> Result<(), IndexError>,
) -> Result<PathBuf, IndexError> {
    let (first, last) = (runs[0].first(), runs[runs.len() - 1].last());
    assert!(runs.windows(2).all(|pair| pair[0].last() + 1 == pair[1].first()), "merged runs are adjacent");
    let terms = runs.iter().map(|run| run.header().terms).sum();
    write_run(disk, dir, RunSize { log_id, first, last, terms }, |writer| {
        merge_ids(runs, first, writer, &mut pause)?;
        merge_terms(runs, first, writer, &mut pause)
    })
}

fn merge_ids(
    runs: &[Arc<Run>],
    first: u64,
    writer: &mut RunWriter<'_>,
    pause: &mut dyn FnMut() -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut cursors: Vec<IdCursor<'_>> = Vec::with_capacity(runs.len());
    for run in runs {
        let shift = (run.first() - first) as u32;
        let mut cursor =
            IdCursor { run, shift, block: 0, entries: Vec::new(), bytes: Vec::new(), at: 0, current: None };
        cursor.fill()?;
        cursors.push(cursor);
    }
    while let Some(cursor) =
        cursors.iter_mut().filter(|cursor| cursor.current.is_some()).min_by_key(|cursor| cursor.current)
    {
        if let Some((id, offset)) = cursor.current {
            writer.push_id(id, cursor.shift + offset)?;
        }
        if !cursor.advance() {
            cursor.fill()?;
            pause()?;
        }
    }
    Ok(())
}

/// Walks the ids of a run in order.
#[derive(Debug)]
struct IdCursor<'a> {
    run: &'a Run,
    /// From offsets of this run to those of the merged one.
    shift: u32,
    /// The number of the next block.
    block: usize,
    entries: Vec<[u8; ID_ENTRY_BYTES]>,
    /// Room for what is read.
    bytes: Vec<u8>,
    at: usize,
    /// The id at which the cursor stands, and its offset.
    current: Option<(u128, u32)>,
}

impl IdCursor<'_> {
    /// Moves on; false at the end of the block.
    fn advance(&mut self) -> bool {
        self.at += 1;
        self.look()
    }

    fn look(&mut self) -> bool {
        let entry = self.entries.get(self.at).map(id_entry);
        self.current = entry.map(|(id, offset)| (u128::from_be_bytes(id), offset));
        self.current.is_some()
    }

    /// Stands at the first id of the next block, if there is one.
    fn fill(&mut self) -> Result<(), IndexError> {
        self.at = 0;
        self.entries.clear();
        if self.block < self.run.id_blocks() {
            self.entries.extend_from_slice(self.run.read_id_block(self.block, &mut self.bytes)?);
            self.block += 1;
        }
        self.look();
        Ok(())
    }
}

/// Terms between two pauses.
const PAUSE_TERMS: usize = 256;
/// Offsets between two pauses.
const PAUSE_OFFSETS: usize = 65_536;

fn merge_terms(
    runs: &[Arc<Run>],
    first: u64,
    writer: &mut RunWriter<'_>,
    pause: &mut dyn FnMut() -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut cursors = Vec::with_capacity(runs.len());
    for run in runs {
        cursors.push((&**run, TermCursor::seek(run, &[])?));
    }
    let (mut terms, mut offsets) = (0_usize, 0_usize);
    while let Some(key) =
        cursors.iter().filter_map(|(_, cursor)| Some(&cursor.term.as_ref()?.key)).min().cloned()
    {
        let holders = || {
            cursors.iter().filter_map(|(run, cursor)| {
                Some((*run, cursor.term.as_ref().filter(|term| term.key == key)?))
            })
        };
        let last_revision = holders().next_back().map_or(0, |(_, term)| term.last_revision);
        writer.push_term(&key, last_revision, |push| {
            for (run, term) in holders() {
                let shift = (run.first() - first) as u32;
                Postings::of_term(run, term)?.for_each_piece(|piece| {
                    offsets += piece.len();
                    if offsets >= PAUSE_OFFSETS {
                        offsets = 0;
                        pause()?;
                    }
                    push(shift, piece)
                })?;
            }
            Ok(())
        })?;
        for (_, cursor) in &mut cursors {
            if cursor.term.as_ref().is_some_and(|term| term.key == key) {
                cursor.advance()?;
            }
        }
        terms += 1;
        if terms % PAUSE_TERMS == 0 {
            pause()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[u64], expected: Option<Range<usize>>) {
        assert_eq!(due(sizes, 10), expected, "{sizes:?}");
    }

    #[test]
    fn four_neighbours_of_a_tier_merge() {
        check(&[], None);
        check(&[10, 10, 10], None);
        check(&[10, 10, 10, 10], Some(0..4));
        check(&[40, 10, 10, 10, 10], Some(1..5));
        check(&[40, 40, 40, 40, 10], Some(0..4));
        check(&[160, 40, 40, 40, 10, 10, 10], None);
        check(&[160, 40, 10, 40, 40, 10], Some(1..5));
        check(&[40, 10, 40, 10, 40], Some(1..5));
        check(&[40, 10, 40, 10, 3], None);
        check(&[40, 10, 1, 10, 3], Some(1..5));
        check(&[1 << 29, 1 << 29, 1 << 29, 1 << 30], None);
    }

    #[test]
    fn runs_stay_few_however_many_are_written() {
        let mut sizes: Vec<u64> = Vec::new();
        let mut written = 0;
        for number in 1..=1_000_u64 {
            sizes.push(10);
            while let Some(range) = due(&sizes, 10) {
                let merged = sizes[range.clone()].iter().sum();
                written += merged;
                sizes.splice(range, [merged]);
            }
            assert!(sizes.len() as u32 <= 3 * (number.ilog(4) + 1), "{number}: {sizes:?}");
            assert_eq!(sizes.iter().sum::<u64>(), number * 10);
        }
        assert!(written <= 10_000 * 5, "each event is rewritten at most once a tier, found {written}");
    }
}
