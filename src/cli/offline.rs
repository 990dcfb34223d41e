//! `outrigger projection check` and `test`: definitions without a node.
//!
//! The engine is the one that a node runs; only the store is a map in memory. Documents are printed as one JSON object:
//! collections by name, documents by key; this is also the form of an expectation. A key that is not one text is
//! written as its JSON array.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
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
    text::{hex, pretty, raw, to_line, to_raw},
};
use crate::{
    disk::{self, real::RealDisk},
    event::{Event, Position, RecordedEvent, Revision},
    json::{Json, Object},
    limits::{DEFINITION_BYTES_MAX, EXPECTATION_BYTES_MAX},
    projection::{
        declarative::{ApplyError, Documents, StoreFailure, apply},
        definition::Definition,
        key::Key,
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
    let expected = args.expect.as_deref().map(expectation).transpose()?;
    let documents = project(&definition, &args.events)?;
    let Some(expected) = expected else {
        return print(&documents, format);
    };
    let differences = differences(&expected, &documents);
    let mut out = Out::standard();
    for difference in &differences {
        for line in difference.lines(format) {
            out.line(&line)?;
        }
    }
    out.flush()?;
    match differences.len() {
        0 => {
            say(&format!("all {} documents are as expected", count(&documents)));
            Ok(())
        }
        1 => Err(CliError::failed("1 document is not as expected")),
        count => Err(CliError::failed(format!("{count} documents are not as expected"))),
    }
}

/// By collection, then by key as text.
type Shown = BTreeMap<String, BTreeMap<String, Json>>;

fn count(documents: &Shown) -> usize {
    documents.values().map(BTreeMap::len).sum()
}

fn print(documents: &Shown, format: Format) -> Result<(), CliError> {
    match format {
        Format::Table => {
            let whole: Object = documents
                .iter()
                .map(|(collection, documents)| {
                    let inner: Object = documents
                        .iter()
                        .map(|(key, value)| (key.as_str().into(), value.clone()))
                        .collect();
                    (collection.as_str().into(), Json::Object(inner))
                })
                .collect();
            print_lines(&[pretty(&Json::Object(whole).to_string())])
        }
        Format::Json => {
            let mut out = Out::standard();
            for (collection, documents) in documents {
                for (key, value) in documents {
                    let line = Line {
                        collection,
                        key: key_value(key),
                        value: raw(value.to_string().as_bytes()),
                    };
                    out.line(&to_line(&line))?;
                }
            }
            out.flush()
        }
    }
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    collection: &'a str,
    key: Box<RawValue>,
    value: Box<RawValue>,
}

/// A shown key as JSON: the array that it is, or the text.
fn key_value(shown: &str) -> Box<RawValue> {
    match Json::parse(shown.as_bytes()) {
        Ok(Json::Array(parts)) => match parts.as_slice() {
            [Json::Text(text)] => to_raw(&**text),
            _ => raw(shown.as_bytes()),
        },
        _ => to_raw(shown),
    }
}

/// The text itself, or a JSON array; a text that reads as an array is shown as the array of that one text.
fn show_key(key: &Key) -> String {
    match key.to_json() {
        Json::Text(text) => match Json::parse(text.as_bytes()) {
            Ok(Json::Array(_)) => Json::Array(vec![Json::Text(text)]).to_string(),
            _ => text.into(),
        },
        other => other.to_string(),
    }
}

/// Applies all events of a file.
fn project(definition: &Definition, events: &str) -> Result<Shown, CliError> {
    let mut engine = Engine::default();
    let mut failure = None;
    let input = load::open(events)?;
    source::read(input, false, Ids::Derived(HashMap::new()), |item| {
        let applied = match item {
            Item::Batch(batch) => batch
                .events
                .into_iter()
                .zip(batch.lines)
                .try_for_each(|(event, line)| {
                    engine
                        .take(definition, event)
                        .map_err(|error| format!("{events}:{line}:1: {error}"))
                }),
            Item::Skipped(message) | Item::Failed(message) => Err(message),
        };
        failure = applied.err();
        failure.is_none()
    });
    match failure {
        Some(message) => Err(CliError::failed(message)),
        None => Ok(engine.shown(definition)),
    }
}

/// A log and a store in memory.
#[derive(Debug, Default)]
struct Engine {
    head: u64,
    revisions: HashMap<String, u64>,
    seen: HashSet<[u8; 16]>,
    store: Store,
}

#[derive(Debug, Default)]
struct Store(HashMap<(usize, Key), Arc<Object>>);

impl Documents for Store {
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure> {
        Ok(self.0.get(&(collection, key.clone())).cloned())
    }
}

impl Engine {
    /// Records and applies one event, as a node would: an id that was there before changes nothing.
    fn take(&mut self, definition: &Definition, event: Event) -> Result<(), ApplyError> {
        if !self.seen.insert(*event.id.as_bytes()) {
            return Ok(());
        }
        self.head += 1;
        let revision = self
            .revisions
            .entry(event.stream.as_str().to_owned())
            .or_insert(0);
        *revision += 1;
        let recorded = RecordedEvent {
            position: Position::new(self.head),
            revision: Revision::new(*revision),
            recorded_at_unix_nanos: event.time_unix_nanos.unwrap_or(0),
            event,
        };
        for change in apply(definition, &recorded, &mut self.store)? {
            let at = (change.collection, change.key);
            match change.document {
                Some(document) => self.store.0.insert(at, document),
                None => self.store.0.remove(&at),
            };
        }
        Ok(())
    }

    fn shown(self, definition: &Definition) -> Shown {
        let names = definition.collections().iter();
        let mut shown: Shown = names
            .map(|collection| (collection.name.to_string(), BTreeMap::new()))
            .collect();
        for ((collection, key), document) in self.store.0 {
            let name = &*definition.collections()[collection].name;
            let value = Json::Object((*document).clone()).normalized();
            shown
                .entry(name.to_owned())
                .or_default()
                .insert(show_key(&key), value);
        }
        shown
    }
}

/// Reads `{collection: {key: document}}`.
fn expectation(file: &Path) -> Result<Shown, CliError> {
    let text = read(file, EXPECTATION_BYTES_MAX)?;
    let wrong = |what: String| CliError::failed(format!("{}: {what}", file.display()));
    let json = Json::parse(text.as_bytes()).map_err(|error| wrong(error.0))?;
    let Json::Object(collections) = json.normalized() else {
        return Err(wrong("expected an object of collections".into()));
    };
    let mut expected = Shown::new();
    for (name, documents) in collections.iter() {
        let Json::Object(documents) = documents else {
            return Err(wrong(format!("{name}: expected an object of documents by key")));
        };
        let documents = documents
            .iter()
            .map(|(key, value)| (key.to_owned(), value.clone()));
        expected.insert(name.to_owned(), documents.collect());
    }
    Ok(expected)
}

/// One document that is not as expected.
#[derive(Debug, PartialEq)]
struct Difference {
    collection: String,
    key: String,
    expected: Option<Json>,
    actual: Option<Json>,
}

#[derive(Debug, Serialize)]
struct DifferenceLine<'a> {
    collection: &'a str,
    key: Box<RawValue>,
    expected: Option<Box<RawValue>>,
    actual: Option<Box<RawValue>>,
}

