//! `outrigger repair`: does to a damaged data directory what its flags say, and nothing else.
//!
//! Owns the order of the steps and the checks before them. What a flag asks for must be what a verification, made a
//! moment before under the same lock, has found.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::{
    error::CliError,
    output::{Format, print_lines},
    text::to_line,
    verify::{self, failed},
};
use crate::{
    clock::{Clock as _, SystemClock},
    disk::{Disk, real::RealDisk},
    index,
    log::LogInspector,
    verify::{DataDir, Finding, Part, Report},
};

/// What `repair` takes.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    wanted: Wanted,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What is to be repaired.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "these are flags of a command line")]
struct Wanted {
    /// Finish a cut that was interrupted (the next start does so, too)
    #[arg(long)]
    finish: bool,
    /// Write headers of segments anew that follow from the segment before
    #[arg(long)]
    restore_header: bool,
    /// Write commit marks anew where all groups are good
    #[arg(long)]
    restore_mark: bool,
    /// Cut the log from this position on; loses events
    #[arg(long, value_name = "POSITION", requires = "lose")]
    cut_from: Option<u64>,
    /// How many positions the cut loses, as `verify` counts them
    #[arg(long, value_name = "COUNT", requires = "cut_from")]
    lose: Option<u64>,
    /// Make damaged files of record offsets anew
    #[arg(long)]
    rebuild_offsets: bool,
    /// Remove all files of the index; the next start builds it from the log
    #[arg(long)]
    rebuild_index: bool,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Without a flag that repairs, it prints what is wrong and which flag would do what. With flags it does what they say, if that is what \
it finds, and nothing else. A damaged file of a projection needs no repair: the next start sets it aside and rebuilds it.

A cut is the only repair that loses events. Everything that is cut, good events behind the damage too, goes to quarantine files in \
the log's directory first. Positions are used again under a new epoch: tokens and cursors of the lost stretch become invalid. \
Put the file back from a copy instead, if there is one.

Examples:
  outrigger repair --data-dir ./outrigger-data
  outrigger repair --data-dir ./outrigger-data --restore-mark
  outrigger repair --data-dir ./outrigger-data --cut-from 1201 --lose 17 --dry-run
  outrigger repair --data-dir ./outrigger-data --cut-from 1201 --lose 17
  outrigger repair --data-dir ./outrigger-data --rebuild-index

Exit codes: 0 repaired, or nothing to repair (what the next start rebuilds by itself does not count); 1 damage is left, \
or refused; 2 usage.";

/// One thing that was done.
#[derive(Debug, Serialize)]
struct Done {
    action: &'static str,
    what: String,
    files: Vec<String>,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    dry_run: bool,
    actions: &'a [Done],
    sound: bool,
}

/// Runs `repair`.
pub fn run(args: &RepairArgs, format: Format) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = DataDir::new(&args.data_dir);
    let changes = args.wanted.any() && !args.dry_run;
    let inspector = if changes {
        let holder = format!("process {} (outrigger repair)", std::process::id());
        LogInspector::lock(Arc::clone(&disk), &dir.log(), &holder)
    } else {
        LogInspector::open(Arc::clone(&disk), &dir.log())
    };
    let inspector = inspector.map_err(failed)?;
    let report = verify::look(&*disk, &dir, &inspector)?;
    if !args.wanted.any() {
        return advise(&report, format);
    }
    let mut repair = Repair { disk, dir, inspector, report, dry_run: args.dry_run, actions: Vec::new() };
    let repaired = repair.all(&args.wanted);
    // What was done is said even if the next step was refused.
    repair.print(format)?;
    repaired?;
    let left: Vec<Finding> =
        repair.report.findings().into_iter().filter(|finding| !is_left_to_a_start(finding)).collect();
    match left.first() {
        Some(first) if !args.dry_run => Err(CliError::failed(verify::in_words(first, left.len()))),
        _ => Ok(()),
    }
}

/// Whether the next start of a node makes it good by itself, as after a cut the files that are ahead of the log.
fn is_left_to_a_start(finding: &Finding) -> bool {
    match finding.part {
        Part::Offsets | Part::Index | Part::Meta | Part::Projection => finding.rebuildable,
        Part::Log | Part::Event => false,
    }
}

/// Says what is wrong and what could be done.
fn advise(report: &Report, format: Format) -> Result<(), CliError> {
    verify::print(report, None, format)?;
    match report.findings().first() {
        None => Ok(()),
        Some(_) => Err(CliError::failed("nothing was repaired; name the flags of what you want done")),
    }
}

impl Wanted {
    fn any(&self) -> bool {
        self.finish
            || self.restore_header
            || self.restore_mark
            || self.cut_from.is_some()
            || self.rebuild_offsets
            || self.rebuild_index
    }
}

/// A repair in progress.
struct Repair {
    disk: Arc<dyn Disk>,
    dir: DataDir,
    inspector: LogInspector,
    /// What there is now.
    report: Report,
    dry_run: bool,
    actions: Vec<Done>,
}

