//! Who answers: what the log decided about the active version is carried out.
//!
//! Invariants: a version becomes active only when it shows everything that the one before can have shown until that moment,
//! and both are looked at under the lock under which reads look who is active; `meta.redb` is changed before, so that a
//! restart never goes back to a version that nobody reads any more; versions that one append made active become so at the same
//! moment; whatever does not come about is tried again, and until then the version before answers. To hold up the version before is bounded in time. Does not know why something was
//! decided.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

use futures_util::future::{join_all, select_all};
use tokio::time::{sleep, timeout};

use super::{Projection, Registry, Version};
use crate::{
    event::Position,
    limits::{FLIP_HOLD_MAX, FLIP_NEAR_EVENTS, FLIP_REST, FLIP_TRY_MAX},
    meta::MetaError,
    projection::{
        release::plan::{Due, together},
        status::Progress,
    },
    sabotage::Sabotage,
};

/// A decision that is not carried out.
#[derive(Debug, Clone)]
struct Pending {
    projection: String,
    /// It answers.
    from: u32,
    /// It is to answer; the same one where only `meta.redb` is to be told.
    to: u32,
    turn: u64,
    /// Absent where it is not deployed.
    incumbent: Option<Arc<Version>>,
    candidate: Arc<Version>,
}

impl Registry {
    /// The same with a bug built in, for simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Option<Sabotage>) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Decides what definition files want, and carries out what is decided, for as long as it is polled.
    pub async fn carry_out(self: &Arc<Self>) -> Infallible {
        tokio::select! {
            never = self.carry_out_wants() => never,
            never = self.carry_out_turns() => never,
        }
    }

    async fn carry_out_turns(self: &Arc<Self>) -> Infallible {
        let mut turns = self.turns.subscribe();
        loop {
            turns.borrow_and_update();
            let pending = self.pending();
            let rounds = join_all(pending.iter().map(|step| self.round(step)));
            tokio::select! {
                _ = rounds, if !pending.is_empty() => {}
                changed = turns.changed() => changed.expect("this registry has the sender"),
            }
        }
    }

    /// Carries out what can be carried out at this moment; how much of it is still to be done afterwards. For those who
    /// have no task that does.
    pub fn carry_out_now(&self) -> Result<usize, MetaError> {
        for step in self.pending() {
            let head = self.head.get();
            let shows =
                |pending: &Pending| pending.candidate.status.look(|progress| pending.is_near(head, progress));
            if step.iter().all(|pending| pending.is_done() || shows(pending)) {
                self.record(&step)?;
                self.try_flip(&step);
            }
        }
        Ok(self.pending().iter().map(Vec::len).sum())
    }

