//! The I/O call sites of a node: what a campaign crashes at, each at least a hundred times, grouped by what a round
//! must be like for its node to get there.
//!
//! A changing operation at a site that stands in none of these lists fails the campaign: a new call site needs a place.

use outrigger::disk::sim::{
    Action::{self, Create, CreateDirectory, Remove, Rename, SetLength, Sync, SyncDirectory, Write},
    Site,
};

/// Phase, action, place.
pub(crate) type Named = (&'static str, Action, &'static str);

/// Sites of a node's first opening.
pub(crate) const FIRST: &[Named] = &[
    ("opening", CreateDirectory, "data directory"),
    ("opening", CreateDirectory, "index directory"),
    ("opening", CreateDirectory, "log directory"),
    ("opening", CreateDirectory, "projections directory"),
    ("opening", Create, "meta"),
    ("opening", SyncDirectory, "data directory"),
    ("opening", SetLength, "meta"),
    ("projecting", Create, "projection"),
    ("projecting", SyncDirectory, "projections directory"),
];

/// Sites of an opening that finds bytes to cut.
pub(crate) const TORN: &[Named] = &[
    ("opening", Create, "quarantine"),
    ("opening", Rename, "quarantine"),
    ("opening", Remove, "quarantine"),
    ("opening", Write, "quarantine"),
    ("opening", Sync, "quarantine"),
];

/// Sites of an opening that finds a run of the index damaged or gone.
pub(crate) const INDEX_DAMAGED: &[Named] = &[
    ("opening", Create, "index run in the making"),
    ("opening", Rename, "index run"),
    ("opening", Remove, "index run"),
    ("opening", Remove, "index run"), // only for a run that is there and does not open
    ("opening", Remove, "index run"),
    ("opening", SyncDirectory, "index directory"),
    ("opening", Write, "index run in the making"),
    ("opening", Sync, "index run in the making"),
];

/// Sites of a projection whose file does not open.
pub(crate) const PROJECTION_DAMAGED: &[Named] = &[
    ("projecting", Rename, "projection set aside"),
    ("projecting", Rename, "projection set aside"),
    ("projecting", Rename, "projection set aside"),
    ("projecting", Create, "projection"),
    ("projecting", SyncDirectory, "projections directory"),
];

/// Sites of an opening that finds a run of the index which was never finished.
pub(crate) const UNFINISHED: &[Named] = &[("opening", Remove, "index run in the making")];

/// Sites where a crash tears a group.
pub(crate) const GROUPS: &[Named] = &[("appending", Write, "segment groups"), ("appending", Sync, "segment")];

/// Sites that any round may reach.
pub(crate) const ANY: &[Named] = &[
    ("appending", Create, "index run in the making"),
    ("appending", Create, "offsets"),
    ("appending", Create, "spare"),
    ("appending", Rename, "index run"),
    ("appending", Rename, "offsets"),
    ("appending", Rename, "segment"),
    ("appending", SyncDirectory, "index directory"),
    ("appending", SyncDirectory, "log directory"),
    ("appending", Write, "index run in the making"),
    ("appending", Write, "offsets"),
    ("appending", Write, "segment groups"),
    ("appending", Write, "segment marks"),
    ("appending", Write, "segment zeros"),
    ("appending", Write, "spare head"),
    ("appending", Write, "spare marks"),
    ("appending", Write, "spare zeros"),
    ("appending", SetLength, "segment"),
    ("appending", Sync, "index run in the making"),
    ("appending", Sync, "segment"),
    ("appending", Sync, "spare"),
    ("background", Create, "index run in the making"),
    ("background", Rename, "index run"),
    ("background", Remove, "index run"),
    ("background", SyncDirectory, "index directory"),
    ("background", Write, "index run in the making"),
    ("background", Sync, "index run in the making"),
    ("deploying", Write, "meta"),
    ("deploying", Sync, "meta"),
    ("idle", Write, "segment marks"),
    ("idle", Sync, "segment"),
    ("looking", Create, "offsets"),
    ("looking", Rename, "offsets"),
    ("looking", Remove, "offsets"),
    ("looking", Write, "offsets"),
    ("opening", Create, "manifest"),
    ("opening", Create, "offsets"),
    ("opening", Create, "spare"),
    ("opening", Rename, "manifest"),
    ("opening", Rename, "offsets"),
    ("opening", Rename, "segment"),
    ("opening", Remove, "manifest"),
    ("opening", Remove, "offsets"),
    ("opening", SyncDirectory, "log directory"),
    ("opening", Write, "manifest"),
    ("opening", Write, "meta"),
    ("opening", Write, "offsets"),
    ("opening", Write, "segment marks"),
    ("opening", Write, "spare groups"),
    ("opening", Write, "spare head"),
    ("opening", Write, "spare marks"),
    ("opening", Write, "spare zeros"),
    ("opening", SetLength, "segment"),
    ("opening", Sync, "manifest"),
    ("opening", Sync, "meta"),
    ("opening", Sync, "segment"),
    ("opening", Sync, "spare"),
    ("projecting", Write, "projection"),
    ("projecting", SetLength, "projection"),
    ("projecting", Sync, "projection"),
    ("stopping", Create, "index run in the making"),
    ("stopping", Rename, "index run"),
    ("stopping", SyncDirectory, "index directory"),
    ("stopping", Write, "index run in the making"),
    ("stopping", Write, "segment marks"),
    ("stopping", Write, "projection"),
    ("stopping", Sync, "index run in the making"),
    ("stopping", Sync, "projection"),
    ("stopping", Sync, "segment"),
    ("closing", Write, "meta"),
    ("closing", Write, "projection"),
    ("closing", Sync, "meta"),
    ("closing", Sync, "projection"),
];

