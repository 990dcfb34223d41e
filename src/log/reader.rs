//! Reading a log: by position, forwards, backwards, and all of it to verify it.
//!
//! Readers see only what is durable: the head moves after the sync, and nothing above it is looked at. Readers take
//! snapshots of the list of segments; the writer swaps it. A record counts only if its checksum, which covers log and
//! position, is right. Files of sealed segments are opened when needed, and a bounded number of them is kept. Does
//! not know what payloads mean.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Directory, LogError,
    epochs::{EpochHistory, EpochStart},
    format::Seed,
    group,
    manifest::Manifest,
    offsets::{Offsets, Sidecar, Starts},
};
use crate::{
    disk::File,
    event::Position,
    limits::{LOG_HANDLES_MAX, LOG_READ_BYTES_MAX, LOG_READ_RECORDS_MAX},
};

/// Reads a log. Clones read the same log.
#[derive(Debug, Clone)]
pub struct LogReader(Arc<Shared>);

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    directory: Directory,
    log_id: Uuid,
    first: Position,
    epochs: EpochHistory,
    head: AtomicU64,
    catalog: RwLock<Arc<Catalog>>,
    /// Sealed segments that are open, the one used last behind.
    handles: Mutex<Vec<Arc<Segment>>>,
}

/// All segments.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    /// First positions of all but the newest, ascending.
    pub(super) sealed: Vec<Position>,
    pub(super) active: Arc<Segment>,
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: Position,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
    pub(super) offsets: Offsets,
}

impl Segment {
    /// A segment that grows.
    pub(super) fn growing(
        directory: &Directory,
        first: Position,
        file: Box<dyn File>,
        starts: Starts,
    ) -> Self {
        Self { first, path: directory.segment(first), file, offsets: Offsets::memory(starts) }
    }

    pub(super) fn sealed(
        directory: &Directory,
        first: Position,
        file: Box<dyn File>,
        sidecar: Sidecar,
    ) -> Self {
        Self { first, path: directory.segment(first), file, offsets: Offsets::Sidecar(sidecar) }
    }

    /// Where `count` records from `first` on begin.
    pub(super) fn span(&self, first: Position, count: usize) -> Result<Starts, LogError> {
        self.offsets.span(first.get() - self.first.get(), count)
    }

    /// Reads and checks the records of a span that begins with `first`.
    fn read(&self, seed: Seed, first: Position, span: &Starts) -> Result<Vec<(Position, Bytes)>, LogError> {
        let base = self.check_ascends(first, span)?;
        let mut bytes = vec![0; (span.end - base) as usize];
        let read = self.file.read_exact_at(&mut bytes, base);
        read.map_err(LogError::io("read", &self.path))?;
        let bytes = Bytes::from(bytes);
        let mut records = Vec::with_capacity(span.starts.len());
        let mut position = first;
        for start in &span.starts {
            let at = (u64::from(*start) - base) as usize;
            let payload = self.record(seed, position, &bytes[at..], *start)?;
            records.push((position, bytes.slice(at + payload.start..at + payload.end)));
            position = position.next();
        }
        Ok(records)
    }

    /// Where a span begins, once it is sure that its offsets ascend.
    pub(super) fn check_ascends(&self, first: Position, span: &Starts) -> Result<u64, LogError> {
        let base = u64::from(span.starts[0]);
        if span.starts.is_sorted() && span.starts.last().is_none_or(|start| u64::from(*start) < span.end) {
            return Ok(base);
        }
        let what = "the record offsets do not ascend".to_owned();
        Err(LogError::corrupt(&self.path, base, (first, Some(first)), what))
    }

    /// Checks the record at the beginning of `bytes`, which stand at `offset`, and gives where its payload lies.
    pub(super) fn record(
        &self,
        seed: Seed,
        position: Position,
        bytes: &[u8],
        offset: u32,
    ) -> Result<std::ops::Range<usize>, LogError> {
        group::record(bytes, seed, position).map_err(|what| {
            LogError::corrupt(&self.path, u64::from(offset), (position, Some(position)), what)
        })
    }
}

impl Shared {
    pub(super) fn new(directory: Directory, manifest: &Manifest, head: Position, catalog: Catalog) -> Self {
        Self {
            directory,
            log_id: manifest.log_id,
            first: manifest.first,
            epochs: manifest.epochs.clone(),
            head: AtomicU64::new(head.get()),
            catalog: RwLock::new(Arc::new(catalog)),
            handles: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn log_id(&self) -> Uuid {
        self.log_id
    }

    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.log_id)
    }

    pub(super) fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    fn head(&self) -> Position {
        Position::new(self.head.load(Ordering::Acquire))
    }

    /// Shows readers everything up to `head`, which is durable and whose offsets are known.
    pub(super) fn advance(&self, head: Position) {
        self.head.store(head.get(), Ordering::Release);
    }

