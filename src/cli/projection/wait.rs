//! `outrigger projection show NAME --wait`: until versions show what the log held when the command began.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{ShowArgs, bar::Bar};
use crate::{
    api::proto::v1::{
        GetProjectionRequest, ProjectionVersion, VersionState, projections_client::ProjectionsClient,
    },
    cli::{
        client::Connection,
        error::CliError,
        text::{duration_text, rate_text},
    },
};

/// How often the node is asked.
pub(in crate::cli) const LOOK: Duration = Duration::from_millis(200);

/// Waits; an error says which version is not there, and why.
pub(in crate::cli) async fn wait(
    client: &mut ProjectionsClient<Connection>,
    args: &ShowArgs,
) -> Result<(), CliError> {
    let (began, mut bar, mut target) = (Instant::now(), Bar::new(), None);
    loop {
        let request = GetProjectionRequest { projection: args.name.clone() };
        let mut versions = client.get_projection(request).await?.into_inner().versions;
        versions.retain(|found| {
            found.state() != VersionState::Retired
                && args.version.is_none_or(|version| found.version == version)
        });
        let head = || versions.iter().map(|version| version.head).max().unwrap_or(0);
        let target = *target.get_or_insert_with(head);
        match next(&versions, target) {
            Next::Missing => {
                let version = args.version.unwrap_or_default();
                return Err(CliError::failed(format!("projection {} has no version {version}", args.name)));
            }
            Next::Failed(error) => return Err(CliError::failed(error)),
            Next::Done => return Ok(()),
            Next::Behind(version) => {
                let waited = began.elapsed().as_secs_f64();
                if args.timeout.is_some_and(|timeout| waited >= timeout) {
                    return Err(CliError::failed(format!(
                        "projection {} version {} is at position {} of {target} after {}",
                        args.name,
                        version.version,
                        version.position,
                        duration_text(waited),
                    )));
                }
                bar.update(version.position, target, &text(version));
            }
        }
        sleep(LOOK).await;
    }
}

/// What to do about versions that are to be at a position.
#[derive(Debug, PartialEq)]
enum Next<'v> {
    /// There is none.
    Missing,
    /// One of them stopped, and says why.
    Failed(String),
    /// This one is furthest behind.
    Behind(&'v ProjectionVersion),
    Done,
}

fn next(versions: &[ProjectionVersion], target: u64) -> Next<'_> {
    if let Some(version) = versions.iter().find(|version| version.position < target && stands(version)) {
        let unknown = format!("projection {} version {} stopped", version.projection, version.version);
        return Next::Failed(version.error.clone().unwrap_or(unknown));
    }
    match versions.iter().min_by_key(|version| version.position) {
        None => Next::Missing,
        Some(last) if last.position < target => Next::Behind(last),
        Some(_) => Next::Done,
    }
}

/// Whether it does not go on by itself. What it tries again is told beside a state in which versions move.
fn stands(version: &ProjectionVersion) -> bool {
    use VersionState::{Active, Building, CatchingUp, Ready, Standby};
    version.error.is_some() && ![Building, CatchingUp, Ready, Active, Standby].contains(&version.state())
}

fn text(version: &ProjectionVersion) -> String {
    let left = version.seconds_left.map(|seconds| format!(", {} left", duration_text(seconds)));
    let rate = rate_text(version.rate);
    format!("{} version {}: {rate}{}", version.projection, version.version, left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32, state: VersionState, position: u64) -> ProjectionVersion {
        ProjectionVersion {
            projection: "p".into(),
            version: number,
            state: state.into(),
            position,
            error: (state == VersionState::Failed).then(|| "why".into()),
            ..ProjectionVersion::default()
        }
    }

    #[test]
    fn it_waits_for_the_one_that_is_furthest_behind_and_ends_when_one_fails() {
        use VersionState::{Active, Building, Failed};
        assert_eq!(next(&[], 5), Next::Missing);
        let both = [version(1, Active, 10), version(2, Building, 4)];
        assert_eq!(next(&both, 10), Next::Behind(&both[1]));
        assert_eq!(next(&both, 4), Next::Done);
        let failed = [version(1, Active, 10), version(2, Failed, 4)];
        assert_eq!(next(&failed, 10), Next::Failed("why".into()));
        assert_eq!(next(&failed, 4), Next::Done, "what is asked for was applied");
    }

    #[test]
    fn the_bar_says_how_fast_and_how_long() {
        let mut version = version(2, VersionState::Building, 4);
        assert_eq!(text(&version), "p version 2: -");
        (version.rate, version.seconds_left) = (12_345.0, Some(61.0));
        assert_eq!(text(&version), "p version 2: 12 345/s, 1 min 1 s left");
    }
}
