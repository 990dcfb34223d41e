//! Spans of commits: each request of a trace that is recorded gets one, as part of its call.
//!
//! Invariant: where nobody takes spans, a batch is not looked at. Does not know how a group is committed.

use super::{group::Group, queue::Pending};
use crate::{
    events::EventsError,
    limits::COMMIT_SPANS_MAX,
    trace::{SpanKind, TraceContext, Tracer},
};

/// The requests of a batch that are in a trace, and since when they are being committed.
#[derive(Debug, Default)]
pub(super) struct Commit {
    traces: Vec<TraceContext>,
    requests: u64,
    start_unix_nanos: i64,
}

impl Commit {
    pub(super) fn of(tracer: &Tracer, batch: &[Pending]) -> Self {
        if !tracer.is_on() {
            return Self::default();
        }
        let requests = batch.iter().flat_map(|pending| &pending.requests);
        let traces = requests.filter_map(|request| request.trace).take(COMMIT_SPANS_MAX).collect();
        let requests = batch.iter().map(|pending| pending.requests.len() as u64).sum();
        Self { traces, requests, start_unix_nanos: tracer.now_unix_nanos() }
    }

    /// The group is durable, or is not for this reason.
    pub(super) fn finish(self, tracer: &Tracer, group: &Group, error: Option<&EventsError>) {
        for trace in self.traces {
            let Some(span) = tracer.start("log commit", SpanKind::Internal, Some(trace)) else { continue };
            let span = span
                .since(self.start_unix_nanos)
                .with("outrigger.group.requests", self.requests)
                .with("outrigger.group.events", group.events.len() as u64)
                .with("outrigger.group.last_position", group.last().get());
            tracer.finish(match error {
                Some(error) => span.failed(error.to_string()),
                None => span,
            });
        }
    }
}
