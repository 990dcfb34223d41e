//! What versions of projections do, in the names that dashboards use.
//!
//! Invariant: labels are names and versions that are deployed; of a version that is retired nothing is told any more.
//! Does not know projections.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::book::Book;

/// What versions of projections do, each by projection and version.
#[derive(Debug)]
pub struct ProjectionMetrics {
    /// The last applied position, by projection and version.
    pub position: IntGaugeVec,
    /// Events between a version and the head, by projection and version.
    pub lag: IntGaugeVec,
    /// Events applied since the node started, by projection and version.
    pub applied: IntCounterVec,
    /// Events that could not be applied since the node started, by projection and version.
    pub errors: IntCounterVec,
    /// Seconds that queries took, by the projection and version that answered.
    pub query_seconds: HistogramVec,
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
    pub(super) fn new(book: &mut Book) -> Self {
        let version = ["projection", "version"];
        let mut of_versions = |name, help| book.gauges(name, help, &version);
        let position = of_versions("projection_position", "Last applied position");
        let lag = of_versions("projection_lag_events", "Events behind the head");
        let paused = of_versions("projection_paused", "1 while a version stands at an event");
        let parked = of_versions("projection_parked_events", "Events that are parked");
        let skipped = of_versions("projection_skipped_events", "Events that were ever skipped");
        let last_error = of_versions(
            "projection_last_error_position",
            "The last event that could not be applied, 0: none",
        );
        let counted = ["projection", "version", "count"];
        let handler_help = "Workers of handlers, and what became of their events";
        let state = ["projection", "version", "state"];
        let mut of_projections = |name, help| book.gauges(name, help, &["projection"]);
        let active = of_projections("projection_active_version", "The version that answers");
        let taking_over_help = "1 while the version that is to be active does not answer yet";
        let taking_over = of_projections("projection_taking_over", taking_over_help);
        let turns = of_projections("projection_turns", "Promotes and rollbacks that were decided");
        let applied = "Events applied since the node started";
        let errors = "Events that could not be applied since the node started";
        let query_help = "Seconds that queries took which returned an answer";
        Self {
            applied: book.counters("projection_applied_events_total", applied, &version),
            errors: book.counters("projection_errors_total", errors, &version),
            query_seconds: book.histograms("query_seconds", query_help, (0.000_02, 2.5, 14), &version),
            handler: book.gauges("projection_handler", handler_help, &counted),
            state: book.gauges("projection_state", "1 for the state a version is in", &state),
            position,
            lag,
            paused,
            parked,
            skipped,
            last_error,
            active,
            taking_over,
            turns,
        }
    }

    /// A query was answered by this version.
    pub fn answered(&self, projection: &str, version: u32, took: Duration) {
        let version = version.to_string();
        self.query_seconds.with_label_values(&[projection, &version]).observe(took.as_secs_f64());
    }

    /// A version is gone: nothing is told of it any more.
    pub fn forget(&self, projection: &str, version: u32) {
        let version = version.to_string();
        let labels = [projection, version.as_str()];
        let of_versions =
            [&self.position, &self.lag, &self.paused, &self.parked, &self.skipped, &self.last_error];
        // An error means that there was nothing.
        for gauge in of_versions {
            drop(gauge.remove_label_values(&labels));
        }
        for counter in [&self.applied, &self.errors] {
            drop(counter.remove_label_values(&labels));
        }
        drop(self.query_seconds.remove_label_values(&labels));
    }
}