    /// One attempt: waits until all versions of the step are near, and lets them take over; rests if that does not come
    /// about.
    async fn round(self: &Arc<Self>, step: &[Pending]) {
        let near = join_all(step.iter().map(|pending| async move {
            let mut seen = pending.candidate.status.subscribe();
            let near = |progress: &Progress| pending.is_near(self.head.get(), progress);
            pending.is_done() || seen.wait_for(near).await.is_ok()
        }));
        let is_near = near.await.into_iter().all(|is_near| is_near);
        let (registry, recording) = (Arc::clone(self), step.to_vec());
        let recorded = tokio::task::spawn_blocking(move || registry.record(&recording)).await;
        let trouble = match recorded {
            Ok(Ok(())) if is_near => None,
            Ok(Ok(())) => Some("the version is gone".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble {
            let Pending { projection, to, .. } = &step[0];
            tracing::warn!(projection, version = to, trouble, "a version does not become active yet");
            return sleep(FLIP_REST).await;
        }
        if self.follow(step, FLIP_TRY_MAX).await {
            return;
        }
        // All follow the log at the same pace: those ahead have to wait for a moment.
        let incumbents = step.iter().filter(|pending| !pending.is_done());
        let incumbents = incumbents.filter_map(|pending| pending.incumbent.as_ref());
        let holds: Vec<_> =
            incumbents.map(|incumbent| self.hold_version(incumbent, Position::ZERO)).collect();
        if !holds.is_empty() {
            let stand = join_all(holds.iter().map(|hold| hold.stands(FLIP_HOLD_MAX))).await;
            let flipped = stand.iter().all(Result::is_ok) && self.follow(step, FLIP_HOLD_MAX).await;
            drop(holds);
            if flipped {
                return;
            }
        }
        sleep(FLIP_REST).await;
    }

    /// Tries whenever a candidate has come further, for some time. Whether there is nothing more to do.
    async fn follow(&self, step: &[Pending], wait: std::time::Duration) -> bool {
        let mut seen: Vec<_> = step.iter().map(|pending| pending.candidate.status.subscribe()).collect();
        let flipped = async {
            loop {
                for seen in &mut seen {
                    seen.borrow_and_update();
                }
                if self.try_flip(step) {
                    return;
                }
                let changes = seen.iter_mut().map(|seen| Box::pin(seen.changed()));
                if select_all(changes).await.0.is_err() {
                    return;
                }
            }
        };
        timeout(wait, flipped).await.is_ok()
    }

    /// Makes the versions of a step active if each shows what the one before can have shown. Whether there is nothing more
    /// to do.
    fn try_flip(&self, step: &[Pending]) -> bool {
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        let stands = |pending: &Pending| {
            projections.get(&pending.projection).is_some_and(|found| {
                found.flips == pending.turn
                    && found.decided.active().unwrap_or(found.active) == pending.to
                    && (found.versions.get(&pending.to))
                        .is_some_and(|version| Arc::ptr_eq(version, &pending.candidate))
            })
        };
        if !step.iter().all(stands) {
            return true;
        }
        // Reads that look who is active do so under this lock: none is between its look and this one.
        let head = self.head.get();
        let takes_over = |pending: &Pending| {
            let shown = pending.shown_before(head);
            let is_early = self.sabotage == Some(Sabotage::EarlyFlip);
            let shows = |progress: &Progress| is_early || progress.as_of >= shown;
            pending.candidate.status.look(|progress| answers(progress) && shows(progress))
        };
        if !step.iter().all(|pending| pending.is_done() || takes_over(pending)) {
            return false;
        }
        for pending in step.iter().filter(|pending| !pending.is_done()) {
            if let Some(found) = projections.get_mut(&pending.projection) {
                found.active = pending.to;
                found.flips += 1;
            }
        }
        drop(projections);
        for Pending { projection, from, to, .. } in step.iter().filter(|pending| !pending.is_done()) {
            tracing::info!(projection, version = to, before = from, "a version is active");
        }
        self.signal();
        true
    }

    /// What is decided and not done, by steps: what was decided by one append is done together.
    fn pending(&self) -> Vec<Vec<Pending>> {
        let projections = self.lock_projections();
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        let is_due = |found: &Projection| {
            let to = found.decided.active().unwrap_or(found.active);
            (to != found.active || found.recorded != to).then_some(to)
        };
        let due: Vec<_> =
            projections.iter().filter_map(|(name, found)| Some((name, found, is_due(found)?))).collect();
        let undone: Vec<_> = due
            .iter()
            .map(|(_, found, _)| Due {
                decided: &found.decided,
                answering: found.active,
                recorded: found.recorded,
            })
            .collect();
        let pending = |index: usize| {
            let (name, found, to) = due[index];
            Some(Pending {
                projection: name.clone(),
                from: found.active,
                to,
                turn: found.flips,
                incumbent: found.versions.get(&found.active).cloned(),
                // One that is not deployed is waited for, by all of its step: its deployment is told.
                candidate: found.versions.get(&to).cloned()?,
            })
        };
        let steps = together(&undone, &releases).into_iter();
        steps.filter_map(|step| step.into_iter().map(pending).collect()).collect()
    }

    /// Tells `meta.redb` which versions answer, of a step all or none. Waits for the disk.
    fn record(&self, step: &[Pending]) -> Result<(), MetaError> {
        let of_step: Vec<_> = step.iter().map(|pending| (pending.projection.as_str(), pending.to)).collect();
        let is_recorded = {
            let projections = self.lock_projections();
            let has =
                |(name, to): &(&str, u32)| projections.get(*name).is_none_or(|found| found.recorded == *to);
            of_step.iter().all(has)
        };
        if is_recorded {
            return Ok(());
        }
        self.meta.set_all_active(&of_step)?;
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        for (projection, version) in of_step {
            if let Some(found) = projections.get_mut(projection) {
                found.recorded = version;
            }
        }
        Ok(())
    }

    /// Tells everyone who waits that something is different about versions.
    pub(super) fn signal(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }
}

impl Pending {
    /// Whether it answers already, and only `meta.redb` is to be told.
    const fn is_done(&self) -> bool {
        self.from == self.to
    }

    /// At least what any unpinned read can have been shown until now.
    fn shown_before(&self, head: Position) -> Position {
        let Some(incumbent) = &self.incumbent else {
            return head;
        };
        let (floor, built) = incumbent.status.look(|seen| (seen.floor.max(seen.as_of), seen.built));
        match incumbent.store.snapshot() {
            Ok(snapshot) => snapshot.state().cursor.max(floor),
            // What was shown is published before a file is closed, but for what the end of a first build writes.
            Err(_) if built => floor,
            Err(_) => head,
        }
    }

    /// Whether the candidate could take over soon.
    fn is_near(&self, head: Position, progress: &Progress) -> bool {
        let before = match &self.incumbent {
            Some(incumbent) => incumbent.status.look(|progress| progress.as_of),
            None => head,
        };
        answers(progress) && progress.as_of.plus(FLIP_NEAR_EVENTS) >= before
    }
}

/// Whether a version can answer.
fn answers(progress: &Progress) -> bool {
    progress.open && progress.failure.is_none() && !progress.stopped
}
