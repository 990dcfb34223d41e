//! `outrigger projection check` and `test`: definitions without a node.
//!
//! Documents are printed as one JSON object: collections by name, documents by key; this is also the form of an
//! expectation. Owns files and printing; `projection::offline` runs the engine and compares.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    error::CliError,
    load::{
        self,
        line::Ids,
        progress::say,
        source::{self, Item},
    },
    output::{Format, Out, print_lines},
    text::{hex, pretty, raw, to_line},
};
use crate::{
    disk::{self, real::RealDisk},
    event::{Event, EventId, Invalid, Position, RecordedEvent, Revision, StreamId},
    json::Json,
    limits::{DEFINITION_BYTES_MAX, EXPECTATION_BYTES_MAX},
    projection::{
        definition::Definition,
        offline::{Difference, Memory, diff},
    },
};

/// What `projection test` takes.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The definition
    pub file: PathBuf,
    /// The events, in the form that load takes; ids may be missing
    #[arg(long, value_name = "FILE")]
    pub events: String,
    /// The documents that must come out; prints the differences instead of the documents
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
}

/// Shown below the help of `projection test`.
pub const TEST_EXAMPLES: &str = "\
What it prints without --expect is what --expect takes.

Examples:
  outrigger projection test examples/airport/projections/weather-v1.yaml --events examples/airport/weather-2013-01-01.ndjson
  outrigger projection test orders-v2.yaml --events orders.ndjson --expect orders.json";

#[derive(Debug, Serialize)]
struct Checked<'a> {
    projection: &'a str,
    version: u32,
    collections: Vec<&'a str>,
    definition_hash: String,
}

/// Runs `projection check`.
pub fn check(file: &Path, format: Format) -> Result<(), CliError> {
    let definition = parse(file)?;
    let checked = Checked {
        projection: definition.name(),
        version: definition.version(),
        collections: definition.collections().iter().map(|at| &*at.name).collect(),
        definition_hash: hex(definition.hash()),
    };
    print_lines(&[match format {
        Format::Json => to_line(&checked),
        Format::Table => format!(
            "{} is good: projection {}, version {}, collections {}",
            file.display(),
            checked.projection,
            checked.version,
            checked.collections.join(", ")
        ),
    }])
}

/// Reads a definition; all but the last of its problems are said at once, the last one is the error.
fn parse(file: &Path) -> Result<Definition, CliError> {
    let text = read(file, DEFINITION_BYTES_MAX)?;
    Definition::parse(&text, &file.display().to_string()).map_err(|error| {
        let (last, others) = error.problems.split_last().expect("an error holds a problem");
        for problem in others {
            say(&format!("error: {problem}"));
        }
        CliError::failed(last.to_string())
    })
}

fn read(file: &Path, bytes_max: usize) -> Result<String, CliError> {
    let bytes = disk::read_file(&RealDisk, file, bytes_max)
        .map_err(|error| CliError::failed(format!("{}: cannot read: {error}", file.display())))?;
    String::from_utf8(bytes)
        .map_err(|error| CliError::failed(format!("{}: expected UTF-8 text: {error}", file.display())))
}

/// Runs `projection test`.
pub fn test(args: &TestArgs, format: Format) -> Result<(), CliError> {
    let definition = parse(&args.file)?;
    let Some(file) = &args.expect else {
        return print(&definition, &project(&definition, &args.events)?, format);
    };
    let text = read(file, EXPECTATION_BYTES_MAX)?;
    let wrong = |Invalid(what)| CliError::failed(format!("{}: {what}", file.display()));
    let expected = Json::parse(text.as_bytes()).map_err(wrong)?;
    let documents = project(&definition, &args.events)?.to_json(&definition);
    let differences = diff(&documents, &expected).map_err(wrong)?;
    let line = |difference: &Difference| match format {
        Format::Table => difference.to_string(),
        Format::Json => difference_line(difference),
    };
    print_lines(&differences.iter().map(line).collect::<Vec<_>>())?;
    match differences.len() {
        0 => {
            say("the documents are as expected");
            Ok(())
        }
        1 => Err(CliError::failed("1 place is not as expected")),
        count => Err(CliError::failed(format!("{count} places are not as expected"))),
    }
}

