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

#[test]
fn a_length_that_was_set_is_found_as_it_was_or_as_it_should_be() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    file.write_all_at(&[1; 4_096], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.set_len(900).unwrap();
    file.set_len(2_000).unwrap();
    let lengths: std::collections::BTreeSet<usize> =
        (0..100).map(|seed| content(&disk.crash(seed), "/d/a").unwrap().len()).collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [900, 2_000, 4_096]);
}

#[test]
fn faults_come_once_or_for_ever_and_reads_have_their_own() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    disk.fail_at(disk.operations(), io::ErrorKind::Other);
    assert!(file.write_all_at(b"ab", 0).is_err());
    file.write_all_at(b"ab", 0).unwrap();
    disk.fail_from(disk.operations() + 1, io::ErrorKind::StorageFull);
    file.write_all_at(b"cd", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.write_all_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    disk.fail_read_at(disk.reads() + 1, io::ErrorKind::Other);
    file.len().unwrap();
    assert!(file.read_at(&mut [0; 2], 0).is_err());
    file.read_at(&mut [0; 2], 0).unwrap();
    disk.fail_reads_from(disk.reads(), io::ErrorKind::Other);
    assert!(file.len().is_err() && disk.open(Path::new("/d/a"), Access::Read).is_err());
}

#[test]
fn reads_come_short_and_once_from_elsewhere() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    let bytes: Vec<u8> = (0..4_096_u32).map(|at| (at / 512) as u8 + 1).collect();
    file.write_all_at(&bytes, 0).unwrap();
    disk.shorten_reads();
    let mut found = vec![0; 4_096];
    let counts: std::collections::BTreeSet<usize> =
        (0..40).map(|_| file.read_at(&mut found, 0).unwrap()).collect();
    assert!(counts.len() > 5 && !counts.contains(&0), "{counts:?}");
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, bytes);
    let mut wrong = 0;
    for _ in 0..40 {
        disk.misdirect_read_from(disk.reads(), |_| true);
        let mut sector = [0; 16];
        file.read_exact_at(&mut sector, 0).unwrap();
        wrong += u32::from(sector != [1; 16]);
        file.read_exact_at(&mut sector, 0).unwrap();
        assert_eq!(sector, [1; 16], "only once");
    }
    assert!(wrong > 20, "{wrong} of 40 reads came from elsewhere");
}

#[test]
fn sites_are_counted_and_crashed_at() {
    let disk = disk();
    disk.classify(|path, write| match (path.extension(), write) {
        (_, Some((_, 0))) => "head",
        (Some(_), _) => "new",
        _ => "other",
    });
    disk.enter("testing");
    disk.trace();
    replace_file(&disk, Path::new("/d/m"), b"old").unwrap();
    let site = |action, place| Site { phase: "testing", action, place };
    assert_eq!(disk.traced()[&site(Action::Write, "head")], 1);
    assert_eq!(disk.traced()[&site(Action::Sync, "new")], 1);
    disk.crash_at_site(site(Action::Rename, "other"), 1);
    replace_file(&disk, Path::new("/d/m"), b"new").unwrap();
    assert!(replace_file(&disk, Path::new("/d/m"), b"newer").is_err());
    assert!(disk.is_crashed());
    assert_eq!(disk.fault_site(), Some(site(Action::Rename, "other")));
    let next = disk.crash(1);
    assert_eq!(next.operations(), disk.operations(), "lives are counted on");
}

#[test]
fn what_is_ignored_is_answered_and_not_done() {
    let disk = disk();
    disk.ignore(|site| site.action == Action::Sync);
    let file = disk.create_new(Path::new("/d/a")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[7; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert!((0..50).any(|seed| content(&disk.crash(seed), "/d/a").unwrap() != [7; 512]));
}
