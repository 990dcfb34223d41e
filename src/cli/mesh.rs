//! `outrigger mesh`: the commands of the mesh. One file per command.

pub mod nats_config;
pub mod provision;

use std::path::Path;

use clap::Subcommand;

use super::{error::CliError, output::Format};
use crate::{
    disk::{read_file, real::RealDisk},
    mesh::topology::{TOPOLOGY_BYTES_MAX, Topology},
};

/// The commands of the mesh.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Write the NATS server's configuration for a topology: it refuses foreign publishes by itself
    #[command(after_help = nats_config::EXAMPLES)]
    NatsConfig(nats_config::NatsConfigArgs),
    /// Make and check the streams of a topology, with the operator's credential
    #[command(after_help = provision::EXAMPLES)]
    Provision(provision::ProvisionArgs),
}

/// Runs one of them.
pub async fn run(command: &MeshCommand, format: Format) -> Result<(), CliError> {
    match command {
        MeshCommand::NatsConfig(args) => nats_config::run(args),
        MeshCommand::Provision(args) => provision::run(args, format).await,
    }
}

/// Reads a topology, or says all that is wrong with it, a line each.
fn read_topology(file: &Path) -> Result<Topology, CliError> {
    let path = file.display();
    let bytes = read_file(&RealDisk, file, TOPOLOGY_BYTES_MAX)
        .map_err(|error| CliError::failed(format!("cannot read {path}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::failed(format!("{path} is not UTF-8 text")))?;
    Topology::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{path}:{problem}")).collect();
        CliError::failed(lines.join("\n"))
    })
}
