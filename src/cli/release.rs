//! `outrigger release`: what one version of a service reads, under one name: applied, promoted, taken back, removed.

use std::{path::PathBuf, time::Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    Session,
    client::Connection,
    error::CliError,
    output::{Align, Format, Out, table},
    projection::{
        bar::Bar,
        versions::{PromoteOptions, is_on_its_way},
        wait::LOOK,
    },
    render::{self, state_word},
    text::{duration_text, grouped, to_line, to_raw},
};
use crate::{
    api::proto::v1::{
        ApplyReleaseRequest, DefinitionFile, GetReleaseRequest, ListReleasesRequest, PromoteReleaseRequest,
        Release, ReleaseTurn, RemoveReleaseRequest, RollbackReleaseRequest, releases_client::ReleasesClient,
    },
    disk::real::RealDisk,
    projection::watch_directory::read_sources,
};

/// Commands about releases.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Deploy the definitions of a directory beside what serves, and bind a release to their versions
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Decide that all versions of a release become active, in one step
    #[command(after_help = PROMOTE_EXAMPLES)]
    Promote(PromoteArgs),
    /// Decide that the versions which a release's promotion put away become active again
    #[command(after_help = "Examples:\n  outrigger release rollback green --reason 'wrong delays'")]
    Rollback(OneArgs),
    /// All releases
    #[command(after_help = "Examples:\n  outrigger release list\n  outrigger release list --output json")]
    List,
    /// One release, with its versions
    #[command(after_help = "Examples:\n  outrigger release show green")]
    Show {
        /// The release
        release: String,
    },
    /// Decide that a release names nothing any more; its versions stay
    #[command(after_help = "Examples:\n  outrigger release remove blue")]
    Remove(OneArgs),
}

const APPLY_EXAMPLES: &str = "\
Of several versions of a projection the release names the highest. Repeating it changes nothing, so an init container may run
it at every start. With --wait it ends when all versions are at the head (a bar on stderr shows how far they are).

Examples:
  outrigger release apply --dir projections --release green --wait
  outrigger release apply --dir projections --release green --wait --timeout 600 --output json";

const PROMOTE_EXAMPLES: &str = "\
All of its versions must be built and at most --max-lag events behind; then the log says so, and they answer queries that
name nothing from the same moment on.

Examples:
  outrigger release promote green
  outrigger release promote green --wait --reason 'rollout 17'";

/// What `apply` takes.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The directory with the definitions, *.yaml and *.yml
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The release: 1 to 63 of a-z, 0-9 and -
    #[arg(long, value_name = "RELEASE")]
    release: String,
    /// Wait until all of its versions show what the log holds
    #[arg(long)]
    wait: bool,
    /// With --wait: exit 1 after so many seconds
    #[arg(long, value_name = "S", requires = "wait")]
    timeout: Option<f64>,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// What `promote` takes.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The release
    release: String,
    #[command(flatten)]
    how: PromoteOptions,
}

/// What `rollback` and `remove` take.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The release
    release: String,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

type Client = ReleasesClient<Connection>;

/// Runs one of them.
pub async fn run(session: &Session, command: ReleaseCommand) -> Result<(), CliError> {
    let mut client = session.node.releases().await?;
    let format = session.output;
    match command {
        ReleaseCommand::Apply(args) => apply(&mut client, format, args).await,
        ReleaseCommand::Promote(args) => promote(&mut client, format, args).await,
        ReleaseCommand::Rollback(OneArgs { release, reason }) => {
            let request = RollbackReleaseRequest { release: release.clone(), reason };
            let done = client.rollback_release(request).await?.into_inner();
            tell_turns(format, &release, "rolled back", Some(done.position), &done.turns)
        }
        ReleaseCommand::List => {
            let releases = client.list_releases(ListReleasesRequest {}).await?.into_inner().releases;
            print(format, &releases)
        }
        ReleaseCommand::Show { release } => {
            let release = get(&mut client, &release).await?;
            print(format, std::slice::from_ref(&release))
        }
        ReleaseCommand::Remove(OneArgs { release, reason }) => {
            let request = RemoveReleaseRequest { release: release.clone(), reason };
            let position = client.remove_release(request).await?.into_inner().position;
            let sentence = format!("release {release} is removed, decided at position {position}");
            tell(format, &sentence, &Told { release: &release, position: Some(position), ..Told::default() })
        }
    }
}

