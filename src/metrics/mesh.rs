//! What the mesh does, in the names that dashboards use.
//!
//! Invariant: what is no longer exported or imported is no longer told of. Does not know the mesh.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::book::Book;

/// Gauges of the mesh; set when the page is asked for.
#[derive(Debug)]
pub struct MeshMetrics {
    /// 1 while there is a connection to the bus.
    pub connected: IntGauge,
    /// 1 while appends are refused because the log is below what the node has published.
    pub rewound: IntGauge,
    /// 1 while exports stand still because another log publishes under this node's name.
    pub name_taken: IntGauge,
    /// When the last key of this node that the trust file has goes out of force; 0: never, or none is known.
    pub key_expiry: IntGauge,
    /// How often the connection was lost.
    pub disconnects: IntCounter,
    /// 1, with whose export an import takes.
    pub import_info: IntGaugeVec,
    /// Events appended since the node started, by import.
    pub imported: IntCounterVec,
    /// Stops since the node started, by import and reason.
    pub stops: IntCounterVec,
    /// Events that the bus has acknowledged, by export.
    pub published: IntCounterVec,
    /// Events behind the owner, by import.
    pub lag: IntGaugeVec,
    /// Events handled a second, by import.
    pub import_rate: IntGaugeVec,
    /// 1 for the state an import is in.
    pub import_state: IntGaugeVec,
    /// 1 for the reason for which an import stands still or repairs.
    pub stopped: IntGaugeVec,
    /// Events that came from the owner's log instead of the bus, by import.
    pub repaired: IntGaugeVec,
    /// Events that are parked, by import.
    pub parked_events: IntGaugeVec,
    /// Streams of the owner that these belong to, by import.
    pub parked_streams: IntGaugeVec,
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
    pub(super) fn new(book: &mut Book) -> Self {
        let rewound = "1 while appends are refused: the log is below what was published of it";
        let name_taken = "1 while exports stand still: another log publishes under this node's name";
        let key_expiry =
            "When this node's key goes out of force, Unix time; 0: never, or the trust file has none of it";
        let info = "1, with the owner and the export that an import takes";
        let stopped = "1 for the reason for which an import stands still or repairs";
        let (export, reason) = (["export", "version"], ["import", "reason"]);
        Self {
            connected: book.gauge("mesh_connected", "1 while there is a connection to the bus"),
            rewound: book.gauge("mesh_log_rewound", rewound),
            name_taken: book.gauge("mesh_name_taken", name_taken),
            key_expiry: book.gauge("mesh_key_expiry_timestamp_seconds", key_expiry),
            disconnects: book.counter("mesh_disconnects_total", "Connections to the bus that were lost"),
            import_info: book.gauges("mesh_import_info", info, &["import", "owner", "export", "version"]),
            imported: book.counters("mesh_imported_events_total", "Events appended by imports", &["import"]),
            stops: book.counters("mesh_import_stops_total", "Stops since the node started", &reason),
            published: book.counters("mesh_published_events_total", "Events that the bus has taken", &export),
            lag: book.gauges("mesh_import_lag_events", "Events behind the owner", &["import"]),
            import_rate: book.gauges("mesh_import_rate", "Events handled a second", &["import"]),
            import_state: book.gauges(
                "mesh_import_state",
                "1 for the state an import is in",
                &["import", "state"],
            ),
            stopped: book.gauges("mesh_import_stopped", stopped, &reason),
            repaired: book.gauges("mesh_import_repaired_events", "Events that came by repair", &["import"]),
            parked_events: book.gauges("mesh_import_parked_events", "Events that are parked", &["import"]),
            parked_streams: book.gauges(
                "mesh_import_parked_streams",
                "Streams that parked events belong to",
                &["import"],
            ),
            export_state: book.gauges(
                "mesh_export_state",
                "1 for the state an export is in",
                &["export", "version", "state"],
            ),
            acknowledged: book.gauges(
                "mesh_export_acknowledged",
                "Events that the bus has acknowledged",
                &export,
            ),
            window: book.gauges("mesh_export_in_flight", "Messages published and not acknowledged", &export),
            export_lag: book.gauges("mesh_export_lag_positions", "Positions that are not read yet", &export),
        }
    }

    /// Forgets everything that is told by name; what is there is set anew.
    pub fn forget(&self) {
        let gauges = [
            &self.import_info,
            &self.lag,
            &self.import_rate,
            &self.import_state,
            &self.stopped,
            &self.repaired,
            &self.parked_events,
            &self.parked_streams,
            &self.export_state,
            &self.acknowledged,
            &self.window,
            &self.export_lag,
        ];
        for gauge in gauges {
            gauge.reset();
        }
        for counter in [&self.imported, &self.stops, &self.published] {
            counter.reset();
        }
    }
}