    /// A new segment grows from now on.
    pub(super) fn extend(&self, active: Arc<Segment>) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let mut sealed = catalog.sealed.clone();
        sealed.push(catalog.active.first);
        *catalog = Arc::new(Catalog { sealed, active });
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The segment of a position that is not above `head`, and the last position in it that is not either.
    pub(super) fn locate(
        &self,
        position: Position,
        head: Position,
    ) -> Result<(Arc<Segment>, Position), LogError> {
        let catalog = self.catalog();
        if position >= catalog.active.first {
            return Ok((Arc::clone(&catalog.active), head));
        }
        let behind = catalog.sealed.partition_point(|first| *first <= position);
        let next = catalog.sealed.get(behind).copied();
        let last = Position::new(next.unwrap_or(catalog.active.first).get() - 1);
        let segment = self.sealed(catalog.sealed[behind - 1], last)?;
        Ok((segment, last.min(head)))
    }

    /// An open sealed segment, from those kept open or opened now.
    fn sealed(&self, first: Position, last: Position) -> Result<Arc<Segment>, LogError> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = match handles.iter().position(|segment| segment.first == first) {
            Some(i) => handles.remove(i),
            None => Arc::new(super::verify::open_sealed(self, first, last)?),
        };
        if handles.len() >= LOG_HANDLES_MAX {
            handles.remove(0);
        }
        handles.push(Arc::clone(&segment));
        Ok(segment)
    }
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The last durable position.
    pub fn head(&self) -> Position {
        self.0.head()
    }

    /// Where the log begins; events below are archived.
    pub fn first_position(&self) -> Position {
        self.0.first
    }

    /// The log's identity.
    pub fn log_id(&self) -> Uuid {
        self.0.log_id
    }

    /// All epochs that wrote something, and the one of this opening, in order.
    pub fn epochs(&self) -> &[EpochStart] {
        self.0.epochs.starts()
    }

    /// The counter of the epoch that wrote this position; of one before the log's beginning, the first epoch's.
    pub fn epoch_at(&self, position: Position) -> u64 {
        let epochs = &self.0.epochs;
        let first = epochs.starts().first().map(|start| start.epoch);
        epochs.at(position).or(first).map_or(0, |epoch| epoch.counter)
    }

    /// The payload at a position; `None` above the head and below the log's beginning.
    pub fn read(&self, position: Position) -> Result<Option<Bytes>, LogError> {
        let head = self.head();
        if position > head || position < self.0.first {
            return Ok(None);
        }
        let (segment, _) = self.0.locate(position, head)?;
        let span = segment.span(position, 1)?;
        let records = segment.read(self.0.seed(), position, &span)?;
        Ok(records.into_iter().next().map(|(_, payload)| payload))
    }

    /// The records above `after` up to `upto`, ascending: at least one if there is one, then as many as
    /// `records_max` and `bytes_max` (which counts framing too) allow.
    pub fn scan(
        &self,
        after: Position,
        upto: Position,
        bytes_max: usize,
        records_max: usize,
    ) -> Result<Vec<(Position, Bytes)>, LogError> {
        let head = self.head();
        let upto = upto.min(head);
        let mut out = Vec::new();
        if after >= upto {
            return Ok(out);
        }
        let mut next = after.next().max(self.0.first);
        let mut bytes_left = bytes_max;
        while next <= upto && out.len() < records_max {
            let (segment, last) = self.0.locate(next, head)?;
            let there = (last.min(upto).get() - next.get()) as usize + 1;
            let count = there.min(records_max - out.len()).min(LOG_READ_RECORDS_MAX);
            let mut span = segment.span(next, count)?;
            let limit = bytes_left.min(LOG_READ_BYTES_MAX);
            let fitting = span.records_in(limit);
            let is_full = fitting < count && limit == bytes_left;
            span.truncate(fitting.max(usize::from(out.is_empty())));
            if span.starts.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(span.bytes());
            let records = segment.read(self.0.seed(), next, &span)?;
            next = next.plus(records.len() as u64);
            out.extend(records);
            if is_full {
                break;
            }
        }
        Ok(out)
    }

    /// The records below `below` and above `above`, descending: at least one if there is one, then as many as
    /// `records_max` and `bytes_max` (which counts framing too) allow.
    pub fn scan_back(
        &self,
        below: Position,
        above: Position,
        bytes_max: usize,
        records_max: usize,
    ) -> Result<Vec<(Position, Bytes)>, LogError> {
        let head = self.head();
        let mut out = Vec::new();
        let least = above.max(Position::new(self.0.first.get() - 1));
        let mut upto = Position::new(below.get().saturating_sub(1)).min(head);
        let mut bytes_left = bytes_max;
        while upto > least && out.len() < records_max {
            let (segment, _) = self.0.locate(upto, head)?;
            let there = (upto.get() - least.get().max(segment.first.get() - 1)) as usize;
            let count = there.min(records_max - out.len()).min(LOG_READ_RECORDS_MAX);
            let first = Position::new(upto.get() + 1 - count as u64);
            let mut span = segment.span(first, count)?;
            span.keep_back(bytes_left.min(LOG_READ_BYTES_MAX));
            if span.bytes() > bytes_left && !out.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(span.bytes());
            let first = Position::new(upto.get() + 1 - span.starts.len() as u64);
            let records = segment.read(self.0.seed(), first, &span)?;
            out.extend(records.into_iter().rev());
            upto = Position::new(first.get() - 1);
        }
        Ok(out)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}
