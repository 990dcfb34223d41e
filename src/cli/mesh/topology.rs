//! Reads a topology file for the commands that take one.
//!
//! Does not know what a topology says.

use std::path::Path;

use crate::{
    cli::error::CliError,
    disk::{read_file, real::RealDisk},
    mesh::topology::{TOPOLOGY_BYTES_MAX, Topology},
};

/// Reads a topology, or says all that is wrong with it, a line each.
pub(super) fn read_topology(file: &Path) -> Result<Topology, CliError> {
    let path = file.display();
    let bytes = read_file(&RealDisk, file, TOPOLOGY_BYTES_MAX)
        .map_err(|error| CliError::failed(format!("cannot read {path}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::failed(format!("{path} is not UTF-8 text")))?;
    Topology::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{path}:{problem}")).collect();
        CliError::failed(lines.join("\n"))
    })
}
