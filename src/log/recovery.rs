//! Recovery: what a crash left is told apart into good, torn and damaged, and made good.
//!
//! `judge` decides, and is pure; `recover` reads before and acts after. Only the last segment is scanned. Steps:
//!   1. check the headers of all segments against their names and neighbours
//!   2. walk the last segment, look at what lies behind its last good group, judge
//!   3. corruption: stop, having changed nothing
//!   4. bytes to cut: look again, and stop if that finds anything else; copy them to a quarantine file, durably
//!   5. groups above the mark, or bytes cut: publish them as a new segment (`spare.rs`), whose mark vouches for all of
//!      it; its name is the commit point; then tidy the old segment, which now ends where the new one begins
//!   6. nothing above the mark: cut the zeros off and write the mark anew, so that nothing an earlier process left in
//!      the cache is built upon
//!
//! Killed at any step, the next recovery begins at 1. A full disk is no obstacle: 5 uses the spare, and where 4 finds
//! no room the bytes stay where they are, behind the end of the old segment.

use std::{io, ops::Range, path::PathBuf};

use super::{
    Directory, LogError,
    format::{Chain, Seed, genesis},
    manifest::Manifest,
    offsets::{self, Starts},
    scan::{self, Rest, Source, Step, Walk},
    segment::{self, HEAD_BYTES, Mark, SegmentHeader},
    spare::{Spare, SpareSlot, Tail},
};
use crate::{
    disk::{self, Access, File},
    event::Position,
    sabotage::Sabotage,
};

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last position of the log.
    pub head: Position,
    /// How many segments the log has.
    pub segments: usize,
    /// Bytes of the last segment that were read and checked.
    pub scanned_bytes: u64,
    /// The positions above the commit mark, which were written anew into a segment of their own.
    pub rewritten: Option<(Position, Position)>,
    /// Bytes of a torn write, which were cut.
    pub cut: Option<Cut>,
}

/// Bytes that were no whole group and that nothing vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment they stood in.
    pub segment: PathBuf,
    /// Where they began.
    pub offset: u64,
    /// How many they were.
    pub bytes: u64,
    /// The position that would have come there.
    pub position: Position,
    /// Why they are no group.
    pub what: String,
    /// The file that keeps them; absent if the disk was full, and then they stay in the segment, behind its end.
    pub quarantine: Option<PathBuf>,
}

/// The segment that grows, as recovery leaves it.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Box<dyn File>,
    pub(crate) starts: Starts,
    /// Durable, and vouches for everything before `starts.end`.
    pub(crate) mark: Mark,
    /// From `starts.end` to here the file is zero.
    pub(crate) filled_upto: u64,
}

/// A log made good.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// First positions of all segments but the active one.
    pub(crate) sealed: Vec<Position>,
    pub(crate) active: Active,
    pub(crate) report: RecoveryReport,
}

/// What the last segment looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) mark: Option<Mark>,
    /// Last position, chain and number of records at the mark's offset, if that is the edge of a group.
    pub(crate) at_mark: Option<(Position, Chain, usize)>,
    /// Behind the last good group.
    pub(crate) end: u64,
    pub(crate) last: Position,
    pub(crate) chain: Chain,
    pub(crate) starts: Vec<u32>,
    /// Why the walk ended.
    pub(crate) stop: String,
    pub(crate) rest: Rest,
    /// The manifest knows that the log reached this far when it was last opened.
    pub(crate) reached: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is vouched for by the mark.
    Clean,
    /// What lies above the mark is good but perhaps not durable; what lies behind is torn.
    Rewrite { cut: Option<Range<u64>> },
    /// Durable bytes are gone.
    Corrupt { offset: u64, first: Position, last: Option<Position>, what: String },
}

