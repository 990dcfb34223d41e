//! What the process and its machine give and take, in the names that dashboards use.
//!
//! Where the text format has a convention of its own (`process_*`), that name is used. Does not know where the figures
//! come from.

use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts};

use super::book::Book;

/// The phases that a node can be in, as `lifecycle` names them.
pub const PHASES: [&str; 4] = ["starting", "not_ready", "ready", "stopping"];

/// What is told of the process.
#[derive(Debug)]
pub struct NodeMetrics {
    /// 1 for the phase that the node is in, 0 for the others.
    pub phase: IntGaugeVec,
    /// Bytes of the log's segments on the disk.
    pub log_bytes: IntGauge,
    /// The log's segments.
    pub log_segments: IntGauge,
    /// Bytes free on the disk of the data directory.
    pub disk_free: IntGauge,
    /// Bytes until appends are refused.
    pub disk_headroom: IntGauge,
    /// What `limits.memory` says.
    pub memory_budget: IntGauge,
    /// Processor time of the process.
    pub cpu_seconds: Counter,
    /// Resident memory of the process.
    pub resident_bytes: IntGauge,
    /// When the process started.
    pub start_seconds: Gauge,
}

impl NodeMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let phase_help = "1 for the phase that the node is in";
        let version = env!("CARGO_PKG_VERSION");
        book.gauges("build_info", "1, with the version", &["version"]).with_label_values(&[version]).set(1);
        let process = |name: &str, help: &str| Opts::new(format!("process_{name}"), help);
        let cpu = Counter::with_opts(process("cpu_seconds_total", "Processor time in user and kernel mode"));
        let resident = IntGauge::with_opts(process("resident_memory_bytes", "Resident memory"));
        let start = Gauge::with_opts(process("start_time_seconds", "When the process started, Unix time"));
        Self {
            phase: book.gauges("phase", phase_help, &["phase"]),
            log_bytes: book.gauge("log_bytes", "Bytes of the log's segments on the disk"),
            log_segments: book.gauge("log_segments", "Segments of the log"),
            disk_free: book.gauge("disk_free_bytes", "Bytes free on the disk of the data directory"),
            disk_headroom: book.gauge("disk_headroom_bytes", "Bytes until appends are refused"),
            memory_budget: book.gauge("memory_budget_bytes", "What caches, queues and builds share"),
            cpu_seconds: book.add(cpu.expect("the name is valid")),
            resident_bytes: book.add(resident.expect("the name is valid")),
            start_seconds: book.add(start.expect("the name is valid")),
        }
    }

    /// The node is in this phase.
    pub fn set_phase(&self, now: &str) {
        for phase in PHASES {
            self.phase.with_label_values(&[phase]).set(i64::from(phase == now));
        }
    }
}
