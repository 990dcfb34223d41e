//! Events like those of `outrigger bench`, and a disk that forgets to sync.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use outrigger::{
    cli::bench::{random::Random, zipf::Zipf},
    disk::{Access, Disk, File, LockGuard, real::RealDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Tag},
};

const TYPES: [&str; 5] = ["order.placed", "order.paid", "order.packed", "order.shipped", "order.closed"];

/// A source of events: 10,000 streams by Zipf's law, 2 tags, 256 bytes of data.
pub(crate) struct Source {
    random: Random,
    zipf: Zipf,
    count: u64,
}

impl Source {
    /// A source whose ids no other source gives.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let random = Random::new(1, NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { random, zipf: Zipf::new(10_000), count: 0 }
    }

    pub(crate) fn event(&mut self) -> Event {
        let random = &mut self.random;
        let mut data = vec![b'"'; 256];
        random.fill_base64(&mut data[1..255]);
        let order = self.count / 10_000 * 100 + self.count % 100;
        self.count += 1;
        Event {
            id: EventId::from_slice(&random.id()).unwrap(),
            event_type: EventType::parse(TYPES[random.below(5) as usize]).unwrap(),
            stream: StreamId::parse(&format!("stream-{:05}", self.zipf.choose(random))).unwrap(),
            tags: vec![customer(u64::from(self.zipf.choose(random))), order_tag(order)],
            data: Bytes::from(data),
            metadata: None,
            time_unix_nanos: None,
        }
    }

    pub(crate) fn events(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.event()).collect()
    }

    /// Events as the log holds them, behind `after`. Revisions are not those of their streams.
    pub(crate) fn recorded(&mut self, after: u64, count: usize) -> Vec<RecordedEvent> {
        let recorded = |(position, event)| RecordedEvent {
            position: Position::new(position),
            revision: Revision::new(position),
            recorded_at_unix_nanos: 1_700_000_000_000_000_000,
            event,
            tracking: None,
            origin: None,
            cursor: None,
        };
        (after + 1..).zip(self.events(count)).map(recorded).collect()
    }
}

pub(crate) fn customer(number: u64) -> Tag {
    Tag::parse(&format!("customer-{number:05}")).unwrap()
}

pub(crate) fn order_tag(number: u64) -> Tag {
    Tag::parse(&format!("order-00000000-{number:08}")).unwrap()
}

/// The machine's files without their syncs: what is left is the cost of the code.
#[derive(Debug)]
pub(crate) struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile(Box<dyn File>);

impl Disk for Unsynced {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(RealDisk.open(path, access)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(RealDisk.create_new(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockGuard>> {
        RealDisk.lock(path, holder)
    }
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealDisk.lock_shared(path)
    }
}

impl File for UnsyncedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