/// What a command tells: a sentence for people, an object for programs.
#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    release: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<Box<serde_json::value::RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promoted_position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    turns: Vec<Turn<'a>>,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    projection: &'a str,
    previous_version: u32,
    active_version: u32,
    answering_version: u32,
}

fn tell(format: Format, sentence: &str, told: &Told<'_>) -> Result<(), CliError> {
    let mut out = Out::standard();
    match format {
        Format::Table => out.line(sentence)?,
        Format::Json => out.line(&to_line(told))?,
    }
    out.flush()
}

async fn get(client: &mut Client, release: &str) -> Result<Release, CliError> {
    let request = GetReleaseRequest { release: release.to_owned() };
    Ok(client.get_release(request).await?.into_inner().release.unwrap_or_default())
}

async fn apply(client: &mut Client, format: Format, args: ApplyArgs) -> Result<(), CliError> {
    let ApplyArgs { dir, release, wait, timeout, reason } = args;
    if !dir.is_dir() {
        return Err(CliError::failed(format!("--dir: {} is no directory", dir.display())));
    }
    let mut definitions = Vec::new();
    for source in read_sources(&RealDisk, std::slice::from_ref(&dir)) {
        let definition =
            source.text.map_err(|error| CliError::failed(format!("{}: {error}", source.file)))?;
        definitions.push(DefinitionFile { file: source.file, definition });
    }
    if definitions.is_empty() {
        return Err(CliError::failed(format!("{} holds no *.yaml or *.yml", dir.display())));
    }
    let request = ApplyReleaseRequest { release: release.clone(), definitions, reason };
    let applied = client.apply_release(request).await?.into_inner();
    let mut named = applied.release.unwrap_or_default();
    if wait {
        named = wait_for(client, named, timeout).await?;
    }
    let versions: Vec<_> =
        named.versions.iter().map(|one| format!("{} version {}", one.projection, one.version)).collect();
    let decided = match applied.position {
        Some(position) => format!("decided at position {position}"),
        None => "as before".to_owned(),
    };
    let sentence = format!("release {release} names {}, {decided}", versions.join(", "));
    let told = Told { position: applied.position, deployed: Some(applied.deployed), ..told(&named) };
    tell(format, &sentence, &told)
}

/// Waits until all versions of a release show what the log held when that began.
async fn wait_for(
    client: &mut Client,
    mut release: Release,
    timeout: Option<f64>,
) -> Result<Release, CliError> {
    let (began, mut bar) = (Instant::now(), Bar::new());
    let target = release.versions.iter().map(|version| version.head).max().unwrap_or(0);
    loop {
        let failed = release.versions.iter().find_map(|version| {
            let error = version.error.as_ref().filter(|_| state_word(version.state()) == "failed")?;
            Some(format!("projection {} version {}: {error}", version.projection, version.version))
        });
        if let Some(failed) = failed {
            return Err(CliError::failed(failed));
        }
        if release.ready && release.versions.iter().all(|version| version.position >= target) {
            return Ok(release);
        }
        let waited = began.elapsed().as_secs_f64();
        let done = release.versions.iter().map(|version| version.position.min(target)).sum();
        let all = target * release.versions.len() as u64;
        if timeout.is_some_and(|timeout| waited >= timeout) {
            return Err(CliError::failed(format!(
                "release {} has applied {} of {} events after {}",
                release.release,
                grouped(done),
                grouped(all),
                duration_text(waited)
            )));
        }
        let left = release.versions.iter().filter_map(|version| version.seconds_left).fold(0.0, f64::max);
        let left = if left > 0.0 { format!(", {} left", duration_text(left)) } else { String::new() };
        bar.update(done, all, &format!("release {}{left}", release.release));
        sleep(LOOK).await;
        release = get(client, &release.release).await?;
    }
}

