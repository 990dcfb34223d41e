//! A report of a verification as one JSON object. Its fields are an interface: programs read them.

use serde::Serialize;

use crate::{
    cli::text::hex,
    verify::{Finding, Report},
};

#[derive(Debug, Serialize)]
struct ReportLine {
    sound: bool,
    data_dir: String,
    node: String,
    log_id: String,
    first: u64,
    head: u64,
    records: u64,
    groups: u64,
    chain: Option<String>,
    epochs: Vec<EpochLine>,
    segments: Vec<SegmentLine>,
    index_files: usize,
    findings: Vec<FindingLine>,
    findings_omitted: u64,
    good_behind_damage: Vec<PlaceLine>,
    /// The flags of `outrigger repair` that cut the log where it is damaged.
    cut: Option<String>,
    torn: Option<TornLine>,
    unmarked: Option<[u64; 2]>,
    quarantine: Vec<String>,
    left_over: Vec<String>,
    events_unfollowed: u64,
    bytes_read: u64,
    seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct EpochLine {
    counter: u64,
    first: u64,
}

#[derive(Debug, Serialize)]
struct SegmentLine {
    file: String,
    first: u64,
    last: u64,
    groups: u64,
    bytes: u64,
    sound: bool,
}

#[derive(Debug, Serialize)]
struct FindingLine {
    part: &'static str,
    file: String,
    offset: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    what: String,
    rebuildable: bool,
    remedy: String,
}

#[derive(Debug, Serialize)]
struct PlaceLine {
    file: String,
    offset: u64,
    first: u64,
    last: u64,
}

#[derive(Debug, Serialize)]
struct TornLine {
    file: String,
    offset: u64,
    bytes: u64,
    what: String,
}

/// The object.
pub fn report(report: &Report, seconds: Option<f64>) -> impl Serialize + use<> {
    let log = &report.log;
    let epochs = report.epochs.iter();
    ReportLine {
        sound: report.is_sound(),
        data_dir: report.dir.path().display().to_string(),
        node: report.node.clone(),
        log_id: report.log_id.to_string(),
        first: report.first.get(),
        head: log.head.get(),
        records: log.records,
        groups: log.groups,
        chain: log.chain.map(|chain| hex(&chain)),
        epochs: epochs
            .map(|start| EpochLine { counter: start.epoch.counter, first: start.first.get() })
            .collect(),
        segments: segments(report),
        index_files: report.index.runs.len(),
        findings: report.findings().iter().map(finding).collect(),
        findings_omitted: log.damage_omitted,
        good_behind_damage: islands(report),
        cut: report.cut_flags(),
        torn: log.torn.as_ref().map(|torn| TornLine {
            file: torn.path.display().to_string(),
            offset: torn.offset,
            bytes: torn.bytes,
            what: torn.what.clone(),
        }),
        unmarked: log.unmarked.map(|(first, last)| [first.get(), last.get()]),
        quarantine: log.quarantine.iter().map(|(path, _)| path.display().to_string()).collect(),
        left_over: log.leftovers.iter().map(|path| path.display().to_string()).collect(),
        events_unfollowed: report.events.unfollowed,
        bytes_read: report.bytes,
        seconds,
    }
}

fn segments(report: &Report) -> Vec<SegmentLine> {
    let line = |segment: &crate::log::SegmentInfo| SegmentLine {
        file: segment.path.display().to_string(),
        first: segment.first.get(),
        last: segment.last.get(),
        groups: segment.groups,
        bytes: segment.bytes,
        sound: segment.is_sound,
    };
    report.log.segments.iter().map(line).collect()
}

fn islands(report: &Report) -> Vec<PlaceLine> {
    let line = |island: &crate::log::Stretch| PlaceLine {
        file: island.path.display().to_string(),
        offset: island.offset,
        first: island.first.get(),
        last: island.last.get(),
    };
    report.log.islands.iter().map(line).collect()
}

fn finding(finding: &Finding) -> FindingLine {
    FindingLine {
        part: finding.part.name(),
        file: finding.path.display().to_string(),
        offset: finding.offset,
        first: finding.first.map(crate::event::Position::get),
        last: finding.last.map(crate::event::Position::get),
        what: finding.what.clone(),
        rebuildable: finding.rebuildable,
        remedy: finding.remedy.clone(),
    }
}
