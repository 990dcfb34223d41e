//! `outrigger demo`: a node in a temporary directory, a day of flights out of New York, and what it knows about them.
//!
//! Then its read model changes while events come and a client reads, and three services share events. The node is one like any other: the story talks
//! gRPC to it. Every figure shown is read from stored documents or counted; only the means are divided here. The
//! directory is removed at the end.

use std::{net::SocketAddr, path::Path};

use bytes::Bytes;
use clap::Args;
use tempfile::TempDir;

use self::story::{airports_table, board_table};
use super::{
    Session,
    client::{Connection, Node},
    documents::pages,
    error::CliError,
    load::{self, progress::say, source::Input},
    output::{Format, Out},
    serve::{Signals, failed},
    text::{grouped, to_line},
};
use crate::{
    api::proto::v1::{
        Document, GetHeadRequest, IndexRange, ListRequest, ReadOptions, Token, list_request::Selection,
        query_client::QueryClient,
    },
    app,
    config::{Config, Listen},
    disk::{self, Disk as _, real::RealDisk},
};

mod blue_green;
mod reader;
mod services;
mod story;
mod traffic;

const FLIGHTS: &[u8] = include_bytes!("../../examples/airport/flights-2013-01-01.ndjson");
const WEATHER: &[u8] = include_bytes!("../../examples/airport/weather-2013-01-01.ndjson");
const DEFINITIONS: [(&str, &[u8]); 2] = [
    ("departures-v1.yaml", include_bytes!("../../examples/airport/projections/departures-v1.yaml")),
    ("weather-v1.yaml", include_bytes!("../../examples/airport/projections/weather-v1.yaml")),
];
/// What the story is about.
const PROJECTION: &str = "departures";
/// The board shows Newark from half past four in the afternoon, New York time.
const BOARD_AIRPORT: &str = "EWR";
const BOARD_FROM: &str = "2013-01-01T21:25:00Z";
const BOARD_FLIGHTS: u32 = 12;

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Stop after the story instead of keeping the node up
    #[arg(long)]
    pub exit: bool,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The flights are those of 2013-01-01 out of New York (nycflights13; US Bureau of Transportation Statistics, NOAA).
The exit code is 1 if the client that reads meanwhile sees a failed read, an as-of that goes back, or a document that does not
fit the version that answered.

Examples:
  outrigger demo
  outrigger demo --exit";

/// Runs `demo`.
pub async fn run(args: &DemoArgs, output: Format, colour: bool) -> Result<(), CliError> {
    let mut signals = Signals::take_over()?;
    let dir = tempfile::Builder::new().prefix("outrigger-demo-").tempdir().map_err(|error| {
        CliError::failed(format!("cannot make a temporary directory: {error}; set TMPDIR"))
    })?;
    let config = prepare(dir.path()).map_err(|error| {
        CliError::failed(format!("cannot write into {}: {error}; set TMPDIR", dir.path().display()))
    })?;
    let running = app::start(config).await.map_err(failed)?;
    let story = async {
        tell(&running.grpc_addr, output, colour).await?;
        blue_green::tell(&Node::new(&running.grpc_addr.to_string(), None)?, dir.path()).await?;
        services::tell(dir.path()).await?;
        if !args.exit {
            print(&next_commands(&running.grpc_addr, running.http_addr))?;
            running.failed().await;
        }
        Ok(())
    };
    let told = tokio::select! {
        told = story => told,
        () = signals.next() => {
            say("stopping");
            Ok(())
        }
    };
    let stopped = running.stop().await.map_err(failed);
    remove(dir);
    told.and(stopped)
}

