//! From events that the owner has signed to appends that carry the import's cursor.
//!
//! Invariants: the cursor is in the same append as the events that it covers; an append is judged against the cursor
//! before it, so that none can overtake a failed one; every event that comes from a public one names it as its origin.
//! What an event that cannot be mapped does is decided by `on_error` and by decisions in the log.

use tokio::sync::oneshot;

use super::{Inbox, Phase};
use crate::{
    append::{Answer, AppendError, Request},
    event::{Event, EventId, ImportCursor, Origin, Source, Tracking},
    limits::{
        IMPORT_APPENDS_MAX, IMPORT_PARKED_EVENTS_MAX, IMPORT_PASSED_EVENTS_MAX, IMPORT_PASSED_WAIT,
        IMPORT_RETRY, REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX,
    },
    mesh::{
        answer,
        decisions::passed_event,
        definition::{OnError, derived_id},
        envelope::{Envelope, Place, PublicEvent, digest},
        io::Io,
        quarantine::{parked, passed_by},
        state::StopReason,
        traced,
    },
    sabotage::Sabotage,
    trace::{Causes, Span},
};

/// An append that is not answered yet.
#[derive(Debug)]
pub(super) struct Appending {
    answer: oneshot::Receiver<Answer>,
    cursor: ImportCursor,
    handled: u64,
    events: usize,
    span: Option<Box<Span>>,
    /// It sets events aside.
    is_parking: bool,
}

/// An append in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    events: Vec<Event>,
    origins: Vec<Origin>,
    bytes: usize,
    handled: u64,
    is_parking: bool,
    since_unix_nanos: i64,
    causes: Causes,
}

/// What becomes of a public event.
enum Made {
    Events(Vec<Event>),
    /// It is set aside.
    Aside(Event),
    /// It is set aside, and what comes behind it in its stream waits.
    Parked(Event),
    Stop(String),
}

impl Inbox {
    /// The source under which this generation's cursor is stored.
    pub(super) fn source(&self) -> Source {
        source_of(self.import.name(), self.decisions.generation)
    }

