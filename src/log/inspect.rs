//! Looking at a log from outside: every file, header, mark, group, record and chain, with no byte changed.
//!
//! Owns what there is to say about a log that no process has open: what is damaged, which positions that costs, what
//! recovery would cut, and from where on the log could be cut. Invariants: only reads; a damaged place does not end the
//! look, what is good behind it is seen too. Does not know what payloads mean, nor how anything is repaired.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Corruption, Directory, EpochStart, LogError, epochs::EpochHistory, format::Chain, manifest::Manifest,
    segment::Mark,
};
use crate::{
    disk::{Access, Disk, LockGuard},
    event::Position,
    limits::VERIFY_FINDINGS_MAX,
};

mod pass;

use pass::Pass;

/// A log that nobody has open, held so that nobody opens it.
#[derive(Debug)]
pub struct LogInspector {
    directory: Directory,
    manifest: Manifest,
    firsts: Vec<Position>,
    lock: Option<Box<dyn LockGuard>>,
}

/// What a log holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogInspection {
    /// The last position that is there, whatever lies before it.
    pub head: Position,
    /// The last position that is known to have been durable.
    pub known_last: Position,
    /// Records that are good.
    pub records: u64,
    /// Groups that are good.
    pub groups: u64,
    /// The hash over all records, where nothing is lost.
    pub chain: Option<[u8; 32]>,
    /// In order of position.
    pub segments: Vec<SegmentInfo>,
    /// In order of position; at most so many, see `damage_omitted`.
    pub damage: Vec<Damage>,
    /// Damaged places that were found beyond those listed.
    pub damage_omitted: u64,
    /// Good groups behind damage.
    pub islands: Vec<Stretch>,
    /// Up to where nothing is lost; behind it the log could be cut.
    pub sound_upto: Option<CutPoint>,
    /// A torn write at the end, which the next start cuts and keeps in quarantine: no damage.
    pub torn: Option<Torn>,
    /// Positions above the newest commit mark, which the next start writes anew: no damage.
    pub unmarked: Option<(Position, Position)>,
    /// Bytes of the spare.
    pub spare_bytes: Option<u64>,
    /// Files with bytes that were cut, and their lengths.
    pub quarantine: Vec<(PathBuf, u64)>,
    /// Files of an interrupted step, and others that do not count.
    pub leftovers: Vec<PathBuf>,
    /// A repair was interrupted behind its commit point; the next start or repair finishes it.
    pub repair_pending: bool,
    /// Marks that could stand where there is none.
    pub(super) marks: Vec<(Position, Mark)>,
    /// Headers that could stand where there is none.
    pub(super) headers: Vec<HeaderFix>,
}

/// What the header of a segment must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderFix {
    pub(super) first: Position,
    pub(super) previous: Position,
    pub(super) chain: Chain,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub path: PathBuf,
    /// Its first position.
    pub first: Position,
    /// The last position that is there; below `first` if there is none.
    pub last: Position,
    /// The file's length.
    pub bytes: u64,
    /// Good groups.
    pub groups: u64,
    /// Whether all of it is as it was written.
    pub is_sound: bool,
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is damaged.
    pub kind: DamageKind,
    /// The first position of the segment it belongs to.
    pub segment: Position,
    /// Where, which positions, and how it shows.
    pub place: Corruption,
}

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// A segment's file is missing.
    Segment,
    /// A segment's header.
    Header {
        /// Its content follows from the segment before and the manifest, and all groups fit it.
        restorable: bool,
    },
    /// The commit marks of a segment.
    Mark {
        /// All groups are good, so that a mark can be written anew.
        restorable: bool,
    },
    /// Groups: the positions are lost.
    Groups,
    /// A file of record offsets, which can be made anew at any time.
    Offsets {
        /// Its checksums do not match. It is never synced, so a power loss may leave it so.
        is_torn: bool,
    },
}

/// Good groups in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The segment.
    pub path: PathBuf,
    /// Where the first group begins.
    pub offset: u64,
    /// The first position.
    pub first: Position,
    /// The last position.
    pub last: Position,
}

/// The edge of a group behind which a log can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutPoint {
    /// The segment's first position.
    pub(super) segment: Position,
    pub(super) offset: u64,
    pub(super) last: Position,
    pub(super) chain: Chain,
}

impl CutPoint {
    /// The last position before it.
    pub fn last(&self) -> Position {
        self.last
    }
}

/// Bytes of a write that was torn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// Why they are no group.
    pub what: String,
}

impl Damage {
    /// Whether nothing but a file of record offsets is damaged.
    pub fn is_of_offsets(&self) -> bool {
        matches!(self.kind, DamageKind::Offsets { .. })
    }
}

impl LogInspection {
    /// Whether events are lost or the log does not open; what can be made anew at any time does not count.
    pub fn is_damaged(&self) -> bool {
        self.damage.iter().any(|damage| !damage.is_of_offsets())
    }

