//! Brings the metrics up to date: what others own, read when somebody asks for all metrics.
//!
//! Invariant: one asks at a time, so that nobody sees a metric that is being set anew.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Opened, Sharing, mesh_gauges};
use crate::{
    append::Appender,
    config::Config,
    disk::Disk,
    event::Position,
    events::Events,
    http::Gather,
    index::IndexStatus,
    lifecycle::Lifecycle,
    mesh::node::driver::MeshHandle,
    metrics::{Metrics, raise},
    process,
    projection::registry::Registry,
};

/// Those who know what is not counted where it happens.
pub(super) struct Owners {
    metrics: Arc<Metrics>,
    events: Events,
    appender: Appender,
    projections: Arc<Registry>,
    mesh: Option<MeshHandle>,
    /// When the node's key goes out of force.
    key_expiry: Arc<dyn Fn() -> Option<i64> + Send + Sync>,
    lifecycle: Lifecycle,
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    /// Below so many free bytes appends are refused.
    low_water_bytes: u64,
}

/// All metrics, as they are when it is called.
pub(super) fn gather(owners: Owners) -> Gather {
    let sealed = Mutex::new(BTreeMap::new());
    Arc::new(move || {
        let mut sealed = sealed.lock().unwrap_or_else(PoisonError::into_inner);
        owners.refresh(&mut sealed);
        owners.metrics.gather()
    })
}

impl Owners {
    /// Of a node that is being put together; what does not change any more is set here.
    pub(super) fn of(
        config: &Config,
        lifecycle: &Lifecycle,
        metrics: &Arc<Metrics>,
        opened: &Opened,
        sharing: &Sharing,
    ) -> Self {
        let node = &metrics.node;
        node.memory_budget.set(i64::try_from(config.limits.memory_bytes).unwrap_or(i64::MAX));
        node.start_seconds.set(opened.clock.now_unix_nanos() as f64 / 1e9 - lifecycle.uptime_seconds());
        Self {
            metrics: Arc::clone(metrics),
            events: opened.events.clone(),
            appender: opened.appender.clone(),
            projections: Arc::clone(&opened.projections),
            mesh: sharing.driver.as_ref().map(|driver| driver.handle().clone()),
            key_expiry: Arc::clone(&sharing.key_expiry),
            lifecycle: lifecycle.clone(),
            disk: Arc::clone(&opened.disk),
            data_dir: config.data_dir.clone(),
            low_water_bytes: config.log.low_water_bytes,
        }
    }

    /// Sets every metric from its owner. `sealed` are the sizes of segments, which do not change any more.
    fn refresh(&self, sealed: &mut BTreeMap<Position, u64>) {
        let Self { metrics, events, appender, .. } = self;
        metrics.head_position.set(events.head().get().get() as i64);
        metrics.append_queue_bytes.set(appender.queued_bytes() as i64);
        set_index(metrics, &events.index().status());
        self.set_node(sealed);
        if let Some(mesh) = &self.mesh {
            mesh_gauges::set(&metrics.mesh, mesh, events.head().get().get());
        }
        let expiry = (self.key_expiry)().map_or(0, |nanos| nanos.div_euclid(1_000_000_000));
        metrics.mesh.key_expiry.set(expiry);
        self.set_projections();
    }

    fn set_node(&self, sealed: &mut BTreeMap<Position, u64>) {
        let node = &self.metrics.node;
        node.set_phase(self.lifecycle.phase().name());
        let log = self.events.log();
        let segments = log.sealed_segments();
        sealed.retain(|first, _| segments.binary_search(first).is_ok());
        for first in &segments {
            if !sealed.contains_key(first)
                && let Ok(bytes) = log.sealed_bytes(*first)
            {
                sealed.insert(*first, bytes);
            }
        }
        let bytes = sealed.values().sum::<u64>() + log.growing_bytes().unwrap_or(0);
        node.log_bytes.set(bytes as i64);
        node.log_segments.set(segments.len() as i64 + 1);
        match self.disk.free_bytes(&self.data_dir) {
            Ok(free) => {
                node.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
                let headroom = free.saturating_sub(self.low_water_bytes);
                node.disk_headroom.set(i64::try_from(headroom).unwrap_or(i64::MAX));
            }
            Err(error) => tracing::warn!(%error, "the free space of the data directory is not known"),
        }
        if let Ok(usage) = process::usage(&*self.disk, "self") {
            node.resident_bytes.set(usage.resident_bytes as i64);
            node.cpu_seconds.inc_by((usage.cpu.as_secs_f64() - node.cpu_seconds.get()).max(0.0));
        }
    }

    fn set_projections(&self) {
        let metrics = &self.metrics.projections;
        metrics.state.reset();
        for status in self.projections.list() {
            let version = status.version.to_string();
            let labels = [status.projection.as_str(), version.as_str()];
            metrics.position.with_label_values(&labels).set(status.position.get() as i64);
            metrics.lag.with_label_values(&labels).set(status.lag() as i64);
            raise(&metrics.applied.with_label_values(&labels), status.applied);
            raise(&metrics.errors.with_label_values(&labels), status.failures);
            let counts = &status.counts;
            metrics.paused.with_label_values(&labels).set(i64::from(status.pause.is_some()));
            metrics.parked.with_label_values(&labels).set(counts.parked_events as i64);
            metrics.skipped.with_label_values(&labels).set(counts.skipped as i64);
            metrics.last_error.with_label_values(&labels).set(status.last_error().get() as i64);
            metrics.state.with_label_values(&[labels[0], labels[1], status.state.as_str()]).set(1);
        }
        for retired in self.projections.retired() {
            metrics.forget(&retired.projection, retired.version);
        }
        for active in self.projections.active() {
            let labels = [active.projection.as_str()];
            let takes_over = active.active != active.answering;
            metrics.active.with_label_values(&labels).set(active.answering.into());
            metrics.taking_over.with_label_values(&labels).set(takes_over.into());
            metrics.turns.with_label_values(&labels).set(active.turns as i64);
        }
        for handler in self.projections.handlers() {
            let version = handler.version.to_string();
            for (name, count) in handler.counts() {
                let labels = [handler.projection.as_str(), version.as_str(), name];
                metrics.handler.with_label_values(&labels).set(count as i64);
            }
        }
    }
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
