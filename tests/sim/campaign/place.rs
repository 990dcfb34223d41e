//! What the files of a node are called in sites: the disk of the campaign tells its operations by these names.

use std::path::Path;

/// The data directory of all stories.
pub(crate) const DATA: &str = "/data";

/// Where groups begin in a segment, and marks.
const GROUPS_AT: u64 = 12_288;
const MARKS_AT: u64 = 4_096;

/// The kind of file at a path; for writes into segments also the part.
pub(crate) fn classify(path: &Path, write: Option<(&[u8], u64)>) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let dir = path.parent().and_then(Path::to_str).unwrap_or("");
    let (whole, is_new) = name.strip_suffix(".new").map_or((name, false), |whole| (whole, true));
    match (dir, whole) {
        ("/data/log", "spare") => {
            part(write, ["spare", "spare head", "spare marks", "spare groups", "spare zeros"])
        }
        ("/data/log", "manifest") => "manifest",
        ("/data/log", name) if is_named(name, ".offsets") => "offsets",
        ("/data/log", name) if is_named(name, ".quarantine") => "quarantine",
        ("/data/log", name) if is_named(name, ".log") => {
            part(write, ["segment", "segment head", "segment marks", "segment groups", "segment zeros"])
        }
        ("/data/index", _) if is_new => "index run in the making",
        ("/data/index", _) => "index run",
        ("/data", "meta.redb") => "meta",
        ("/data", name) if name.starts_with("meta.redb.damaged-") => "meta set aside",
        ("/data/projections", name) if is_named(name, ".redb") => "projection",
        ("/data/projections", _) => "projection set aside",
        ("/data", "log") => "log directory",
        ("/data", "index") => "index directory",
        ("/data", "projections") => "projections directory",
        ("/", "data") => "data directory",
        (_, "") => "root directory",
        _ => "elsewhere",
    }
}

fn part(write: Option<(&[u8], u64)>, [whole, head, marks, groups, zeros]: [&'static str; 5]) -> &'static str {
    match write {
        None => whole,
        Some((_, offset)) if (MARKS_AT..GROUPS_AT).contains(&offset) => marks,
        Some((data, _)) if is_zero(data) => zeros,
        Some((_, offset)) if offset < MARKS_AT => head,
        Some(_) => groups,
    }
}

/// Bytes are compared: a path's parts cost too much where every operation asks.
fn is_named(name: &str, ending: &str) -> bool {
    name.as_bytes().ends_with(ending.as_bytes())
}

/// Compares whole pieces: byte by byte it would take a tenth of a campaign that is built for tests.
fn is_zero(data: &[u8]) -> bool {
    const ZEROS: [u8; 4_096] = [0; 4_096];
    data.chunks(ZEROS.len()).all(|piece| *piece == ZEROS[..piece.len()])
}

/// Whether a file's name ends with this extension.
pub(crate) fn is_kind(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}
