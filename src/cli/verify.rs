//! `outrigger verify`: reads a whole data directory, offline, and says what is wrong with it. It changes nothing.

use std::{path::PathBuf, sync::Arc, time::Instant};

use clap::Args;

use super::{
    error::CliError,
    output::{Align, Format, Out, table},
    text::{grouped, hex, to_line},
};
use crate::{
    disk::{Disk, real::RealDisk},
    index::RunState,
    log::{DamageKind, LogInspector},
    verify::{self, DataDir, Finding, Part, Report},
};

pub mod json;
pub mod progress;

use progress::Progress;

/// What `verify` takes.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Every segment, group, record and hash of the log; every event; every file of the index, held against the log; meta.redb and \
the files of projections. Not one byte is changed. No node can be started on the directory meanwhile.

What recovery would cut after a crash (a write that was torn, never acknowledged) is reported and is no damage.

Examples:
  outrigger verify --data-dir ./outrigger-data
  outrigger verify --data-dir /var/lib/outrigger --output json

Exit codes: 0 sound, 1 damaged (the first bad segment, offset and positions are on stderr) or not readable, 2 usage.";

/// Runs `verify`.
pub fn run(args: &VerifyArgs, format: Format) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = DataDir::new(&args.data_dir);
    let began = Instant::now();
    let inspector = LogInspector::open(Arc::clone(&disk), &dir.log()).map_err(failed)?;
    let report = look(&*disk, &dir, &inspector)?;
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    print(&report, Some(seconds), format)?;
    match report.findings().first() {
        None => Ok(()),
        Some(first) => Err(CliError::failed(in_words(first, report.findings().len()))),
    }
}

/// Verifies with progress on stderr.
pub fn look(disk: &dyn Disk, dir: &DataDir, inspector: &LogInspector) -> Result<Report, CliError> {
    let mut progress = Progress::new();
    let report = verify::verify_held(disk, dir, inspector, &mut |told| progress.update(told));
    progress.finish();
    report.map_err(failed)
}

/// Any error of looking at a log.
pub fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::failed(error.to_string())
}

/// Prints a report, and how fast it was made.
pub fn print(report: &Report, seconds: Option<f64>, format: Format) -> Result<(), CliError> {
    let mut out = Out::standard();
    match format {
        Format::Json => out.line(&to_line(&json::report(report, seconds)))?,
        Format::Table => {
            summary(&mut out, report, seconds)?;
            segments(&mut out, report)?;
            findings(&mut out, report)?;
            for note in notes(report) {
                out.line(&note)?;
            }
        }
    }
    out.flush()
}

fn summary(out: &mut Out, report: &Report, seconds: Option<f64>) -> Result<(), CliError> {
    let log = &report.log;
    out.line(&format!("node       {}", report.node))?;
    out.line(&format!(
        "log        {}: positions {} to {}, {} in {}, {}, {}",
        report.log_id,
        report.first,
        log.head,
        counted(log.records, "record"),
        counted(log.groups, "group"),
        counted(log.segments.len() as u64, "segment"),
        counted(report.epochs.len() as u64, "epoch"),
    ))?;
    if let Some(chain) = &log.chain {
        out.line(&format!("chain      {}", hex(chain)))?;
    }
    let runs = &report.index.runs;
    let sound = runs.iter().filter(|run| run.state == RunState::Sound).count();
    out.line(&match runs.len() {
        0 => "index      no files; a node reads what they would hold from the log".into(),
        count => format!("index      {}, {sound} as the log says", counted(count as u64, "file")),
    })?;
    let projections = report.files.iter().filter(|file| file.part == Part::Projection);
    let good = projections.clone().filter(|file| file.state.is_ok()).count() as u64;
    let projections = counted(projections.count() as u64, "file");
    out.line(&format!("documents  {projections} of projections, {good} can be used"))?;
    let Some(seconds) = seconds else {
        return Ok(());
    };
    let mib = report.bytes as f64 / f64::from(1 << 20);
    let rate = (log.records as f64 / seconds) as u64;
    out.line(&format!(
        "read       {mib:.1} MiB in {seconds:.2} s: {:.0} MiB/s, {} events/s",
        mib / seconds,
        grouped(rate)
    ))
}

