//! Events that the answers of handlers append.
//!
//! Invariants: the version that emits for a cause is the one that was active at it; the events of a cause are durable, in
//! one append, before anything that shows the cause as applied; their ids follow from the log, the projection, the cause
//! and their order alone; what the log has of a cause stands, whatever a repetition says. Each version keeps its own
//! account of how far it has emitted (a tracked source), so that an older version may still emit for earlier causes
//! when a newer one already does for later ones. A tracked position only goes up, so it says nothing about causes that
//! come again late: where events can be parked, ids alone say what the log has. Does not know workers.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    append::{Answer, AppendError, Appender, FailedCondition, Request, decide::first_difference},
    event::{Event, EventId, Position, RecordedEvent, Source, Tracking},
    events::{Events, EventsError},
    json::{Json, Object},
    limits::{EMISSION_DEPTH_MAX, EVENT_BYTES_MAX, REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX},
    ownership::InForce,
    projection::{decisions::Decisions, definition::Definition, failure::OnError},
};

/// The id of an emitted event: the `ordinal`-th, from 0, that a projection emits because of `cause`.
pub fn emitted_id(log_id: Uuid, projection: &str, cause: Position, ordinal: usize) -> EventId {
    let name = format!("{projection}/{cause}/{ordinal}");
    EventId::from_uuid(Uuid::new_v5(&log_id, name.as_bytes())).expect("a UUID of version 5 is not nil")
}

/// Under which name a version keeps account of how far it has emitted.
pub fn emission_source(definition: &Definition) -> Source {
    let name = format!("$projection:{}:{}", definition.name(), definition.version());
    Source::parse_any_shared(Bytes::from(name)).expect("names of projections are short and plain")
}

/// Why events are not emitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    /// The cause cannot have such emissions: a repetition fails in the same way.
    #[error("{0}")]
    Fault(String),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] EventsError),
}

/// Emits for one version.
#[derive(Debug)]
pub(crate) struct Emitter {
    events: Events,
    appender: Appender,
    projection: Box<str>,
    version: u32,
    /// The version that is active from the beginning.
    first: u32,
    source: Source,
    decisions: Decisions,
    /// Causes may come late: what the log has of one is looked up by ids.
    by_ids: bool,
    /// The log ended here when the emitter began: of causes behind that it has nothing.
    began_at: Position,
    /// For causes up to this position the log has what was emitted; `None`: not looked up.
    emitted: Option<Position>,
    /// Emissions that are not durable, in order of their causes.
    waiting: VecDeque<Emission>,
    ownership: InForce,
}

/// The events of one cause.
#[derive(Debug, Clone)]
pub(crate) struct Emission {
    cause: Position,
    events: Vec<Event>,
    bytes: usize,
    /// It moves the tracked position.
    tracked: bool,
}

impl Emitter {
    /// For this version of a projection whose version `first` is active from the beginning.
    pub(crate) fn new(events: Events, appender: Appender, definition: &Definition, first: u32) -> Self {
        Self {
            events,
            appender,
            projection: definition.name().into(),
            version: definition.version(),
            first,
            source: emission_source(definition),
            by_ids: definition.on_error() == OnError::Quarantine,
            began_at: Position::ZERO,
            decisions: Decisions::new(definition.name()),
            emitted: None,
            waiting: VecDeque::new(),
            ownership: InForce::default(),
        }
    }

    /// The same, where the node owns this.
    pub(crate) fn owning(self, ownership: InForce) -> Self {
        Self { ownership, ..self }
    }

    /// The documents stand somewhere else than before: causes behind that will come again.
    pub(crate) fn begin(&mut self) {
        self.waiting.clear();
        self.emitted = None;
        self.began_at = self.events.head().get();
    }

