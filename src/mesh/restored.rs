//! The first opening of a log that was restored: that it is a copy in place of a newer one becomes a decision in the log itself.
//!
//! Steps: the log begins an epoch that the original never had (`log::open`); a system event says where it begins and that what was
//! published above is given up; the mark is taken away. The event is the commit point: killed before it, the next opening does
//! all of it again; behind it, once more, which changes nothing. Does not know what outboxes make of the decision.

use std::{path::Path, sync::Arc};

use super::decisions::{ExportDecision, ExportDecisions, export_request};
use crate::{
    append::{AppendError, Appender, Intake, committer::Committer},
    clock::Clock,
    disk::Disk,
    events::{Events, EventsError},
    log::{self, LogError},
};

/// Why a restored log could not be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The log could not be read or written.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The mark could not be taken away.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log refused the decision.
    #[error("the log was restored, and that cannot be written into it: {0}; start the node again")]
    Refused(AppendError),
}

/// Appends the decision and takes the mark away. On a full disk both wait for the next opening.
pub fn accept(
    disk: &Arc<dyn Disk>,
    log_dir: &Path,
    committer: &mut Committer,
    (appender, intake): (&Appender, &Intake),
    events: &Events,
    clock: &dyn Clock,
) -> Result<(), AcceptError> {
    let mut decisions = ExportDecisions::default();
    decisions.refresh(events)?;
    let head = events.head().get();
    let epoch = events.log().epoch_at(head.next());
    let reason = "this log is a copy that was put in place of a newer one".to_owned();
    let decision = ExportDecision::Restored { epoch, head: head.get(), reason };
    let request = export_request(&decision, decisions.revision, clock.random());
    let mut answer = appender.submit(request).map_err(AcceptError::Refused)?;
    committer.step(intake)?;
    match answer.try_recv() {
        Ok(Ok(_)) => {}
        Ok(Err(error @ AppendError::DiskFull(_))) => {
            tracing::error!(%error, "the log was restored, and there is no room to say so in it; the next start does");
            return Ok(());
        }
        Ok(Err(error)) => return Err(AcceptError::Refused(error)),
        Err(_) => unreachable!("a step of the committer answers what it takes"),
    }
    log::settle_restored(disk, log_dir)?;
    tracing::warn!(
        %head, epoch,
        "this log was restored: what the original had behind this position is given up, and whoever has seen it is told (STALE_EPOCH)"
    );
    Ok(())
}
