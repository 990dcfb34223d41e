//! Applies an event to documents as a definition says.
//!
//! Pure: the same definition, event and documents give the same changes. All or nothing: an error leaves no change.
//! Steps run in order, and each sees what the former ones wrote. Documents are normalized, so that what is in memory
//! equals what is read back from disk. Does not know where documents are kept.

mod document;
mod overlay;
mod run;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub(crate) use self::document::check as check_document;
use self::{
    overlay::Store,
    run::{Fault, Run},
};
use crate::{
    event::{Invalid, RecordedEvent},
    json::{Json, Object},
    limits::EVENT_STEPS_MAX,
    mapping::about::event_object,
    projection::{
        definition::{Definition, Step},
        key::Key,
    },
};

/// Why the documents could not be read; any error of the store.
pub type StoreFailure = Box<dyn std::error::Error + Send + Sync>;

/// The documents of one projection version, as of the event before the one that is applied.
pub trait Documents {
    /// A document, if there is one. `collection` is its place in `Definition::collections`.
    fn get(&mut self, collection: usize, key: &Key) -> Result<Option<Arc<Object>>, StoreFailure>;
}

/// What an event leaves of one document. It may equal what was there: its position moves all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its place in `Definition::collections`.
    pub collection: usize,
    /// The document's key.
    pub key: Key,
    /// The document, normalized; `None` if it is deleted.
    pub document: Option<Arc<Object>>,
}

/// Why an event was not applied; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The definition cannot take this event: a repetition fails in the same way.
    #[error("{0}")]
    Event(Box<EventFault>),
    /// The event's data or metadata is not JSON, though the log should hold no such event.
    #[error("the event's content cannot be read: {0}")]
    Content(Invalid),
    /// The documents could not be read; the event itself may be fine.
    #[error("the documents could not be read: {0}")]
    Store(#[source] StoreFailure),
}

/// What of a definition failed for an event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFault {
    /// The event's type.
    pub event_type: String,
    /// The step among those of the event type, from 1.
    pub step: usize,
    /// The step's line in the projection file, from 1.
    pub line: usize,
    /// The key, as far as it was known.
    pub key: Option<Key>,
    /// The part of the step, such as `when` or `value.delay`.
    pub part: String,
    /// The expression that failed, if it was one.
    pub expression: Option<String>,
    /// What went wrong.
    pub message: String,
}

impl fmt::Display for EventFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event_type, step, line, part, message, .. } = self;
        write!(f, "step {step} of {event_type} (line {line})")?;
        if let Some(key) = &self.key {
            write!(f, ", key {}", key.to_json())?;
        }
        write!(f, ", {part}")?;
        if let Some(expression) = &self.expression {
            write!(f, ", in `{expression}`")?;
        }
        write!(f, ": {message}")
    }
}

/// The final writes of an event, all or nothing: at most one change for each document, in order of first touch.
pub fn apply(
    definition: &Definition,
    event: &RecordedEvent,
    documents: &mut dyn Documents,
) -> Result<Vec<Change>, ApplyError> {
    let data = parse_data(definition, event).map_err(ApplyError::Content)?;
    apply_parsed(definition, event, &data, documents)
}

/// The event's data, as far as the definition has steps for such events.
pub fn parse_data(definition: &Definition, event: &RecordedEvent) -> Result<Json, Invalid> {
    if definition.handles(event.event.event_type.as_str()) {
        Json::parse(&event.event.data)
    } else {
        Ok(Json::Null)
    }
}

/// As `apply`, with the event's data as `parse_data` reads it.
pub fn apply_parsed(
    definition: &Definition,
    event: &RecordedEvent,
    data: &Json,
    documents: &mut dyn Documents,
) -> Result<Vec<Change>, ApplyError> {
    let Some(steps) = definition.steps(event.event.event_type.as_str()) else {
        return Ok(Vec::new());
    };
    let about = event_object(event, &steps.event_fields).map_err(ApplyError::Content)?;
    let arena = crate::expression::Arena::default();
    let mut run = Run::new(Store::new(documents), &arena, &about, data, EVENT_STEPS_MAX);
    for step in &steps.steps {
        if let Err(fault) = run.step(step) {
            return Err(match run.store.failure.take() {
                Some(failure) => ApplyError::Store(failure),
                None => ApplyError::Event(Box::new(event_fault(event, step, fault))),
            });
        }
    }
    Ok(run.store.overlay.into_changes())
}

fn event_fault(event: &RecordedEvent, step: &Step, fault: Fault) -> EventFault {
    EventFault {
        event_type: event.event.event_type.as_str().to_owned(),
        step: step.number,
        line: step.line,
        key: fault.key,
        part: fault.part,
        expression: fault.expression,
        message: fault.message,
    }
}
