//! The log: opaque records under dense positions, in groups that are durable as a whole, in segments.
//!
//! `open` gives one writer and any number of readers. Owns the directory's files, the lock on it, the chain of hashes
//! and the epochs. Invariants: positions are dense and never reused; readers see durable records only; bytes that were
//! durable and are no longer what they were are told, never repaired. `docs/log-format.md` has every byte, and every
//! operation as steps with its commit point. Deliberately does not know events, streams, redb or threads: the committer
//! decides when to append and when the log has been idle.
//!
//! In reading order: `format` (checksums, chain), `group`, `segment` (head and marks), `manifest` and `epochs`,
//! `spare`, `writer`, `recovery` (with `scan`), `reader` (with `offsets`, `visit` and `verify`).

use std::{io, path::PathBuf, sync::Arc};

use crate::{
    clock::Clock,
    disk::{Disk, LockGuard},
    event::Position,
    sabotage::Sabotage,
};

mod cut;
mod directory;
mod epochs;
mod error;
mod format;
mod group;
mod inspect;
mod manifest;
mod offsets;
mod reader;
mod recovery;
mod repair;
mod restored;
mod scan;
mod segment;
mod size;
mod spare;
#[doc(hidden)]
pub mod untrusted;
mod verify;
mod visit;
mod writer;

use directory::Directory;
use epochs::EpochHistory;
use manifest::Manifest;
use reader::{Catalog, Segment, Shared};
use restored::Restored;
use segment::HEAD_BYTES;
use spare::{Spare, SpareSlot};
use writer::{Parts, preallocate_bytes};

pub use cut::{LogCut, SegmentBytes, SegmentCut};
pub use epochs::{Epoch, EpochStart};
pub use error::{Corruption, LogError};
pub use inspect::{CutPoint, Damage, DamageKind, LogInspection, LogInspector, SegmentInfo, Stretch, Torn};
pub use reader::LogReader;
pub use recovery::{Cut, RecoveryReport};
pub use repair::CutLog;
pub use restored::{mark_restored, settle_restored};
pub use verify::Verified;
pub use visit::Buffer;
pub use writer::LogWriter;

/// Bytes of a segment that a configuration may ask for; offsets inside a segment are 32 bits wide.
const SEGMENT_BYTES_RANGE: std::ops::RangeInclusive<u64> = HEAD_BYTES..=1 << 30;

const NANOS_A_MILLISECOND: u64 = 1_000_000;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The log's directory; it is created if need be.
    pub dir: PathBuf,
    /// The node whose log it is.
    pub node: String,
    /// Where a segment is full: 12 KiB to 1 GiB. A group that is larger gets a segment to itself.
    pub segment_bytes: u64,
    /// Appends that need new room are refused when less than this would stay free on the disk.
    pub low_water_bytes: u64,
}

/// An open log.
#[derive(Debug)]
pub struct Opened {
    /// Appends; holds the lock on the directory.
    pub writer: LogWriter,
    /// Reads; may be cloned, and may outlive the writer.
    pub reader: LogReader,
    /// What recovery found and did.
    pub recovery: RecoveryReport,
    /// The log is a copy in place of a newer one, which is to be accepted in the log (`settle_restored`).
    pub is_restored: bool,
}

/// The positions that an append gave to its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of the first.
    pub first: Position,
    /// Of the last.
    pub last: Position,
}

/// Opens the log of a directory, recovering it first; begins it if the directory holds none.
pub fn open(disk: Arc<dyn Disk>, clock: &dyn Clock, config: LogConfig) -> Result<Opened, LogError> {
    open_sabotaged(disk, clock, config, None)
}

/// `open`; where this number is above that of the last restore, the log counts as restored.
pub fn open_restored(
    disk: Arc<dyn Disk>,
    clock: &dyn Clock,
    config: LogConfig,
    number: u64,
) -> Result<Opened, LogError> {
    open_any(disk, clock, config, None, number)
}

/// `open`, with a fault built in.
#[doc(hidden)]
pub fn open_sabotaged(
    disk: Arc<dyn Disk>,
    clock: &dyn Clock,
    config: LogConfig,
    sabotage: Option<Sabotage>,
) -> Result<Opened, LogError> {
    open_any(disk, clock, config, sabotage, 0)
}

