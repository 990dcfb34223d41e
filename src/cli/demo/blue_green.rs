//! The part of the demo about versions: while events come and a reader reads, a better read model is deployed, compared,
//! promoted, taken back and promoted again.
//!
//! Every step is headed by the command that a user would type. At the end stands what the reader counted.

use std::path::Path;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    PROJECTION, all, print,
    reader::{self, Counts},
    story, traffic,
};
use crate::{
    api::proto::v1::{
        CompareVersionsRequest, ListRequest, ReadOptions, Token, projections_client::ProjectionsClient,
        query_client::QueryClient,
    },
    cli::{
        client::{Connection, Node},
        documents::{Found, context_line, pages},
        error::CliError,
        output::{Format, Out},
        projection::{ShowArgs, bar::Bar, compare, versions, wait},
        text::grouped,
    },
    disk::{self, real::RealDisk},
};

const DEFINITION: &[u8] = include_bytes!("../../../examples/airport/v2/departures-v2.yaml");
const FILE: &str = "departures-v2.yaml";
/// How long a step may take, in seconds.
const STEP_SECONDS_MAX: f64 = 60.0;
/// How long until the traffic and the reader have moved on.
const MOVE_MAX: Duration = Duration::from_secs(60);
/// So many reads come between two steps, so that every version answers some.
const READS_BETWEEN: u64 = 200;

/// Tells it; an error if anything failed, or if the reader saw what it must not.
pub(super) async fn tell(node: &Node, dir: &Path) -> Result<(), CliError> {
    let mut live = Live::start(node).await?;
    let told = steps(node, dir, &mut live).await;
    let ended = live.stop().await;
    told?;
    let (events, counts) = ended?;
    let mut out = Out::standard();
    out.line("")?;
    out.line(&format!(
        "Meanwhile {} events were appended, and one client read without pause, naming no version:",
        grouped(events)
    ))?;
    out.table(&counts.table())?;
    out.flush()?;
    counts.verdict()
}

async fn steps(node: &Node, dir: &Path, live: &mut Live) -> Result<(), CliError> {
    let mut client = node.projections().await?;
    let mut query = node.query().await?;
    live.move_on().await?;
    print(&[
        String::new(),
        "Version 2 of the read model also knows how many departures were late. Events keep coming, and a client".into(),
        "reads without pause, while it is deployed, compared, promoted, taken back and promoted again:".into(),
        String::new(),
    ])?;
    deploy(&mut client, dir).await?;
    live.move_on().await?;
    compare(&mut client).await?;
    promote(&mut client, "departures by lateness").await?;
    live.move_on().await?;
    let found = airports(&mut query, live.newest()).await?;
    let mut out = Out::standard();
    out.line("")?;
    out.line("Late departures by airport, a quarter of an hour or more (collection airports)")?;
    out.table(&story::late_table(&found.documents))?;
    answered_by(&mut out, &found)?;
    out.line("")?;
    out.flush()?;
    drop(out);
    command("projection rollback departures")?;
    versions::rollback(&mut client, Format::Table, versions::RollbackArgs::of(PROJECTION)).await?;
    live.move_on().await?;
    let found = airports(&mut query, live.newest()).await?;
    let mut out = Out::standard();
    answered_by(&mut out, &found)?;
    out.flush()?;
    drop(out);
    promote(&mut client, "it was right").await?;
    live.move_on().await
}

/// What a user would type for the next step.
fn command(words: &str) -> Result<(), CliError> {
    print(&[format!("$ outrigger {words}")])
}

/// Deploys version 2 and waits until it has caught up with the log.
async fn deploy(client: &mut ProjectionsClient<Connection>, dir: &Path) -> Result<(), CliError> {
    let path = dir.join(FILE);
    disk::replace_file(&RealDisk, &path, DEFINITION)
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
    command(&format!("projection deploy {FILE}"))?;
    versions::deploy(client, Format::Table, &[path]).await?;
    command("projection show departures --wait --version 2")?;
    let show =
        ShowArgs { name: PROJECTION.into(), wait: true, version: Some(2), timeout: Some(STEP_SECONDS_MAX) };
    wait::wait(client, &show).await?;
    let version = versions::find(client, PROJECTION, 2).await?;
    let version = version.ok_or_else(|| CliError::failed("version 2 is gone"))?;
    print(&[format!(
        "caught up: {PROJECTION} version 2 has applied {} of {} events",
        grouped(version.position),
        grouped(version.head)
    )])
}

