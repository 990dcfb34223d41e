//! The spare: a durable file of zeros that becomes the next segment.
//!
//! It has two purposes: a new segment costs no allocation, and recovery finds room for the tail that it must write
//! anew, also on a full disk. So the writer sees to it, before it writes a group, that the spare could take everything
//! that lies above the durable commit mark. Steps of publishing: header and mark (and groups) into the spare, sync,
//! rename to the segment's name, sync the directory. The last one is the commit point. Bytes of an interrupted attempt
//! are overwritten with zeros before the next.

use std::{io, ops::Range, path::Path};

use super::{
    Directory, LogError,
    epochs::EpochHistory,
    format::Seed,
    scan::{Source, Step, Walk},
    segment::{HEAD_BYTES, Mark, SegmentHeader},
};
use crate::{
    disk::{Access, File},
    sabotage::Sabotage,
};

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// The file, and what is known of it.
#[derive(Debug)]
pub(crate) struct Spare {
    file: Box<dyn File>,
    len: u64,
    /// All of it is zero and durable, its directory entry too.
    ready: bool,
}

/// Groups that a new segment begins with.
pub(crate) struct Tail<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) range: Range<u64>,
    /// The log's, which they must belong to.
    pub(crate) epochs: &'a EpochHistory,
}

/// The spare of a directory, if there is one.
#[derive(Debug)]
pub(crate) struct SpareSlot<'a> {
    directory: &'a Directory,
    spare: &'a mut Option<Spare>,
}

impl Spare {
    /// The spare that an earlier opening left.
    pub(crate) fn find(directory: &Directory) -> Result<Option<Self>, LogError> {
        let path = directory.spare();
        let file = match directory.disk().open(&path, Access::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("open", &path)(error)),
        };
        let len = file.len().map_err(LogError::io("read", &path))?;
        Ok(Some(Self { file, len, ready: false }))
    }
}

impl<'a> SpareSlot<'a> {
    pub(crate) fn new(directory: &'a Directory, spare: &'a mut Option<Spare>) -> Self {
        Self { directory, spare }
    }

    /// Bytes of room that `reserve` would have to find for a spare of this size.
    pub(crate) fn missing_bytes(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.spare.as_ref().map_or(0, |spare| spare.len))
    }

    /// Sees to it that there is a spare of at least `bytes` zeros. `DiskFull` if there is no room.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        let path = self.directory.spare();
        if self.spare.is_none() {
            let created = self.directory.disk().create_new(&path);
            let file = created.map_err(|error| self.directory.refusal("create", &path, bytes, error))?;
            *self.spare = Some(Spare { file, len: 0, ready: false });
        }
        let spare = self.spare.as_mut().expect("it was created above");
        if spare.ready && spare.len >= bytes {
            return Ok(());
        }
        let from = if spare.ready { spare.len } else { 0 };
        spare.ready = false;
        let len = spare.len.max(bytes);
        let file = &*spare.file;
        self.directory.write_zeros(file, &path, from, len)?;
        self.directory.sync_file(file, &path)?;
        self.directory.sync()?;
        spare.len = len;
        spare.ready = true;
        Ok(())
    }

    /// Makes the spare a segment with this header, with the groups of `tail` if there are any. `mark` vouches for all
    /// of it. Gives the segment's file and its length; all behind the groups is zero.
    pub(crate) fn publish(
        &mut self,
        header: &SegmentHeader,
        mark: &Mark,
        tail: Option<Tail<'_>>,
    ) -> Result<(Box<dyn File>, u64), LogError> {
        let path = self.directory.spare();
        let spare = self.spare.as_mut().expect("a spare was reserved");
        assert!(spare.ready && spare.len >= mark.offset, "the spare was not reserved for this");
        spare.ready = false;
        let file = &*spare.file;
        let written = file.write_all_at(&header.encode(), 0);
        written.map_err(LogError::io("write", &path))?;
        mark.write(file, &path, Seed::new(header.log_id), header.first)?;
        if let Some(tail) = &tail {
            copy(tail.source, tail.range.clone(), file).map_err(LogError::io("write", &path))?;
            check_copy(file, &path, header, mark, tail.epochs)?;
        }
        if !self.directory.is_sabotaged(Sabotage::PublishBeforeSync) {
            self.directory.sync_file(file, &path)?;
        }
        let name = self.directory.segment(header.first);
        let renamed = self.directory.disk().rename(&path, &name);
        renamed.map_err(LogError::io("rename to a segment", &path))?;
        self.directory.sync()?;
        let spare = self.spare.take().expect("it is there");
        Ok((spare.file, spare.len))
    }
}

/// The groups were checked when they were read first. They were read again to be copied, and the mark is about to
/// vouch for what that gave.
fn check_copy(
    file: &dyn File,
    path: &Path,
    header: &SegmentHeader,
    mark: &Mark,
    epochs: &EpochHistory,
) -> Result<(), LogError> {
    let source = Source::new(file, path, Seed::new(header.log_id))?;
    let mut walk = Walk::new(source, epochs, header.first, header.chain);
    while walk.at < mark.offset {
        if let Step::Stop(what) = walk.step()? {
            let what =
                format!("the groups to keep are not what they were when they were read before: {what}");
            return Err(LogError::io("copy groups to", path)(io::Error::new(
                io::ErrorKind::InvalidData,
                what,
            )));
        }
    }
    Ok(())
}

fn copy(source: &Source<'_>, mut range: Range<u64>, to: &dyn File) -> io::Result<()> {
    let mut at = HEAD_BYTES;
    let mut buffer = Vec::new();
    while range.start < range.end {
        buffer.resize((range.end - range.start).min(COPY_BYTES) as usize, 0);
        source.file.read_exact_at(&mut buffer, range.start)?;
        to.write_all_at(&buffer, at)?;
        range.start += buffer.len() as u64;
        at += buffer.len() as u64;
    }
    Ok(())
}
