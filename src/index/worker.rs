//! The background work: full parts become runs, damaged runs are built anew, the filter of ids grows, runs are merged.
//!
//! Owns the order of urgency (parts, damage, the filter, merges; all but the first pause for parts) and what happens
//! after a failure: wait, twice as long each time, and try again. Invariant: files are removed only after what replaces
//! them is durable, or because the log can replace them. Does not know who waits for the outcome.

use std::{path::Path, sync::Arc};

use super::{
    IndexError, merge,
    part::Part,
    progress::Progress,
    run::Run,
    state::State,
    writer::{RunSize, write_run},
};
use crate::{
    allocator,
    event::Position,
    limits::{INDEX_RETRY_MAX, INDEX_RETRY_MIN, INDEX_STOP_PART_SHARE},
};

/// Heads that enter the cache under one hold of its lock.
const HEADS_PER_HOLD: usize = 1_024;

/// Works until the index closes.
pub(super) fn work(state: &State) {
    let _guard = DeathNotice(state);
    let mut wait = INDEX_RETRY_MIN;
    loop {
        match state.step() {
            Ok(true) => wait = INDEX_RETRY_MIN,
            Ok(false) => {
                allocator::tidy();
                if !state.await_work() {
                    return;
                }
            }
            Err(IndexError::Closing) => return,
            Err(error) => {
                tracing::warn!(%error, retry_in = ?wait, "the index cannot finish its background work");
                if state.await_retry(wait) {
                    return;
                }
                wait = (wait * 2).min(INDEX_RETRY_MAX);
            }
        }
    }
}

/// Tells the committer, who would wait for ever, when the worker panics.
struct DeathNotice<'a>(&'a State);

impl Drop for DeathNotice<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.worker_died();
        }
    }
}

impl State {
    /// Does the most urgent piece of work; false if there is none.
    pub(super) fn step(&self) -> Result<bool, IndexError> {
        let _stepping = self.stepping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.is_closing() {
            return Err(IndexError::Closing);
        }
        if self.write_oldest_part()? {
            return Ok(true);
        }
        let runs = Arc::clone(&self.layers().runs);
        if let Some(run) = runs.iter().find(|run| run.is_damaged()) {
            self.rebuild(run, || self.pause())?;
            return Ok(true);
        }
        if self.tend_ids()? {
            return Ok(true);
        }
        let sizes: Vec<u64> = runs.iter().map(|run| run.events()).collect();
        match merge::due(&sizes, self.config.run_events) {
            Some(range) => self.merge(&runs[range]).map(|()| true),
            None => Ok(false),
        }
    }

    /// Builds runs for positions that have none, from the log.
    pub(super) fn build_runs(
        &self,
        first: u64,
        last: u64,
        mut pause: impl FnMut() -> Result<(), IndexError>,
    ) -> Result<Vec<Arc<Run>>, IndexError> {
        let mut progress = Progress::new("indexing events of the log", first, last);
        let mut runs = Vec::new();
        let mut part = Part::starting_at(first, self.config.run_events);
        while part.end() <= last {
            let room = u64::from(self.config.run_events - part.count());
            let upto = last.min(part.end() - 1 + room);
            let events = self.scan(Position::new(part.end() - 1), Position::new(upto))?;
            for event in &events {
                part.add(event);
            }
            if part.count() == self.config.run_events || part.end() > last {
                runs.push(self.write_part(&part)?);
                part = part.next(self.config.run_events);
                progress.reached(part.first() - 1);
                pause()?;
            }
        }
        progress.done();
        Ok(runs)
    }

    /// Turns the oldest full part into a run; false if there is none.
    pub(super) fn write_oldest_part(&self) -> Result<bool, IndexError> {
        let Some(part) = self.layers().frozen.first().cloned() else {
            return Ok(false);
        };
        let run = self.write_part(&part).inspect_err(|error| self.part_written(Some(error.to_string())))?;
        self.cover_part(&part);
        self.remember_heads(&part, run.last());
        let part = self.change_layers(|layers| {
            layers.runs = layers.runs.iter().cloned().chain([run]).collect();
            layers.frozen.remove(0)
        });
        self.part_written(None);
        drop(part);
        Ok(true)
    }

