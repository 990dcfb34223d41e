//! What goes wrong in a round: a crash at a number or at a site, errors, a full disk, bad reads; and what may be
//! refused because of it.

use std::{io, path::Path};

use outrigger::{
    clock::SimClock,
    disk::{
        Access, Disk as _,
        sim::{Action, SimDisk, Site},
    },
};

use super::{
    place::{DATA, is_kind},
    request::below,
    sites,
};

/// Operations of a round that a crash by number may hit.
const REACH: u64 = 400;

/// What a round's disk was told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Armed {
    /// Bytes may be refused for want of room.
    pub(crate) is_full: bool,
    /// The site at which the round is to crash.
    pub(crate) target: Option<Site>,
}

/// Files whose bytes may not be what was written, for good reason, which nobody may have noticed yet.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Damaged {
    pub(crate) index: bool,
    pub(crate) projection: bool,
    pub(crate) meta: bool,
}

impl Damaged {
    /// A sync that failed may have lost pages that read back as written for a while. The log writes anew what it finds;
    /// redb trusts it.
    pub(crate) fn note_fault(&mut self, site: Site) {
        self.projection |= site.action == Action::Sync && site.place == "projection";
        self.meta |= site.action == Action::Sync && site.place == "meta";
    }
}

/// What went before a round.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) rounds: usize,
    /// A group was cut short by power loss.
    pub(crate) is_torn: bool,
    /// A file was damaged just now.
    pub(crate) damage: Option<&'static str>,
}

/// Prepares what will go wrong in this round.
pub(crate) fn arm(disk: &SimDisk, clock: &SimClock, past: Past) -> Armed {
    let mut armed = Armed::default();
    let now = disk.operations();
    let at = now + below(clock, REACH);
    match below(clock, 32) {
        0..=22 => armed.target = target(disk, clock, past, &mut armed.is_full),
        23 => disk.crash_at(at),
        24 => disk.crash_at(now + below(clock, 20)),
        25 => disk.fail_at(at, io::ErrorKind::Other),
        26 => disk.fail_sync_from(at, io::ErrorKind::Other),
        27 => disk.fail_from(at, io::ErrorKind::Other),
        28 => {
            armed.is_full = true;
            let bytes = [0, 8_192, 40_000, 400_000][below(clock, 4) as usize];
            disk.set_free_bytes(Some(below(clock, bytes + 1)));
            if below(clock, 2) == 0 {
                disk.crash_at(at);
            }
        }
        29 => disk.fail_read_at(disk.reads() + below(clock, REACH), io::ErrorKind::Other),
        30 => disk.misdirect_read_from(disk.reads() + below(clock, REACH), is_checked),
        _ => {}
    }
    if below(clock, 4) == 0 {
        disk.shorten_reads();
    }
    armed
}

/// A site to crash at that this round can reach.
fn target(disk: &SimDisk, clock: &SimClock, past: Past, is_full: &mut bool) -> Option<Site> {
    let likely = below(clock, 3) > 0;
    let sites = match past {
        Past { rounds: 0, .. } if likely => sites::FIRST,
        Past { damage: Some("index"), .. } if likely => sites::INDEX_DAMAGED,
        Past { damage: Some("projections"), .. } if likely => sites::PROJECTION_DAMAGED,
        Past { is_torn: true, .. } if likely && below(clock, 4) == 0 => {
            // Recovery has to make do without more room.
            *is_full = true;
            disk.set_free_bytes(Some(0));
            return None;
        }
        Past { is_torn: true, .. } if likely => sites::TORN,
        _ if below(clock, 4) == 0 => sites::GROUPS,
        _ => sites::ANY,
    };
    let site = sites::one_of(clock, sites);
    let is_common = sites.len() == sites::ANY.len() && below(clock, 2) == 0;
    let passed = if is_common { below(clock, 4) } else { 0 };
    disk.crash_at_site(site, passed);
    Some(site)
}

/// Places whose bytes are held against a checksum whenever they are read. redb does not do that.
fn is_checked(place: &str) -> bool {
    !place.starts_with("meta") && !place.starts_with("projection")
}

/// Damages a file that the log can replace: a run of the index, offsets of a segment, a projection. Gives its
/// directory.
pub(crate) fn damage(disk: &SimDisk, clock: &SimClock, damaged: &mut Damaged) -> Option<&'static str> {
    let dir = ["index", "index", "index", "log", "projections"][below(clock, 5) as usize];
    let path = Path::new(DATA).join(dir);
    let mut names = disk.list(&path).unwrap_or_default();
    names.retain(|name| match dir {
        "index" => !is_kind(name, "new"),
        "log" => is_kind(name, "offsets"),
        _ => is_kind(name, "redb"),
    });
    if names.is_empty() {
        return None;
    }
    let path = path.join(&names[below(clock, names.len() as u64) as usize]);
    if dir == "projections" {
        // In what redb knows a file by; it does not check what else it reads.
        disk.flip_bit(&path, below(clock, 64)).expect("it was listed");
        damaged.projection = true;
    } else if below(clock, 2) == 0 {
        disk.remove_file(&path).expect("it was listed");
    } else {
        let bits = disk.open(&path, Access::Read).and_then(|file| file.len()).expect("it was listed") * 8;
        if bits > 0 {
            disk.flip_bit(&path, below(clock, bits)).expect("it was listed");
        }
        damaged.index |= dir == "index";
    }
    Some(dir)
}
