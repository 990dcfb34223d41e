//! One group through the committer: judged, encoded, written, synced or not, indexed, answered.

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use outrigger::{
    append::{Appender, Intake, Request, committer::Committer},
    clock::SystemClock,
    disk::{Disk, real::RealDisk},
    follower::Head,
    index::Index,
    limits::{APPEND_QUEUE_BYTES_MAX, SEGMENT_BYTES},
    log::{self, LogConfig, LogWriter},
    metrics::Metrics,
};
use tempfile::TempDir;

use crate::support::{Source, Unsynced};

/// Requests in a group, and events in each.
const GROUPS: [(usize, usize); 4] = [(1, 1), (64, 1), (8, 100), (8, 1_000)];

/// A log and its index in a directory of their own.
struct Room {
    writer: LogWriter,
    committer: Box<dyn FnOnce(LogWriter) -> Committer>,
    dir: TempDir,
}

fn open(disk: Arc<dyn Disk>) -> Room {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        dir: dir.path().join("log"),
        node: "bench".into(),
        segment_bytes: SEGMENT_BYTES,
        low_water_bytes: 0,
    };
    disk.create_dir_all(&config.dir).unwrap();
    let log = log::open(Arc::clone(&disk), &SystemClock, config).unwrap();
    let index = Arc::new(Index::open(disk, &dir.path().join("index"), &log.reader).unwrap());
    let committer = move |writer| {
        let head = Head::new(log.reader.head());
        let metrics = Arc::new(Metrics::new());
        Committer::new(writer, log.reader, index, head, Arc::new(SystemClock), metrics).unwrap()
    };
    Room { writer: log.writer, committer: Box::new(committer), dir }
}

fn commit(bencher: Bencher, disk: Arc<dyn Disk>, (requests, events): (usize, usize)) {
    let Room { writer, committer, dir } = open(disk);
    let mut committer = committer(writer);
    let (appender, intake): (Appender, Intake) = Appender::new(APPEND_QUEUE_BYTES_MAX);
    let mut source = Source::new();
    let request = |source: &mut Source| Request::of(source.events(events));
    bencher
        .counter(ItemsCount::new(requests * events))
        .with_inputs(|| (0..requests).map(|_| request(&mut source)).collect::<Vec<_>>())
        .bench_local_values(|group| {
            let answers: Vec<_> =
                group.into_iter().map(|request| appender.submit(request).unwrap()).collect();
            assert!(committer.step(&intake).unwrap());
            answers
        });
    drop(dir);
}

#[divan::bench(args = GROUPS)]
fn durable(bencher: Bencher, group: (usize, usize)) {
    commit(bencher, Arc::new(RealDisk), group);
}

#[divan::bench(args = GROUPS)]
fn unsynced(bencher: Bencher, group: (usize, usize)) {
    commit(bencher, Arc::new(Unsynced), group);
}

/// The log alone: groups of records that are opaque to it.
#[divan::bench(args = [1, 800, 8_000])]
fn log_unsynced(bencher: Bencher, records: usize) {
    let Room { mut writer, dir, .. } = open(Arc::new(Unsynced));
    let recorded = Source::new().recorded(0, records);
    let payloads: Vec<bytes::Bytes> = recorded.iter().map(|event| event.encode().into()).collect();
    bencher.counter(ItemsCount::new(records)).bench_local(|| writer.append(&payloads).unwrap());
    drop(dir);
}
