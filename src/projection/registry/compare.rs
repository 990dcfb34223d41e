//! Brings two versions of a projection to one position, to compare them there.
//!
//! Invariants: the one that is ahead is held where it stands while the other comes to exactly there, for a bounded time; the
//! holds are gone when the snapshots are taken, and whatever goes wrong before. Does not know how documents are compared.

use std::sync::Arc;

use super::{Registry, Version};
use crate::{
    event::Position,
    kv::KvError,
    limits::{COMPARE_LAG_MAX, COMPARE_MEET_MAX, COMPARE_STAND_MAX},
    projection::{
        compare::{CompareError, CompareQuery, Comparing, Ignored, collections},
        hold::HoldError,
        query::{QueryError, ReadOptions},
        store::Snapshot,
    },
};

impl Registry {
    /// Begins to compare two versions. One comparison runs at a time.
    pub async fn compare(&self, projection: &str, query: &CompareQuery) -> Result<Comparing, CompareError> {
        let of = |version| ReadOptions { version: Some(version), ..ReadOptions::default() };
        let left = self.resolve(projection, &of(query.left), None)?.version;
        let right = self.resolve(projection, &of(query.right), None)?.version;
        if query.left == query.right {
            let message = format!("expected another version than {0}, found {0}", query.left);
            return Err(QueryError::invalid("right", message).into());
        }
        let collections = collections(query, left.store.definition(), right.store.definition())?;
        let ignored = Ignored::new(&query.ignore)?;
        let turn = self.comparing.take().ok_or(CompareError::Busy)?;
        let snapshots = self.meet(&left, &right).await?;
        Ok(Comparing::new(snapshots, collections, ignored, turn)?)
    }

    /// Both as they are at one position.
    async fn meet(
        &self,
        left: &Arc<Version>,
        right: &Arc<Version>,
    ) -> Result<(Snapshot, Snapshot), CompareError> {
        // One that is far behind would not come in time: whoever reads the other one need not feel it.
        if let (Ok(left_seen), Ok(right_seen)) = (left.store.snapshot(), right.store.snapshot()) {
            check_near(left, right, left_seen.state().cursor, right_seen.state().cursor)?;
        }
        let mut holds = [left, right].map(|version| self.hold_version(version, Position::ZERO));
        let mut at = [Position::ZERO; 2];
        for (number, (version, other)) in [(left, right), (right, left)].into_iter().enumerate() {
            let stood = holds[number].stands(COMPARE_STAND_MAX).await;
            at[number] = stood.map_err(|error| cannot_meet(version, other, 0, &error))?;
        }
        check_near(left, right, at[0], at[1])?;
        let meeting = at[0].max(at[1]);
        for (number, (version, other)) in [(left, right), (right, left)].into_iter().enumerate() {
            if at[number] < meeting {
                let behind = meeting.get() - at[number].get();
                if holds[number].is_overruled(meeting) {
                    let why = if version.is_held() {
                        paused(version, behind)
                    } else {
                        format!("it is {behind} events behind and held there for a moment; compare again")
                    };
                    return Err(refused(version, other, behind, why));
                }
                holds[number].move_to(meeting);
                let stood = holds[number].stands(COMPARE_MEET_MAX).await;
                stood.map_err(|error| cannot_meet(version, other, behind, &error))?;
            }
        }
        let snapshots = [(left, right), (right, left)].map(|(version, other)| {
            let snapshot = version.store.snapshot();
            let moved = || HoldError::TooSlow {
                at: meeting,
                as_of: version.status.progress().as_of,
                waited: COMPARE_MEET_MAX,
            };
            match snapshot {
                Ok(snapshot) if snapshot.state().cursor == meeting => Ok(snapshot),
                // It was opened again just now.
                Ok(_) | Err(KvError::Closed) => Err(cannot_meet(version, other, 0, &moved())),
                Err(error) => Err(error.into()),
            }
        });
        drop(holds);
        let [left, right] = snapshots;
        Ok((left?, right?))
    }
}

/// Whether the one that is behind comes to the other in time.
fn check_near(
    left: &Version,
    right: &Version,
    left_at: Position,
    right_at: Position,
) -> Result<(), CompareError> {
    let (late, early, behind) = if left_at < right_at {
        (left, right, right_at.get() - left_at.get())
    } else {
        (right, left, left_at.get() - right_at.get())
    };
    if behind <= COMPARE_LAG_MAX {
        return Ok(());
    }
    let definition = late.store.definition();
    let (name, version) = (definition.name(), definition.version());
    let why = match late.status.progress().failure {
        Some(failure) => format!("it is {behind} events behind and does not move on: {failure}"),
        None if late.is_held() => paused(late, behind),
        None => format!(
            "it is {behind} events behind, at most {COMPARE_LAG_MAX} are made up for; wait until it has caught up \
             (projection show {name} --wait --version {version}), then compare again"
        ),
    };
    Err(refused(late, early, behind, why))
}

fn paused(version: &Version, behind: u64) -> String {
    let definition = version.store.definition();
    let (name, number) = (definition.name(), definition.version());
    format!(
        "it is {behind} events behind and its build is paused; let it go on (projection resume {name} {number}), then \
         compare again"
    )
}

fn cannot_meet(version: &Version, other: &Version, behind: u64, error: &HoldError) -> CompareError {
    let name = version.store.definition().name();
    let why = match error {
        HoldError::TooSlow { .. } => {
            format!(
                "{error}, {behind} events further; look at how it stands (projection show {name}), then compare again"
            )
        }
        HoldError::Failed { .. } | HoldError::Stopped => error.to_string(),
    };
    refused(version, other, behind, why)
}

fn refused(version: &Version, other: &Version, behind: u64, why: String) -> CompareError {
    CompareError::CannotMeet {
        projection: version.store.definition().name().to_owned(),
        version: version.store.definition().version(),
        other: other.store.definition().version(),
        behind,
        why,
    }
}