impl Difference {
    fn lines(&self, format: Format) -> Vec<String> {
        let text = |value: &Json| raw(value.to_string().as_bytes());
        if format == Format::Json {
            return vec![to_line(&DifferenceLine {
                collection: &self.collection,
                key: key_value(&self.key),
                expected: self.expected.as_ref().map(text),
                actual: self.actual.as_ref().map(text),
            })];
        }
        let line = |sign: char, value: &Json| format!("{sign} {} {}: {value}", self.collection, self.key);
        let removed = self.expected.iter().map(|value| line('-', value));
        removed
            .chain(self.actual.iter().map(|value| line('+', value)))
            .collect()
    }
}

fn differences(expected: &Shown, actual: &Shown) -> Vec<Difference> {
    let keys = |shown: &Shown| -> Vec<(String, String)> {
        let one = |(name, documents): (&String, &BTreeMap<String, Json>)| {
            let name = name.clone();
            documents
                .keys()
                .map(move |key| (name.clone(), key.clone()))
                .collect::<Vec<_>>()
        };
        shown.iter().flat_map(one).collect()
    };
    let get =
        |shown: &Shown, (name, key): &(String, String)| shown.get(name).and_then(|at| at.get(key)).cloned();
    let mut all = keys(expected);
    all.extend(keys(actual));
    all.sort();
    all.dedup();
    let differ = |at: (String, String)| {
        let (expected, actual) = (get(expected, &at), get(actual, &at));
        let same = matches!((&expected, &actual), (Some(a), Some(b)) if a.same_value(b));
        (!same).then_some(Difference {
            collection: at.0,
            key: at.1,
            expected,
            actual,
        })
    };
    all.into_iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(documents: &[(&str, &str, &str)]) -> Shown {
        let mut shown = Shown::new();
        for (collection, key, value) in documents {
            let value = Json::parse(value.as_bytes()).unwrap();
            shown
                .entry((*collection).into())
                .or_default()
                .insert((*key).into(), value);
        }
        shown
    }

    #[test]
    fn shown_keys_are_told_apart() {
        let check = |key: &str, shown: &str, json: &str| {
            let key = Key::from_json(&Json::parse(key.as_bytes()).unwrap()).unwrap();
            assert_eq!(show_key(&key), shown);
            assert_eq!(key_value(shown).get(), json);
        };
        check(r#""a""#, "a", r#""a""#);
        check("[1]", "[1]", "[1]");
        check(r#""[1]""#, r#"["[1]"]"#, r#""[1]""#);
        check(r#"["a",true]"#, r#"["a",true]"#, r#"["a",true]"#);
    }

    #[test]
    fn differences_are_missing_surplus_and_changed_documents() {
        let expected = shown(&[
            ("a", "same", "{\"n\":1}"),
            ("a", "gone", "{}"),
            ("b", "[1]", "{\"n\":1}"),
        ]);
        let actual = shown(&[
            ("a", "same", "{\"n\":1.0}"),
            ("a", "new", "{}"),
            ("b", "[1]", "{\"n\":2}"),
        ]);
        let lines: Vec<String> = differences(&expected, &actual)
            .iter()
            .flat_map(|at| at.lines(Format::Table))
            .collect();
        assert_eq!(
            lines,
            [
                "- a gone: {}",
                "+ a new: {}",
                "- b [1]: {\"n\":1}",
                "+ b [1]: {\"n\":2}"
            ]
        );
        let json = differences(&expected, &actual)[2].lines(Format::Json);
        assert_eq!(
            json,
            [r#"{"collection":"b","key":[1],"expected":{"n":1},"actual":{"n":2}}"#]
        );
        assert_eq!(differences(&expected, &expected), []);
    }
}
