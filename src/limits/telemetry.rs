//! Bounds of what a node tells of itself, in the same form as those of `limits`.

use std::time::Duration;

/// Spans that wait for the collector; what comes beyond is dropped and counted.
pub const SPANS_QUEUED_MAX: usize = 8_192;
/// Spans in one export.
pub const SPANS_BATCH_MAX: usize = 512;
/// How often waiting spans are exported.
pub const SPANS_INTERVAL: Duration = Duration::from_millis(500);
/// Links of one span.
pub const SPAN_LINKS_MAX: usize = 32;
/// Requests of one group that get a span for their commit.
pub const COMMIT_SPANS_MAX: usize = 64;
/// How long one export may take.
pub const OTLP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long shutdown waits for what the collector has not got yet.
pub const OTLP_FLUSH_MAX: Duration = Duration::from_secs(3);
/// The least time between two warnings about a collector that takes nothing.
pub const OTLP_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// The newest warnings and errors that are kept in memory.
pub const RECENT_LINES_MAX: usize = 256;
/// Bytes of one of them.
pub const RECENT_LINE_BYTES_MAX: usize = 1_024;
/// How long a changed filter of log lines may be in force before it is taken back.
pub const LOG_FILTER_FOR_MAX: Duration = Duration::from_secs(86_400);
/// How often metrics are exported, where the configuration does not say.
pub const OTLP_METRICS_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
