//! Spans of batches: for which traces a version applied events, and how long that took.
//!
//! Invariants: a batch is one span, in the trace of the first of its events that is in a recorded one, with links to a bounded
//! number of others; first builds and stretches far behind have none, since their events are history. Where nobody takes
//! spans no event is looked at. Does not know how events are applied.

use std::sync::{Mutex, PoisonError};

use super::Runner;
use crate::{
    event::{Position, RecordedEvent},
    trace::{Causes, SpanKind, TraceContext},
};

/// The traces of the events of the present batch.
#[derive(Debug, Default)]
pub(super) struct Traced(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    causes: Causes,
    since_unix_nanos: i64,
}

impl Runner {
    /// An event is about to be applied.
    pub(super) fn note(&self, event: &RecordedEvent) {
        let tracer = self.events.tracer();
        if !tracer.is_on() || !self.status.look(|progress| progress.built) {
            return;
        }
        let mut noted = self.traced.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.causes.is_full() {
            return;
        }
        if noted.causes.is_empty() {
            noted.since_unix_nanos = tracer.now_unix_nanos();
        }
        noted.causes.add(TraceContext::of_metadata(event.event.metadata.as_deref()));
    }

    /// What was noted since the last time is committed and shown.
    pub(super) fn tell_committed(&self, cursor: Position, events: u64) {
        if !self.events.tracer().is_on() {
            return;
        }
        let Noted { causes, since_unix_nanos } =
            std::mem::take(&mut *self.traced.0.lock().unwrap_or_else(PoisonError::into_inner));
        let (tracer, definition) = (self.events.tracer(), self.store.definition());
        if let Some(span) = tracer.start_for("projection apply", SpanKind::Internal, &causes) {
            tracer.finish(
                span.since(since_unix_nanos)
                    .with("outrigger.projection.name", definition.name().to_owned())
                    .with("outrigger.projection.version", u64::from(definition.version()))
                    .with("outrigger.projection.position", cursor.get())
                    .with("outrigger.batch.events", events),
            );
        }
    }
}
