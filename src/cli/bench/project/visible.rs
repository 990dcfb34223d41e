//! Appends single events at a pace, and reads each one's document with the token of its append.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{BenchProjectArgs, Flights, ServedNode};
use crate::{
    api::proto::v1::{
        AppendRequest, GetRequest, Key, KeyPart, NewEvent, ReadOptions, key_part::Part,
        query_client::QueryClient,
    },
    cli::{
        bench::{Client, histogram::Histogram},
        client::Connection,
        error::CliError,
    },
};

/// Events that are on their way; beyond them the writer is late.
const IN_FLIGHT_MAX: usize = 64;
/// Where the documents of flights are; their keys are `data.flight`.
pub(super) const COLLECTION: &str = "flights";
/// What does not count, at the beginning.
const WARM_UP: Duration = Duration::from_millis(500);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Visible {
    /// From the call of an append to its answer.
    pub(super) append: Histogram,
    /// From the answer of an append to that of the query with its token.
    pub(super) read: Histogram,
    /// The measured span.
    pub(super) span: Duration,
}

/// Runs the load.
pub(super) async fn run(
    node: &ServedNode,
    projection: &str,
    mut flights: Flights,
    args: &BenchProjectArgs,
) -> Result<Visible, CliError> {
    let reader = Reader {
        log: node.server.node.event_log().await?,
        query: node.server.node.query().await?,
        projection: projection.to_owned(),
        collection: COLLECTION.to_owned(),
    };
    let pace = Duration::from_secs(1) / args.rate;
    let mut seen = Visible::default();
    let mut on_their_way = FuturesUnordered::new();
    let (begin, mut due) = (Instant::now(), Instant::now());
    let end = begin + WARM_UP + Duration::from_secs_f64(args.seconds);
    loop {
        let more = Instant::now() < end;
        if !more && on_their_way.is_empty() {
            break;
        }
        tokio::select! {
            Some(read) = on_their_way.next() => {
                let (sent, append, visible) = read?;
                if sent >= begin + WARM_UP {
                    seen.append.record(append);
                    seen.read.record(visible);
                }
            }
            () = tokio::time::sleep_until(due.into()), if more && on_their_way.len() < IN_FLIGHT_MAX => {
                due += pace;
                let event = flights.next().ok_or_else(|| CliError::failed("there is no further flight"))?;
                on_their_way.push(reader.clone().append_and_read(event));
            }
        }
    }
    seen.span = begin.elapsed().saturating_sub(WARM_UP);
    Ok(seen)
}

/// Appends and reads.
#[derive(Clone)]
struct Reader {
    log: Client,
    query: QueryClient<Connection>,
    projection: String,
    collection: String,
}

impl Reader {
    /// When the append was called, how long it took, and how long the query took behind it.
    async fn append_and_read(mut self, event: NewEvent) -> Result<(Instant, Duration, Duration), CliError> {
        let part = KeyPart { part: Some(Part::Text(Flights::key(&event).to_owned())) };
        let called = Instant::now();
        let request = AppendRequest { events: vec![event], ..AppendRequest::default() };
        let appended = self.log.append(request).await?.into_inner();
        let answered = Instant::now();
        let position = appended.token.as_ref().map(|token| token.position);
        let options = ReadOptions { at_least: appended.token, ..ReadOptions::default() };
        let request = GetRequest {
            projection: self.projection,
            collection: self.collection,
            key: Some(Key { parts: vec![part] }),
            options: Some(options),
            ..GetRequest::default()
        };
        let read = self.query.get(request).await?.into_inner();
        let visible = answered.elapsed();
        let as_of = read.context.map(|context| context.as_of);
        if read.document.is_none() || as_of < position {
            return Err(CliError::failed("a query with a token did not see what was appended"));
        }
        Ok((called, answered - called, visible))
    }
}
