//! A model check: every order in which decisions about two projections and a release over them can be made, carried out,
//! cut by a crash, and come at the same time.
//!
//! The decisions are those of the product (`plan`, `Releases`, `Versions`); around them stands the least of a node that can
//! go wrong. Held in every state that can be reached: what is decided about a release took effect whole; its versions begin to
//! answer together, also over a crash; a version that answers, is to answer, or is named by a release, is there.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::{
    plan::{self, Due, Plan, Standing, Standings},
    *,
};
use crate::projection::versions::{Change, Versions};

const PROJECTIONS: [&str; 2] = ["a", "b"];
const VERSIONS: u32 = 2;
const RELEASE: &str = "green";

/// A rule of a node; each can be left out, to see that the check sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A version that a release names is not retired.
    SpareTheNamed,
    /// A retirement expects that nothing was decided about releases meanwhile.
    RetireExpects,
    /// A decision about a release expects that nothing was decided about its projections meanwhile.
    ReleaseExpects,
    /// What one append decided begins to answer together.
    FlipTogether,
    /// `meta.redb` is told of it in one transaction.
    RecordTogether,
    /// A promotion is taken back only where its versions are still active.
    AskWhetherMoved,
}

/// One append.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Append {
    changes: Vec<(String, Change)>,
    step: Option<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Append>,
    /// Running versions, what `meta.redb` says, and what answers, by projection.
    running: [BTreeSet<u32>; 2],
    meta: [u32; 2],
    answering: [u32; 2],
}

/// What the log says.
#[derive(Debug, Default)]
struct Decided {
    versions: [Versions; 2],
    releases: Releases,
}

fn index_of(projection: &str) -> usize {
    PROJECTIONS.iter().position(|name| *name == projection).expect("there is no other projection")
}

impl Decided {
    fn by(log: &[Append]) -> Self {
        let mut decided = Self::default();
        let mut at = 0;
        for append in log {
            for (projection, change) in &append.changes {
                at += 1;
                decided.versions[index_of(projection)].fold(Position::new(at), change);
            }
            if let Some(step) = &append.step {
                at += 1;
                decided.releases.take(Position::new(at), RELEASE.to_owned(), step.clone());
            }
        }
        decided
    }

    fn active(&self, projection: usize, answering: u32) -> u32 {
        self.versions[projection].active().unwrap_or(answering)
    }
}

impl World {
    fn new() -> Self {
        let all = || (1..=VERSIONS).collect();
        Self { log: Vec::new(), running: [all(), all()], meta: [1, 1], answering: [1, 1] }
    }

    fn next(&self, left_out: Option<Rule>, log_max: usize) -> Vec<Self> {
        let mut worlds = Vec::new();
        if self.log.len() < log_max {
            let known = Decided::by(&self.log);
            worlds.extend(self.appended(&known, None, left_out));
            if let Some((last, before)) = self.log.split_last() {
                // Somebody who looked before the last append, and appends after it.
                worlds.extend(self.appended(&Decided::by(before), Some(last), left_out));
            }
        }
        worlds.extend(self.carried_out(left_out));
        worlds.push(self.restarted());
        worlds
    }

    /// After a crash that answers which `meta.redb` names, unless the log has it as retired.
    fn restarted(&self) -> Self {
        let decided = Decided::by(&self.log);
        let answers = |index: usize| {
            let is_gone = decided.versions[index].retired(self.meta[index]).is_some();
            if is_gone { decided.active(index, self.meta[index]) } else { self.meta[index] }
        };
        Self { answering: [answers(0), answers(1)], ..self.clone() }
    }

    /// What may be decided by who knows so much, unless what it expects has been changed by the append that came between.
    fn appended(&self, known: &Decided, between: Option<&Append>, left_out: Option<Rule>) -> Vec<Self> {
        let mut found = Vec::new();
        for (index, projection) in PROJECTIONS.iter().enumerate() {
            for (change, rests_on_releases) in self.changes(known, index, left_out) {
                let moved = between.is_some_and(|append| {
                    let by_release = rests_on_releases && left_out != Some(Rule::RetireExpects);
                    append.changes.iter().any(|(name, _)| name == projection)
                        || (by_release && append.step.is_some())
                });
                if !moved {
                    found.push(Append { changes: vec![((*projection).to_owned(), change)], step: None });
                }
            }
        }
        for (plan, rests_on) in self.plans(known, left_out) {
            let moved = between.is_some_and(|append| {
                let touches = |(name, _): &(String, Change)| rests_on.contains(name);
                let on_projections =
                    left_out != Some(Rule::ReleaseExpects) && append.changes.iter().any(touches);
                append.step.is_some() || on_projections
            });
            if !moved {
                found.push(Append { changes: plan.changes, step: Some(plan.step) });
            }
        }
        found.into_iter().map(|append| self.with(append)).collect()
    }

