//! Traces: which call, append or event something was done for, and spans that say how long it took.
//!
//! A trace goes through threads, the log and other nodes, so its context is a value here that is handed on and stored, and
//! a span is a plain record that ends up in a bounded queue. Invariants: without somebody who takes spans there are none
//! (`start` gives nothing, and nothing is looked at for it); a full queue drops and counts, and nobody waits; whoever began a
//! trace decided whether it is recorded. Does not know where spans go.

use std::{borrow::Cow, sync::Arc};

use prometheus::IntCounter;
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    limits::{SPAN_LINKS_MAX, SPANS_QUEUED_MAX},
};

mod context;

pub use context::{TraceContext, is_traceparent, traceparent_of, with_traceparent};

/// Makes spans, or does not. Clones feed the same queue.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    clock: Arc<dyn Clock>,
    /// Traces that begin here are recorded if the low half of their id is below this.
    sampled_below: u128,
    spans: mpsc::Sender<Span>,
    dropped: IntCounter,
}

/// Something that was done, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What, with few different values.
    pub name: Cow<'static, str>,
    /// Of which kind.
    pub kind: SpanKind,
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The id of the span in the same trace that it is part of or was caused by.
    pub parent: Option<u64>,
    /// Other traces that it is about.
    pub links: Vec<TraceContext>,
    /// Nanoseconds since 1970.
    pub start_unix_nanos: i64,
    /// Nanoseconds since 1970.
    pub end_unix_nanos: i64,
    /// In the names of OpenTelemetry's semantic conventions, where there are such.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a span is to its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work inside the node.
    Internal,
    /// A call that is answered.
    Server,
    /// A message that is handed over.
    Producer,
    /// A message that is taken in.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
}

impl Tracer {
    /// A tracer, and where its spans come out. Of the traces that begin here, `sample_ppm` in a million are recorded.
    pub fn new(clock: Arc<dyn Clock>, sample_ppm: u32, dropped: IntCounter) -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(SPANS_QUEUED_MAX);
        let sampled_below = (1_u128 << 64) * u128::from(sample_ppm) / 1_000_000;
        (Self(Some(Arc::new(Recorder { clock, sampled_below, spans, dropped }))), receiver)
    }

    /// Whether anybody takes spans.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The time; 0 where nobody takes spans.
    pub fn now_unix_nanos(&self) -> i64 {
        self.0.as_ref().map_or(0, |recorder| recorder.clock.now_unix_nanos())
    }

    /// Begins a span, as part of another one or as the first of its trace; nothing where it is not recorded.
    pub fn start(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<TraceContext>,
    ) -> Option<Box<Span>> {
        let recorder = self.0.as_ref()?;
        let random = recorder.clock.random();
        let (trace_id, is_sampled) = match parent {
            Some(parent) => (parent.trace_id, parent.is_sampled),
            None => (random.max(1), u128::from(random as u64) < recorder.sampled_below),
        };
        if !is_sampled {
            return None;
        }
        // Of a trace that begins here, the id of the span is of other bits than its own.
        let own = if parent.is_some() { random } else { recorder.clock.random() };
        let span_id = ((own >> 64) as u64).max(1);
        let now = recorder.clock.now_unix_nanos();
        Some(Box::new(Span {
            name: name.into(),
            kind,
            context: TraceContext { trace_id, span_id, is_sampled },
            parent: parent.map(|parent| parent.span_id),
            links: Vec::new(),
            start_unix_nanos: now,
            end_unix_nanos: now,
            attributes: Vec::new(),
            error: None,
        }))
    }

    /// The same for work on behalf of several traces: part of the first, with links to the others.
    pub fn start_for(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        causes: &Causes,
    ) -> Option<Box<Span>> {
        let first = causes.0.first()?;
        let mut span = self.start(name, kind, Some(*first))?;
        span.links = causes.0[1..].to_vec();
        Some(span)
    }

    /// Ends a span now.
    #[expect(clippy::boxed_local, reason = "spans are handed on as they were made; most calls have none")]
    pub fn finish(&self, mut span: Box<Span>) {
        let Some(recorder) = &self.0 else { return };
        span.end_unix_nanos = recorder.clock.now_unix_nanos().max(span.start_unix_nanos);
        if recorder.spans.try_send(*span).is_err() {
            recorder.dropped.inc();
        }
    }
}

