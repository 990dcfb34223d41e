//! The mesh in the words of the protocol: the handle that the API is given.
//!
//! Owns the way from the mesh's own values to messages, and from the API's commands to the mesh's. Decides nothing.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    api::{
        mesh::{Handle, MeshCommand, MeshRefusal},
        proto::v1,
    },
    app::mesh_keys::TrustInForce,
    clock::Clock,
    event::{ImportCursor, Position},
    mesh::{
        envelope::{ExportName, PublicEvent},
        quarantine::{ErrorPage, ImportError, ImportErrorKind},
        state::{
            Command, CommandError, Divergence, ExportState, ExportStatus, ImportState, ImportStatus,
            MeshStatus, Rewound, Stop,
        },
        trust::{Trust, TrustedKey},
    },
};

/// The handle of a node that shares nothing.
pub(super) fn absent(
    node: &str,
    log_id: Uuid,
    trust: TrustInForce,
    own_key: Option<String>,
    clock: Arc<dyn Clock>,
) -> Handle {
    let status = v1::GetMeshStatusResponse {
        node: node.to_owned(),
        log_id: log_id.as_bytes().to_vec().into(),
        ..v1::GetMeshStatusResponse::default()
    };
    Handle {
        status: Arc::new(move || status.clone()),
        peers: Arc::new(move || peers_out(&trust.get(), own_key.as_deref(), &[], clock.now_unix_nanos())),
        decide: Arc::new(|_, _| Box::pin(async { Err(shares_nothing()) })),
        errors: Arc::new(|_, _, _| Box::pin(async { Err(shares_nothing()) })),
    }
}

fn shares_nothing() -> MeshRefusal {
    let message = "this node shares nothing: set mesh.nats.url, and exports.dir or imports.dir";
    MeshRefusal::Precondition(message.to_owned())
}

/// What an import could not map, in the API's words.
pub(super) fn errors_out(page: ErrorPage) -> v1::ListImportErrorsResponse {
    let ErrorPage { errors, is_last } = page;
    let last = errors.last().map(|error| error.at.to_string());
    let next_page_token = last.filter(|_| !is_last);
    v1::ListImportErrorsResponse { errors: errors.into_iter().map(error_out).collect(), next_page_token }
}

fn error_out(error: ImportError) -> v1::ImportError {
    let kind = match error.kind {
        ImportErrorKind::Paused => v1::ImportErrorKind::Paused,
        ImportErrorKind::Parked => v1::ImportErrorKind::Parked,
        ImportErrorKind::Waiting => v1::ImportErrorKind::Waiting,
        ImportErrorKind::Skipped => v1::ImportErrorKind::Skipped,
    };
    v1::ImportError {
        kind: kind.into(),
        position: error.position.get(),
        recorded_at: error.at.get(),
        error: error.error,
        is_decided: error.is_decided,
        event: error.event.map(public_out),
    }
}

fn public_out(event: PublicEvent) -> v1::PublicEvent {
    // An event whose data are not kept has none, and no time: data are at least one byte of JSON.
    let data = Some(event.data).filter(|data| !data.is_empty());
    v1::PublicEvent {
        id: event.id.as_bytes().to_vec().into(),
        r#type: event.event_type.as_str().to_owned(),
        stream: event.stream.as_str().to_owned(),
        tags: event.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        time_unix_nanos: data.is_some().then_some(event.time_unix_nanos),
        data: data.map(|data| String::from_utf8_lossy(&data).into_owned()),
    }
}

/// A command in the mesh's own words.
pub(super) fn command_in(command: MeshCommand, reason: String) -> Command {
    match command {
        MeshCommand::Pause { import } => Command::Pause { import, reason },
        MeshCommand::Resume { import } => Command::Resume { import, reason },
        MeshCommand::Retry { import } => Command::Retry { import, reason },
        MeshCommand::Skip { import, expect_position } => {
            Command::Skip { import, expect_position: Position::new(expect_position), reason }
        }
        MeshCommand::ResyncImport { import } => Command::ResyncImport { import, reason },
        MeshCommand::ResyncNode => Command::ResyncNode { reason },
    }
}

/// A refusal in the API's words.
pub(super) fn refusal_out(error: CommandError) -> MeshRefusal {
    let message = error.to_string();
    match error {
        CommandError::NoImport(_) => MeshRefusal::NoImport(message),
        CommandError::Precondition(_) => MeshRefusal::Precondition(message),
        CommandError::NothingToRetry(_) => MeshRefusal::NothingToRetry(message),
        CommandError::OtherPosition { expected, actual } => {
            MeshRefusal::OtherPosition { expected: expected.get(), actual: actual.get(), message }
        }
        CommandError::Append(_) | CommandError::Unavailable(_) => MeshRefusal::Unavailable(message),
    }
}

