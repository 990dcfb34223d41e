//! `outrigger support-bundle`: what helps to find the reason of trouble of a running node, in one file to be sent to somebody.
//!
//! Invariants: nothing in it quotes an event, a document, a key or a token. States are told by names and numbers; texts of
//! errors, which may quote data, stay with the node. What cannot be had is named in the bundle instead of ending it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use tonic::{Response, Status};

use super::{
    Session,
    error::CliError,
    output::{Format, print_lines},
    text::{hex, to_line, uuid_text},
};
use crate::{
    api::proto::v1::{
        GetDiagnosticsRequest, GetDiagnosticsResponse, GetMeshStatusRequest, GetMeshStatusResponse,
        GetNodeRequest, GetNodeResponse, ListProjectionsRequest, ListProjectionsResponse, MeshExport,
        MeshImport, ProjectionVersion,
    },
    clock::{Clock as _, SystemClock},
    disk::real::RealDisk,
    mapping::about::time_text,
};

/// What `support-bundle` takes.
#[derive(Debug, Args)]
pub struct SupportBundleArgs {
    /// The file to make; it must not exist
    #[arg(long, value_name = "FILE.tar.gz")]
    to: PathBuf,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
It holds settings without secrets, states of projections and of what is shared, all metrics, the newest warnings and errors,
and versions. It holds no event, document, key or token; look into it before you send it: tar xzOf FILE.tar.gz.

Examples:
  outrigger support-bundle --to flights.tar.gz
  outrigger support-bundle --to flights.tar.gz --addr flights:7400 --output json";

/// A file of the bundle.
type Entry = (&'static str, String);

#[derive(Serialize)]
struct NodeTold<'a> {
    node: &'a str,
    version: &'a str,
    client_version: &'static str,
    log_id: String,
    epoch: u64,
    head: u64,
    lifecycle: &'a str,
    uptime_seconds: f64,
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    collected_at: String,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as in the protocol")]
struct VersionTold<'a> {
    projection: &'a str,
    version: u32,
    state: &'static str,
    active: bool,
    position: u64,
    head: u64,
    lag: u64,
    rate: f64,
    definition_hash: &'a str,
    content_hash: &'a str,
    collections: Vec<(&'a str, u64)>,
    has_error: bool,
    parked_events: u64,
    skipped_events: u64,
    last_error_position: u64,
    queued: bool,
    build_paused: bool,
    taking_over: bool,
}

#[derive(Serialize)]
struct ExportTold<'a> {
    export: &'a str,
    version: u32,
    state: &'static str,
    definition: String,
    position: u64,
    seq: u64,
    acknowledged_seq: u64,
    in_flight: u64,
    resent: u64,
    has_error: bool,
}

#[derive(Serialize)]
struct ImportTold<'a> {
    import: &'a str,
    owner: &'a str,
    export: &'a str,
    version: u32,
    state: &'static str,
    stop: Option<(&'a str, u64, u64)>,
    seq: Option<u64>,
    owner_seq: u64,
    lag: u64,
    appended: u64,
}

/// Collects and writes the bundle.
pub async fn run(session: &Session, args: &SupportBundleArgs) -> Result<(), CliError> {
    let mut admin = session.node.admin().await?;
    let node = admin.get_node(GetNodeRequest {}).await?.into_inner();
    let mut entries = vec![("node.json", node_text(&node))];
    match admin.get_diagnostics(GetDiagnosticsRequest {}).await.map(Response::into_inner) {
        Ok(told) => entries.extend(diagnostics(told)),
        Err(status) => entries.push(missing("diagnostics", &status)),
    }
    let listed = session.node.projections().await?.list_projections(ListProjectionsRequest {}).await;
    entries.push(match listed.map(Response::into_inner) {
        Ok(ListProjectionsResponse { versions, .. }) => {
            ("projections.ndjson", lines(versions.iter().map(version)))
        }
        Err(status) => missing("projections", &status),
    });
    let status = session.node.mesh().await?.get_mesh_status(GetMeshStatusRequest {}).await;
    match status.map(Response::into_inner) {
        Ok(GetMeshStatusResponse { exports, imports, .. }) => {
            entries.push(("exports.ndjson", lines(exports.iter().map(export))));
            entries.push(("imports.ndjson", lines(imports.iter().map(import))));
        }
        Err(status) => entries.push(missing("mesh", &status)),
    }
    let failed = |error: io::Error| CliError::failed(format!("{}: {error}", args.to.display()));
    let bundle = pack(&node.node, &entries).map_err(failed)?;
    RealDisk.create_private(&args.to, &bundle).map_err(failed)?;
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    print_lines(&[match session.output {
        Format::Json => {
            to_line(&serde_json::json!({"file": args.to, "bytes": bundle.len(), "entries": names}))
        }
        Format::Table => {
            format!("{} ({} bytes): {}; no event data", args.to.display(), bundle.len(), names.join(", "))
        }
    }])
}

/// What cannot be had, as a file of its own.
fn missing(what: &str, status: &Status) -> Entry {
    ("missing.txt", format!("{what}: {:?}\n", status.code()))
}

fn lines<T: Serialize>(values: impl Iterator<Item = T>) -> String {
    values.map(|value| to_line(&value) + "\n").collect()
}

fn node_text(node: &GetNodeResponse) -> String {
    to_line(&NodeTold {
        node: &node.node,
        version: &node.version,
        client_version: env!("CARGO_PKG_VERSION"),
        log_id: uuid_text(&node.log_id),
        epoch: node.epoch,
        head: node.head,
        lifecycle: &node.lifecycle,
        uptime_seconds: node.uptime_seconds,
        cpu_seconds: node.cpu_seconds,
        resident_bytes: node.resident_bytes,
        collected_at: time_text(SystemClock.now_unix_nanos()),
    }) + "\n"
}

fn diagnostics(told: GetDiagnosticsResponse) -> [Entry; 3] {
    let mut settings = String::new();
    for setting in &told.settings {
        let value = setting.value.as_deref().unwrap_or("(not set)");
        writeln!(settings, "{} = {value}  # {}", setting.key, setting.source)
            .expect("a string takes all text");
    }
    let mut recent = String::new();
    for line in &told.recent {
        let time = time_text(line.time_unix_nanos);
        writeln!(recent, "{time} {} {}: {}", line.level, line.target, line.text)
            .expect("a string takes all text");
    }
    [("settings.txt", settings), ("metrics.txt", told.metrics), ("recent.txt", recent)]
}

fn version(version: &ProjectionVersion) -> VersionTold<'_> {
    VersionTold {
        projection: &version.projection,
        version: version.version,
        state: version.state().as_str_name(),
        active: version.active,
        position: version.position,
        head: version.head,
        lag: version.lag,
        rate: version.rate,
        definition_hash: &version.definition_hash,
        content_hash: &version.content_hash,
        collections: version.collections.iter().map(|of| (of.name.as_str(), of.documents)).collect(),
        has_error: version.error.is_some(),
        parked_events: version.parked_events,
        skipped_events: version.skipped_events,
        last_error_position: version.last_error_position,
        queued: version.queued,
        build_paused: version.build_paused,
        taking_over: version.taking_over,
    }
}