fn segments(out: &mut Out, report: &Report) -> Result<(), CliError> {
    let mut rows = table(&[
        ("segment", Align::Left),
        ("first", Align::Right),
        ("last", Align::Right),
        ("groups", Align::Right),
        ("bytes", Align::Right),
        ("", Align::Left),
    ]);
    for segment in &report.log.segments {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.add_row([
            name,
            segment.first.to_string(),
            if segment.last < segment.first { "-".into() } else { segment.last.to_string() },
            segment.groups.to_string(),
            segment.bytes.to_string(),
            if segment.is_sound { "sound".into() } else { "DAMAGED".into() },
        ]);
    }
    out.table(&rows)
}

fn findings(out: &mut Out, report: &Report) -> Result<(), CliError> {
    let findings = report.findings();
    if findings.is_empty() {
        return out.line("sound");
    }
    for finding in &findings {
        let kind = if finding.rebuildable { "can be rebuilt" } else { "LOST" };
        out.line(&format!("{} ({kind}): {}", finding.part.name(), place(finding)))?;
        out.line(&format!("    {}", finding.remedy))?;
    }
    for island in &report.log.islands {
        let path = island.path.display();
        out.line(&format!(
            "good behind damage: positions {} to {}, {path} at offset {}",
            island.first, island.last, island.offset
        ))?;
    }
    match report.log.damage_omitted {
        0 => Ok(()),
        more => out.line(&format!("and {more} damaged places of the log that are not listed")),
    }
}

/// What is no damage but worth knowing.
fn notes(report: &Report) -> Vec<String> {
    let log = &report.log;
    let mut notes = Vec::new();
    if let Some(torn) = &log.torn {
        notes.push(format!(
            "no damage: {} bytes of a torn write at offset {} of {} ({}); the next start cuts them and keeps them in quarantine",
            torn.bytes, torn.offset, torn.path.display(), torn.what
        ));
    }
    if let Some((first, last)) = log.unmarked {
        notes.push(format!(
            "no damage: positions {first} to {last} are above the commit mark; the next start writes them anew"
        ));
    }
    let torn = log.damage.iter().filter(|damage| damage.kind == DamageKind::Offsets { is_torn: true });
    notes.extend(torn.map(|damage| {
        let path = damage.place.path.display();
        format!(
            "no damage: {path}: {}; made anew when it is read, a power loss may tear it",
            damage.place.what
        )
    }));
    for (path, bytes) in &log.quarantine {
        notes.push(format!("quarantine: {} ({bytes} bytes)", path.display()));
    }
    notes.extend(log.leftovers.iter().map(|path| format!("left over: {}", path.display())));
    let unused = report.index.runs.iter().filter(|run| run.state == RunState::Unused);
    notes.extend(unused.map(|run| format!("left over: {}", run.path.display())));
    notes.extend(report.index.strangers.iter().map(|path| format!("left over: {}", path.display())));
    let not_compared = report.index.runs.iter().filter(|run| run.state == RunState::NotCompared);
    notes.extend(not_compared.map(|run| {
        format!("not held against the log, which lost some of its positions: {}", run.path.display())
    }));
    if report.events.unfollowed > 0 {
        notes.push(format!(
            "the revisions of {} events were not checked: there are more streams than fit into memory",
            grouped(report.events.unfollowed)
        ));
    }
    notes
}

/// A count with its noun.
fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Which file, where, which positions, what.
pub fn place(finding: &Finding) -> String {
    let offset = finding.offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
    let positions = match (finding.first, finding.last) {
        (Some(first), Some(last)) if last > first => format!(", positions {first} to {last}"),
        (Some(first), Some(_)) => format!(", position {first}"),
        (Some(first), None) => format!(", positions from {first} on"),
        (None, _) => String::new(),
    };
    format!("{}{offset}{positions}: {}", finding.path.display(), finding.what)
}

/// The one line of an error: the first finding, and how many there are.
pub fn in_words(first: &Finding, count: usize) -> String {
    let more = match count {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("{}{more}; {}", place(first), first.remedy)
}
