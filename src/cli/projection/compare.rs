//! `outrigger projection compare`: two versions at one position, collection by collection, with samples of what is different.

use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use serde_json::value::RawValue;

use super::bar::Bar;
use crate::{
    api::proto::v1::{
        CollectionComparison, CompareResult, CompareVersionsRequest, ComparisonKind, DocumentComparison,
        FieldDifference, compare_versions_response::Content, projections_client::ProjectionsClient,
    },
    cli::{
        Session,
        client::Connection,
        error::CliError,
        output::{Align, Format, Out, print_lines, table},
        text::{grouped, raw, to_line},
    },
};

/// What `projection compare` takes.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The projection
    pub name: String,
    /// A version: the left one
    #[arg(value_name = "V1", value_parser = clap::value_parser!(u32).range(1..))]
    pub left: u32,
    /// Another version: the right one
    #[arg(value_name = "V2", value_parser = clap::value_parser!(u32).range(1..))]
    pub right: u32,
    /// Only this collection; may be repeated
    #[arg(long = "collection", value_name = "C")]
    pub collections: Vec<String>,
    /// A field that does not count, names joined by dots; may be repeated
    #[arg(long = "ignore", value_name = "FIELD")]
    pub ignore: Vec<String>,
    /// Exit 1 if more documents than this are different, or in one version alone
    #[arg(long, value_name = "N")]
    pub max_different: Option<u64>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Both are compared as they are at one position; for that the one that is ahead stands still for a moment. What events last \
changed does not count, documents do. Without --max-different the exit code is 0, whatever is found.

Examples:
  outrigger projection compare departures 1 2
  outrigger projection compare departures 1 2 --collection airports --ignore delay_sum
  outrigger projection compare departures 1 2 --max-different 0 --output json";

/// Runs `projection compare`.
pub async fn run(session: &Session, args: &CompareArgs) -> Result<(), CliError> {
    let mut client = session.node.projections().await?;
    let request = CompareVersionsRequest {
        projection: args.name.clone(),
        left: args.left,
        right: args.right,
        collections: args.collections.clone(),
        ignore: args.ignore.clone(),
    };
    let result = ask(&mut client, request, Bar::new()).await?;
    print(session.output, &args.name, &result)?;
    judge(args, &Counts::of(&result))
}

/// Asks for a comparison and waits for what it finds; the bar says how far it is.
pub(in crate::cli) async fn ask(
    client: &mut ProjectionsClient<Connection>,
    request: CompareVersionsRequest,
    mut bar: Bar,
) -> Result<CompareResult, CliError> {
    let name = request.projection.clone();
    let mut messages = client.compare_versions(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        match message.content {
            Some(Content::Progress(progress)) => {
                let text = format!("{name} at position {}", progress.position);
                bar.update_of(progress.compared, progress.total, &text, "documents");
            }
            Some(Content::Result(result)) => return Ok(result),
            None => {}
        }
    }
    Err(CliError::failed("the node ended the comparison without a result"))
}

/// Over all collections.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Counts {
    equal: u64,
    different: u64,
    only_left: u64,
    only_right: u64,
}

impl Counts {
    fn of(result: &CompareResult) -> Self {
        result.collections.iter().fold(Self::default(), |sum, one| Self {
            equal: sum.equal + one.equal,
            different: sum.different + one.different,
            only_left: sum.only_left + one.only_left,
            only_right: sum.only_right + one.only_right,
        })
    }

    const fn not_equal(&self) -> u64 {
        self.different + self.only_left + self.only_right
    }
}

/// Whether more is different than may be.
fn judge(args: &CompareArgs, counts: &Counts) -> Result<(), CliError> {
    match args.max_different {
        Some(most) if counts.not_equal() > most => Err(CliError::failed(format!(
            "{} of {} documents are not the same in versions {} and {} of {}, at most {} may be",
            grouped(counts.not_equal()),
            grouped(counts.not_equal() + counts.equal),
            args.left,
            args.right,
            args.name,
            grouped(most),
        ))),
        _ => Ok(()),
    }
}

fn print(format: Format, name: &str, result: &CompareResult) -> Result<(), CliError> {
    if format == Format::Json {
        return print_lines(&[to_line(&Printed::of(name, result))]);
    }
    let mut out = Out::standard();
    out.line(&summary(name, result))?;
    out.table(&counts_table(result))?;
    for line in result.samples.iter().flat_map(sample_lines) {
        out.line(&line)?;
    }
    let shown = result.samples.len() as u64;
    if shown < Counts::of(result).not_equal() {
        out.line(&format!("the first {shown} of {}", grouped(Counts::of(result).not_equal())))?;
    }
    out.flush()
}

/// How many documents are the same and how many are not, by collection.
pub(in crate::cli) fn counts_table(result: &CompareResult) -> Table {
    let mut rows = table(&[
        ("collection", Align::Left),
        ("equal", Align::Right),
        ("different", Align::Right),
        ("only left", Align::Right),
        ("only right", Align::Right),
    ]);
    for CollectionComparison { name, equal, different, only_left, only_right } in &result.collections {
        let counts = [equal, different, only_left, only_right].map(|count| grouped(*count));
        rows.add_row(std::iter::once(name.clone()).chain(counts));
    }
    rows
}

/// Both versions, and the sum, in a sentence.
pub(in crate::cli) fn summary(name: &str, result: &CompareResult) -> String {
    let (counts, CompareResult { left, right, position, .. }) = (Counts::of(result), result);
    let what = match counts.not_equal() {
        0 => format!("{} documents, all the same", grouped(counts.equal)),
        different => format!(
            "{} of {} documents are not the same",
            grouped(different),
            grouped(counts.equal + different)
        ),
    };
    format!("{name} version {left} (left) and version {right} (right) at position {position}: {what}")
}