    /// What may be decided about one projection, and whether that rests on what releases name.
    fn changes(&self, known: &Decided, index: usize, left_out: Option<Rule>) -> Vec<(Change, bool)> {
        let (decided, active) = (&known.versions[index], known.active(index, self.answering[index]));
        let mut changes = Vec::new();
        for version in 1..=VERSIONS {
            changes.push((Change::Restore { version }, false));
            if self.running[index].contains(&version) {
                changes.push((Change::Promote { version, from: Some(active) }, false));
                let is_named = left_out != Some(Rule::SpareTheNamed)
                    && known.releases.naming(PROJECTIONS[index], version).is_some();
                if version != self.answering[index] && !is_named {
                    let definition_hash = [version as u8; 32];
                    changes.push((Change::Retire { version, definition_hash, active }, true));
                }
            }
        }
        if let Some(version) = decided.before() {
            changes.push((Change::RollBack { version, from: active }, false));
        }
        changes.retain(|(change, _)| decided.check(change).is_ok());
        changes
    }

    /// What may be decided about the release, and the projections that it rests on.
    fn plans(&self, known: &Decided, left_out: Option<Rule>) -> Vec<(Plan, BTreeSet<String>)> {
        let standing = |(index, projection): (usize, &&'static str)| {
            let active = known.active(index, self.answering[index]);
            (*projection, Standing { decided: &known.versions[index], active })
        };
        let mut standings: Standings<'_> = PROJECTIONS.iter().enumerate().map(standing).collect();
        let only = |step| Plan { step, changes: Vec::new(), turns: Vec::new() };
        let mut plans = Vec::new();
        for (a, b) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let versions: Bound = [("a".to_owned(), a), ("b".to_owned(), b)].into();
            let is_there = self.running[0].contains(&a) && self.running[1].contains(&b);
            if let Some(step) = plan::apply(&versions, &standings).ok().filter(|_| is_there) {
                plans.push(only(step));
            }
        }
        let Some(release) = known.releases.get(RELEASE) else {
            return plans.into_iter().map(|plan| (plan, both())).collect();
        };
        plans.extend(plan::promote(release, &standings).ok().filter(|plan| !plan.changes.is_empty()));
        if left_out == Some(Rule::AskWhetherMoved)
            && let Some(promotion) = &release.promotion
        {
            // It believes that the versions of the promotion are active.
            for (projection, version) in &promotion.versions {
                let standing = standings.get_mut(projection.as_str()).expect("there is no other projection");
                standing.active = *version;
            }
            let change = |(projection, version): (&String, &u32)| {
                let from = promotion.versions[projection];
                (projection.clone(), Change::Promote { version: *version, from: Some(from) })
            };
            let changes = promotion.from.iter().map(change).collect();
            plans.push(Plan { step: Step::RolledBack(promotion.from.clone()), changes, turns: Vec::new() });
        } else {
            plans.extend(plan::roll_back(release, &standings).ok());
        }
        let of_release = |plan: Plan| {
            let rests_on = match &plan.step {
                Step::RolledBack(versions) => versions.keys().cloned().collect(),
                _ => both(),
            };
            (plan, rests_on)
        };
        let mut plans: Vec<_> = plans.into_iter().map(of_release).collect();
        plans.push((only(Step::Removed), BTreeSet::new()));
        plans
    }

    fn with(&self, append: Append) -> Self {
        let mut world = self.clone();
        for (projection, change) in &append.changes {
            let running = &mut world.running[index_of(projection)];
            match change {
                Change::Retire { version, .. } => running.remove(version),
                Change::Restore { version } => running.insert(*version),
                _ => continue,
            };
        }
        world.log.push(append);
        world
    }

    /// The next things to do about what is decided: `meta.redb` is told before another version answers.
    fn carried_out(&self, left_out: Option<Rule>) -> Vec<Self> {
        let decided = Decided::by(&self.log);
        let mut worlds = Vec::new();
        for first in 0..2 {
            let due = |index: usize| Due {
                decided: &decided.versions[index],
                answering: self.answering[index],
                recorded: self.meta[index],
            };
            let steps = plan::together(&[due(0), due(1)], &decided.releases);
            let together = |rule| -> Vec<usize> {
                let step = steps.iter().find(|step| step.contains(&first)).filter(|_| left_out != Some(rule));
                step.map_or(vec![first], Clone::clone)
            };
            let active = |index: usize| decided.active(index, self.answering[index]);
            let mut recorded = self.clone();
            for index in together(Rule::RecordTogether) {
                recorded.meta[index] = active(index);
            }
            let mut flipped = self.clone();
            let is_recorded =
                together(Rule::RecordTogether).iter().all(|index| self.meta[*index] == active(*index));
            for index in together(Rule::FlipTogether).into_iter().filter(|_| is_recorded) {
                flipped.answering[index] = active(index);
            }
            worlds.extend([recorded, flipped].into_iter().filter(|world| world != self));
        }
        worlds
    }

    /// What is wrong with it, in words.
    fn check(&self) -> Result<(), String> {
        let decided = Decided::by(&self.log);
        for (index, projection) in PROJECTIONS.iter().enumerate() {
            let mut needed = vec![("answers", self.answering[index])];
            needed.push(("is to answer", decided.active(index, self.answering[index])));
            let named = decided.releases.get(RELEASE).and_then(|release| release.versions.get(*projection));
            needed.extend(named.map(|version| ("is named", *version)));
            for (what, version) in needed {
                let is_retired = decided.versions[index].retired(version).is_some();
                if is_retired || !self.running[index].contains(&version) {
                    return Err(format!(
                        "version {version} of {projection} {what} and is not there: {self:?}"
                    ));
                }
            }
        }
        if let Some(Append {
            step: Some(Step::Promoted { versions, .. } | Step::RolledBack(versions)), ..
        }) = self.log.last()
        {
            let is_active = |(name, version): (&String, &u32)| {
                decided.versions[index_of(name)].active() == Some(*version)
            };
            if !versions.iter().all(is_active) {
                return Err(format!("decided by half: {self:?}"));
            }
        }
        if !self.answers_whole() {
            return Err(format!("answers by half: {self:?}"));
        }
        Ok(())
    }

    /// Whether what answers is what was decided at some time: each projection on its own, but for what one append decided.
    fn answers_whole(&self) -> bool {
        let active_after = |appends: usize| {
            let decided = Decided::by(&self.log[..appends]);
            [decided.active(0, 1), decided.active(1, 1)]
        };
        let active: Vec<_> = (0..=self.log.len()).map(active_after).collect();
        let is_split = |upto: [usize; 2]| {
            let of_both = self.log.iter().enumerate().filter(|(_, append)| append.changes.len() == 2);
            of_both.into_iter().any(|(at, _)| (upto[0] > at) != (upto[1] > at))
        };
        let answers = |index: usize| {
            let answering = self.answering[index];
            let of = active.iter().enumerate().filter(move |(_, active)| active[index] == answering);
            of.map(|(upto, _)| upto)
        };
        answers(0).any(|a| answers(1).any(|b| !is_split([a, b])))
    }
}

