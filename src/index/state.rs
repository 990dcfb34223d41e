//! What the committer, the readers and the worker of an index share.
//!
//! Owns the layers (runs, full parts, the active part) and how they change: the committer adds to the active part and
//! freezes it, the worker turns the oldest full part into a run and swaps runs. Invariants: layers are adjacent in this
//! order; the lock around them is held for a bounded number of events and never over I/O; a part leaves memory only
//! after its run is durable. Does not know what runs and parts look like inside.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    IndexError, StreamHead, chain,
    codec::{hash, hash_seed},
    heads::HeadCache,
    ids::IdFilter,
    part::Part,
    progress::Progress,
    run::Run,
    terms::stream_key,
};
use crate::{
    disk::Disk,
    event::{EventId, Position, RecordedEvent, Revision, StreamId},
    limits::{
        INDEX_EVENT_BYTES, INDEX_FAILING_PARTS_MAX, INDEX_HEADS_MAX, INDEX_LOCK_EVENTS_MAX,
        INDEX_MEMORY_BYTES_DEFAULT, INDEX_RUN_EVENTS, INDEX_UNWRITTEN_PARTS_MAX,
    },
};

/// What the index needs of the log.
pub struct LogView {
    /// The log's identity.
    pub log_id: Uuid,
    /// The position of the log's first event; 1 but for logs whose beginning was archived.
    pub first: Position,
    /// The position of its last event.
    pub head: Position,
    /// Reads some events behind the first position, up to the second, at least one.
    pub scan: Scan,
}

/// Reads some events behind the first position, up to the second, at least one.
pub type Scan = Box<dyn Fn(Position, Position) -> Result<Vec<RecordedEvent>, IndexError> + Send + Sync>;

impl std::fmt::Debug for LogView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log_id, first, head, scan: _ } = self;
        f.debug_struct("LogView")
            .field("log_id", log_id)
            .field("first", first)
            .field("head", head)
            .finish_non_exhaustive()
    }
}

/// How an index works. The default is right but for tests and simulation.
#[derive(Debug, Clone, Copy)]
pub struct IndexConfig {
    /// Events in a part and in the smallest run.
    pub run_events: u32,
    /// Whether a thread does the background work; else the owner calls `step`.
    pub background: bool,
    /// Bytes of memory to share out; what an index of this size needs to work at all may be more.
    pub memory_bytes: u64,
}

impl IndexConfig {
    /// For an index that may take about so many bytes of memory: three eighths for the filter of ids, as much for the
    /// parts in memory, the rest for what is resident of the runs. While the filter grows, its predecessor stands
    /// beside it.
    pub fn with_memory(memory_bytes: u64) -> Self {
        let parts = 1 + INDEX_UNWRITTEN_PARTS_MAX as u64;
        let events = memory_bytes / 8 * 3 / parts / INDEX_EVENT_BYTES;
        let run_events = events.clamp(1, INDEX_RUN_EVENTS.into()) as u32;
        // A power of two, so that a small change of the setting does not make runs of odd sizes.
        let run_events = 1 << run_events.ilog2();
        Self { run_events, background: true, memory_bytes }
    }

    /// Bytes that the filter of ids may take.
    pub(super) fn filter_bytes_max(&self) -> u64 {
        self.memory_bytes / 8 * 3
    }
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self::with_memory(INDEX_MEMORY_BYTES_DEFAULT)
    }
}

