//! `outrigger serve`: runs a node until it is told to stop. A second signal ends the process at once.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{error::CliError, output::print_lines};
use crate::{
    app::{self, AppError, Around, Running},
    config::{Flags, Loaded},
    telemetry::control::LogControl,
};

/// What `serve` takes; everything has a default.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A YAML file of settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's name, a DNS label [default: local]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Where the node keeps everything it stores [default: ./outrigger-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address of the gRPC API, or unix:PATH; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<String>,
    /// Address of probes and metrics; port 0 takes a free one [default: 0.0.0.0:7480]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// A projection definition, or a directory of them that is watched; may be repeated
    #[arg(long = "projection", value_name = "FILE_OR_DIR")]
    pub projections: Vec<PathBuf>,
    /// Rebuild a definition that is changed in place instead of refusing it
    #[arg(long)]
    pub dev: bool,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Every setting can come from a flag, an environment variable (OUTRIGGER_GRPC__LISTEN) or the file, in this order.

Examples:
  outrigger serve
  outrigger serve --projection projections --dev
  outrigger serve --config outrigger.yaml --node flights --data-dir /var/lib/outrigger";

impl ServeArgs {
    /// The flags by the keys that they set.
    pub fn flags(&self) -> Flags {
        let named = [
            ("node", "--node", self.node.clone()),
            ("data_dir", "--data-dir", self.data_dir.clone()),
            ("grpc.listen", "--grpc", self.grpc.clone()),
            ("http.listen", "--http", self.http.clone()),
            ("dev", "--dev", self.dev.then(|| "true".to_owned())),
        ];
        let given = named.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?)));
        Flags {
            config_file: self.config.clone(),
            values: given.collect(),
            projections: self.projections.clone(),
        }
    }
}

/// Runs a node until SIGTERM, SIGINT, or until it cannot go on. Says on standard output where it listens.
pub async fn run(loaded: Loaded, logs: LogControl) -> Result<(), CliError> {
    let settings =
        (loaded.effective.into_iter()).map(|(key, value, source)| (key.name, value, source.to_string()));
    let around = Around { logs: Some(logs), settings: settings.collect(), ..Around::default() };
    let config = loaded.config;
    let mut signals = Signals::take_over()?;
    let node = config.node.clone();
    let running = tokio::select! {
        started = app::start_around(config, around) => started.map_err(failed)?,
        () = signals.next() => return Ok(()),
    };
    announce(&node, &running)?;
    tokio::select! {
        _reason = running.failed() => {}
        () = signals.next() => {}
    }
    tokio::select! {
        stopped = running.stop() => stopped.map_err(failed),
        () = signals.next() => Err(CliError::failed("stopped at once by a second signal; the next start recovers")),
    }
}

/// One line for whoever started the node and waits for it. A closed output does not stop it.
fn announce(node: &str, running: &Running) -> Result<(), CliError> {
    let line = format!("node {node} listens: grpc {} http {}", running.grpc_addr, running.http_addr);
    match print_lines(&[line]) {
        Ok(()) | Err(CliError::OutputClosed) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Any error of the node.
pub fn failed(error: AppError) -> CliError {
    CliError::failed(error.to_string())
}

/// The signals that ask a process to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over from the system's default, which is to end the process.
    pub fn take_over() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind).map_err(|error| CliError::failed(format!("cannot wait for signals: {error}")))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves at the next SIGTERM or SIGINT.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
