//! Spans as OTLP has them.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status::StatusCode},
};

use super::attribute;
use crate::trace::{self, SpanKind, TraceContext, Value};

/// The flag of W3C Trace Context for a trace that is recorded.
const SAMPLED: u32 = 1;

/// One export.
pub(super) fn request(resource: &Resource, spans: Vec<trace::Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "outrigger".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn span(span: trace::Span) -> Span {
    let kind = match span.kind {
        SpanKind::Internal => span::SpanKind::Internal,
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    };
    let status = span.error.map(|message| Status { message, code: StatusCode::Error.into() });
    let value = |value| match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Number(number) => any_value::Value::IntValue(number),
    };
    Span {
        trace_id: span.context.trace_id.to_be_bytes().to_vec(),
        span_id: span.context.span_id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.start_unix_nanos.unsigned_abs(),
        end_time_unix_nano: span.end_unix_nanos.unsigned_abs(),
        attributes: span.attributes.into_iter().map(|(name, of)| attribute(name, value(of))).collect(),
        links: span.links.into_iter().map(link).collect(),
        status,
        ..Span::default()
    }
}

fn link(context: TraceContext) -> span::Link {
    span::Link {
        trace_id: context.trace_id.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        flags: SAMPLED,
        ..span::Link::default()
    }
}
