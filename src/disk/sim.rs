//! A simulated disk: in memory, by seed, and as unkind as the crash contract of the seam allows.
//!
//! Owns the model: files with a cached and a durable content, directories with a visible and a durable listing, counters
//! of changes and reads, a crash at any change, and faults of any operation. After a crash point every call fails and
//! the state stands still; `crash` then gives the disk as it is after power loss, `kill` as a new process finds it when
//! only the old process died; both go on counting. A failed sync keeps some sectors, loses the others, and calls all of
//! them clean ("fsyncgate"): they read back as written until the cache lets go of them.
//!
//! Deliberately does not know who its users are: they say what a path holds (`classify`) and what they are about
//! (`enter`), and every operation is told by its `Site`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Access, Disk, File, LockGuard};

mod content;
mod directory;
mod fault;
mod inode;
mod random;
mod state;

pub use fault::{Action, Classify, Site};
use random::Random;
use state::{Operation, State};

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk; `seed` decides what failing operations leave behind.
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(Random::new(seed)))
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many changing operations (writes, lengths, syncs, creations, renames, removals) there have been.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many reads (reads, openings, questions) there have been.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// From now on sites are told by these names.
    pub fn classify(&self, classify: Classify) {
        self.lock().classify = classify;
    }

    /// From now on operations belong to this phase of their user's life.
    pub fn enter(&self, phase: &'static str) {
        self.lock().phase = phase;
    }

    /// Stops the machine at the changing operation of this number, counted from 0 over all lives of this disk: it and
    /// all later calls fail, whatever it had to write stays unsynced.
    pub fn crash_at(&self, operation: u64) {
        self.lock().plan.crash_at = Some(operation);
    }

    /// Stops the machine at a changing operation of this site, after letting so many of them pass.
    pub fn crash_at_site(&self, site: Site, passed: u64) {
        self.lock().plan.crash_at_site = Some((site, passed));
    }

    /// Whether the crash point has been reached.
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The newest operation that crashed or failed by plan.
    pub fn fault_site(&self) -> Option<Site> {
        self.lock().fault_site
    }

    /// Counts the operations of every site from now on.
    pub fn trace(&self) {
        self.lock().trace = Some(BTreeMap::new());
    }

    /// The operations of every site since `trace`.
    pub fn traced(&self) -> BTreeMap<Site, u64> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// Lets the changing operation of this number fail with an error of this kind, once. A write leaves a part of its
    /// bytes behind; a sync loses sectors for good and calls them clean.
    pub fn fail_at(&self, operation: u64, kind: io::ErrorKind) {
        self.lock().plan.once.insert(operation, kind);
    }

    /// Lets every changing operation from this number on fail, as `fail_at` would.
    pub fn fail_from(&self, operation: u64, kind: io::ErrorKind) {
        self.lock().plan.always_from = Some((operation, kind));
    }

    /// Lets the first sync of a file fail that comes at or after this operation, as `fail_at` would.
    pub fn fail_sync_from(&self, operation: u64, kind: io::ErrorKind) {
        self.lock().plan.sync_from = Some((operation, kind));
    }

    /// Lets the read of this number fail, once.
    pub fn fail_read_at(&self, read: u64, kind: io::ErrorKind) {
        self.lock().plan.reads.insert(read, kind);
    }

    /// Lets every read from this number on fail.
    pub fn fail_reads_from(&self, read: u64, kind: io::ErrorKind) {
        self.lock().plan.reads_from = Some((read, kind));
    }

    /// Lets one read at or after this number give the bytes of another place of the disk, if what is read is one of
    /// these.
    pub fn misdirect_read_from(&self, read: u64, places: fn(&str) -> bool) {
        self.lock().plan.misdirected = Some((read, places));
    }

    /// From now on reads may give fewer bytes than were asked for.
    pub fn shorten_reads(&self) {
        self.lock().plan.short_reads = true;
    }

    /// From now on operations of these sites are answered as if they were done, and are not: a program that leaves
    /// them out.
    pub fn ignore(&self, sites: fn(&Site) -> bool) {
        self.lock().plan.deaf_to = Some(sites);
    }

    /// From now on this many bytes more can be allocated; `None` lifts the bound.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        let mut state = self.lock();
        let used = state.used_sectors();
        state.sectors_max = bytes.map(|bytes| used + bytes / inode::SECTOR_BYTES);
    }

    /// Whether there are writes that no sync has covered.
    pub fn has_unsynced(&self) -> bool {
        self.lock().has_unsynced()
    }

    /// The disk after power loss: of what was not synced, `seed` decides what is left. Nothing here changes.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Self::with(self.lock().after_power_loss(Random::new(seed)))
    }

    /// The disk as the next process finds it after this one was killed: the cache is still there, except that sectors
    /// which a failed sync lost may be read anew from the medium. Nothing here changes.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        Self::with(self.lock().after_kill(Random::new(seed)))
    }

    /// Turns over one bit of a file, in the cache and on the medium: damage by the medium.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.find(path)?;
        state.inode(inode).flip_bit(bit);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: u64, access: Access) -> Box<dyn File> {
        Box::new(SimFile { disk: self.clone(), inode, access })
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_running()?;
        let missing: Vec<&Path> =
            dir.ancestors().filter(|dir| !state.directories.contains_key(*dir)).collect();
        for dir in missing.into_iter().rev() {
            state.change(Operation::CreateDirectory(dir))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.look(Action::Open, path)?;
        Ok(self.file(state.find(path)?, access))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.lock().change(Operation::Create(path))?;
        Ok(self.file(inode, Access::ReadWrite))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().change(Operation::Rename(from, to)).map(drop)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.lock().change(Operation::Remove(path)).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.look(Action::Look, dir)?;
        let directory = state.directories.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(directory.visible.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.lock();
        state.look(Action::Look, path)?;
        Ok(state.directories.contains_key(path) || state.find(path).is_ok())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock().change(Operation::SyncDirectory(dir)).map(drop)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let mut state = self.lock();
        state.look(Action::Look, dir)?;
        state.directories.get(dir).ok_or(io::ErrorKind::NotFound)?;
        let free = |sectors: u64| sectors.saturating_sub(state.used_sectors()) * inode::SECTOR_BYTES;
        Ok(state.sectors_max.map_or(u64::MAX, free))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockGuard>> {
        let mut state = SimDisk::lock(self);
        state.check_running()?;
        if let Some(holder) = state.locks.get(path) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, holder.clone()));
        }
        state.locks.insert(path.to_owned(), holder.to_owned());
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        // One holder at a time is enough for a simulation, and a lock leaves no file here.
        Disk::lock(self, path, "a process that reads").map(Some)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    access: Access,
}

impl SimFile {
    fn change(&self, operation: Operation<'_>) -> io::Result<()> {
        if self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.lock().change(operation).map(drop)
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.lock().len(self.inode)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.lock().read(self.inode, buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(Operation::Write(self.inode, data, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Operation::SetLen(self.inode, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Operation::Sync(self.inode))
    }
}

#[cfg(test)]
mod tests;