fn both() -> BTreeSet<String> {
    PROJECTIONS.iter().map(|name| (*name).to_owned()).collect()
}

/// Goes through all worlds that can be reached; how many these are, or what is wrong with one.
fn explore(left_out: Option<Rule>, log_max: usize) -> Result<usize, String> {
    let mut seen = HashSet::from([World::new()]);
    let mut waiting = VecDeque::from([World::new()]);
    while let Some(world) = waiting.pop_front() {
        world.check()?;
        for next in world.next(left_out, log_max) {
            if seen.insert(next.clone()) {
                waiting.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn a_release_is_whole_in_every_state_that_can_be_reached() {
    let states = explore(None, 4).unwrap();
    assert!(states > 10_000, "{states}");
}

#[test]
fn a_rule_that_is_left_out_is_seen() {
    let wrong = [
        (Rule::SpareTheNamed, "is named and is not there"),
        (Rule::RetireExpects, "is named and is not there"),
        (Rule::ReleaseExpects, "by half"),
        (Rule::FlipTogether, "by half"),
        (Rule::RecordTogether, "by half"),
        (Rule::AskWhetherMoved, "by half"),
    ];
    for (rule, expected) in wrong {
        let found = explore(Some(rule), 4).expect_err(expected);
        assert!(found.contains(expected), "{rule:?}: {found}");
    }
}
