//! Spans of what is shared: a published event in its own trace, an append of imported events in the trace of the first.
//!
//! Names and attributes are those of OpenTelemetry's conventions for messaging. Where nobody takes spans nothing is looked
//! at. Does not know how events travel.

use super::{bus::Message, envelope::Envelope, io::Io};
use crate::trace::{Causes, Span, SpanKind, TraceContext};

/// The header that carries an event's trace.
const TRACE_HEADER: &str = "ce-traceparent";

/// A message was taken by the bus.
pub(super) fn published(io: &Io<'_>, message: &Message, message_id: &str, sent_unix_nanos: i64) {
    let tracer = io.events.tracer();
    if !tracer.is_on() {
        return;
    }
    let header = message.headers.iter().find(|(name, _)| name == TRACE_HEADER);
    let Some(context) = header.and_then(|(_, text)| TraceContext::parse(text)) else { return };
    if let Some(span) = tracer.start("publish", SpanKind::Producer, Some(context)) {
        tracer.finish(
            span.since(sent_unix_nanos)
                .with("messaging.system", "nats")
                .with("messaging.operation.type", "send")
                .with("messaging.operation.name", "publish")
                .with("messaging.destination.name", message.subject.clone())
                .with("messaging.message.id", message_id.to_owned()),
        );
    }
}

/// An event is about to be taken over.
pub(super) fn note(io: &Io<'_>, causes: &mut Causes, envelope: &Envelope) {
    if io.events.tracer().is_on() && !causes.is_full() {
        causes.add(envelope.event.trace.as_deref().and_then(TraceContext::parse));
    }
}

/// Events of an import are about to be appended.
pub(super) fn importing(io: &Io<'_>, causes: &Causes, import: &str, events: usize) -> Option<Box<Span>> {
    let span = io.events.tracer().start_for("process", SpanKind::Consumer, causes)?;
    Some(
        span.with("messaging.system", "nats")
            .with("messaging.operation.type", "process")
            .with("messaging.operation.name", "import")
            .with("messaging.consumer.group.name", import.to_owned())
            .with("messaging.batch.message_count", events as u64),
    )
}

/// What became of them.
pub(super) fn imported(io: &Io<'_>, span: Option<Box<Span>>, error: Option<String>) {
    let Some(span) = span else { return };
    io.events.tracer().finish(match error {
        Some(error) => span.failed(error),
        None => span,
    });
}
