//! What the committer, the readers and the worker of an index share.
//!
//! Owns the layers (runs, full parts, the active part) and how they change: the committer adds to the active part and
//! freezes it, the worker turns the oldest full part into a run and swaps runs. Invariants: layers are adjacent in this
//! order; the lock around them is held for a bounded number of events and never over I/O; a part leaves memory only
//! after its run is durable. Does not know what runs and parts look like inside.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    IndexError, StreamHead, chain,
    codec::{hash, hash_seed},
    heads::HeadCache,
    part::Part,
    run::Run,
    terms::stream_key,
};
use crate::{
    disk::Disk,
    event::{EventId, Position, RecordedEvent, Revision, StreamId},
    limits::{
        INDEX_FAILING_PARTS_MAX, INDEX_HEADS_MAX, INDEX_LOCK_EVENTS_MAX, INDEX_RUN_EVENTS,
        INDEX_UNWRITTEN_PARTS_MAX,
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
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { run_events: INDEX_RUN_EVENTS, background: true }
    }
}

/// Sizes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStatus {
    /// Run files.
    pub runs: usize,
    /// Bytes of run files.
    pub run_bytes: u64,
    /// Bytes of filters and fences in memory.
    pub resident_bytes: usize,
    /// Full parts that wait for their run file.
    pub unwritten_parts: usize,
    /// Events in the active part.
    pub active_events: u32,
    /// Heads of streams in the cache.
    pub cached_heads: usize,
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
}

/// The whole index, oldest events first.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) runs: Arc<[Arc<Run>]>,
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
                frozen: Vec::new(),
                active: Part::starting_at(upto + 1, config.run_events),
            }),
            heads: Mutex::new(HeadCache::new(upto, INDEX_HEADS_MAX)),
            signals: Mutex::default(),
            changed: Condvar::new(),
            stepping: Mutex::default(),
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
        Ok(state)
    }

    /// Applies what the log holds behind the last run.
    pub(super) fn catch_up(&self, head: Position) -> Result<(), IndexError> {
        while self.head() < head {
            self.apply(&self.scan(self.head(), head)?)?;
        }
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
                self.freeze()?;
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
        let (mut found, runs) = {
            let layers = self.layers();
            let parts =
                || std::iter::once(&layers.active).chain(layers.frozen.iter().rev().map(|part| &**part));
            let find = |id| parts().find_map(|part| part.position_of(id));
            (ids.iter().map(find).collect::<Vec<_>>(), Arc::clone(&layers.runs))
        };
        let mut missing: Vec<(usize, u64)> = Vec::new();
        if !runs.is_empty() {
            let absent = (0..ids.len()).filter(|at| found[*at].is_none());
            missing.extend(absent.map(|at| (at, hash(self.hash_seed, ids[at].as_bytes()))));
        }
        for run in runs.iter().rev() {
            for &(at, hash) in &missing {
                if found[at].is_none() {
                    found[at] = run.position_of(ids[at].as_bytes(), hash)?;
                }
            }
        }
        Ok(found.into_iter().map(|position| position.map(Position::new)).collect())
    }

    pub(super) fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, IndexError> {
        let runs = {
            let layers = self.layers();
            let parts = std::iter::once(&layers.active).chain(layers.frozen.iter().rev().map(|part| &**part));
            if let Some(head) = parts.into_iter().find_map(|part| part.stream_head(stream)) {
                return Ok(Some(head));
            }
            Arc::clone(&layers.runs)
        };
        if runs.is_empty() {
            return Ok(None);
        }
        if let Some(head) = self.heads().get(stream) {
            return Ok(Some(head));
        }
        let key = stream_key(stream);
        let hash = hash(self.hash_seed, &key);
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
        let (runs, unwritten_parts, active_events) = {
            let layers = self.layers();
            (Arc::clone(&layers.runs), layers.frozen.len(), layers.active.count())
        };
        IndexStatus {
            runs: runs.len(),
            run_bytes: runs.iter().map(|run| run.header().file_len).sum(),
            resident_bytes: runs.iter().map(|run| run.resident_bytes()).sum(),
            unwritten_parts,
            active_events,
            cached_heads: self.heads().len(),
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
    /// Turns the full active part into one that waits for its run.
    fn freeze(&self) -> Result<(), IndexError> {
        self.make_room()?;
        self.change_layers(|layers| {
            let next = Part::starting_at(layers.active.end(), self.config.run_events);
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
