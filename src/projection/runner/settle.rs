//! What becomes of an event that a version cannot apply, and of those that were set aside when somebody decides.
//!
//! Owns how policies and decisions are carried out. Invariants: an event is applied, parked, skipped, or not passed;
//! ledger, documents and cursor change in one batch. While a version runs, parked events are tried again where the decision
//! stands in the log, so that a rebuild does the same; a version that stands still because too many are parked does it where
//! it stands. Does not know how batches are committed.

use bytes::Bytes;

use super::{Runner, Trouble};
use crate::{
    event::{Invalid, Position, RecordedEvent, StreamId},
    events::EventsError,
    json::Json,
    limits::PARKED_EVENTS_MAX,
    projection::{
        batch::Batch,
        decisions::Decision,
        declarative::ApplyError,
        failure::{Failure, OnError, Pause},
        ledger::Skipped,
    },
};

impl Runner {
    /// Takes the record behind the cursor: its event is applied, or what a decision or the policy says is done. On
    /// `Trouble::Event` the version stands before it.
    pub(super) fn take_record(
        &mut self,
        batch: &mut Batch,
        position: Position,
        payload: Bytes,
    ) -> Result<(), Trouble> {
        if self.pass_by(batch, position) {
            return Ok(());
        }
        let event = RecordedEvent::decode(position, payload)
            .map_err(|error| Trouble::undecodable(position, &error))?;
        self.note(&event);
        if self.decisions.concern(&event.event) {
            self.learn_decisions(position)?;
        }
        self.take(batch, &event, None)
    }

    /// The same with an event, whose data may be read already; decisions up to it are known.
    pub(super) fn take(
        &self,
        batch: &mut Batch,
        event: &RecordedEvent,
        data: Option<Result<Json, Invalid>>,
    ) -> Result<(), Trouble> {
        if self.pass_by(batch, event.position) {
            return Ok(());
        }
        if self.decisions.concern(&event.event) {
            self.come_to(batch, event)?;
        }
        if batch.ledger().is_parked(&event.event.stream)
            && self.store.definition().handles(event.event.event_type.as_str())
        {
            return Ok(self.park(batch, event, None)?);
        }
        let applied = match data {
            None => batch.apply(event),
            Some(Ok(data)) => batch.apply_parsed(event, &data),
            Some(Err(invalid)) => Err(ApplyError::Content(invalid).into()),
        };
        match applied {
            Ok(()) => Ok(()),
            Err(error) => self.set_aside(batch, event, Failure::of(error)?),
        }
    }

    /// Passes the event behind the cursor by if that is decided, whatever it is.
    pub(super) fn pass_by(&self, batch: &mut Batch, position: Position) -> bool {
        let Some(skip) = self.decisions.skip_of(self.store.definition().version(), position) else {
            return false;
        };
        batch.ledger_mut().skip(position, Skipped::by(skip, None));
        batch.pass(position);
        true
    }

    /// The event behind the cursor cannot be applied, whoever says so: does what a decision or the policy says.
    pub(super) fn set_aside(
        &self,
        batch: &mut Batch,
        event: &RecordedEvent,
        failure: Failure,
    ) -> Result<(), Trouble> {
        let (definition, position) = (self.store.definition(), event.position);
        self.status.count_failure();
        let skipped = match self.decisions.skip_of_failing(definition.version(), position) {
            Some(skip) => Skipped::by(skip, Some(failure)),
            None => match definition.on_error() {
                OnError::Pause => return Err(stop(position, failure)),
                OnError::Quarantine => return Ok(self.park(batch, event, Some(failure))?),
                OnError::Skip => Skipped::by_policy(failure),
            },
        };
        batch.ledger_mut().skip(position, skipped);
        batch.pass(position);
        Ok(())
    }

    pub(super) fn park(
        &self,
        batch: &mut Batch,
        event: &RecordedEvent,
        failure: Option<Failure>,
    ) -> Result<(), Box<Pause>> {
        if !batch.ledger().has_room() {
            let what = failure.map_or_else(
                || format!("it waits behind an event of stream {} that is parked", event.event.stream),
                |failure| failure.message,
            );
            let message = format!(
                "{what}; it cannot be parked, since {PARKED_EVENTS_MAX} events are, which is the most; retry or skip these first"
            );
            let failure = Failure::new(message);
            return Err(Box::new(Pause { position: event.position, failure }));
        }
        let collections = self.store.definition().touches(event.event.event_type.as_str());
        batch.ledger_mut().park(event, failure, collections);
        batch.pass(event.position);
        Ok(())
    }

    /// The log has come to an event of this projection's decisions, which is known: carries it out.
    fn come_to(&self, batch: &mut Batch, event: &RecordedEvent) -> Result<(), Trouble> {
        let version = self.store.definition().version();
        match Decision::read(&event.event).map_err(|invalid| Trouble::Log(invalid.to_string()))? {
            Some(Decision::EventSkipped { version: of, position, .. })
                if of.is_none_or(|of| of == version) =>
            {
                self.skip_parked(batch, position, event.position)
            }
            Some(Decision::Retried { version: of, .. }) if of == version => {
                self.release_all(batch, event.position)
            }
            _ => Ok(()),
        }
    }

    /// A parked event was decided to be skipped: takes it out and applies what waited behind it, late.
    fn skip_parked(&self, batch: &mut Batch, position: Position, at: Position) -> Result<(), Trouble> {
        match self.take_out_skipped(batch, position) {
            Some(stream) => self.release(batch, &stream, at),
            None => Ok(()),
        }
    }