pub(crate) fn judge(survey: &Survey) -> Verdict {
    let (end, next) = (survey.end, survey.last.next());
    let corrupt =
        |offset, last: Option<Position>, what: String| Verdict::Corrupt { offset, first: next, last, what };
    let Some(mark) = survey.mark else {
        return corrupt(HEAD_BYTES / 3, None, "neither slot holds a commit mark".into());
    };
    if mark.offset > end {
        let what = format!(
            "{}, and the commit mark vouches for everything up to offset {}",
            survey.stop, mark.offset
        );
        return corrupt(end, Some(mark.last), what);
    }
    if survey.at_mark.map(|(last, chain, _)| (last, chain)) != Some((mark.last, mark.chain)) {
        let what = "the commit mark does not fit the groups before it";
        return corrupt(mark.offset, None, what.into());
    }
    if let Some(claimed) = survey.rest.claimed {
        let what =
            format!("{}, and a later group vouches for everything up to position {claimed}", survey.stop);
        return corrupt(end, Some(claimed), what);
    }
    if survey.last < survey.reached {
        let what = format!(
            "{}, and the manifest says that the log reached position {}",
            survey.stop, survey.reached
        );
        return corrupt(end, Some(survey.reached), what);
    }
    match survey.rest.nonzero_end {
        None if mark.offset == end => Verdict::Clean,
        nonzero_end => Verdict::Rewrite { cut: nonzero_end.map(|upto| end..upto) },
    }
}

/// Makes the log of a directory good.
pub(crate) fn recover(
    directory: &Directory,
    manifest: &Manifest,
    spare: &mut Option<Spare>,
    spare_bytes_min: u64,
) -> Result<Recovered, LogError> {
    let recovery = Recovery { directory, manifest, seed: Seed::new(manifest.log_id), spare_bytes_min };
    let mut firsts = directory.segments()?;
    if firsts.is_empty() {
        recovery.create_first(spare)?;
        firsts = directory.segments()?;
    }
    recovery.check_headers(&firsts)?;
    let first = firsts.pop().expect("a log has a segment");
    recovery.recover_last(firsts, first, spare)
}

struct Recovery<'a> {
    directory: &'a Directory,
    manifest: &'a Manifest,
    seed: Seed,
    spare_bytes_min: u64,
}

