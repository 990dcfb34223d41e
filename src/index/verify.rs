//! Holding the files of an index against the log, in bounded memory, with no byte changed.
//!
//! Owns the comparison: every pair of (id, position) and of (term, position), with the revision where the term is a
//! stream, is hashed, and the hashes are added up in any order, once over a run and once over the events of the log. Equal
//! sums mean equal content. Besides, everything in a run must be where its filters and fences say. Does not know how
//! damage is mended: all of it can be built anew from the log.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    IndexError, chain,
    codec::{hash, hash_seed},
    header::parse_run_name,
    ids::{FILTER_NAME, IdFilter},
    is_system,
    postings::Postings,
    run::{Run, id_entry},
    terms::{Kind, Term, entry_from, source_key, stream_key, system_key, tag_key, type_key},
};
use crate::{
    disk::{Access, Disk},
    event::{Position, RecordedEvent},
};

/// What a run may hold of: ids, and each kind of term under its number.
const SUMS: usize = 8;

/// Holds the files of an index against the events of a log, which are shown to it in order.
#[derive(Debug)]
pub struct IndexVerifier {
    seed: u64,
    runs: Vec<Checked>,
    filter: Option<CheckedFilter>,
    strangers: Vec<PathBuf>,
}

/// How the comparison ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexVerified {
    /// The filter of ids, and the runs in order of position.
    pub runs: Vec<RunVerified>,
    /// Positions between runs that no run covers.
    pub gaps: Vec<(Position, Position)>,
    /// Files that are no runs; the next start removes them.
    pub strangers: Vec<PathBuf>,
}

/// One run, or the filter of ids, which covers a stretch of the log as a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunVerified {
    /// Its file.
    pub path: PathBuf,
    /// The position of its first event.
    pub first: Position,
    /// The position of its last event.
    pub last: Position,
    /// What it is good for.
    pub state: RunState,
}

/// What a run is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// It says what the log says.
    Sound,
    /// All of it is as it was written, but the log does not hold all that it covers any more.
    NotCompared,
    /// The next start does not use it: another run covers its positions, or it is ahead of the log.
    Unused,
    /// It is not what it should be, and why.
    Damaged(String),
}

/// Sums of hashes, by what is hashed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums([u64; SUMS]);

#[derive(Debug)]
struct Checked {
    path: PathBuf,
    first: u64,
    last: u64,
    /// What the run says, or what is wrong with it.
    said: Result<Sums, String>,
    /// What the log says about its positions.
    found: Sums,
    events: u64,
}

/// The file of the filter of ids.
#[derive(Debug)]
struct CheckedFilter {
    path: PathBuf,
    said: Result<IdFilter, String>,
    /// An event that it should know and does not.
    unknown: Option<Position>,
}

impl CheckedFilter {
    fn read(disk: &dyn Disk, dir: &Path, log_id: Uuid) -> Self {
        // A filter takes about the bytes of its file; a header that says more is damaged.
        let file = disk.open(&dir.join(FILTER_NAME), Access::Read).and_then(|file| file.len());
        let said = match IdFilter::load(disk, dir, log_id, file.unwrap_or(0)) {
            Ok(Some(filter)) => Ok(filter),
            Ok(None) => Err("it is not one of this log".into()),
            Err(IndexError::Damaged { what, .. }) => Err(what),
            Err(error) => Err(error.to_string()),
        };
        Self { path: dir.join(FILTER_NAME), said, unknown: None }
    }

    fn add(&mut self, seed: u64, recorded: &RecordedEvent) {
        let position = recorded.position.get();
        if let Ok(filter) = &self.said
            && (filter.first()..=filter.upto()).contains(&position)
            && !filter.may_contain(hash(seed, recorded.event.id.as_bytes()), &mut 0)
        {
            self.unknown.get_or_insert(recorded.position);
        }
    }

    fn finish(self) -> RunVerified {
        let (first, last) = self.said.as_ref().map_or((0, 0), |filter| (filter.first(), filter.upto()));
        let state = match (self.said, self.unknown) {
            (Err(what), _) => RunState::Damaged(what),
            (Ok(_), Some(at)) => RunState::Damaged(format!("it does not know the id at position {at}")),
            (Ok(_), None) => RunState::Sound,
        };
        RunVerified { path: self.path, first: Position::new(first), last: Position::new(last), state }
    }
}

impl Sums {
    fn add(&mut self, kind: u8, key_hash: u64, position: u64, revision: u64) {
        let pair = hash(key_hash ^ revision, &position.to_le_bytes());
        let sum = &mut self.0[usize::from(kind) % SUMS];
        *sum = sum.wrapping_add(pair);
    }

    /// In words, what differs.
    fn difference(&self, other: &Self) -> Option<String> {
        let names =
            ["ids", "streams or their revisions", "types", "tags", "system events", "tracked sources"];
        let at = (0..SUMS).find(|at| self.0[*at] != other.0[*at])?;
        let name = names.get(at).copied().unwrap_or("terms");
        Some(format!("its {name} are not those of the log"))
    }
}

