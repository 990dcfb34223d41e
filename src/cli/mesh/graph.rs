//! `outrigger mesh graph`: who exports what to whom, with lag, as lines of text.
//!
//! Several nodes can be asked, so that the picture is whole; an importer that is not asked is not seen.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{
    status::get,
    words::{export_state, full_name, import_state},
};
use crate::{
    api::proto::v1::{GetMeshStatusResponse, MeshExport, MeshImport},
    cli::{
        Session,
        error::CliError,
        output::{Format, print_lines},
        text::{grouped, to_line},
    },
};

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
A node knows what it publishes and what it takes, not who takes what it publishes: ask several nodes for the whole picture.

Examples:
  outrigger mesh graph
  outrigger mesh graph --addr flights:7400 --with weather:7400 --with operations:7400";

/// What `graph` takes.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// A further node to ask; may be repeated
    #[arg(long = "with", value_name = "ADDR")]
    others: Vec<String>,
}

/// One arrow.
#[derive(Debug, Serialize)]
struct Edge<'a> {
    owner: &'a str,
    export: &'a str,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    export_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    importer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    import_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
}

/// An export as far as the nodes that were asked know it, and its importers among them, by their names.
#[derive(Debug, Default)]
struct Seen<'a> {
    export: Option<&'a MeshExport>,
    importers: Vec<(&'a str, &'a MeshImport)>,
}

/// By owner, export and version.
type Graph<'a> = BTreeMap<(&'a str, &'a str, u32), Seen<'a>>;

pub(super) async fn run(session: &Session, args: GraphArgs) -> Result<(), CliError> {
    let mut statuses = vec![get(&mut session.node.mesh().await?).await?];
    for addr in &args.others {
        statuses.push(get(&mut session.node.at(addr).mesh().await?).await?);
    }
    let graph = graph(&statuses);
    print_lines(&match session.output {
        Format::Json => json(&graph),
        Format::Table => lines(&graph),
    })
}

fn graph(statuses: &[GetMeshStatusResponse]) -> Graph<'_> {
    let mut graph = Graph::new();
    for status in statuses {
        for export in &status.exports {
            if let Some(name) = &export.name {
                graph.entry((&name.owner, &name.export, name.version)).or_default().export = Some(export);
            }
        }
        for import in &status.imports {
            if let Some(name) = &import.from {
                let seen = graph.entry((&name.owner, &name.export, name.version)).or_default();
                seen.importers.push((&status.node, import));
            }
        }
    }
    graph
}

fn lines(graph: &Graph<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for ((owner, export, version), seen) in graph {
        lines.push(match seen.export {
            Some(export) => {
                let (name, state) = (full_name(export.name.as_ref()), export_state(export.state()));
                format!("{name}  {state}, {} published", grouped(export.acknowledged_seq))
            }
            None => format!("{owner}/{export} v{version}  (its owner was not asked)"),
        });
        for (importer, import) in &seen.importers {
            let reason = import.stop.as_ref().map(|stop| format!(" ({})", stop.reason)).unwrap_or_default();
            lines.push(format!(
                "  -> {importer}  import {}: {}{reason}, lag {}, {} events/s",
                import.import,
                import_state(import.state()),
                grouped(import.lag),
                grouped(import.rate_per_second)
            ));
        }
    }
    if lines.is_empty() {
        lines.push("nothing is exported or imported".to_owned());
    }
    lines
}

fn json(graph: &Graph<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for ((owner, export, version), seen) in graph {
        let edge = |importer: Option<&(&str, &MeshImport)>| {
            to_line(&Edge {
                owner,
                export,
                version: *version,
                export_state: seen.export.map(|export| export_state(export.state())),
                published: seen.export.map(|export| export.acknowledged_seq),
                importer: importer.map(|(importer, _)| *importer),
                import: importer.map(|(_, import)| import.import.as_str()),
                import_state: importer.map(|(_, import)| import_state(import.state())),
                reason: importer.and_then(|(_, import)| Some(import.stop.as_ref()?.reason.as_str())),
                lag: importer.map(|(_, import)| import.lag),
            })
        };
        if seen.importers.is_empty() {
            lines.push(edge(None));
        }
        lines.extend(seen.importers.iter().map(|importer| edge(Some(importer))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::v1::{ExportName, ImportStop};

    fn name(owner: &str, export: &str) -> ExportName {
        ExportName { owner: owner.into(), export: export.into(), version: 1 }
    }

    #[test]
    fn arrows_go_from_exports_to_their_importers() {
        let flights = GetMeshStatusResponse {
            node: "flights".into(),
            exports: vec![MeshExport {
                name: Some(name("flights", "departures")),
                state: 3,
                acknowledged_seq: 1_200,
                ..MeshExport::default()
            }],
            ..GetMeshStatusResponse::default()
        };
        let operations = GetMeshStatusResponse {
            node: "operations".into(),
            imports: vec![
                MeshImport {
                    import: "flights".into(),
                    from: Some(name("flights", "departures")),
                    state: 6,
                    lag: 7,
                    stop: Some(ImportStop { reason: "GAP".into(), ..ImportStop::default() }),
                    ..MeshImport::default()
                },
                MeshImport {
                    import: "w".into(),
                    from: Some(name("weather", "all")),
                    state: 3,
                    ..MeshImport::default()
                },
            ],
            ..GetMeshStatusResponse::default()
        };
        let statuses = [flights, operations];
        assert_eq!(
            lines(&graph(&statuses)),
            [
                "flights/departures v1  following, 1 200 published",
                "  -> operations  import flights: stopped (GAP), lag 7, 0 events/s",
                "weather/all v1  (its owner was not asked)",
                "  -> operations  import w: following, lag 0, 0 events/s",
            ]
        );
        let first = r#"{"owner":"flights","export":"departures","version":1,"export_state":"following","published":1200,"importer":"operations","import":"flights","import_state":"stopped","reason":"GAP","lag":7}"#;
        assert_eq!(json(&graph(&statuses))[0], first);
        assert_eq!(lines(&graph(&[])), ["nothing is exported or imported"]);
        assert_eq!(json(&graph(&statuses[..1])).len(), 1);
    }
}
