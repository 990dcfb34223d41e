//! The state of a simulated disk, and the two ways in: `change` and `look`.
//!
//! Every operation is counted and told by its site; the plan of faults decides whether it crashes or fails. Does not
//! know of locks between threads: the disk holds one around this.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, Entry},
    fault::{Action, Classify, Plan, ReadFault, Site},
    inode::{Inode, SECTOR_BYTES},
    random::Random,
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    pub(super) locks: BTreeMap<PathBuf, String>,
    /// Changing operations so far.
    pub(super) operations: u64,
    /// Reads so far.
    pub(super) reads: u64,
    pub(super) crashed: bool,
    pub(super) plan: Plan,
    pub(super) sectors_max: Option<u64>,
    pub(super) classify: Classify,
    pub(super) phase: &'static str,
    /// The newest operation that crashed or failed.
    pub(super) fault_site: Option<Site>,
    pub(super) trace: Option<BTreeMap<Site, u64>>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    random: Random,
}

/// A change of the disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'a> {
    CreateDirectory(&'a Path),
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
            reads: 0,
            crashed: false,
            plan: Plan::default(),
            sectors_max: None,
            classify: |_, _| "",
            phase: "",
            fault_site: None,
            trace: None,
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
        let site = self.site(operation);
        self.note(site);
        if self.plan.crashes(number, &site) {
            self.crashed = true;
            self.fault_site = Some(site);
            // What was about to be written may be among what a crash keeps; a sync has not happened.
            if !matches!(operation, Operation::Sync(_) | Operation::SyncDirectory(_)) {
                self.apply(operation)?;
            }
            return Err(crashed());
        }
        if let Some(kind) = self.plan.of_change(number, site.action) {
            self.fault_site = Some(site);
            self.apply_partly(operation);
            return Err(kind.into());
        }
        if self.plan.deaf_to.is_some_and(|deaf| deaf(&site)) {
            return Ok(0);
        }
        self.apply(operation)
    }

    /// Counts something that changes nothing, and says whether it may go on.
    pub(super) fn look(&mut self, action: Action, path: &Path) -> io::Result<()> {
        let place = (self.classify)(path, None);
        match self.read_fault(Site { phase: self.phase, action, place })? {
            Some(ReadFault::Error(kind)) => Err(kind.into()),
            Some(ReadFault::Misdirected) | None => Ok(()),
        }
    }

    pub(super) fn len(&mut self, inode: u64) -> io::Result<u64> {
        let path = std::mem::take(&mut self.inode(inode).path);
        let looked = self.look(Action::Look, &path);
        self.inode(inode).path = path;
        looked.map(|()| self.inode(inode).len())
    }

    /// Reads, perhaps less than was asked for, perhaps from somewhere else.
    pub(super) fn read(&mut self, inode: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let place = (self.classify)(&self.inodes[&inode].path, None);
        let fault = self.read_fault(Site { phase: self.phase, action: Action::Read, place })?;
        match fault {
            Some(ReadFault::Error(kind)) => return Err(kind.into()),
            Some(ReadFault::Misdirected) => {
                let count = self.inode(inode).read(buf, offset);
                let others: Vec<u64> = self.inodes.keys().copied().collect();
                let from = others[self.random.below(others.len() as u64) as usize];
                let sectors = self.inodes[&from].sectors().max(1);
                let elsewhere = self.random.below(sectors) * SECTOR_BYTES + offset % SECTOR_BYTES;
                self.inode(from).read(&mut buf[..count], elsewhere);
                return Ok(count);
            }
            None => {}
        }
        let mut wanted = buf.len();
        if self.plan.short_reads && wanted > 1 && self.random.below(3) == 0 {
            wanted = 1 + self.random.below(wanted as u64 - 1) as usize;
        }
        Ok(self.inode(inode).read(&mut buf[..wanted], offset))
    }

    fn read_fault(&mut self, site: Site) -> io::Result<Option<ReadFault>> {
        self.check_running()?;
        let number = self.reads;
        self.reads += 1;
        self.note(site);
        let fault = self.plan.of_read(number, &site);
        if fault.is_some() {
            self.fault_site = Some(site);
        }
        Ok(fault)
    }

    fn note(&mut self, site: Site) {
        if let Some(trace) = &mut self.trace {
            *trace.entry(site).or_default() += 1;
        }
    }

    fn site(&self, operation: Operation<'_>) -> Site {
        let of = |action, path: &Path, write| (action, (self.classify)(path, write));
        let of_inode = |action, inode: u64, write| of(action, &self.inodes[&inode].path, write);
        let (action, place) = match operation {
            Operation::CreateDirectory(path) => of(Action::CreateDirectory, path, None),
            Operation::Create(path) => of(Action::Create, path, None),
            Operation::Rename(_, to) => of(Action::Rename, to, None),
            Operation::Remove(path) => of(Action::Remove, path, None),
            Operation::SyncDirectory(path) => of(Action::SyncDirectory, path, None),
            Operation::Write(inode, data, offset) => of_inode(Action::Write, inode, Some((data, offset))),
            Operation::SetLen(inode, _) => of_inode(Action::SetLength, inode, None),
            Operation::Sync(inode) => of_inode(Action::Sync, inode, None),
        };
        Site { phase: self.phase, action, place }
    }

    fn apply(&mut self, operation: Operation<'_>) -> io::Result<u64> {
        match operation {
            Operation::CreateDirectory(path) => {
                self.directories.entry(path.to_owned()).or_default();
                Ok(0)
            }
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
            Operation::CreateDirectory(_)
            | Operation::Create(_)
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
        self.inodes.insert(inode, Inode::new(path.to_owned()));
        Ok(inode)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<u64> {
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let inode = self.find(from)?;
        to.clone_into(&mut self.inode(inode).path);
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
        self.inodes.values().any(Inode::is_unsynced) || directories.any(Directory::is_unsynced)
    }

    pub(super) fn after_power_loss(&self, mut random: Random) -> Self {
        let mut after = self.next_life(&mut random);
        for (path, directory) in &self.directories {
            let directory = directory.after_power_loss(&mut random);
            for (name, inode) in &directory.visible {
                let mut content = self.inodes[inode].after_power_loss(&mut random);
                content.path = path.join(name);
                after.inodes.insert(*inode, content);
            }
            after.directories.insert(path.clone(), directory);
        }
        after
    }

    pub(super) fn after_kill(&self, mut random: Random) -> Self {
        let mut after = self.next_life(&mut random);
        for inode in self.directories.values().flat_map(Directory::inodes) {
            let content = || self.inodes[&inode].after_kill(&mut random);
            after.inodes.entry(inode).or_insert_with(content);
        }
        after.directories.clone_from(&self.directories);
        after.sectors_max = self.sectors_max;
        after
    }

    /// An empty disk that goes on counting where this one stopped.
    fn next_life(&self, random: &mut Random) -> Self {
        Self {
            operations: self.operations,
            reads: self.reads,
            inode_next: self.inode_next,
            classify: self.classify,
            ..Self::new(Random::new(random.next()))
        }
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
