//! The mesh's states, names and times as the command line writes them.

use jiff::Timestamp;

use crate::api::proto::v1::{ExportName, ExportState, ImportState};

/// What an export is doing.
pub(super) const fn export_state(state: ExportState) -> &'static str {
    match state {
        ExportState::Unspecified => "unknown",
        ExportState::Starting => "starting",
        ExportState::Publishing => "publishing",
        ExportState::Following => "following",
        ExportState::Disconnected => "disconnected",
        ExportState::NodeNameTaken => "NODE_NAME_TAKEN",
        ExportState::LogRewound => "LOG_REWOUND",
        ExportState::DefinitionChanged => "DEFINITION_CHANGED",
        ExportState::Failed => "failed",
    }
}

/// What an import is doing.
pub(super) const fn import_state(state: ImportState) -> &'static str {
    match state {
        ImportState::Unspecified => "unknown",
        ImportState::Starting => "starting",
        ImportState::Importing => "importing",
        ImportState::Following => "following",
        ImportState::Repairing => "repairing",
        ImportState::Paused => "paused",
        ImportState::Stopped => "stopped",
        ImportState::Disconnected => "disconnected",
    }
}

/// `flights/departures v2`.
pub(super) fn full_name(name: Option<&ExportName>) -> String {
    name.map(|ExportName { owner, export, version }| format!("{owner}/{export} v{version}"))
        .unwrap_or_default()
}

/// A point in time, from nanoseconds since 1970.
pub(super) fn time(unix_nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_nanos)).map(|time| time.to_string()).unwrap_or_default()
}
