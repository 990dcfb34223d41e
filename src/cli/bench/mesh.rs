//! `outrigger bench mesh`: how fast events of one node become documents of another, over a real NATS server.
//!
//! A broker and two nodes in a temporary directory, each a process of its own. The owner's log is filled while nothing is
//! shared. Then the export is deployed, until the broker has acknowledged everything; then the import, until the importer's
//! projection shows the last event: broker, owner, importer and projection work side by side (with `--at-once` both are deployed
//! at the same time). Then single events at a pace, by turns with messages of bare
//! JetStream. Reading order: `services` (who is measured), `latency` (single events), `figures` (what is printed).

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use tokio::time::sleep;

use self::{
    figures::{Figures, Parts, Transfer},
    services::{IMPORTER, OWNER, Services},
};
use super::{
    project::{DEFINITION, fill, flights::Flights},
    run::Server,
};
use crate::{
    api::proto::v1::{GetMeshStatusRequest, GetProjectionRequest, MeshImport},
    cli::{Session, error::CliError, load::progress::say, text::grouped},
    clock::{Clock as _, SystemClock},
    disk::real::RealDisk,
    limits::PUBLISH_WINDOW_MESSAGES,
    mesh::nats::BareStream,
    process,
};

mod figures;
mod latency;
mod services;

/// How often the importer is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may make no progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long everything rests before single events are measured: head marks and checkpoints of the transfer are done then.
const REST: Duration = Duration::from_secs(6);
/// Messages of bare JetStream that are published as fast as they are taken.
const BARE_MESSAGES: u64 = 200_000;
/// Bytes of one: what an event has on the bus.
const BARE_BYTES: usize = 1_100;

/// What `bench mesh` takes.
#[derive(Debug, Args)]
pub struct BenchMeshArgs {
    /// Events of the owner's log when sharing begins
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    pub events: u64,
    /// Flights of a day; every day has documents of its own
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub flights: u32,
    /// Single events after that, each followed by a message of bare JetStream
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub turns: u32,
    /// Of these so many a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// Deploy export and import at the same time: what is measured is publishing and importing together
    #[arg(long)]
    pub at_once: bool,
    /// The NATS server to start, 2.12 or newer
    #[arg(long, value_name = "PROGRAM", default_value = "nats-server")]
    pub nats_server: PathBuf,
    /// Where broker and nodes get a directory; it is removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Makes the events the same again, but for their ids [default: a random one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
It starts a broker and two nodes of its own below --dir; take the disk that nodes write to.

Examples:
  outrigger bench mesh
  outrigger bench mesh --nats-server .tools/bin/nats-server --output json
  outrigger bench mesh --events 100000 --turns 200 --rate 20 --dir /var/lib/outrigger";

/// Runs `bench mesh`.
pub async fn bench(session: &Session, args: &BenchMeshArgs) -> Result<(), CliError> {
    let seed = args.seed.unwrap_or_else(|| SystemClock.random() as u64);
    let mut services = Services::start(&args.dir, &args.nats_server).await?;
    let bare = BareStream::publish_many(
        &services.url,
        "bare-load",
        Bytes::from(vec![b'x'; BARE_BYTES]),
        BARE_MESSAGES,
        PUBLISH_WINDOW_MESSAGES,
    );
    let bare = BARE_MESSAGES as f64 / bare.await.map_err(CliError::failed)?.as_secs_f64();
    let owner = services.owner()?;
    let importer = services.importer(DEFINITION)?;
    say(&format!("filling the owner's log with {} events", grouped(args.events)));
    let flights = Flights::new(args.flights, seed);
    let flights = fill::append(&mut owner.node.event_log().await?, flights, args.events).await?;

    say("sharing them");
    let parts = [("broker", services.broker()), (OWNER, pid(&owner)?), (IMPORTER, pid(&importer)?)];
    let published = Instant::now();
    services.share(OWNER)?;
    let mut publish = None;
    if !args.at_once {
        publish_all(&owner, args.events).await?;
        publish = Some(published.elapsed());
        say("importing them");
    }
    let before = parts.map(|(_, process)| cpu(process));
    let begun = Instant::now();
    services.share(IMPORTER)?;
    let (imported, repaired) = arrive(&importer, args.events).await?;
    let visible = projected(&importer).await?;
    let used = parts.iter().zip(before).map(|((name, process), before)| (*name, cpu(*process) - before));
    let used = used.collect::<Parts>();
    let transfer = Transfer::new(args.events, publish, (imported - begun, visible - begun), repaired, used);

    sleep(REST).await;
    say(&format!("{} single events, {} a second", grouped(u64::from(args.turns)), args.rate));
    let mut stream = BareStream::create(&services.url, "bare").await.map_err(CliError::failed)?;
    let pace = Duration::from_secs(1) / args.rate;
    let seen = latency::run(&owner, &importer, &mut stream, flights, args.turns, pace).await?;
    Figures::new(args, seed, transfer, bare, &seen).print(session.output)
}

/// Waits until the broker has acknowledged so many events.
async fn publish_all(owner: &Server, events: u64) -> Result<(), CliError> {
    let mut mesh = owner.node.mesh().await?;
    let (mut last, mut moved) = (0, Instant::now());
    while last < events {
        let status = mesh.get_mesh_status(GetMeshStatusRequest {}).await?.into_inner();
        let export = status.exports.into_iter().next().unwrap_or_default();
        if export.acknowledged_seq != last {
            (last, moved) = (export.acknowledged_seq, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            let why = export.last_error.unwrap_or_else(|| "it does not say why".to_owned());
            let problems = status.problems.join("; ");
            return Err(CliError::failed(format!("the export stands still at {last}: {why} {problems}")));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until the importer has taken over so many events; says when, and how many of them came by repair.
async fn arrive(importer: &Server, events: u64) -> Result<(Instant, u64), CliError> {
    let mut mesh = importer.node.mesh().await?;
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let status = mesh.get_mesh_status(GetMeshStatusRequest {}).await?.into_inner();
        let import = status.imports.into_iter().next().unwrap_or_default();
        let MeshImport { cursor, stop, repair, .. } = import;
        let seq = cursor.map_or(0, |cursor| cursor.seq);
        if seq >= events {
            return Ok((Instant::now(), repair.map_or(0, |repair| repair.events)));
        }
        if seq != last {
            (last, moved) = (seq, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            let why = stop.map_or_else(|| "it does not say why".to_owned(), |stop| stop.message);
            let problems = status.problems.join("; ");
            return Err(CliError::failed(format!("the import stands still at {last}: {why} {problems}")));
        }
        sleep(LOOK).await;
    }
}

/// Waits until the projection is at the head of the importer's log.
async fn projected(importer: &Server) -> Result<Instant, CliError> {
    let mut projections = importer.node.projections().await?;
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let request = GetProjectionRequest { projection: "departures".to_owned() };
        let found = projections.get_projection(request).await?.into_inner();
        let version = found.versions.into_iter().next().unwrap_or_default();
        if version.lag == 0 {
            return Ok(Instant::now());
        }
        if version.position != last {
            (last, moved) = (version.position, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(CliError::failed(format!("the projection stands still at position {last}")));
        }
        sleep(LOOK).await;
    }
}

fn pid(server: &Server) -> Result<u32, CliError> {
    server.process.ok_or_else(|| CliError::failed("the node has no process"))
}

/// Processor time of a process so far; 0 where the system does not say.
fn cpu(process: u32) -> f64 {
    process::usage(&RealDisk, &process.to_string()).map_or(0.0, |usage| usage.cpu.as_secs_f64())
}
