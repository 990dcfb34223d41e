//! Parked events whose turn has come: they are mapped by the import's present definition and appended, stream by stream and in
//! the owner's order, up to one that still fails.
//!
//! Invariants: it happens after the log was read and before anything new is taken over, so nothing else of the import is
//! under way; what comes of a parked event and the word that it is parked no longer are one append, judged against
//! everything that was set aside before. A crash at any point leaves each parked event either parked or applied.

use tokio::sync::oneshot;

use super::{Inbox, InboxError, Phase};
use crate::{
    append::{Answer, AppendError, Request},
    event::{Event, EventId, Origin, RecordedEvent},
    limits::{IMPORT_LATE_STREAMS, REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX},
    mapping::MappedEvent,
    mesh::{
        answer,
        decisions::{expectation, random_id, unmapped_stream},
        definition::derived_id,
        envelope::Place,
        io::Io,
        quarantine::{ParkedEvent, failed_again, unparked},
    },
};

/// What is under way of it.
#[derive(Debug, Default)]
pub(super) struct Late {
    appending: Option<(oneshot::Receiver<Answer>, u64)>,
    /// An id was known with other content: the next append holds one parked event, so that it is clear which.
    is_careful: bool,
    /// Why the next parked event cannot be appended, whatever its mapping gives.
    refused: Option<String>,
}

/// An append in the making.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Event>,
    origins: Vec<Origin>,
    bytes: usize,
    applied: u64,
    parked: usize,
}

impl Late {
    /// Whether nothing is under way.
    pub(super) const fn is_over(&self) -> bool {
        self.appending.is_none()
    }
}

impl Batch {
    fn is_full(&self, more: &[Event]) -> bool {
        let bytes: usize = more.iter().map(Event::size_bytes).sum();
        !self.events.is_empty()
            && (self.events.len() + more.len() > REQUEST_EVENTS_MAX || self.bytes + bytes > REQUEST_BYTES_MAX)
    }

    fn add(&mut self, events: Vec<Event>, origin: &Origin) {
        self.bytes += events.iter().map(Event::size_bytes).sum::<usize>();
        self.origins.extend(std::iter::repeat_n(origin.clone(), events.len()));
        self.events.extend(events);
        self.parked += 1;
    }
}

impl Inbox {
    /// Goes on with parked events whose turn has come; whether there are none any more.
    pub(super) fn apply_late(&mut self, io: &Io<'_>) -> Result<bool, InboxError> {
        if !self.late.is_over() {
            return Ok(false);
        }
        let batch = self.late_batch(io)?;
        if batch.events.is_empty() {
            self.phase = Phase::Running;
            return Ok(true);
        }
        let stream = unmapped_stream(self.import.name());
        let request = Request {
            expectations: vec![expectation(stream, self.quarantine.revision())],
            origins: batch.origins,
            skip_existing: true,
            ..Request::of(batch.events)
        };
        match io.appender.submit(request) {
            Ok(answer) => self.late.appending = Some((answer, batch.applied)),
            Err(error) => self.look_again(&error.to_string(), io),
        }
        Ok(false)
    }

    /// What has become of the append of parked events.
    pub(super) fn settle_late(&mut self, io: &Io<'_>) {
        let Some((appending, applied)) = &mut self.late.appending else { return };
        let Some(answer) = answer::poll(appending, io.waker) else { return };
        let applied = *applied;
        self.late.appending = None;
        match answer {
            Ok(_) => {
                (self.late.is_careful, self.late.refused) = (false, None);
                self.appended += applied;
                if let Err(error) = self.quarantine.refresh(io.events, self.import.name()) {
                    self.look_again(&error.to_string(), io);
                }
            }
            Err(error @ AppendError::IdReused { .. }) => {
                if self.late.is_careful {
                    self.late.refused = Some(error.to_string());
                }
                self.late.is_careful = true;
            }
            Err(error) => self.look_again(&error.to_string(), io),
        }
    }

    fn late_batch(&self, io: &Io<'_>) -> Result<Batch, InboxError> {
        let (mut batch, import) = (Batch::default(), self.import.name());
        for stream in self.quarantine.due(&self.decisions, IMPORT_LATE_STREAMS) {
            for at in stream {
                if self.late.is_careful && batch.parked > 0 {
                    return Ok(batch);
                }
                let recorded = io.events.at(at)?;
                let Some(recorded) = recorded else { break };
                let Some(origin) = recorded.origin.as_deref() else { break };
                let is_skipped = self.decisions.skips_parked.contains(&at);
                let made = if is_skipped { Ok(Vec::new()) } else { self.late_events(&recorded) };
                let is_failed = made.is_err();
                let (events, applied) = match made {
                    Ok(mut events) => {
                        let applied = events.len() as u64;
                        events.push(unparked(random_id(io.clock.random()), import, at, is_skipped));
                        (events, applied)
                    }
                    Err(error) => (vec![failed_again(random_id(io.clock.random()), import, at, &error)], 0),
                };
                if batch.is_full(&events) {
                    return Ok(batch);
                }
                batch.add(events, origin);
                batch.applied += applied;
                if is_failed {
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// What the present definition makes of a parked event.
    fn late_events(&self, recorded: &RecordedEvent) -> Result<Vec<Event>, String> {
        if let Some(refused) = &self.late.refused {
            return Err(refused.clone());
        }
        let ParkedEvent { event, origin, ids, .. } =
            ParkedEvent::read(recorded).map_err(|invalid| invalid.0)?;
        let mapped = self.import.map(&event).map_err(|error| error.to_string())?;
        let metadata = super::apply::metadata_of(&event);
        let id = |ordinal| derived_id(origin.log_id, origin.epoch, origin.position, &ids, ordinal);
        let event =
            |(ordinal, mapped): (usize, MappedEvent)| mapped.into_event(id(ordinal), metadata.clone());
        Ok(mapped.into_iter().enumerate().map(event).collect())
    }

    /// The id of the event that sets a public one aside; no mapped event can have it.
    pub(super) fn aside_id(&self, place: &Place) -> EventId {
        let Place { log_id, epoch, position, .. } = place;
        derived_id(*log_id, *epoch, *position, &format!("{}!aside", self.ids_of(place)), 0)
    }
}
