//! The one writer of a log.
//!
//! Steps of an append: reserve (epoch in the manifest, spare, room in the segment, zeros ahead), write the mark of the
//! group before, write the group, sync. The sync is the commit point; after it the head moves. Only reserving can be
//! refused without harm. After any other error the writer is poisoned and nothing is tried again: what is durable is
//! then for recovery to find out.
//!
//! Invariants: one group at most lies above the durable mark when the next is written; the spare can take both. Does
//! not know what payloads mean.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Appended, LogConfig, LogError,
    epochs::Epoch,
    format::Chain,
    group::{self, Before},
    manifest::Manifest,
    offsets::Starts,
    reader::{Segment, Shared},
    recovery,
    scan::Source,
    segment::{HEAD_BYTES, Mark, SegmentHeader},
    spare::{Spare, SpareSlot},
};
use crate::{
    disk::LockGuard,
    event::Position,
    limits::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, LOG_PREALLOCATE_BYTES},
    sabotage::Sabotage,
};

/// Bytes of the encoding buffer that are kept between groups.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Appends groups. There is one per log; it holds the log's lock.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    _lock: Box<dyn LockGuard>,
    segment_bytes: u64,
    low_water_bytes: u64,
    manifest: Manifest,
    /// Whether the manifest on disk knows this epoch; on a full disk that has to wait until the first append.
    epoch_recorded: bool,
    epoch: Epoch,
    /// The newest segment, and how it stands.
    segment: Arc<Segment>,
    end: u64,
    filled_upto: u64,
    head: Position,
    chain: Chain,
    /// The newest mark that is durable.
    mark: Mark,
    spare: Option<Spare>,
    poisoned: bool,
    synced_in: Duration,
    /// The group being written, and where its records begin; kept to save allocations.
    group: Vec<u8>,
    starts: Vec<u32>,
}

/// The parts of a log that has just been recovered.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) lock: Box<dyn LockGuard>,
    pub(super) manifest: Manifest,
    pub(super) epoch: Epoch,
    pub(super) epoch_recorded: bool,
    pub(super) segment: Arc<Segment>,
    pub(super) mark: Mark,
    pub(super) filled_upto: u64,
    pub(super) spare: Option<Spare>,
}

impl LogWriter {
    pub(super) fn new(config: &LogConfig, parts: Parts) -> Self {
        Self {
            shared: parts.shared,
            _lock: parts.lock,
            segment_bytes: config.segment_bytes,
            low_water_bytes: config.low_water_bytes,
            manifest: parts.manifest,
            epoch_recorded: parts.epoch_recorded,
            epoch: parts.epoch,
            segment: parts.segment,
            end: parts.mark.offset,
            filled_upto: parts.filled_upto,
            head: parts.mark.last,
            chain: parts.mark.chain,
            mark: parts.mark,
            spare: parts.spare,
            poisoned: false,
            synced_in: Duration::ZERO,
            group: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Appends one group and returns when it is durable; it can then be read. After `DiskFull` and `GroupSize` nothing
    /// has happened. After any other error the outcome is unknown, and all later appends are refused.
    pub fn append<P: AsRef<[u8]>>(&mut self, payloads: &[P]) -> Result<Appended, LogError> {
        check_size(payloads)?;
        self.guarded(|writer| writer.append_group(payloads))
    }

    /// Makes the commit mark of the newest group durable; does nothing if it is. To be called when no append has come
    /// for a while, and at a clean stop. Keeps zeros ready for the next appends.
    pub fn sync_mark(&mut self) -> Result<(), LogError> {
        self.guarded(|writer| {
            if writer.mark.offset == writer.end {
                return Ok(());
            }
            let ahead = preallocate_bytes(writer.segment_bytes) / 2;
            let wanted = (writer.end + ahead).min(writer.segment_bytes);
            match writer.fill(wanted) {
                // It is the next append that needs the room, and that will say so.
                Ok(()) | Err(LogError::DiskFull { .. }) => {}
                Err(error) => return Err(error),
            }
            let mark = writer.write_mark()?;
            writer.sync_segment()?;
            writer.mark = mark;
            Ok(())
        })
    }

    /// The log's identity.
    pub fn log_id(&self) -> Uuid {
        self.shared.log_id()
    }

    /// The epoch that this opening began.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last durable position.
    pub fn head(&self) -> Position {
        self.head
    }

    /// How long the sync of the newest group took.
    pub const fn synced_in(&self) -> Duration {
        self.synced_in
    }

    /// Whether a write or sync failed: only opening the log again helps.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let result = step(self);
        self.poisoned = result.as_ref().is_err_and(|error| !error.is_refusal())
            && !self.is_sabotaged(Sabotage::IgnorePoison);
        result
    }

    fn append_group<P: AsRef<[u8]>>(&mut self, payloads: &[P]) -> Result<Appended, LogError> {
        self.reserve(group::bytes_of(payloads) as u64)?;
        let reused = self.is_sabotaged(Sabotage::ReusePosition) && self.head > Position::ZERO;
        let first = if reused { self.head } else { self.head.next() };
        let before = Before { first, epoch: self.epoch, synced_upto: self.head, chain: self.chain };
        self.group.clear();
        self.starts.clear();
        let seed = self.shared.seed();
        let chain = group::encode(seed, &before, payloads, &mut self.group, &mut self.starts);
        let last = self.head.plus(payloads.len() as u64);
        let end = self.end + self.group.len() as u64;
        let mark = if self.is_sabotaged(Sabotage::MarkAhead) {
            self.write_mark_at(end, last, chain)?
        } else {
            self.write_mark()?
        };
        let written = self.segment.file.write_all_at(&self.group, self.end);
        written.map_err(LogError::io("write", &self.segment.path))?;
        let began = Instant::now();
        self.sync_segment()?;
        self.synced_in = began.elapsed();
        self.segment.offsets.push(&self.starts, self.end, end);
        self.mark = mark;
        self.end = end;
        self.chain = chain;
        self.head = last;
        self.shared.advance(last);
        self.group.shrink_to(BUFFER_BYTES_KEPT);
        Ok(Appended { first, last })
    }

    /// Finds room for a group, so that writing it allocates nothing.
    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        if !self.epoch_recorded {
            self.manifest.store(self.shared.directory())?;
            self.epoch_recorded = true;
        }
        self.reserve_spare(bytes)?;
        let is_empty = self.end == HEAD_BYTES;
        if !is_empty && self.end + bytes > self.segment_bytes {
            self.roll()?;
            self.reserve_spare(bytes)?;
        }
        let end = self.end + bytes;
        if end > self.filled_upto {
            let ahead = self.filled_upto + preallocate_bytes(self.segment_bytes);
            self.fill(end.max(ahead.min(self.segment_bytes)))?;
        }
        Ok(())
    }

