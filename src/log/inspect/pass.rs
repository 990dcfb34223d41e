//! One pass over all segments of a log, from the first to the last, past damage.
//!
//! Owns how far a segment reaches, and where to go on behind a damaged place: at the next group that is good by itself.
//! Does not know what is said to whom.

use bytes::Bytes;

use super::{
    CutPoint, Damage, DamageKind, HeaderFix, LogInspection, LogInspector, SegmentInfo, Stretch, Torn,
};
use crate::{
    disk::Access,
    event::Position,
    log::{
        Corruption, LogError,
        format::{Chain, Seed, genesis},
        offsets::{Sidecar, Starts},
        recovery::{self, Survey, Verdict},
        scan::{self, Source, Step, Walk},
        segment::{self, HEAD_BYTES, Mark, SegmentHeader},
    },
};

/// Called with the bytes and the records of every good group.
type Visit<'a> = &'a mut dyn FnMut(u64, Vec<(Position, Bytes)>);

pub(super) struct Pass<'a> {
    inspector: &'a LogInspector,
    visit: Visit<'a>,
    seed: Seed,
    report: LogInspection,
    /// The chain before the segment that comes next, where it is known.
    chain: Option<Chain>,
    is_lossless: bool,
    /// How far the first walk came in the segment that was looked at last.
    first_stop: u64,
}

/// What a segment is, before its groups are looked at.
struct Place<'a> {
    source: Source<'a>,
    first: Position,
    /// The last position that belongs to it; `None` for the segment that grows.
    upto: Option<Position>,
    mark: Option<Mark>,
}

/// How the groups of a segment ended.
#[derive(Default)]
struct End {
    at: u64,
    next: Position,
    chain: Option<Chain>,
    /// Last position, chain and number of records at the mark.
    at_mark: Option<(Position, Chain, usize)>,
    starts: Vec<u32>,
    /// Why there was no further group; `None` where no further one belongs.
    stop: Option<String>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(inspector: &'a LogInspector, visit: Visit<'a>) -> Self {
        let manifest = &inspector.manifest;
        let reached = manifest.epochs.newest().map_or(Position::ZERO, |start| previous(start.first));
        let report = LogInspection {
            head: previous(manifest.first),
            known_last: reached.max(previous(manifest.first)),
            ..LogInspection::default()
        };
        // What came before the first position of a log whose beginning is archived, its first segment says.
        let chain = (manifest.first == Position::new(1)).then(|| genesis(manifest.log_id));
        Self {
            inspector,
            visit,
            seed: Seed::new(manifest.log_id),
            report,
            chain,
            is_lossless: true,
            first_stop: HEAD_BYTES,
        }
    }

