//! What a decision about a release decides about each of its projections: pure.
//!
//! Invariants: a plan names a change for every projection that has to change, or there is no plan; carried out by one append
//! that expects what it rests on to be unchanged, it takes effect whole. Does not know which versions are deployed or ready.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bound, Promotion, Release, Releases, Step};
use crate::{
    event::Position,
    projection::versions::{Change, Refused, Versions},
};

/// What is decided about a projection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'d> {
    /// The decisions.
    pub(crate) decided: &'d Versions,
    /// The version that is to be active.
    pub(crate) active: u32,
}

/// What is known, by the names of projections.
pub(crate) type Standings<'d> = BTreeMap<&'d str, Standing<'d>>;

/// A decision that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What happens to the release.
    pub(crate) step: Step,
    /// What happens to projections, appended right before it, in this order.
    pub(crate) changes: Vec<(String, Change)>,
    /// Of each projection that it concerns: the version before, and the one that is active by it.
    pub(crate) turns: Vec<(String, u32, u32)>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unplanned {
    /// Nothing is to be taken back.
    NotPromoted,
    /// Something was decided about a projection since the release's promotion.
    Moved {
        /// The projection.
        projection: String,
        /// What the release made active.
        expected: u32,
        /// What is active.
        actual: u32,
    },
    /// A change is against the rules.
    Against {
        /// The projection.
        projection: String,
        /// The change.
        change: Change,
        /// Why.
        refused: Refused,
    },
}

/// To bind a release to these versions; else the projection and the version that is retired.
pub(crate) fn apply(versions: &Bound, standings: &Standings<'_>) -> Result<Step, (String, u32)> {
    let is_retired =
        |(name, version): &(&String, &u32)| standings[name.as_str()].decided.retired(**version).is_some();
    match versions.iter().find(is_retired) {
        Some((projection, version)) => Err((projection.clone(), *version)),
        None => Ok(Step::Applied(versions.clone())),
    }
}

/// To make all versions of a release active. Where all are, its step names none.
pub(crate) fn promote(release: &Release, standings: &Standings<'_>) -> Result<Plan, Unplanned> {
    let (mut versions, mut from) = (Bound::new(), Bound::new());
    let (mut changes, mut turns) = (Vec::new(), Vec::new());
    for (projection, version) in &release.versions {
        let Standing { decided, active } = standings[projection.as_str()];
        turns.push((projection.clone(), active, *version));
        let change = Change::Promote { version: *version, from: Some(active) };
        match decided.check(&change) {
            Ok(()) => {}
            Err(Refused::Active) => continue,
            Err(refused) => {
                return Err(Unplanned::Against { projection: projection.clone(), change, refused });
            }
        }
        versions.insert(projection.clone(), *version);
        from.insert(projection.clone(), active);
        changes.push((projection.clone(), change));
    }
    Ok(Plan { step: Step::Promoted { versions, from }, changes, turns })
}

/// To make active again what the release's promotion put away.
pub(crate) fn roll_back(release: &Release, standings: &Standings<'_>) -> Result<Plan, Unplanned> {
    let Promotion { versions, from, .. } = release.promotion.as_ref().ok_or(Unplanned::NotPromoted)?;
    let (mut changes, mut turns) = (Vec::new(), Vec::new());
    for (projection, made_active) in versions {
        let Standing { decided, active } = standings[projection.as_str()];
        if active != *made_active {
            let projection = projection.clone();
            return Err(Unplanned::Moved { projection, expected: *made_active, actual: active });
        }
        let version = from.get(projection).copied().unwrap_or(active);
        let change = if decided.before() == Some(version) {
            Change::RollBack { version, from: active }
        } else {
            Change::Promote { version, from: Some(active) }
        };
        if let Err(refused) = decided.check(&change) {
            return Err(Unplanned::Against { projection: projection.clone(), change, refused });
        }
        turns.push((projection.clone(), active, version));
        changes.push((projection.clone(), change));
    }
    Ok(Plan { step: Step::RolledBack(from.clone()), changes, turns })
}

/// A projection whose active version is decided and not, or not wholly, carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<'d> {
    /// The decisions.
    pub(crate) decided: &'d Versions,
    /// The version that answers.
    pub(crate) answering: u32,
    /// The version that answers after a restart.
    pub(crate) recorded: u32,
}

/// Which of these projections turn together, by their indexes. One that has still
/// to carry out a step of a release turns with all others that have a turn of that step, so that none is seen behind the
/// step while another is seen before it.
pub(crate) fn together(due: &[Due<'_>], releases: &Releases) -> Vec<Vec<usize>> {
    let steps = |turns: &[(Position, u32)]| -> BTreeSet<Position> {
        turns.iter().filter_map(|(at, _)| releases.step_of(*at)).collect()
    };
    let since = |due: &Due<'_>| {
        let of = |version| steps(due.decided.turns_since(version));
        &of(due.answering) | &of(due.recorded)
    };
    let ahead: Vec<_> = due.iter().map(since).collect();
    let all: Vec<_> = due.iter().map(|due| steps(due.decided.all_turns())).collect();
    let are_tied = |one: usize, other: usize| {
        !(ahead[one].is_disjoint(&all[other]) && ahead[other].is_disjoint(&all[one]))
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in 0..due.len() {
        let (tied, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.iter().any(|other| are_tied(index, *other)));
        groups = apart;
        groups.push(tied.into_iter().flatten().chain([index]).collect());
    }
    groups
}