fn export(export: &MeshExport) -> ExportTold<'_> {
    let name = export.name.as_ref();
    ExportTold {
        export: name.map_or("", |name| &name.export),
        version: name.map_or(0, |name| name.version),
        state: export.state().as_str_name(),
        definition: hex(&export.definition),
        position: export.position,
        seq: export.seq,
        acknowledged_seq: export.acknowledged_seq,
        in_flight: export.in_flight,
        resent: export.resent,
        has_error: export.last_error.is_some(),
    }
}

fn import(import: &MeshImport) -> ImportTold<'_> {
    let from = import.from.as_ref();
    ImportTold {
        import: &import.import,
        owner: from.map_or("", |from| &from.owner),
        export: from.map_or("", |from| &from.export),
        version: from.map_or(0, |from| from.version),
        state: import.state().as_str_name(),
        stop: import.stop.as_ref().map(|stop| (stop.reason.as_str(), stop.seq, stop.position)),
        seq: import.cursor.as_ref().map(|cursor| cursor.seq),
        owner_seq: import.owner_seq,
        lag: import.lag,
        appended: import.appended,
    }
}

/// A compressed tar archive, with all files in a directory of the node's name.
fn pack(node: &str, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let now = SystemClock.now_unix_nanos().div_euclid(1_000_000_000).unsigned_abs();
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{node}/{name}"), content.as_bytes())?;
    }
    let mut compressed = archive.into_inner()?;
    compressed.flush()?;
    compressed.finish()
}
