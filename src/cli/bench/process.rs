//! This program started again: a process of its own that says in its first line where it listens.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use super::run::Server;
use crate::cli::{client::Node, error::CliError};

/// Starts this program with what `configure` adds. Gives the process and the first line it printed; what goes wrong
/// is told with `what`, which continues with a colon.
pub(super) fn start(
    what: &str,
    configure: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<(Child, String), CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("{what}: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    let mut child = configure(&mut command).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let output = child.stdout.take().expect("it was piped");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(failed)?;
    Ok((child, line))
}

/// Starts this program as a node on free ports that says nothing below warnings; `configure` adds what it is. Gives the
/// process and how to talk to it.
pub(super) fn serve(
    what: &str,
    configure: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<(Child, Server), CliError> {
    let (child, line) = start(what, |command| {
        let command = command.args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        configure(command).env("OUTRIGGER_TELEMETRY__LOG", "warn").stdin(Stdio::null())
    })?;
    let addr = line.split_whitespace().skip_while(|word| *word != "grpc").nth(1);
    let addr =
        addr.ok_or_else(|| CliError::failed(format!("{what}: it ended at once, and said why above")))?;
    let server = Server { node: Node::new(addr, None)?, process: Some(child.id()) };
    Ok((child, server))
}
