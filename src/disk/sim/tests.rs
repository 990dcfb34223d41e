//! Tests of the simulated disk: what the crash contract of `disk` promises, and nothing more.

use super::*;
use crate::disk::{read_file, replace_file};

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    read_file(disk, Path::new(path), 1 << 20).ok()
}

#[test]
fn what_is_synced_survives_every_crash_and_nothing_else_must() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    file.write_all_at(&[1; 2_000], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[2; 3_000], 1_000).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let bytes = content(&disk.crash(seed), "/d/a").expect("the entry is durable");
        assert!(bytes[..512].iter().all(|b| *b == 1), "a sector without unsynced writes stands");
        assert!((2_000..=4_000).contains(&bytes.len()));
        assert!(bytes.iter().all(|b| *b <= 2), "torn sectors mix old and new, nothing else");
        outcomes.insert(bytes);
    }
    assert!(outcomes.len() > 20, "only {} different outcomes", outcomes.len());
    assert_eq!(content(&disk.crash(5), "/d/a"), content(&disk.crash(5), "/d/a"), "a seed decides");
}

#[test]
fn entries_are_durable_after_their_directory_is_synced() {
    let disk = disk();
    disk.create_new(Path::new("/d/a")).unwrap().sync_data().unwrap();
    assert!((0..50).any(|seed| content(&disk.crash(seed), "/d/a").is_none()));
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    for seed in 0..50 {
        let after = disk.crash(seed);
        let found = after.list(Path::new("/d")).unwrap();
        assert!(found == ["a"] || found == ["b"], "a rename is one step, found {found:?}");
    }
    disk.remove_file(Path::new("/d/b")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert!(disk.crash(3).list(Path::new("/d")).unwrap().is_empty());
}

#[test]
fn replacing_a_file_is_one_step_at_every_crash_point() {
    for point in 0..8 {
        for seed in 0..20 {
            let disk = disk();
            replace_file(&disk, Path::new("/d/m"), b"old").unwrap();
            disk.crash_at(disk.operations() + point);
            let replaced = replace_file(&disk, Path::new("/d/m"), b"new").is_ok();
            let found = content(&disk.crash(seed), "/d/m").expect("one of the two is there");
            assert!(found == b"new" || (!replaced && found == b"old"));
        }
    }
}

#[test]
fn a_crashed_disk_answers_nothing_and_a_new_one_does() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    disk.crash_at(disk.operations());
    assert!(file.write_all_at(b"x", 0).is_err());
    assert!(disk.is_crashed());
    assert!(file.len().is_err() && file.sync_data().is_err() && disk.list(Path::new("/d")).is_err());
    assert_eq!(content(&disk.kill(1), "/d/a"), Some(b"x".to_vec()));
}

#[test]
fn after_a_failed_sync_pages_read_back_and_are_lost_all_the_same() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[7; 8_192], 0).unwrap();
    disk.fail_at(disk.operations(), io::ErrorKind::Other);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    let mut bytes = [0; 8_192];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [7; 8_192]);
    let after = content(&disk.crash(1), "/d/a").unwrap();
    assert!(after != [7; 8_192], "the second sync wrote nothing");
    assert!(
        (0..20).any(|seed| content(&disk.kill(seed), "/d/a").unwrap() != [7; 8_192]),
        "the cache lets go"
    );
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites_in_place() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    file.write_all_at(&[1; 1_024], 0).unwrap();
    disk.set_free_bytes(Some(1_024));
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 1_024);
    let refused = file.write_all_at(&[2; 4_096], 0).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 2_048);
    file.write_all_at(&[3; 2_048], 0).unwrap();
    disk.set_free_bytes(None);
    file.write_all_at(&[2; 4_096], 0).unwrap();
}

#[test]
fn a_lock_is_held_once() {
    let disk = disk();
    let guard = Disk::lock(&disk, Path::new("/d/LOCK"), "me").unwrap();
    assert_eq!(Disk::lock(&disk, Path::new("/d/LOCK"), "you").unwrap_err().to_string(), "me");
    drop(guard);
    assert!(Disk::lock(&disk, Path::new("/d/LOCK"), "you").is_ok());
}
