//! The one list of what is wrong with a data directory: where, what it costs, and what to do about it.
//!
//! Owns the order (what is lost before what can be rebuilt, low positions first) and the remedies. Pure.

use std::path::PathBuf;

use super::Report;
use crate::{
    event::Position,
    index::RunState,
    log::{Damage, DamageKind},
};

/// Which part of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The log.
    Log,
    /// What a record holds.
    Event,
    /// A file of record offsets.
    Offsets,
    /// A file of the index.
    Index,
    /// `meta.redb`.
    Meta,
    /// The file of a projection version.
    Projection,
}

impl Part {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Event => "event",
            Self::Offsets => "offsets",
            Self::Index => "index",
            Self::Meta => "meta",
            Self::Projection => "projection",
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is part of.
    pub part: Part,
    /// The file.
    pub path: PathBuf,
    /// Where in the file, if that can be told.
    pub offset: Option<u64>,
    /// The first position it concerns.
    pub first: Option<Position>,
    /// The last such position that is known.
    pub last: Option<Position>,
    /// What was found, and what was expected.
    pub what: String,
    /// Nothing is lost: it can be made anew from what is there.
    pub rebuildable: bool,
    /// What to do.
    pub remedy: String,
}

impl Report {
    /// Whether there is nothing to say.
    pub fn is_sound(&self) -> bool {
        self.findings().is_empty()
    }

    /// Everything that is not as it should be: what is lost first.
    pub fn findings(&self) -> Vec<Finding> {
        // Record offsets that a power loss tore are no damage of the medium.
        let is_torn = |damage: &&Damage| damage.kind == DamageKind::Offsets { is_torn: true };
        let damage = self.log.damage.iter().filter(|damage| !is_torn(damage));
        let mut findings: Vec<Finding> = damage.map(|damage| self.of_log(damage)).collect();
        if self.log.repair_pending {
            findings.push(self.of_pending_repair());
        }
        findings.extend(self.events.problems.iter().map(|(position, what)| self.of_event(*position, what)));
        findings.extend(self.of_index());
        findings.extend(self.files.iter().filter_map(|file| {
            let what = file.state.as_ref().err()?.clone();
            let remedy = match file.part {
                Part::Meta => {
                    "the next start sets it aside; deploying the definitions again brings back what it held"
                }
                _ => "the next start sets it aside and rebuilds it",
            };
            Some(Finding {
                part: file.part,
                path: file.path.clone(),
                offset: None,
                first: None,
                last: None,
                what,
                rebuildable: true,
                remedy: remedy.into(),
            })
        }));
        findings.sort_by_key(|finding| (finding.rebuildable, finding.part));
        findings
    }

    /// The flags that cut the log behind the last event before its damage, if events are lost.
    pub fn cut_flags(&self) -> Option<String> {
        self.log.sound_upto?;
        let (first, last) = self.log.lost()?;
        Some(format!("--cut-from {first} --lose {}", last.get() - first.get() + 1))
    }

    /// Whether files of record offsets can be made anew.
    pub fn has_damaged_offsets(&self) -> bool {
        self.log.damage.iter().any(Damage::is_of_offsets)
    }

    fn of_log(&self, damage: &Damage) -> Finding {
        let cut = || match self.cut_flags() {
            Some(flags) => format!("put the file back from a copy, or: outrigger repair {flags}"),
            None => "put the file back from a copy".to_owned(),
        };
        let remedy = match damage.kind {
            DamageKind::Header { restorable: true } => "outrigger repair --restore-header".to_owned(),
            DamageKind::Mark { restorable: true } => "outrigger repair --restore-mark".to_owned(),
            DamageKind::Offsets { .. } => {
                "made anew when the segment is read, or: outrigger repair --rebuild-offsets".to_owned()
            }
            DamageKind::Segment
            | DamageKind::Groups
            | DamageKind::Header { .. }
            | DamageKind::Mark { .. } => cut(),
        };
        let is_sidecar = damage.is_of_offsets();
        Finding {
            part: if is_sidecar { Part::Offsets } else { Part::Log },
            path: damage.place.path.clone(),
            offset: Some(damage.place.offset),
            first: Some(damage.place.first),
            last: damage.place.last,
            what: damage.place.what.clone(),
            rebuildable: matches!(
                damage.kind,
                DamageKind::Offsets { .. }
                    | DamageKind::Header { restorable: true }
                    | DamageKind::Mark { restorable: true }
            ),
            remedy,
        }
    }

    fn of_pending_repair(&self) -> Finding {
        Finding {
            part: Part::Log,
            path: self.dir.log().join("repair"),
            offset: None,
            first: None,
            last: None,
            what: "a repair was interrupted behind its commit point".into(),
            rebuildable: true,
            remedy: "the next start finishes it; so does: outrigger repair --finish".into(),
        }
    }

    fn of_event(&self, position: Position, what: &str) -> Finding {
        let mut segments = self.log.segments.iter().rev();
        let segment = segments.find(|segment| segment.first <= position);
        Finding {
            part: Part::Event,
            path: segment.map_or_else(|| self.dir.log(), |segment| segment.path.clone()),
            offset: None,
            first: Some(position),
            last: Some(position),
            what: what.to_owned(),
            rebuildable: false,
            remedy: "its bytes are what was written, so another or a newer program wrote it: use that one"
                .into(),
        }
    }

    fn of_index(&self) -> impl Iterator<Item = Finding> {
        let rebuild = "outrigger repair --rebuild-index";
        let finding = |path: PathBuf, first: Position, last: Position, what: String| Finding {
            part: Part::Index,
            path,
            offset: None,
            first: Some(first),
            last: Some(last),
            what,
            rebuildable: true,
            remedy: rebuild.into(),
        };
        let runs = self.index.runs.iter().filter_map(move |run| match &run.state {
            RunState::Damaged(what) => Some(finding(run.path.clone(), run.first, run.last, what.clone())),
            RunState::Sound | RunState::NotCompared | RunState::Unused => None,
        });
        // Where a damaged run leaves a gap, the run says it.
        let is_known = |gap: &&(Position, Position)| {
            let damaged = |run: &&crate::index::RunVerified| matches!(run.state, RunState::Damaged(_));
            self.index.runs.iter().filter(damaged).any(|run| run.first <= gap.0 && gap.1 <= run.last)
        };
        let gaps = self.index.gaps.iter().filter(move |gap| !is_known(gap));
        let gaps = gaps.map(move |(first, last)| {
            finding(self.dir.index(), *first, *last, "no file covers these positions".into())
        });
        runs.chain(gaps).collect::<Vec<_>>().into_iter()
    }
}
