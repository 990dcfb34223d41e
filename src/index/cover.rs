//! Keeps the filter of ids right: completes it at start, grows it, stores it.
//!
//! Invariant: the filter in use has the ids and streams of all runs in use, before they are used. A filter that has got
//! too small is made anew from what the runs hold while the old one goes on; runs that come meanwhile
//! follow. The file may lag behind: what it does not cover is read from the runs at start. Only the background work, or
//! the opening before it, calls anything here.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{
    IndexError,
    codec::hash,
    ids::{FILTER_NAME, IdFilter},
    part::Part,
    progress::Progress,
    run::{Run, TermCursor},
    state::State,
    terms::{Kind, term_key},
};
use crate::limits::{INDEX_FILTER_PARTS_MIN, INDEX_FILTER_UNSTORED_PARTS_MIN};

/// Streams that enter the filter between two pauses.
const STREAMS_PER_PAUSE: usize = 256;

impl State {
    /// Brings the filter of ids in place for the runs in use: from its file as far as that goes, else from the runs.
    pub(super) fn open_ids(&self) -> Result<(), IndexError> {
        let (first, last) = self.runs_range();
        let head = self.log.head.get();
        let path = self.dir.join(FILTER_NAME);
        let ids = match IdFilter::load(
            &*self.disk,
            &self.dir,
            self.log.log_id,
            self.config.filter_bytes_max(),
        ) {
            Ok(Some(ids)) if ids.first() <= first && ids.upto() <= head => Some(ids),
            Ok(Some(ids)) => {
                // It knows events that were taken from the log: those that come in their place are others.
                tracing::warn!(
                    upto = ids.upto(),
                    head,
                    "the filter of ids is ahead of the log and is made anew"
                );
                self.remove_durably(path)?;
                None
            }
            Err(IndexError::Damaged { path, what }) => {
                tracing::warn!(path = %path.display(), what, "the filter of ids cannot be used and is made anew");
                self.remove_durably(path)?;
                None
            }
            Ok(None) => None,
            Err(error) => return Err(error),
        };
        let ids = ids.unwrap_or_else(|| self.filter_for(first, last + 1 - first));
        self.stored_upto.store(ids.upto(), Ordering::Relaxed);
        let mut progress = Progress::new("collecting ids of the index", ids.upto() + 1, last);
        while let Err(error) = self.cover_runs(&ids, |upto| {
            progress.reached(upto);
            Ok(())
        }) {
            let runs = Arc::clone(&self.layers().runs);
            match runs.iter().find(|run| run.is_damaged()) {
                Some(run) => self.rebuild(run, || Ok(()))?,
                None => return Err(error),
            }
        }
        progress.done();
        self.change_layers(|layers| layers.ids = Arc::new(ids));
        Ok(())
    }

    /// Adds the ids and streams of a part that is about to become a run.
    pub(super) fn cover_part(&self, part: &Part) {
        let ids = Arc::clone(&self.layers().ids);
        part.ids().for_each(|id| ids.add(hash(self.hash_seed, id.as_bytes())));
        let keys = part.stream_keys().filter(|key| ids.add_new(hash(self.hash_seed, key))).count();
        ids.cover(part.end() - 1, u64::from(part.count()) + keys as u64);
    }

    /// Grows or stores the filter if it is time to; false if it is not.
    pub(super) fn tend_ids(&self) -> Result<bool, IndexError> {
        let ids = Arc::clone(&self.layers().ids);
        if ids.is_over_full() {
            if !ids.is_largest(self.config.filter_bytes_max()) {
                self.grow_ids(&ids)?;
                return Ok(true);
            }
            if !self.filter_is_short.swap(true, Ordering::Relaxed) {
                let (bytes, ids) = (ids.size_bytes(), ids.keys());
                tracing::warn!(
                    bytes,
                    ids,
                    "the filter of ids has its share of limits.memory and goes on with fewer bits an id; raise limits.memory"
                );
            }
        }
        let upto = ids.upto();
        let unstored = upto.saturating_sub(self.stored_upto.load(Ordering::Relaxed));
        let enough = u64::from(self.config.run_events) * INDEX_FILTER_UNSTORED_PARTS_MIN;
        if unstored < enough.max((upto + 1 - ids.first()) / 4) {
            return Ok(false);
        }
        self.store_ids()?;
        Ok(true)
    }

