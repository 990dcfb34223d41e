//! `outrigger mesh provision`: makes and checks the streams of a topology on a NATS server.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::topology::read_topology;
use crate::{
    cli::{
        error::CliError,
        output::{Format, print_lines},
        text::to_line,
    },
    clock::SystemClock,
    disk::real::RealDisk,
    mesh::nats::{StreamOutcome, provision, stream_name},
};

/// What `mesh provision` takes.
#[derive(Debug, Args)]
pub struct ProvisionArgs {
    /// Who takes part: nodes, their public NATS keys, who imports from whom
    #[arg(long, value_name = "FILE")]
    pub topology: PathBuf,
    /// The servers: nats://HOST:PORT or tls://HOST:PORT, several joined by commas
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The operator's credential: the seed of its nkey, or a file made by `nsc generate creds`
    #[arg(long, value_name = "FILE")]
    pub creds: Option<PathBuf>,
}

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Repeating it changes nothing. A stream of another size is resized; one with a wrong flag is named and left alone.

Examples:
  outrigger mesh provision --topology mesh.yaml --url nats://127.0.0.1:4222 --creds operator.nk
  outrigger mesh provision --topology mesh.yaml --url tls://a:4222,tls://b:4222 --creds operator.creds --output json";

#[derive(Serialize)]
struct Line<'a> {
    node: &'a str,
    stream: String,
    outcome: &'static str,
}

pub(super) async fn run(args: &ProvisionArgs, format: Format) -> Result<(), CliError> {
    let streams = read_topology(&args.topology)?.streams();
    let (clock, disk) = (Arc::new(SystemClock), Arc::new(RealDisk));
    let done = provision(&args.url, args.creds.as_ref(), &streams, clock, disk).await;
    let done = done.map_err(|error| CliError::failed(error.to_string()))?;
    let lines: Vec<String> = done
        .iter()
        .map(|provisioned| {
            let outcome = match provisioned.outcome {
                StreamOutcome::Created => "created",
                StreamOutcome::Unchanged => "unchanged",
                StreamOutcome::Resized => "resized",
            };
            let stream = stream_name(&provisioned.node);
            match format {
                Format::Table => format!("{stream} {outcome}"),
                Format::Json => to_line(&Line { node: &provisioned.node, stream, outcome }),
            }
        })
        .collect();
    print_lines(&lines)
}