    /// What is to be appended because of `cause`, if anything; and whether the log has something else already.
    pub(crate) fn prepare(
        &mut self,
        cause: &RecordedEvent,
        mut emits: Vec<Event>,
        is_late: bool,
    ) -> Result<(Option<Emission>, bool), EmitError> {
        let emitted = self.emitted()?;
        let may_be_there =
            if self.by_ids { is_late || cause.position <= self.began_at } else { cause.position <= emitted };
        if emits.is_empty() && !may_be_there {
            return Ok((None, false));
        }
        if !self.is_active_at(cause.position)? {
            return Ok((None, false));
        }
        if may_be_there && (!self.by_ids || self.has_emitted(cause.position)?) {
            return Ok((None, self.differs(cause.position, &emits)?));
        }
        if emits.is_empty() {
            return Ok((None, false));
        }
        self.check_owned(&emits)?;
        let about = About::of(cause)?;
        for (at, event) in emits.iter_mut().enumerate() {
            about.write(event);
            let size = event.size_bytes();
            if size > EVENT_BYTES_MAX {
                let what = format!(
                    "emits[{at}]: expected at most {EVENT_BYTES_MAX} bytes with its metadata, found {size}"
                );
                return Err(EmitError::Fault(what));
            }
        }
        let bytes = emits.iter().map(Event::size_bytes).sum();
        let tracked = !is_late && cause.position > emitted;
        Ok((Some(Emission { cause: cause.position, events: emits, bytes, tracked }), false))
    }

    /// A handler appends what the clients of its node may append, and nothing else.
    fn check_owned(&self, emits: &[Event]) -> Result<(), EmitError> {
        let ownership = self.ownership.get();
        for (at, event) in emits.iter().enumerate() {
            let owned = ownership.may_append(event.event_type.as_str(), event.stream.as_str());
            owned.map_err(|refused| EmitError::Fault(format!("NOT_OWNER: emits[{at}]: {refused}")))?;
        }
        Ok(())
    }

    /// It will be durable when `settle` has succeeded.
    pub(crate) fn emit(&mut self, emission: Emission) {
        self.waiting.push_back(emission);
    }

    /// Whether something is not durable.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes everything durable, in order. Gives the causes whose emissions are not what the log has. On an error, which
    /// says why in words, what is left stays to be tried again.
    pub(crate) fn settle(&mut self) -> Result<Vec<Position>, String> {
        let mut differ = Vec::new();
        while !self.waiting.is_empty() {
            let count = self.next_chunk();
            match self.append(count) {
                Ok(_) => {}
                Err(error) if is_about_what_is_there(&error) => {
                    // One of them is at fault: each has its say alone.
                    for _ in 0..count {
                        let cause = self.waiting[0].cause;
                        match self.append(1) {
                            Ok(_) => {}
                            Err(error) if is_about_what_is_there(&error) => {
                                differ.push(cause);
                                self.forget(1);
                            }
                            Err(error) => return Err(self.words(&error)),
                        }
                    }
                }
                Err(error) => return Err(self.words(&error)),
            }
        }
        Ok(differ)
    }

    fn words(&self, error: &AppendError) -> String {
        let cause = self.waiting.front().map_or(Position::ZERO, |emission| emission.cause);
        format!("the events that position {cause} emits could not be appended: {error}")
    }

    /// How many causes go into one request: all or none of them is durable, so none is left out.
    fn next_chunk(&self) -> usize {
        let (mut events, mut bytes) = (0, 0);
        let tracked = self.waiting.front().is_some_and(|emission| emission.tracked);
        let fits = |emission: &&Emission| {
            events += emission.events.len();
            bytes += emission.bytes;
            events <= REQUEST_EVENTS_MAX && bytes <= REQUEST_BYTES_MAX && emission.tracked == tracked
        };
        self.waiting.iter().take_while(fits).count().max(1)
    }

    /// Appends the first so many emissions and waits until they are durable.
    fn append(&mut self, count: usize) -> Answer {
        let chunk = self.waiting.range(..count);
        let events = chunk.clone().flat_map(|emission| emission.events.iter().cloned()).collect();
        let tracked = chunk.last().filter(|emission| emission.tracked).map(|emission| emission.cause.get());
        let tracking = tracked.map(|position| Tracking { source: self.source.clone(), position });
        let answer = self.appender.submit(Request { tracking, ..Request::of(events) })?;
        let unanswered = || AppendError::OutcomeUnknown("the committer stopped".into());
        let answer = answer.blocking_recv().unwrap_or_else(|_| Err(unanswered()));
        if answer.is_ok() {
            self.forget(count);
        }
        answer
    }

