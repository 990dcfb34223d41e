//! Who answers: what the log decided about the active version is carried out.
//!
//! Invariants: a version becomes active only when it shows everything that the one before can have shown until that moment,
//! and both are looked at under the lock under which reads look who is active; `meta.redb` is changed before, so that a
//! restart never goes back to a version that nobody reads any more; whatever does not come about is tried again, and until
//! then the version before answers. To hold up the version before is bounded in time. Does not know why something was
//! decided.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{Registry, Version};
use crate::{
    event::Position,
    limits::{FLIP_HOLD_MAX, FLIP_NEAR_EVENTS, FLIP_REST, FLIP_TRY_MAX},
    meta::MetaError,
    projection::status::Progress,
    sabotage::Sabotage,
};

/// A decision that is not carried out.
#[derive(Debug)]
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
            let rounds = join_all(pending.iter().map(|pending| self.round(pending)));
            tokio::select! {
                _ = rounds, if !pending.is_empty() => {}
                changed = turns.changed() => changed.expect("this registry has the sender"),
            }
        }
    }

    /// Carries out what can be carried out at this moment; how much of it is still to be done afterwards. For those who
    /// have no task that does.
    pub fn carry_out_now(&self) -> Result<usize, MetaError> {
        for pending in self.pending() {
            let shows = pending.candidate.status.look(|progress| pending.is_near(self.head.get(), progress));
            if pending.from == pending.to || shows {
                self.record(&pending.projection, pending.to)?;
                self.try_flip(&pending);
            }
        }
        Ok(self.pending().len())
    }

    /// One attempt: waits until the version is near, and lets it take over; rests if that does not come about.
    async fn round(self: &Arc<Self>, pending: &Pending) {
        let status = &pending.candidate.status;
        let mut seen = status.subscribe();
        let near = |progress: &Progress| pending.is_near(self.head.get(), progress);
        let is_near = pending.from == pending.to || seen.wait_for(near).await.is_ok();
        let (registry, projection, to) = (Arc::clone(self), pending.projection.clone(), pending.to);
        let recorded = tokio::task::spawn_blocking(move || registry.record(&projection, to)).await;
        let trouble = match recorded {
            Ok(Ok(())) if is_near => None,
            Ok(Ok(())) => Some("the version is gone".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble {
            let projection = &pending.projection;
            tracing::warn!(projection, version = to, trouble, "a version does not become active yet");
            return sleep(FLIP_REST).await;
        }
        if pending.from == pending.to || self.follow(pending, FLIP_TRY_MAX).await {
            return;
        }
        // Both follow the log at the same pace: the one ahead has to wait for a moment.
        if let Some(incumbent) = &pending.incumbent {
            let hold = self.hold_version(incumbent, Position::ZERO);
            let flipped =
                hold.stands(FLIP_HOLD_MAX).await.is_ok() && self.follow(pending, FLIP_HOLD_MAX).await;
            drop(hold);
            if flipped {
                return;
            }
        }
        sleep(FLIP_REST).await;
    }

    /// Tries whenever the candidate has come further, for some time. Whether there is nothing more to do.
    async fn follow(&self, pending: &Pending, wait: std::time::Duration) -> bool {
        let mut seen = pending.candidate.status.subscribe();
        let flipped = async {
            loop {
                seen.borrow_and_update();
                if self.try_flip(pending) || seen.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(wait, flipped).await.is_ok()
    }

    /// Makes a version active if it shows what the one before can have shown. Whether there is nothing more to do.
    fn try_flip(&self, pending: &Pending) -> bool {
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = projections.get_mut(&pending.projection) else {
            return true;
        };
        if found.flips != pending.turn || found.decided.active() != Some(pending.to) {
            return true;
        }
        if !found.versions.get(&pending.to).is_some_and(|version| Arc::ptr_eq(version, &pending.candidate)) {
            return true;
        }
        // Reads that look who is active do so under this lock: none is between its look and this one.
        let shown = pending.shown_before(self.head.get());
        let takes_over =
            pending.candidate.status.look(|progress| answers(progress) && progress.as_of >= shown);
        if takes_over {
            found.active = pending.to;
            found.flips += 1;
            drop(projections);
            let Pending { projection, from, to, .. } = pending;
            tracing::info!(
                projection,
                version = to,
                before = from,
                shown = shown.get(),
                "a version is active"
            );
            self.signal();
        }
        takes_over
    }

    /// What is decided and not done.
    fn pending(&self) -> Vec<Pending> {
        let projections = self.lock_projections();
        let pending = projections.iter().filter_map(|(name, found)| {
            let to = found.decided.active().unwrap_or(found.active);
            if to == found.active && found.recorded == to {
                return None;
            }
            Some(Pending {
                projection: name.clone(),
                from: found.active,
                to,
                turn: found.flips,
                incumbent: found.versions.get(&found.active).cloned(),
                // One that is not deployed is waited for: its deployment is told.
                candidate: found.versions.get(&to).cloned()?,
            })
        });
        pending.collect()
    }

    /// Tells `meta.redb` which version answers. Waits for the disk.
    fn record(&self, projection: &str, version: u32) -> Result<(), MetaError> {
        let recorded = {
            let projections = self.lock_projections();
            projections.get(projection).map(|found| found.recorded)
        };
        if recorded == Some(version) {
            return Ok(());
        }
        self.meta.set_active(projection, version)?;
        let mut projections = self.projections.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = projections.get_mut(projection) {
            found.recorded = version;
        }
        Ok(())
    }

    /// Tells everyone who waits that something is different about versions.
    pub(super) fn signal(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }
}

impl Pending {
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
