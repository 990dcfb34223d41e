//! What a bench prints: the same figures for people and for programs.
//!
//! The JSON is one object a run; fields are added, never renamed. Does not know how figures were taken.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{histogram::Histogram, run::Outcome};
use crate::{
    cli::{
        error::CliError,
        output::{Align, Format, Out, table},
        text::{grouped, rate_text, to_line},
    },
    process::Usage,
};

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub bench: &'static str,
    /// What the user chose.
    pub settings: BTreeMap<&'static str, serde_json::Value>,
    /// The measured span.
    pub seconds: f64,
    /// Requests answered in it.
    pub requests: u64,
    /// Events of these, or that came.
    pub events: u64,
    /// The mean of the span.
    pub requests_per_second: f64,
    /// The mean of the span.
    pub events_per_second: f64,
    /// Of the seconds of the span.
    pub events_each_second: Spread,
    /// What the bench measures, in milliseconds.
    pub latency_ms: Latency,
    /// The latency of appends, where the bench measures another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_latency_ms: Option<Latency>,
    /// What the server used; `None` if it does not say.
    pub server: Option<Used>,
    /// What this process used.
    pub client: Option<Used>,
    /// The log's head after the run, where there is a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// Errors by reason.
    pub errors: BTreeMap<String, u64>,
}

/// How values lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// What a process used in the span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Used {
    /// Processor time of all cores.
    pub cpu_seconds: f64,
    /// Resident memory at the end.
    pub resident_bytes: u64,
}

impl Latency {
    /// Its rows of a table.
    pub fn rows(&self, name: &str, row: &mut impl FnMut(&str, String)) {
        let Self { p50, p90, p99, p99_9, max } = self;
        row(&format!("{name} p50, p90 (ms)"), format!("{p50:.3}, {p90:.3}"));
        row(&format!("{name} p99, p99.9, max (ms)"), format!("{p99:.3}, {p99_9:.3}, {max:.3}"));
    }
}

/// Writes the figures of a run: one JSON object, or its name and settings above a table.
pub fn put_figures(
    out: &mut Out,
    format: Format,
    bench: &str,
    settings: &BTreeMap<&'static str, serde_json::Value>,
    figures: &impl Serialize,
    table: impl FnOnce() -> comfy_table::Table,
) -> Result<(), CliError> {
    match format {
        Format::Json => out.line(&to_line(figures)),
        Format::Table => {
            let settings = settings.iter().map(|(name, value)| match value {
                serde_json::Value::String(text) => format!("{name} {text}"),
                value => format!("{name} {value}"),
            });
            out.line(&format!("{bench}: {}", settings.collect::<Vec<_>>().join(", ")))?;
            out.table(&table())
        }
    }
}

impl Report {
    /// The report of a run.
    pub fn new(
        bench: &'static str,
        settings: BTreeMap<&'static str, serde_json::Value>,
        outcome: Outcome,
    ) -> Self {
        let Outcome { tally, span, rates, server, client } = outcome;
        let seconds = span.as_secs_f64();
        let a_second = |count: u64| round(count as f64 / seconds.max(f64::MIN_POSITIVE), 10.0);
        Self {
            bench,
            settings,
            seconds: round(seconds, 1_000.0),
            requests: tally.requests,
            events: tally.events,
            requests_per_second: a_second(tally.requests),
            events_per_second: a_second(tally.events),
            events_each_second: Spread::of(rates),
            latency_ms: Latency::of(&tally.latency),
            append_latency_ms: (tally.second.total() > 0).then(|| Latency::of(&tally.second)),
            server: server.map(Used::of),
            client: client.map(Used::of),
            head: None,
            errors: tally.errors,
        }
    }

