//! Which run files are used at start, which are leftovers, and which positions lack a run.
//!
//! Owns the choice (pure) and the reading of the directory. Invariant: the runs in use are adjacent, from the log's first
//! position (or below it, where the log's beginning was archived) up to at most its head. The directory is disposable:
//! whatever does not fit is removed.

use std::{path::Path, sync::Arc};

use uuid::Uuid;

use super::{IndexError, header::parse_run_name, ids::FILTER_NAME, run::Run};
use crate::disk::Disk;

/// What the directory holds that can be used.
#[derive(Debug)]
pub(super) struct Found {
    /// In order of position, without overlaps, perhaps with gaps.
    pub(super) runs: Vec<Arc<Run>>,
    /// First and last positions that lie between the runs, in order.
    pub(super) gaps: Vec<(u64, u64)>,
}

/// Opens the runs of a directory and removes everything else from it but the filter of ids.
pub(super) fn open_runs(
    disk: &dyn Disk,
    dir: &Path,
    log_id: Uuid,
    log_first: u64,
    head: u64,
) -> Result<Found, IndexError> {
    let mut runs = Vec::new();
    let mut leftovers = Vec::new();
    for name in disk.list(dir).map_err(IndexError::io("list", dir))? {
        let path = dir.join(&name);
        if name == FILTER_NAME {
            continue;
        }
        let Some(range) = parse_run_name(&name) else {
            leftovers.push(path);
            continue;
        };
        match Run::open(disk, &path, log_id) {
            Ok(run) if (run.first(), run.last()) == range => runs.push(Arc::new(run)),
            Ok(_) => leftovers.push(path),
            Err(IndexError::Damaged { path, what }) => {
                tracing::warn!(path = %path.display(), what, "an index file cannot be used and is rebuilt from the log");
                leftovers.push(path);
            }
            Err(error) => return Err(error),
        }
    }
    let ranges: Vec<(u64, u64)> = runs.iter().map(|run| (run.first(), run.last())).collect();
    let (kept, gaps) = choose(&ranges, log_first, head);
    leftovers.extend((0..runs.len()).filter(|at| !kept.contains(at)).map(|at| runs[at].path().to_owned()));
    for path in &leftovers {
        disk.remove_file(path).map_err(IndexError::io("remove", path))?;
    }
    if !leftovers.is_empty() {
        disk.sync_dir(dir).map_err(IndexError::io("sync", dir))?;
    }
    Ok(Found { runs: kept.into_iter().map(|at| Arc::clone(&runs[at])).collect(), gaps })
}

/// The indices of the ranges to keep, in order of position, and the gaps between them: from the front, always the
/// range that begins first and reaches farthest.
fn choose(ranges: &[(u64, u64)], log_first: u64, head: u64) -> (Vec<usize>, Vec<(u64, u64)>) {
    let usable = |at: &usize| ranges[*at].1 <= head;
    let start =
        (0..ranges.len()).filter(usable).map(|at| ranges[at].0).chain([log_first]).min().unwrap_or(log_first);
    let (mut kept, mut gaps): (Vec<usize>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
    let mut next = start;
    loop {
        let behind = (0..ranges.len()).filter(usable).filter(|at| ranges[*at].0 >= next);
        let Some(best) = behind.min_by_key(|at| (ranges[*at].0, u64::MAX - ranges[*at].1)) else {
            break;
        };
        let (first, last) = ranges[best];
        if first > next {
            gaps.push((next, first - 1));
        }
        kept.push(best);
        next = last + 1;
    }
    if next < log_first {
        gaps.push((next, log_first - 1));
    }
    // What the log no longer holds cannot be rebuilt: the chain then begins behind the last such gap.
    if let Some(&(_, lost)) = gaps.iter().rfind(|(first, _)| *first < log_first) {
        kept.retain(|at| ranges[*at].0 > lost);
        gaps.retain(|(first, _)| *first > lost);
    }
    (kept, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        ranges: &[(u64, u64)],
        log_first: u64,
        head: u64,
        expected: &[(u64, u64)],
        expected_gaps: &[(u64, u64)],
    ) {
        let (kept, gaps) = choose(ranges, log_first, head);
        let kept: Vec<_> = kept.into_iter().map(|at| ranges[at]).collect();
        assert_eq!((&kept[..], &gaps[..]), (expected, expected_gaps), "of {ranges:?}");
    }

    #[test]
    fn the_chain_is_adjacent_and_ends_at_the_head() {
        check(&[], 1, 100, &[], &[]);
        check(&[(1, 10), (11, 20)], 1, 20, &[(1, 10), (11, 20)], &[]);
        check(&[(1, 10), (11, 20)], 1, 19, &[(1, 10)], &[]);
        check(&[(1, 10), (1, 40), (11, 20), (31, 40), (41, 50)], 1, 50, &[(1, 40), (41, 50)], &[]);
        check(&[(1, 10), (1, 40), (11, 20)], 1, 30, &[(1, 10), (11, 20)], &[]);
        check(&[(11, 20), (31, 40)], 1, 50, &[(11, 20), (31, 40)], &[(1, 10), (21, 30)]);
        check(&[(1, 10), (5, 20), (11, 15)], 1, 50, &[(1, 10), (11, 15)], &[]);
    }

    #[test]
    fn an_archived_beginning_is_kept_while_it_hangs_together() {
        check(&[(1, 10), (11, 20)], 11, 20, &[(1, 10), (11, 20)], &[]);
        check(&[(1, 10), (21, 30)], 25, 40, &[(21, 30)], &[]);
        check(&[(1, 10), (21, 30), (35, 40)], 25, 40, &[(21, 30), (35, 40)], &[(31, 34)]);
        check(&[(1, 10)], 25, 40, &[], &[]);
        check(&[(1, 24)], 25, 40, &[(1, 24)], &[]);
        check(&[], 25, 40, &[], &[]);
    }
}