    /// Takes a parked event out if it was decided to be skipped; gives its stream if it was the first of it.
    pub(super) fn take_out_skipped(&self, batch: &mut Batch, position: Position) -> Option<StreamId> {
        let version = self.store.definition().version();
        let is_parked = batch.ledger().parked_at(position);
        let skip = self.decisions.skip_of_failing(version, position).filter(|_| is_parked)?;
        let failure = batch.ledger().failure_at(position).cloned();
        let was_first = batch.ledger_mut().unpark(position);
        batch.ledger_mut().skip(position, Skipped::by(skip, failure));
        was_first
    }

    /// The same for a version of a service that stands still, where nobody takes what waits behind: that stays parked, and
    /// its first event says so.
    fn skip_standing(&self, batch: &mut Batch, position: Position) -> Result<(), Trouble> {
        let stream = self.take_out_skipped(batch, position);
        let Some(first) = stream.and_then(|stream| batch.ledger().first_of(&stream)) else {
            return Ok(());
        };
        let event = self.read_parked(first)?;
        let failure = Failure::new(format!(
            "it was not tried: the event at position {position} was skipped while the version stood still; retry it"
        ));
        let collections = self.store.definition().touches(event.event.event_type.as_str());
        batch.ledger_mut().park(&event, Some(failure), collections);
        Ok(())
    }

    fn read_parked(&self, position: Position) -> Result<RecordedEvent, Trouble> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Trouble::Log(format!("reading the parked event at position {position}: {error}"))
        };
        let payload = self.reader.read(position).map_err(|error| unreadable(&error))?;
        let payload = payload.ok_or_else(|| unreadable(&"it is not in the log"))?;
        RecordedEvent::decode(position, payload).map_err(|error| unreadable(&error))
    }

    /// Tries all parked events again, stream by stream.
    fn release_all(&self, batch: &mut Batch, at: Position) -> Result<(), Trouble> {
        let streams = batch.ledger().parked_streams();
        streams.iter().try_for_each(|stream| self.release(batch, stream, at))
    }

    /// Applies the parked events of a stream in order, up to one that still cannot be; documents count as changed at `at`.
    fn release(&self, batch: &mut Batch, stream: &StreamId, at: Position) -> Result<(), Trouble> {
        while let Some(position) = batch.ledger().first_of(stream) {
            let event = self.read_parked(position)?;
            match batch.apply_late(&event, at) {
                Ok(()) => {
                    batch.ledger_mut().unpark(position);
                }
                Err(error) => {
                    let failure = Failure::of(error)?;
                    let collections = self.store.definition().touches(event.event.event_type.as_str());
                    batch.ledger_mut().park(&event, Some(failure), collections);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A version that stands still at `paused_at` looks again: whether a decision or a try that was asked for takes it on.
    pub(super) fn resume(&mut self, batch: &mut Batch, paused_at: Position) -> Result<bool, Trouble> {
        self.refresh_decisions()?;
        let version = self.store.definition().version();
        self.trying = self.trying.or_else(|| self.status.control().begin_try());
        let was_full = !batch.ledger().has_room();
        if was_full {
            // What makes room here lets the version get past `paused_at`, so that all of it is in one commit.
            let parked: Vec<Position> = batch.ledger().parked().collect();
            for position in parked {
                match self.decisions.skip_of_failing(version, position) {
                    None => {}
                    Some(_) if self.feed.is_some() => self.skip_standing(batch, position)?,
                    Some(_) => self.skip_parked(batch, position, paused_at)?,
                }
            }
            if self.trying.is_some() && self.feed.is_none() {
                self.release_all(batch, paused_at)?;
            }
        }
        let decided = self.decisions.skip_of_failing(version, paused_at).is_some();
        let has_room_now = was_full && batch.ledger().has_room();
        Ok(decided || has_room_now || self.trying.is_some())
    }

    /// Learns of all decisions up to the visible head.
    pub(super) fn refresh_decisions(&mut self) -> Result<(), Trouble> {
        self.learn_decisions(self.head.get())
    }

    pub(super) fn learn_decisions(&mut self, upto: Position) -> Result<(), Trouble> {
        let refreshed = self.decisions.refresh(&self.events, upto);
        refreshed.map_err(|error: EventsError| Trouble::Log(format!("reading decisions: {error}")))
    }

    /// Stands still before an event until somebody decides.
    pub(super) fn pause(&mut self, pause: Pause) {
        let definition = self.store.definition();
        let (name, version, position) = (definition.name(), definition.version(), pause.position);
        let about = match self.events.at(position) {
            Ok(Some(recorded)) => {
                let event = recorded.event;
                format!("event {} of type {} in stream {}", event.id, event.event_type, event.stream)
            }
            _ => "its event".to_owned(),
        };
        let failure = format!(
            "projection {name} version {version} stopped at position {position}: {about} cannot be applied: {pause}; \
             retry, skip it (projection skip {name} --version {version} --expect-position {position}), or deploy a \
             version that can take it",
            pause = pause.failure,
        );
        if self.paused != Some(position) {
            tracing::error!(%failure, "a projection stopped");
        }
        self.paused = Some(position);
        self.status.paused(&failure, pause);
        self.turn_away();
    }
}

fn stop(position: Position, failure: Failure) -> Trouble {
    Trouble::Event(Box::new(Pause { position, failure }))
}

impl Trouble {
    /// What cannot be decoded belongs to no stream that is known, so no policy but standing still fits it.
    pub(super) fn undecodable(position: Position, invalid: &Invalid) -> Self {
        stop(position, Failure::new(invalid.to_string()))
    }
}

#[cfg(test)]
mod tests;
