//! `outrigger projection deploy`, `promote`, `rollback`, `retire`, `pause` and `resume`: versions side by side.

use std::{path::PathBuf, time::Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::sleep;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    super::{
        Session,
        client::Connection,
        error::{CliError, reason},
        output::{Format, Out},
        text::{duration_text, rate_text, to_line},
    },
    bar::Bar,
    wait::LOOK,
};
use crate::{
    api::proto::v1::{
        DeployRequest, DeployResult, GetProjectionRequest, PauseRequest, ProjectionVersion, PromoteRequest,
        PromoteResponse, ResumeRequest, RetireRequest, RollbackRequest,
        projections_client::ProjectionsClient,
    },
    disk::{read_file, real::RealDisk},
    limits::DEFINITION_BYTES_MAX,
};

/// Commands about versions.
#[derive(Debug, Subcommand)]
pub enum VersionCommand {
    /// Put definitions in force, beside the versions that are there
    #[command(after_help = DEPLOY_EXAMPLES)]
    Deploy {
        /// The definition files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Decide that a version becomes active: it answers the queries that name no version
    #[command(after_help = PROMOTE_EXAMPLES)]
    Promote(PromoteArgs),
    /// Decide that the version that was active before becomes it again
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Decide that a version is removed for good, with its file
    #[command(after_help = RETIRE_EXAMPLES)]
    Retire(RetireArgs),
    /// Let a version that is not active stand still, over restarts too
    #[command(after_help = "Examples:\n  outrigger projection pause departures 2")]
    Pause(BuildArgs),
    /// Let a paused version go on
    #[command(after_help = "Examples:\n  outrigger projection resume departures 2")]
    Resume(BuildArgs),
}

const DEPLOY_EXAMPLES: &str = "\
Repeating it changes nothing. A version that is there cannot get another definition; one that is retired comes back with
the definition that it had.

Examples:
  outrigger projection deploy departures-v2.yaml
  outrigger projection deploy projections/*.yaml --output json";

const PROMOTE_EXAMPLES: &str = "\
The version must be built and at most --max-lag events behind; then the log says so (exit 1 if not, with the lag). It
answers as soon as it shows everything that the version before has shown. With --wait a bar on stderr shows how far it is.

Examples:
  outrigger projection promote departures 2
  outrigger projection promote departures 2 --wait --expect-active 1 --reason 'delays by airport'
  outrigger projection promote departures 2 --max-lag 0 --output json";

const ROLLBACK_EXAMPLES: &str = "\
The version before has gone on applying, so that it answers at once. A version that was retired since is passed over.

Examples:
  outrigger projection rollback departures
  outrigger projection rollback departures --expect-active 2 --reason 'wrong delays'";

const RETIRE_EXAMPLES: &str = "\
Never the active version. Its number comes back only by projection deploy, with the definition that it had; a file that lies
in the watched directory does not bring it back.

Examples:
  outrigger projection retire departures 1
  outrigger projection retire departures 1 --reason 'nobody reads it any more'";

/// What `promote` takes.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The projection
    name: String,
    /// The version
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    /// Refused unless this version is active
    #[arg(long, value_name = "V")]
    expect_active: Option<u32>,
    #[command(flatten)]
    how: PromoteOptions,
}

/// How something is promoted, be it a version or a release.
#[derive(Debug, Default, Args)]
pub struct PromoteOptions {
    /// How many events each version may be behind the head [default: 1000]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_lag: Option<u64>,
    /// Wait until all of it is ready, and then until it answers
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    /// With --wait: exit 1 after so many seconds
    #[arg(long, value_name = "S", requires = "wait")]
    pub(in crate::cli) timeout: Option<f64>,
    /// Why, for those who read the log later
    #[arg(long)]
    pub(in crate::cli) reason: Option<String>,
}

impl PromoteArgs {
    /// Waits until the version is ready, and answers.
    pub(in crate::cli) fn waiting(name: &str, version: u32, timeout_seconds: f64, reason: &str) -> Self {
        Self {
            name: name.into(),
            version,
            expect_active: None,
            how: PromoteOptions {
                max_lag: None,
                wait: true,
                timeout: Some(timeout_seconds),
                reason: Some(reason.into()),
            },
        }
    }
}

/// What `rollback` takes.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The projection
    name: String,
    /// Refused unless this version is active
    #[arg(long, value_name = "V")]
    expect_active: Option<u32>,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

impl RollbackArgs {
    /// Whatever version is active.
    pub(in crate::cli) fn of(name: &str) -> Self {
        Self { name: name.into(), expect_active: None, reason: None }
    }
}

/// What `retire` takes.
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// The projection
    name: String,
    /// The version
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// What `pause` and `resume` take.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The projection
    name: String,
    /// The version
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
}

/// Runs one of them.
pub async fn run(session: &Session, command: VersionCommand) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let format = session.output;
    match command {
        VersionCommand::Deploy { files } => deploy(&mut client, format, &files).await,
        VersionCommand::Promote(args) => promote(&mut client, format, &args).await,
        VersionCommand::Rollback(args) => rollback(&mut client, format, args).await,
        VersionCommand::Retire(args) => retire(&mut client, format, args).await,
        VersionCommand::Pause(args) => pause(&mut client, format, args).await,
        VersionCommand::Resume(args) => resume(&mut client, format, args).await,
    }
}

type Client = ProjectionsClient<Connection>;

/// What a command tells: a sentence for people, an object for programs.
#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    projection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answering_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition_hash: Option<&'a str>,
}

fn tell(format: Format, sentence: &str, told: &Told<'_>) -> Result<(), CliError> {
    let mut out = Out::standard();
    match format {
        Format::Table => out.line(sentence)?,
        Format::Json => out.line(&to_line(told))?,
    }
    out.flush()
}

pub(in crate::cli) async fn deploy(
    client: &mut Client,
    format: Format,
    files: &[PathBuf],
) -> Result<(), CliError> {
    for path in files {
        let file = path.display().to_string();
        let failed = |error: &dyn std::fmt::Display| CliError::failed(format!("{file}: {error}"));
        let bytes = read_file(&RealDisk, path, DEFINITION_BYTES_MAX).map_err(|error| failed(&error))?;
        let definition = String::from_utf8(bytes).map_err(|error| failed(&error))?;
        let deployed = client.deploy(DeployRequest { definition, file }).await?.into_inner();
        let (result, words) = match deployed.result() {
            DeployResult::New => ("new", "is new and is built"),
            DeployResult::Unchanged => ("unchanged", "is deployed already"),
            DeployResult::Rebuilt => ("rebuilt", "has another definition now and is built anew"),
            DeployResult::Restored => ("restored", "was retired, and is built again"),
            DeployResult::Unspecified => ("unknown", "is deployed"),
        };
        let sentence = format!("{} version {} {words}", deployed.projection, deployed.version);
        let told = Told {
            projection: &deployed.projection,
            version: Some(deployed.version),
            result: Some(result),
            definition_hash: Some(&deployed.definition_hash),
            ..Told::default()
        };
        tell(format, &sentence, &told)?;
    }
    Ok(())
}

pub(in crate::cli) async fn promote(
    client: &mut Client,
    format: Format,
    args: &PromoteArgs,
) -> Result<(), CliError> {
    let request = PromoteRequest {
        projection: args.name.clone(),
        version: args.version,
        expect_active: args.expect_active,
        max_lag: args.how.max_lag,
        reason: args.how.reason.clone(),
    };
    let (began, mut bar) = (Instant::now(), Bar::new());
    let is_over = || args.how.timeout.is_some_and(|timeout| began.elapsed().as_secs_f64() >= timeout);
    let mut answer = loop {
        match client.promote(request.clone()).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) if args.how.wait && is_on_its_way(&status) && !is_over() => {
                if let Some(version) = find(client, &args.name, args.version).await? {
                    bar.update(version.position, version.head, &text(&version));
                }
                sleep(LOOK).await;
            }
            Err(status) => return Err(status.into()),
        }
    };
    while args.how.wait && answer.answering_version != answer.active_version {
        if is_over() {
            let waited = duration_text(began.elapsed().as_secs_f64());
            tell_turn(format, &args.name, answer.position, &answer)?;
            return Err(CliError::failed(format!("it did not take over within {waited}")));
        }
        sleep(LOOK).await;
        // Nothing is left to decide: it says which version answers.
        let next = PromoteRequest { expect_active: Some(args.version), ..request.clone() };
        answer.answering_version = client.promote(next).await?.into_inner().answering_version;
    }
    drop(bar);
    tell_turn(format, &args.name, answer.position, &answer)
}

/// Whether waiting may help against a refusal.
pub(in crate::cli) fn is_on_its_way(status: &Status) -> bool {
    let info = status.get_details_error_info();
    let says = info.and_then(|info| info.metadata.get("on_its_way").map(|says| says == "true"));
    reason(status) == "NOT_READY" && says == Some(true)
}

pub(in crate::cli) async fn find(
    client: &mut Client,
    name: &str,
    version: u32,
) -> Result<Option<ProjectionVersion>, CliError> {
    let request = GetProjectionRequest { projection: name.to_owned() };
    let versions = client.get_projection(request).await?.into_inner().versions;
    Ok(versions.into_iter().find(|found| found.version == version))
}

fn text(version: &ProjectionVersion) -> String {
    let left = version.seconds_left.map(|seconds| format!(", {} left", duration_text(seconds)));
    let rate = rate_text(version.rate);
    format!("{} version {}: {rate}{}", version.projection, version.version, left.unwrap_or_default())
}

pub(in crate::cli) async fn rollback(
    client: &mut Client,
    format: Format,
    args: RollbackArgs,
) -> Result<(), CliError> {
    let RollbackArgs { name, expect_active, reason } = args;
    let request = RollbackRequest { projection: name.clone(), expect_active, reason };
    let done = client.rollback(request).await?.into_inner();
    let turn = PromoteResponse {
        position: Some(done.position),
        previous_version: done.previous_version,
        active_version: done.active_version,
        answering_version: done.answering_version,
    };
    tell_turn(format, &name, turn.position, &turn)
}

/// Which version is active now, and whether it answers.
fn tell_turn(
    format: Format,
    name: &str,
    position: Option<u64>,
    turn: &PromoteResponse,
) -> Result<(), CliError> {
    let told = Told {
        projection: name,
        position,
        previous_version: Some(turn.previous_version),
        active_version: Some(turn.active_version),
        answering_version: Some(turn.answering_version),
        ..Told::default()
    };
    tell(format, &turn_sentence(name, turn), &told)
}

fn turn_sentence(name: &str, turn: &PromoteResponse) -> String {
    let (active, before) = (turn.active_version, turn.previous_version);
    let decided = match turn.position {
        Some(position) => {
            format!(
                "decided at position {position}: {name} version {active} is active, before version {before}"
            )
        }
        None => format!("{name} version {active} is active already"),
    };
    if turn.answering_version == active {
        return decided;
    }
    let answering = turn.answering_version;
    format!("{decided}; version {answering} answers until version {active} has come as far")
}

async fn retire(client: &mut Client, format: Format, args: RetireArgs) -> Result<(), CliError> {
    let RetireArgs { name, version, reason } = args;
    let request = RetireRequest { projection: name.clone(), version, reason };
    let position = client.retire(request).await?.into_inner().position;
    let sentence = format!("decided at position {position}: {name} version {version} is retired");
    let told = Told {
        projection: &name,
        version: Some(version),
        result: Some("retired"),
        position: Some(position),
        ..Told::default()
    };
    tell(format, &sentence, &told)
}

async fn pause(client: &mut Client, format: Format, args: BuildArgs) -> Result<(), CliError> {
    let BuildArgs { name, version } = args;
    let paused = client.pause(PauseRequest { projection: name.clone(), version }).await?.into_inner();
    let (result, words) =
        if paused.was_paused { ("unchanged", "is paused already") } else { ("paused", "is paused") };
    let sentence = format!("{name} version {version} {words}, at position {}", paused.position);
    let told = Told {
        projection: &name,
        version: Some(version),
        result: Some(result),
        position: Some(paused.position),
        ..Told::default()
    };
    tell(format, &sentence, &told)
}

async fn resume(client: &mut Client, format: Format, args: BuildArgs) -> Result<(), CliError> {
    let BuildArgs { name, version } = args;
    let resumed = client.resume(ResumeRequest { projection: name.clone(), version }).await?.into_inner();
    let (result, words) =
        if resumed.was_paused { ("resumed", "goes on") } else { ("unchanged", "was not paused") };
    let told = Told { projection: &name, version: Some(version), result: Some(result), ..Told::default() };
    tell(format, &format!("{name} version {version} {words}"), &told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_is_active_and_who_answers() {
        let check = |position, answering_version, expected: &str| {
            let turn =
                PromoteResponse { position, previous_version: 1, active_version: 2, answering_version };
            assert_eq!(turn_sentence("departures", &turn), expected);
        };
        check(Some(80_491), 2, "decided at position 80491: departures version 2 is active, before version 1");
        check(
            Some(7),
            1,
            "decided at position 7: departures version 2 is active, before version 1; version 1 answers until \
             version 2 has come as far",
        );
        check(None, 2, "departures version 2 is active already");
    }
}
