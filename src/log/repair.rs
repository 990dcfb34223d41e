//! Repairing a log that does not open: a header or a mark written anew, record offsets made anew, or the log cut where
//! it is damaged.
//!
//! Owns the steps. Invariants: a segment is never changed in place, a whole new file takes its name; what is cut lies in
//! quarantine files, durably, before anything is removed; killed at any step, the log is as damaged as before or
//! repaired. A cut touches several files, so its commit point is a file of its own, the plan (`plan.rs`), which the next
//! opening carries out to the end. Does not know who decided what to do.

use std::path::PathBuf;

use super::{
    Directory, LogError, LogInspection, LogInspector,
    format::Seed,
    inspect::CutPoint,
    manifest::Manifest,
    offsets::{self, Starts},
    scan::{self, Source, Step, Walk},
    segment::{self, HEAD_BYTES, Mark, SegmentHeader},
};
use crate::{
    disk::{Access, File},
    event::Position,
};

mod plan;

pub(super) use plan::CutPlan;

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// What a cut removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutLog {
    /// The first position that is lost.
    pub first: Position,
    /// The last one that was known.
    pub last: Position,
    /// The files that keep the bytes.
    pub quarantine: Vec<PathBuf>,
    /// The counter of the epoch that follows.
    pub epoch: u64,
}

impl LogInspector {
    /// Writes headers anew that follow from their neighbours; gives the segments.
    pub fn restore_headers(&self, report: &LogInspection) -> Result<Vec<PathBuf>, LogError> {
        let mut restored = Vec::new();
        for fix in &report.headers {
            let manifest = self.manifest();
            let header = SegmentHeader {
                log_id: manifest.log_id,
                first: fix.first,
                previous: fix.previous,
                chain: fix.chain,
                epoch: manifest.epochs.at(fix.first).unwrap_or_default(),
            };
            let write = |file: &dyn File| file.write_all_at(&header.encode(), 0);
            restored.push(rewrite(self.directory(), fix.first, None, write)?);
        }
        Ok(restored)
    }

    /// Writes marks anew that vouch for all groups of their segments; gives the segments.
    pub fn restore_marks(&self, report: &LogInspection) -> Result<Vec<PathBuf>, LogError> {
        let seed = Seed::new(self.log_id());
        let marks = report.marks.iter();
        marks
            .map(|(first, mark)| {
                rewrite(self.directory(), *first, None, |file| mark.write_alone(file, seed, *first))
            })
            .collect()
    }

    /// Makes the record offsets of sealed segments anew where they are damaged; gives the files.
    pub fn rebuild_offsets(&self, report: &LogInspection) -> Result<Vec<PathBuf>, LogError> {
        let damaged = report.damage.iter().filter(|damage| damage.is_of_offsets()).map(|d| d.segment);
        damaged.map(|first| self.rebuild_sidecar(report, first)).collect()
    }

    fn rebuild_sidecar(&self, report: &LogInspection, first: Position) -> Result<PathBuf, LogError> {
        let directory = self.directory();
        let (file, header) = segment::open(directory, self.log_id(), first, Access::Read)?;
        let (path, seed) = (directory.segment(first), Seed::new(self.log_id()));
        let source = Source::new(&*file, &path, seed)?;
        let segment = report.segments.iter().find(|segment| segment.first == first);
        let last = segment.map_or(first, |segment| segment.last);
        let mut walk = Walk::new(source, &self.manifest().epochs, first, header.chain);
        while walk.next <= last {
            if let Step::Stop(what) = walk.step()? {
                return Err(LogError::corrupt(&path, walk.at, (walk.next, Some(last)), what));
            }
        }
        let starts = Starts { starts: walk.starts, end: walk.at };
        let sidecar = directory.offsets(first);
        let stored = offsets::store(directory, seed, first, &starts);
        stored.map_err(LogError::io("write", &sidecar))?;
        directory.sync()?;
        Ok(sidecar)
    }

    /// Cuts the log behind the last group before its damage. `random` makes the epoch that follows unique.
    ///
    /// Steps: 1. copy all that will be cut to quarantine files, durably; 2. store the plan, durably: the commit point;
    /// 3. carry it out. To be called with what an inspection found a moment ago under the same lock.
    pub fn cut(&self, report: &LogInspection, random: u64) -> Result<Option<CutLog>, LogError> {
        let (Some((first, last)), Some(sound)) = (report.lost(), report.sound_upto) else {
            return Ok(None);
        };
        let manifest = self.manifest();
        let epoch = manifest.epochs.newest().map_or(0, |start| start.epoch.counter);
        let quarantine = self.quarantine_behind(&sound, epoch)?;
        let epochs = manifest.epochs.cut(random, first);
        let counter = epochs.newest().map_or(0, |start| start.epoch.counter);
        let plan = CutPlan {
            log_id: manifest.log_id,
            segment: sound.segment,
            offset: sound.offset,
            last: sound.last,
            chain: sound.chain,
            manifest: Manifest { epochs, ..manifest.clone() },
        };
        plan.store(self.directory())?;
        carry_out(self.directory(), &plan)?;
        Ok(Some(CutLog { first, last, quarantine, epoch: counter }))
    }

