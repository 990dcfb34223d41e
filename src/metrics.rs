//! What the node counts, in the names that dashboards use.
//!
//! Owns the registry and every metric's name. Values that others own (head, lags, states) are set by whoever renders
//! the page. Does not know HTTP.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

pub mod mesh;

use mesh::MeshMetrics;

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Append requests, by how they ended.
    pub append_requests: IntCounterVec,
    /// Those of them that ended well.
    pub append_requests_ok: IntCounter,
    /// Events appended.
    pub appended_events: IntCounter,
    /// Groups written.
    pub groups: IntCounter,
    /// Seconds from write to durable, a group.
    pub group_seconds: Histogram,
    /// Bytes of requests that wait for the committer.
    pub append_queue_bytes: IntGauge,
    /// The visible head.
    pub head_position: IntGauge,
    /// Events sent to readers and subscribers.
    pub read_events: IntCounter,
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
    /// What versions of projections do.
    pub projections: ProjectionMetrics,
    /// What is shared with other nodes.
    pub mesh: MeshMetrics,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let seconds =
            HistogramOpts::new("outrigger_group_commit_seconds", "Seconds from write to durable, a group")
                .buckets(
                    prometheus::exponential_buckets(0.000_05, 2.0, 16).expect("the bounds are positive"),
                );
        let append_requests =
            add(&registry, counters("append_requests_total", "Append requests", &["outcome"]));
        Self {
            append_requests_ok: append_requests.with_label_values(&["ok"]),
            append_requests,
            appended_events: add(&registry, counter("appended_events_total", "Events appended")),
            groups: add(&registry, counter("groups_total", "Groups written to the log")),
            group_seconds: add(&registry, Histogram::with_opts(seconds).expect("the name is valid")),
            append_queue_bytes: add(
                &registry,
                gauge("append_queue_bytes", "Bytes that wait for the committer"),
            ),
            head_position: add(&registry, gauge("head_position", "The last durable position")),
            read_events: add(&registry, counter("read_events_total", "Events sent to readers")),
            subscriptions: add(&registry, gauge("subscriptions", "Open subscriptions")),
            subscription_wakeups: add(
                &registry,
                counter("subscription_wakeups_total", "How often a subscription at the head was woken"),
            ),
            scrub_bytes: add(&registry, counter("scrub_bytes_total", "Bytes of sealed segments scrubbed")),
            scrub_passes: add(&registry, counter("scrub_passes_total", "Scrubs of all sealed segments")),
            scrub_position: add(&registry, gauge("scrub_position", "How far the scrub has come")),
            scrub_damaged: add(&registry, gauge("scrub_damaged_segments", "Sealed segments found damaged")),
            queries: add(&registry, counters("queries_total", "Query calls", &["method", "code"])),
            watches: add(&registry, gauge("watches", "Open watches")),
            watch_wakeups: add(
                &registry,
                counter("watch_wakeups_total", "How often a watch was woken to look at a snapshot"),
            ),
            watch_resets: add(
                &registry,
                counter("watch_resets_total", "How often a watcher had to begin anew"),
            ),
            index: add(&registry, gauges("index", "Sizes of the index, and lookups of ids", &["count"])),
            projections: ProjectionMetrics::new(&registry),
            mesh: MeshMetrics::new(&registry),
            registry,
        }
    }

    /// Counts one group that is durable.
    pub fn observe_group(&self, events: usize) {
        self.groups.inc();
        self.appended_events.inc_by(events as u64);
    }

    /// The page in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).expect("a vector takes all bytes");
        String::from_utf8_lossy(&page).into_owned()
    }
}

/// What versions of projections do, each by projection and version.
#[derive(Debug)]
pub struct ProjectionMetrics {
    /// The last applied position, by projection and version.
    pub position: IntGaugeVec,
    /// Events between a version and the head, by projection and version.
    pub lag: IntGaugeVec,
    /// What the handlers of versions do, by projection, version and what is counted.
    pub handler: IntGaugeVec,
    /// 1 while a version stands still before an event that it cannot apply, by projection and version.
    pub paused: IntGaugeVec,
    /// Events that a version has parked, by projection and version.
    pub parked: IntGaugeVec,
    /// Events that a version ever skipped, by projection and version.
    pub skipped: IntGaugeVec,
    /// The last event that a version could not apply, by projection and version.
    pub last_error: IntGaugeVec,
    /// 1 for the state that a version is in, by projection, version and state.
    pub state: IntGaugeVec,
    /// The version that answers, by projection.
    pub active: IntGaugeVec,
    /// 1 while a version that was decided to be active does not answer yet, by projection.
    pub taking_over: IntGaugeVec,
    /// How often another version was decided to be active, by projection.
    pub turns: IntGaugeVec,
}

impl ProjectionMetrics {
    fn new(registry: &Registry) -> Self {
        let version = ["projection", "version"];
        Self {
            position: add(registry, gauges("projection_position", "Last applied position", &version)),
            lag: add(registry, gauges("projection_lag_events", "Events behind the head", &version)),
            handler: add(
                registry,
                gauges(
                    "projection_handler",
                    "Workers of handlers, and what became of their events",
                    &["projection", "version", "count"],
                ),
            ),
            paused: add(
                registry,
                gauges("projection_paused", "1 while a version stands at an event", &version),
            ),
            parked: add(registry, gauges("projection_parked_events", "Events that are parked", &version)),
            skipped: add(
                registry,
                gauges("projection_skipped_events", "Events that were ever skipped", &version),
            ),
            last_error: add(
                registry,
                gauges(
                    "projection_last_error_position",
                    "The last event that could not be applied, 0: none",
                    &version,
                ),
            ),
            state: add(
                registry,
                gauges(
                    "projection_state",
                    "1 for the state a version is in",
                    &["projection", "version", "state"],
                ),
            ),
            active: add(
                registry,
                gauges("projection_active_version", "The version that answers", &["projection"]),
            ),
            taking_over: add(
                registry,
                gauges(
                    "projection_taking_over",
                    "1 while the version that is to be active does not answer yet",
                    &["projection"],
                ),
            ),
            turns: add(
                registry,
                gauges("projection_turns", "Promotes and rollbacks that were decided", &["projection"]),
            ),
        }
    }
}

impl ProjectionMetrics {
    /// A version is gone: nothing is told of it any more.
    pub fn forget(&self, projection: &str, version: u32) {
        let version = version.to_string();
        let labels = [projection, version.as_str()];
        let of_versions =
            [&self.position, &self.lag, &self.paused, &self.parked, &self.skipped, &self.last_error];
        for gauge in of_versions {
            // An error means that there was nothing.
            drop(gauge.remove_label_values(&labels));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("every name is registered once");
    metric
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("outrigger_{name}"), help)
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::with_opts(opts(name, help)).expect("the name is valid")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(opts(name, help), labels).expect("the names are valid")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(opts(name, help)).expect("the name is valid")
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(opts(name, help), labels).expect("the names are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_what_was_counted() {
        let metrics = Metrics::new();
        metrics.observe_group(3);
        metrics.head_position.set(3);
        let page = metrics.render();
        assert!(page.contains("outrigger_appended_events_total 3"), "{page}");
        assert!(page.contains("outrigger_head_position 3"), "{page}");
    }
}
