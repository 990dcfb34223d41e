//! `outrigger projection errors`, `retry` and `skip`: events that versions could not apply, and what is decided about
//! them.

use clap::Args;

use super::{
    super::{
        Session,
        error::CliError,
        event_errors::{EventErrorLine, print_page},
        output::{Format, Out},
        render::{self, kind_word},
        text::to_line,
    },
    print,
};
use crate::api::proto::v1::{EventError, ListErrorsRequest, ProjectionVersion, RetryRequest, SkipRequest};

/// Examples in the help of `errors`.
pub const ERRORS_EXAMPLES: &str = "\
Examples:
  outrigger projection errors departures
  outrigger projection errors departures --version 2 --full
  outrigger projection errors departures --output json";

/// Examples in the help of `retry`.
pub const RETRY_EXAMPLES: &str = "\
Examples:
  outrigger projection retry departures
  outrigger projection retry departures --version 2 --reason 'the airport is known now'";

/// Examples in the help of `skip`.
pub const SKIP_EXAMPLES: &str = "\
Examples:
  outrigger projection skip departures --expect-position 80491
  outrigger projection skip departures --expect-position 80491 --reason 'sent by a test system'";

/// The arguments of `projection errors`.
#[derive(Debug, Args)]
pub struct ErrorsArgs {
    /// The projection
    name: String,
    /// The version; without it, the active one
    #[arg(long)]
    version: Option<u32>,
    /// Print the whole error and the exact event of each
    #[arg(long)]
    full: bool,
}

/// The arguments of `projection retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The projection
    name: String,
    /// The version; without it, the active one
    #[arg(long)]
    version: Option<u32>,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// The arguments of `projection skip`.
#[derive(Debug, Args)]
pub struct SkipArgs {
    /// The projection
    name: String,
    /// The version; without it, the active one
    #[arg(long)]
    version: Option<u32>,
    /// The event that the version stands at, or the first parked one of its stream; refused if it is another one
    #[arg(long, value_name = "POSITION")]
    expect_position: u64,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

/// Runs `projection errors`.
pub async fn errors(session: &Session, args: &ErrorsArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let mut request = ListErrorsRequest {
        projection: args.name.clone(),
        version: args.version,
        page_size: None,
        page_token: None,
    };
    let mut out = Out::standard();
    let mut count = 0;
    loop {
        let page = client.list_errors(request.clone()).await?.into_inner();
        count += page.errors.len();
        match session.output {
            Format::Json => {
                page.errors.iter().try_for_each(|error| out.line(&to_line(&render::event_error(error))))?;
            }
            Format::Table => {
                let lines: Vec<EventErrorLine> = page.errors.iter().map(line).collect();
                print_page(&mut out, &lines, args.full)?;
            }
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_none() {
            break;
        }
    }
    if count == 0 && session.output == Format::Table {
        out.line("no errors")?;
    }
    out.flush()
}

/// Runs `projection retry`.
pub async fn retry(session: &Session, args: &RetryArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let request =
        RetryRequest { projection: args.name.clone(), version: args.version, reason: args.reason.clone() };
    let response = client.retry(request).await?.into_inner();
    let version = response.version.unwrap_or_default();
    let outcome = match response.position {
        Some(position) => format!("decided at position {position}: parked events are applied late"),
        None => "tried again".to_owned(),
    };
    print_outcome(session.output, &outcome, version)
}

/// Runs `projection skip`.
pub async fn skip(session: &Session, args: &SkipArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let request = SkipRequest {
        projection: args.name.clone(),
        version: args.version,
        expect_position: args.expect_position,
        reason: args.reason.clone(),
    };
    let response = client.skip(request).await?.into_inner();
    let version = response.version.unwrap_or_default();
    let outcome = format!(
        "decided at position {}: the event at position {} is skipped",
        response.position, args.expect_position
    );
    print_outcome(session.output, &outcome, version)
}

/// How the version stands behind a decision.
fn print_outcome(format: Format, outcome: &str, version: ProjectionVersion) -> Result<(), CliError> {
    if format == Format::Table {
        let mut out = Out::standard();
        out.line(outcome)?;
        out.flush()?;
    }
    print(format, &[version], &[], true)
}

fn line(error: &EventError) -> EventErrorLine {
    let event = error.event.as_ref();
    EventErrorLine {
        position: error.position,
        state: kind_word(error.kind()),
        stream: event.map(|event| event.stream.clone()).unwrap_or_default(),
        event_type: event.map(|event| event.r#type.clone()).unwrap_or_default(),
        short: shortened(error),
        why: why(error),
        event: event.map(|event| to_line(&render::event(event))),
    }
}

/// For a line of the table: what failed and why come first there, since type and stream have columns of their own.
fn shortened(error: &EventError) -> String {
    let why = why(error);
    let part = error.expression.as_ref().and_then(|expression| why.find(&format!("`{expression}`: ")));
    match (part, error.line) {
        (Some(at), Some(line)) => format!("line {line}, {}", &why[at..]),
        _ => why,
    }
}

/// Why an event was not applied, in words.
fn why(error: &EventError) -> String {
    let mut words: Vec<String> = error.error.iter().cloned().collect();
    if let Some(decided_at) = error.decided_at {
        let reason = error.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        words.push(format!("skipped by the decision at position {decided_at}{reason}"));
    }
    if words.is_empty() {
        words.push("waits behind the first parked event of its stream".to_owned());
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_why() {
        let check = |error: EventError, expected: &str| assert_eq!(why(&error), expected);
        check(EventError::default(), "waits behind the first parked event of its stream");
        let failed = EventError { error: Some("no number".into()), ..EventError::default() };
        check(failed.clone(), "no number");
        check(
            EventError { decided_at: Some(9), reason: Some("a test".into()), ..failed },
            "no number; skipped by the decision at position 9 (a test)",
        );
    }

    #[test]
    fn the_table_has_room_for_what_failed_and_why() {
        let expression = Some("data.n / 0".to_owned());
        let error = "step 1 of t (line 7), key \"k\", value.n, in `data.n / 0`: division by zero".to_owned();
        let mut failed = EventError { error: Some(error.clone()), ..EventError::default() };
        assert_eq!(shortened(&failed), error);
        (failed.expression, failed.line) = (expression, Some(7));
        assert_eq!(shortened(&failed), "line 7, `data.n / 0`: division by zero");
    }
}
