//! `outrigger projection verify`: the node builds a version a second time, and both are compared.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::bar::Bar;
use crate::{
    api::proto::v1::{
        DocumentDifference, VerifyProjectionRequest, VerifyResult, verify_projection_response::Content,
    },
    cli::{
        Session,
        error::CliError,
        output::{Format, print_lines},
        text::{grouped, raw, to_line},
    },
};

/// What `projection verify` takes.
#[derive(Debug, Args)]
pub struct VerifyProjectionArgs {
    /// The projection
    pub name: String,
    /// The version [default: the active one]
    #[arg(long, value_name = "V", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The running version goes on and answers queries; the second build takes at most half of a core, and as much disk as the \
first, for the time. Exit 1 if they are different.

Examples:
  outrigger projection verify departures
  outrigger projection verify departures --version 2 --output json";

/// Runs `projection verify`.
pub async fn run(session: &Session, args: &VerifyProjectionArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let request = VerifyProjectionRequest { projection: args.name.clone(), version: args.version };
    let mut messages = client.verify_projection(request).await?.into_inner();
    let mut bar = Bar::new();
    while let Some(message) = messages.message().await? {
        match message.content {
            Some(Content::Progress(progress)) => {
                let text = format!("{} version {}, built again", args.name, progress.version);
                bar.update(progress.position, progress.target, &text);
            }
            Some(Content::Result(result)) => {
                drop(bar);
                return print(session.output, &args.name, &result);
            }
            None => {}
        }
    }
    Err(CliError::failed("the node ended the verification without a result"))
}

fn print(format: Format, name: &str, result: &VerifyResult) -> Result<(), CliError> {
    match format {
        Format::Json => print_lines(&[to_line(&Printed::of(name, result))])?,
        Format::Table => print_lines(&lines(name, result))?,
    }
    if result.equal {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "projection {name} version {} is not what the log says; deploy it under a new version number to build it \
         anew",
        result.version
    )))
}

fn lines(name: &str, result: &VerifyResult) -> Vec<String> {
    let VerifyResult { version, position, documents, different, different_index_entries, .. } = result;
    let mut lines = vec![format!(
        "{name} version {version} at position {position}: {} documents, {}",
        grouped(*documents),
        if result.equal { "the same in both builds" } else { "not the same in both builds" }
    )];
    let hashes = [
        ("content hash", &result.content_hash),
        ("hash of its documents", &result.documents_hash),
        ("second build", &result.rebuilt_hash),
    ];
    lines.extend(hashes.iter().map(|(what, hash)| format!("  {what}: {hash}")));
    if !result.equal {
        let entries = grouped(*different_index_entries);
        lines.push(format!("  different: {} documents, {entries} index entries", grouped(*different)));
    }
    let text = |value: &Option<bytes::Bytes>| {
        value.as_ref().map_or("no document".into(), |value| String::from_utf8_lossy(value).into_owned())
    };
    for DocumentDifference { collection, key, running, rebuilt } in &result.differences {
        lines.push(format!("  {collection} {key}: is {}, should be {}", text(running), text(rebuilt)));
    }
    lines
}

#[derive(Serialize)]
struct Printed<'r> {
    projection: &'r str,
    version: u32,
    equal: bool,
    position: u64,
    documents: u64,
    content_hash: &'r str,
    documents_hash: &'r str,
    rebuilt_hash: &'r str,
    different: u64,
    different_index_entries: u64,
    differences: Vec<BTreeMap<&'static str, Box<RawValue>>>,
}

impl<'r> Printed<'r> {
    fn of(projection: &'r str, result: &'r VerifyResult) -> Self {
        let difference = |found: &DocumentDifference| {
            let collection = to_line(&found.collection);
            let fields = [
                ("collection", Some(collection.as_bytes())),
                ("key", Some(found.key.as_bytes())),
                ("running", found.running.as_deref()),
                ("rebuilt", found.rebuilt.as_deref()),
            ];
            fields.into_iter().filter_map(|(name, value)| Some((name, raw(value?)))).collect()
        };
        Self {
            projection,
            version: result.version,
            equal: result.equal,
            position: result.position,
            documents: result.documents,
            content_hash: &result.content_hash,
            documents_hash: &result.documents_hash,
            rebuilt_hash: &result.rebuilt_hash,
            different: result.different,
            different_index_entries: result.different_index_entries,
            differences: result.differences.iter().map(difference).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_for_people_and_programs() {
        let result = VerifyResult {
            equal: false,
            version: 2,
            position: 7,
            documents: 12_345,
            different: 1,
            differences: vec![DocumentDifference {
                collection: "c".into(),
                key: "[1,\"a\"]".into(),
                running: None,
                rebuilt: Some("{\"a\":1}".into()),
            }],
            ..VerifyResult::default()
        };
        let lines = lines("p", &result);
        assert!(lines[0].contains("12 345 documents, not the same"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "  c [1,\"a\"]: is no document, should be {\"a\":1}");
        let json: serde_json::Value = serde_json::from_str(&to_line(&Printed::of("p", &result))).unwrap();
        assert_eq!(
            json["differences"][0],
            serde_json::json!({ "collection": "c", "key": [1, "a"], "rebuilt": { "a": 1 } })
        );
        let error = print(Format::Table, "p", &result).unwrap_err();
        assert_eq!(error.exit_code(), 1);
    }
}
