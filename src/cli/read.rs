//! `outrigger read`, `subscribe`, `streams` and `tracking`: what the log holds.
//!
//! Events are printed as they come, so memory does not grow with what is read.

use clap::Args;
use tonic::Streaming;

use super::{
    Session,
    error::CliError,
    output::{Align, Format, Out, table},
    query, render,
    text::{compact, parse_position, parse_token, time_in_table, to_line},
};
use crate::api::proto::v1::{
    Event, EventFilter, EventQuery, EventQueryItem, GetTrackingRequest, ListStreamsRequest, ReadRequest,
    StreamInfo, SubscribeRequest, SubscribeResponse, Token, subscribe_response::Content,
};

/// Which events.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only events of this stream
    #[arg(long)]
    pub stream: Option<String>,
    /// Only events of this type; may be repeated, then any of them
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events with this tag; may be repeated, then all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only events that match this query, `types=T,T;tags=T,T`; may be repeated, then any of them
    #[arg(long = "query", value_name = "QUERY", value_parser = query::parse)]
    pub queries: Vec<EventQueryItem>,
    /// Also the system's own events (types that begin with $)
    #[arg(long)]
    pub system: bool,
}

impl FilterArgs {
    fn filter(&self) -> EventFilter {
        EventFilter {
            stream: self.stream.clone(),
            types: self.types.clone(),
            tags: self.tags.clone(),
            include_system: self.system,
            query: (!self.queries.is_empty()).then(|| EventQuery { items: self.queries.clone() }),
        }
    }
}

/// What `read` takes.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Start after this position; backwards, below it
    #[arg(long, value_name = "POSITION", value_parser = parse_position)]
    pub after: Option<u64>,
    /// Start after the position of this token, as `append` prints it
    #[arg(long, value_name = "TOKEN", value_parser = parse_token, conflicts_with = "after")]
    pub after_token: Option<Token>,
    /// At most this many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// From high positions to low ones
    #[arg(long)]
    pub backwards: bool,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Shown below the help of `read`.
pub const READ_EXAMPLES: &str = "\
Prints the events that match all of what is given, up to the last one there is at the time of the call.

Examples:
  outrigger read --limit 10
  outrigger read --backwards --limit 5 --type flight.cancelled
  outrigger read --tag origin:JFK --tag carrier:B6 --output json | jq .data
  outrigger read --query 'types=flight.departed;tags=origin:JFK' --query 'types=flight.cancelled'";

/// What `subscribe` takes.
#[derive(Debug, Args)]
pub struct SubscribeArgs {
    /// Start after this position [default: from the beginning]
    #[arg(long, value_name = "POSITION", value_parser = parse_position)]
    pub after: Option<u64>,
    /// Start after the position of this token, as `append` prints it
    #[arg(long, value_name = "TOKEN", value_parser = parse_token, conflicts_with = "after")]
    pub after_token: Option<Token>,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Shown below the help of `subscribe`.
pub const SUBSCRIBE_EXAMPLES: &str = "\
Prints the events there are, then new ones as they come, until Ctrl-C.

Examples:
  outrigger subscribe --type flight.departed
  outrigger subscribe --after 2589 --output json
  outrigger subscribe --query 'types=flight.departed;tags=origin:JFK' --query 'types=flight.cancelled'";

/// What `streams` takes.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    /// Only streams whose names begin so
    #[arg(long)]
    pub prefix: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Also the system's own streams (names that begin with $)
    #[arg(long)]
    pub system: bool,
}

/// Shown below the help of `streams`.
pub const STREAMS_EXAMPLES: &str = "\
Prints each stream with its last revision and the position of its last event, in order of names.

Examples:
  outrigger streams
  outrigger streams --prefix flight-UA --limit 1000 --output json";

/// What `tracking` takes.
#[derive(Debug, Args)]
pub struct TrackingArgs {
    /// The consumer's name for the source, as its appends name it
    pub source: String,
}

/// Shown below the help of `tracking`.
pub const TRACKING_EXAMPLES: &str = "\
An append may carry a consumer's position in what it consumes (`outrigger append --tracking`), stored together with the events. \
A consumer that was interrupted asks here where to go on.

Examples:
  outrigger tracking payments
  outrigger tracking payments --output json";

