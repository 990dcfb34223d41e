//! `outrigger bench project`: how fast a projection is built, catches up, and shows what was appended.
//!
//! A node of its own in a temporary directory, as a process of its own. One after the other: a log is filled; a version is
//! deployed and builds from nothing; its file is weighed; as many events again are appended while it follows, as fast as
//! they are taken; when the last is acknowledged, what it lags behind is what it catches up with; then single events at a
//! pace, each read back with its token. Reading order: `flights` (the events), `fill` and `visible` (the loads), `size`
//! (the weighing), `figures` (what is printed), `node` (who is measured).

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::time::sleep;

use self::{
    figures::{Figures, Stretch},
    flights::Flights,
    node::ServedNode,
};
use super::{run::Meter, seconds};
use crate::{
    api::proto::v1::{
        GetProjectionRequest, ProjectionVersion, VersionState, projections_client::ProjectionsClient,
    },
    cli::{Session, client::Connection, error::CliError, load::progress::say, text::grouped},
    clock::{Clock as _, SystemClock},
    disk::{self, real::RealDisk},
    limits::DEFINITION_BYTES_MAX,
    projection::definition::Definition,
};

mod figures;
pub(super) mod fill;
pub(super) mod flights;
mod node;
mod size;
mod visible;

/// Of documents and an index as in docs/projections.md.
pub(super) const DEFINITION: &str = include_str!("project/definition.yaml");
/// How often the node is asked how far a version is.
const LOOK: Duration = Duration::from_millis(50);
/// How long a version may make no progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `bench project` takes.
#[derive(Debug, Args)]
pub struct BenchProjectArgs {
    /// Events that are there when the version is deployed; as many again are appended while it follows
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    pub events: u64,
    /// Flights of a day; every day has documents of its own
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub flights: u32,
    /// Another definition, over the event types of examples/airport, with a collection `flights` by `data.flight`
    #[arg(long, value_name = "FILE")]
    pub definition: Option<PathBuf>,
    /// Where the node gets a directory; it is removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Events that are appended and read back a second, one by one
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Seconds of these
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Makes the events the same again, but for their ids [default: a random one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
It starts a node of its own below --dir; take the disk that nodes write to. The settings of that node come from the \
environment (OUTRIGGER_LIMITS__MEMORY, say).

Examples:
  outrigger bench project
  outrigger bench project --definition examples/airport/projections/departures-v1.yaml --output json
  outrigger bench project --events 200000 --rate 500 --dir /var/lib/outrigger";

/// Runs `bench project`.
pub async fn bench(session: &Session, args: &BenchProjectArgs) -> Result<(), CliError> {
    let text = match &args.definition {
        Some(path) => read_definition(path)?,
        None => DEFINITION.to_owned(),
    };
    let definition =
        Definition::parse(&text, "--definition").map_err(|error| CliError::failed(error.to_string()))?;
    if definition.collection(visible::COLLECTION).is_none() {
        let what = format!("--definition: expected a collection {}, found none", visible::COLLECTION);
        return Err(CliError::Usage(what));
    }
    let seed = args.seed.unwrap_or_else(|| SystemClock.random() as u64);
    let mut flights = Flights::new(args.flights, seed);
    let node = ServedNode::start(&args.dir)?;
    let mut log = node.server.node.event_log().await?;
    let mut watched = Watched::new(&node, &definition).await?;

    say(&format!("filling a log with {} events", grouped(args.events)));
    let filled = Instant::now();
    flights = fill::append(&mut log, flights, args.events).await?;
    let append = Stretch::new(args.events, filled.elapsed(), None);

    say("building the version");
    node.deploy(&text)?;
    let build = watched.built(args.events).await?;
    node.settle(&definition).await?;
    let disk = size::weigh(&node, &definition).await?;

    say(&format!("appending {} events while it follows", grouped(args.events)));
    let (before, began) = (watched.meter.read().await[0], Instant::now());
    flights = fill::append(&mut log, flights, args.events).await?;
    let lag = watched.look().await?.map_or(0, |version| version.lag);
    let behind = Instant::now();
    watched.at(2 * args.events).await?;
    let catch_up = Stretch::new(lag, behind.elapsed(), None);
    let live = Stretch::new(args.events, began.elapsed(), watched.used(before).await);

    say(&format!("appending and reading {} events a second", args.rate));
    let visible = visible::run(&node, definition.name(), flights, args).await?;
    let figures = Figures::new(args, seed, append, build, live, catch_up, disk, visible);
    figures.print(session.output)
}

fn read_definition(path: &std::path::Path) -> Result<String, CliError> {
    let failed =
        |error: &dyn std::fmt::Display| CliError::failed(format!("--definition {}: {error}", path.display()));
    let bytes = disk::read_file(&RealDisk, path, DEFINITION_BYTES_MAX).map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// The version that is measured.
struct Watched {
    client: ProjectionsClient<Connection>,
    projection: String,
    meter: Meter,
}

impl Watched {
    async fn new(node: &ServedNode, definition: &Definition) -> Result<Self, CliError> {
        Ok(Self {
            client: node.server.node.projections().await?,
            projection: definition.name().to_owned(),
            meter: Meter::new(node.server.clone()).await?,
        })
    }

    /// The version, once it is deployed.
    async fn look(&mut self) -> Result<Option<ProjectionVersion>, CliError> {
        let request = GetProjectionRequest { projection: self.projection.clone() };
        match self.client.get_projection(request).await {
            Ok(found) => Ok(found.into_inner().versions.into_iter().next()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// From the deployment to the first time at the head.
    async fn built(&mut self, events: u64) -> Result<Stretch, CliError> {
        let before = self.meter.read().await[0];
        let mut began = Instant::now();
        let mut deployed = false;
        loop {
            let looked = Instant::now();
            let found = self.look().await?;
            if found.is_some() && !deployed {
                (began, deployed) = (looked, true);
            }
            let Some(version) = found else {
                if began.elapsed() > PATIENCE {
                    return Err(CliError::failed("the node did not take the definition; it says why above"));
                }
                sleep(LOOK).await;
                continue;
            };
            if matches!(version.state(), VersionState::Active | VersionState::Ready) {
                return Ok(Stretch::new(events, began.elapsed(), self.used(before).await));
            }
            check(&version)?;
            sleep(LOOK).await;
        }
    }

    /// Until the version shows this position.
    async fn at(&mut self, position: u64) -> Result<(), CliError> {
        let (mut last, mut moved) = (0, Instant::now());
        while last < position {
            let version = self.look().await?.unwrap_or_default();
            check(&version)?;
            if version.position != last {
                (last, moved) = (version.position, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                return Err(CliError::failed(format!("the version stands still at position {last}")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn used(&mut self, before: Option<crate::process::Usage>) -> Option<crate::process::Usage> {
        let (before, after) = (before?, self.meter.read().await[0]?);
        Some(crate::process::Usage { cpu: after.cpu.checked_sub(before.cpu)?, ..after })
    }
}

fn check(version: &ProjectionVersion) -> Result<(), CliError> {
    match (&version.error, version.state()) {
        (Some(error), VersionState::Failed) => Err(CliError::failed(error.clone())),
        _ => Ok(()),
    }
}
