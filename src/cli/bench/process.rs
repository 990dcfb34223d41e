//! This program started again: a process of its own that says in its first line where it listens.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::cli::error::CliError;

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
