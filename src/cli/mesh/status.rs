//! `outrigger mesh status`, `exports`, `imports`: how everything that is shared stands.

use serde::Serialize;

use super::{
    Client,
    words::{export_state, full_name, import_state, time},
};
use crate::{
    api::proto::v1::{GetMeshStatusRequest, GetMeshStatusResponse, MeshBus, MeshExport, MeshImport},
    cli::{
        error::CliError,
        output::{Align, Format, Out, table},
        text::{grouped, hex, to_line, uuid_text},
    },
};

/// Shown below the help.
pub(super) const STATUS_EXAMPLES: &str = "\
Reasons to stand still (docs/mesh.md says what to do about each): GAP, REGRESSION, FORK, BAD_SIGNATURE, UNKNOWN_OWNER, NOT_OWNER,
STALE_EPOCH, MAPPING_FAILED, DEFINITION_CHANGED; of a node LOG_REWOUND, NODE_NAME_TAKEN.

Examples:
  outrigger mesh status
  outrigger mesh status --output json";

#[derive(Debug, Serialize)]
struct Status<'a> {
    node: &'a str,
    log_id: String,
    bus: Option<Bus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewound: Option<Rewound>,
    exports: Vec<Export<'a>>,
    imports: Vec<Import<'a>>,
    problems: &'a [String],
}

#[derive(Debug, Serialize)]
struct Bus<'a> {
    is_connected: bool,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    disconnects: u64,
}

#[derive(Debug, Serialize)]
struct Rewound {
    export: String,
    epoch: u64,
    seq: u64,
    position: u64,
    head: u64,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the fields are those of the protocol")]
struct Export<'a> {
    export: &'a str,
    version: u32,
    definition: String,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    position: u64,
    seq: u64,
    acknowledged_seq: u64,
    in_flight: u64,
    resent: u64,
    found_again: u64,
    repairs_served: u64,
    rate_per_second: u64,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the fields are those of the protocol")]
struct Import<'a> {
    import: &'a str,
    owner: &'a str,
    export: &'a str,
    version: u32,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Stop<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    owner_seq: u64,
    lag: u64,
    appended: u64,
    rate_per_second: u64,
    repairs: Repairs<'a>,
    parked_events: u64,
    parked_streams: u64,
    skipped_events: u64,
}

#[derive(Debug, Serialize)]
struct Stop<'a> {
    reason: &'a str,
    message: &'a str,
    seq: u64,
    position: u64,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    divergence: Option<Divergence>,
}

#[derive(Debug, Serialize)]
struct Divergence {
    seq: u64,
    position: u64,
    owner_seq: u64,
}

#[derive(Debug, Serialize)]
struct Cursor {
    log_id: String,
    epoch: u64,
    seq: u64,
    position: u64,
    chain: String,
    generation: u32,
}

#[derive(Debug, Serialize)]
struct Repairs<'a> {
    is_asking: bool,
    asked: u64,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
}

pub(super) async fn get(client: &mut Client) -> Result<GetMeshStatusResponse, CliError> {
    Ok(client.get_mesh_status(GetMeshStatusRequest {}).await?.into_inner())
}

pub(super) async fn status(client: &mut Client, format: Format) -> Result<(), CliError> {
    let status = get(client).await?;
    let mut out = Out::standard();
    if format == Format::Json {
        out.line(&to_line(&object(&status)))?;
        return out.flush();
    }
    out.line(&head(&status))?;
    if let Some(rewound) = &status.rewound {
        let (name, position, head) = (full_name(rewound.export.as_ref()), rewound.position, rewound.head);
        out.line(&format!(
            "LOG_REWOUND: {name} was published up to position {position} of this log, which ends at {head}; appends are \
             refused. If this log is the one to go on with: outrigger mesh resync --node"
        ))?;
    }
    export_rows(&mut out, &status.exports)?;
    import_rows(&mut out, &status.imports)?;
    for problem in &status.problems {
        out.line(&format!("problem: {problem}"))?;
    }
    out.flush()
}

pub(super) async fn exports(client: &mut Client, format: Format) -> Result<(), CliError> {
    let status = get(client).await?;
    let mut out = Out::standard();
    match format {
        Format::Json => status.exports.iter().try_for_each(|one| out.line(&to_line(&export(one))))?,
        Format::Table => export_rows(&mut out, &status.exports)?,
    }
    out.flush()
}

pub(super) async fn imports(client: &mut Client, format: Format) -> Result<(), CliError> {
    let status = get(client).await?;
    let mut out = Out::standard();
    match format {
        Format::Json => status.imports.iter().try_for_each(|one| out.line(&to_line(&import(one))))?,
        Format::Table => import_rows(&mut out, &status.imports)?,
    }
    out.flush()
}

fn head(status: &GetMeshStatusResponse) -> String {
    let bus = match &status.bus {
        None => "shares nothing".to_owned(),
        Some(MeshBus { is_connected: true, since_unix_nanos, .. }) => {
            format!("is connected since {}", time(*since_unix_nanos))
        }
        Some(MeshBus { since_unix_nanos, last_error, .. }) => {
            let why = last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("is not connected since {}{why}; local work goes on", time(*since_unix_nanos))
        }
    };
    format!("node {} (log {}) {bus}", status.node, uuid_text(&status.log_id))
}