/// A document and the places where it is different, a line each.
pub(in crate::cli) fn sample_lines(sample: &DocumentComparison) -> Vec<String> {
    let DocumentComparison { collection, key, fields, more_fields, .. } = sample;
    let mut lines = vec![format!("{collection} {key}: {}", kind(sample).replace('_', " "))];
    for FieldDifference { path, left, right } in fields {
        lines.push(match (left, right) {
            (Some(value), None) | (None, Some(value)) if path.is_empty() => format!("  {value}"),
            _ => {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
                format!("  {path}: {} -> {}", text(left), text(right))
            }
        });
    }
    if *more_fields > 0 {
        lines.push(format!("  and {} more", grouped(*more_fields)));
    }
    lines
}

fn kind(sample: &DocumentComparison) -> &'static str {
    match sample.kind() {
        ComparisonKind::Different => "different",
        ComparisonKind::OnlyLeft => "only_left",
        ComparisonKind::OnlyRight => "only_right",
        ComparisonKind::Unspecified => "unspecified",
    }
}

#[derive(Serialize)]
struct Printed<'r> {
    projection: &'r str,
    left: u32,
    right: u32,
    position: u64,
    #[serde(flatten)]
    counts: Counts,
    collections: Vec<PrintedCollection<'r>>,
    samples: Vec<PrintedSample<'r>>,
}

#[derive(Serialize)]
struct PrintedCollection<'r> {
    name: &'r str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct PrintedSample<'r> {
    collection: &'r str,
    key: Box<RawValue>,
    kind: &'static str,
    fields: Vec<PrintedField<'r>>,
    more_fields: u64,
}

#[derive(Serialize)]
struct PrintedField<'r> {
    path: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<&'r str>,
}

impl<'r> Printed<'r> {
    fn of(projection: &'r str, result: &'r CompareResult) -> Self {
        let collection = |one: &'r CollectionComparison| PrintedCollection {
            name: &one.name,
            counts: Counts {
                equal: one.equal,
                different: one.different,
                only_left: one.only_left,
                only_right: one.only_right,
            },
        };
        let field = |at: &'r FieldDifference| PrintedField {
            path: &at.path,
            left: at.left.as_deref(),
            right: at.right.as_deref(),
        };
        let sample = |sample: &'r DocumentComparison| PrintedSample {
            collection: &sample.collection,
            key: raw(sample.key.as_bytes()),
            kind: kind(sample),
            fields: sample.fields.iter().map(field).collect(),
            more_fields: sample.more_fields,
        };
        Self {
            projection,
            left: result.left,
            right: result.right,
            position: result.position,
            counts: Counts::of(result),
            collections: result.collections.iter().map(collection).collect(),
            samples: result.samples.iter().map(sample).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> CompareResult {
        let field = |path: &str, left: Option<&str>, right: Option<&str>| FieldDifference {
            path: path.into(),
            left: left.map(Into::into),
            right: right.map(Into::into),
        };
        let sample = |key: &str, kind: ComparisonKind, fields, more_fields| DocumentComparison {
            collection: "c".into(),
            key: key.into(),
            kind: kind.into(),
            fields,
            more_fields,
        };
        CompareResult {
            left: 1,
            right: 2,
            position: 7,
            collections: vec![CollectionComparison {
                name: "c".into(),
                equal: 12_345,
                different: 1,
                only_left: 0,
                only_right: 1,
            }],
            samples: vec![
                sample(
                    "\"k\"",
                    ComparisonKind::Different,
                    vec![field("a.b", Some("1"), Some("\"x\"")), field("c", None, Some("2"))],
                    3,
                ),
                sample("[1,\"a\"]", ComparisonKind::OnlyRight, vec![field("", None, Some("{\"a\":1}"))], 0),
            ],
        }
    }

    #[test]
    fn what_is_different_is_said_for_people_and_programs() {
        let result = result();
        assert_eq!(
            summary("p", &result),
            "p version 1 (left) and version 2 (right) at position 7: 2 of 12 347 documents are not the same"
        );
        let lines: Vec<String> = result.samples.iter().flat_map(sample_lines).collect();
        let expected = [
            "c \"k\": different",
            "  a.b: 1 -> \"x\"",
            "  c: nothing -> 2",
            "  and 3 more",
            "c [1,\"a\"]: only right",
            "  {\"a\":1}",
        ];
        assert_eq!(lines, expected);
        let json: serde_json::Value = serde_json::from_str(&to_line(&Printed::of("p", &result))).unwrap();
        assert_eq!((&json["equal"], &json["only_right"]), (&12_345.into(), &1.into()));
        assert_eq!(json["collections"][0]["different"], 1);
        assert_eq!(
            json["samples"][1],
            serde_json::json!({ "collection": "c", "key": [1, "a"], "kind": "only_right",
                "fields": [{ "path": "", "right": "{\"a\":1}" }], "more_fields": 0 })
        );
    }

    #[test]
    fn a_pipeline_can_gate_on_it() {
        let args = |max_different| CompareArgs {
            name: "p".into(),
            left: 1,
            right: 2,
            collections: Vec::new(),
            ignore: Vec::new(),
            max_different,
        };
        let counts = Counts::of(&result());
        assert!(judge(&args(None), &counts).is_ok());
        assert!(judge(&args(Some(2)), &counts).is_ok());
        assert_eq!(judge(&args(Some(1)), &counts).unwrap_err().exit_code(), 1);
    }
}
