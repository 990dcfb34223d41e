//! From events that the owner has signed to appends that carry the import's cursor.
//!
//! Invariants: the cursor is in the same append as the events that it covers; an append is judged against the cursor
//! before it, so that none can overtake a failed one; every event that comes from a public one names it as its origin.
//! What an event that cannot be mapped does is decided by `on_error` and by decisions in the log.

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Inbox, Phase};
use crate::{
    append::{Answer, AppendError, Request},
    event::{Event, EventId, ImportCursor, Origin, Source, Tracking},
    limits::{
        IMPORT_APPENDS_MAX, IMPORT_PASSED_EVENTS_MAX, IMPORT_PASSED_WAIT, IMPORT_RETRY, REQUEST_BYTES_MAX,
        REQUEST_EVENTS_MAX,
    },
    mesh::{
        decisions::{passed_event, unmapped_event},
        definition::{MappingError, OnError, derived_id},
        envelope::{Envelope, Place, digest},
        io::Io,
        state::StopReason,
    },
    sabotage::Sabotage,
};

/// An append that is not answered yet.
#[derive(Debug)]
pub(super) struct Appending {
    answer: oneshot::Receiver<Answer>,
    cursor: ImportCursor,
    handled: u64,
    events: usize,
}

/// An append in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    events: Vec<Event>,
    origins: Vec<Origin>,
    bytes: usize,
    handled: u64,
    since_unix_nanos: i64,
}

/// What becomes of a public event.
enum Made {
    Events(Vec<Event>),
    Stop(MappingError),
}

impl Inbox {
    /// The source under which this generation's cursor is stored.
    pub(super) fn source(&self) -> Source {
        source_of(self.import.name(), self.decisions.generation)
    }

    /// Takes signed events over into appends, until one cannot be mapped.
    pub(super) fn apply(&mut self, envelopes: Vec<Envelope>, io: &Io<'_>) {
        for envelope in envelopes {
            let made = match self.make(&envelope, io) {
                Made::Events(events) => events,
                Made::Stop(error) => {
                    let place = &envelope.place;
                    let message =
                        format!("{error}, at event {} (position {} of the owner)", place.seq, place.position);
                    self.submit_draft(io);
                    self.pending.clear();
                    self.stop(StopReason::MappingFailed, message, place, io);
                    return;
                }
            };
            let bytes: usize = made.iter().map(Event::size_bytes).sum();
            let is_full = self.draft.events.len() + made.len() > REQUEST_EVENTS_MAX
                || self.draft.bytes + bytes > REQUEST_BYTES_MAX;
            if is_full {
                self.submit_draft(io);
            }
            let origin = origin_of(&envelope);
            if self.draft.handled == 0 {
                self.draft.since_unix_nanos = io.now_unix_nanos;
            }
            self.draft.origins.extend(std::iter::repeat_n(origin, made.len()));
            self.draft.events.extend(made);
            self.draft.bytes += bytes;
            self.draft.handled += 1;
            self.definition = Some(envelope.definition);
            self.accepted = envelope.place;
        }
    }

    fn make(&self, envelope: &Envelope, io: &Io<'_>) -> Made {
        let (place, import) = (&envelope.place, self.import.name());
        let id = |ordinal| self.id_of(place, ordinal);
        let metadata =
            envelope.event.trace.as_ref().map(|trace| format!("{{\"traceparent\":\"{trace}\"}}").into());
        let error = match self.import.map(&envelope.event) {
            Ok(mapped) => {
                let events = mapped.into_iter().enumerate();
                let event = |(ordinal, mapped): (usize, crate::mapping::MappedEvent)| {
                    mapped.into_event(id(ordinal), metadata.clone())
                };
                return Made::Events(events.map(event).collect());
            }
            Err(error) => error,
        };
        let is_skipped = self.decisions.skips.contains(&(place.log_id.to_string(), place.position.get()));
        if is_skipped || io.has(Sabotage::MapWithoutStopping) {
            return Made::Events(Vec::new());
        }
        let unmapped = |is_parked| {
            let event = unmapped_event(id(0), import, is_parked, &envelope.event, &error.to_string());
            Made::Events(vec![event])
        };
        match self.import.on_error() {
            OnError::Pause => Made::Stop(error),
            OnError::Quarantine => unmapped(true),
            OnError::Skip => unmapped(false),
        }
    }

    fn id_of(&self, place: &Place, ordinal: usize) -> EventId {
        let Place { log_id, epoch, position, .. } = place;
        let generation = self.decisions.generation;
        if self.parted_at.is_some_and(|seq| place.seq >= seq) {
            let import = format!("{}#{generation}", self.import.name());
            return derived_id(*log_id, *epoch, *position, &import, ordinal);
        }
        derived_id(*log_id, *epoch, *position, self.import.name(), ordinal)
    }

    /// Submits the draft if it is worth it: events at once, a stretch without events after a while.
    pub(super) fn submit_due(&mut self, io: &Io<'_>) {
        let waits_since = io.now_unix_nanos.saturating_sub(self.draft.since_unix_nanos);
        let is_due = !self.draft.events.is_empty()
            || self.draft.handled >= IMPORT_PASSED_EVENTS_MAX
            || (self.draft.handled > 0 && waits_since >= IMPORT_PASSED_WAIT.as_nanos() as i64);
        if is_due {
            self.submit_draft(io);
        }
    }

