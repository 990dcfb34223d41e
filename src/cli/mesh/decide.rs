//! `outrigger mesh pause`, `resume`, `skip`, `resync`: decisions about imports, each an event in the node's log.

use clap::Args;
use serde::Serialize;

use super::Client;
use crate::{
    api::proto::v1::{
        PauseImportRequest, ResumeImportRequest, ResyncImportRequest, ResyncNodeRequest,
        SkipImportEventRequest,
    },
    cli::{
        error::CliError,
        output::{Format, print_lines},
        text::to_line,
    },
};

/// Shown below the help of `skip`.
pub(super) const SKIP_EXAMPLES: &str = "\
The event is lost for this import, for good; the log says that it was decided and why. `outrigger mesh
errors IMPORT` shows the position: the one at which the import stands, or the first parked one of a stream, whose later events then
follow. If it stands elsewhere by now, nothing is skipped. For administrators.

Examples:
  outrigger mesh skip flights --expect-position 4711 --reason 'broken delay, see ticket 12'";

/// Shown below the help of `resync`.
pub(super) const RESYNC_EXAMPLES: &str = "\
With an import (reason STALE_EPOCH): it goes on from the last event that it and the owner's log both have. What it imported
behind that stays in the log, marked as orphaned. With --node (LOG_REWOUND, NODE_NAME_TAKEN): this node's log is what counts from
now on, whatever was published of a past that it does not have. For administrators.

Examples:
  outrigger mesh resync flights --reason 'flights was restored from Sunday'
  outrigger mesh resync --node --reason 'restored from Sunday'";

/// What `pause` and `resume` take.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The import
    import: String,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// What `skip` takes.
#[derive(Debug, Args)]
pub struct SkipArgs {
    /// The import
    import: String,
    /// The position, in the owner's log, of the event to pass by
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u64).range(1..))]
    expect_position: u64,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// What `resync` takes.
#[derive(Debug, Args)]
pub struct ResyncArgs {
    /// The import
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    import: Option<String>,
    /// This node itself, instead of an import
    #[arg(long)]
    node: bool,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Decided<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<&'a str>,
    decision: &'a str,
    position: u64,
}

pub(super) fn tell(
    format: Format,
    import: Option<&str>,
    decision: &str,
    sentence: &str,
    position: u64,
) -> Result<(), CliError> {
    print_lines(&[match format {
        Format::Json => to_line(&Decided { import, decision, position }),
        Format::Table => format!("{sentence}, decided at position {position}"),
    }])
}

pub(super) async fn pause(client: &mut Client, args: ImportArgs, format: Format) -> Result<(), CliError> {
    let ImportArgs { import, reason } = args;
    let request = PauseImportRequest { import: import.clone(), reason };
    let position = client.pause_import(request).await?.into_inner().position;
    tell(format, Some(&import), "pause", &format!("import {import} is paused"), position)
}

pub(super) async fn resume(client: &mut Client, args: ImportArgs, format: Format) -> Result<(), CliError> {
    let ImportArgs { import, reason } = args;
    let request = ResumeImportRequest { import: import.clone(), reason };
    let position = client.resume_import(request).await?.into_inner().position;
    tell(format, Some(&import), "resume", &format!("import {import} goes on"), position)
}

pub(super) async fn skip(client: &mut Client, args: SkipArgs, format: Format) -> Result<(), CliError> {
    let SkipArgs { import, expect_position, reason } = args;
    let request = SkipImportEventRequest { import: import.clone(), expect_position, reason };
    let position = client.skip_import_event(request).await?.into_inner().position;
    let sentence = format!("import {import} passes the event at position {expect_position} by");
    tell(format, Some(&import), "skip", &sentence, position)
}

pub(super) async fn resync(client: &mut Client, args: ResyncArgs, format: Format) -> Result<(), CliError> {
    let ResyncArgs { import, node: _, reason } = args;
    let Some(import) = import else {
        let position = client.resync_node(ResyncNodeRequest { reason }).await?.into_inner().position;
        return tell(format, None, "resync", "this node's log is what counts", position);
    };
    let request = ResyncImportRequest { import: import.clone(), reason };
    let position = client.resync_import(request).await?.into_inner().position;
    let sentence = format!("import {import} goes on from the last event that the owner's log has");
    tell(format, Some(&import), "resync", &sentence, position)
}