fn open_any(
    disk: Arc<dyn Disk>,
    clock: &dyn Clock,
    config: LogConfig,
    sabotage: Option<Sabotage>,
    restore_number: u64,
) -> Result<Opened, LogError> {
    assert!(
        SEGMENT_BYTES_RANGE.contains(&config.segment_bytes),
        "a segment of {} bytes is not in {SEGMENT_BYTES_RANGE:?}",
        config.segment_bytes
    );
    let directory = Directory::new(disk, config.dir.clone(), sabotage);
    let created = directory.disk().create_dir_all(directory.path());
    created.map_err(LogError::io("create", directory.path()))?;
    let lock = lock(&directory, &config.node)?;
    let restored = Restored::asked(&directory, restore_number)?;
    let mut manifest = load_or_begin(&directory, clock, &config.node)?;
    if repair::finish(&directory)? {
        manifest = load_or_begin(&directory, clock, &config.node)?;
    }
    let mut spare = Spare::find(&directory)?;
    let spare_bytes_min = preallocate_bytes(config.segment_bytes);
    let recovered = recovery::recover(&directory, &manifest, &mut spare, spare_bytes_min)?;
    or_full(SpareSlot::new(&directory, &mut spare).reserve(spare_bytes_min))?;
    let head = recovered.report.head;
    // The original may have been opened again and again since the copy was made: no counter of its is that high.
    let epoch = if restored.is_pending {
        let milliseconds = clock.now_unix_nanos() as u64 / NANOS_A_MILLISECOND;
        manifest.epochs.begin_from(clock.random() as u64, head.next(), milliseconds)
    } else {
        manifest.epochs.begin(clock.random() as u64, head.next())
    };
    let epoch_recorded = or_full(manifest.store(&directory))?.is_some();
    let active = recovered.active;
    let segment = Segment::growing(&directory, active.header.first, active.file, active.starts);
    let segment = Arc::new(segment);
    let catalog = Catalog { sealed: recovered.sealed, active: Arc::clone(&segment) };
    let shared = Arc::new(Shared::new(directory, &manifest, head, catalog));
    let reader = LogReader::new(Arc::clone(&shared));
    let parts = Parts {
        shared,
        lock,
        manifest,
        epoch,
        epoch_recorded,
        segment,
        mark: active.mark,
        filled_upto: active.filled_upto,
        spare,
    };
    Ok(Opened {
        writer: LogWriter::new(&config, parts),
        reader,
        recovery: recovered.report,
        is_restored: restored.is_pending,
    })
}

fn lock(directory: &Directory, node: &str) -> Result<Box<dyn LockGuard>, LogError> {
    let path = directory.lock();
    let holder = format!("process {} (node {node})", std::process::id());
    directory.disk().lock(&path, &holder).map_err(|error| refused(directory, error))
}

/// Why the lock on a directory could not be had.
fn refused(directory: &Directory, error: io::Error) -> LogError {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            LogError::Locked { dir: directory.path().to_owned(), holder: error.to_string() }
        }
        _ => LogError::io("lock", &directory.lock())(error),
    }
}

/// Segments without a manifest.
fn manifest_missing(directory: &Directory, segment: Position) -> LogError {
    let what = format!("it is missing, but there are segments from position {segment} on");
    LogError::corrupt(&directory.manifest(), 0, (Position::new(1), None), what)
}

/// The manifest of the directory's log. If there is none, there must be no segments, and a log begins here.
fn load_or_begin(directory: &Directory, clock: &dyn Clock, node: &str) -> Result<Manifest, LogError> {
    if let Some(manifest) = Manifest::load(directory)? {
        if manifest.node != node {
            return Err(LogError::OtherNode {
                dir: directory.path().to_owned(),
                found: manifest.node,
                expected: node.to_owned(),
            });
        }
        return Ok(manifest);
    }
    let first = Position::new(1);
    if let Some(segment) = directory.segments()?.first() {
        return Err(manifest_missing(directory, *segment));
    }
    let manifest = Manifest {
        log_id: uuid::Builder::from_random_bytes(clock.random().to_le_bytes()).into_uuid(),
        first,
        node: node.to_owned(),
        epochs: EpochHistory::default(),
    };
    manifest.store(directory)?;
    Ok(manifest)
}

/// On a full disk a log opens for reading; what could not be done is done before the next append.
fn or_full<T>(result: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(LogError::DiskFull { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