impl IndexVerifier {
    /// Reads all files of an index; `read` is told how many bytes each has.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        log_id: Uuid,
        read: &mut dyn FnMut(u64),
    ) -> Result<Self, IndexError> {
        let mut verifier =
            Self { seed: hash_seed(log_id), runs: Vec::new(), filter: None, strangers: Vec::new() };
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(verifier),
            Err(error) => return Err(IndexError::io("list", dir)(error)),
        };
        for name in names {
            let path = dir.join(&name);
            if name == FILTER_NAME {
                verifier.filter = Some(CheckedFilter::read(disk, dir, log_id));
                continue;
            }
            let Some((first, last)) = parse_run_name(&name) else {
                verifier.strangers.push(path);
                continue;
            };
            let said = verifier.read(disk, &path, log_id, (first, last), read);
            verifier.runs.push(Checked { path, first, last, said, found: Sums::default(), events: 0 });
        }
        Ok(verifier)
    }

    /// Takes note of an event of the log. Events come in order of position; some may be missing.
    pub fn add(&mut self, recorded: &RecordedEvent) {
        let position = recorded.position.get();
        if let Some(filter) = &mut self.filter {
            filter.add(self.seed, recorded);
        }
        let covers = |run: &&mut Checked| (run.first..=run.last).contains(&position);
        let mut sums = None;
        for run in self.runs.iter_mut().filter(covers) {
            let event: &Sums = sums.get_or_insert_with(|| sums_of(self.seed, recorded));
            for (sum, more) in run.found.0.iter_mut().zip(event.0) {
                *sum = sum.wrapping_add(more);
            }
            run.events += 1;
        }
    }

    /// Whether every run is as it was written, whatever the log says.
    pub(super) fn is_whole(&self) -> bool {
        let filter_is_whole = self.filter.as_ref().is_none_or(|filter| filter.said.is_ok());
        filter_is_whole && self.runs.iter().all(|run| run.said.is_ok())
    }

    /// Compares, after the last event. The log begins at `first` and ends at `head`.
    pub fn finish(self, first: Position, head: Position) -> IndexVerified {
        let mut verified = IndexVerified { strangers: self.strangers, ..IndexVerified::default() };
        let good: Vec<&Checked> = self.runs.iter().filter(|run| run.said.is_ok()).collect();
        let ranges: Vec<(u64, u64)> = good.iter().map(|run| (run.first, run.last)).collect();
        let (used, gaps) = chain::choose(&ranges, first.get(), head.get());
        let used: Vec<(u64, u64)> = used.into_iter().map(|at| ranges[at]).collect();
        verified.gaps = gaps.into_iter().map(|(a, b)| (Position::new(a), Position::new(b))).collect();
        verified.runs.extend(self.filter.map(CheckedFilter::finish));
        for run in self.runs {
            let is_used = used.contains(&(run.first, run.last));
            let state = match &run.said {
                Err(what) => RunState::Damaged(what.clone()),
                Ok(_) if !is_used => RunState::Unused,
                Ok(_) if run.events < run.last - run.first + 1 => RunState::NotCompared,
                Ok(said) => said.difference(&run.found).map_or(RunState::Sound, RunState::Damaged),
            };
            let (first, last) = (Position::new(run.first), Position::new(run.last));
            verified.runs.push(RunVerified { path: run.path, first, last, state });
        }
        verified
    }

    fn read(
        &self,
        disk: &dyn Disk,
        path: &Path,
        log_id: Uuid,
        range: (u64, u64),
        read: &mut dyn FnMut(u64),
    ) -> Result<Sums, String> {
        // Without the path: whoever reports says it.
        let words = |error: IndexError| match error {
            IndexError::Damaged { what, .. } => what,
            other => other.to_string(),
        };
        let run = Run::open(disk, path, log_id).map_err(words)?;
        if (run.first(), run.last()) != range {
            return Err(format!(
                "it covers positions {} to {}, not those of its name",
                run.first(),
                run.last()
            ));
        }
        let mut sums = Sums::default();
        let reading = Reading { run: &run, seed: self.seed };
        reading.ids(&mut sums).and_then(|()| reading.terms(&mut sums)).map_err(words)?;
        read(run.header().file_len);
        Ok(sums)
    }
}

/// Removes all files of an index; the next start builds them from the log. Gives how many there were. Killed in the
/// middle, the files that are left are whole ones, and what they do not cover is built too.
pub fn remove_index(disk: &dyn Disk, dir: &Path) -> Result<usize, IndexError> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(IndexError::io("list", dir)(error)),
    };
    for name in &names {
        let path = dir.join(name);
        disk.remove_file(&path).map_err(IndexError::io("remove", &path))?;
    }
    disk.sync_dir(dir).map_err(IndexError::io("sync", dir))?;
    Ok(names.len())
}