/// Sizes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStatus {
    /// Run files.
    pub runs: usize,
    /// Bytes of run files.
    pub run_bytes: u64,
    /// Bytes of the runs' filters and fences in memory.
    pub resident_bytes: usize,
    /// Full parts that wait for their run file.
    pub unwritten_parts: usize,
    /// Events in the active part.
    pub active_events: u32,
    /// Heads of streams in the cache.
    pub cached_heads: usize,
    /// Bytes of the filter of ids and streams in memory.
    pub filter_bytes: u64,
    /// Ids and streams in the filter.
    pub filter_keys: u64,
    /// Ids that were looked for and are in no part in memory.
    pub filter_lookups: u64,
    /// Probes of the filter for them.
    pub filter_probes: u64,
    /// Lookups that the filter let pass to the runs.
    pub filter_passes: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) log: LogView,
    pub(super) config: IndexConfig,
    pub(super) hash_seed: u64,
    layers: RwLock<Layers>,
    heads: Mutex<HeadCache>,
    signals: Mutex<Signals>,
    /// Tells of every change of the signals.
    changed: Condvar,
    /// Held by whoever does background work.
    pub(super) stepping: Mutex<()>,
    /// Up to where the file of the filter of ids goes.
    pub(super) stored_upto: AtomicU64,
    /// Whether it was said that the filter has fewer bits an id than it should.
    pub(super) filter_is_short: AtomicBool,
    lookups: Lookups,
}

/// What lookups of ids cost, since the start.
#[derive(Debug, Default)]
struct Lookups {
    ids: AtomicU64,
    probes: AtomicU64,
    passes: AtomicU64,
}

/// The whole index, oldest events first.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) runs: Arc<[Arc<Run>]>,
    /// The ids and streams of all runs.
    pub(super) ids: Arc<IdFilter>,
    pub(super) frozen: Vec<Arc<Part>>,
    pub(super) active: Part,
}

#[derive(Debug, Default)]
struct Signals {
    closing: bool,
    /// Something to do has come up since the worker last looked.
    work: bool,
    /// Full parts in memory, or about to be.
    unwritten: usize,
    /// Why the last attempt to write a part failed.
    failure: Option<String>,
}

