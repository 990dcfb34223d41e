//! Which branches an opening took: told from the directory before, the directory behind, and the report.

use std::path::Path;

use outrigger::{
    disk::{Access, Disk as _, sim::SimDisk},
    log::RecoveryReport,
};

use super::{histogram::Histogram, place::is_kind};

/// The directories as the opening found them.
#[derive(Debug, Default)]
pub(crate) struct Before {
    log: Vec<String>,
    index: Vec<String>,
    /// The spare holds something.
    spare_used: bool,
}

impl Before {
    pub(crate) fn of(disk: &SimDisk) -> Self {
        let list = |dir: &str| disk.list(dir.as_ref()).unwrap_or_default();
        let mut head = [0; 16];
        let spare = disk.open(Path::new("/data/log/spare"), Access::Read);
        let read = spare.and_then(|spare| spare.read_at(&mut head, 0));
        Self {
            log: list("/data/log"),
            index: list("/data/index"),
            spare_used: read.is_ok() && head != [0; 16],
        }
    }

    fn segments(&self) -> usize {
        self.log.iter().filter(|name| is_kind(name, "log")).count()
    }
}

/// The branches that a campaign must take.
pub(crate) const BRANCHES: &[&str] = &[
    "recovery: first segment",
    "recovery: clean",
    "recovery: tail written anew",
    "recovery: cut",
    "recovery: tail written anew and cut",
    "recovery: segment replaced in place",
    "recovery: cut without quarantine",
    "recovery: unfinished manifest",
    "recovery: unfinished spare",
    "recovery: on a full disk",
    "index: unfinished run removed",
    "index: damaged run built anew",
    "projection: set aside",
];

pub(crate) fn count_branches(
    histogram: &mut Histogram,
    before: &Before,
    report: &RecoveryReport,
    is_full: bool,
) {
    histogram.count(match (before.segments(), report.rewritten.is_some(), &report.cut) {
        (0, ..) => "recovery: first segment",
        (_, false, None) => "recovery: clean",
        (_, true, None) => "recovery: tail written anew",
        (_, false, Some(_)) => "recovery: cut",
        (_, true, Some(_)) => "recovery: tail written anew and cut",
    });
    let is_cut_in_place = report.cut.as_ref().is_some_and(|cut| cut.quarantine.is_none());
    let is_in_place =
        (report.rewritten.is_some() || report.cut.is_some()) && report.segments == before.segments();
    for (is_there, what) in [
        (is_in_place, "recovery: segment replaced in place"),
        (is_cut_in_place, "recovery: cut without quarantine"),
        (before.log.iter().any(|name| name == "manifest.new"), "recovery: unfinished manifest"),
        (before.spare_used, "recovery: unfinished spare"),
        (is_full, "recovery: on a full disk"),
        (before.index.iter().any(|name| is_kind(name, "new")), "index: unfinished run removed"),
    ] {
        if is_there {
            histogram.count(what);
        }
    }
}
