//! `outrigger restore`: a backup becomes the data directory of a node, checked as a whole before it is one.
//!
//! Steps: files into `restoring/` of the data directory, each held against its digest; local state; the mark that makes the first
//! opening part from the original; verification of the whole log; then local state and, as the commit point, the log get their
//! names. Killed before, there is no log, a node refuses the directory, and the same command goes on. Invariant: nothing that is
//! there is overwritten. Does not know what a restored log means.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::Serialize;

use super::{
    backup::{bandwidth, directory::failed, manifest::BackupManifest},
    error::CliError,
    output::{Format, print_lines},
    text::{hex, to_line},
    verify::look,
};
use crate::{
    config::value,
    disk::{self, Disk, real::RealDisk},
    limits::{BACKUP_MANIFEST_BYTES_MAX, RESTORING_DIR},
    log::{self, LogError, LogInspector},
    meta::{Meta, backup::MetaSnapshot},
    verify::DataDir,
};

pub mod source;
pub mod staging;

use staging::{META_JSON, Staging};

/// What `restore` takes.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A directory that `backup` keeps, or - for its stream on standard input
    #[arg(long, value_name = "DIR|-")]
    pub from: String,
    /// The data directory that is to be; nothing that is there is overwritten
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Give the log another node's name, for a copy beside the original
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// At most so many bytes a second, such as 50MiB
    #[arg(long, value_name = "BYTES")]
    pub bandwidth: Option<String>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Everything is checked before it counts: digests, and the whole log as `verify` does. A restore that was interrupted goes on when it \
is run again. At its first start the node begins a new epoch: appends go on behind the backup's last position, and whoever has \
seen more of the original is told so (STALE_EPOCH). Index and projections are built from the log again.

Examples:
  outrigger restore --from /backup --data-dir /var/lib/outrigger
  outrigger restore --from /backup --data-dir ./copy --node flights-copy
  zstd -dc flights.backup.zst | outrigger restore --from - --data-dir /var/lib/outrigger";

/// What a data directory with a node in it has.
const DATA: [&str; 5] = ["log", "index", "meta.redb", "mesh.redb", "projections"];

#[derive(Debug, Serialize)]
struct Done<'a> {
    node: &'a str,
    log_id: &'a str,
    head: u64,
    epoch: u64,
    chain: &'a str,
    backed_up_at: &'a str,
    events: u64,
}

/// Runs `restore`.
pub fn run(args: &RestoreArgs, output: Format) -> Result<(), CliError> {
    let rate = bandwidth(args.bandwidth.as_deref())?;
    let node = args.node.as_deref().map(value::dns_label).transpose();
    let node = node.map_err(|invalid| CliError::usage("--node", &invalid))?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = &args.data_dir;
    check_empty(&*disk, dir)?;
    let mut staging = Staging::open(Arc::clone(&disk), &dir.join(RESTORING_DIR))?;
    let received = if args.from == "-" {
        source::from_stream(&mut staging, rate)?
    } else {
        source::from_directory(&*disk, Path::new(&args.from), &mut staging, rate)?
    };
    let manifest = &received.manifest;
    put_local_state(&disk, staging.dir(), &received, &args.from)?;
    let log_dir = DataDir::new(staging.dir()).log();
    log::mark_restored(&disk, &log_dir, node.as_deref())
        .map_err(|error| damaged(&received, &args.from, &in_log(error)))?;
    let events = check(&disk, staging.dir(), &received, &args.from)?;
    publish(&*disk, staging, dir)?;
    let name = node.as_deref().unwrap_or(&manifest.node);
    print_lines(&[match output {
        Format::Table => format!(
            "restored node {name} up to position {} (backup of {}) into {}; start it with `outrigger serve --node {name} --data-dir {}`",
            manifest.head,
            manifest.time,
            dir.display(),
            dir.display()
        ),
        Format::Json => to_line(&Done {
            node: name,
            log_id: &manifest.log_id,
            head: manifest.head,
            epoch: manifest.epoch,
            chain: &manifest.chain,
            backed_up_at: &manifest.time,
            events,
        }),
    }])
}

/// What was brought into the staging directory.
#[derive(Debug)]
pub struct Received {
    /// What the backup says of itself.
    pub manifest: BackupManifest,
    /// Files whose bytes are not those that the backup was made of.
    pub differing: Vec<String>,
}