/// Those of `ANY` that a round does not always come to.
pub(crate) const SELDOM: &[Named] = &[
    ("appending", Write, "segment zeros"),
    ("appending", Sync, "index run in the making"),
    ("background", Remove, "index run"),
    ("closing", Sync, "meta"),
    ("looking", Create, "offsets"),
    ("looking", Create, "offsets"),
    ("looking", Create, "offsets"),
    ("looking", Rename, "offsets"),
    ("looking", Rename, "offsets"),
    ("looking", Rename, "offsets"),
    ("looking", Remove, "offsets"),
    ("looking", Remove, "offsets"),
    ("looking", Remove, "offsets"),
    ("looking", Remove, "offsets"),
    ("looking", Write, "offsets"),
    ("looking", Write, "offsets"),
    ("looking", Write, "offsets"),
    ("opening", Create, "offsets"),
    ("opening", Create, "offsets"),
    ("opening", Create, "spare"),
    ("opening", Rename, "offsets"),
    ("opening", Remove, "offsets"),
    ("opening", Remove, "offsets"),
    ("opening", Rename, "segment"),
    ("opening", Rename, "segment"),
    ("opening", Write, "offsets"),
    ("opening", Write, "segment marks"),
    ("opening", Write, "spare groups"),
    ("opening", Write, "spare groups"),
    ("opening", Write, "spare groups"),
    ("opening", Write, "spare head"),
    ("opening", Write, "spare head"),
    ("opening", Write, "spare marks"),
    ("opening", Write, "spare marks"),
    ("opening", Sync, "segment"),
    ("stopping", Sync, "projection"),
];

/// Sites that take a rare turn of events; they are reached, not counted.
pub(crate) const RARE: &[Named] = &[
    // An epoch that could not be recorded on a full disk.
    ("appending", Create, "manifest"),
    ("appending", Rename, "manifest"),
    ("appending", Remove, "manifest"),
    ("appending", Write, "manifest"),
    ("appending", Sync, "manifest"),
    // What an earlier failure left.
    ("appending", Remove, "index run in the making"),
    ("appending", Remove, "offsets"),
    ("background", Remove, "index run in the making"),
    ("stopping", Remove, "index run in the making"),
    ("opening", Rename, "meta set aside"),
    // Files that grow or shrink now and then.
    ("closing", SetLength, "meta"),
    ("closing", SetLength, "projection"),
    ("deploying", SetLength, "meta"),
    ("stopping", SetLength, "projection"),
    // Not of the node's making.
    ("opening", CreateDirectory, "root directory"),
    // A segment that is first read by the projection.
    ("projecting", Create, "offsets"),
    ("projecting", Rename, "offsets"),
    ("projecting", Remove, "offsets"),
    ("projecting", Write, "offsets"),
    // A damaged run that is built anew while the node works.
    ("looking", Create, "index run in the making"),
    ("looking", Rename, "index run"),
    ("looking", Remove, "index run"),
    ("looking", SyncDirectory, "index directory"),
    ("looking", Write, "index run in the making"),
    ("looking", Sync, "index run in the making"),
];

/// The one whose turn it is.
pub(crate) fn of_turn(sites: &[Named], turn: u64) -> Site {
    site(sites[(turn % sites.len() as u64) as usize])
}

/// Whether it lies behind the first look of a round.
pub(crate) fn is_later(site: &Site) -> bool {
    !matches!(site.phase, "opening" | "looking")
}

/// Of the sites behind the first look of a round the one whose turn it is.
pub(crate) fn later_of_turn(turn: u64) -> Site {
    let later: Vec<Site> = ANY.iter().copied().map(site).filter(is_later).collect();
    later[(turn % later.len() as u64) as usize]
}

/// All sites that must be hit.
pub(crate) fn wanted() -> impl Iterator<Item = Site> {
    [FIRST, TORN, INDEX_DAMAGED, PROJECTION_DAMAGED, UNFINISHED, ANY].into_iter().flatten().copied().map(site)
}

/// Sites to which most rounds come.
pub(crate) fn common() -> impl Iterator<Item = Site> {
    FIRST.iter().chain(ANY).copied().map(site)
}

pub(crate) fn is_known(found: &Site) -> bool {
    wanted().chain(RARE.iter().copied().map(site)).any(|known| known == *found)
}

fn site((phase, action, place): Named) -> Site {
    Site { phase, action, place }
}