impl Repair {
    /// Does all that is wanted, in the order in which one step makes the next possible.
    fn all(&mut self, wanted: &Wanted) -> Result<(), CliError> {
        if self.report.log.repair_pending {
            if !wanted.finish {
                return Err(CliError::failed("an interrupted repair has to be finished first: add --finish"));
            }
            self.step("finish", "finished the interrupted repair".into(), |repair| {
                repair.inspector.finish_repair().map_err(failed).map(|_| Vec::new())
            })?;
        } else if wanted.finish {
            return Err(nothing("--finish", "no repair was interrupted"));
        }
        if wanted.restore_header {
            self.restore_header()?;
        }
        if wanted.restore_mark {
            self.restore_mark()?;
        }
        if let (Some(from), Some(lose)) = (wanted.cut_from, wanted.lose) {
            self.cut(from, lose)?;
        }
        if wanted.rebuild_offsets {
            let damaged = |report: &Report| report.has_damaged_offsets();
            if !damaged(&self.report) {
                return Err(nothing("--rebuild-offsets", "no file of record offsets is damaged"));
            }
            self.step("rebuild-offsets", "made record offsets anew".into(), |repair| {
                repair.inspector.rebuild_offsets(&repair.report.log).map_err(failed)
            })?;
        }
        if wanted.rebuild_index {
            let what = "removed the files of the index; the next start builds it from the log";
            self.step("rebuild-index", what.into(), |repair| {
                index::remove_index(&*repair.disk, &repair.dir.index()).map_err(failed)?;
                Ok(vec![repair.dir.index()])
            })?;
        }
        Ok(())
    }

    fn restore_header(&mut self) -> Result<(), CliError> {
        if !self.report.log.can_restore_headers() {
            return Err(nothing("--restore-header", "no header is damaged that follows from its neighbour"));
        }
        self.step("restore-header", "wrote headers of segments anew".into(), |repair| {
            repair.inspector.restore_headers(&repair.report.log).map_err(failed)
        })
    }

    fn restore_mark(&mut self) -> Result<(), CliError> {
        if !self.report.log.can_restore_marks() {
            return Err(nothing("--restore-mark", "no commit mark is damaged whose groups are all good"));
        }
        self.step("restore-mark", "wrote commit marks anew".into(), |repair| {
            repair.inspector.restore_marks(&repair.report.log).map_err(failed)
        })
    }

    /// The caller must have read what a cut costs: both numbers have to be those that were found.
    fn cut(&mut self, from: u64, lose: u64) -> Result<(), CliError> {
        if self.report.log.can_restore_headers() {
            return Err(CliError::failed("restore the header first: add --restore-header"));
        }
        let wanted = format!("--cut-from {from} --lose {lose}");
        match self.report.cut_flags() {
            Some(flags) if flags == wanted => {}
            Some(flags) => {
                let message = format!("{wanted} is not what was found; what is damaged is cut by {flags}");
                return Err(CliError::failed(message));
            }
            None => return Err(nothing("--cut-from", "no events are lost that a cut could step over")),
        }
        let what = format!("cut the log from position {from} on; {lose} positions are lost");
        self.step("cut", what, |repair| {
            let random = SystemClock.random() as u64;
            let cut = repair.inspector.cut(&repair.report.log, random).map_err(failed)?;
            Ok(cut.map(|cut| cut.quarantine).unwrap_or_default())
        })
    }

    fn step(
        &mut self,
        action: &'static str,
        what: String,
        act: impl FnOnce(&Self) -> Result<Vec<PathBuf>, CliError>,
    ) -> Result<(), CliError> {
        let files = if self.dry_run { Vec::new() } else { act(self)? };
        let files = files.iter().map(|file| file.display().to_string()).collect();
        self.actions.push(Done { action, what, files });
        if !self.dry_run {
            self.inspector.reload().map_err(failed)?;
            self.report = verify::look(&*self.disk, &self.dir, &self.inspector)?;
        }
        Ok(())
    }

    fn print(&self, format: Format) -> Result<(), CliError> {
        let sound = self.report.is_sound();
        if format == Format::Json {
            let summary = Summary { dry_run: self.dry_run, actions: &self.actions, sound };
            return print_lines(&[to_line(&summary)]);
        }
        let mut lines = Vec::new();
        for action in &self.actions {
            let would = if self.dry_run { "would have: " } else { "" };
            lines.push(format!("{would}{}", action.what));
            lines.extend(action.files.iter().map(|file| format!("    {file}")));
        }
        if !self.dry_run && sound {
            lines.push("sound".into());
        } else if !self.dry_run {
            let findings = self.report.findings();
            let left = findings.iter().filter(|finding| is_left_to_a_start(finding));
            lines.extend(left.map(|finding| format!("left to the next start: {}", verify::place(finding))));
        }
        print_lines(&lines)
    }
}

fn nothing(flag: &str, why: &str) -> CliError {
    CliError::failed(format!("{flag} has nothing to do: {why}; outrigger verify says what is wrong"))
}
