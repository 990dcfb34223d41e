//! The figures of `bench project`, for people and for programs. Fields of the JSON are added, never renamed.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{BenchProjectArgs, size::Weight, visible::Visible};
use crate::{
    cli::{
        bench::report::{Latency, Used, put_figures, round},
        error::CliError,
        output::{Align, Format, Out, table},
        text::{grouped, rate_text},
    },
    process::Usage,
};

/// Events over a time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Stretch {
    events: u64,
    seconds: f64,
    events_per_second: f64,
    /// What the node used.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Used>,
}

impl Stretch {
    pub(super) fn new(events: u64, span: Duration, server: Option<Usage>) -> Self {
        let seconds = span.as_secs_f64();
        Self {
            events,
            seconds: round(seconds, 1_000.0),
            events_per_second: round(events as f64 / seconds.max(f64::MIN_POSITIVE), 10.0),
            server: server.map(Used::of),
        }
    }
}

/// The weight of the file after the build.
#[derive(Debug, Clone, Copy, Serialize)]
struct DiskFigures {
    documents: u64,
    index_entries: u64,
    content_bytes: u64,
    file_bytes: u64,
    /// File to content.
    ratio: f64,
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    bench: &'static str,
    settings: BTreeMap<&'static str, serde_json::Value>,
    /// Filling the log, without a projection.
    append: Stretch,
    /// From the deployment to the head.
    build: Stretch,
    /// From the first append beside the version until it shows the last one.
    live: Stretch,
    /// What it lagged behind at the last acknowledgement.
    catch_up: Stretch,
    disk: DiskFigures,
    /// From an append's answer to that of the query with its token.
    visible_ms: Latency,
    append_ms: Latency,
    visible_events: u64,
}

impl Figures {
    #[expect(clippy::too_many_arguments, reason = "one for each phase of the run")]
    pub(super) fn new(
        args: &BenchProjectArgs,
        seed: u64,
        append: Stretch,
        build: Stretch,
        live: Stretch,
        catch_up: Stretch,
        weight: Weight,
        visible: Visible,
    ) -> Self {
        let definition = args.definition.as_ref().map_or("default".into(), |path| path.display().to_string());
        let Weight { documents, index_entries, content_bytes, file_bytes } = weight;
        Self {
            bench: "project",
            settings: BTreeMap::from([
                ("events", args.events.into()),
                ("flights", args.flights.into()),
                ("definition", definition.into()),
                ("rate", args.rate.into()),
                ("seed", seed.into()),
            ]),
            append,
            build,
            live,
            catch_up,
            disk: DiskFigures {
                documents,
                index_entries,
                content_bytes,
                file_bytes,
                ratio: round(file_bytes as f64 / (content_bytes as f64).max(1.0), 100.0),
            },
            visible_ms: Latency::of(&visible.read),
            append_ms: Latency::of(&visible.append),
            visible_events: visible.read.total(),
        }
    }

    pub(super) fn print(&self, format: Format) -> Result<(), CliError> {
        let mut out = Out::standard();
        put_figures(&mut out, format, self.bench, &self.settings, self, || self.table())?;
        out.flush()
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = table(&[("what", Align::Left), ("figure", Align::Right)]);
        let mut row = |name: &str, value: String| {
            table.add_row([name, &value]);
        };
        let stretches = [
            ("first build", &self.build),
            ("following a full load", &self.live),
            ("catching up behind it", &self.catch_up),
            ("appends before (no projection)", &self.append),
        ];
        for (name, stretch) in stretches {
            let Stretch { events, seconds, events_per_second, server } = stretch;
            row(name, format!("{} ({} in {seconds:.2} s)", rate_text(*events_per_second), grouped(*events)));
            if let Some(Used { cpu_seconds, resident_bytes }) = server {
                let memory = resident_bytes / (1 << 20);
                row("  CPU, memory of the node", format!("{cpu_seconds:.2} s, {memory} MiB"));
            }
        }
        for (name, latency) in [("acknowledged to visible", self.visible_ms), ("append", self.append_ms)] {
            latency.rows(name, &mut row);
        }
        let DiskFigures { documents, index_entries, content_bytes, file_bytes, ratio } = self.disk;
        let mib = |bytes: u64| grouped(bytes / (1 << 20));
        row("documents, index entries", format!("{}, {}", grouped(documents), grouped(index_entries)));
        row("content, file (MiB)", format!("{}, {} (x {ratio})", mib(content_bytes), mib(file_bytes)));
        table
    }
}
