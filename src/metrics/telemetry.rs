//! What becomes of what the node tells a collector.
//!
//! Does not know how it gets there.

use prometheus::{IntCounter, IntCounterVec};

use super::book::Book;

/// Counts of the exporter.
#[derive(Debug, Clone)]
pub struct TelemetryMetrics {
    /// Spans that the collector took.
    pub spans_sent: IntCounter,
    /// Spans that nobody got, by why.
    pub spans_dropped: IntCounterVec,
    /// Exports that failed, by what was to be sent.
    pub failures: IntCounterVec,
}

impl TelemetryMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let dropped = "Spans that the collector did not get";
        let failures = "Exports over OTLP that failed";
        Self {
            spans_sent: book.counter("otlp_spans_sent_total", "Spans that the collector took"),
            spans_dropped: book.counters("otlp_spans_dropped_total", dropped, &["reason"]),
            failures: book.counters("otlp_export_failures_total", failures, &["signal"]),
        }
    }
}
