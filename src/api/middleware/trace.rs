//! A span for every call of the node's own services, in the trace that the caller names.
//!
//! Invariants: where nobody takes spans a call passes as it is; else its context is an extension of the request, and its span
//! ends with the last byte of the answer, or when the caller is gone. Health checks and reflection have none. Names are those
//! of OpenTelemetry's conventions for RPC. Does not know what calls do.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::{BoxFuture, Either};
use http_body::Frame;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Service, http},
};
use tower::Layer;

use crate::trace::{Span, SpanKind, TraceContext, Tracer};

const SERVICES: &str = "/outrigger.v1.";

/// Puts `Traced` around services.
#[derive(Debug, Clone)]
pub(crate) struct TraceLayer(pub(crate) Tracer);

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, tracer: self.0.clone() }
    }
}

/// A service whose calls have spans.
#[derive(Debug, Clone)]
pub(crate) struct Traced<S> {
    inner: S,
    tracer: Tracer,
}

impl<S> Service<http::Request<Body>> for Traced<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(span) = begin(&self.tracer, &request) else {
            return Either::Left(self.inner.call(request));
        };
        request.extensions_mut().insert(span.context);
        let mut open = Open { tracer: self.tracer.clone(), span: Some(span) };
        let answer = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let response = answer.await?;
            if let Some(status) = Status::from_header_map(response.headers()) {
                open.end(status.code());
            }
            Ok(response.map(|body| Body::new(TracedBody { body, open })))
        }))
    }
}

fn begin(tracer: &Tracer, request: &http::Request<Body>) -> Option<Box<Span>> {
    if !tracer.is_on() {
        return None;
    }
    let call = request.uri().path().strip_prefix(SERVICES)?;
    let (service, method) = call.split_once('/')?;
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let parent = parent.and_then(TraceContext::parse);
    let span = tracer.start(format!("outrigger.v1.{service}/{method}"), SpanKind::Server, parent)?;
    let span = span.with("rpc.system", "grpc").with("rpc.service", format!("outrigger.v1.{service}"));
    Some(span.with("rpc.method", method.to_owned()))
}

/// A span that ends once.
struct Open {
    tracer: Tracer,
    span: Option<Box<Span>>,
}

impl Open {
    fn end(&mut self, code: Code) {
        let Some(span) = self.span.take() else { return };
        let span = span.with("rpc.grpc.status_code", u64::from(i32::from(code).unsigned_abs()));
        // What the caller did wrong is no error of the server, by those conventions.
        let is_error = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        self.tracer.finish(if is_error { span.failed(format!("{code:?}")) } else { span });
    }
}

impl Drop for Open {
    /// The caller is gone.
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// An answer on its way.
struct TracedBody {
    body: Body,
    open: Open,
}

impl HttpBody for TracedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = Status::from_header_map(trailers);
                    this.open.end(status.map_or(Code::Ok, |status| status.code()));
                }
            }
            Some(Err(_)) => this.open.end(Code::Unknown),
            None => this.open.end(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
