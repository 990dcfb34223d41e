//! Brings the gauges up to date: what others own, read when the metrics page is asked for.

use std::sync::Arc;

use crate::{append::Appender, events::Events, metrics::Metrics, projection::registry::Registry};

/// Sets every gauge from its owner.
pub(super) fn refresher(
    metrics: Arc<Metrics>,
    events: Events,
    appender: Appender,
    projections: Arc<Registry>,
) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        metrics.head_position.set(events.head().get().get() as i64);
        metrics.append_queue_bytes.set(appender.queued_bytes() as i64);
        metrics.projection_state.reset();
        for status in projections.list() {
            let version = status.version.to_string();
            let labels = [status.projection.as_str(), version.as_str()];
            metrics.projection_position.with_label_values(&labels).set(status.position.get() as i64);
            metrics.projection_lag.with_label_values(&labels).set(status.lag() as i64);
            metrics.projection_state.with_label_values(&[labels[0], labels[1], status.state.as_str()]).set(1);
        }
    })
}