    pub(super) fn run(mut self) -> Result<LogInspection, LogError> {
        let firsts = self.inspector.firsts();
        let mut headers = Vec::with_capacity(firsts.len());
        for first in firsts {
            headers.push(match self.open(*first) {
                Ok(header) => Ok(header),
                Err(LogError::Corrupt(place)) => Err(place.what),
                Err(error @ LogError::Io { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            });
        }
        let start = self.inspector.manifest.first;
        match firsts.first() {
            None if self.inspector.history().newest().is_some() => {
                self.missing(start, self.report.known_last);
            }
            Some(first) if *first != start => self.missing(start, previous(*first)),
            _ => {}
        }
        for (i, first) in firsts.iter().enumerate() {
            let next = firsts.get(i + 1).copied();
            // The segment behind this one may be missing: the one after that knows its name.
            let missing =
                headers.get(i + 1).and_then(|header| header.as_ref().ok()).map(|next| next.previous);
            let missing = missing.filter(|previous| previous > first && Some(*previous) < next);
            let behind = missing.or(next);
            self.segment(*first, i.checked_sub(1).map(|i| firsts[i]), behind.map(previous), &headers[i])?;
            if let (Some(missing), Some(next)) = (missing, next) {
                self.missing(missing, previous(next));
                self.chain = None;
            }
        }
        self.report.chain = self.chain.filter(|_| self.is_lossless);
        self.report.known_last = self.report.known_last.max(self.report.head);
        Ok(self.report)
    }

    fn open(&self, first: Position) -> Result<SegmentHeader, LogError> {
        let directory = self.inspector.directory();
        Ok(segment::open(directory, self.inspector.log_id(), first, Access::Read)?.1)
    }

    fn segment(
        &mut self,
        first: Position,
        before: Option<Position>,
        upto: Option<Position>,
        header: &Result<SegmentHeader, String>,
    ) -> Result<(), LogError> {
        let directory = self.inspector.directory();
        let path = directory.segment(first);
        let file = directory.disk().open(&path, Access::Read).map_err(LogError::io("open", &path))?;
        let source = Source::new(&*file, &path, self.seed)?;
        let mark = match Mark::read(&*file, &path, self.seed, first) {
            Ok(mark) => mark,
            Err(LogError::Io { .. }) => None,
            Err(error) => return Err(error),
        };
        let place = Place { source, first, upto, mark };
        if let (Some(known), Ok(header)) = (self.chain, header)
            && known != header.chain
        {
            let what = "the segment does not continue the chain of the one before";
            self.lose(&place, 0, first, upto, what.into());
        }
        let (groups, lossless, known) = (self.report.groups, self.is_lossless, self.chain);
        let chain = header.as_ref().map_or(known, |header| Some(header.chain));
        if header.is_ok() && lossless {
            self.sound(first, HEAD_BYTES, previous(first), chain);
        }
        self.first_stop = HEAD_BYTES;
        let end = self.groups(&place, chain)?;
        let has_all = lossless == self.is_lossless && end.chain.is_some();
        if let Err(what) = header {
            // The first segment of a log says what came before it; every other one follows from its neighbour.
            let begins_well = has_all || self.first_stop > HEAD_BYTES;
            let has_neighbour = before.is_some() || first == Position::new(1);
            let restorable = known.is_some() && begins_well && has_neighbour;
            let kind = DamageKind::Header { restorable };
            self.damage(&place, kind, 0, (first, upto), what.clone());
            self.is_lossless &= restorable;
            if let (true, Some(chain)) = (restorable, known) {
                let previous = before.unwrap_or_default();
                self.report.headers.push(HeaderFix { first, previous, chain });
            }
        }
        if has_all && upto.is_some() {
            self.check_sealed(&place, &end);
        }
        self.chain = end.chain;
        self.report.segments.push(SegmentInfo {
            path: path.clone(),
            first,
            last: previous(end.next.max(first)),
            bytes: source.len,
            groups: self.report.groups - groups,
            is_sound: has_all
                && !self
                    .report
                    .damage
                    .iter()
                    .any(|damage| damage.segment == first && !damage.is_of_offsets()),
        });
        Ok(())
    }

    /// Goes through the groups of a segment; `chain` is the one before it, where it is known.
    fn groups(&mut self, place: &Place<'_>, chain: Option<Chain>) -> Result<End, LogError> {
        let Some(chain) = chain else {
            let what = "what came before this segment is not known".to_owned();
            return self.behind_damage(place, HEAD_BYTES, place.first, what);
        };
        let mut walk = Walk::new(place.source, self.inspector.history(), place.first, chain);
        let mut end = self.walk(place, &mut walk)?;
        self.first_stop = end.at;
        match (end.stop.take(), place.upto) {
            (None, Some(upto)) if end.next > upto.next() => {
                let what = format!("a group reaches beyond position {upto}, where the next segment begins");
                self.lose(place, end.at, upto.next(), Some(previous(end.next)), what);
                Ok(end)
            }
            (None, _) => Ok(end),
            (Some(what), Some(_)) => self.behind_damage(place, end.at, end.next, what),
            (Some(stop), None) => self.judge(place, end, stop),
        }
    }

    /// Passes good groups as long as there are any.
    fn walk(&mut self, place: &Place<'_>, walk: &mut Walk<'_>) -> Result<End, LogError> {
        let mut at_mark = None;
        let stop = loop {
            if place.mark.is_some_and(|mark| mark.offset == walk.at) {
                at_mark = Some((previous(walk.next), walk.chain, walk.starts.len()));
            }
            if place.upto.is_some_and(|upto| walk.next > upto) {
                break None;
            }
            let before = walk.at;
            match walk.step().and_then(|step| match step {
                Step::Group => walk.records().map(Ok),
                Step::Stop(what) => Ok(Err(what)),
            }) {
                Ok(Ok(records)) => self.see(walk.at - before, records),
                Ok(Err(what)) => break Some(what),
                Err(error @ LogError::Io { .. }) => break Some(error.to_string()),
                Err(error) => return Err(error),
            }
            if self.is_lossless {
                self.sound(place.first, walk.at, previous(walk.next), Some(walk.chain));
            }
        };
        let starts = std::mem::take(&mut walk.starts);
        Ok(End { at: walk.at, next: walk.next, chain: Some(walk.chain), at_mark, starts, stop })
    }

    /// Nothing is lost up to here.
    fn sound(&mut self, segment: Position, offset: u64, last: Position, chain: Option<Chain>) {
        self.report.sound_upto = chain.map(|chain| CutPoint { segment, offset, last, chain });
    }

    fn see(&mut self, bytes: u64, records: Vec<(Position, Bytes)>) {
        self.report.groups += 1;
        self.report.records += records.len() as u64;
        let last = records.last().map(|(position, _)| *position);
        self.report.head = self.report.head.max(last.unwrap_or_default());
        (self.visit)(bytes, records);
    }

    /// Finds the good groups behind a damaged place at `from`, where `next` should stand.
    fn behind_damage(
        &mut self,
        place: &Place<'_>,
        mut from: u64,
        mut next: Position,
        mut what: String,
    ) -> Result<End, LogError> {
        loop {
            let history = self.inspector.history();
            let found = match scan::island(&place.source, history, from, next, place.upto) {
                Ok(found) => found,
                Err(LogError::Io { .. }) => None,
                Err(error) => return Err(error),
            };
            let Some(island) = found else {
                if place.upto.is_some() || next <= self.report.known_last {
                    let last = place.upto.or(Some(self.report.known_last));
                    self.lose(place, from, next, last, what);
                }
                let next = place.upto.map_or(next, Position::next);
                return Ok(End { at: from, next, ..End::default() });
            };
            let last = if island.first > next { previous(island.first) } else { island.last };
            self.lose(place, from, next, Some(last), what);
            let (offset, first) = (island.at, island.first);
            self.see(island.end - island.at, island.records);
            let mut walk =
                Walk::resuming(place.source, history, island.end, island.last.next(), island.chain);
            let mut end = self.walk(place, &mut walk)?;
            let path = place.source.path.to_owned();
            self.report.islands.push(Stretch { path, offset, first, last: previous(end.next) });
            match end.stop.take() {
                None => return Ok(End { starts: Vec::new(), ..end }),
                Some(stop) => (from, next, what) = (end.at, end.next, stop),
            }
        }
    }

    /// Tells the end of the segment that grows from damage, as recovery would.
    fn judge(&mut self, place: &Place<'_>, end: End, stop: String) -> Result<End, LogError> {
        let rest = match scan::rest(&place.source, end.at, end.next) {
            Ok(rest) => rest,
            Err(LogError::Io { .. }) => scan::Rest { nonzero_end: Some(place.source.len), claimed: None },
            Err(error) => return Err(error),
        };
        let newest = self.inspector.history().newest();
        let chain = end.chain.expect("the walk knew the chain");
        let survey = Survey {
            mark: place.mark,
            at_mark: end.at_mark,
            end: end.at,
            last: previous(end.next),
            chain,
            stop,
            rest,
            starts: Vec::new(),
            reached: newest.map_or(Position::ZERO, |start| previous(start.first)),
        };
        let claimed = place.mark.map(|mark| mark.last).max(rest.claimed);
        self.report.known_last = self.report.known_last.max(claimed.unwrap_or_default());
        match recovery::judge(&survey) {
            Verdict::Corrupt { offset, last, what, .. } if offset == end.at && place.mark.is_some() => {
                self.report.known_last = self.report.known_last.max(last.unwrap_or_default());
                self.behind_damage(place, end.at, end.next, what)
            }
            Verdict::Corrupt { offset, what, .. } => {
                // Were there a mark behind the last good group, would all be well?
                let mark = Mark { sequence: 0, offset: end.at, last: survey.last, chain };
                let healed = Survey { mark: Some(mark), at_mark: Some((survey.last, chain, 0)), ..survey };
                let verdict = recovery::judge(&healed);
                let restorable = !matches!(verdict, Verdict::Corrupt { .. });
                let kind = DamageKind::Mark { restorable };
                self.damage(place, kind, offset, (end.next, None), what);
                if restorable {
                    self.report.marks.push((place.first, mark));
                }
                match verdict {
                    Verdict::Corrupt { what, .. } => self.behind_damage(place, end.at, end.next, what),
                    Verdict::Rewrite { cut: Some(cut) } => {
                        self.torn(place, cut, &healed.stop);
                        Ok(end)
                    }
                    Verdict::Rewrite { cut: None } | Verdict::Clean => Ok(end),
                }
            }
            Verdict::Clean => Ok(end),
            Verdict::Rewrite { cut } => {
                let marked = place.mark.map_or(Position::ZERO, |mark| mark.last);
                if survey.last > marked {
                    self.report.unmarked = Some((marked.next(), survey.last));
                }
                if let Some(cut) = cut {
                    self.torn(place, cut, &survey.stop);
                }
                Ok(end)
            }
        }
    }

    fn torn(&mut self, place: &Place<'_>, cut: std::ops::Range<u64>, what: &str) {
        let (path, bytes) = (place.source.path.to_owned(), cut.end - cut.start);
        self.report.torn = Some(Torn { path, offset: cut.start, bytes, what: what.to_owned() });
    }

    /// Mark and sidecar of a segment that has a successor and whose groups are good.
    fn check_sealed(&mut self, place: &Place<'_>, end: &End) {
        let positions = (place.first, Some(previous(end.next)));
        let fits = place.mark.is_some_and(|mark| {
            end.at_mark.is_some_and(|(last, chain, _)| (last, chain) == (mark.last, mark.chain))
        });
        if !fits {
            let what = match place.mark {
                None => "neither slot holds a commit mark",
                Some(_) => "the commit mark does not fit the groups before it",
            };
            let kind = DamageKind::Mark { restorable: true };
            self.damage(place, kind, HEAD_BYTES / 3, positions, what.into());
            if let (Some(chain), last) = (end.chain, previous(end.next)) {
                let mark = Mark { sequence: 0, offset: end.at, last, chain };
                self.report.marks.push((place.first, mark));
            }
        }
        let directory = self.inspector.directory();
        let path = directory.offsets(place.first);
        if !directory.disk().exists(&path).unwrap_or(false) {
            return;
        }
        let records = end.next.get() - place.first.get();
        let starts = Starts { starts: end.starts.clone(), end: end.at };
        let sidecar = Sidecar::open(directory, self.seed, place.first, records);
        let (is_torn, what) = match sidecar.map(|sidecar| sidecar.all()) {
            Some(Ok(found)) if found == starts => return,
            Some(Ok(_)) => (false, "the record offsets are not those of the segment"),
            Some(Err(_)) | None => (true, "the record offsets do not fit their checksums"),
        };
        let (first, last) = positions;
        let place_of = Corruption { path, offset: 0, first, last, what: what.into() };
        self.report.push(Damage {
            kind: DamageKind::Offsets { is_torn },
            segment: place.first,
            place: place_of,
        });
    }

    fn missing(&mut self, first: Position, last: Position) {
        self.is_lossless = false;
        let path = self.inspector.directory().segment(first);
        let what = "the segment is missing".into();
        let place = Corruption { path, offset: 0, first, last: Some(last), what };
        self.report.push(Damage { kind: DamageKind::Segment, segment: first, place });
    }

    fn lose(
        &mut self,
        place: &Place<'_>,
        offset: u64,
        first: Position,
        last: Option<Position>,
        what: String,
    ) {
        self.is_lossless = false;
        self.report.known_last = self.report.known_last.max(last.unwrap_or_default());
        self.damage(place, DamageKind::Groups, offset, (first, last), what);
    }

    fn damage(
        &mut self,
        place: &Place<'_>,
        kind: DamageKind,
        offset: u64,
        (first, last): (Position, Option<Position>),
        what: String,
    ) {
        let path = place.source.path.to_owned();
        let corruption = Corruption { path, offset, first, last, what };
        self.report.push(Damage { kind, segment: place.first, place: corruption });
    }
}

fn previous(position: Position) -> Position {
    Position::new(position.get().saturating_sub(1))
}
