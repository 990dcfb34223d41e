//! What people can decide about an import, given how it stands.
//!
//! Invariants: a decision names what it is about, and is refused where the import stands otherwise by now; nothing about
//! parked events is decided while they are being applied. Does not know how decisions are recorded.

use super::Inbox;
use crate::{
    event::Position,
    events::{Events, EventsError},
    limits::LIST_BYTES_MAX,
    mesh::{
        decisions::ImportDecision,
        quarantine::{ErrorPage, ImportError, ImportErrorKind},
        state::{CommandError, StopReason},
    },
};

impl Inbox {
    /// The decision to go on from the last place that both have.
    pub(in crate::mesh) fn resync(&self, reason: String) -> Result<ImportDecision, CommandError> {
        let is_stale = self.stop.as_ref().is_some_and(|stop| stop.reason == StopReason::StaleEpoch);
        let Some(matched) = self.matched.as_ref().filter(|_| is_stale) else {
            let what = "the import is not stopped for STALE_EPOCH: there is nothing to resync";
            return Err(CommandError::Precondition(what.into()));
        };
        Ok(ImportDecision::Resynced {
            generation: self.decisions.generation + 1,
            from: matched.into(),
            orphaned_log_id: self.accepted.log_id.to_string(),
            orphaned_upto: self.accepted.position.get(),
            reason,
        })
    }

    /// The decision to stand still.
    pub(in crate::mesh) fn pause(&self, reason: String) -> Result<ImportDecision, CommandError> {
        if self.decisions.is_paused {
            return Err(CommandError::Precondition("the import is paused already".into()));
        }
        Ok(ImportDecision::Paused { reason })
    }

    /// The decision to go on.
    pub(in crate::mesh) fn resume(&self, reason: String) -> Result<ImportDecision, CommandError> {
        if !self.decisions.is_paused && self.stop.is_none() {
            return Err(CommandError::Precondition("the import is neither paused nor stopped".into()));
        }
        Ok(ImportDecision::Resumed { reason })
    }

    /// The decision to pass an event by: the one that the import stands at, or the first parked one of its stream.
    pub(in crate::mesh) fn skip(
        &self,
        expect_position: Position,
        reason: String,
    ) -> Result<ImportDecision, CommandError> {
        let stands = self.stop.as_ref().filter(|stop| stop.reason == StopReason::MappingFailed);
        let (stands_at, position) = (stands.map(|stop| stop.position), expect_position.get());
        if stands_at == Some(expect_position) {
            let log_id = self.owner_log().map(|log_id| log_id.to_string()).unwrap_or_default();
            return Ok(ImportDecision::Skipped { log_id, position, parked_at: None, reason });
        }
        self.check_settled()?;
        if let Some((parked_at, log_id)) = self.quarantine.first_at(expect_position) {
            let (log_id, parked_at) = (log_id.to_string(), Some(parked_at.get()));
            return Ok(ImportDecision::Skipped { log_id, position, parked_at, reason });
        }
        let actual = stands_at.or_else(|| self.quarantine.first()).unwrap_or_default();
        Err(CommandError::OtherPosition { expected: expect_position, actual })
    }

    /// The decision to try again what could not be mapped.
    pub(in crate::mesh) fn retry(&self, reason: String) -> Result<ImportDecision, CommandError> {
        self.check_settled()?;
        let stands = self.stop.as_ref().is_some_and(|stop| stop.reason == StopReason::MappingFailed);
        if !stands && self.quarantine.first().is_none() {
            let what = "the import stands at no event and has none parked: there is nothing to retry";
            return Err(CommandError::NothingToRetry(what.into()));
        }
        Ok(ImportDecision::Retried { reason })
    }

    /// What could not be mapped: the event that the import stands at, then those set aside behind a position of this node's log.
    pub(in crate::mesh) fn errors(
        &self,
        events: &Events,
        after: Option<Position>,
        count_max: usize,
    ) -> Result<ErrorPage, EventsError> {
        let stands = self.stop.as_ref().filter(|stop| stop.reason == StopReason::MappingFailed);
        let stands = stands.filter(|_| after.is_none()).map(|stop| ImportError {
            kind: ImportErrorKind::Paused,
            position: stop.position,
            at: Position::ZERO,
            event: None,
            error: Some(stop.message.clone()),
            is_decided: false,
        });
        let limits = (count_max, LIST_BYTES_MAX);
        let page = self.quarantine.page(events, after.unwrap_or_default(), limits)?;
        let errors = stands.into_iter().chain(page.errors).collect();
        Ok(ErrorPage { errors, ..page })
    }

    fn check_settled(&self) -> Result<(), CommandError> {
        let is_due = !self.decisions.is_paused && !self.quarantine.due(&self.decisions, 1).is_empty();
        if self.late.is_over() && !is_due {
            return Ok(());
        }
        let what = "the import is applying parked events just now; look at its errors and decide again";
        Err(CommandError::Unavailable(what.into()))
    }
}
