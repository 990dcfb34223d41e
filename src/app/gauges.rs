//! Brings the gauges up to date: what others own, read when the metrics page is asked for.

use std::sync::Arc;

use super::mesh_gauges;
use crate::{
    append::Appender, events::Events, index::IndexStatus, mesh::node::driver::MeshHandle, metrics::Metrics,
    projection::registry::Registry,
};

/// Sets every gauge from its owner.
pub(super) fn refresher(
    metrics: Arc<Metrics>,
    events: Events,
    appender: Appender,
    projections: Arc<Registry>,
    mesh: Option<MeshHandle>,
) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        metrics.head_position.set(events.head().get().get() as i64);
        metrics.append_queue_bytes.set(appender.queued_bytes() as i64);
        set_index(&metrics, &events.index().status());
        if let Some(mesh) = &mesh {
            mesh_gauges::set(&metrics.mesh, mesh, events.head().get().get());
        }
        metrics.projections.state.reset();
        for status in projections.list() {
            let version = status.version.to_string();
            let labels = [status.projection.as_str(), version.as_str()];
            metrics.projections.position.with_label_values(&labels).set(status.position.get() as i64);
            metrics.projections.lag.with_label_values(&labels).set(status.lag() as i64);
            let counts = &status.counts;
            metrics.projections.paused.with_label_values(&labels).set(i64::from(status.pause.is_some()));
            metrics.projections.parked.with_label_values(&labels).set(counts.parked_events as i64);
            metrics.projections.skipped.with_label_values(&labels).set(counts.skipped as i64);
            metrics.projections.last_error.with_label_values(&labels).set(status.last_error().get() as i64);
            metrics
                .projections
                .state
                .with_label_values(&[labels[0], labels[1], status.state.as_str()])
                .set(1);
        }
        for retired in projections.retired() {
            metrics.projections.forget(&retired.projection, retired.version);
        }
        for active in projections.active() {
            let labels = [active.projection.as_str()];
            let takes_over = active.active != active.answering;
            metrics.projections.active.with_label_values(&labels).set(active.answering.into());
            metrics.projections.taking_over.with_label_values(&labels).set(takes_over.into());
            metrics.projections.turns.with_label_values(&labels).set(active.turns as i64);
        }
        for handler in projections.handlers() {
            let version = handler.version.to_string();
            for (name, count) in handler.counts() {
                let labels = [handler.projection.as_str(), version.as_str(), name];
                metrics.projections.handler.with_label_values(&labels).set(count as i64);
            }
        }
    })
}

fn set_index(metrics: &Metrics, status: &IndexStatus) {
    let filter_bits = status.filter_bytes * 8;
    let counts = [
        ("runs", status.runs as u64),
        ("run_bytes", status.run_bytes),
        ("resident_bytes", status.resident_bytes as u64),
        ("unwritten_parts", status.unwritten_parts as u64),
        ("active_events", status.active_events.into()),
        ("cached_heads", status.cached_heads as u64),
        ("filter_bytes", status.filter_bytes),
        ("filter_bits_per_key", filter_bits.checked_div(status.filter_keys).unwrap_or(0)),
        ("filter_lookups", status.filter_lookups),
        ("filter_probes", status.filter_probes),
        ("filter_passes", status.filter_passes),
    ];
    for (name, count) in counts {
        metrics.index.with_label_values(&[name]).set(count as i64);
    }
}