impl State {
    /// Opens the runs and fills the gaps between them; what lies behind the last run is left to `catch_up`.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log: LogView,
        config: IndexConfig,
    ) -> Result<Self, IndexError> {
        assert!(config.run_events > 0, "a part holds at least one event");
        disk.create_dir_all(dir).map_err(IndexError::io("create", dir))?;
        let found = chain::open_runs(&*disk, dir, log.log_id, log.first.get(), log.head.get())?;
        let upto = found.runs.last().map_or(log.first.get().max(1) - 1, |run| run.last());
        let state = Self {
            dir: dir.to_owned(),
            config,
            hash_seed: hash_seed(log.log_id),
            layers: RwLock::new(Layers {
                runs: Vec::new().into(),
                ids: Arc::new(IdFilter::new(upto + 1, 0, 0)),
                frozen: Vec::new(),
                active: Part::starting_at(upto + 1, config.run_events),
            }),
            heads: Mutex::new(HeadCache::new(upto, INDEX_HEADS_MAX)),
            signals: Mutex::default(),
            changed: Condvar::new(),
            stepping: Mutex::default(),
            stored_upto: AtomicU64::new(0),
            filter_is_short: AtomicBool::new(false),
            lookups: Lookups::default(),
            disk,
            log,
        };
        let mut runs = found.runs;
        for (first, last) in found.gaps {
            runs.extend(state.build_runs(first, last, || Ok(()))?);
        }
        runs.sort_unstable_by_key(|run| run.first());
        assert!(runs.windows(2).all(|pair| pair[0].last() + 1 == pair[1].first()), "runs are adjacent");
        state.change_layers(|layers| layers.runs = runs.into());
        state.open_ids()?;
        Ok(state)
    }

    /// Applies what the log holds behind the last run.
    pub(super) fn catch_up(&self, head: Position) -> Result<(), IndexError> {
        let mut progress = Progress::new("indexing events of the log", self.head().get() + 1, head.get());
        while self.head() < head {
            self.apply(&self.scan(self.head(), head)?)?;
            progress.reached(self.head().get());
        }
        progress.done();
        Ok(())
    }

    /// Events of the log behind `after`, at least one.
    pub(super) fn scan(&self, after: Position, upto: Position) -> Result<Vec<RecordedEvent>, IndexError> {
        let events = (self.log.scan)(after, upto)?;
        match events.first() {
            Some(event) if event.position == after.next() => Ok(events),
            first => {
                let found = first.map_or("none".to_owned(), |event| format!("position {}", event.position));
                let what = format!("expected the event at position {}, found {found}", after.next());
                Err(IndexError::Log(what.into()))
            }
        }
    }

    pub(super) fn apply(&self, mut events: &[RecordedEvent]) -> Result<(), IndexError> {
        while !events.is_empty() {
            if self.layers().active.count() >= self.config.run_events {
                self.freeze(|full| full.next(self.config.run_events))?;
            }
            events = self.change_layers(|layers| {
                let room = (self.config.run_events - layers.active.count()).min(INDEX_LOCK_EVENTS_MAX);
                let (now, later) = events.split_at(events.len().min(room as usize));
                for event in now {
                    layers.active.add(event);
                }
                later
            });
        }
        Ok(())
    }

    pub(super) fn head(&self) -> Position {
        Position::new(self.layers().active.end() - 1)
    }

    pub(super) fn positions_of(&self, ids: &[EventId]) -> Result<Vec<Option<Position>>, IndexError> {
        let (mut found, runs, filter) = {
            let layers = self.layers();
            let parts =
                || std::iter::once(&layers.active).chain(layers.frozen.iter().rev().map(|part| &**part));
            let find = |id| parts().find_map(|part| part.position_of(id));
            let found: Vec<Option<u64>> = ids.iter().map(find).collect();
            (found, Arc::clone(&layers.runs), Arc::clone(&layers.ids))
        };
        if !runs.is_empty() {
            let absent = || (0..ids.len()).filter(|at| found[*at].is_none());
            let hashes: Vec<(usize, u64)> =
                absent().map(|at| (at, hash(self.hash_seed, ids[at].as_bytes()))).collect();
            // Apart from the hashing, so that the processor has many probes under way at a time.
            let mut probes = 0;
            let passes = |(_, hash): &&(usize, u64)| filter.may_contain(*hash, &mut probes);
            let passed: Vec<usize> = hashes.iter().filter(passes).map(|(at, _)| *at).collect();
            self.lookups.ids.fetch_add(hashes.len() as u64, Ordering::Relaxed);
            self.lookups.probes.fetch_add(probes, Ordering::Relaxed);
            self.lookups.passes.fetch_add(passed.len() as u64, Ordering::Relaxed);
            let mut block = Vec::new();
            for at in passed {
                for run in runs.iter().rev() {
                    found[at] = run.position_of(ids[at].as_bytes(), &mut block)?;
                    if found[at].is_some() {
                        break;
                    }
                }
            }
        }
        Ok(found.into_iter().map(|position| position.map(Position::new)).collect())
    }

    pub(super) fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, IndexError> {
        let (runs, ids) = {
            let layers = self.layers();
            let parts = std::iter::once(&layers.active).chain(layers.frozen.iter().rev().map(|part| &**part));
            if let Some(head) = parts.into_iter().find_map(|part| part.stream_head(stream)) {
                return Ok(Some(head));
            }
            (Arc::clone(&layers.runs), Arc::clone(&layers.ids))
        };
        if runs.is_empty() {
            return Ok(None);
        }
        let key = stream_key(stream);
        let hash = hash(self.hash_seed, &key);
        if !ids.may_contain(hash, &mut 0) {
            return Ok(None);
        }
        if let Some(head) = self.heads().get(stream) {
            return Ok(Some(head));
        }
        for run in runs.iter().rev() {
            if let Some(term) = run.term(&key, hash)? {
                let head = StreamHead {
                    revision: Revision::new(term.last_revision),
                    last_position: Position::new(run.first() + u64::from(term.last)),
                };
                self.heads().learn(runs[runs.len() - 1].last(), stream, head);
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    pub(super) fn status(&self) -> IndexStatus {
        let (runs, ids, unwritten_parts, active_events) = {
            let layers = self.layers();
            let (runs, ids) = (Arc::clone(&layers.runs), Arc::clone(&layers.ids));
            (runs, ids, layers.frozen.len(), layers.active.count())
        };
        IndexStatus {
            runs: runs.len(),
            run_bytes: runs.iter().map(|run| run.header().file_len).sum(),
            resident_bytes: runs.iter().map(|run| run.resident_bytes()).sum(),
            unwritten_parts,
            active_events,
            cached_heads: self.heads().len(),
            filter_bytes: ids.size_bytes(),
            filter_keys: ids.keys(),
            filter_lookups: self.lookups.ids.load(Ordering::Relaxed),
            filter_probes: self.lookups.probes.load(Ordering::Relaxed),
            filter_passes: self.lookups.passes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_layers<T>(&self, change: impl FnOnce(&mut Layers) -> T) -> T {
        change(&mut self.layers.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn heads(&self) -> MutexGuard<'_, HeadCache> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signals(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between the committer, readers and the worker.
impl State {
    /// Turns the active part into one that waits for its run. `next` makes the one that follows it.
    pub(super) fn freeze(&self, next: impl FnOnce(&Part) -> Part) -> Result<(), IndexError> {
        self.make_room()?;
        // Only who applies changes the active part, so it is still the same when the next one is there.
        let next = next(&self.layers().active);
        self.change_layers(|layers| {
            layers.frozen.push(Arc::new(std::mem::replace(&mut layers.active, next)));
        });
        self.signals().work = true;
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until one more part may wait, and counts it.
    fn make_room(&self) -> Result<(), IndexError> {
        loop {
            let mut signals = self.signals();
            let max = match &signals.failure {
                Some(_) => INDEX_FAILING_PARTS_MAX,
                None => INDEX_UNWRITTEN_PARTS_MAX,
            };
            if signals.unwritten < max {
                signals.unwritten += 1;
                return Ok(());
            }
            if signals.closing {
                return Err(IndexError::Closing);
            }
            if let Some(reason) = &signals.failure {
                return Err(IndexError::Backlog { parts: signals.unwritten, reason: reason.clone() });
            }
            if self.config.background {
                drop(self.changed.wait(signals).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(signals);
                // A failure shows in the signals, which the next round judges.
                if let Err(error) = self.step() {
                    tracing::warn!(%error, "the index cannot write a part");
                }
            }
        }
    }

    /// Notes how writing a part ended.
    pub(super) fn part_written(&self, failure: Option<String>) {
        let mut signals = self.signals();
        signals.unwritten -= usize::from(failure.is_none());
        signals.failure = failure;
        drop(signals);
        self.changed.notify_all();
    }

    pub(super) fn write_failure(&self) -> Option<String> {
        self.signals().failure.clone()
    }

    /// Lets the worker know of damage that a reader met.
    pub(super) fn noticing<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(IndexError::Damaged { .. }) = &result {
            self.signals().work = true;
            self.changed.notify_all();
        }
        result
    }

    /// Ends the background work and writes what is only in memory, if it is worth the while.
    pub(super) fn stop(&self) -> Result<(), IndexError> {
        self.close();
        let _stepping = self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        while self.write_oldest_part()? {}
        if self.is_worth_writing() {
            self.freeze(Part::behind)?;
            while self.write_oldest_part()? {}
        }
        self.store_ids()
    }

    /// Ends the background work as soon as possible.
    pub(super) fn close(&self) {
        self.signals().closing = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.signals().closing
    }

    /// Records that there is no worker any more to make room.
    pub(super) fn worker_died(&self) {
        self.signals().failure = Some("the index worker died; restart the node".into());
        self.changed.notify_all();
    }

    /// Waits until there is something to do; false when closing.
    pub(super) fn await_work(&self) -> bool {
        let mut signals = self.signals();
        loop {
            if signals.closing {
                return false;
            }
            if std::mem::take(&mut signals.work) {
                return true;
            }
            signals = self.changed.wait(signals).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits before background work is tried again, unless a part waits that has not failed yet; true when closing.
    pub(super) fn await_retry(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut signals = self.signals();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let news = signals.failure.is_none() && std::mem::take(&mut signals.work);
            if signals.closing || news || left.is_zero() {
                return signals.closing;
            }
            signals = self.changed.wait_timeout(signals, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