async fn promote(client: &mut Client, format: Format, args: PromoteArgs) -> Result<(), CliError> {
    let PromoteArgs { release, how } = args;
    let PromoteOptions { max_lag, wait, timeout, reason } = how;
    let request = PromoteReleaseRequest { release: release.clone(), max_lag, reason };
    let began = Instant::now();
    let is_over = || timeout.is_some_and(|timeout| began.elapsed().as_secs_f64() >= timeout);
    let mut position = None;
    loop {
        match client.promote_release(request.clone()).await {
            Ok(done) => {
                let done = done.into_inner();
                position = position.or(done.position);
                let answers = done.turns.iter().all(|turn| turn.answering_version == turn.active_version);
                if answers || !wait || is_over() {
                    tell_turns(format, &release, "promoted", position, &done.turns)?;
                    return if answers || !wait {
                        Ok(())
                    } else {
                        Err(CliError::failed("its versions did not take over in time"))
                    };
                }
            }
            Err(status) if wait && is_on_its_way(&status) && !is_over() => {}
            Err(status) => return Err(status.into()),
        }
        sleep(LOOK).await;
    }
}

fn tell_turns(
    format: Format,
    release: &str,
    done: &str,
    position: Option<u64>,
    turns: &[ReleaseTurn],
) -> Result<(), CliError> {
    let each = turns.iter().map(|turn| {
        let ReleaseTurn { projection, previous_version, active_version, answering_version } = turn;
        let moved = if previous_version == active_version {
            format!("{projection} stays at version {active_version}")
        } else {
            format!("{projection} from version {previous_version} to {active_version}")
        };
        if answering_version == active_version {
            return moved;
        }
        format!("{moved} (version {answering_version} answers until it has caught up)")
    });
    let each: Vec<_> = each.collect();
    let at = match position {
        Some(position) => format!("{done}, decided at position {position}"),
        None => "active already".to_owned(),
    };
    let sentence = format!("release {release} is {at}: {}", each.join(", "));
    let turns = turns.iter().map(|turn| Turn {
        projection: &turn.projection,
        previous_version: turn.previous_version,
        active_version: turn.active_version,
        answering_version: turn.answering_version,
    });
    tell(format, &sentence, &Told { release, position, turns: turns.collect(), ..Told::default() })
}

fn told(release: &Release) -> Told<'_> {
    Told {
        release: &release.release,
        position: Some(release.applied_position),
        versions: release.versions.iter().map(|version| to_raw(&render::version(version))).collect(),
        promoted_position: release.promoted_position,
        active: Some(release.active),
        ready: Some(release.ready),
        ..Told::default()
    }
}

fn print(format: Format, releases: &[Release]) -> Result<(), CliError> {
    let mut out = Out::standard();
    if format == Format::Json {
        for release in releases {
            out.line(&to_line(&told(release)))?;
        }
        return out.flush();
    }
    let mut rows = table(&[
        ("release", Align::Left),
        ("projection", Align::Left),
        ("version", Align::Right),
        ("state", Align::Left),
        ("lag", Align::Right),
        ("applied at", Align::Right),
        ("promoted at", Align::Right),
    ]);
    for release in releases {
        for version in &release.versions {
            rows.add_row([
                release.release.clone(),
                version.projection.clone(),
                version.version.to_string(),
                state_word(version.state()).to_owned(),
                grouped(version.lag),
                release.applied_position.to_string(),
                release.promoted_position.map(|position| position.to_string()).unwrap_or_default(),
            ]);
        }
    }
    out.table(&rows)?;
    out.flush()
}
