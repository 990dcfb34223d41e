//! `outrigger load`: brings events in from a file.
//!
//! A thread reads, checks and batches; the sender appends. Everything between them is bounded. Repeating a load, or
//! going on with one that broke off, appends only what is missing, because every event carries its id.

use std::{collections::HashMap, path::Path, thread};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::mpsc;

use self::{
    line::Ids,
    progress::{Progress, say},
    sender::Sender,
    source::Input,
};
use super::{
    Session,
    error::CliError,
    output::{Format, print_lines},
    text::to_line,
};
use crate::{api::proto::v1::GetHeadRequest, disk::real::RealDisk, limits::LOAD_READ_AHEAD_MAX};

pub mod line;
pub mod progress;
pub mod sender;
pub mod source;

/// What `load` takes.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// A file of events, one JSON object a line, plain or gzip; - reads standard input
    pub file: String,
    /// Give lines without id one that follows from their content and occurrence, so that a repeated load finds them
    #[arg(long)]
    pub derive_ids: bool,
    /// What to do with a line that is wrong or refused
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_error: OnError,
}

/// What happens at a bad line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OnError {
    /// The load ends there; what came before is loaded.
    #[default]
    Stop,
    /// The line is reported and left out.
    Skip,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
A line is an object with id (a UUID), type, stream and data, and perhaps time (RFC 3339), tags and metadata:
  {\"id\":\"3efa6fb7-dee6-57a7-9b42-c58ba424fc02\",\"type\":\"flight.departed\",\"stream\":\"flight-UA1545\",\"data\":{\"delay\":2}}

A load can be repeated and broken off at will: what is there already is not appended again.

Examples:
  outrigger load events.ndjson
  outrigger load events.ndjson.gz --on-error skip
  zcat events.ndjson.gz | outrigger load - --derive-ids";

#[derive(Debug, Serialize)]
struct Summary {
    loaded: u64,
    already_there: u64,
    skipped: u64,
    head: u64,
}

/// Runs `load`.
pub async fn run(session: &Session, args: &LoadArgs) -> Result<(), CliError> {
    let input = open(&args.file)?;
    let loaded = load(session, input, args.on_error, args.derive_ids).await?;
    print_lines(&[match session.output {
        Format::Json => to_line(&loaded),
        Format::Table => format!(
            "loaded {} events, {} already there, head {}",
            loaded.loaded, loaded.already_there, loaded.head
        ),
    }])
}

/// Opens a file that a user names; `-` is standard input.
pub fn open(file: &str) -> Result<Input, CliError> {
    if file == "-" {
        return Ok(Input::standard());
    }
    Input::file(&RealDisk, Path::new(file)).map_err(|error| {
        CliError::failed(format!("{file}: cannot open: {error}; name a file that exists, or -"))
    })
}

/// Appends everything that `input` holds and returns (newly appended, there before, head).
pub async fn load_all(session: &Session, input: Input) -> Result<(u64, u64, u64), CliError> {
    let loaded = load(session, input, OnError::Stop, false).await?;
    Ok((loaded.loaded, loaded.already_there, loaded.head))
}

async fn load(
    session: &Session,
    input: Input,
    on_error: OnError,
    derive_ids: bool,
) -> Result<Summary, CliError> {
    let mut client = session.node.event_log().await?;
    let skip = on_error == OnError::Skip;
    let progress = Progress::of(&input);
    let mut sender = Sender::new(client.clone(), input.name.clone(), skip, progress);
    let ids = if derive_ids { Ids::Derived(HashMap::new()) } else { Ids::Required };
    let (items, taken) = mpsc::channel(LOAD_READ_AHEAD_MAX);
    // A thread of its own: it may wait for standard input for ever, and must not keep the process from ending.
    thread::Builder::new()
        .name("load-read".into())
        .spawn(move || source::read(input, skip, ids, |item| items.blocking_send(item).is_ok()))
        .map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    let sent = sender.send_all(taken).await;
    sender.progress.finish();
    let tally = sender.tally;
    sent.map_err(|message| {
        CliError::failed(format!(
            "{message}; {} events were loaded and {} were already there before; \
             the load can be repeated: what is there is not appended again",
            tally.loaded, tally.existing
        ))
    })?;
    if tally.skipped > 0 {
        say(&format!("warning: {} lines were skipped", tally.skipped));
    }
    let head = client.get_head(GetHeadRequest {}).await?.into_inner().head;
    Ok(Summary { loaded: tally.loaded, already_there: tally.existing, skipped: tally.skipped, head })
}