/// Says what version 2 makes otherwise, in counts and one document.
async fn compare(client: &mut ProjectionsClient<Connection>) -> Result<(), CliError> {
    command("projection compare departures 1 2")?;
    let request =
        CompareVersionsRequest { projection: PROJECTION.into(), left: 1, right: 2, ..Default::default() };
    let result = compare::ask(client, request, Bar::new()).await?;
    let mut out = Out::standard();
    out.line(&compare::summary(PROJECTION, &result))?;
    out.table(&compare::counts_table(&result))?;
    for line in result.samples.first().map(compare::sample_lines).unwrap_or_default() {
        out.line(&line)?;
    }
    out.flush()
}

async fn promote(client: &mut ProjectionsClient<Connection>, why: &str) -> Result<(), CliError> {
    command(&format!("projection promote departures 2 --wait --reason '{why}'"))?;
    let args = versions::PromoteArgs::waiting(PROJECTION, 2, STEP_SECONDS_MAX, why);
    versions::promote(client, Format::Table, &args).await
}

/// The airports, as a client sees them that names no version.
async fn airports(query: &mut QueryClient<Connection>, at_least: Option<Token>) -> Result<Found, CliError> {
    let (request, limit) = all(PROJECTION, "airports");
    let options = ReadOptions { at_least, ..ReadOptions::default() };
    pages(query, ListRequest { options: Some(options), ..request }, limit).await
}

fn answered_by(out: &mut Out, found: &Found) -> Result<(), CliError> {
    let context = found.context.as_ref().map(context_line).unwrap_or_default();
    out.line(&format!("answered by {context}"))
}

/// The traffic and the reader.
struct Live {
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
    newest: watch::Receiver<Option<Token>>,
    reads: watch::Receiver<u64>,
}

/// How one of them ended.
enum Ended {
    Traffic(Result<u64, CliError>),
    Reader(Counts),
}

impl Live {
    async fn start(node: &Node) -> Result<Self, CliError> {
        let (log, query) = (node.event_log().await?, node.query().await?);
        let (appended, newest) = watch::channel(None);
        let (done, reads) = watch::channel(0);
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let until = stop.clone();
        tasks.spawn(async move { Ended::Traffic(traffic::append(log, appended, until).await) });
        let (until, tokens) = (stop.clone(), newest.clone());
        tasks.spawn(async move { Ended::Reader(reader::read(query, tokens, done, until).await) });
        Ok(Self { tasks, stop, newest, reads })
    }

    /// The token of the newest event of the traffic.
    fn newest(&self) -> Option<Token> {
        self.newest.borrow().clone()
    }

    /// Waits until an event was appended, and a number of reads were answered.
    async fn move_on(&mut self) -> Result<(), CliError> {
        let target = *self.reads.borrow() + READS_BETWEEN;
        self.newest.mark_unchanged();
        let moved = timeout(MOVE_MAX, async {
            // A sender that is gone says at the end why.
            let appended = self.newest.changed().await.is_ok();
            appended && self.reads.wait_for(|reads| *reads >= target).await.is_ok()
        });
        match moved.await {
            Ok(true) => Ok(()),
            Ok(false) => self.ended_early().await,
            Err(_) => Err(CliError::failed(format!(
                "neither {READS_BETWEEN} reads nor an append in {} s",
                MOVE_MAX.as_secs()
            ))),
        }
    }

    /// Why the traffic or the reader is not there any more.
    async fn ended_early(&mut self) -> Result<(), CliError> {
        match self.tasks.join_next().await {
            Some(Ok(Ended::Traffic(Err(error)))) => Err(error),
            Some(Err(error)) => Err(CliError::failed(format!("a task of the demo broke off: {error}"))),
            _ => Err(CliError::failed("a task of the demo ended before its time")),
        }
    }

    /// Ends both: the events that were appended, and what the reader counted.
    async fn stop(mut self) -> Result<(u64, Counts), CliError> {
        self.stop.cancel();
        let (mut events, mut counts) = (0, Counts::default());
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ended::Traffic(appended)) => events = appended?,
                Ok(Ended::Reader(counted)) => counts = counted,
                Err(error) => {
                    return Err(CliError::failed(format!("a task of the demo broke off: {error}")));
                }
            }
        }
        Ok((events, counts))
    }
}