impl Span {
    /// The same with an attribute.
    #[must_use]
    pub fn with(mut self: Box<Self>, name: &'static str, value: impl Into<Value>) -> Box<Self> {
        self.attributes.push((name, value.into()));
        self
    }

    /// The same, begun at another time.
    #[must_use]
    pub fn since(mut self: Box<Self>, start_unix_nanos: i64) -> Box<Self> {
        self.start_unix_nanos = start_unix_nanos;
        self
    }

    /// The same, failed.
    #[must_use]
    pub fn failed(mut self: Box<Self>, error: String) -> Box<Self> {
        self.error = Some(error);
        self
    }
}

/// The recorded traces that some work is for: different ones, a bounded number.
#[derive(Debug, Clone, Default)]
pub struct Causes(Vec<TraceContext>);

impl Causes {
    /// Whether there is no need to look for more.
    pub const fn is_full(&self) -> bool {
        self.0.len() > SPAN_LINKS_MAX
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more, if it is recorded and there is room.
    pub fn add(&mut self, cause: Option<TraceContext>) {
        if let Some(cause) = cause
            && cause.is_sampled
            && !self.is_full()
            && !self.0.contains(&cause)
        {
            self.0.push(cause);
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;

    fn tracer(sample_ppm: u32) -> (Tracer, mpsc::Receiver<Span>, IntCounter) {
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let (tracer, spans) = Tracer::new(Arc::new(SimClock::new(7)), sample_ppm, dropped.clone());
        (tracer, spans, dropped)
    }

    #[test]
    fn without_anybody_who_takes_spans_there_are_none() {
        let tracer = Tracer::default();
        assert!(!tracer.is_on() && tracer.start("a", SpanKind::Internal, None).is_none());
    }

    #[test]
    fn whoever_began_a_trace_decides_whether_it_is_recorded() {
        let (tracer, mut spans, _) = tracer(0);
        assert!(tracer.start("a", SpanKind::Server, None).is_none());
        let parent = TraceContext { trace_id: 5, span_id: 6, is_sampled: true };
        let span = tracer.start("a", SpanKind::Server, Some(parent)).unwrap();
        assert_eq!((span.context.trace_id, span.parent), (5, Some(6)));
        tracer.finish(span.with("n", 3_u64).failed("why".into()));
        let span = spans.try_recv().unwrap();
        assert_eq!((span.attributes[0].1.clone(), span.error.as_deref()), (Value::Number(3), Some("why")));
        assert!(span.end_unix_nanos > span.start_unix_nanos);
        let unsampled = TraceContext { is_sampled: false, ..parent };
        assert!(super::tests::tracer(1_000_000).0.start("a", SpanKind::Server, Some(unsampled)).is_none());
    }

    #[test]
    fn about_as_many_are_recorded_as_asked_for() {
        let (tracer, ..) = tracer(250_000);
        let recorded = (0..4_000).filter(|_| tracer.start("a", SpanKind::Server, None).is_some()).count();
        assert!((800..1_200).contains(&recorded), "{recorded}");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracer, spans, dropped) = tracer(1_000_000);
        for _ in 0..SPANS_QUEUED_MAX + 3 {
            tracer.finish(tracer.start("a", SpanKind::Internal, None).unwrap());
        }
        assert_eq!((spans.len(), dropped.get()), (SPANS_QUEUED_MAX, 3));
    }

    #[test]
    fn work_for_several_traces_is_part_of_the_first_and_linked_to_the_others() {
        let (tracer, ..) = tracer(0);
        let mut causes = Causes::default();
        for id in [3, 4, 3, 5] {
            causes.add(Some(TraceContext { trace_id: id, span_id: 1, is_sampled: id != 5 }));
        }
        let span = tracer.start_for("a", SpanKind::Consumer, &causes).unwrap();
        let links: Vec<u128> = span.links.iter().map(|link| link.trace_id).collect();
        assert_eq!((span.context.trace_id, links), (3, vec![4]));
        for id in 0..100 {
            causes.add(Some(TraceContext { trace_id: 100 + id, span_id: 1, is_sampled: true }));
        }
        assert!(causes.is_full() && causes.0.len() == SPAN_LINKS_MAX + 1);
        assert!(tracer.start_for("a", SpanKind::Consumer, &Causes::default()).is_none());
    }
}