/// Who is trusted, at this time, and whose events which import takes.
pub(super) fn peers_out(
    trust: &Trust,
    own_key: Option<&str>,
    imports: &[ImportStatus],
    now_unix_nanos: i64,
) -> v1::ListPeersResponse {
    let key = |key: &TrustedKey| v1::PeerKey {
        key: key.public.clone(),
        not_before_unix_nanos: key.not_before_unix_nanos,
        not_after_unix_nanos: key.not_after_unix_nanos,
        is_in_force: key.is_in_force(now_unix_nanos),
    };
    let peer = |(node, keys): (&str, &[TrustedKey])| v1::MeshPeer {
        node: node.to_owned(),
        keys: keys.iter().map(key).collect(),
        imports: imports
            .iter()
            .filter(|import| import.from.owner == node)
            .map(|import| import.import.clone())
            .collect(),
    };
    v1::ListPeersResponse { peers: trust.nodes().map(peer).collect(), own_key: own_key.map(str::to_owned) }
}

/// How the mesh stands.
pub(super) fn status_out(status: MeshStatus) -> v1::GetMeshStatusResponse {
    let MeshStatus { node, log_id, bus, rewound, exports, imports, problems } = status;
    v1::GetMeshStatusResponse {
        node,
        log_id: log_id.as_bytes().to_vec().into(),
        bus: Some(v1::MeshBus {
            is_connected: bus.is_connected,
            since_unix_nanos: bus.since_unix_nanos,
            last_error: bus.last_error,
            disconnects: bus.disconnects,
        }),
        rewound: rewound.map(rewound_out),
        exports: exports.into_iter().map(export_out).collect(),
        imports: imports.into_iter().map(import_out).collect(),
        problems,
    }
}

fn name_out(name: ExportName) -> v1::ExportName {
    let ExportName { owner, export, version } = name;
    v1::ExportName { owner, export, version }
}

fn rewound_out(rewound: Rewound) -> v1::RewoundLog {
    let Rewound { export, epoch, seq, position, head } = rewound;
    v1::RewoundLog { export: Some(name_out(export)), epoch, seq, position: position.get(), head: head.get() }
}

fn export_out(export: ExportStatus) -> v1::MeshExport {
    let state = match export.state {
        ExportState::Starting => v1::ExportState::Starting,
        ExportState::Publishing => v1::ExportState::Publishing,
        ExportState::Following => v1::ExportState::Following,
        ExportState::Disconnected => v1::ExportState::Disconnected,
        ExportState::NameTaken => v1::ExportState::NodeNameTaken,
        ExportState::Rewound => v1::ExportState::LogRewound,
        ExportState::DefinitionChanged => v1::ExportState::DefinitionChanged,
        ExportState::Failed => v1::ExportState::Failed,
    };
    v1::MeshExport {
        name: Some(name_out(export.name)),
        definition: export.definition.to_vec().into(),
        state: state.into(),
        last_error: export.last_error,
        position: export.position.get(),
        seq: export.seq,
        acknowledged_seq: export.acknowledged_seq,
        in_flight: export.in_flight as u64,
        resent: export.resent,
        found_again: export.found_again,
        repairs_served: export.repairs_served,
        rate_per_second: export.rate_per_second,
    }
}

fn import_out(import: ImportStatus) -> v1::MeshImport {
    let state = match import.state {
        ImportState::Starting => v1::ImportState::Starting,
        ImportState::Importing => v1::ImportState::Importing,
        ImportState::Following => v1::ImportState::Following,
        ImportState::Repairing => v1::ImportState::Repairing,
        ImportState::Paused => v1::ImportState::Paused,
        ImportState::Stopped => v1::ImportState::Stopped,
        ImportState::Disconnected => v1::ImportState::Disconnected,
    };
    v1::MeshImport {
        lag: import.lag(),
        import: import.import,
        from: Some(name_out(import.from)),
        state: state.into(),
        stop: import.stop.map(stop_out),
        last_error: import.last_error,
        cursor: import.cursor.map(place_out),
        owner_seq: import.owner_seq,
        appended: import.appended,
        rate_per_second: import.rate_per_second,
        repair: Some(v1::ImportRepair {
            is_asking: import.repair.is_asking,
            asked: import.repair.asked,
            events: import.repair.events,
            last_error: import.repair.last_error,
        }),
        parked_events: import.aside.parked_events,
        parked_streams: import.aside.parked_streams,
        skipped_events: import.aside.skipped,
    }
}

fn stop_out(stop: Stop) -> v1::ImportStop {
    v1::ImportStop {
        reason: stop.reason.as_str().to_owned(),
        message: stop.message,
        seq: stop.seq,
        position: stop.position.get(),
        since_unix_nanos: stop.since_unix_nanos,
        divergence: stop.divergence.map(|Divergence { seq, position, owner_seq }| v1::ImportDivergence {
            seq,
            position: position.get(),
            owner_seq,
        }),
    }
}

fn place_out(cursor: ImportCursor) -> v1::ImportPlace {
    v1::ImportPlace {
        log_id: cursor.log_id.as_bytes().to_vec().into(),
        epoch: cursor.epoch,
        seq: cursor.seq,
        position: cursor.position.get(),
        chain: cursor.chain.to_vec().into(),
        generation: cursor.generation,
    }
}