    /// Positions that are lost: from the first one to the last one known.
    pub fn lost(&self) -> Option<(Position, Position)> {
        let loses = |damage: &Damage| match damage.kind {
            DamageKind::Segment | DamageKind::Groups | DamageKind::Header { restorable: false } => true,
            DamageKind::Mark { restorable } => !restorable,
            DamageKind::Header { restorable: true } | DamageKind::Offsets { .. } => false,
        };
        self.damage.iter().any(loses).then(|| {
            let first = self.sound_upto.map_or(Position::new(1), |sound| sound.last.next());
            (first, self.known_last.max(first))
        })
    }

    /// Whether headers can be written anew.
    pub fn can_restore_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Whether marks can be written anew.
    pub fn can_restore_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    fn push(&mut self, damage: Damage) {
        if self.damage.len() < VERIFY_FINDINGS_MAX {
            self.damage.push(damage);
        } else {
            self.damage_omitted += 1;
        }
    }
}

impl LogInspector {
    /// Opens the log of a directory for looking at it. Refused while a process has it open.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogError> {
        let directory = Directory::new(disk, dir.to_owned(), None);
        let path = directory.lock();
        let lock = directory.disk().lock_shared(&path).map_err(|error| super::refused(&directory, error))?;
        Self::new(directory, lock)
    }

    /// As `open`, for changing it too: `holder` says who holds the lock.
    pub fn lock(disk: Arc<dyn Disk>, dir: &Path, holder: &str) -> Result<Self, LogError> {
        let directory = Directory::new(disk, dir.to_owned(), None);
        // A directory that holds no log gets no lock file.
        let inspector = Self::new(directory, None)?;
        let lock = inspector.directory.disk().lock(&inspector.directory.lock(), holder);
        let lock = lock.map_err(|error| super::refused(&inspector.directory, error))?;
        Self::new(inspector.directory, Some(lock))
    }

    /// Reads anew what a repair may have changed.
    pub fn reload(&mut self) -> Result<(), LogError> {
        *self = Self::new(self.directory.clone(), self.lock.take())?;
        Ok(())
    }

    fn new(directory: Directory, lock: Option<Box<dyn LockGuard>>) -> Result<Self, LogError> {
        let none = || LogError::NoLog { dir: directory.path().to_owned() };
        let firsts = match directory.segments() {
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(none());
            }
            other => other?,
        };
        let Some(manifest) = Manifest::load(&directory)? else {
            let missing = |segment: &Position| super::manifest_missing(&directory, *segment);
            return Err(firsts.first().map_or_else(none, missing));
        };
        Ok(Self { directory, manifest, firsts, lock })
    }

    /// The log's identity.
    pub fn log_id(&self) -> Uuid {
        self.manifest.log_id
    }

    /// Whose log it is.
    pub fn node(&self) -> &str {
        &self.manifest.node
    }

    /// Where the log begins.
    pub fn first_position(&self) -> Position {
        self.manifest.first
    }

    /// The epochs that the manifest lists.
    pub fn epochs(&self) -> &[EpochStart] {
        self.manifest.epochs.starts()
    }

    /// The counter of the epoch that wrote this position; of one before the log's beginning, the first epoch's.
    pub fn epoch_at(&self, position: Position) -> u64 {
        self.manifest.epochs.counter_at(position)
    }

    /// Bytes of all segments: how much a look has to read, about.
    pub fn bytes(&self) -> u64 {
        self.firsts.iter().filter_map(|first| self.len_of(&self.directory.segment(*first))).sum()
    }

    /// Looks at everything. `visit` is called with every good group in order of position: its bytes and its records.
    pub fn inspect(
        &self,
        visit: &mut dyn FnMut(u64, Vec<(Position, Bytes)>),
    ) -> Result<LogInspection, LogError> {
        let mut report = Pass::new(self, visit).run()?;
        let names = self.directory.disk().list(self.directory.path());
        for name in names.map_err(LogError::io("list", self.directory.path()))? {
            self.classify(&name, &mut report);
        }
        Ok(report)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn firsts(&self) -> &[Position] {
        &self.firsts
    }

    fn history(&self) -> &EpochHistory {
        &self.manifest.epochs
    }

    /// Says what a file is for, unless it has been looked at already.
    fn classify(&self, name: &str, report: &mut LogInspection) {
        let path = self.directory.path().join(name);
        let is_sidecar = |first: &Position| self.directory.offsets(*first) == path;
        let is_segment = |first: &Position| self.directory.segment(*first) == path;
        if path == self.directory.repair() {
            report.repair_pending = true;
        } else if path == self.directory.spare() {
            report.spare_bytes = self.len_of(&path);
        } else if path.extension().is_some_and(|extension| extension == "quarantine") {
            report.quarantine.push((path.clone(), self.len_of(&path).unwrap_or(0)));
        } else if !["manifest", "LOCK", "restored"].contains(&name)
            && !self.firsts.iter().any(|first| is_sidecar(first) || is_segment(first))
        {
            report.leftovers.push(path);
        }
    }

    fn len_of(&self, path: &Path) -> Option<u64> {
        self.directory.disk().open(path, Access::Read).and_then(|file| file.len()).ok()
    }
}
