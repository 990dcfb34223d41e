//! A full disk: appends are refused without harm, the log can be read and opened, and goes on when there is room.

use std::sync::Arc;

use bytes::Bytes;
use outrigger::{
    clock::SimClock,
    disk::{Access, Disk as _, sim::SimDisk},
    event::Position,
    log::{Cut, LogConfig, LogError, Opened, open},
};

fn opened(disk: &SimDisk, low_water_bytes: u64) -> Result<Opened, LogError> {
    let config =
        LogConfig { dir: "/log".into(), node: "flights".into(), segment_bytes: 20_000, low_water_bytes };
    open(Arc::new(disk.clone()), &SimClock::new(1), config)
}

fn payload(i: u64) -> Bytes {
    Bytes::from(format!("{i:->300}"))
}

/// Appends until the disk is full; gives how many records the log then has.
fn fill(opened: &mut Opened) -> u64 {
    for i in opened.reader.head().get() + 1.. {
        match opened.writer.append(&[payload(i)]) {
            Ok(appended) => assert_eq!(appended.last.get(), i),
            Err(LogError::DiskFull { .. }) => return i - 1,
            Err(error) => panic!("record {i}: {error}"),
        }
    }
    unreachable!("a disk is full some day")
}

#[test]
fn appends_are_refused_and_resume_at_every_amount_of_room() {
    for free in (0..120_000).step_by(4_000) {
        let disk = SimDisk::new(free);
        let mut log = opened(&disk, 0).unwrap();
        disk.set_free_bytes(Some(free));
        let records = fill(&mut log);
        assert!(!log.writer.is_poisoned());
        assert_eq!(log.reader.verify().unwrap().records, records);
        for _ in 0..3 {
            let refused = log.writer.append(&[payload(0)]).unwrap_err();
            assert!(refused.is_refusal(), "{refused}");
        }
        disk.set_free_bytes(Some(60_000));
        let resumed = log.writer.append(&[payload(records + 1)]).unwrap();
        assert_eq!(resumed.last, Position::new(records + 1));
    }
}

#[test]
fn appends_stop_before_the_disk_is_below_its_low_water() {
    let disk = SimDisk::new(1);
    let mut log = opened(&disk, 100_000).unwrap();
    disk.set_free_bytes(Some(200_000));
    assert!(fill(&mut log) > 50);
    let free = disk.free_bytes("/log".as_ref()).unwrap();
    assert!((100_000..140_000).contains(&free), "{free} bytes are free");
}

/// What stands where bytes were cut.
fn bytes_of(disk: &SimDisk, cut: &Cut) -> Vec<u8> {
    let mut bytes = vec![0; cut.bytes as usize];
    let file = disk.open(&cut.segment, Access::Read).unwrap();
    file.read_exact_at(&mut bytes, cut.offset).unwrap();
    bytes
}

/// After power loss and after a kill a log on a full disk opens with all it had, whatever recovery has to do.
#[test]
fn a_log_opens_on_a_full_disk() {
    let (mut rewritten, mut kept) = (0, 0);
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let mut log = opened(&disk, 0).unwrap();
        for i in 1..20 + seed % 60 {
            log.writer.append(&[payload(i)]).unwrap();
        }
        let acknowledged = log.reader.head();
        disk.crash_at(disk.operations() + seed % 5);
        while log.writer.append(&[payload(0)]).is_ok() {}
        let disk = if seed % 2 == 0 { disk.crash(seed) } else { disk.kill(seed) };
        let before = disk.kill(0);
        disk.set_free_bytes(Some(0));
        let mut log = opened(&disk, 0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if let Some(cut) = &log.recovery.cut {
            assert!(cut.quarantine.is_none(), "seed {seed}: there was no room for {cut:?}");
            assert_eq!(bytes_of(&disk, cut), bytes_of(&before, cut), "seed {seed}: cut and kept nowhere");
            kept += 1;
        }
        assert!(log.reader.head() >= acknowledged, "seed {seed}");
        rewritten += u64::from(log.recovery.rewritten.is_some());
        log.reader.verify().unwrap();
        fill(&mut log);
        disk.set_free_bytes(None);
        let head = log.reader.head();
        assert_eq!(log.writer.append(&[payload(0)]).unwrap().first, head.next());
    }
    assert!(rewritten > 100, "only {rewritten} logs had a tail to rewrite");
    assert!(kept > 10, "only {kept} logs had bytes to cut");
}