    /// Prints reports; a run that had errors is a failure.
    pub fn print(reports: &[Self], format: Format) -> Result<(), CliError> {
        let mut out = Out::standard();
        for report in reports {
            put_figures(&mut out, format, report.bench, &report.settings, report, || report.table())?;
        }
        out.flush()?;
        let errors: u64 = reports.iter().flat_map(|report| report.errors.values()).sum();
        if errors > 0 {
            return Err(CliError::failed(format!("{errors} errors; the figures do not count")));
        }
        Ok(())
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = table(&[("what", Align::Left), ("figure", Align::Right)]);
        let mut row = |name: &str, value: String| {
            table.add_row([name, &value]);
        };
        row("requests", rate_text(self.requests_per_second));
        row("events", rate_text(self.events_per_second));
        let Spread { median, min, max } = self.events_each_second;
        let whole = |rate: f64| grouped(rate.round() as u64);
        // A run of a second or two has no whole second to speak of.
        if max > 0.0 {
            let text = format!("{} ({} to {})", whole(median), whole(min), whole(max));
            row("events each second, median (min to max)", text);
        }
        let latencies = [("latency", Some(self.latency_ms)), ("append latency", self.append_latency_ms)];
        for (name, latency) in latencies {
            let Some(latency) = latency else { continue };
            latency.rows(name, &mut row);
        }
        for (name, used) in [("server", self.server), ("client", self.client)] {
            let Some(Used { cpu_seconds, resident_bytes }) = used else { continue };
            let share = 100.0 * cpu_seconds / self.seconds.max(f64::MIN_POSITIVE);
            let memory = resident_bytes as f64 / (1_024.0 * 1_024.0);
            row(
                &format!("{name} CPU, memory"),
                format!("{cpu_seconds:.2} s ({share:.0} %), {memory:.0} MiB"),
            );
        }
        if let Some(head) = self.head {
            row("head", grouped(head));
        }
        for (reason, count) in &self.errors {
            row(reason, grouped(*count));
        }
        table
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| round(values.get(index).copied().unwrap_or_default(), 10.0);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl Latency {
    /// The quantiles of what was seen.
    pub fn of(histogram: &Histogram) -> Self {
        let ms = |latency: std::time::Duration| round(latency.as_secs_f64() * 1_000.0, 10_000.0);
        Self {
            p50: ms(histogram.quantile(0.5)),
            p90: ms(histogram.quantile(0.9)),
            p99: ms(histogram.quantile(0.99)),
            p99_9: ms(histogram.quantile(0.999)),
            max: ms(histogram.max()),
        }
    }
}

impl Used {
    /// What was used, rounded.
    pub fn of(usage: Usage) -> Self {
        let cpu_seconds = round(usage.cpu.as_secs_f64(), 100.0);
        Self { cpu_seconds, resident_bytes: usage.resident_bytes }
    }
}

/// As many digits as the figure is worth: `parts` to a whole.
pub fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::run::Tally;

    fn report() -> Report {
        let mut latency = Histogram::new();
        (1..=20).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let mut tally = Tally::of(20, latency);
        tally.events = 200;
        let used = Usage { cpu: Duration::from_millis(1_500), resident_bytes: 3 << 20 };
        let outcome = Outcome {
            tally,
            span: Duration::from_secs(2),
            rates: vec![120.0, 80.0, 90.0],
            server: Some(used),
            client: None,
        };
        Report::new("append", BTreeMap::from([("writers", 8.into())]), outcome)
    }

    #[test]
    fn figures_follow_from_the_outcome() {
        let value = serde_json::to_value(report()).unwrap();
        assert_eq!(value["requests_per_second"], 10.0);
        assert_eq!(value["events_per_second"], 100.0);
        assert_eq!(value["events_each_second"]["median"], 90.0);
        assert_eq!(value["latency_ms"]["max"], 20.0);
        assert_eq!(value["server"]["cpu_seconds"], 1.5);
        assert!(value["client"].is_null() && value.get("append_latency_ms").is_none());
        assert_eq!(value["errors"], serde_json::json!({}));
    }

    #[test]
    fn a_table_has_the_figures_and_the_errors() {
        let mut report = report();
        report.errors.insert("QUEUE_FULL".into(), 3);
        let text = report.table().to_string();
        for part in ["100/s", "90 (80 to 120)", "1.50 s (75 %), 3 MiB", "QUEUE_FULL"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(Report::print(&[report], Format::Json).is_err());
    }
}
