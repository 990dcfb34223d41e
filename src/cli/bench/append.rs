//! `outrigger bench append`: writers that append as fast as they are answered, one request at a time each, or pipelined
//! over append streams.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    Load, answer,
    report::Report,
    run::{Tally, Worker, run},
    stream,
    wire::Raw,
    workload::{Conditional, Sent, Shape, Workload, Writer},
};
use crate::{
    cli::{Session, client::Connection, error::CliError, error::reason},
    limits::{BENCH_IN_FLIGHT_MAX, MESSAGE_BYTES_MAX, REQUEST_EVENTS_MAX},
};

const PATH: &str = "/outrigger.v1.EventLog/Append";

/// What `bench append` takes.
#[derive(Debug, Args)]
pub struct BenchAppendArgs {
    /// Writers; each has one request unanswered at a time, or with --stream one append stream
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub writers: u32,
    /// Events of a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=REQUEST_EVENTS_MAX as i64))]
    pub batch: u32,
    /// Bytes of an event's data
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub size: u32,
    /// The condition of every request
    #[arg(long, value_enum, default_value_t)]
    pub conditional: Conditional,
    /// Append over the call `AppendStream` instead of `Append`
    #[arg(long)]
    pub stream: bool,
    /// Unanswered requests of an append stream at the most
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=BENCH_IN_FLIGHT_MAX as i64))]
    pub in_flight: u32,
    /// Requests a second of all writers together, instead of as many as they can; a request that is late counts from when it
    /// was due
    #[arg(long, value_name = "N", conflicts_with = "stream", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Append so many events and stop, instead of stopping after --seconds
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// How long, and on what
    #[command(flatten)]
    pub load: Load,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The events: random ids of version 4, 10,000 streams by Zipf's law, 5 types, 2 tags, data that does not compress. Every \
answer is checked; a run with errors exits with 1 and its figures do not count.

Examples:
  outrigger bench append --writers 64
  outrigger bench append --writers 8 --batch 1000 --seconds 10 --output json
  outrigger bench append --writers 8 --batch 100 --conditional query
  outrigger bench append --writers 8 --rate 2000
  outrigger bench append --writers 1 --stream
  outrigger bench append --batch 1000 --events 10000000";

/// Runs `bench append`.
pub async fn bench(session: &Session, args: &BenchAppendArgs) -> Result<(), CliError> {
    if args.stream && args.conditional != Conditional::None {
        let what = "--conditional: expected none with --stream, because a condition needs the answer before";
        return Err(CliError::Usage(what.into()));
    }
    let mut client = session.node.event_log().await?;
    let head = async |client: &mut super::Client| {
        Ok::<_, Status>(client.get_head(super::HEAD).await?.into_inner().head)
    };
    let before = head(&mut client).await?;
    let seed = args.load.seed();
    let workload = Workload::new(Shape {
        batch: args.batch as usize,
        size: args.size as usize,
        conditional: args.conditional,
        writers: args.writers,
        seed,
        events_max: args.events,
    });
    let (stream, in_flight) = (args.stream, args.in_flight as usize);
    let pace = args.rate.map(|rate| Duration::from_secs(1) * args.writers / rate);
    let work = move |worker: Worker| {
        let writer = Writer::new(&workload, worker.number, before);
        let batch = workload.batch;
        async move {
            if stream {
                stream::append(worker, writer, in_flight).await
            } else {
                append(worker, writer, batch, pace).await
            }
        }
    };
    let mut crew = args.load.crew(session, args.writers as usize);
    if args.events.is_some() {
        crew.span = None;
    }
    let settings = settings(args, seed, crew.threads, crew.connections);
    let outcome = run(crew, work).await?;
    let mut report = Report::new(if args.stream { "append_stream" } else { "append" }, settings, outcome);
    let after = head(&mut client).await?;
    if after.saturating_sub(before) < report.events {
        // Everything that was acknowledged is behind the head, or an acknowledgement was false.
        *report.errors.entry("BENCH_EVENTS_MISSING".into()).or_default() += 1;
    }
    report.head = Some(after);
    Report::print(&[report], session.output)
}