/// Refuses a directory in which there is anything of a node.
fn check_empty(disk: &dyn Disk, dir: &Path) -> Result<(), CliError> {
    let exists = |path: &Path| disk.exists(path).map_err(|error| failed("look at", path, &error));
    let goes_on = exists(&dir.join(RESTORING_DIR).join("log"))?;
    for name in DATA {
        // Local state gets its name just before the log does.
        if exists(&dir.join(name))? && !(goes_on && name == "meta.redb") {
            return Err(CliError::failed(format!(
                "{} holds the data of a node already ({name}): a restore overwrites nothing; name another directory, or move this one away",
                dir.display()
            )));
        }
    }
    Ok(())
}

/// Makes `meta.redb` of what the backup has of it.
fn put_local_state(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    received: &Received,
    from: &str,
) -> Result<(), CliError> {
    let json = dir.join(META_JSON);
    let bytes = disk::read_file(&**disk, &json, BACKUP_MANIFEST_BYTES_MAX);
    let bytes = bytes.map_err(|error| failed("read", &json, &error))?;
    let snapshot = MetaSnapshot::from_json(&bytes)
        .map_err(|what| damaged(received, from, &format!("its local state cannot be read: {what}")))?;
    let path = DataDir::new(dir).meta();
    match disk.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, &error)),
        _ => {}
    }
    let put = Meta::open(disk, &path).and_then(|meta| meta.restore(&snapshot));
    put.map_err(|error| CliError::failed(error.to_string()))
}

/// What is wrong with a backup, and what to do.
fn damaged(received: &Received, from: &str, what: &str) -> CliError {
    let names = received.differing.join(", ");
    let names = if names.is_empty() {
        String::new()
    } else {
        format!(" ({names}: not the bytes that were backed up)")
    };
    CliError::failed(format!(
        "the backup {from} is damaged{names}: {what}; use another copy of it. Nothing was restored"
    ))
}

/// An error of the log, told of a copy: what it says of putting files back does not apply.
fn in_log(error: LogError) -> String {
    match error {
        LogError::Corrupt(place) => {
            let name = place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name} at offset {}: {}", place.offset, place.what)
        }
        other => other.to_string(),
    }
}

/// Holds all that was received against what the backup says; gives the number of events.
fn check(disk: &Arc<dyn Disk>, dir: &Path, received: &Received, from: &str) -> Result<u64, CliError> {
    let data_dir = DataDir::new(dir);
    let manifest = &received.manifest;
    let differs = |what: &str| damaged(received, from, what);
    let inspector = LogInspector::open(Arc::clone(disk), &data_dir.log());
    let inspector = inspector.map_err(|error| differs(&in_log(error)))?;
    let report = look(&**disk, &data_dir, &inspector)?;
    if let Some(first) = report.findings().first() {
        let name = first.path.file_name().unwrap_or_default().to_string_lossy();
        let offset = first.offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default();
        let positions = match (first.first, first.last) {
            (Some(first), Some(last)) if last > first => format!(", positions {first} to {last}"),
            (Some(first), _) => format!(", position {first}"),
            _ => String::new(),
        };
        return Err(differs(&format!("{name}{offset}{positions}: {}", first.what)));
    }
    if !received.differing.is_empty() {
        return Err(differs("the log verifies, but a byte beside its groups is not what it was"));
    }
    let chain = report.log.chain.map(|chain| hex(&chain)).unwrap_or_default();
    if report.log.head.get() != manifest.head || (manifest.head > 0 && chain != manifest.chain) {
        return Err(differs(&format!(
            "expected the log up to position {} with hash {}, found {} with {chain}",
            manifest.head, manifest.chain, report.log.head
        )));
    }
    Ok(report.log.records)
}

/// Gives everything its name; that of the log is the commit point.
fn publish(disk: &dyn Disk, staging: Staging, dir: &Path) -> Result<(), CliError> {
    let from = staging.close()?;
    let (staged, data) = (DataDir::new(&from), DataDir::new(dir));
    for (from, to) in [(staged.meta(), data.meta()), (staged.log(), data.log())] {
        disk.rename(&from, &to).map_err(|error| failed("rename", &from, &error))?;
        disk.sync_dir(dir).map_err(|error| failed("sync", dir, &error))?;
    }
    RealDisk.remove_dir(&from).map_err(|error| failed("remove", &from, &error))
}