    /// The first so many need nothing any more.
    fn forget(&mut self, count: usize) {
        if let Some(last) = self.waiting.drain(..count).next_back() {
            self.emitted = self.emitted.max(last.tracked.then_some(last.cause));
        }
    }

    fn emitted(&mut self) -> Result<Position, EventsError> {
        if let Some(emitted) = self.emitted {
            return Ok(emitted);
        }
        let stored = self.events.tracking(&self.source)?;
        let emitted = Position::new(stored.map_or(0, |(tracking, _)| tracking.position));
        self.emitted = Some(emitted);
        Ok(emitted)
    }

    fn is_active_at(&mut self, position: Position) -> Result<bool, EventsError> {
        self.decisions.refresh(&self.events, position)?;
        Ok(self.decisions.activations(self.first).active_at(position) == self.version)
    }

    /// Whether the log has what was emitted for a cause: all of that is durable together.
    fn has_emitted(&self, cause: Position) -> Result<bool, EventsError> {
        Ok(self.events.by_id(&emitted_id(self.events.log().log_id(), &self.projection, cause, 0))?.is_some())
    }

    /// Whether a repetition says something else than the log has of a cause.
    fn differs(&self, cause: Position, emits: &[Event]) -> Result<bool, EventsError> {
        let id = |ordinal| emitted_id(self.events.log().log_id(), &self.projection, cause, ordinal);
        for (at, event) in emits.iter().enumerate() {
            match self.events.by_id(&id(at))? {
                Some(stored) if first_difference(event, &stored.event).is_none() => {}
                _ => return Ok(true),
            }
        }
        Ok(self.events.by_id(&id(emits.len()))?.is_some())
    }
}

/// Whether a request was refused because the log has something of it, or went past it.
fn is_about_what_is_there(error: &AppendError) -> bool {
    match error {
        AppendError::IdReused { .. } | AppendError::PartlyApplied { .. } => true,
        AppendError::ConditionsFailed(failed) => {
            failed.iter().all(|condition| matches!(condition, FailedCondition::Tracking { .. }))
        }
        _ => false,
    }
}

const CAUSATION_ID: &str = "causation_id";
const CAUSATION_POSITION: &str = "causation_position";
const CAUSATION_DEPTH: &str = "causation_depth";
const CORRELATION_ID: &str = "correlation_id";
/// What of a trace goes on from a cause to what it emits.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// What an emitted event's metadata says of its cause.
#[derive(Debug)]
struct About(Vec<(&'static str, Json)>);

impl About {
    /// Refuses a cause that ends a chain which is too long.
    fn of(cause: &RecordedEvent) -> Result<Self, EmitError> {
        let metadata = metadata_of(&cause.event);
        let depth = match metadata.get(CAUSATION_DEPTH) {
            Some(Json::Int(depth)) => (*depth).max(0),
            _ => 0,
        };
        if depth >= EMISSION_DEPTH_MAX {
            return Err(EmitError::Fault(format!(
                "it ends a chain of {depth} events of which each was emitted because of the one before; at most \
                 {EMISSION_DEPTH_MAX} may follow each other"
            )));
        }
        let id = Json::Text(cause.event.id.to_string().into());
        let correlation = metadata.get(CORRELATION_ID).cloned().unwrap_or_else(|| id.clone());
        let mut about = vec![
            (CAUSATION_ID, id),
            (CAUSATION_POSITION, Json::Int(cause.position.get() as i64)),
            (CAUSATION_DEPTH, Json::Int(depth + 1)),
            (CORRELATION_ID, correlation),
        ];
        about.extend(TRACE.iter().filter_map(|name| Some((*name, metadata.get(name)?.clone()))));
        Ok(Self(about))
    }

    /// Adds it to what the handler says.
    fn write(&self, event: &mut Event) {
        let mut metadata = metadata_of(event);
        for (name, value) in &self.0 {
            metadata.insert(name, value.clone());
        }
        event.metadata = Some(Json::Object(metadata).to_string().into());
    }
}

fn metadata_of(event: &Event) -> Object {
    match event.metadata.as_ref().map(|metadata| Json::parse(metadata)) {
        Some(Ok(Json::Object(metadata))) => metadata,
        _ => Object::new(),
    }
}
