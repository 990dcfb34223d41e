//! What the mesh does, in the names that dashboards use.
//!
//! Invariant: what is no longer exported or imported is no longer told of. Does not know the mesh.

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{add, gauge, gauges};

/// Gauges of the mesh; set when the page is asked for.
#[derive(Debug)]
pub struct MeshMetrics {
    /// 1 while there is a connection to the bus.
    pub connected: IntGauge,
    /// 1 while appends are refused because the log is below what the node has published.
    pub rewound: IntGauge,
    /// Events behind the owner, by import.
    pub lag: IntGaugeVec,
    /// Events handled a second, by import.
    pub import_rate: IntGaugeVec,
    /// 1 for the state an import is in.
    pub import_state: IntGaugeVec,
    /// 1 for the reason for which an import stands still or repairs.
    pub stopped: IntGaugeVec,
    /// How often an import stopped since the node started, by reason.
    pub stops: IntGaugeVec,
    /// Events that came from the owner's log instead of the bus, by import.
    pub repaired: IntGaugeVec,
    /// 1 for the state an export is in.
    pub export_state: IntGaugeVec,
    /// Events that the bus has acknowledged, by export.
    pub acknowledged: IntGaugeVec,
    /// Messages that are published and not acknowledged, by export.
    pub window: IntGaugeVec,
    /// Positions of the log that an export has not read.
    pub export_lag: IntGaugeVec,
}

impl MeshMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let vector = |name, help, labels: &[&str]| add(registry, gauges(name, help, labels));
        let export = ["export", "version"];
        Self {
            connected: add(registry, gauge("mesh_connected", "1 while there is a connection to the bus")),
            rewound: add(
                registry,
                gauge(
                    "mesh_log_rewound",
                    "1 while appends are refused: the log is below what was published of it",
                ),
            ),
            lag: vector("mesh_import_lag_events", "Events behind the owner", &["import"]),
            import_rate: vector("mesh_import_rate", "Events handled a second", &["import"]),
            import_state: vector(
                "mesh_import_state",
                "1 for the state an import is in",
                &["import", "state"],
            ),
            stopped: vector(
                "mesh_import_stopped",
                "1 for the reason for which an import stands still or repairs",
                &["import", "reason"],
            ),
            stops: vector("mesh_import_stops", "Stops since the node started", &["import", "reason"]),
            repaired: vector("mesh_import_repaired_events", "Events that came by repair", &["import"]),
            export_state: vector(
                "mesh_export_state",
                "1 for the state an export is in",
                &["export", "version", "state"],
            ),
            acknowledged: vector("mesh_export_acknowledged", "Events that the bus has acknowledged", &export),
            window: vector("mesh_export_in_flight", "Messages published and not acknowledged", &export),
            export_lag: vector("mesh_export_lag_positions", "Positions that are not read yet", &export),
        }
    }

    /// Forgets everything that is told by name; what is there is set anew.
    pub fn forget(&self) {
        let all = [
            &self.lag,
            &self.import_rate,
            &self.import_state,
            &self.stopped,
            &self.stops,
            &self.repaired,
            &self.export_state,
            &self.acknowledged,
            &self.window,
            &self.export_lag,
        ];
        all.into_iter().for_each(|gauges| gauges.reset());
    }
}