fn settings(
    args: &BenchAppendArgs,
    seed: u64,
    threads: usize,
    connections: usize,
) -> BTreeMap<&'static str, serde_json::Value> {
    let conditional = match args.conditional {
        Conditional::None => "none",
        Conditional::Revision => "revision",
        Conditional::Query => "query",
    };
    let mut settings = BTreeMap::from([
        ("writers", args.writers.into()),
        ("batch", args.batch.into()),
        ("size", args.size.into()),
        ("conditional", conditional.into()),
        ("threads", threads.into()),
        ("connections", connections.into()),
        ("seed", seed.into()),
    ]);
    if let Some(rate) = args.rate {
        settings.insert("rate", rate.into());
    }
    if args.stream {
        settings.insert("in_flight", args.in_flight.into());
    }
    settings
}

/// One writer: a request, its answer, the next, which is due a pace after the one before.
async fn append(worker: Worker, mut writer: Writer, batch: usize, pace: Option<Duration>) -> Tally {
    let Worker { connection, course, number } = worker;
    // Writers do not all begin at once.
    let mut due = Instant::now() + pace.map_or(Duration::ZERO, |pace| pace * (number as u32 % 16) / 16);
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut tally = Tally::default();
    let mut sent = Vec::with_capacity(batch);
    while !course.stopped() {
        let mut request = Vec::new();
        sent.clear();
        if !writer.request(&mut request, &mut sent) {
            break;
        }
        let started = match pace {
            Some(pace) => begin(&mut due, pace).await,
            None => Instant::now(),
        };
        let checked = match call(&mut grpc, PATH, request.into()).await {
            Ok(response) => answer::appended(&response, &sent).map_err(str::to_owned),
            Err(status) => Err(reason(&status)),
        };
        match checked {
            Ok(position) => {
                writer.known_head = position;
                tally.answered(&course, started, sent.len() as u64);
            }
            Err(reason) if tally.failed(&reason) => {}
            Err(_) => break,
        }
    }
    tally
}

/// Waits until a request is due. When it begins: now, or in the past if the writer is late.
async fn begin(due: &mut Instant, pace: Duration) -> Instant {
    let (this, now) = (*due, Instant::now());
    *due += pace;
    if this <= now {
        return this;
    }
    tokio::time::sleep_until(this.into()).await;
    Instant::now()
}

/// One unary call with messages as bytes.
pub(super) async fn call(
    grpc: &mut Grpc<Connection>,
    path: &'static str,
    request: Bytes,
) -> Result<Bytes, Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = Raw::new(request.len());
    Ok(grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?.into_inner())
}

/// Appends single events at a pace, whether or not earlier ones are answered; each event holds when it was sent:
/// nanoseconds since `begin`. Gives the last position.
pub(super) async fn append_paced(
    worker: &Worker,
    mut writer: Writer,
    pace: Duration,
    begin: Instant,
) -> (Tally, u64) {
    let course = Arc::clone(&worker.course);
    let (mut tally, mut last) = (Tally::default(), writer.known_head);
    let mut due = Instant::now();
    let mut unanswered = FuturesUnordered::new();
    let mut more = true;
    while more || !unanswered.is_empty() {
        let may_send = more && unanswered.len() < PACED_IN_FLIGHT_MAX;
        let outcome = tokio::select! {
            Some(outcome) = unanswered.next() => outcome,
            () = tokio::time::sleep_until(due.into()), if may_send => {
                // A writer that is late counts from when it should have sent: its delay is the log's.
                let woken = Instant::now();
                let started = if woken > due + LATE { due } else { woken };
                due += pace;
                let (mut request, mut sent) = (Vec::new(), Vec::with_capacity(1));
                let stamp = format!("{:016x}", (started - begin).as_nanos());
                more = !course.stopped() && writer.request_with(stamp.as_bytes(), &mut request, &mut sent);
                if more {
                    unanswered.push(append_one(worker.connection.clone(), request, sent, started));
                }
                continue;
            }
        };
        match outcome {
            Ok((position, latency)) => {
                last = last.max(position);
                tally.answered_beside(&course, latency);
            }
            Err(reason) => more &= tally.failed(&reason),
        }
    }
    (tally, last)
}

/// Appends one event; gives its position and how long the answer took.
async fn append_one(
    connection: Connection,
    request: Vec<u8>,
    sent: Vec<Sent>,
    started: Instant,
) -> Result<(u64, Duration), String> {
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let response = call(&mut grpc, PATH, request.into()).await.map_err(|status| reason(&status))?;
    let position = answer::appended(&response, &sent)?;
    Ok((position, started.elapsed()))
}

/// Appends at a pace that may be unanswered; beyond them the writer is late.
const PACED_IN_FLIGHT_MAX: usize = 64;
/// How late a timer may wake a writer without its being late: timers count in milliseconds.
const LATE: Duration = Duration::from_millis(2);