    /// The spare must take what lies above the durable mark, and the group to come.
    fn reserve_spare(&mut self, bytes: u64) -> Result<(), LogError> {
        let needed = HEAD_BYTES + (self.end - self.mark.offset) + bytes;
        let needed = needed.next_multiple_of(preallocate_bytes(self.segment_bytes));
        let mut slot = SpareSlot::new(self.shared.directory(), &mut self.spare);
        let missing = slot.missing_bytes(needed);
        check_space(&self.shared, self.low_water_bytes, missing)?;
        slot.reserve(needed)
    }

    /// Writes zeros ahead, up to `upto`. They become durable with the next sync.
    fn fill(&mut self, upto: u64) -> Result<(), LogError> {
        if upto > self.filled_upto {
            check_space(&self.shared, self.low_water_bytes, upto - self.filled_upto)?;
            let segment = &self.segment;
            self.shared.directory().write_zeros(&*segment.file, &segment.path, self.filled_upto, upto)?;
            self.filled_upto = upto;
        }
        Ok(())
    }

    /// Goes on in a new segment. Its name is the commit point; the old segment then ends where the new one begins.
    fn roll(&mut self) -> Result<(), LogError> {
        let directory = self.shared.directory();
        let header = SegmentHeader {
            log_id: self.shared.log_id(),
            first: self.head.next(),
            previous: self.segment.first,
            chain: self.chain,
            epoch: self.epoch,
        };
        let mark = Mark::initial(header.first, self.chain);
        let mut slot = SpareSlot::new(directory, &mut self.spare);
        let (file, filled_upto) = slot.publish(&header, &mark, None)?;
        let old = Arc::clone(&self.segment);
        let starts = old.offsets.all();
        let source = Source::new(&*old.file, &old.path, self.shared.seed())?;
        recovery::seal(directory, self.shared.seed(), &source, old.first, &starts, false);
        let starts = Starts::empty(HEAD_BYTES);
        self.segment = Arc::new(Segment::growing(directory, header.first, file, starts));
        self.shared.extend(Arc::clone(&self.segment));
        self.end = HEAD_BYTES;
        self.filled_upto = filled_upto;
        self.mark = mark;
        Ok(())
    }

    /// Writes the mark of everything durable in this segment; it becomes durable with the next sync.
    fn write_mark(&self) -> Result<Mark, LogError> {
        if self.mark.offset == self.end {
            return Ok(self.mark);
        }
        self.write_mark_at(self.end, self.head, self.chain)
    }

    fn write_mark_at(&self, offset: u64, last: Position, chain: Chain) -> Result<Mark, LogError> {
        let mark = Mark { sequence: self.mark.sequence + 1, offset, last, chain };
        let segment = &self.segment;
        let beyond = u64::from(self.is_sabotaged(Sabotage::MarkBeyondTail));
        let written = Mark { offset: offset + beyond, ..mark };
        written.write(&*segment.file, &segment.path, self.shared.seed(), segment.first)?;
        Ok(mark)
    }

    fn sync_segment(&self) -> Result<(), LogError> {
        let segment = &self.segment;
        self.shared.directory().sync_file(&*segment.file, &segment.path)
    }

    fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.shared.directory().is_sabotaged(sabotage)
    }
}

/// Bytes of zeros that are written ahead at once.
pub(super) fn preallocate_bytes(segment_bytes: u64) -> u64 {
    LOG_PREALLOCATE_BYTES.min(segment_bytes)
}

fn check_size<P: AsRef<[u8]>>(payloads: &[P]) -> Result<(), LogError> {
    let bytes: usize = payloads.iter().map(|payload| payload.as_ref().len()).sum();
    if payloads.is_empty() || payloads.len() > GROUP_RECORDS_MAX || bytes > GROUP_BYTES_MAX {
        return Err(LogError::GroupSize {
            records: payloads.len(),
            bytes,
            records_max: GROUP_RECORDS_MAX,
            bytes_max: GROUP_BYTES_MAX,
        });
    }
    Ok(())
}

/// Refuses to allocate what would leave less than the low-water mark free.
fn check_space(shared: &Shared, low_water_bytes: u64, bytes: u64) -> Result<(), LogError> {
    if bytes == 0 || low_water_bytes == 0 {
        return Ok(());
    }
    let directory = shared.directory();
    let free = directory.disk().free_bytes(directory.path());
    let free_bytes = free.map_err(LogError::io("measure the free space of", directory.path()))?;
    if free_bytes < low_water_bytes.saturating_add(bytes) {
        return Err(LogError::DiskFull {
            dir: directory.path().to_owned(),
            needed_bytes: bytes,
            reserve_bytes: low_water_bytes,
            free_bytes,
        });
    }
    Ok(())
}
