//! The mesh's metrics, set from its status when the metrics page is asked for.

use crate::{
    mesh::{
        node::driver::MeshHandle,
        state::{ExportState, MeshStatus},
    },
    metrics::{mesh::MeshMetrics, raise},
};

/// Sets every metric of the mesh.
pub(super) fn set(metrics: &MeshMetrics, handle: &MeshHandle, head: u64) {
    let MeshStatus { bus, rewound, exports, imports, .. } = handle.status();
    metrics.forget();
    metrics.connected.set(i64::from(bus.is_connected));
    raise(&metrics.disconnects, bus.disconnects);
    metrics.rewound.set(i64::from(rewound.is_some()));
    let is_taken = exports.iter().any(|export| export.state == ExportState::NameTaken);
    metrics.name_taken.set(i64::from(is_taken));
    for import in imports {
        let label = [import.import.as_str()];
        let (from, version) = (&import.from, import.from.version.to_string());
        let info = [label[0], &from.owner, &from.export, &version];
        metrics.import_info.with_label_values(&info).set(1);
        metrics.lag.with_label_values(&label).set(import.lag() as i64);
        metrics.import_rate.with_label_values(&label).set(import.rate_per_second as i64);
        metrics.imported.with_label_values(&label).inc_by(import.appended);
        metrics.parked_events.with_label_values(&label).set(import.aside.parked_events as i64);
        metrics.parked_streams.with_label_values(&label).set(import.aside.parked_streams as i64);
        metrics.repaired.with_label_values(&label).set(import.repair.events as i64);
        metrics.import_state.with_label_values(&[label[0], import.state.as_str()]).set(1);
        if let Some(stop) = &import.stop {
            metrics.stopped.with_label_values(&[label[0], stop.reason.as_str()]).set(1);
        }
    }
    for (import, reason, count) in handle.stops() {
        let labels = [import.as_str(), reason.as_str()];
        metrics.stops.with_label_values(&labels).inc_by(count);
    }
    for export in exports {
        let version = export.name.version.to_string();
        let labels = [export.name.export.as_str(), version.as_str()];
        metrics.export_state.with_label_values(&[labels[0], labels[1], export.state.as_str()]).set(1);
        metrics.acknowledged.with_label_values(&labels).set(export.acknowledged_seq as i64);
        metrics.published.with_label_values(&labels).inc_by(export.acknowledged_seq);
        metrics.window.with_label_values(&labels).set(export.in_flight as i64);
        metrics.export_lag.with_label_values(&labels).set(head.saturating_sub(export.position.get()) as i64);
    }
}