    /// Writes the filter to its file, unless that has it.
    pub(super) fn store_ids(&self) -> Result<(), IndexError> {
        let ids = Arc::clone(&self.layers().ids);
        let upto = ids.upto();
        if upto > self.stored_upto.load(Ordering::Relaxed) {
            ids.store(&*self.disk, &self.dir, self.log.log_id)?;
            self.stored_upto.store(upto, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts a larger filter in place of one that is over-full.
    fn grow_ids(&self, ids: &IdFilter) -> Result<(), IndexError> {
        let grown = self.filter_for(ids.first(), ids.keys());
        match self.cover_runs(&grown, |_| self.pause()) {
            Ok(()) => {}
            // The next step builds the damaged run anew.
            Err(IndexError::Damaged { .. }) if self.layers().runs.iter().any(|run| run.is_damaged()) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.change_layers(|layers| layers.ids = Arc::new(grown));
        self.stored_upto.store(ids.first() - 1, Ordering::Relaxed);
        self.store_ids()
    }

    /// An empty filter for half as many ids again as there are.
    pub(super) fn filter_for(&self, first: u64, keys: u64) -> IdFilter {
        let keys_min = u64::from(self.config.run_events) * INDEX_FILTER_PARTS_MIN;
        IdFilter::new(first, keys.saturating_add(keys / 2).max(keys_min), self.config.filter_bytes_max())
    }

    /// Adds the ids and streams of all runs behind what the filter covers. `pause` is told how far it came, after every block of ids;
    /// runs that it adds follow in their turn.
    pub(super) fn cover_runs(
        &self,
        ids: &IdFilter,
        mut pause: impl FnMut(u64) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut block = Vec::new();
        loop {
            let runs = Arc::clone(&self.layers().runs);
            let behind = runs.partition_point(|run| run.last() <= ids.upto());
            let Some(run) = runs.get(behind) else { return Ok(()) };
            for number in 0..run.id_blocks() {
                for entry in run.read_id_block(number, &mut block)? {
                    ids.add(hash(self.hash_seed, &entry[..16]));
                }
                pause(run.first() + run.events() * number as u64 / run.id_blocks() as u64)?;
            }
            let streams = self.cover_streams(ids, run, || pause(run.last()))?;
            ids.cover(run.last(), run.header().ids + streams);
        }
    }

    /// Adds the streams of a run and says how many of them are new.
    fn cover_streams(
        &self,
        ids: &IdFilter,
        run: &Run,
        mut pause: impl FnMut() -> Result<(), IndexError>,
    ) -> Result<u64, IndexError> {
        let mut added = 0;
        let mut cursor = TermCursor::seek(run, &term_key(Kind::Stream, ""))?;
        let mut left = STREAMS_PER_PAUSE;
        while let Some(term) = cursor.term.as_ref().filter(|term| term.key[0] == Kind::Stream as u8) {
            added += u64::from(ids.add_new(hash(self.hash_seed, &term.key)));
            left -= 1;
            if left == 0 {
                left = STREAMS_PER_PAUSE;
                pause()?;
            }
            cursor.advance()?;
        }
        Ok(added)
    }

    /// The first position of the runs, and the last; where there are none, what lies before the first part.
    fn runs_range(&self) -> (u64, u64) {
        let layers = self.layers();
        let first = layers.runs.first().map_or(layers.active.first(), |run| run.first());
        (first, layers.runs.last().map_or(first - 1, |run| run.last()))
    }

    fn remove_durably(&self, path: PathBuf) -> Result<(), IndexError> {
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IndexError::io("remove", path)(error));
            }
            _ => {}
        }
        self.disk.sync_dir(&self.dir).map_err(IndexError::io("sync", &self.dir))
    }
}