    /// Finishes a repair that was interrupted behind its commit point; false if there is none.
    pub fn finish_repair(&self) -> Result<bool, LogError> {
        finish(self.directory())
    }

    /// Copies the bytes behind a cut, and all segments behind it.
    fn quarantine_behind(&self, sound: &CutPoint, epoch: u64) -> Result<Vec<PathBuf>, LogError> {
        let directory = self.directory();
        let mut kept = Vec::new();
        for first in directory.segments()?.into_iter().filter(|first| *first >= sound.segment) {
            let from = if first == sound.segment { sound.offset } else { 0 };
            let path = directory.segment(first);
            let file = directory.disk().open(&path, Access::Read).map_err(LogError::io("open", &path))?;
            let source = Source::new(&*file, &path, Seed::new(self.log_id()))?;
            let rest = scan::rest(&source, from, first)?;
            let Some(upto) = rest.nonzero_end else {
                continue;
            };
            let quarantine = directory.quarantine(first, from, epoch);
            replace(directory, &quarantine, &source, from..upto, |_| Ok(()))?;
            kept.push(quarantine);
        }
        Ok(kept)
    }
}

/// Finishes an interrupted repair of a directory whose lock is held; false if there is none.
pub(super) fn finish(directory: &Directory) -> Result<bool, LogError> {
    let Some(plan) = CutPlan::load(directory)? else {
        return Ok(false);
    };
    carry_out(directory, &plan)?;
    Ok(true)
}

/// Each step may be repeated; the plan goes last.
fn carry_out(directory: &Directory, plan: &CutPlan) -> Result<(), LogError> {
    let disk = directory.disk();
    let remove = |path: PathBuf| match disk.exists(&path) {
        Ok(true) => disk.remove_file(&path).map_err(LogError::io("remove", &path)),
        Ok(false) => Ok(()),
        Err(error) => Err(LogError::io("look for", &path)(error)),
    };
    for first in directory.segments()?.into_iter().rev().filter(|first| *first >= plan.segment) {
        remove(directory.offsets(first))?;
        if first > plan.segment {
            remove(directory.segment(first))?;
        }
    }
    directory.sync()?;
    let mark = Mark { sequence: 0, offset: plan.offset, last: plan.last, chain: plan.chain };
    let seed = Seed::new(plan.log_id);
    rewrite(directory, plan.segment, Some(plan.offset), |file| mark.write_alone(file, seed, plan.segment))?;
    plan.manifest.store(directory)?;
    remove(directory.repair())?;
    directory.sync()
}

/// Puts a copy of a segment in its place, up to `upto` or all of it, after `change` changed the copy.
fn rewrite(
    directory: &Directory,
    first: Position,
    upto: Option<u64>,
    change: impl FnOnce(&dyn File) -> std::io::Result<()>,
) -> Result<PathBuf, LogError> {
    let path = directory.segment(first);
    let file = directory.disk().open(&path, Access::Read).map_err(LogError::io("open", &path))?;
    let len = file.len().map_err(LogError::io("read", &path))?;
    // The seed plays no part in copying.
    let source = Source { file: &*file, path: &path, seed: Seed::new(uuid::Uuid::nil()), len };
    replace(directory, &path, &source, 0..upto.unwrap_or(len).min(len), |copy| {
        if len < HEAD_BYTES {
            copy.set_len(HEAD_BYTES)?;
        }
        change(copy)
    })?;
    Ok(path)
}

/// Puts a copy of some bytes under a name, in one durable step, after `change` changed the copy.
fn replace(
    directory: &Directory,
    path: &std::path::Path,
    source: &Source<'_>,
    range: std::ops::Range<u64>,
    change: impl FnOnce(&dyn File) -> std::io::Result<()>,
) -> Result<(), LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let disk = directory.disk();
    if disk.exists(&new).map_err(LogError::io("look for", &new))? {
        disk.remove_file(&new).map_err(LogError::io("remove", &new))?;
    }
    let written = disk.create_new(&new).and_then(|copy| {
        copy_bytes(source, range.clone(), &*copy)?;
        change(&*copy)?;
        Ok(copy)
    });
    let needed = range.end - range.start;
    let copy = written.map_err(|error| directory.refusal("write", &new, needed, error))?;
    directory.sync_file(&*copy, &new)?;
    disk.rename(&new, path).map_err(LogError::io("rename", &new))?;
    directory.sync()
}

fn copy_bytes(source: &Source<'_>, range: std::ops::Range<u64>, to: &dyn File) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        buffer.resize((range.end - at).min(COPY_BYTES) as usize, 0);
        source.file.read_exact_at(&mut buffer, at)?;
        to.write_all_at(&buffer, at - range.start)?;
        at += buffer.len() as u64;
    }
    Ok(())
}
