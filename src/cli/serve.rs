//! `outrigger serve`: runs a node until it is told to stop. A second signal ends the process at once.

use std::path::PathBuf;

use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::error::CliError;
use crate::{
    app,
    config::{Config, Flags},
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
    /// Address of the gRPC API; port 0 takes a free one [default: 127.0.0.1:7400]
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
        let given = named
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, flag, value?)));
        Flags {
            config_file: self.config.clone(),
            values: given.collect(),
            projections: self.projections.clone(),
        }
    }
}

/// Runs a node until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), CliError> {
    let (stop, stopped) = oneshot::channel();
    let node = app::run(config, async {
        // A dropped sender means that the signals cannot be waited for; then nothing but a kill stops the node.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let signals = async {
        let mut signals = Signals::new()?;
        signals.next().await;
        if stop.send(()).is_err() {
            tracing::debug!("the node has stopped already");
        }
        signals.next().await;
        Ok::<(), std::io::Error>(())
    };
    tokio::select! {
        ended = node => ended.map_err(|error| CliError::failed(error.to_string())),
        twice = signals => {
            twice.map_err(|error| CliError::failed(format!("cannot wait for signals: {error}")))?;
            Err(CliError::failed("stopped at once by a second signal; the next start recovers"))
        }
    }
}

/// The signals that ask a process to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over from the system's default, which is to end the process.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves at the next SIGTERM or SIGINT.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
