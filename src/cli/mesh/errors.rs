//! `outrigger mesh errors` and `retry`: events that an import could not map, and trying them again.

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Client, decide::tell, words::time};
use crate::{
    api::proto::v1::{
        ImportError, ImportErrorKind, ListImportErrorsRequest, PublicEvent, RetryImportRequest,
    },
    cli::{
        error::CliError,
        event_errors::{EventErrorLine, print_page},
        output::{Format, Out},
        text::{to_line, uuid_text},
    },
};

/// Shown below the help of `errors`.
pub(super) const ERRORS_EXAMPLES: &str = "\
paused: the import stands still before it. parked: the first of its stream, which failed. waiting: behind a parked one in its
stream. skipped: passed by, by on_error or by a decision. Positions are those of the owner's log.

Examples:
  outrigger mesh errors flights
  outrigger mesh errors flights --full
  outrigger mesh errors flights --output json";

/// Shown below the help of `retry`.
pub(super) const RETRY_EXAMPLES: &str = "\
Parked events are mapped by the import's present definition and appended late: stream by stream, in the owner's order, up to one
that still fails. Correct the import file first.

Examples:
  outrigger mesh retry flights
  outrigger mesh retry flights --reason 'the delay may be missing now'";

/// What `errors` takes.
#[derive(Debug, Args)]
pub struct ErrorsArgs {
    /// The import
    import: String,
    /// Print the whole error and the event of each, as its owner published it
    #[arg(long)]
    full: bool,
}

/// What `retry` takes.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The import
    import: String,
    /// Why, for those who read the log later
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Unmapped<'a> {
    kind: &'static str,
    position: u64,
    recorded_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    is_decided: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event<'a>>,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    id: String,
    r#type: &'a str,
    stream: &'a str,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

pub(super) async fn errors(client: &mut Client, args: &ErrorsArgs, format: Format) -> Result<(), CliError> {
    let mut request =
        ListImportErrorsRequest { import: args.import.clone(), page_size: None, page_token: None };
    let mut out = Out::standard();
    let mut count = 0;
    loop {
        let page = client.list_import_errors(request.clone()).await?.into_inner();
        count += page.errors.len();
        match format {
            Format::Json => page.errors.iter().try_for_each(|error| out.line(&to_line(&object(error))))?,
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
    if count == 0 && format == Format::Table {
        out.line("no errors")?;
    }
    out.flush()
}

pub(super) async fn retry(client: &mut Client, args: RetryArgs, format: Format) -> Result<(), CliError> {
    let RetryArgs { import, reason } = args;
    let request = RetryImportRequest { import: import.clone(), reason };
    let position = client.retry_import(request).await?.into_inner().position;
    let sentence = format!("import {import} tries again what it could not map");
    tell(format, Some(&import), "retry", &sentence, position)
}

fn line(error: &ImportError) -> EventErrorLine {
    let event = error.event.as_ref();
    EventErrorLine {
        position: error.position,
        state: kind_word(error.kind()),
        stream: event.map(|event| event.stream.clone()).unwrap_or_default(),
        event_type: event.map(|event| event.r#type.clone()).unwrap_or_default(),
        short: why(error),
        why: why(error),
        event: event.map(|event| to_line(&public(event))),
    }
}

/// Why an event was not taken over, in words.
fn why(error: &ImportError) -> String {
    let mut words: Vec<&str> = error.error.as_deref().into_iter().collect();
    match error.kind() {
        ImportErrorKind::Skipped if error.is_decided => words.push("skipped by a decision"),
        ImportErrorKind::Waiting => words.push("waits behind the first parked event of its stream"),
        _ => {}
    }
    words.join("; ")
}

const fn kind_word(kind: ImportErrorKind) -> &'static str {
    match kind {
        ImportErrorKind::Unspecified => "unknown",
        ImportErrorKind::Paused => "paused",
        ImportErrorKind::Parked => "parked",
        ImportErrorKind::Waiting => "waiting",
        ImportErrorKind::Skipped => "skipped",
    }
}

fn object(error: &ImportError) -> Unmapped<'_> {
    Unmapped {
        kind: kind_word(error.kind()),
        position: error.position,
        recorded_at: error.recorded_at,
        error: error.error.as_deref(),
        is_decided: error.is_decided,
        event: error.event.as_ref().map(public),
    }
}

fn public(event: &PublicEvent) -> Event<'_> {
    Event {
        id: uuid_text(&event.id),
        r#type: &event.r#type,
        stream: &event.stream,
        tags: &event.tags,
        time: event.time_unix_nanos.map(time),
        data: event.data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
    }
}
