//! What the definition files want to be active: `auto_promote: when_ready`.
//!
//! Invariants: the highest version of a projection among the files is the wanted one, if its own file says so; a want is
//! carried out once: whatever is decided about the active version after the want came stands until the files want
//! something else, so a rollback by hand is not undone by the files that were there before; where a file cannot be read
//! nobody knows what the files want, and nothing changes. Decides through the same door as people (`decide`).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{MutexGuard, PoisonError},
};

use tokio::time::sleep;

use super::{DefinitionProblem, Promote, Registry, VersionsError, decide::Known};
use crate::{
    event::Position,
    limits::{DECISION_REASON_BYTES_MAX, WANT_LOOK},
    meta::MetaError,
    projection::definition::Definition,
};

/// A version that the files want to be active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    version: u32,
    /// Its file.
    file: String,
    /// Where the log ended when it came.
    since: Position,
    /// Why it cannot be carried out, as it was last told.
    told: Option<String>,
}

/// A version, the hash of its definition, and its file.
pub(super) type Wanted = (u32, [u8; 32], String);

/// What files want, for each projection that they have: the highest version, if its own file says so.
pub(super) fn wants<'d>(
    definitions: impl Iterator<Item = (&'d Definition, &'d str)>,
) -> BTreeMap<String, Option<Wanted>> {
    let mut highest: BTreeMap<&str, (&Definition, &str)> = BTreeMap::new();
    for (definition, file) in definitions {
        let entry = highest.entry(definition.name()).or_insert((definition, file));
        if definition.version() > entry.0.version() {
            *entry = (definition, file);
        }
    }
    let want = |(name, (definition, file)): (&str, (&Definition, &str))| {
        let wanted = (definition.version(), *definition.hash(), file.to_owned());
        (name.to_owned(), definition.promotes_when_ready().then_some(wanted))
    };
    highest.into_iter().map(want).collect()
}

impl Registry {
    /// Takes note of what the files want now. Of a projection that they do not have they want nothing new.
    pub(super) fn want(&self, wants: BTreeMap<String, Option<Wanted>>) -> Result<(), MetaError> {
        let mut noted = BTreeMap::new();
        for (projection, want) in wants {
            let Some((version, hash, file)) = want else {
                self.meta.clear_wanted(&projection)?;
                continue;
            };
            let since = match self.meta.wanted(&projection)? {
                Some((known, known_hash, since)) if (known, known_hash) == (version, hash) => since,
                _ => {
                    let since = self.head.get().get();
                    self.meta.set_wanted(&projection, version, &hash, since)?;
                    since
                }
            };
            noted.insert(projection, Want { version, file, since: Position::new(since), told: None });
        }
        *self.lock_wants() = noted;
        self.signal();
        Ok(())
    }

    /// Carries out what the files want, for as long as it is polled.
    pub(super) async fn carry_out_wants(&self) -> Infallible {
        let mut turns = self.turns.subscribe();
        loop {
            turns.borrow_and_update();
            let wants = self.lock_wants().clone();
            let mut waits = false;
            for (projection, want) in &wants {
                waits |= self.carry_out_want(projection, want).await;
            }
            tokio::select! {
                () = sleep(WANT_LOOK), if waits => {}
                changed = turns.changed() => changed.expect("this registry has the sender"),
            }
        }
    }

    /// Decides what is wanted, if the version is ready. Whether it is still to be done.
    async fn carry_out_want(&self, projection: &str, want: &Want) -> bool {
        let tried = self.try_want(projection, want).await;
        let why = match tried {
            Ok(()) => return false,
            // It is built, or somebody decides at the same time.
            Err(
                VersionsError::NotReady { on_its_way: true, .. }
                | VersionsError::Conflict { .. }
                | VersionsError::OtherActive { .. },
            ) => return true,
            Err(error) => error.to_string(),
        };
        let mut wants = self.lock_wants();
        if let Some(noted) = wants.get_mut(projection).filter(|noted| noted.told.as_ref() != Some(&why)) {
            let Want { version, file, .. } = want;
            tracing::warn!(projection, version, file, why, "auto_promote: the version is not promoted yet");
            noted.told = Some(why);
        }
        true
    }

    /// Decides, unless it is so, or somebody else decided since.
    async fn try_want(&self, projection: &str, want: &Want) -> Result<(), VersionsError> {
        let Known { decisions, active, .. } = self.known(projection)?;
        let decided = decisions.versions();
        if active == want.version || decided.last_turn() > want.since {
            return Ok(());
        }
        let reason = format!("auto_promote: {}", want.file);
        let reason = cut(&reason);
        if decided.before() == Some(want.version) {
            self.roll_back(projection, Some(active), reason).await?;
            return Ok(());
        }
        let promote = Promote {
            version: want.version,
            expect_active: Some(active),
            max_lag: None,
            reason: reason.to_owned(),
        };
        self.promote(projection, &promote).await.map(drop)
    }

    /// Why wants are not carried out, as problems of their files.
    pub(super) fn unmet_wants(&self) -> Vec<DefinitionProblem> {
        let wants = self.lock_wants();
        let unmet = wants.iter().filter_map(|(projection, want)| {
            let error = format!("auto_promote: {}", want.told.as_ref()?);
            Some(DefinitionProblem { file: want.file.clone(), projection: Some(projection.clone()), error })
        });
        unmet.collect()
    }

    fn lock_wants(&self) -> MutexGuard<'_, BTreeMap<String, Want>> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a reason as a decision takes.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(DECISION_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
