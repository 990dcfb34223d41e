//! `outrigger mesh nats-config`: accounts, exports and permissions of a NATS server, from a topology. Offline.

use std::path::PathBuf;

use clap::Args;

use super::topology::read_topology;
use crate::{
    cli::{error::CliError, output::print_lines},
    disk::{Disk as _, real::RealDisk, replace_file},
};

/// The file that is written.
const FILE: &str = "outrigger-mesh.conf";

/// What `mesh nats-config` takes.
#[derive(Debug, Args)]
pub struct NatsConfigArgs {
    /// Who takes part: nodes, their public NATS keys, who imports from whom
    #[arg(long, value_name = "FILE")]
    pub topology: PathBuf,
    /// Write outrigger-mesh.conf into this directory instead of standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
The topology:
  operator: {nats_key: UA...}
  nodes:
    flights: {nats_key: UB..., max_bytes: 10Gi}
    operations: {nats_key: UC..., imports: [flights]}

The same topology gives the same text. Include it in the server's configuration, and reload the server (SIGHUP).
While a key is replaced, name both: nats_key: [UOLD..., UNEW...].

Examples:
  outrigger mesh nats-config --topology mesh.yaml
  outrigger mesh nats-config --topology mesh.yaml --out /etc/nats";

pub(super) fn run(args: &NatsConfigArgs) -> Result<(), CliError> {
    let text = read_topology(&args.topology)?.server_config();
    let Some(dir) = &args.out else {
        return print_lines(&[text.trim_end()]);
    };
    let path = dir.join(FILE);
    let written = RealDisk.create_dir_all(dir).and_then(|()| replace_file(&RealDisk, &path, text.as_bytes()));
    written.map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
    print_lines(&[format!("wrote {}", path.display())])
}
