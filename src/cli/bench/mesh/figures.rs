//! The figures of `bench mesh`, for people and for programs. Fields of the JSON are added, never renamed.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{BenchMeshArgs, latency::Seen};
use crate::cli::{
    bench::report::{Latency, put_figures, round},
    error::CliError,
    output::{Align, Format, Out, table},
    text::{grouped, rate_text},
};

/// Processor seconds by process.
pub(super) type Parts = BTreeMap<&'static str, f64>;

/// The sharing of a whole log.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    events: u64,
    /// Until the broker has acknowledged them, before anybody imports; none where both went on at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_per_second: Option<f64>,
    /// Until the importer's log has them.
    import_seconds: f64,
    imported_per_second: f64,
    /// Until its projection shows them.
    visible_seconds: f64,
    visible_per_second: f64,
    /// Of them so many came from the owner's log instead of the bus.
    repaired: u64,
    cpu_seconds: Parts,
}

impl Transfer {
    pub(super) fn new(
        events: u64,
        published: Option<Duration>,
        (imported, visible): (Duration, Duration),
        repaired: u64,
        used: Parts,
    ) -> Self {
        let rate = |span: Duration| round(events as f64 / span.as_secs_f64().max(f64::MIN_POSITIVE), 10.0);
        Self {
            events,
            published_per_second: published.map(rate),
            import_seconds: round(imported.as_secs_f64(), 1_000.0),
            imported_per_second: rate(imported),
            visible_seconds: round(visible.as_secs_f64(), 1_000.0),
            visible_per_second: rate(visible),
            repaired,
            cpu_seconds: used.into_iter().map(|(name, seconds)| (name, round(seconds, 100.0))).collect(),
        }
    }
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    bench: &'static str,
    settings: BTreeMap<&'static str, serde_json::Value>,
    /// From the deployment of export and import.
    transfer: Transfer,
    /// Messages that the same broker takes from one publisher, as many in flight, before the nodes run.
    bare_publish_per_second: f64,
    /// From the answer of the append at the owner to the changed document at the importer.
    visible_ms: Latency,
    append_ms: Latency,
    /// From publish to delivery, bare JetStream, by turns with the events.
    bare_ms: Latency,
    turns: u64,
}

impl Figures {
    pub(super) fn new(args: &BenchMeshArgs, seed: u64, transfer: Transfer, bare: f64, seen: &Seen) -> Self {
        Self {
            bench: "mesh",
            settings: BTreeMap::from([
                ("events", args.events.into()),
                ("flights", args.flights.into()),
                ("rate", args.rate.into()),
                ("seed", seed.into()),
            ]),
            transfer,
            bare_publish_per_second: round(bare, 10.0),
            visible_ms: Latency::of(&seen.visible),
            append_ms: Latency::of(&seen.append),
            bare_ms: Latency::of(&seen.bare),
            turns: seen.visible.total(),
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
        let Transfer { events, import_seconds, visible_seconds, repaired, .. } = self.transfer;
        let stretch = |rate, seconds| format!("{} ({} in {seconds:.2} s)", rate_text(rate), grouped(events));
        if let Some(rate) = self.transfer.published_per_second {
            row("published", rate_text(rate));
        }
        row("imported", stretch(self.transfer.imported_per_second, import_seconds));
        row("visible in the projection", stretch(self.transfer.visible_per_second, visible_seconds));
        row("  from the owner, many at a time", grouped(repaired));
        for (name, seconds) in &self.transfer.cpu_seconds {
            row(&format!("  CPU of the {name}"), format!("{seconds:.2} s"));
        }
        row("bare JetStream publish", rate_text(self.bare_publish_per_second));
        for (name, latency) in [
            ("acknowledged to visible", self.visible_ms),
            ("bare publish to deliver", self.bare_ms),
            ("append", self.append_ms),
        ] {
            latency.rows(name, &mut row);
        }
        table
    }
}