/// Runs `tracking`.
pub async fn tracking(session: &Session, args: &TrackingArgs) -> Result<(), CliError> {
    let mut client = session.node.event_log().await?;
    let request = GetTrackingRequest { source: args.source.clone() };
    let answer = client.get_tracking(request).await?.into_inner();
    let mut out = Out::standard();
    match (session.output, answer.stored_at) {
        (Format::Json, _) => {
            let fields = [("source_position", answer.source_position), ("stored_at", answer.stored_at)];
            out.line(&to_line(&std::collections::BTreeMap::from(fields)))?;
        }
        (Format::Table, 0) => out.line("nothing is stored under this name")?,
        (Format::Table, at) => {
            out.line(&format!("position {}, stored at position {at}", answer.source_position))?;
        }
    }
    out.flush()
}

/// Runs `read`.
pub async fn read(session: &Session, args: &ReadArgs) -> Result<(), CliError> {
    let mut client = session.node.event_log().await?;
    let request = ReadRequest {
        after: args.after,
        limit: args.limit,
        backwards: args.backwards,
        filter: Some(args.filter.filter()),
        after_token: args.after_token.clone(),
    };
    let mut batches = client.read(request).await?.into_inner();
    let mut out = Out::standard();
    while let Some(batch) = batches.message().await? {
        print(&mut out, session.output, &batch.events)?;
        out.flush()?;
    }
    out.flush()
}

/// Runs `subscribe` until it is interrupted.
pub async fn subscribe(session: &Session, args: &SubscribeArgs) -> Result<(), CliError> {
    let mut client = session.node.event_log().await?;
    let request = SubscribeRequest {
        after: args.after,
        filter: Some(args.filter.filter()),
        after_token: args.after_token.clone(),
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| CliError::failed(format!("cannot listen for Ctrl-C: {error}")))
        }
        followed = async { follow(session.output, client.subscribe(request).await?.into_inner()).await } => followed,
    }
}

async fn follow(format: Format, mut contents: Streaming<SubscribeResponse>) -> Result<(), CliError> {
    let mut out = Out::standard();
    while let Some(response) = contents.message().await? {
        if let Some(Content::Events(batch)) = response.content {
            print(&mut out, format, &batch.events)?;
            out.flush()?;
        }
    }
    Err(CliError::failed(
        "the node ended the subscription; subscribe again with --after the last position above",
    ))
}

fn print(out: &mut Out, format: Format, events: &[Event]) -> Result<(), CliError> {
    for event in events {
        match format {
            Format::Json => out.line(&to_line(&render::event(event)))?,
            Format::Table => out.line(&event_line(event))?,
        }
    }
    Ok(())
}

/// One event on one line: position, time, type, stream and revision, data.
fn event_line(event: &Event) -> String {
    format!(
        "{:>8}  {:<24}  {:<18}  {}@{}  {}",
        event.position,
        time_in_table(event.time.as_ref()),
        event.r#type,
        event.stream,
        event.revision,
        compact(&String::from_utf8_lossy(&event.data))
    )
}

/// Runs `streams`.
pub async fn streams(session: &Session, args: &StreamsArgs) -> Result<(), CliError> {
    let mut client = session.node.event_log().await?;
    let mut streams: Vec<StreamInfo> = Vec::new();
    let mut page_token = None;
    loop {
        let left = args.limit.saturating_sub(streams.len() as u32);
        let request = ListStreamsRequest {
            prefix: args.prefix.clone(),
            page_size: Some(left.min(crate::limits::PAGE_SIZE_MAX)),
            page_token,
            include_system: args.system,
        };
        let page = client.list_streams(request).await?.into_inner();
        streams.extend(page.streams);
        page_token = page.next_page_token;
        if page_token.is_none() || streams.len() >= args.limit as usize {
            break;
        }
    }
    let mut out = Out::standard();
    match session.output {
        Format::Json => {
            for info in &streams {
                out.line(&to_line(&render::stream(info)))?;
            }
        }
        Format::Table => {
            let columns =
                [("stream", Align::Left), ("revision", Align::Right), ("last position", Align::Right)];
            let mut rows = table(&columns);
            for info in &streams {
                rows.add_row([
                    info.stream.clone(),
                    info.revision.to_string(),
                    info.last_position.to_string(),
                ]);
            }
            out.table(&rows)?;
            if streams.is_empty() {
                out.line("no streams")?;
            }
            if page_token.is_some() {
                out.line(&format!("the first {} streams; see more with --limit or --prefix", streams.len()))?;
            }
        }
    }
    out.flush()
}
