//! What goes wrong in a round: a crash at a number or at a site, errors, a full disk, bad reads; and what may be
//! refused because of it.

use std::{io, path::Path};

use outrigger::{
    clock::SimClock,
    disk::{
        Disk as _,
        sim::{SimDisk, Site},
    },
};

use super::{
    place::{DATA, classify},
    request::below,
    sites::SITES,
};

/// Operations of a round that a crash by number may hit.
const REACH: u64 = 400;

/// What a round's disk was told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Armed {
    /// Bytes may be refused for want of room.
    pub(crate) is_full: bool,
    /// Reads may fail or lie.
    pub(crate) reads: bool,
}

/// Files that were damaged and can be made anew; whether that was noticed is not known yet.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Damaged {
    pub(crate) index: bool,
    pub(crate) projection: bool,
}

/// Prepares what will go wrong in this round.
pub(crate) fn arm(disk: &SimDisk, clock: &SimClock) -> Armed {
    disk.classify(classify);
    let mut armed = Armed::default();
    let now = disk.operations();
    let at = now + below(clock, REACH);
    match below(clock, 32) {
        0..=17 => {
            let (phase, action, place) = SITES[below(clock, SITES.len() as u64) as usize];
            let passed = if below(clock, 2) == 0 { 0 } else { below(clock, 4) };
            disk.crash_at_site(Site { phase, action, place }, passed);
        }
        18..=21 => disk.crash_at(at),
        22 => disk.crash_at(now + below(clock, 20)),
        23 => disk.fail_at(at, io::ErrorKind::Other),
        24 | 25 => disk.fail_sync_from(at, io::ErrorKind::Other),
        26 => disk.fail_from(at, io::ErrorKind::Other),
        27 => {
            armed.is_full = true;
            let bytes = [0, 8_192, 40_000, 400_000][below(clock, 4) as usize];
            disk.set_free_bytes(Some(below(clock, bytes + 1)));
            if below(clock, 2) == 0 {
                disk.crash_at(at);
            }
        }
        28 => {
            armed.reads = true;
            disk.fail_read_at(disk.reads() + below(clock, REACH), io::ErrorKind::Other);
        }
        29 => {
            armed.reads = true;
            disk.misdirect_read_from(disk.reads() + below(clock, REACH), is_checked);
        }
        _ => {}
    }
    if below(clock, 4) == 0 {
        disk.shorten_reads();
    }
    armed
}

/// Places whose bytes are held against a checksum whenever they are read. redb does not do that.
fn is_checked(place: &str) -> bool {
    !place.starts_with("meta") && !place.starts_with("projection")
}

/// Damages a file that the log can replace: a run of the index, offsets of a segment, a projection.
pub(crate) fn damage(disk: &SimDisk, clock: &SimClock, damaged: &mut Damaged) {
    let (dir, suffix) =
        [("index", ".run"), ("log", ".offsets"), ("projections", ".redb")][below(clock, 3) as usize];
    let dir = Path::new(DATA).join(dir);
    let mut names = disk.list(&dir).unwrap_or_default();
    names.retain(|name| name.ends_with(suffix) || (suffix == ".run" && !name.ends_with(".new")));
    if names.is_empty() {
        return;
    }
    let path = dir.join(&names[below(clock, names.len() as u64) as usize]);
    match suffix {
        ".redb" => {
            // In what redb knows a file by; it does not check what else it reads.
            disk.flip_bit(&path, below(clock, 64)).expect("it was listed");
            damaged.projection = true;
        }
        _ if below(clock, 3) == 0 => {
            disk.remove_file(&path).expect("it was listed");
        }
        _ => {
            let bits = disk.open(&path, outrigger::disk::Access::Read).and_then(|file| file.len());
            let bits = bits.expect("it was listed") * 8;
            if bits > 0 {
                disk.flip_bit(&path, below(clock, bits)).expect("it was listed");
            }
            damaged.index |= suffix == ".run";
        }
    }
}
