//! `outrigger bench subscribe`: how long an event takes from the call that appends it to each subscriber.
//!
//! One writer appends at a pace and writes into every event when it was sent; writer and subscribers are in one process
//! and so share a clock. Every subscriber must get every event.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    HEAD, Load,
    answer::{Wanted, events},
    append::append_paced,
    report::Report,
    run::{Course, Tally, Worker, run},
    wire::{Fields, Raw},
    workload::{Conditional, Shape, Workload, Writer},
};
use crate::{
    api::proto::v1::SubscribeRequest,
    cli::{Session, error::CliError, error::reason},
    limits::MESSAGE_BYTES_MAX,
};

const PATH: &str = "/outrigger.v1.EventLog/Subscribe";
/// How long a subscriber may wait for the last events once the writer is done.
const LAST_EVENTS_WAIT_MAX: Duration = Duration::from_secs(10);

/// What `bench subscribe` takes.
#[derive(Debug, Args)]
pub struct BenchSubscribeArgs {
    /// Events that are appended a second, one by one; 0 appends none and shows what idle subscribers cost
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub rate: u32,
    /// Subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub subscribers: u32,
    /// Bytes of an event's data
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(18..=1_000_000))]
    pub size: u32,
    /// How long, and on what
    #[command(flatten)]
    pub load: Load,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The latency is from the call of the append to the event at the subscriber; the append's own is shown beside it.

Examples:
  outrigger bench subscribe
  outrigger bench subscribe --rate 5000 --subscribers 8 --seconds 10
  outrigger bench subscribe --rate 0 --subscribers 1000 --output json";

/// Runs `bench subscribe`.
pub async fn bench(session: &Session, args: &BenchSubscribeArgs) -> Result<(), CliError> {
    let head = session.node.event_log().await?.get_head(HEAD).await?.into_inner().head;
    let workload = Workload::new(Shape {
        batch: 1,
        size: args.size as usize,
        conditional: Conditional::None,
        writers: 1,
        seed: args.load.seed(),
        events_max: None,
    });
    let crew = args.load.crew(session, args.subscribers as usize + 1);
    let settings = BTreeMap::from([
        ("rate", args.rate.into()),
        ("subscribers", args.subscribers.into()),
        ("size", args.size.into()),
        ("threads", crew.threads.into()),
        ("connections", crew.connections.into()),
    ]);
    let pace = (args.rate > 0).then(|| Duration::from_secs(1) / args.rate);
    let (done, _) = watch::channel(None);
    let (done, begin) = (Arc::new(done), Instant::now());
    let work = move |worker: Worker| {
        let (done, workload) = (Arc::clone(&done), Arc::clone(&workload));
        async move {
            match (worker.number, pace) {
                (0, Some(pace)) => {
                    let writer = Writer::new(&workload, 0, head);
                    let (tally, last) = append_paced(&worker, writer, pace, begin).await;
                    done.send_replace(Some(last));
                    tally
                }
                (0, None) => {
                    worker.course.stopping().await;
                    done.send_replace(Some(head));
                    Tally::default()
                }
                _ => subscribe(worker, head, begin, done.subscribe()).await,
            }
        }
    };
    let outcome = run(crew, work).await?;
    let report = Report::new("subscribe", settings, outcome);
    Report::print(&[report], session.output)
}

/// One subscriber, until it has everything that was appended.
async fn subscribe(
    worker: Worker,
    after: u64,
    begin: Instant,
    mut done: watch::Receiver<Option<u64>>,
) -> Tally {
    let mut tally = Tally::default();
    let mut last = after;
    let upto = async {
        let upto = done.wait_for(Option::is_some).await.map_or(None, |upto| *upto);
        upto.unwrap_or(after)
    };
    let followed = follow(worker, after, begin, &mut last, &mut tally, upto).await;
    let failed = followed.is_err_and(|reason| !tally.failed(&reason));
    tracing::debug!(last, failed, "a subscriber ends");
    tally
}

async fn follow(
    worker: Worker,
    after: u64,
    begin: Instant,
    last: &mut u64,
    tally: &mut Tally,
    upto: impl Future<Output = u64>,
) -> Result<(), String> {
    let Worker { connection, course, .. } = worker;
    let failed = |status: Status| reason(&status);
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|_| "UNAVAILABLE".to_owned())?;
    let request = SubscribeRequest { after: Some(after), ..SubscribeRequest::default() }.encode_to_vec();
    let (codec, path) = (Raw::new(request.len()), PathAndQuery::from_static(PATH));
    let answer = grpc.server_streaming(Request::new(request.into()), path, codec).await;
    let mut messages = answer.map_err(failed)?.into_inner();
    let ended = async {
        let upto = upto.await;
        (upto, tokio::time::Instant::now() + LAST_EVENTS_WAIT_MAX)
    };
    tokio::pin!(ended);
    let mut end = None;
    while end.is_none_or(|(upto, _)| *last < upto) {
        let message = tokio::select! {
            message = messages.message() => message.map_err(failed)?,
            known = &mut ended, if end.is_none() => {
                end = Some(known);
                continue;
            }
            () = until(end) => return Err("BENCH_EVENTS_MISSING".into()),
        };
        let message = message.ok_or("BENCH_SUBSCRIPTION_ENDED")?;
        take(&message, begin, &course, last, tally)?;
    }
    Ok(())
}

/// Resolves at the end of a subscriber's patience, which begins when the writer is done.
async fn until(end: Option<(u64, tokio::time::Instant)>) {
    match end {
        Some((_, patience)) => tokio::time::sleep_until(patience).await,
        None => std::future::pending().await,
    }
}

/// Takes one `SubscribeResponse`.
fn take(
    message: &[u8],
    begin: Instant,
    course: &Course,
    last: &mut u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let now = begin.elapsed();
    for (field, batch) in Fields::of(message) {
        if field == 1 {
            let count = events(batch.bytes(), &Wanted::Next, last, |data| {
                let sent = data.get(1..17).and_then(|stamp| std::str::from_utf8(stamp).ok());
                // Events of others have no stamp.
                if let Some(sent) = sent.and_then(|stamp| u64::from_str_radix(stamp, 16).ok()) {
                    tally.seen(course, now.saturating_sub(Duration::from_nanos(sent)));
                }
            })?;
            tally.count_events(course, count);
        }
    }
    Ok(())
}