/// What the log says about one event.
fn sums_of(seed: u64, recorded: &RecordedEvent) -> Sums {
    let (event, position) = (&recorded.event, recorded.position.get());
    let mut sums = Sums::default();
    sums.add(0, hash(seed, event.id.as_bytes()), position, 0);
    let mut add = |key: &[u8], revision: u64| sums.add(key[0], hash(seed, key), position, revision);
    add(&stream_key(&event.stream), recorded.revision.get());
    add(&type_key(&event.event_type), 0);
    for (at, tag) in event.tags.iter().enumerate() {
        if !event.tags[..at].contains(tag) {
            add(&tag_key(tag), 0);
        }
    }
    if is_system(event) {
        add(&system_key(), 0);
    }
    if let Some(tracking) = &recorded.tracking {
        add(&source_key(&tracking.source), 0);
    }
    sums
}

/// All of one run, from front to back.
struct Reading<'a> {
    run: &'a Run,
    seed: u64,
}

impl Reading<'_> {
    fn ids(&self, sums: &mut Sums) -> Result<(), IndexError> {
        let run = self.run;
        let (mut bytes, mut before) = (Vec::new(), None);
        for block in 0..run.id_blocks() {
            for (at, entry) in run.read_id_block(block, &mut bytes)?.iter().enumerate() {
                let (id, offset) = id_entry(entry);
                let key_hash = hash(self.seed, &id);
                let in_place = before < Some(id) && (at > 0 || run.id_fences[block] == id);
                if !in_place {
                    return Err(
                        run.damage(format!("id {} cannot be found by a lookup", Uuid::from_bytes(id)))
                    );
                }
                sums.add(0, key_hash, self.position(offset)?, 0);
                before = Some(id);
            }
        }
        Ok(())
    }

    fn terms(&self, sums: &mut Sums) -> Result<(), IndexError> {
        let run = self.run;
        let (mut block, mut before, mut terms) = (Vec::new(), Vec::new(), 0);
        for number in 0..run.term_fences.len() {
            let (offset, len) = run.term_fences.block(number);
            run.read_block(offset, len, &mut block)?;
            let mut at = 0;
            loop {
                let not_one = |_| run.damage("expected entries in a dictionary block".into());
                let Some((term, behind)) = entry_from(&block, at, &[]).map_err(not_one)? else {
                    break;
                };
                let key_hash = hash(self.seed, &term.key);
                let in_place = before < term.key && (at > 0 || run.term_fences.key(number) == term.key);
                if !in_place || !run.term_filter.may_contain(key_hash) {
                    let key = String::from_utf8_lossy(&term.key).into_owned();
                    return Err(run.damage(format!("term {key:?} cannot be found by a lookup")));
                }
                self.postings(&term, key_hash, sums)?;
                (before, at, terms) = (term.key, behind, terms + 1);
            }
        }
        if terms != run.header().terms {
            let said = run.header().terms;
            return Err(run.damage(format!("expected {said} terms, found {terms}")));
        }
        Ok(())
    }

    fn postings(&self, term: &Term, key_hash: u64, sums: &mut Sums) -> Result<(), IndexError> {
        let run = self.run;
        let wrong = |what: &str| {
            let key = String::from_utf8_lossy(&term.key).into_owned();
            run.damage(format!("the positions of term {key:?} {what}"))
        };
        let kind = term.key[0];
        let (mut count, mut last) = (0_u64, None);
        // The revisions of a stream are dense, so that the last one and the number of events give all of them.
        let revision_before = if kind == Kind::Stream as u8 {
            let before = term.last_revision.checked_sub(u64::from(term.count));
            Some(before.ok_or_else(|| wrong("are more than its last revision"))?)
        } else {
            None
        };
        let mut visit = |offset: u32| {
            if last >= Some(offset) || (count == 0 && offset != term.first) {
                return Err(wrong("do not ascend from its first one"));
            }
            (count, last) = (count + 1, Some(offset));
            let revision = revision_before.map_or(0, |before| before + count);
            sums.add(kind, key_hash, self.position(offset)?, revision);
            Ok(())
        };
        Postings::of_term(run, term)?
            .for_each_piece(|piece| piece.iter().try_for_each(|offset| visit(*offset)))?;
        if count != u64::from(term.count) || last != Some(term.last) {
            return Err(wrong("are not as many as it says, or end elsewhere"));
        }
        if kind == Kind::System as u8 && count != run.header().system_events {
            return Err(wrong("are not as many as the header says"));
        }
        Ok(())
    }

    fn position(&self, offset: u32) -> Result<u64, IndexError> {
        let position = self.run.first() + u64::from(offset);
        if position > self.run.last() {
            return Err(self.run.damage(format!("it names position {position}, which it does not cover")));
        }
        Ok(position)
    }
}
