//! A cut through a log that is being written: what a copy of it up to the durable head consists of.
//!
//! Sealed segments never change and are copied as they are. Of the newest one there are the bytes up to the head, under a mark that
//! vouches for them; the copy then opens like a log that was stopped there. A segment's name in a copy says all that it holds
//! (positions, and the chain behind them), so that equal names mean equal events. Invariant: nothing that is copied is above the
//! durable head. Does not know where copies go.

use std::{fmt::Write as _, path::PathBuf};

use uuid::Uuid;

use super::{
    LogError, LogReader,
    epochs::EpochStart,
    format::Chain,
    manifest::Manifest,
    scan::{Source, Step, Walk},
    segment::{self, HEAD_BYTES, Mark},
};
use crate::{
    disk::{Access, File},
    event::Position,
};

/// A log as it was at one moment.
#[derive(Debug)]
pub struct LogCut {
    /// The log's identity.
    pub log_id: Uuid,
    /// Where it begins.
    pub first: Position,
    /// Its last position then.
    pub head: Position,
    /// The epochs that it has.
    pub epochs: Vec<EpochStart>,
    /// The chain behind the head.
    pub chain: Chain,
    /// The bytes of its manifest.
    pub manifest: Vec<u8>,
    /// Its segments, ascending; none if it is empty.
    pub segments: Vec<SegmentCut>,
}

/// One segment of a cut.
#[derive(Debug, Clone)]
pub struct SegmentCut {
    /// Its first position.
    pub first: Position,
    /// The last one that belongs to the cut.
    pub last: Position,
    /// The chain behind that.
    pub chain: Chain,
    /// Bytes of the copy.
    pub bytes: u64,
    path: PathBuf,
    /// What stands at the beginning of the copy in place of what the file has there.
    head: Option<Vec<u8>>,
}

/// A segment of a cut, open to be copied.
#[derive(Debug)]
pub struct SegmentBytes {
    cut: SegmentCut,
    file: Box<dyn File>,
}

impl SegmentCut {
    /// What it is called in a copy.
    pub fn name(&self) -> String {
        let mut name = format!("{:020}-{:020}-", self.first.get(), self.last.get());
        for byte in self.chain {
            write!(name, "{byte:02x}").expect("a string takes all text");
        }
        name + ".log"
    }
}

impl SegmentBytes {
    /// Fills `buffer` with the copy's bytes from `offset` on; fewer at its end.
    pub fn read(&self, offset: u64, buffer: &mut Vec<u8>, max: usize) -> Result<(), LogError> {
        let len = self.cut.bytes.saturating_sub(offset).min(max as u64) as usize;
        buffer.clear();
        buffer.resize(len, 0);
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(LogError::io("read", &self.cut.path))?;
        if let Some(head) = &self.cut.head
            && let Some(head) = head.get(offset as usize..)
        {
            let len = head.len().min(buffer.len());
            buffer[..len].copy_from_slice(&head[..len]);
        }
        Ok(())
    }
}

impl LogReader {
    /// The log as it is now, for a copy of the node of this name. Reads the newest segment.
    pub fn cut(&self, node: &str) -> Result<LogCut, LogError> {
        let shared = self.shared();
        // The head first: the catalog then has all of it.
        let head = self.head();
        let catalog = shared.catalog();
        let mut firsts: Vec<Position> = catalog
            .sealed
            .iter()
            .copied()
            .chain([catalog.active.first])
            .filter(|first| *first <= head)
            .collect();
        let newest = firsts.pop();
        let mut segments = Vec::with_capacity(firsts.len() + 1);
        for (i, first) in firsts.iter().enumerate() {
            let next = firsts.get(i + 1).copied().or(newest).expect("a segment follows");
            segments.push(self.sealed_cut(*first, next)?);
        }
        if let Some(newest) = newest {
            segments.push(self.newest_cut(newest, head)?);
        }
        let epochs = shared.epochs();
        let manifest = Manifest {
            log_id: self.log_id(),
            first: self.first_position(),
            node: node.to_owned(),
            epochs: epochs.clone(),
        };
        Ok(LogCut {
            log_id: self.log_id(),
            first: self.first_position(),
            head,
            epochs: epochs.starts().to_vec(),
            chain: segments.last().map_or_else(|| super::format::genesis(self.log_id()), |last| last.chain),
            manifest: manifest.encode(),
            segments,
        })
    }

    /// Opens a segment of a cut to be copied.
    pub fn open_cut(&self, cut: &SegmentCut) -> Result<SegmentBytes, LogError> {
        let file = self.shared().directory().disk().open(&cut.path, Access::Read);
        Ok(SegmentBytes { file: file.map_err(LogError::io("open", &cut.path))?, cut: cut.clone() })
    }

    /// A segment that another one follows; its end is what that one continues.
    fn sealed_cut(&self, first: Position, next: Position) -> Result<SegmentCut, LogError> {
        let shared = self.shared();
        let (_, header) = segment::open(shared.directory(), self.log_id(), next, Access::Read)?;
        let path = shared.directory().segment(first);
        let file =
            shared.directory().disk().open(&path, Access::Read).map_err(LogError::io("open", &path))?;
        Ok(SegmentCut {
            first,
            last: Position::new(next.get() - 1),
            chain: header.chain,
            bytes: file.len().map_err(LogError::io("read", &path))?,
            path,
            head: None,
        })
    }

    /// The segment that the head is in, as if the log had been stopped there.
    fn newest_cut(&self, first: Position, head: Position) -> Result<SegmentCut, LogError> {
        let shared = self.shared();
        let (file, header) = segment::open(shared.directory(), self.log_id(), first, Access::Read)?;
        let path = shared.directory().segment(first);
        let source = Source::new(&*file, &path, shared.seed())?;
        let mut walk = Walk::new(source, shared.epochs(), first, header.chain);
        while walk.next <= head {
            if let Step::Stop(what) = walk.step()? {
                return Err(LogError::corrupt(&path, walk.at, (walk.next, Some(head)), what));
            }
            // Where records begin is of no use here.
            walk.starts.clear();
        }
        assert_eq!(walk.next, head.next(), "the head is the end of a group");
        let mark = Mark { sequence: 0, offset: walk.at, last: head, chain: walk.chain };
        let mut bytes = vec![0; HEAD_BYTES as usize];
        segment::write_head(&mut bytes, &header, &mark, shared.seed());
        Ok(SegmentCut { first, last: head, chain: walk.chain, bytes: walk.at, path, head: Some(bytes) })
    }
}
