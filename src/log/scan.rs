//! Going through a segment group by group, and looking at what lies behind the last good one.
//!
//! A walk stops at the first byte that is no good group; whether that is the end, a torn write or damage is not its
//! to say. Reads through a window, so that memory does not grow with the segment.

use std::path::Path;

use bytes::Bytes;

use super::{
    LogError,
    epochs::EpochHistory,
    format::{Chain, Seed, u32_at},
    group::{self, ALIGNMENT, GroupHeader, HEADER_BYTES, RECORD_HEADER_BYTES},
    segment::HEAD_BYTES,
};
use crate::{disk::File, event::Position};

/// Bytes that are read at once; a group may need more.
const WINDOW_BYTES: u64 = 1 << 20;

/// A walk over the groups of one segment, and what it has learned so far.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    source: Source<'a>,
    epochs: &'a EpochHistory,
    window: Window,
    /// Behind the last good group.
    pub(crate) at: u64,
    /// The position that comes next.
    pub(crate) next: Position,
    /// The chain behind the last good group.
    pub(crate) chain: Chain,
    /// Where every record begins.
    pub(crate) starts: Vec<u32>,
    /// Where the group that was passed last begins, its first position, and which of `starts` is its first.
    passed: (u64, Position, usize),
    /// A sabotage: a group is good when its header is.
    pub(crate) ignore_checksums: bool,
}

/// A segment's file, what it is called in errors, and its checksums' seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a dyn File,
    pub(crate) path: &'a Path,
    pub(crate) seed: Seed,
    pub(crate) len: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, seed: Seed) -> Result<Self, LogError> {
        let len = file.len().map_err(LogError::io("read", path))?;
        Ok(Self { file, path, seed, len })
    }
}

/// What a walk met.
#[derive(Debug)]
pub(crate) enum Step {
    /// A good group, which has been passed.
    Group,
    /// Something else, and what that is.
    Stop(String),
}

impl<'a> Walk<'a> {
    /// A walk from the beginning of a segment whose header gave `first` and `chain`.
    pub(crate) fn new(source: Source<'a>, epochs: &'a EpochHistory, first: Position, chain: Chain) -> Self {
        Self::resuming(source, epochs, HEAD_BYTES, first, chain)
    }

    /// A walk from the edge of two groups on, where position and chain are known.
    pub(crate) fn resuming(
        source: Source<'a>,
        epochs: &'a EpochHistory,
        at: u64,
        next: Position,
        chain: Chain,
    ) -> Self {
        Self {
            source,
            epochs,
            window: Window::default(),
            at,
            next,
            chain,
            starts: Vec::new(),
            passed: (at, next, 0),
            ignore_checksums: false,
        }
    }

    /// Passes the next group if it is a good one.
    pub(crate) fn step(&mut self) -> Result<Step, LogError> {
        let stop = |what: String| Ok(Step::Stop(what));
        let left = self.source.len.saturating_sub(self.at);
        if left < HEADER_BYTES as u64 {
            return stop("the file ends".into());
        }
        let bytes = self.window.bytes(&self.source, self.at, HEADER_BYTES)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return stop("expected a group, found zeros".into());
        }
        let header = match GroupHeader::decode(bytes, self.source.seed) {
            Ok(header) => header,
            Err(what) => return stop(what),
        };
        if header.first != self.next {
            return stop(format!(
                "expected the group of position {}, found that of {}",
                self.next, header.first
            ));
        }
        if self.epochs.at(header.first) != Some(header.epoch) {
            return stop(format!(
                "the group is of epoch {}, which did not write position {}",
                header.epoch.counter, header.first
            ));
        }
        if header.group_bytes() as u64 > left {
            return stop(format!("the group has {} bytes, the file only {left} more", header.group_bytes()));
        }
        let bytes = self.window.bytes(&self.source, self.at, header.group_bytes())?;
        let known = self.starts.len();
        let mut checked =
            group::check(bytes, &header, self.source.seed, Some(&self.chain), self.at, &mut self.starts);
        if self.ignore_checksums && checked.is_err() {
            self.starts.truncate(known);
            checked = Ok(group::trust(bytes, &header, self.at, &mut self.starts));
        }
        match checked {
            Ok(chain) => {
                self.passed = (self.at, header.first, known);
                self.at += bytes.len() as u64;
                self.next = header.last().next();
                self.chain = chain;
                Ok(Step::Group)
            }
            Err(what) => {
                self.starts.truncate(known);
                stop(what)
            }
        }
    }
}

impl Walk<'_> {
    /// The records of the group that was passed last.
    pub(crate) fn records(&mut self) -> Result<Vec<(Position, Bytes)>, LogError> {
        let (at, first, from) = self.passed;
        let group = Bytes::copy_from_slice(self.window.bytes(&self.source, at, (self.at - at) as usize)?);
        Ok(payloads(&group, at, first, &self.starts[from..]))
    }
}

/// The payloads of a checked group that lies at `at`.
fn payloads(group: &Bytes, at: u64, first: Position, starts: &[u32]) -> Vec<(Position, Bytes)> {
    let payload = |(i, start): (usize, &u32)| {
        let header = (u64::from(*start) - at) as usize;
        let from = header + RECORD_HEADER_BYTES;
        (first.plus(i as u64), group.slice(from..from + u32_at(group, header) as usize))
    };
    starts.iter().enumerate().map(payload).collect()
}

