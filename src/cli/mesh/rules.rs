//! `outrigger mesh rules`: who may append events of a type or to a stream, and why. The node answers, since what is in
//! force is what counts.

use clap::Args;
use serde::Serialize;

use super::Client;
use crate::{
    api::proto::v1::{ExplainOwnershipRequest, ExplainOwnershipResponse, OwnershipRule},
    cli::{
        error::CliError,
        output::{Format, print_lines},
        text::to_line,
    },
};

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Clients of a node append only what the node owns: what `owns.types` and `owns.streams` name, and without them all that it does
not import. The streams of an import belong to the node that it takes events from.

Examples:
  outrigger mesh rules
  outrigger mesh rules --type flight.departed
  outrigger mesh rules --type flight.departed --stream flights/UA1545 --output json";

/// What `rules` takes.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// An event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// A stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the fields are those of the protocol")]
struct Rules<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_append: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule<'a>>,
    owned_types: Option<&'a [String]>,
    owned_streams: Option<&'a [String]>,
    imported: Vec<Imported<'a>>,
}

#[derive(Debug, Serialize)]
struct Rule<'a> {
    field: &'a str,
    value: &'a str,
    is_own: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    why: &'a str,
}

#[derive(Debug, Serialize)]
struct Imported<'a> {
    import: &'a str,
    owner: &'a str,
    streams: &'a str,
}

pub(super) async fn run(client: &mut Client, args: RulesArgs, format: Format) -> Result<(), CliError> {
    let asked = args.event_type.is_some() || args.stream.is_some();
    let request = ExplainOwnershipRequest { r#type: args.event_type, stream: args.stream };
    let rules = client.explain_ownership(request).await?.into_inner();
    match format {
        Format::Json => print_lines(&[to_line(&object(&rules, asked))]),
        Format::Table if asked => print_lines(&decision(&rules)),
        Format::Table => print_lines(&all(&rules)),
    }
}

fn object(rules: &ExplainOwnershipResponse, asked: bool) -> Rules<'_> {
    Rules {
        node: &rules.node,
        may_append: asked.then_some(rules.may_append),
        rules: rules
            .rules
            .iter()
            .map(|rule| Rule {
                field: &rule.field,
                value: &rule.value,
                is_own: rule.is_own,
                owner: rule.owner.as_deref(),
                why: &rule.why,
            })
            .collect(),
        owned_types: rules.types_are_named.then_some(rules.owned_types.as_slice()),
        owned_streams: rules.streams_are_named.then_some(rules.owned_streams.as_slice()),
        imported: rules
            .imported
            .iter()
            .map(|import| Imported { import: &import.import, owner: &import.owner, streams: &import.streams })
            .collect(),
    }
}

/// May it, and a line for each reason.
fn decision(rules: &ExplainOwnershipResponse) -> Vec<String> {
    let may = if rules.may_append { "may" } else { "may not" };
    let line = |rule: &OwnershipRule| {
        let whose = match (&rule.owner, rule.is_own) {
            (_, true) => "its own".to_owned(),
            (Some(owner), false) => format!("of {owner}"),
            (None, false) => "not its own".to_owned(),
        };
        format!("  {} {}: {whose}; {}", rule.field, rule.value, rule.why)
    };
    let first = format!("clients of {} {may} append it", rules.node);
    std::iter::once(first).chain(rules.rules.iter().map(line)).collect()
}

fn all(rules: &ExplainOwnershipResponse) -> Vec<String> {
    let named = |are_named: bool, patterns: &[String], otherwise: &str| match (are_named, patterns) {
        (false, _) => otherwise.to_owned(),
        (true, []) => "none".to_owned(),
        (true, patterns) => patterns.join(", "),
    };
    let types = named(rules.types_are_named, &rules.owned_types, "all (owns.types is not set)");
    let streams = named(
        rules.streams_are_named,
        &rules.owned_streams,
        "all that no import keeps (owns.streams is not set)",
    );
    let mut lines = vec![
        format!("clients of {} may append", rules.node),
        format!("  types    {types}"),
        format!("  streams  {streams}"),
    ];
    lines.extend(rules.imported.iter().map(|import| {
        format!(
            "  but not  {}, which the import {} keeps for {}",
            import.streams, import.import, import.owner
        )
    }));
    lines
}