impl Recovery<'_> {
    /// A log that was never opened to the end has no segment yet; any other must have one.
    fn create_first(&self, spare: &mut Option<Spare>) -> Result<(), LogError> {
        let first = self.manifest.first;
        if self.manifest.epochs.newest().is_some() {
            let path = self.directory.segment(first);
            return Err(LogError::corrupt(&path, 0, (first, None), "the segment is missing"));
        }
        let (header, mark) = self.heads(first, Position::ZERO, genesis(self.manifest.log_id));
        let mut slot = SpareSlot::new(self.directory, spare);
        slot.reserve(self.spare_bytes_min)?;
        slot.publish(&header, &mark, None).map(drop)
    }

    /// The header and the mark of an empty segment.
    fn heads(&self, first: Position, previous: Position, chain: Chain) -> (SegmentHeader, Mark) {
        let epochs = &self.manifest.epochs;
        let header = SegmentHeader {
            log_id: self.manifest.log_id,
            first,
            previous,
            chain,
            epoch: epochs.newest().map(|start| start.epoch).unwrap_or_default(),
        };
        (header, Mark::initial(first, chain))
    }

    fn check_headers(&self, firsts: &[Position]) -> Result<(), LogError> {
        let mut previous = None;
        for first in firsts {
            let (_, header) = segment::open(self.directory, self.manifest.log_id, *first, Access::Read)?;
            let continues = match previous {
                None => *first == self.manifest.first,
                Some(previous) => header.previous == previous,
            };
            if !continues {
                let missing = match previous {
                    None => self.manifest.first,
                    Some(_) => header.previous,
                };
                let path = self.directory.segment(missing);
                let last = Position::new(first.get().saturating_sub(1));
                let what = format!("the segment before that of position {first} is missing");
                return Err(LogError::corrupt(&path, 0, (missing, Some(last)), what));
            }
            previous = Some(*first);
        }
        Ok(())
    }

    fn recover_last(
        &self,
        mut sealed: Vec<Position>,
        first: Position,
        spare: &mut Option<Spare>,
    ) -> Result<Recovered, LogError> {
        let path = self.directory.segment(first);
        let (file, header) = segment::open(self.directory, self.manifest.log_id, first, Access::ReadWrite)?;
        let source = Source::new(&*file, &path, self.seed)?;
        let survey = self.sabotaged(self.survey(&source, &header)?);
        let mut verdict = judge(&survey);
        if matches!(verdict, Verdict::Rewrite { cut: Some(_) }) {
            self.look_again(&source, &header, &survey)?;
        }
        let mut report =
            RecoveryReport { head: survey.last, scanned_bytes: source.len, ..RecoveryReport::default() };
        if self.directory.is_sabotaged(Sabotage::ServeRecoveredTail)
            && matches!(verdict, Verdict::Rewrite { cut: None })
        {
            verdict = Verdict::Clean;
        }
        let active = match verdict {
            Verdict::Corrupt { offset, first, last, what } => {
                return Err(LogError::corrupt(&path, offset, (first, last), what));
            }
            Verdict::Clean => self.resume(file, header, &path, survey)?,
            Verdict::Rewrite { cut } => {
                report.cut = match cut {
                    Some(cut) => Some(self.quarantine(&source, &header, &survey, cut)?),
                    None => None,
                };
                let active = self.rewrite(&source, &header, &survey, spare, &mut report)?;
                if active.header.first != first {
                    sealed.push(first);
                }
                active
            }
        };
        report.segments = sealed.len() + 1;
        Ok(Recovered { sealed, active, report })
    }

    /// Bytes are cut only where a second look finds the same: a read that went wrong once is not a torn write.
    fn look_again(
        &self,
        source: &Source<'_>,
        header: &SegmentHeader,
        survey: &Survey,
    ) -> Result<(), LogError> {
        let again = self.sabotaged(self.survey(source, header)?);
        if again == *survey {
            return Ok(());
        }
        let what = format!(
            "two looks at the same bytes differ: first {} at offset {}, then {} at offset {}; start again",
            survey.stop, survey.end, again.stop, again.end
        );
        Err(LogError::io("read", source.path)(io::Error::new(io::ErrorKind::InvalidData, what)))
    }

    fn survey(&self, source: &Source<'_>, header: &SegmentHeader) -> Result<Survey, LogError> {
        let mark = Mark::read(source.file, source.path, self.seed, header.first)?;
        let mut walk = Walk::new(*source, &self.manifest.epochs, header.first, header.chain);
        walk.ignore_checksums = self.directory.is_sabotaged(Sabotage::IgnoreChecksums);
        let mut at_mark = None;
        let stop = loop {
            if mark.is_some_and(|mark| mark.offset == walk.at) {
                at_mark = Some((previous(walk.next), walk.chain, walk.starts.len()));
            }
            if let Step::Stop(what) = walk.step()? {
                break what;
            }
        };
        let newest = self.manifest.epochs.newest();
        Ok(Survey {
            mark,
            at_mark,
            end: walk.at,
            last: previous(walk.next),
            chain: walk.chain,
            stop,
            rest: scan::rest(source, walk.at, walk.next)?,
            starts: walk.starts,
            reached: newest.map_or(Position::ZERO, |start| previous(start.first)),
        })
    }

    /// With good groups above the mark taken for bad ones, where that is the sabotage.
    fn sabotaged(&self, mut survey: Survey) -> Survey {
        if self.directory.is_sabotaged(Sabotage::CutGoodGroups)
            && let (Some(mark), Some((last, chain, records))) = (survey.mark, survey.at_mark)
            && mark.offset < survey.end
        {
            survey.rest.nonzero_end = survey.rest.nonzero_end.or(Some(survey.end));
            (survey.end, survey.last, survey.chain) = (mark.offset, last, chain);
            survey.starts.truncate(records);
        }
        survey
    }

    /// Goes on in a segment whose mark vouches for all that is in it.
    fn resume(
        &self,
        file: Box<dyn File>,
        header: SegmentHeader,
        path: &std::path::Path,
        survey: Survey,
    ) -> Result<Active, LogError> {
        let mark = Mark {
            sequence: survey.mark.expect("a clean segment has a mark").sequence + 1,
            offset: survey.end,
            last: survey.last,
            chain: survey.chain,
        };
        file.set_len(survey.end).map_err(LogError::io("cut", path))?;
        mark.write(&*file, path, self.seed, header.first)?;
        self.directory.sync_file(&*file, path)?;
        Ok(Active {
            header,
            file,
            starts: Starts { starts: survey.starts, end: survey.end },
            mark,
            filled_upto: survey.end,
        })
    }

    /// Keeps the bytes that are about to be cut.
    fn quarantine(
        &self,
        source: &Source<'_>,
        header: &SegmentHeader,
        survey: &Survey,
        cut: Range<u64>,
    ) -> Result<Cut, LogError> {
        let mut bytes = vec![0; (cut.end - cut.start) as usize];
        let read = source.file.read_exact_at(&mut bytes, cut.start);
        read.map_err(LogError::io("read", source.path))?;
        let epoch = self.manifest.epochs.newest().map_or(0, |start| start.epoch.counter);
        let path = self.directory.quarantine(header.first, cut.start, epoch);
        let stored = disk::replace_file(self.directory.disk(), &path, &bytes);
        let stored =
            stored.map_err(|error| self.directory.refusal("write", &path, bytes.len() as u64, error));
        let replaced = survey.at_mark.is_some_and(|(.., records)| records == 0);
        let quarantine = match stored {
            Ok(()) => Some(path),
            // The old segment stays, and the bytes with it.
            Err(LogError::DiskFull { .. }) if !replaced => None,
            Err(error) => return Err(error),
        };
        Ok(Cut {
            segment: source.path.to_owned(),
            offset: cut.start,
            bytes: cut.end - cut.start,
            position: survey.last.next(),
            what: survey.stop.clone(),
            quarantine,
        })
    }

    /// Publishes what lies above the mark as a new segment.
    fn rewrite(
        &self,
        source: &Source<'_>,
        old: &SegmentHeader,
        survey: &Survey,
        spare: &mut Option<Spare>,
        report: &mut RecoveryReport,
    ) -> Result<Active, LogError> {
        let mark = survey.mark.expect("a segment to rewrite has a mark");
        let (_, _, kept) = survey.at_mark.expect("its mark is at the edge of a group");
        let first = mark.last.next();
        // With nothing below the mark the new segment takes the old one's name, and with it its place.
        let previous = if first == old.first { old.previous } else { old.first };
        let (header, mut new_mark) = self.heads(first, previous, mark.chain);
        new_mark.offset += survey.end - mark.offset;
        new_mark.last = survey.last;
        new_mark.chain = survey.chain;
        let mut slot = SpareSlot::new(self.directory, spare);
        slot.reserve(new_mark.offset.max(self.spare_bytes_min))?;
        let tail = Tail { source, range: mark.offset..survey.end, epochs: &self.manifest.epochs };
        let (file, filled_upto) = slot.publish(&header, &new_mark, Some(tail))?;
        if survey.last >= first {
            report.rewritten = Some((first, survey.last));
        }
        if first != old.first {
            let starts = Starts { starts: survey.starts[..kept].to_vec(), end: mark.offset };
            let keep_bytes = report.cut.as_ref().is_some_and(|cut| cut.quarantine.is_none());
            seal(self.directory, self.seed, source, old.first, &starts, keep_bytes);
        }
        let moved = |start: &u32| (u64::from(*start) - mark.offset + HEAD_BYTES) as u32;
        Ok(Active {
            header,
            file,
            starts: Starts {
                starts: survey.starts[kept..].iter().map(moved).collect(),
                end: new_mark.offset,
            },
            mark: new_mark,
            filled_upto,
        })
    }
}

/// Tidies a segment that has got a successor: writes its sidecar and gives back the room behind its end. Neither has
/// to succeed, neither has to be durable.
pub(crate) fn seal(
    directory: &Directory,
    seed: Seed,
    source: &Source<'_>,
    first: Position,
    starts: &Starts,
    keep_bytes: bool,
) {
    if let Err(error) = offsets::store(directory, seed, first, starts) {
        offsets::warn_not_stored(source.path, &error);
    }
    if !keep_bytes && let Err(error) = source.file.set_len(starts.end) {
        tracing::warn!(path = %source.path.display(), %error, "the unused end of a sealed segment was not cut off");
    }
}

fn previous(position: Position) -> Position {
    Position::new(position.get() - 1)
}

#[cfg(test)]
mod tests;
