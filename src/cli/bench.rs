//! `outrigger bench`: an honest load generator, and the baseline that its figures stand beside.
//!
//! A process of its own that talks gRPC to a served node, as any client does. Nothing counts before it is acknowledged,
//! every id is new, every answer is checked, errors are counted and make the run fail. Reading order: `workload` (what
//! is sent), `run` (who sends it how long), `append`, `stream`, `read`, `query`, `subscribe`, `project`, `mesh`, `baseline`; `answer` checks,
//! `report` prints, `process` starts this program again, `wire`, `random`, `zipf` and `histogram` are tools.

use std::time::Duration;

use clap::{Args, Subcommand};

use self::{
    append::BenchAppendArgs,
    baseline::BaselineArgs,
    continuity::ContinuityArgs,
    mesh::BenchMeshArgs,
    project::BenchProjectArgs,
    query::BenchQueryArgs,
    read::BenchReadArgs,
    run::{Crew, Server},
    subscribe::BenchSubscribeArgs,
};
use super::{Session, client::Connection, error::CliError};
use crate::{
    api::proto::v1::{GetHeadRequest, event_log_client::EventLogClient},
    clock::{Clock as _, SystemClock},
    limits::CONNECTION_STREAMS_MAX,
};

pub mod answer;
pub mod append;
pub mod baseline;
pub mod continuity;
pub mod echo;
pub mod histogram;
pub mod mesh;
mod process;
pub mod project;
pub mod query;
pub mod random;
pub mod read;
pub mod report;
pub mod run;
pub mod stream;
pub mod subscribe;
pub mod wire;
pub mod workload;
pub mod zipf;

type Client = EventLogClient<Connection>;
const HEAD: GetHeadRequest = GetHeadRequest {};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// What this machine can do at best: a bare gRPC server, a bare write and sync
    #[command(after_help = baseline::EXAMPLES)]
    Baseline(BaselineArgs),
    /// Append events
    #[command(after_help = append::EXAMPLES)]
    Append(BenchAppendArgs),
    /// Read events
    #[command(after_help = read::EXAMPLES)]
    Read(BenchReadArgs),
    /// Get documents of a projection, or list them
    #[command(after_help = query::EXAMPLES)]
    Query(BenchQueryArgs),
    /// Read one document again and again, and hold every answer against what a reader is promised
    #[command(after_help = continuity::EXAMPLES)]
    Continuity(ContinuityArgs),
    /// From the call of an append to its subscribers
    #[command(after_help = subscribe::EXAMPLES)]
    Subscribe(BenchSubscribeArgs),
    /// Build a projection, let it catch up, and see appends in it
    #[command(after_help = project::EXAMPLES)]
    Project(BenchProjectArgs),
    /// Share events between two nodes over NATS: all of a log, then single events
    #[command(after_help = mesh::EXAMPLES)]
    Mesh(BenchMeshArgs),
    /// The bare gRPC server of the baseline, which starts it itself
    #[command(hide = true, after_help = echo::EXAMPLES)]
    EchoServer,
}

/// What every load takes.
#[derive(Debug, Args)]
pub struct Load {
    /// Seconds that count
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds before that
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub warmup: f64,
    /// Threads of the load [default: 1 for a single worker, else 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Connections to the node [default: one a thread, more for more than 100 workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: Option<u16>,
    /// Makes the load the same again; a log takes the events of a seed only once [default: a random one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Calls that one connection may carry at a time, with some room.
const WORKERS_PER_CONNECTION: usize = CONNECTION_STREAMS_MAX as usize - 28;

impl Load {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| SystemClock.random() as u64)
    }

    /// So many workers against the node of the session.
    fn crew(&self, session: &Session, workers: usize) -> Crew {
        let threads = self.threads.map_or(workers.min(2), usize::from);
        let connections =
            self.connections.map_or(threads.max(workers.div_ceil(WORKERS_PER_CONNECTION)), usize::from);
        Crew {
            server: Server { node: session.node.clone(), process: None },
            threads,
            connections,
            workers,
            warmup: Duration::from_secs_f64(self.warmup),
            span: Some(self.span()),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 =
        text.parse().map_err(|_| format!("expected seconds such as 5 or 0.5, found {text:?}"))?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("expected 0 to 86400 seconds, found {text}"))
    }
}

/// Runs a bench.
pub async fn run(session: &Session, command: &BenchCommand) -> Result<(), CliError> {
    match command {
        BenchCommand::Baseline(args) => baseline::bench(session, args).await,
        BenchCommand::Append(args) => append::bench(session, args).await,
        BenchCommand::Read(args) => read::bench(session, args).await,
        BenchCommand::Query(args) => query::bench(session, args).await,
        BenchCommand::Continuity(args) => continuity::bench(session, args).await,
        BenchCommand::Subscribe(args) => subscribe::bench(session, args).await,
        BenchCommand::Project(args) => project::bench(session, args).await,
        BenchCommand::Mesh(args) => mesh::bench(session, args).await,
        BenchCommand::EchoServer => echo::serve().await,
    }
}
