//! Storage that writes behind: a sync is a barrier that returns at once, and what lies before it reaches the disk before
//! anything behind it.
//!
//! For files that only have to be whole after a crash, not up to date: redb's commits rely on the order of what is before
//! and behind a sync, and nobody waits for it to be durable. So a durable commit holds up no reader and no writer, and
//! writes go out sorted, in long pieces. Invariants: the disk has all of some barriers, and any part of what was written
//! behind the last of them; reads see every write; memory is bounded, and a writer that is too far ahead waits. After a
//! failed write or sync nothing is written any more, and everything fails. Closing waits for all of it. Without a thread,
//! whoever calls does the work, which is how the simulator drives it. Does not know what is stored.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use foldhash::fast::RandomState;
use redb::StorageBackend;

use crate::{
    disk::File,
    limits::{BEHIND_PIECE_BYTES_MAX, BEHIND_PIECES_MAX},
};

use super::overlay::by_page;

const BLOCK_BYTES: u64 = 4_096;
/// Pieces that what is on its way has room for, so that the next one fills while one is written.
const PIECES_MIN: usize = 4;
/// How long somebody waits for the thread before looking whether it is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Blocks = HashMap<u64, Block, RandomState>;
type Block = Box<[u8; BLOCK_BYTES as usize]>;

/// A file, and what is on its way to it.
#[derive(Debug)]
pub(super) struct Behind {
    shared: Arc<Shared>,
    /// On their way at the most.
    blocks_max: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    file: Box<dyn File>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is not in the file yet.
#[derive(Debug, Default)]
struct Queue {
    /// Written since the last piece was closed.
    open: Blocks,
    /// Oldest first; the first may be on its way.
    closed: VecDeque<Arc<Piece>>,
    blocks: usize,
    failure: Option<String>,
    closing: bool,
}

/// Blocks by their numbers, to be written together.
#[derive(Debug)]
struct Piece {
    blocks: Blocks,
    /// It ends at a barrier.
    synced: bool,
}

impl Behind {
    /// Over a file, with a thread that writes.
    pub(super) fn start(file: Box<dyn File>, bytes_max: usize) -> io::Result<Self> {
        let behind = Self::new(file, bytes_max);
        let shared = Arc::clone(&behind.shared);
        let thread = thread::Builder::new().name("write-behind".into()).spawn(move || shared.run())?;
        *behind.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(behind)
    }

    /// Over a file, without a thread.
    pub(super) fn new(file: Box<dyn File>, bytes_max: usize) -> Self {
        let shared = Shared { file, queue: Mutex::default(), changed: Condvar::new() };
        let blocks_max = bytes_max / BLOCK_BYTES as usize;
        Self { shared: Arc::new(shared), blocks_max, thread: Mutex::new(None) }
    }

    /// Writes and syncs the oldest piece; false if there is none.
    #[cfg(test)]
    pub(super) fn pump(&self) -> bool {
        self.shared.write_oldest()
    }

    /// Waits until there is room for more.
    fn wait_for_room(&self) -> io::Result<()> {
        self.wait_until(|queue| queue.blocks <= self.blocks_max && queue.closed.len() <= BEHIND_PIECES_MAX)
    }

    /// Waits until everything is written, and synced where a barrier says so.
    fn drain(&self) -> io::Result<()> {
        self.shared.lock().close_piece(false);
        self.shared.changed.notify_all();
        self.wait_until(|_| false)
    }

    /// Waits until something holds, or nothing is on its way.
    fn wait_until(&self, holds: impl Fn(&Queue) -> bool) -> io::Result<()> {
        loop {
            // A thread that broke an invariant writes nothing any more: then whoever waits does.
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            let threaded = thread.as_ref().is_some_and(|thread| !thread.is_finished());
            drop(thread);
            let queue = self.shared.lock();
            queue.check()?;
            if queue.closed.is_empty() || holds(&queue) {
                return Ok(());
            }
            if threaded {
                drop(
                    self.shared
                        .changed
                        .wait_timeout(queue, LOOK_AGAIN)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            } else {
                drop(queue);
                self.shared.write_oldest();
            }
        }
    }
}

impl StorageBackend for Behind {
    fn len(&self) -> io::Result<u64> {
        self.shared.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.shared.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // What is on its way may lie behind the new end.
        self.drain()?;
        let shared = &self.shared;
        let set = shared.file.set_len(len).and_then(|()| shared.file.sync_data());
        set.inspect_err(|error| shared.lock().fail(error))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut queue = self.shared.lock();
        queue.check()?;
        queue.close_piece(true);
        drop(queue);
        self.shared.changed.notify_all();
        self.wait_for_room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut queue = self.shared.lock();
        queue.check()?;
        for (number, at, piece) in by_page(offset, data.len()) {
            if piece.len() < BLOCK_BYTES as usize && !queue.open.contains_key(&number) {
                // Only the header is shorter than a block.
                let mut block = Box::new([0; BLOCK_BYTES as usize]);
                self.shared.read_block(&queue, number, &mut block)?;
                queue.put(number, block);
            }
            if let Some(block) = queue.open.get_mut(&number) {
                block[at..at + piece.len()].copy_from_slice(&data[piece]);
            } else {
                let mut block = Box::new([0; BLOCK_BYTES as usize]);
                block.copy_from_slice(&data[piece]);
                queue.put(number, block);
            }
        }
        let piece_blocks = BEHIND_PIECE_BYTES_MAX / BLOCK_BYTES as usize;
        if queue.open.len() < piece_blocks.min(self.blocks_max / PIECES_MIN) {
            return Ok(());
        }
        queue.close_piece(false);
        drop(queue);
        self.shared.changed.notify_all();
        self.wait_for_room()
    }

