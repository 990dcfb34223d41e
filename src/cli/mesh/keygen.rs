//! `outrigger mesh keygen`: a new key for a node, made on this machine.
//!
//! The seed goes into a file that only its owner can read, and nowhere else.

use std::{io, path::PathBuf};

use clap::Args;
use serde::Serialize;

use crate::{
    cli::{
        error::CliError,
        output::{Format, print_lines},
        text::to_line,
    },
    config::value,
    disk::real::RealDisk,
    mesh::trust::SigningKey,
};

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
The file gets mode 0600 and is what `mesh.key_file` names; it is a secret. The line that is printed goes into the file of
trusted keys (`mesh.trust_file`) that all nodes share. A file that exists is never replaced.

Examples:
  outrigger mesh keygen --out flights.nk --node flights
  outrigger mesh keygen --out flights.nk --node flights --output json";

/// What `keygen` takes.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The file to create
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The node that will sign with it, for the line of the trust file
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    key_file: String,
    public_key: &'a str,
    trust: &'a str,
}

/// Runs it.
pub(super) fn run(args: &KeygenArgs, format: Format) -> Result<(), CliError> {
    let node = args.node.as_deref().unwrap_or("NODE");
    if args.node.is_some() {
        value::dns_label(node).map_err(|invalid| CliError::usage("--node", &invalid))?;
    }
    let (key, file) = (SigningKey::generate(), args.out.display().to_string());
    let content = format!("{}\n", key.seed());
    RealDisk.create_private(&args.out, content.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::failed(format!("--out: {file} exists, and a key is never replaced; name another file"))
        }
        _ => CliError::failed(format!("--out: {file} cannot be created: {error}")),
    })?;
    let trust = format!("{node}: [{{key: {}}}]", key.public());
    match format {
        Format::Json => {
            print_lines(&[to_line(&Made { key_file: file, public_key: key.public(), trust: &trust })])
        }
        Format::Table => print_lines(&[
            format!("key file    {file}"),
            format!("public key  {}", key.public()),
            format!("trust file  {trust}"),
        ]),
    }
}
