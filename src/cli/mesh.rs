//! `outrigger mesh`: what nodes share, who may append what, keys.
//!
//! One file for each command. Most ask a node; `keygen` and `nats-config` need none, and `provision` asks NATS.

mod decide;
mod errors;
pub(super) mod graph;
mod keygen;
mod nats_config;
mod peers;
mod provision;
mod rules;
mod status;
mod topology;
mod words;

use clap::Subcommand;

use super::{Session, client::Connection, error::CliError, wait};
use crate::api::proto::v1::mesh_client::MeshClient;

/// Commands about the mesh.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// How everything that is shared stands
    #[command(after_help = status::STATUS_EXAMPLES)]
    Status,
    /// What this node publishes
    #[command(after_help = "Examples:\n  outrigger mesh exports\n  outrigger mesh exports --output json")]
    Exports,
    /// What this node takes from others, with lag and reasons to stand still
    #[command(after_help = "Examples:\n  outrigger mesh imports\n  outrigger mesh imports --output json")]
    Imports,
    /// Who exports what to whom, as lines of text
    #[command(after_help = graph::EXAMPLES)]
    Graph(graph::GraphArgs),
    /// The nodes whose signatures this node believes, with their keys
    #[command(after_help = "Examples:\n  outrigger mesh peers\n  outrigger mesh peers --output json")]
    Peers,
    /// Who may append events of a type or to a stream, and why
    #[command(after_help = rules::EXAMPLES)]
    Rules(rules::RulesArgs),
    /// Decide that an import stands still
    #[command(after_help = "Examples:\n  outrigger mesh pause flights --reason 'maintenance of the board'")]
    Pause(decide::ImportArgs),
    /// Decide that a paused or stopped import goes on where it stands
    #[command(after_help = "Examples:\n  outrigger mesh resume flights")]
    Resume(decide::ImportArgs),
    /// Events that an import could not map, and what became of them
    #[command(after_help = errors::ERRORS_EXAMPLES)]
    Errors(errors::ErrorsArgs),
    /// Decide that an import tries again what it could not map
    #[command(after_help = errors::RETRY_EXAMPLES)]
    Retry(errors::RetryArgs),
    /// Decide that an import passes an event by: the one it stands at, or a parked one
    #[command(after_help = decide::SKIP_EXAMPLES)]
    Skip(decide::SkipArgs),
    /// Decide that an import, or this node, goes on after a log went back to an older state
    #[command(after_help = decide::RESYNC_EXAMPLES)]
    Resync(decide::ResyncArgs),
    /// Write the NATS server's configuration for a topology: it refuses foreign publishes by itself
    #[command(after_help = nats_config::EXAMPLES)]
    NatsConfig(nats_config::NatsConfigArgs),
    /// Make and check the streams of a topology, with the operator's credential
    #[command(after_help = provision::EXAMPLES)]
    Provision(provision::ProvisionArgs),
    /// Make a key for a node, offline
    #[command(after_help = keygen::EXAMPLES)]
    Keygen(keygen::KeygenArgs),
}

type Client = MeshClient<Connection>;

/// Runs one of them.
pub fn run(session: &Session, command: MeshCommand) -> Result<(), CliError> {
    match command {
        MeshCommand::Keygen(args) => keygen::run(&args, session.output),
        MeshCommand::Graph(args) => wait(graph::run(session, args)),
        MeshCommand::NatsConfig(args) => nats_config::run(&args),
        MeshCommand::Provision(args) => wait(provision::run(&args, session.output)),
        command => wait(ask(session, command)),
    }
}

async fn ask(session: &Session, command: MeshCommand) -> Result<(), CliError> {
    let (mut client, format) = (session.node.mesh().await?, session.output);
    match command {
        MeshCommand::Status => status::status(&mut client, format).await,
        MeshCommand::Exports => status::exports(&mut client, format).await,
        MeshCommand::Imports => status::imports(&mut client, format).await,
        MeshCommand::Peers => peers::run(&mut client, format).await,
        MeshCommand::Rules(args) => rules::run(&mut client, args, format).await,
        MeshCommand::Pause(args) => decide::pause(&mut client, args, format).await,
        MeshCommand::Resume(args) => decide::resume(&mut client, args, format).await,
        MeshCommand::Errors(args) => errors::errors(&mut client, &args, format).await,
        MeshCommand::Retry(args) => errors::retry(&mut client, args, format).await,
        MeshCommand::Skip(args) => decide::skip(&mut client, args, format).await,
        MeshCommand::Resync(args) => decide::resync(&mut client, args, format).await,
        MeshCommand::Keygen(_)
        | MeshCommand::Graph(_)
        | MeshCommand::NatsConfig(_)
        | MeshCommand::Provision(_) => unreachable!("`run` has them"),
    }
}
