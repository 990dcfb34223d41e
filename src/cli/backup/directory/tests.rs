//! Backup directories on a disk that fails and loses power: the former backup or the new one is whole, whatever happens.

use std::io;

use super::*;
use crate::{
    cli::backup::manifest::{BackupFile, Kind},
    disk::sim::SimDisk,
};

const DIR: &str = "/backup";

/// The name of a segment that ends at this position.
fn segment(first: u64, last: u64) -> String {
    format!("{first:020}-{last:020}-{}.log", "ab".repeat(32))
}

/// A backup of two full segments and one that grows, up to this position.
fn backup(head: u64) -> (BackupManifest, Vec<(String, Vec<u8>)>) {
    let files = vec![
        (segment(1, 10), Kind::Segment, vec![1; 3_000]),
        (segment(11, 20), Kind::Segment, vec![2; 3_000]),
        (segment(21, head), Kind::Segment, vec![head as u8; 1_000]),
        (format!("manifest-{head}"), Kind::LogManifest, vec![3; 100]),
        (format!("meta-{head}.json"), Kind::Meta, vec![4; 50]),
    ];
    let entry = |(name, kind, bytes): &(String, Kind, Vec<u8>)| BackupFile {
        name: name.clone(),
        kind: *kind,
        bytes: bytes.len() as u64,
        sha256: String::new(),
        first: 0,
    };
    let manifest = BackupManifest {
        format: 1,
        node: "flights".into(),
        log_id: "one".into(),
        first: 1,
        head,
        epoch: 1,
        chain: "ab".into(),
        time: "2026-01-01T00:00:00Z".into(),
        version: "0.1.0".into(),
        epochs: vec![(1, 1)],
        files: files.iter().map(entry).collect(),
    };
    (manifest, files.into_iter().map(|(name, _, bytes)| (name, bytes)).collect())
}

/// Receives a backup as a node sends it; how many files were sent.
fn receive(disk: &SimDisk, head: u64, resume: bool) -> Result<usize, CliError> {
    let (manifest, files) = backup(head);
    let mut directory = Directory::open(Arc::new(disk.clone()), Path::new(DIR), resume)?;
    let have = directory.have();
    directory.begin(manifest)?;
    let mut sent = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| !have.contains(name)) {
        directory.file(name)?;
        for chunk in bytes.chunks(600) {
            directory.data(chunk)?;
        }
        directory.file_end(&hex(&Sha256::digest(bytes)))?;
        sent += 1;
    }
    directory.commit()?;
    Ok(sent)
}

/// The head of the backup that is in force, all of which must be there.
fn check_whole(disk: &SimDisk) -> Option<u64> {
    let manifest = read_manifest(disk, Path::new(DIR)).unwrap()?;
    for file in &manifest.files {
        let found = digest_of(disk, &Path::new(DIR).join(&file.name)).unwrap();
        assert_eq!(found, (file.bytes, file.sha256.clone()), "{}", file.name);
    }
    Some(manifest.head)
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap()
}

#[test]
fn a_second_backup_takes_what_is_new_and_removes_what_is_old() {
    let disk = SimDisk::new(1);
    assert_eq!(receive(&disk, 25, false).unwrap(), 5);
    assert_eq!(receive(&disk, 27, false).unwrap(), 3);
    assert_eq!(check_whole(&disk), Some(27));
    assert_eq!(names(&disk).len(), 5 + 1, "{:?}", names(&disk));
    assert_eq!(receive(&disk, 27, false).unwrap(), 2, "the small files are always sent");
}

#[test]
fn a_backup_that_loses_power_at_any_operation_leaves_the_former_one_or_is_whole() {
    let fresh = SimDisk::new(1);
    receive(&fresh, 25, false).unwrap();
    let first = fresh.operations();
    receive(&fresh, 27, false).unwrap();
    let second = fresh.operations() - first;
    assert!(second > 15, "{second}");
    let (mut former, mut resumed) = (0, 0);
    for operation in 0..second {
        for seed in 0..3 {
            let disk = SimDisk::new(seed);
            receive(&disk, 25, false).unwrap();
            disk.crash_at(disk.operations() + operation);
            drop(receive(&disk, 27, false));
            assert!(disk.is_crashed(), "operation {operation} is reached");
            let disk = if seed == 0 { disk.kill(0) } else { disk.crash(seed) };
            let head = check_whole(&disk).expect("the former backup is there");
            former += u64::from(head == 25);
            resumed += u64::from(receive(&disk, 27, true).unwrap() < 3);
            assert_eq!(check_whole(&disk), Some(27));
            assert_eq!(names(&disk).len(), 5 + 1, "{:?}", names(&disk));
        }
    }
    assert!(former > second && resumed > second / 2, "{former} {resumed} of {second}");
}

#[test]
fn a_full_disk_leaves_the_former_backup_and_says_what_to_do() {
    let calm = SimDisk::new(1);
    receive(&calm, 25, false).unwrap();
    let first = calm.operations();
    receive(&calm, 27, false).unwrap();
    let mut told = 0;
    for operation in 0..calm.operations() - first {
        let disk = SimDisk::new(operation);
        receive(&disk, 25, false).unwrap();
        disk.fail_at(disk.operations() + operation, io::ErrorKind::StorageFull);
        if let Err(error) = receive(&disk, 27, false) {
            told += u64::from(error.to_string().contains("Make room, then repeat with --resume"));
        }
        assert!(check_whole(&disk).is_some_and(|head| head == 25 || head == 27));
        receive(&disk, 27, true).unwrap();
        assert_eq!(check_whole(&disk), Some(27));
    }
    assert!(told > 2, "{told}");
}

#[test]
fn backups_of_another_log_or_past_are_refused() {
    let disk = SimDisk::new(1);
    receive(&disk, 25, false).unwrap();
    let refused = |change: fn(&mut BackupManifest)| {
        let (mut manifest, _) = backup(27);
        change(&mut manifest);
        let mut directory = Directory::open(Arc::new(disk.clone()), Path::new(DIR), false).unwrap();
        directory.begin(manifest).unwrap_err().to_string()
    };
    assert!(refused(|manifest| manifest.log_id = "two".into()).contains("a backup of log one"));
    assert!(refused(|manifest| manifest.head = 24).contains("up to position 25 of epoch 1"));
    assert!(refused(|manifest| manifest.epochs = vec![(1, 1), (9, 20)]).contains("name another directory"));
    assert_eq!(check_whole(&disk), Some(25));
    let held = Directory::open(Arc::new(disk.clone()), Path::new(DIR), false).unwrap();
    let second = Directory::open(Arc::new(disk.clone()), Path::new(DIR), false).unwrap_err().to_string();
    assert!(second.contains("is in use by process"), "{second}");
    drop(held);
}

#[test]
fn bytes_that_are_not_what_was_sent_never_get_a_name() {
    let disk = SimDisk::new(1);
    let (manifest, files) = backup(25);
    let mut directory = Directory::open(Arc::new(disk.clone()), Path::new(DIR), false).unwrap();
    directory.begin(manifest).unwrap();
    let (name, bytes) = &files[0];
    directory.file(name).unwrap();
    directory.data(&bytes[1..]).unwrap();
    let error = directory.file_end(&hex(&Sha256::digest(bytes))).unwrap_err().to_string();
    assert!(error.contains("2999 bytes came, 3000 were announced"), "{error}");
    assert!(!names(&disk).contains(name));
    assert!(directory.file("unknown").is_err() && directory.data(b"x").is_err());
    assert!(directory.commit().unwrap_err().to_string().contains("did not send"));
    assert_eq!(check_whole(&disk), None);
}