fn export_rows(out: &mut Out, exports: &[MeshExport]) -> Result<(), CliError> {
    let mut rows = table(&[
        ("export", Align::Left),
        ("state", Align::Left),
        ("published", Align::Right),
        ("acknowledged", Align::Right),
        ("of position", Align::Right),
        ("events/s", Align::Right),
    ]);
    for export in exports {
        rows.add_row([
            full_name(export.name.as_ref()),
            export_state(export.state()).to_owned(),
            grouped(export.seq),
            grouped(export.acknowledged_seq),
            export.position.to_string(),
            grouped(export.rate_per_second),
        ]);
    }
    out.table(&rows)?;
    for export in exports {
        if let Some(error) = &export.last_error {
            out.line(&format!("{}: {error}", full_name(export.name.as_ref())))?;
        }
    }
    Ok(())
}

fn import_rows(out: &mut Out, imports: &[MeshImport]) -> Result<(), CliError> {
    let mut rows = table(&[
        ("import", Align::Left),
        ("from", Align::Left),
        ("state", Align::Left),
        ("reason", Align::Left),
        ("taken", Align::Right),
        ("lag", Align::Right),
        ("events/s", Align::Right),
        ("repaired", Align::Right),
    ]);
    for import in imports {
        rows.add_row([
            import.import.clone(),
            full_name(import.from.as_ref()),
            import_state(import.state()).to_owned(),
            import.stop.as_ref().map(|stop| stop.reason.clone()).unwrap_or_default(),
            grouped(import.cursor.as_ref().map_or(0, |cursor| cursor.seq)),
            grouped(import.lag),
            grouped(import.rate_per_second),
            grouped(import.repair.as_ref().map_or(0, |repair| repair.events)),
        ]);
    }
    out.table(&rows)?;
    for import in imports {
        if import.parked_events > 0 {
            let (name, events, streams) = (&import.import, import.parked_events, import.parked_streams);
            out.line(&format!(
                "{name}: parked events: {events}, streams: {streams}; see mesh errors {name}"
            ))?;
        }
        match (&import.stop, &import.last_error) {
            (Some(stop), _) => {
                let at = match stop.position {
                    0 => String::new(),
                    position => format!(" at position {position} of the owner's log"),
                };
                let since = time(stop.since_unix_nanos);
                out.line(&format!(
                    "{}: {}{at}, since {since}: {}",
                    import.import, stop.reason, stop.message
                ))?;
            }
            (None, Some(error)) => out.line(&format!("{}: last error: {error}", import.import))?,
            (None, None) => {}
        }
    }
    Ok(())
}

fn object(status: &GetMeshStatusResponse) -> Status<'_> {
    Status {
        node: &status.node,
        log_id: uuid_text(&status.log_id),
        bus: status.bus.as_ref().map(|bus| Bus {
            is_connected: bus.is_connected,
            since: time(bus.since_unix_nanos),
            last_error: bus.last_error.as_deref(),
            disconnects: bus.disconnects,
        }),
        rewound: status.rewound.as_ref().map(|rewound| Rewound {
            export: full_name(rewound.export.as_ref()),
            epoch: rewound.epoch,
            seq: rewound.seq,
            position: rewound.position,
            head: rewound.head,
        }),
        exports: status.exports.iter().map(export).collect(),
        imports: status.imports.iter().map(import).collect(),
        problems: &status.problems,
    }
}

fn export(export: &MeshExport) -> Export<'_> {
    let name = export.name.as_ref();
    Export {
        export: name.map_or("", |name| &name.export),
        version: name.map_or(0, |name| name.version),
        definition: hex(&export.definition),
        state: export_state(export.state()),
        last_error: export.last_error.as_deref(),
        position: export.position,
        seq: export.seq,
        acknowledged_seq: export.acknowledged_seq,
        in_flight: export.in_flight,
        resent: export.resent,
        found_again: export.found_again,
        repairs_served: export.repairs_served,
        rate_per_second: export.rate_per_second,
    }
}

fn import(import: &MeshImport) -> Import<'_> {
    let (from, repair) = (import.from.as_ref(), import.repair.as_ref());
    Import {
        import: &import.import,
        owner: from.map_or("", |name| &name.owner),
        export: from.map_or("", |name| &name.export),
        version: from.map_or(0, |name| name.version),
        state: import_state(import.state()),
        stop: import.stop.as_ref().map(|stop| Stop {
            reason: &stop.reason,
            message: &stop.message,
            seq: stop.seq,
            position: stop.position,
            since: time(stop.since_unix_nanos),
            divergence: stop.divergence.as_ref().map(|at| Divergence {
                seq: at.seq,
                position: at.position,
                owner_seq: at.owner_seq,
            }),
        }),
        last_error: import.last_error.as_deref(),
        cursor: import.cursor.as_ref().map(|cursor| Cursor {
            log_id: uuid_text(&cursor.log_id),
            epoch: cursor.epoch,
            seq: cursor.seq,
            position: cursor.position,
            chain: hex(&cursor.chain),
            generation: cursor.generation,
        }),
        owner_seq: import.owner_seq,
        lag: import.lag,
        appended: import.appended,
        rate_per_second: import.rate_per_second,
        repairs: Repairs {
            is_asking: repair.is_some_and(|repair| repair.is_asking),
            asked: repair.map_or(0, |repair| repair.asked),
            events: repair.map_or(0, |repair| repair.events),
            last_error: repair.and_then(|repair| repair.last_error.as_deref()),
        },
        parked_events: import.parked_events,
        parked_streams: import.parked_streams,
        skipped_events: import.skipped_events,
    }
}
