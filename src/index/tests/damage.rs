//! Flipped bits, cut files, missing files and foreign files in the directory of the index.

use super::*;
use crate::disk::Access;

fn filled(recipes: &[Recipe]) -> (SimDisk, Log, Index) {
    let (disk, log) = (SimDisk::new(1), Log::default());
    let index = open(&disk, &log, 4).unwrap();
    let events: Vec<_> = recipes.iter().map(|recipe| log.append(recipe)).collect();
    index.apply(&events).unwrap();
    while index.step().unwrap() {}
    (disk, log, index)
}

fn pick(disk: &SimDisk, at: usize) -> PathBuf {
    let names = disk.list(&dir()).unwrap();
    dir().join(&names[at % names.len()])
}

fn len(disk: &SimDisk, path: &Path) -> u64 {
    disk.open(path, Access::Read).unwrap().len().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_flipped_bit_is_found_and_repaired(
        recipes in prop::collection::vec(recipe(), 20..60),
        file: usize,
        bit: u64,
        reopen: bool,
    ) {
        let (disk, log, mut index) = filled(&recipes);
        let path = pick(&disk, file);
        disk.flip_bit(&path, bit % (len(&disk, &path) * 8)).unwrap();
        if reopen {
            drop(index);
            index = open(&disk, &log, 4).unwrap();
        }
        check_all(&index, &log);
        while index.step().unwrap() {}
        check_all(&index, &log);
        check_directory(&index, &disk);
    }

    #[test]
    fn a_missing_or_cut_file_is_built_anew(
        recipes in prop::collection::vec(recipe(), 20..60),
        file: usize,
        keep: Option<u64>,
    ) {
        let (disk, log, index) = filled(&recipes);
        drop(index);
        let path = pick(&disk, file);
        match keep {
            Some(keep) => {
                let len = len(&disk, &path);
                disk.open(&path, Access::ReadWrite).unwrap().set_len(keep % len).unwrap();
            }
            None => disk.remove_file(&path).unwrap(),
        }
        let index = open(&disk, &log, 4).unwrap();
        check_all(&index, &log);
        check_directory(&index, &disk);
    }
}

#[test]
fn damage_met_while_merging_is_repaired() {
    let (disk, log, index) = filled(&[]);
    let recipe = Recipe { stream: 2, event_type: 1, tags: vec![0] };
    let events: Vec<_> = (0..17).map(|_| log.append(&recipe)).collect();
    index.apply(&events[..13]).unwrap();
    while index.step().unwrap() {}
    assert_eq!(index.status().runs, 3);
    // The first block of ids, which only lookups and merges read.
    disk.flip_bit(&pick(&disk, 1), 8 * 4096 + 1).unwrap();
    index.apply(&events[13..]).unwrap();
    while index.step().unwrap() {}
    assert_eq!(index.status().runs, 1);
    check_all(&index, &log);
    check_directory(&index, &disk);
}

#[test]
fn files_that_do_not_belong_are_removed() {
    let (disk, log, index) = filled(&[]);
    let recipe = Recipe { stream: 2, event_type: 1, tags: vec![0] };
    let events: Vec<_> = (0..20).map(|_| log.append(&recipe)).collect();
    index.apply(&events).unwrap();
    while index.step().unwrap() {}
    drop(index);
    let copy = |name: &str| {
        let source = disk.open(&pick(&disk, 0), Access::Read).unwrap();
        let mut bytes = vec![0; source.len().unwrap() as usize];
        source.read_exact_at(&mut bytes, 0).unwrap();
        disk.create_new(&dir().join(name)).unwrap().write_all_at(&bytes, 0).unwrap();
    };
    // Right inside, but under the name of other positions; unfinished; no run at all.
    copy("00000000000000000001-00000000000000000019.run");
    copy("00000000000000000001-00000000000000000016.run.new");
    copy("notes.txt");
    let index = open(&disk, &log, 4).unwrap();
    check_all(&index, &log);
    check_directory(&index, &disk);
    drop(index);
    let mut other = log.view();
    other.log_id = Uuid::from_u128(78);
    let config = IndexConfig { run_events: 4, background: false, ..IndexConfig::default() };
    let index = Index::open_with(Arc::new(disk.clone()), &dir(), other, config).unwrap();
    check_all(&index, &log);
}
