//! What goes wrong in a round: a crash at a number or at a site, errors, a full disk, bad reads; and what may be
//! refused because of it.

use std::{io, path::Path, sync::Arc};

use outrigger::{
    clock::{Clock as _, SimClock},
    disk::{
        Access, Disk,
        sim::{Action, SimDisk, Site},
    },
    log::LogInspector,
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
    /// Counts rounds over stories, so that all sites get their turn equally often.
    pub(crate) turn: u64,
    /// A group was cut short by power loss.
    pub(crate) is_torn: bool,
    /// A crash left a run of the index unfinished.
    pub(crate) is_unfinished: bool,
    /// A file was damaged just now.
    pub(crate) damage: Option<&'static str>,
}

/// Prepares what will go wrong in this round.
pub(crate) fn arm(disk: &SimDisk, clock: &SimClock, past: Past) -> Armed {
    let mut armed = Armed::default();
    let now = disk.operations();
    let at = now + below(clock, REACH);
    // What a torn group leads to is seldom, and takes many tries.
    let kind = if past.is_torn && below(clock, 8) > 0 { 0 } else { below(clock, 32) };
    match kind {
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
        Past { damage: Some("index"), .. } if below(clock, 10) > 0 => sites::INDEX_DAMAGED,
        Past { damage: Some("projections"), .. } if below(clock, 3) == 0 => sites::PROJECTION_DAMAGED,
        Past { is_unfinished: true, .. } if below(clock, 4) == 0 => sites::UNFINISHED,
        Past { is_torn: true, .. } if below(clock, 4) == 0 => {
            // Recovery has to make do without more room.
            *is_full = true;
            disk.set_free_bytes(Some(0));
            return None;
        }
        Past { is_torn: true, .. } if below(clock, 4) > 0 => sites::TORN,
        _ if below(clock, 6) == 0 => sites::GROUPS,
        _ if below(clock, 3) == 0 => sites::SELDOM,
        _ => sites::ANY,
    };
    let site = sites::of_turn(sites, past.turn);
    // The first group of a round follows a mark that is durable; later ones may not.
    let passed = if sites == sites::GROUPS { below(clock, 6) } else { 0 };
    disk.crash_at_site(site, passed);
    Some(site)
}

/// A round that has come past the site at which it was to crash takes one that still lies before it.
pub(crate) fn aim_again(disk: &SimDisk, armed: &mut Armed, turn: u64) {
    if armed.target.is_some_and(|site| !sites::is_later(&site)) {
        let site = sites::later_of_turn(turn);
        disk.crash_at_site(site, 0);
        armed.target = Some(site);
    }
}

/// The disk after power loss. Where a group was being written, a few losses may be tried, until one leaves a part of it.
pub(crate) fn lose_power(disk: &SimDisk, clock: &SimClock) -> SimDisk {
    let is_group =
        |site: Site| site.place == "segment groups" || (site.phase, site.place) == ("appending", "segment");
    let tries = if disk.fault_site().is_some_and(is_group) { 1 + below(clock, 3) } else { 1 };
    let mut lost = disk.crash(clock.random() as u64);
    for _ in 1..tries {
        if is_torn(&lost) {
            break;
        }
        lost = disk.crash(clock.random() as u64);
    }
    lost
}

/// Whether the next opening will find bytes to cut.
pub(crate) fn is_torn(disk: &SimDisk) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(disk.kill(0));
    let report = LogInspector::open(disk, "/data/log".as_ref())
        .and_then(|inspector| inspector.inspect(&mut |_, _| ()));
    report.is_ok_and(|report| report.torn.is_some())
}

/// Places whose bytes are held against a checksum whenever they are read. redb does not do that.
fn is_checked(place: &str) -> bool {
    !place.starts_with("meta") && !place.starts_with("projection")
}

/// Damages a file that the log can replace: a run of the index, offsets of a segment, a projection. Gives its
/// directory.
pub(crate) fn damage(disk: &SimDisk, clock: &SimClock, damaged: &mut Damaged) -> Option<&'static str> {
    let dir = ["index", "index", "index", "index", "log", "projections"][below(clock, 6) as usize];
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
