//! Tests of writing behind: a file is whole after every crash, whatever was on its way.

use std::path::Path;

use redb::{Builder, Database, ReadableDatabase as _, TableDefinition};

use super::*;
use crate::{
    disk::{Access, Disk as _, sim::SimDisk},
    kv::{self, Persistence, Syncs},
};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const CACHE_BYTES: usize = 1 << 18;

fn path() -> &'static Path {
    Path::new("/d/file.redb")
}

/// Redb over a file whose pieces are written when the test says so.
struct Pumped {
    behind: Arc<Behind>,
    database: Database,
}

#[derive(Debug)]
struct Shares(Arc<Behind>);

impl StorageBackend for Shares {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

fn pumped(disk: &SimDisk) -> Pumped {
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create_new(path()).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    let behind = Arc::new(Behind::new(file, 1 << 25));
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let database = builder.create_with_backend(Shares(Arc::clone(&behind))).unwrap();
    Pumped { behind, database }
}

/// Commit `number` sets row 0 to it, and a stretch of other rows to values that follow from it.
fn commit(database: &Database, number: u64, persistence: Persistence) -> Result<(), kv::KvError> {
    let write = kv::begin_write(database, persistence)?;
    let mut table = write.open_table(ROWS)?;
    table.insert(0, &number.to_be_bytes()[..])?;
    for row in 1..40 {
        let key = 1 + (number * 37 + row * 13) % 500;
        table.insert(key, &vec![(number + row) as u8; 200 + (row * 31) as usize % 3_000][..])?;
    }
    drop(table);
    Ok(write.commit()?)
}

/// The number of the last commit that the file has, once all its rows are checked against that number.
fn read(database: &Database) -> u64 {
    let table = match database.begin_read().unwrap().open_table(ROWS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return 0,
        Err(error) => panic!("{error}"),
    };
    let number = table.get(0).unwrap().unwrap().value().try_into().map(u64::from_be_bytes).unwrap();
    let mut expected = std::collections::BTreeMap::new();
    for commit in 1..=number {
        for row in 1..40 {
            let key = 1 + (commit * 37 + row * 13) % 500;
            expected.insert(key, vec![(commit + row) as u8; 200 + (row * 31) as usize % 3_000]);
        }
    }
    for row in table.range(1..).unwrap() {
        let (key, value) = row.unwrap();
        assert_eq!(expected.remove(&key.value()).as_deref(), Some(value.value()), "row {}", key.value());
    }
    assert!(expected.is_empty());
    number
}

#[test]
fn after_a_power_loss_the_file_is_whole_and_holds_some_commit_that_was_on_its_way() {
    let mut lost = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let Pumped { behind, database } = pumped(&disk);
        let (mut durable, mut last) = (0, 0);
        for number in 1..=12 {
            // Every third commit is buffered only, and the disk keeps up now and then.
            let persistence = if number % 3 == 0 { Persistence::Buffered } else { Persistence::Durable };
            commit(&database, number, persistence).unwrap();
            last = number;
            assert_eq!(read(&database), number, "what is on its way is read");
            for _ in 0..(seed * 7 + number * 5) % 4 {
                if !behind.pump() {
                    break;
                }
            }
            if behind.shared.lock().closed.is_empty() {
                durable = number - u64::from(number % 3 == 0);
            }
        }
        for crash in 0..4 {
            let after = disk.crash(seed * 100 + crash);
            let database = kv::open(&after, path(), CACHE_BYTES, Syncs::Through).unwrap();
            let found = read(&database);
            assert!((durable..=last).contains(&found), "seed {seed}: {found}, durable {durable}");
            lost += u64::from(found < last);
        }
        drop(database);
        let database = kv::open(&disk.crash(seed), path(), CACHE_BYTES, Syncs::Through).unwrap();
        assert_eq!(read(&database), last, "closing waits for all of it");
    }
    assert!(lost > 20, "only {lost} crashes lost a commit");
}

#[test]
fn after_a_failed_write_everything_fails_and_the_file_is_whole() {
    for fault in 0..60 {
        let disk = SimDisk::new(3);
        let Pumped { behind, database } = pumped(&disk);
        commit(&database, 1, Persistence::Durable).unwrap();
        while behind.pump() {}
        disk.fail_at(disk.operations() + fault, io::ErrorKind::Other);
        let worked: u64 = (2..20)
            .map(|number| {
                let worked = commit(&database, number, Persistence::Durable).is_ok();
                while behind.pump() {}
                u64::from(worked)
            })
            .sum();
        let failed = behind.shared.lock().failure.is_some();
        assert!(!failed || commit(&database, 21, Persistence::Durable).is_err());
        drop(database);
        let after = disk.crash(fault);
        let database = kv::open(&after, path(), CACHE_BYTES, Syncs::Through).unwrap();
        let found = read(&database);
        assert!((1..=worked + 1).contains(&found), "fault {fault}: {found} of {worked}");
    }
}

#[test]
fn with_a_thread_a_file_holds_everything_when_it_is_closed() {
    let disk = SimDisk::new(5);
    disk.create_dir_all(Path::new("/d")).unwrap();
    for round in 0..3 {
        let database = kv::open(&disk, path(), CACHE_BYTES, Syncs::Behind(1 << 25)).unwrap();
        for number in 1..=10 {
            commit(&database, round * 10 + number, Persistence::Durable).unwrap();
        }
        assert_eq!(read(&database), round * 10 + 10);
        drop(database);
        let copy = disk.crash(round);
        let database = kv::open(&copy, path(), CACHE_BYTES, Syncs::Through).unwrap();
        assert_eq!(read(&database), round * 10 + 10);
    }
    assert!(disk.open(path(), Access::Read).unwrap().len().unwrap() > 0);
}