    fn close(&self) -> io::Result<()> {
        let drained = self.drain();
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            return Err(io::Error::other("the thread that writes behind panicked"));
        }
        drained
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::debug!(%error, "what was on its way to a file is lost, and will be made again");
        }
    }
}

impl Queue {
    fn put(&mut self, number: u64, block: Block) {
        if self.open.insert(number, block).is_none() {
            self.blocks += 1;
        }
    }

    fn close_piece(&mut self, synced: bool) {
        if synced || !self.open.is_empty() {
            let blocks = std::mem::take(&mut self.open);
            self.closed.push_back(Arc::new(Piece { blocks, synced }));
        }
    }

    /// The newest form of a block that is not in the file.
    fn newest(&self, number: u64) -> Option<&Block> {
        let closed = || self.closed.iter().rev().find_map(|piece| piece.blocks.get(&number));
        self.open.get(&number).or_else(closed)
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(io::Error::other(failure.clone())),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failure.get_or_insert_with(|| format!("an earlier write of this file failed: {error}"));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes pieces until the file is closed.
    fn run(&self) {
        loop {
            let mut queue = self.lock();
            while queue.closed.is_empty() || queue.failure.is_some() {
                if queue.closing {
                    return;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            drop(queue);
            self.write_oldest();
        }
    }

    fn write_oldest(&self) -> bool {
        let Some(piece) = self.lock().closed.front().cloned() else { return false };
        let written = self.write_piece(&piece);
        let mut queue = self.lock();
        match written {
            Ok(()) => {
                queue.closed.pop_front();
                queue.blocks -= piece.blocks.len();
            }
            Err(error) => queue.fail(&error),
        }
        let fine = queue.failure.is_none();
        drop(queue);
        self.changed.notify_all();
        fine
    }

    fn write_piece(&self, piece: &Piece) -> io::Result<()> {
        let mut numbers: Vec<u64> = piece.blocks.keys().copied().collect();
        numbers.sort_unstable();
        let mut bytes = Vec::new();
        for row in numbers.chunk_by(|one, next| one + 1 == *next) {
            bytes.clear();
            for number in row {
                bytes.extend_from_slice(&piece.blocks[number][..]);
            }
            self.file.write_all_at(&bytes, row[0] * BLOCK_BYTES)?;
        }
        if piece.synced { self.file.sync_data() } else { Ok(()) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let queue = self.lock();
        queue.check()?;
        if queue.blocks == 0 {
            drop(queue);
            return self.file.read_exact_at(out, offset);
        }
        let mut in_file: Option<std::ops::Range<usize>> = None;
        let mut missing = Vec::new();
        for (number, at, piece) in by_page(offset, out.len()) {
            if let Some(block) = queue.newest(number) {
                let bytes = piece.len();
                out[piece].copy_from_slice(&block[at..at + bytes]);
                continue;
            }
            match &mut in_file {
                Some(row) if row.end == piece.start => row.end = piece.end,
                _ => missing.extend(in_file.replace(piece)),
            }
        }
        missing.extend(in_file);
        // What is not on its way is in the file, and stays as it is while somebody reads it.
        drop(queue);
        missing.into_iter().try_for_each(|row| {
            let at = offset + row.start as u64;
            self.file.read_exact_at(&mut out[row], at)
        })
    }

    fn read_block(&self, queue: &Queue, number: u64, block: &mut Block) -> io::Result<()> {
        if let Some(newest) = queue.newest(number) {
            block.copy_from_slice(&newest[..]);
        } else {
            let offset = number * BLOCK_BYTES;
            let there = self.file.len()?.saturating_sub(offset).min(BLOCK_BYTES) as usize;
            self.file.read_exact_at(&mut block[..there], offset)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