    /// Heads of a part's streams enter the cache; from now on it speaks of runs up to `upto`. Readers ask the part before the
    /// cache until the layers change, so it may be filled in pieces.
    fn remember_heads(&self, part: &Part, upto: u64) {
        self.heads().advance(upto);
        if part.count() < self.config.run_events {
            // Only a node at rest, which is to be small, leaves a part before it is full.
            self.heads().clear();
            return;
        }
        let mut streams = part.streams().peekable();
        while streams.peek().is_some() {
            let mut heads = self.heads();
            streams.by_ref().take(HEADS_PER_HOLD).for_each(|(stream, head)| heads.put(stream, head));
        }
    }

    /// Leaves what is only in memory to the background work, if it is worth the while and that is at rest.
    pub(super) fn rest(&self) -> Result<(), IndexError> {
        if !self.layers().frozen.is_empty() || !self.is_worth_writing() {
            return Ok(());
        }
        self.freeze(Part::behind)
    }

    /// Whether what is only in memory is more than is read from the log as fast.
    pub(super) fn is_worth_writing(&self) -> bool {
        let events = self.layers().active.count();
        events > 0 && events >= self.config.run_events / INDEX_STOP_PART_SHARE
    }

    fn write_part(&self, part: &Part) -> Result<Arc<Run>, IndexError> {
        let size = RunSize {
            log_id: self.log.log_id,
            first: part.first(),
            last: part.end() - 1,
            terms: part.terms() as u64,
        };
        self.open_run(&write_run(&*self.disk, &self.dir, size, |writer| part.write_to(writer))?)
    }

    /// Puts a run in place of these, then removes their files.
    fn merge(&self, runs: &[Arc<Run>]) -> Result<(), IndexError> {
        let merged = merge::merge(&*self.disk, &self.dir, self.log.log_id, runs, || self.pause());
        let merged = match merged.and_then(|path| self.open_run(&path)) {
            Ok(merged) => merged,
            // The next step builds the damaged run anew.
            Err(IndexError::Damaged { .. }) if runs.iter().any(|run| run.is_damaged()) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.replace_runs(runs, vec![merged]);
        for run in runs {
            if let Err(error) = self.disk.remove_file(run.path()) {
                tracing::warn!(path = %run.path().display(), %error, "a merged index file stays until the next start");
            }
        }
        Ok(())
    }

    /// Builds a damaged run anew from the log. Until that is done, lookups in its sound blocks go on.
    pub(super) fn rebuild(
        &self,
        run: &Arc<Run>,
        pause: impl FnMut() -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        tracing::warn!(path = %run.path().display(), "an index file is damaged and is rebuilt from the log");
        match self.disk.remove_file(run.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IndexError::io("remove", run.path())(error));
            }
            _ => {}
        }
        self.disk.sync_dir(&self.dir).map_err(IndexError::io("sync", &self.dir))?;
        let runs = self.build_runs(run.first(), run.last(), pause)?;
        self.replace_runs(std::slice::from_ref(run), runs);
        Ok(())
    }

    /// Swaps adjacent runs for others that cover the same positions.
    fn replace_runs(&self, old: &[Arc<Run>], new: Vec<Arc<Run>>) {
        let (first, last) = (old[0].first(), old[old.len() - 1].last());
        assert!(
            new.first().map(|run| run.first()) == Some(first)
                && new.last().map(|run| run.last()) == Some(last),
            "runs are replaced by runs of the same positions"
        );
        self.change_layers(|layers| {
            let before = layers.runs.iter().filter(|run| run.last() < first);
            let behind = layers.runs.iter().filter(|run| run.first() > last);
            layers.runs = before.chain(&new).chain(behind).cloned().collect();
        });
    }

    /// Between blocks of long work: full parts go first, and closing ends it.
    pub(super) fn pause(&self) -> Result<(), IndexError> {
        if self.is_closing() {
            return Err(IndexError::Closing);
        }
        while self.write_oldest_part()? {}
        Ok(())
    }

    fn open_run(&self, path: &Path) -> Result<Arc<Run>, IndexError> {
        Run::open(&*self.disk, path, self.log.log_id).map(Arc::new)
    }
}
