//! `outrigger projection list`, `show` and `verify`: what is deployed, how far it is, and whether it is what the log says;
//! in `errors`, what it could not apply; in `versions`, how versions come, become active and go; in `compare`, what is
//! different between two of them; in `standing`, what they were.

use clap::Args;

use super::{
    Session,
    error::CliError,
    load::progress::say,
    output::{Align, Format, Out, table},
    render::{self, state_word},
    text::{duration_text, grouped, rate_text, to_line},
};
use crate::api::proto::v1::{
    DefinitionProblem, GetProjectionRequest, ListProjectionsRequest, ProjectionVersion, VersionState,
};

pub(super) mod bar;
pub mod compare;
pub mod errors;
pub mod standing;
pub mod verify;
pub mod versions;
pub mod wait;

/// What `projection show` takes.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The projection
    pub name: String,
    /// Wait until its versions show what the log holds now; exit 1 if one of them cannot
    #[arg(long)]
    pub wait: bool,
    /// With --wait: only this version
    #[arg(long, value_name = "V", requires = "wait", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
    /// With --wait: exit 1 after so many seconds
    #[arg(long, value_name = "S", requires = "wait")]
    pub timeout: Option<f64>,
}

/// Shown below the help of `show`.
pub const SHOW_EXAMPLES: &str = "\
With --wait a bar on stderr shows how far they are, with the rate and the time left.

Examples:
  outrigger projection show departures
  outrigger projection show departures --wait --timeout 60
  outrigger projection show departures --wait --version 2 --output json";

/// Runs `projection list`.
pub async fn list(session: &Session) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let response = client.list_projections(ListProjectionsRequest {}).await?.into_inner();
    print(session.output, &response.versions, &response.problems, false)?;
    standing::print(session.output, &response.standing)
}

/// Runs `projection show NAME`.
pub async fn show(session: &Session, args: &ShowArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let waited = if args.wait { wait::wait(&mut client, args).await } else { Ok(()) };
    let request = GetProjectionRequest { projection: args.name.clone() };
    let response = client.get_projection(request).await?.into_inner();
    print(session.output, &response.versions, &response.problems, true)?;
    standing::print(session.output, &response.standing)?;
    waited
}

/// Versions go to standard output, problems of files to stderr.
fn print(
    format: Format,
    versions: &[ProjectionVersion],
    problems: &[DefinitionProblem],
    with_collections: bool,
) -> Result<(), CliError> {
    let mut out = Out::standard();
    match format {
        Format::Json => {
            for version in versions {
                out.line(&to_line(&render::version(version)))?;
            }
        }
        Format::Table => {
            if versions.is_empty() {
                out.line("no projections")?;
            }
            print_versions(&mut out, versions)?;
            if with_collections {
                print_collections(&mut out, versions)?;
            }
            for version in versions {
                print_errors(&mut out, version, with_collections)?;
            }
        }
    }
    out.flush()?;
    for problem in problems {
        say(&format!("warning: {} is not in force: {}", problem.file, problem.error));
    }
    Ok(())
}

/// Why a version stands still, the event it stands at, and what it has set aside.
fn print_errors(out: &mut Out, version: &ProjectionVersion, with_event: bool) -> Result<(), CliError> {
    let name = format!("{} version {}", version.projection, version.version);
    if let Some(error) = &version.error {
        out.line(&format!("{name}: {error}"))?;
    }
    if with_event && let Some(event) = version.pause.as_ref().and_then(|pause| pause.event.as_ref()) {
        out.line(&format!("{name}: the event is {}", to_line(&render::event(event))))?;
    }
    if version.queued {
        out.line(&format!("{name}: waits for its turn to build; limits.builds says how many build at once"))?;
    }
    if version.parked_events > 0 {
        out.line(&format!(
            "{name}: parked events: {}, streams: {}; see projection errors {}",
            grouped(version.parked_events),
            grouped(version.parked_streams),
            version.projection
        ))?;
    }
    if version.skipped_events > 0 {
        out.line(&format!("{name}: skipped events: {}", grouped(version.skipped_events)))?;
    }
    if version.content_hash_late {
        out.line(&format!(
            "{name}: events were applied late; the content hash may differ from that of a rebuild"
        ))?;
    }
    Ok(())
}

fn print_versions(out: &mut Out, versions: &[ProjectionVersion]) -> Result<(), CliError> {
    let mut rows = table(&[
        ("projection", Align::Left),
        ("version", Align::Right),
        ("state", Align::Left),
        ("position", Align::Right),
        ("head", Align::Right),
        ("lag", Align::Right),
        ("rate", Align::Right),
        ("time left", Align::Right),
        ("content hash", Align::Left),
    ]);
    for version in versions {
        rows.add_row([
            version.projection.clone(),
            version.version.to_string(),
            state_text(version),
            version.position.to_string(),
            version.head.to_string(),
            if version.state() == VersionState::Retired { "-".to_owned() } else { lag_text(version.lag) },
            rate_text(version.rate),
            version.seconds_left.map_or_else(|| "-".to_owned(), duration_text),
            version.content_hash.chars().take(16).collect(),
        ]);
    }
    out.table(&rows)
}

/// The state, and what else there is to know of it.
fn state_text(version: &ProjectionVersion) -> String {
    let state = state_word(version.state());
    let more = [
        (version.active && state != "active", "active"),
        (version.taking_over, "taking over"),
        (version.build_paused, "paused"),
    ];
    let more: Vec<&str> = more.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    if more.is_empty() { state.to_owned() } else { format!("{state} ({})", more.join(", ")) }
}

fn lag_text(lag: u64) -> String {
    match lag {
        0 => "none".into(),
        1 => "1 event".into(),
        _ => format!("{} events", grouped(lag)),
    }
}

fn print_collections(out: &mut Out, versions: &[ProjectionVersion]) -> Result<(), CliError> {
    let mut rows = table(&[
        ("version", Align::Right),
        ("collection", Align::Left),
        ("documents", Align::Right),
        ("indexes", Align::Left),
        ("complete", Align::Left),
    ]);
    for version in versions {
        for collection in &version.collections {
            rows.add_row([
                version.version.to_string(),
                collection.name.clone(),
                grouped(collection.documents),
                collection.indexes.join(", "),
                if collection.incomplete { "incomplete".into() } else { "yes".into() },
            ]);
        }
    }
    out.table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_as_words() {
        let mut version = ProjectionVersion { state: VersionState::Ready.into(), ..Default::default() };
        assert_eq!(state_text(&version), "ready");
        version.taking_over = true;
        assert_eq!(state_text(&version), "ready (taking over)");
        (version.active, version.build_paused) = (true, true);
        assert_eq!(state_text(&version), "ready (active, taking over, paused)");
    }

    #[test]
    fn lags_read_as_words() {
        assert_eq!(lag_text(0), "none");
        assert_eq!(lag_text(1), "1 event");
        assert_eq!(lag_text(12_345), "12 345 events");
    }
}
