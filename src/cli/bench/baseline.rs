//! `outrigger bench baseline`: what this machine can do at best, by code that never changes with the product.
//!
//! A bare gRPC server in a process of its own that answers with a part of what it is sent: one call at a time for each
//! caller, and pipelined over one stream. And a bare loop of one 4 KiB write and one sync into a file that is filled with
//! zeros. Figures of a node mean something beside these, taken at the same time. **Frozen**: a change here makes figures
//! of different days incomparable.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tonic::client::Grpc;

use super::{
    Load, append, echo,
    histogram::Histogram,
    process,
    random::Random,
    report::Report,
    run::{Outcome, Server, Tally, Worker, run},
};
use crate::{
    cli::{Session, client::Node, error::CliError, error::reason},
    disk::{Disk as _, real::RealDisk},
    limits::{MESSAGE_BYTES_MAX, REQUEST_EVENTS_MAX},
};

/// Bytes of one write.
const BLOCK_BYTES: usize = 4_096;
/// Bytes of the file that is written.
const FILE_BYTES: u64 = 64 * 1_024 * 1_024;
/// What an event of the workload has in a request besides its data, and in an answer, in bytes.
const REQUEST_OVERHEAD_BYTES: u32 = 94;
const ANSWER_BYTES: u32 = 28;

/// What `bench baseline` takes.
#[derive(Debug, Args)]
pub struct BaselineArgs {
    /// Callers; each has one call at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub writers: u32,
    /// Events whose bytes a call carries
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=REQUEST_EVENTS_MAX as i64))]
    pub batch: u32,
    /// Bytes of an event's data
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub size: u32,
    /// Where a file is written and synced; it is removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// How long, and on what
    #[command(flatten)]
    pub load: Load,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Three figures, one after the other: calls of a bare gRPC server that answers at once, messages of one stream to it, and \
4 KiB writes that are each made durable. Take --dir on the disk that the node writes to.

Examples:
  outrigger bench baseline
  outrigger bench baseline --writers 64 --seconds 5 --output json
  outrigger bench baseline --writers 8 --batch 1000 --dir /var/lib/outrigger";

/// Runs `bench baseline`.
pub async fn bench(session: &Session, args: &BaselineArgs) -> Result<(), CliError> {
    let echo = EchoProcess::start()?;
    let reports = [unary(session, args, &echo).await?, stream(session, args, &echo).await?, disk(args)?];
    drop(echo);
    Report::print(&reports, session.output)
}

fn message(args: &BaselineArgs) -> Vec<u8> {
    let mut bytes = vec![0; (args.batch * (args.size + REQUEST_OVERHEAD_BYTES)) as usize];
    Random::new(1, 0).fill_base64(&mut bytes);
    echo::set_answer_bytes(&mut bytes, args.batch * ANSWER_BYTES);
    bytes
}

async fn unary(session: &Session, args: &BaselineArgs, echo: &EchoProcess) -> Result<Report, CliError> {
    let (message, events) = (Arc::new(message(args)), u64::from(args.batch));
    let work = move |worker: Worker| call_again(worker, Arc::clone(&message), events);
    let mut crew = args.load.crew(session, args.writers as usize);
    crew.server = echo.server.clone();
    let settings = BTreeMap::from([
        ("writers", args.writers.into()),
        ("batch", args.batch.into()),
        ("size", args.size.into()),
        ("threads", crew.threads.into()),
        ("connections", crew.connections.into()),
    ]);
    Ok(Report::new("baseline_unary", settings, run(crew, work).await?))
}

/// One caller.
pub(super) async fn call_again(worker: Worker, message: Arc<Vec<u8>>, events: u64) -> Tally {
    let Worker { connection, course, .. } = worker;
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut tally = Tally::default();
    while !course.stopped() {
        let request = message.to_vec();
        let started = Instant::now();
        match append::call(&mut grpc, echo::UNARY_PATH, request.into()).await {
            Ok(answer) if *answer == message[..echo::answer_bytes(&message)] => {
                tally.answered(&course, started, events);
            }
            Ok(_) if tally.failed("BENCH_BROKEN_ANSWER") => {}
            Err(status) if tally.failed(&reason(&status)) => {}
            _ => break,
        }
    }
    tally
}

async fn stream(session: &Session, args: &BaselineArgs, echo: &EchoProcess) -> Result<Report, CliError> {
    let message = message(args);
    let mut crew = args.load.crew(session, 1);
    (crew.server, crew.threads, crew.connections) = (echo.server.clone(), 1, 1);
    let settings = BTreeMap::from([("batch", args.batch.into()), ("size", args.size.into())]);
    let events = u64::from(args.batch);
    let message = bytes::Bytes::from(message);
    let work = move |worker: Worker| echo::exchange(worker, message.clone(), events);
    Ok(Report::new("baseline_stream", settings, run(crew, work).await?))
}

fn disk(args: &BaselineArgs) -> Result<Report, CliError> {
    let failed = |error: std::io::Error| {
        CliError::failed(format!(
            "cannot write a file in {}: {error}; choose another --dir",
            args.dir.display()
        ))
    };
    let dir = tempfile::Builder::new().prefix("outrigger-bench-").tempdir_in(&args.dir).map_err(failed)?;
    let outcome = write_and_sync(&dir.path().join("file"), args.load.span()).map_err(failed)?;
    let settings = BTreeMap::from([("block_bytes", BLOCK_BYTES.into()), ("file_bytes", FILE_BYTES.into())]);
    Ok(Report::new("baseline_disk", settings, outcome))
}

/// Writes and syncs block after block, over and over the same file. A write counts as a request and as an event.
fn write_and_sync(path: &Path, span: Duration) -> std::io::Result<Outcome> {
    let file = RealDisk.create_new(path)?;
    let zeros = vec![0; 1_024 * 1_024];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_data()?;
    let mut block = vec![0; BLOCK_BYTES];
    Random::new(1, 0).fill_base64(&mut block);
    let (begin, mut rates) = (Instant::now(), Vec::new());
    let (mut writes, mut latency, mut sampled) = (0, Histogram::new(), (begin, 0));
    while begin.elapsed() < span {
        let started = Instant::now();
        file.write_all_at(&block, writes * BLOCK_BYTES as u64 % FILE_BYTES)?;
        file.sync_data()?;
        latency.record(started.elapsed());
        writes += 1;
        if sampled.0.elapsed() >= Duration::from_secs(1) {
            rates.push((writes - sampled.1) as f64 / sampled.0.elapsed().as_secs_f64());
            sampled = (Instant::now(), writes);
        }
    }
    let tally = Tally::of(writes, latency);
    Ok(Outcome { tally, span: begin.elapsed(), rates, server: None, client: None })
}

/// The bare server, in a process of its own that ends with this value.
#[derive(Debug)]
pub(super) struct EchoProcess {
    child: Child,
    pub(super) server: Server,
}

impl EchoProcess {
    pub(super) fn start() -> Result<Self, CliError> {
        let (child, line) = process::start("cannot start a bare server as another process", |command| {
            command.args(["bench", "echo-server"]).stdin(Stdio::piped())
        })?;
        let server = Server { node: Node::new(line.trim(), None)?, process: Some(child.id()) };
        Ok(Self { child, server })
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        tracing::debug!(?ended, "the bare server has ended");
    }
}