fn print(definition: &Definition, memory: &Memory, format: Format) -> Result<(), CliError> {
    if format == Format::Table {
        return print_lines(&[pretty(&memory.to_json(definition).to_string())]);
    }
    let mut out = Out::standard();
    for (at, collection) in definition.collections().iter().enumerate() {
        for (key, document) in memory.documents(at) {
            let value = Json::Object((**document).clone());
            out.line(&to_line(&DocumentLine {
                collection: &collection.name,
                key: raw(key.to_json().to_string().as_bytes()),
                value: raw(value.to_string().as_bytes()),
            }))?;
        }
    }
    out.flush()
}

#[derive(Debug, Serialize)]
struct DocumentLine<'a> {
    collection: &'a str,
    key: Box<RawValue>,
    value: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct DifferenceLine<'a> {
    collection: &'a str,
    key: &'a str,
    path: &'a str,
    expected: Option<Box<RawValue>>,
    actual: Option<Box<RawValue>>,
}

fn difference_line(difference: &Difference) -> String {
    let value = |value: &Json| raw(value.to_string().as_bytes());
    to_line(&DifferenceLine {
        collection: &difference.collection,
        key: &difference.key,
        path: &difference.path,
        expected: difference.expected.as_ref().map(value),
        actual: difference.actual.as_ref().map(value),
    })
}

/// Applies all events of a file.
fn project(definition: &Definition, events: &str) -> Result<Memory, CliError> {
    if definition.is_service() {
        return Err(CliError::failed(
            "a service says what the events of this projection do, not the file: test it with a node and the service",
        ));
    }
    let mut memory = Memory::new(definition);
    let mut recorder = Recorder::default();
    let mut failure = None;
    let input = load::open(events)?;
    source::read(input, false, Ids::Derived(HashMap::new()), |item| {
        let applied = match item {
            Item::Batch(batch) => batch.events.into_iter().zip(batch.lines).try_for_each(|(event, line)| {
                let Some(recorded) = recorder.record(event) else {
                    return Ok(());
                };
                let applied = memory.apply(definition, &recorded);
                applied.map_err(|error| format!("{events}:{line}:1: {}", error.error))
            }),
            Item::Skipped(message) | Item::Failed(message) => Err(message),
        };
        failure = applied.err();
        failure.is_none()
    });
    failure.map_or(Ok(memory), |message| Err(CliError::Failed(message)))
}

/// Gives events their positions and revisions, as the log of a node would.
#[derive(Debug, Default)]
struct Recorder {
    head: u64,
    revisions: HashMap<StreamId, u64>,
    ids: HashSet<EventId>,
}

impl Recorder {
    /// None: an event of that id is there already.
    fn record(&mut self, event: Event) -> Option<RecordedEvent> {
        if !self.ids.insert(event.id) {
            return None;
        }
        self.head += 1;
        let revision = self.revisions.entry(event.stream.clone()).or_insert(0);
        *revision += 1;
        Some(RecordedEvent {
            position: Position::new(self.head),
            revision: Revision::new(*revision),
            recorded_at_unix_nanos: event.time_unix_nanos.unwrap_or(0),
            event,
            tracking: None,
            origin: None,
            cursor: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::line;

    fn event(number: u32, stream: &str) -> Event {
        let line = format!(
            "{{\"id\":\"00000000-0000-4000-8000-{number:012}\",\"type\":\"t\",\"stream\":\"{stream}\",\"data\":1}}"
        );
        line::parse(line.as_bytes(), &mut Ids::Required).unwrap()
    }

    #[test]
    fn events_are_recorded_as_in_a_log() {
        let mut recorder = Recorder::default();
        let mut check = |event: Event, expected: Option<(u64, u64)>| {
            let recorded = recorder.record(event);
            assert_eq!(recorded.map(|at| (at.position.get(), at.revision.get())), expected);
        };
        check(event(1, "a"), Some((1, 1)));
        check(event(2, "b"), Some((2, 1)));
        check(event(1, "a"), None);
        check(event(3, "a"), Some((3, 2)));
    }

    #[test]
    fn a_difference_is_one_line_of_json() {
        let difference = Difference {
            collection: "c".into(),
            key: "k".into(),
            path: "a.b".into(),
            expected: Some(Json::Int(1)),
            actual: None,
        };
        let expected = r#"{"collection":"c","key":"k","path":"a.b","expected":1,"actual":null}"#;
        assert_eq!(difference_line(&difference), expected);
    }
}