    /// Whether further appends may be made.
    pub(super) fn may_append(&self) -> bool {
        self.appending.len() < IMPORT_APPENDS_MAX
    }

    /// When a stretch without events is due.
    pub(super) fn draft_due_at(&self) -> Option<i64> {
        (self.draft.handled > 0).then(|| self.draft.since_unix_nanos + IMPORT_PASSED_WAIT.as_nanos() as i64)
    }

    fn cursor(&self, place: &Place) -> ImportCursor {
        let from = self.import.from();
        ImportCursor {
            owner: from.owner.as_str().into(),
            export: from.export.as_str().into(),
            version: from.version,
            definition: self.definition.unwrap_or_default(),
            log_id: place.log_id,
            epoch: place.epoch,
            seq: place.seq,
            position: place.position,
            chain: place.chain,
            generation: self.decisions.generation,
        }
    }

    pub(super) fn submit_draft(&mut self, io: &Io<'_>) {
        let draft = std::mem::take(&mut self.draft);
        if draft.handled == 0 {
            return;
        }
        let cursor = self.cursor(&self.accepted);
        self.submit(draft, cursor, io);
    }

    fn submit(&mut self, mut draft: Draft, cursor: ImportCursor, io: &Io<'_>) {
        let is_passed = draft.events.is_empty();
        if is_passed {
            draft.events.push(passed_event(self.import.name(), &cursor));
        }
        let count = if is_passed { 0 } else { draft.events.len() };
        let tracking = Tracking { source: self.source(), position: cursor.seq };
        let tracked = std::mem::replace(&mut self.tracked, cursor.seq);
        if io.has(Sabotage::CursorApart) && !is_passed {
            // The cursor goes first, by itself; the events follow when it is durable.
            let alone = Draft { handled: draft.handled, ..Draft::default() };
            let events = Request { origins: draft.origins, skip_existing: true, ..Request::of(draft.events) };
            (self.tracked, self.held_back) = (tracked, Some(events));
            return self.submit(alone, cursor, io);
        }
        let request = Request {
            tracking: Some(tracking),
            tracked: Some(tracked),
            origins: draft.origins,
            cursor: Some(Box::new(cursor.clone())),
            skip_existing: true,
            ..Request::of(draft.events)
        };
        match io.appender.submit(request) {
            Ok(answer) => {
                let handled = draft.handled;
                self.appending.push_back(Appending { answer, cursor, handled, events: count });
            }
            Err(error) => self.look_again(&error.to_string(), io),
        }
    }

    /// What has become of appends, in their order.
    pub(super) fn settle(&mut self, io: &Io<'_>) {
        while let Some(appending) = self.appending.front_mut() {
            let answer = match appending.answer.try_recv() {
                Err(TryRecvError::Empty) => return,
                Ok(answer) => answer,
                Err(TryRecvError::Closed) => Err(AppendError::Stopping),
            };
            let appending = self.appending.pop_front().expect("there is a front");
            match answer {
                _ if self.phase != Phase::Running => {}
                Ok(appended) if appended.already_applied() => self.pass_known(appending.cursor, io),
                Ok(_) => {
                    self.appended += appending.events as u64;
                    self.rate.add(appending.handled);
                    self.durable = Some(appending.cursor);
                    self.release_held_back(io);
                }
                Err(AppendError::IdReused { .. })
                    if self.decisions.generation > 0 && self.parted_at.is_none() =>
                {
                    // The owner's new past reuses positions of the one that it gave up: from here on other ids.
                    self.parted_at = Some(self.durable.as_ref().map_or(0, |cursor| cursor.seq) + 1);
                    self.look_again("positions of the owner's past are used again", io);
                }
                Err(error) => self.look_again(&error.to_string(), io),
            }
        }
    }

    fn release_held_back(&mut self, io: &Io<'_>) {
        if let Some(request) = self.held_back.take() {
            drop(io.appender.submit(request));
        }
    }

    /// All events of an append were there already, so nothing was stored with them: the cursor is stored by itself.
    fn pass_known(&mut self, cursor: ImportCursor, io: &Io<'_>) {
        if !self.appending.is_empty() {
            // Those behind it were judged against this cursor and are refused.
            return self.look_again("events were known already", io);
        }
        self.tracked = self.durable.as_ref().map_or(0, |durable| durable.seq);
        let is_ahead = self.accepted.seq > cursor.seq || self.draft.handled > 0;
        self.draft = Draft::default();
        let handled = cursor.seq - self.tracked;
        self.accepted = super::place_of(&cursor);
        if is_ahead {
            self.pending.clear();
            self.bus_after = 0;
        }
        self.submit(Draft { handled, ..Draft::default() }, cursor, io);
    }

    /// Something did not go as planned: everything is read from the log again.
    pub(super) fn look_again(&mut self, why: &str, io: &Io<'_>) {
        self.last_error = Some(why.to_owned());
        self.phase = Phase::Loading;
        self.retry_at = io.after(IMPORT_RETRY);
    }
}

/// The source under which a generation of an import stores its cursor.
pub(super) fn source_of(import: &str, generation: u32) -> Source {
    Source::parse_any(&format!("$import/{import}/{generation}")).expect("names of imports are short labels")
}

fn origin_of(envelope: &Envelope) -> Origin {
    let Place { log_id, epoch, position, .. } = envelope.place;
    let owner = envelope.name.owner.as_str().into();
    Origin { owner, log_id, epoch, position, id: envelope.event.id, hash: digest(envelope) }
}
