//! What the node counts, in the names that dashboards use.
//!
//! Owns the registry and every metric's name. Values that others own (head, lags, states) are set by whoever renders
//! the page. Does not know HTTP.

use std::time::Duration;

use prometheus::{Encoder as _, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder};

mod book;
pub mod mesh;
pub mod node;
pub mod projections;
pub mod telemetry;

pub use book::{Described, raise};
pub use prometheus::proto::{Bucket, Metric as Series, MetricFamily, MetricType};

use book::Book;
use mesh::MeshMetrics;
use node::NodeMetrics;
use projections::ProjectionMetrics;
use telemetry::TelemetryMetrics;

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    book: Book,
    /// Append requests, by how they ended.
    pub append_requests: IntCounterVec,
    /// Those of them that ended well.
    pub append_requests_ok: IntCounter,
    /// Seconds from a request's arrival to its answer.
    pub append_seconds: Histogram,
    /// Events appended.
    pub appended_events: IntCounter,
    /// Groups written.
    pub groups: IntCounter,
    /// Events of a group.
    pub group_events: Histogram,
    /// Seconds of the sync alone.
    pub sync_seconds: Histogram,
    /// Seconds from write to durable, a group.
    pub group_seconds: Histogram,
    /// Bytes of requests that wait for the committer.
    pub append_queue_bytes: IntGauge,
    /// The visible head.
    pub head_position: IntGauge,
    /// Events sent to readers and subscribers.
    pub read_events: IntCounter,
    /// Reads that go on, of those that did not fit one message.
    pub reads: IntGauge,
    /// Subscriptions that are open.
    pub subscriptions: IntGauge,
    /// How often a subscription at the head was woken.
    pub subscription_wakeups: IntCounter,
    /// Bytes of sealed segments that were scrubbed.
    pub scrub_bytes: IntCounter,
    /// Scrubs that went through all sealed segments.
    pub scrub_passes: IntCounter,
    /// The position up to which the present scrub has come, or where the last one ended.
    pub scrub_position: IntGauge,
    /// Sealed segments that the last scrub found damaged.
    pub scrub_damaged: IntGauge,
    /// Query calls, by method and gRPC code.
    pub queries: IntCounterVec,
    /// Watches that are open.
    pub watches: IntGauge,
    /// How often a watch was woken to look at a snapshot.
    pub watch_wakeups: IntCounter,
    /// How often a watcher had to begin anew.
    pub watch_resets: IntCounter,
    /// Sizes of the index and what lookups of ids cost, by what is counted.
    pub index: IntGaugeVec,
    /// When the last backup was finished, in seconds since 1970; 0: never.
    pub last_backup: IntGauge,
    /// When the certificate in force ends, in seconds since 1970; 0 without TLS.
    pub tls_certificate_expiry: IntGauge,
    /// What versions of projections do.
    pub projections: ProjectionMetrics,
    /// What is shared with other nodes.
    pub mesh: MeshMetrics,
    /// The process and its machine.
    pub node: NodeMetrics,
    /// What becomes of traces.
    pub telemetry: TelemetryMetrics,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut book = Book::default();
        let append_requests = book.counters("append_requests_total", "Append requests", &["outcome"]);
        let append_help = "Seconds from a request's arrival to its answer; requests of a stream that came together count once";
        let commit_help = "Seconds from write to durable, a group";
        let wakeups = "How often a subscription at the head was woken";
        Self {
            append_requests_ok: append_requests.with_label_values(&["ok"]),
            append_requests,
            append_seconds: book.histogram("append_seconds", append_help, (0.000_1, 2.0, 18)),
            appended_events: book.counter("appended_events_total", "Events appended"),
            groups: book.counter("groups_total", "Groups written to the log"),
            group_events: book.histogram("group_events", "Events of a group", (1.0, 4.0, 10)),
            group_seconds: book.histogram("group_commit_seconds", commit_help, (0.000_05, 2.0, 16)),
            sync_seconds: book.histogram(
                "log_sync_seconds",
                "Seconds of a sync of the log",
                (0.000_05, 2.0, 16),
            ),
            append_queue_bytes: book.gauge("append_queue_bytes", "Bytes that wait for the committer"),
            head_position: book.gauge("head_position", "The last durable position"),
            read_events: book.counter("read_events_total", "Events sent to readers"),
            reads: book.gauge("reads", "Reads of more than one message that go on"),
            subscriptions: book.gauge("subscriptions", "Open subscriptions"),
            subscription_wakeups: book.counter("subscription_wakeups_total", wakeups),
            scrub_bytes: book.counter("scrub_bytes_total", "Bytes of sealed segments scrubbed"),
            scrub_passes: book.counter("scrub_passes_total", "Scrubs of all sealed segments"),
            scrub_position: book.gauge("scrub_position", "How far the scrub has come"),
            scrub_damaged: book.gauge("scrub_damaged_segments", "Sealed segments found damaged"),
            queries: book.counters("queries_total", "Query calls", &["method", "code"]),
            watches: book.gauge("watches", "Open watches"),
            watch_wakeups: book
                .counter("watch_wakeups_total", "How often a watch was woken to look at a snapshot"),
            watch_resets: book.counter("watch_resets_total", "How often a watcher had to begin anew"),
            index: book.gauges("index", "Sizes of the index, and lookups of ids", &["count"]),
            last_backup: book
                .gauge("last_backup_timestamp_seconds", "When the last backup was finished, 0: never"),
            tls_certificate_expiry: book
                .gauge("tls_certificate_expiry_timestamp_seconds", "When the certificate in force ends"),
            projections: ProjectionMetrics::new(&mut book),
            mesh: MeshMetrics::new(&mut book),
            node: NodeMetrics::new(&mut book),
            telemetry: TelemetryMetrics::new(&mut book),
            book,
        }
    }

    /// Counts one group that is durable.
    pub fn observe_group(&self, events: usize, synced_in: Duration) {
        self.groups.inc();
        self.appended_events.inc_by(events as u64);
        self.group_events.observe(events as f64);
        self.sync_seconds.observe(synced_in.as_secs_f64());
    }

    /// Every metric there is, also those without a series as yet.
    pub fn described(&self) -> &[Described] {
        &self.book.described
    }

    /// All series, by metric.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.book.registry.gather()
    }

    /// The page in Prometheus' text format.
    pub fn render(&self) -> String {
        text(&self.gather())
    }
}

/// Series in Prometheus' text format.
pub fn text(families: &[MetricFamily]) -> String {
    let mut page = Vec::new();
    TextEncoder::new().encode(families, &mut page).expect("a vector takes all bytes");
    String::from_utf8_lossy(&page).into_owned()
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_what_was_counted() {
        let metrics = Metrics::new();
        metrics.observe_group(3, Duration::from_millis(1));
        metrics.head_position.set(3);
        let page = metrics.render();
        assert!(page.contains("outrigger_appended_events_total 3"), "{page}");
        assert!(page.contains("outrigger_head_position 3"), "{page}");
    }
}
