//! `outrigger projection build` and `remove`: the state of a projection at a point of the past, under a label.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::bar::Bar;
use crate::{
    api::proto::v1::{
        BuildStandingVersionRequest, GetProjectionRequest, RemoveStandingVersionRequest, StandingState,
        StandingVersion, build_standing_version_request::Until, projections_client::ProjectionsClient,
    },
    cli::{
        Session,
        client::Connection,
        error::CliError,
        output::{Align, Format, Out, print_lines, table},
        render,
        text::{duration_text, parse_time, rate_text, to_line},
    },
    event::Invalid,
};

/// How often the node is asked while it builds.
const LOOK: Duration = Duration::from_millis(200);

/// What `projection build` takes.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The projection
    pub name: String,
    /// The deployed version whose definition is built
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub version: u32,
    /// The last position to apply, or a time (RFC 3339): the last event recorded by then
    #[arg(long, value_name = "POSITION|TIME")]
    pub until: String,
    /// What it will be called: 1 to 63 of a-z, 0-9 and -
    #[arg(long = "as", value_name = "LABEL")]
    pub label: String,
    /// Wait until it is built; exit 1 if it cannot be
    #[arg(long)]
    pub wait: bool,
}

/// Shown below the help of `build`.
pub const BUILD_EXAMPLES: &str = "\
It is built in a file of its own beside the running version, and stands there until it is removed. Queries name it with \
--label.

Examples:
  outrigger projection build departures 1 --until 1000 --as before-noon --wait
  outrigger projection build departures 1 --until 2026-01-31T23:59:59Z --as january
  outrigger get departures airports EWR --label january";

/// What `projection remove` takes.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The projection
    pub name: String,
    /// The standing version
    #[arg(long)]
    pub label: String,
}

/// Shown below the help of `remove`.
pub const REMOVE_EXAMPLES: &str = "\
Examples:
  outrigger projection remove departures --label before-noon";

/// Runs `projection build`.
pub async fn build(session: &Session, args: &BuildArgs) -> Result<(), CliError> {
    let until = parse_until(&args.until).map_err(|error| CliError::usage("--until", &error))?;
    let mut client = session.node.projections().await?;
    let request = BuildStandingVersionRequest {
        projection: args.name.clone(),
        version: args.version,
        until: Some(until),
        label: args.label.clone(),
    };
    let begun = client.build_standing_version(request).await?.into_inner().standing.unwrap_or_default();
    let standing = if args.wait { wait(&mut client, begun).await? } else { begun };
    print(session.output, &[standing])
}

/// Runs `projection remove`.
pub async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let request = RemoveStandingVersionRequest { projection: args.name.clone(), label: args.label.clone() };
    client.remove_standing_version(request).await?;
    let RemoveArgs { name, label } = args;
    print_lines(&[match session.output {
        Format::Json => to_line(&render::removed(name, label)),
        Format::Table => format!("{name}: the standing version {label} is removed"),
    }])
}

/// Until it stands where it is to.
async fn wait(
    client: &mut ProjectionsClient<Connection>,
    mut standing: StandingVersion,
) -> Result<StandingVersion, CliError> {
    let mut bar = Bar::new();
    while standing.state() != StandingState::Standing {
        if standing.state() == StandingState::Failed {
            let unknown = format!("the standing version {} failed", standing.label);
            return Err(CliError::failed(standing.error.unwrap_or(unknown)));
        }
        let left = standing.seconds_left.map(|left| format!(", {} left", duration_text(left)));
        let (name, label, rate) = (&standing.projection, &standing.label, rate_text(standing.rate));
        let text = format!("{name} {label}: {rate}{}", left.unwrap_or_default());
        bar.update(standing.position, standing.until, &text);
        sleep(LOOK).await;
        let request = GetProjectionRequest { projection: standing.projection.clone() };
        let all = client.get_projection(request).await?.into_inner().standing;
        let gone = || CliError::failed(format!("the standing version {} was removed", standing.label));
        standing = all.into_iter().find(|one| one.label == standing.label).ok_or_else(gone)?;
    }
    Ok(standing)
}

/// Prints what there is.
pub(super) fn print(format: Format, all: &[StandingVersion]) -> Result<(), CliError> {
    let mut out = Out::standard();
    if format == Format::Json {
        all.iter().try_for_each(|one| out.line(&to_line(&render::standing(one))))?;
        return out.flush();
    }
    let mut rows = table(&[
        ("projection", Align::Left),
        ("label", Align::Left),
        ("version", Align::Right),
        ("state", Align::Left),
        ("position", Align::Right),
        ("until", Align::Right),
        ("time left", Align::Right),
        ("content hash", Align::Left),
    ]);
    for one in all {
        rows.add_row([
            one.projection.clone(),
            one.label.clone(),
            one.version.to_string(),
            render::standing_word(one).to_owned(),
            one.position.to_string(),
            one.until.to_string(),
            one.seconds_left.map_or_else(|| "-".to_owned(), duration_text),
            one.content_hash.chars().take(16).collect(),
        ]);
    }
    out.table(&rows)?;
    for one in all {
        if let Some(error) = &one.error {
            out.line(&format!("{} {}: {error}", one.projection, one.label))?;
        }
    }
    out.flush()
}

fn parse_until(text: &str) -> Result<Until, Invalid> {
    if let Ok(position) = text.parse() {
        return Ok(Until::Position(position));
    }
    parse_time(text).map(Until::Time).map_err(|_| {
        Invalid(format!(
            "expected a position such as 17, or a time of RFC 3339 such as 2013-01-01T08:15:00Z, found {text:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_the_past_are_positions_or_times() {
        assert_eq!(parse_until("17").unwrap(), Until::Position(17));
        let time = prost_types::Timestamp { seconds: 1, nanos: 500_000_000 };
        assert_eq!(parse_until("1970-01-01T00:00:01.5Z").unwrap(), Until::Time(time));
        for bad in ["", "-1", "yesterday", "2013-01-01", "17:30"] {
            assert!(parse_until(bad).unwrap_err().0.contains("expected a position"), "{bad:?}");
        }
    }
}