/// Writes the definitions and says how the node is to run: on free ports of this machine.
fn prepare(dir: &Path) -> std::io::Result<Config> {
    let projections = dir.join("projections");
    RealDisk.create_dir_all(&projections)?;
    for (name, text) in DEFINITIONS {
        disk::replace_file(&RealDisk, &projections.join(name), text)?;
    }
    let mut config = Config { node: "demo".into(), data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = any_port().into();
    config.http.listen = any_port();
    config.projections.dir = Some(projections);
    Ok(config)
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn remove(dir: TempDir) {
    let path = dir.path().display().to_string();
    if let Err(error) = dir.close() {
        say(&format!("warning: {path} could not be removed: {error}"));
    }
}

async fn tell(addr: &Listen, output: Format, colour: bool) -> Result<(), CliError> {
    let node = Node::new(&addr.to_string(), None)?;
    let session = Session { node, output };
    print(&[format!("An Outrigger node is up at {addr}, in a temporary directory."), String::new()])?;
    for (name, bytes) in [("flights-2013-01-01.ndjson", FLIGHTS), ("weather-2013-01-01.ndjson", WEATHER)] {
        let (loaded, existing, head) = load::load_all(&session, Input::memory(name, bytes)).await?;
        print(&[format!("{name}: loaded {loaded} events, {existing} already there, head {head}")])?;
    }
    let mut log = session.node.event_log().await?;
    let head = log.get_head(GetHeadRequest {}).await?.into_inner();
    let mut questions = Questions { query: session.node.query().await?, at_least: head.token };
    let board = questions.list(board()).await?;
    let airports = questions.list(all(PROJECTION, "airports")).await?;
    let stations = questions.list(all("weather", "stations")).await?;
    let mut out = Out::standard();
    out.line("")?;
    out.line(&format!(
        "Departures from {BOARD_AIRPORT} on 2013-01-01, New York time (collection flights, index by_departure)"
    ))?;
    out.table(&board_table(&board, colour))?;
    out.line("")?;
    out.line("Delays and weather by airport (collections airports of departures and stations of weather)")?;
    out.table(&airports_table(&airports, &stations))?;
    out.line("")?;
    out.line(&format!("All of it follows from {} events in one log.", grouped(head.head)))?;
    out.flush()
}

fn print(lines: &[String]) -> Result<(), CliError> {
    super::output::print_lines(lines)
}

/// Queries that see at least what was loaded.
struct Questions {
    query: QueryClient<Connection>,
    at_least: Option<Token>,
}

impl Questions {
    async fn list(&mut self, (request, limit): (ListRequest, u32)) -> Result<Vec<Document>, CliError> {
        let options = ReadOptions { at_least: self.at_least.clone(), ..ReadOptions::default() };
        let request = ListRequest { options: Some(options), ..request };
        Ok(pages(&mut self.query, request, limit).await?.documents)
    }
}

fn all(projection: &str, collection: &str) -> (ListRequest, u32) {
    let request = ListRequest {
        projection: projection.into(),
        collection: collection.into(),
        ..ListRequest::default()
    };
    (request, crate::limits::PAGE_SIZE_MAX)
}

fn board() -> (ListRequest, u32) {
    let (request, _) = all(PROJECTION, "flights");
    let range = IndexRange {
        index: "by_departure".into(),
        equals: vec![to_line(BOARD_AIRPORT).into()],
        from: Some(Bytes::from(to_line(BOARD_FROM))),
        to: None,
    };
    let request = ListRequest { selection: Some(Selection::Index(range)), ..request };
    (request, BOARD_FLIGHTS)
}

fn next_commands(grpc: &Listen, http: SocketAddr) -> Vec<String> {
    let commands = [
        "get departures airports EWR",
        "list departures routes --index by_flights --descending --limit 5",
        "list departures flights --index by_status --eq cancelled",
        "list departures carriers --filter 'doc.departed > 100'",
        "read --backwards --limit 5 --tag origin:JFK",
        "projection list",
        "projection compare departures 1 2 --ignore late --ignore late_percent",
        "projection rollback departures",
        "read --stream '$projection-departures' --system",
        "subscribe --after 2589",
    ];
    let mut lines = vec![String::new(), "The node stays up. In another terminal, try:".into(), String::new()];
    lines.push(format!("  export OUTRIGGER_ADDR={grpc}"));
    lines.extend(commands.iter().map(|command| format!("  outrigger {command}")));
    lines.push(
        "  outrigger append --type flight.departed --stream flight-XX1 \
         --data '{\"flight\":\"XX1\",\"origin\":\"EWR\",\"carrier\":\"XX\",\"delay_minutes\":5}'"
            .into(),
    );
    lines.push(format!("  curl http://{http}/metrics"));
    lines.extend([String::new(), "Ctrl-C stops it and removes its directory.".into()]);
    lines
}