    /// Takes signed events over into appends, until one cannot be mapped.
    pub(super) fn apply(&mut self, envelopes: Vec<Envelope>, io: &Io<'_>) {
        for envelope in envelopes {
            let made = self.make(&envelope, io);
            let origin = origin_of(&envelope);
            let is_aside = !matches!(made, Made::Events(_));
            let made = match made {
                Made::Events(events) => events,
                Made::Aside(event) => vec![event],
                Made::Parked(event) => {
                    self.quarantine.hold(&origin, &envelope.event.stream);
                    vec![event]
                }
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
            traced::note(io, &mut self.draft.causes, &envelope);
            if self.draft.handled == 0 {
                self.draft.since_unix_nanos = io.now_unix_nanos;
            }
            self.draft.origins.extend(std::iter::repeat_n(origin, made.len()));
            self.draft.events.extend(made);
            self.draft.bytes += bytes;
            self.draft.handled += 1;
            self.draft.is_parking |= is_aside;
            self.definition = Some(envelope.definition);
            self.accepted = envelope.place;
        }
    }

    fn make(&self, envelope: &Envelope, io: &Io<'_>) -> Made {
        let (place, public) = (&envelope.place, &envelope.event);
        let is_skipped = self.decisions.skips.contains(&(place.log_id.to_string(), place.position.get()));
        let waits = self.quarantine.holds(&public.stream) && self.import.takes(&public.event_type);
        if waits && !io.has(Sabotage::ApplyBehindParked) {
            let why = "an event before it in its stream is parked";
            return if is_skipped {
                self.pass_by(envelope, why, true)
            } else {
                self.park(envelope, None, why)
            };
        }
        let error = match self.import.map(public) {
            Ok(mapped) => {
                let metadata = metadata_of(public);
                let events = mapped.into_iter().enumerate();
                let event = |(ordinal, mapped): (usize, crate::mapping::MappedEvent)| {
                    mapped.into_event(self.id_of(place, ordinal), metadata.clone())
                };
                return Made::Events(events.map(event).collect());
            }
            Err(error) => error.to_string(),
        };
        if io.has(Sabotage::MapWithoutStopping) {
            return Made::Events(Vec::new());
        }
        match self.import.on_error() {
            _ if is_skipped => self.pass_by(envelope, &error, true),
            OnError::Pause => Made::Stop(error),
            OnError::Quarantine => self.park(envelope, Some(&error), &error),
            OnError::Skip => self.pass_by(envelope, &error, false),
        }
    }

    fn pass_by(&self, envelope: &Envelope, error: &str, is_decided: bool) -> Made {
        let id = self.aside_id(&envelope.place);
        Made::Aside(passed_by(id, self.import.name(), &envelope.event, error, is_decided))
    }

    fn park(&self, envelope: &Envelope, error: Option<&str>, why: &str) -> Made {
        let (place, import) = (&envelope.place, self.import.name());
        if self.quarantine.has_room() {
            let id = self.aside_id(place);
            return Made::Parked(parked(id, import, &self.ids_of(place), &envelope.event, error));
        }
        Made::Stop(format!(
            "{IMPORT_PARKED_EVENTS_MAX} events are parked already and this is one more, since {why}; `outrigger mesh errors \
             {import}` lists them, `retry` and `skip` make room"
        ))
    }

    /// The name under which ids of what comes of an event are derived.
    pub(super) fn ids_of(&self, place: &Place) -> String {
        let (import, generation) = (self.import.name(), self.decisions.generation);
        if self.parted_at.is_some_and(|seq| place.seq >= seq) {
            return format!("{import}#{generation}");
        }
        import.to_owned()
    }

    fn id_of(&self, place: &Place, ordinal: usize) -> EventId {
        let Place { log_id, epoch, position, .. } = place;
        derived_id(*log_id, *epoch, *position, &self.ids_of(place), ordinal)
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
        let span = traced::importing(io, &draft.causes, self.import.name(), count);
        let request = Request {
            trace: span.as_ref().map(|span| span.context),
            tracking: Some(tracking),
            tracked: Some(tracked),
            origins: draft.origins,
            cursor: Some(Box::new(cursor.clone())),
            skip_existing: true,
            ..Request::of(draft.events)
        };
        match io.appender.submit(request) {
            Ok(answer) => {
                let Draft { handled, is_parking, .. } = draft;
                let appending = Appending { answer, cursor, handled, events: count, is_parking, span };
                self.appending.push_back(appending);
            }
            Err(error) => self.look_again(&error.to_string(), io),
        }
    }

    /// What has become of appends, in their order.
    pub(super) fn settle(&mut self, io: &Io<'_>) {
        self.settle_late(io);
        while let Some(appending) = self.appending.front_mut() {
            let Some(answer) = answer::poll(&mut appending.answer, io.waker) else { return };
            let mut appending = self.appending.pop_front().expect("there is a front");
            traced::imported(io, appending.span.take(), answer.as_ref().err().map(ToString::to_string));
            match answer {
                _ if self.phase != Phase::Running => {}
                Ok(appended) if appended.already_applied() => self.pass_known(appending.cursor, io),
                Ok(_) => {
                    self.appended += appending.events as u64;
                    self.rate.add(appending.handled);
                    self.durable = Some(appending.cursor);
                    self.release_held_back(io);
                    if appending.is_parking
                        && let Err(error) = self.quarantine.refresh(io.events, self.import.name())
                    {
                        self.look_again(&error.to_string(), io);
                    }
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
            self.quarantine.forget_unsettled();
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

/// The metadata of what comes of a public event: its trace, where it has one.
pub(super) fn metadata_of(public: &PublicEvent) -> Option<bytes::Bytes> {
    public.trace.as_ref().map(|trace| format!("{{\"traceparent\":\"{trace}\"}}").into())
}

fn origin_of(envelope: &Envelope) -> Origin {
    let Place { log_id, epoch, position, .. } = envelope.place;
    let owner = envelope.name.owner.as_str().into();
    Origin { owner, log_id, epoch, position, id: envelope.event.id, hash: digest(envelope) }
}