/// A group that is good by itself, found behind damage.
#[derive(Debug)]
pub(crate) struct Island {
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// The chain behind it, by its own word.
    pub(crate) chain: Chain,
    pub(crate) records: Vec<(Position, Bytes)>,
}

/// The first group at or behind `from` that is good by itself and holds only positions from `next` to `last`.
pub(crate) fn island(
    source: &Source<'_>,
    epochs: &EpochHistory,
    from: u64,
    next: Position,
    last: Option<Position>,
) -> Result<Option<Island>, LogError> {
    let mut window = Window::default();
    let mut at = from;
    while at + (HEADER_BYTES as u64) <= source.len {
        let bytes = (source.len - at).min(WINDOW_BYTES) as usize;
        let chunk = window.bytes(source, at, bytes)?;
        let candidates = (0..bytes).step_by(ALIGNMENT).filter(|i| chunk[*i..].starts_with(&group::MAGIC));
        let candidates: Vec<u64> = candidates.map(|i| at + i as u64).collect();
        for candidate in candidates {
            let found = lone_group(source, candidate)?;
            if let Some(found) = found
                && found.0.first >= next
                && last.is_none_or(|last| found.0.last() <= last)
                && epochs.at(found.0.first) == Some(found.0.epoch)
            {
                return Ok(Some(found.1));
            }
        }
        at += bytes.next_multiple_of(ALIGNMENT) as u64;
    }
    Ok(None)
}

/// The group at `at`, if there is one that is good but for the chain before it, which is not known.
fn lone_group(source: &Source<'_>, at: u64) -> Result<Option<(GroupHeader, Island)>, LogError> {
    let left = source.len - at;
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let read =
        |bytes: &mut [u8]| source.file.read_exact_at(bytes, at).map_err(LogError::io("read", source.path));
    let mut bytes = vec![0; HEADER_BYTES];
    read(&mut bytes)?;
    let Ok(header) = GroupHeader::decode(&bytes, source.seed) else {
        return Ok(None);
    };
    if header.group_bytes() as u64 > left {
        return Ok(None);
    }
    bytes.resize(header.group_bytes(), 0);
    read(&mut bytes)?;
    let mut starts = Vec::new();
    let Ok(chain) = group::check(&bytes, &header, source.seed, None, at, &mut starts) else {
        return Ok(None);
    };
    let group = Bytes::from(bytes);
    let island = Island {
        at,
        end: at + group.len() as u64,
        first: header.first,
        last: header.last(),
        chain,
        records: payloads(&group, at, header.first, &starts),
    };
    Ok(Some((header, island)))
}

/// What lies behind the last good group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Behind the last byte that is not zero, if there is one.
    pub(crate) nonzero_end: Option<u64>,
    /// A later group says that everything up to this position had been durable before it was written.
    pub(crate) claimed: Option<Position>,
}

/// Looks through everything from `from` on, where the group of `next` should stand.
pub(crate) fn rest(source: &Source<'_>, from: u64, next: Position) -> Result<Rest, LogError> {
    let mut rest = Rest::default();
    let mut window = Window::default();
    let mut at = from;
    while at < source.len {
        let bytes = (source.len - at).min(WINDOW_BYTES) as usize;
        let chunk = window.bytes(source, at, bytes)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            rest.nonzero_end = Some(at + last as u64 + 1);
            let candidates = (0..=last).step_by(ALIGNMENT);
            let candidates: Vec<u64> = candidates
                .filter(|i| chunk[*i..].starts_with(&group::MAGIC))
                .map(|i| at + i as u64)
                .collect();
            for candidate in candidates {
                if let Some(claimed) = claim(source, candidate, next)? {
                    rest.claimed = rest.claimed.max(Some(claimed));
                }
            }
        }
        at += bytes as u64;
    }
    Ok(rest)
}

/// Up to where a group's header at `at`, if that is one, vouches for `next` and positions behind it.
fn claim(source: &Source<'_>, at: u64, next: Position) -> Result<Option<Position>, LogError> {
    if source.len - at < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    let read = source.file.read_exact_at(&mut bytes, at);
    read.map_err(LogError::io("read", source.path))?;
    let header = GroupHeader::decode(&bytes, source.seed).ok();
    Ok(header.map(|header| header.synced_upto).filter(|upto| *upto >= next))
}

/// A piece of a file in memory.
#[derive(Debug, Default)]
struct Window {
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes `at..at + len`, which lie inside the file.
    fn bytes(&mut self, source: &Source<'_>, at: u64, len: usize) -> Result<&[u8], LogError> {
        let inside = at >= self.at && at + len as u64 <= self.at + self.bytes.len() as u64;
        if !inside {
            let bytes = (len as u64).max(WINDOW_BYTES.min(source.len - at));
            if self.bytes.len() < bytes as usize {
                self.bytes = vec![0; bytes as usize];
            }
            self.bytes.truncate(bytes as usize);
            self.at = at;
            source.file.read_exact_at(&mut self.bytes, at).map_err(LogError::io("read", source.path))?;
        }
        let from = (at - self.at) as usize;
        Ok(&self.bytes[from..from + len])
    }
}
