//! The state of a simulated disk and the one function that changes it.
//!
//! Every change goes through `State::change`, which counts it and decides whether it crashes or fails. Does not know
//! of locks between threads: the disk holds one around this.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    Directory, Entry,
    inode::{Inode, SECTOR_BYTES},
    random::Random,
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    pub(super) locks: BTreeMap<PathBuf, String>,
    pub(super) operations: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) faults: BTreeMap<u64, io::ErrorKind>,
    pub(super) sync_fault: Option<(u64, io::ErrorKind)>,
    pub(super) sectors_max: Option<u64>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    random: Random,
}

/// A change of the disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'a> {
    Create(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    SyncDirectory(&'a Path),
    Write(u64, &'a [u8], u64),
    SetLen(u64, u64),
    Sync(u64),
}

impl State {
    pub(super) fn new(random: Random) -> Self {
        Self {
            directories: BTreeMap::new(),
            locks: BTreeMap::new(),
            operations: 0,
            crash_at: None,
            crashed: false,
            faults: BTreeMap::new(),
            sync_fault: None,
            sectors_max: None,
            inodes: BTreeMap::new(),
            inode_next: 0,
            random,
        }
    }

    /// Counts the operation and carries it out, in full, in part, or not at all. Gives the inode created.
    pub(super) fn change(&mut self, operation: Operation<'_>) -> io::Result<u64> {
        self.check_running()?;
        let number = self.operations;
        self.operations += 1;
        if self.crash_at.is_some_and(|crash| crash <= number) {
            self.crashed = true;
            // What was about to be written may be among what a crash keeps; a sync has not happened.
            if !matches!(operation, Operation::Sync(_) | Operation::SyncDirectory(_)) {
                self.apply(operation)?;
            }
            return Err(crashed());
        }
        let mut fault = self.faults.remove(&number);
        if matches!(operation, Operation::Sync(_)) && fault.is_none() {
            let due = self.sync_fault.take_if(|(from, _)| *from <= number);
            fault = due.map(|(_, kind)| kind);
        }
        match fault {
            Some(kind) => {
                self.apply_partly(operation);
                Err(kind.into())
            }
            None => self.apply(operation),
        }
    }

    fn apply(&mut self, operation: Operation<'_>) -> io::Result<u64> {
        match operation {
            Operation::Create(path) => self.create(path),
            Operation::Rename(from, to) => self.rename(from, to),
            Operation::Remove(path) => {
                self.find(path)?;
                let (directory, name) = self.place(path)?;
                directory.change(Entry::Removed(name));
                Ok(0)
            }
            Operation::SyncDirectory(dir) => {
                let directory = self.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
                directory.sync();
                Ok(0)
            }
            Operation::Write(inode, data, offset) => self.write(inode, data, offset),
            Operation::SetLen(inode, len) => {
                self.check_space(inode, len)?;
                self.inode(inode).set_len(len);
                Ok(0)
            }
            Operation::Sync(inode) => {
                self.inode(inode).sync();
                Ok(0)
            }
        }
    }

    /// What an operation leaves behind that the system answered with an error.
    fn apply_partly(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Write(inode, data, offset) => {
                let bytes = self.random.below(data.len() as u64 + 1) as usize;
                let mut random = Random::new(self.random.next());
                self.inode(inode).write(&data[..bytes], offset, &mut random);
            }
            Operation::Sync(inode) => {
                let mut random = Random::new(self.random.next());
                self.inode(inode).fail_sync(&mut random);
            }
            Operation::Create(_)
            | Operation::Rename(..)
            | Operation::Remove(_)
            | Operation::SyncDirectory(_)
            | Operation::SetLen(..) => {}
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.inode_next;
        let (directory, name) = self.place(path)?;
        directory.change(Entry::Created(name, inode));
        self.inode_next += 1;
        self.inodes.insert(inode, Inode::default());
        Ok(inode)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<u64> {
        assert_eq!(from.parent(), to.parent(), "the simulated disk renames inside one directory");
        let inode = self.find(from)?;
        let (_, to) = self.place(to)?;
        let (directory, from) = self.place(from)?;
        directory.change(Entry::Renamed(from, to, inode));
        Ok(inode)
    }

    fn write(&mut self, inode: u64, data: &[u8], offset: u64) -> io::Result<u64> {
        let fits = self.check_space(inode, offset + data.len() as u64);
        let mut written = data;
        if fits.is_err() {
            // The part that still finds room is written.
            let len_max = (self.inodes[&inode].sectors() + self.free_sectors()) * SECTOR_BYTES;
            written = &data[..data.len().min(len_max.saturating_sub(offset) as usize)];
        }
        let mut random = Random::new(self.random.next());
        self.inode(inode).write(written, offset, &mut random);
        fits.map(|()| 0)
    }

    fn check_space(&mut self, inode: u64, len: u64) -> io::Result<()> {
        let more = len.div_ceil(SECTOR_BYTES).saturating_sub(self.inodes[&inode].sectors());
        if more > 0 && more > self.free_sectors() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn free_sectors(&self) -> u64 {
        self.sectors_max.map_or(u64::MAX, |max| max.saturating_sub(self.used_sectors()))
    }

    pub(super) fn used_sectors(&self) -> u64 {
        let inodes = self.directories.values().flat_map(|directory| directory.visible.values());
        inodes.map(|inode| self.inodes[inode].sectors()).sum()
    }

    pub(super) fn has_unsynced(&self) -> bool {
        let mut directories = self.directories.values();
        self.inodes.values().any(Inode::is_unsynced) || directories.any(|d| !d.unsynced.is_empty())
    }

    pub(super) fn after_power_loss(&self, mut random: Random) -> Self {
        let mut after = Self::new(Random::new(random.next()));
        for (path, directory) in &self.directories {
            let directory = directory.after_power_loss(&mut random);
            for inode in directory.visible.values() {
                let content = self.inodes[inode].after_power_loss(&mut random);
                after.inodes.insert(*inode, content);
            }
            after.directories.insert(path.clone(), directory);
        }
        after.inode_next = self.inode_next;
        after
    }

    pub(super) fn after_kill(&self, mut random: Random) -> Self {
        let mut after = Self::new(Random::new(random.next()));
        for (inode, content) in &self.inodes {
            after.inodes.insert(*inode, content.after_kill(&mut random));
        }
        after.directories.clone_from(&self.directories);
        after.inode_next = self.inode_next;
        after.sectors_max = self.sectors_max;
        after
    }

    pub(super) fn check_running(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an inode lives as long as its disk")
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().and_then(|name| name.to_str());
        let directory = self.directories.get(dir).ok_or(io::ErrorKind::NotFound)?;
        let inode = name.and_then(|name| directory.visible.get(name));
        Ok(*inode.ok_or(io::ErrorKind::NotFound)?)
    }

    fn place(&mut self, path: &Path) -> io::Result<(&mut Directory, String)> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let directory = self.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok((directory, name))
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}
