//! Appends over gRPC: single calls and streams of requests.
//!
//! Owns how messages become requests in the committer's queue and answers become messages. Invariants: a stream's
//! answers come in the order of its requests, exactly one for each; requests that have arrived together are queued
//! together. Decides nothing about events.

use std::{pin::Pin, time::Instant};

use bytes::BytesMut;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    convert,
    event_log::EventLog,
    proto::v1::{self, append_stream_response::Outcome},
    raw_append::{AppendRequest, AppendStreamRequest, NewEvent},
    status::Refusal,
    subscribe,
};
use crate::{
    append::{Answer, AppendError, Appended, Request},
    events::Events,
    limits::{APPEND_STREAM_CHUNK_BYTES, APPEND_STREAM_CHUNK_REQUESTS, APPEND_STREAM_CHUNKS_MAX},
    trace::{TraceContext, with_traceparent},
};

/// The answers of a stream of appends.
pub(crate) type Responses = Pin<Box<dyn Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send>>;

/// Answers one request.
pub(crate) async fn one(
    service: &EventLog,
    request: AppendRequest,
    trace: Option<TraceContext>,
) -> Result<v1::AppendResponse, Refusal> {
    let began = Instant::now();
    let answer = match request_of(service, request).await {
        Ok(request) => match service.appender.submit(in_trace(request, trace)) {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(unanswered())),
            Err(error) => Err(error),
        },
        Err(refusal) => return Err(counted(service, refusal)),
    };
    service.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
    response(service, answer)
}

/// The request as part of a trace, which its events name from now on unless they name one.
fn in_trace(mut request: Request, trace: Option<TraceContext>) -> Request {
    if let Some(context) = &trace {
        for event in &mut request.events {
            event.metadata = with_traceparent(event.metadata.take(), context);
        }
    }
    request.trace = trace;
    request
}

/// Answers the requests of a stream.
pub(crate) fn stream(
    service: &EventLog,
    requests: Streaming<AppendStreamRequest>,
    trace: Option<TraceContext>,
) -> Responses {
    let (in_flight, chunks) = mpsc::channel(APPEND_STREAM_CHUNKS_MAX);
    service.lifecycle.tasks().spawn(take_in(service.clone(), requests, trace, in_flight));
    let service = service.clone();
    let respond = move |chunk: Result<Chunk, Status>| {
        let service = service.clone();
        async move {
            match chunk {
                Ok(chunk) => chunk.responses(&service).await,
                Err(status) => vec![Err(status)],
            }
        }
    };
    let responses = ReceiverStream::new(chunks).then(respond);
    Box::pin(responses.flat_map(tokio_stream::iter))
}

/// Requests of a stream that were queued together.
struct Chunk {
    /// In order: the refusal of one that was not queued.
    refusals: Vec<Option<Refusal>>,
    /// The answers to the others; `None` if there are none.
    answers: Option<oneshot::Receiver<Vec<Answer>>>,
    /// When they came.
    began: Instant,
}

impl Chunk {
    async fn responses(self, service: &EventLog) -> Vec<Result<v1::AppendStreamResponse, Status>> {
        let answers = match self.answers {
            Some(answers) => answers.await.unwrap_or_default(),
            None => Vec::new(),
        };
        service.metrics.append_seconds.observe(self.began.elapsed().as_secs_f64());
        let mut answers = answers.into_iter();
        let respond = |refusal: Option<Refusal>| {
            let outcome = match refusal {
                Some(refusal) => Err(counted(service, refusal)),
                None => response(service, answers.next().unwrap_or_else(|| Err(unanswered()))),
            };
            let outcome = outcome.map_or_else(|refusal| Outcome::Failure(refusal.into()), Outcome::Appended);
            Ok(v1::AppendStreamResponse { outcome: Some(outcome) })
        };
        self.refusals.into_iter().map(respond).collect()
    }
}

/// Queues what a stream brings, in order, until it ends or the client is gone.
async fn take_in(
    service: EventLog,
    mut requests: Streaming<AppendStreamRequest>,
    trace: Option<TraceContext>,
    in_flight: mpsc::Sender<Result<Chunk, Status>>,
) {
    loop {
        let (messages, end) = tokio::select! {
            arrived = arrived(&mut requests) => arrived,
            () = service.lifecycle.stop().cancelled() => (Vec::new(), Some(Err(subscribe::stopping().into()))),
        };
        if !messages.is_empty() {
            let chunk = queue(&service, messages, trace).await;
            if in_flight.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        match end {
            None => {}
            Some(Ok(())) => return,
            Some(Err(status)) => {
                drop(in_flight.send(Err(status)).await);
                return;
            }
        }
    }
}

/// How a stream of requests ended, if it did.
type End = Option<Result<(), Status>>;

/// The messages that are there, at least one unless the stream has ended.
async fn arrived(requests: &mut Streaming<AppendStreamRequest>) -> (Vec<AppendStreamRequest>, End) {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while messages.len() < APPEND_STREAM_CHUNK_REQUESTS && bytes < APPEND_STREAM_CHUNK_BYTES {
        let next =
            if messages.is_empty() { Some(requests.next().await) } else { requests.next().now_or_never() };
        match next {
            Some(Some(Ok(message))) => {
                bytes += size_bytes(&message);
                messages.push(message);
            }
            Some(Some(Err(status))) => return (messages, Some(Err(status))),
            Some(None) => return (messages, Some(Ok(()))),
            None => break,
        }
    }
    (messages, None)
}

/// About what a message takes in the queue and in a group.
fn size_bytes(message: &AppendStreamRequest) -> usize {
    const FRAMING_BYTES: usize = 128;
    let events = message.request.iter().flat_map(|request| &request.events);
    let event_bytes = |event: &NewEvent| {
        let tags: usize = event.tags.iter().map(|tag| tag.len() + 4).sum();
        let metadata = event.metadata.as_ref().map_or(0, bytes::Bytes::len);
        event.r#type.len() + event.stream.len() + tags + event.data.len() + metadata + FRAMING_BYTES
    };
    events.map(event_bytes).sum()
}

async fn queue(service: &EventLog, messages: Vec<AppendStreamRequest>, trace: Option<TraceContext>) -> Chunk {
    let began = Instant::now();
    let mut refusals = Vec::with_capacity(messages.len());
    let mut requests = Vec::with_capacity(messages.len());
    for message in messages {
        let missing = || Refusal::field("MISSING_FIELD", "request", "expected a request, found none");
        let request = match message.request.ok_or_else(missing) {
            Ok(request) => request_of(service, request).await,
            Err(refusal) => Err(refusal),
        };
        match request {
            Ok(request) => {
                refusals.push(None);
                requests.push(request);
            }
            Err(refusal) => refusals.push(Some(refusal)),
        }
    }
    if requests.is_empty() {
        return Chunk { refusals, answers: None, began };
    }
    // One span says how those that came together are committed. Their events name the traces that their clients gave them.
    requests[0].trace = trace;
    match service.appender.submit_all(requests) {
        Ok(answers) => Chunk { refusals, answers: Some(answers), began },
        Err(error) => {
            let refusal = Refusal::from(error);
            let refusals = refusals.into_iter().map(|own| own.or_else(|| Some(refusal.clone()))).collect();
            Chunk { refusals, answers: None, began }
        }
    }
}

async fn request_of(service: &EventLog, request: AppendRequest) -> Result<Request, Refusal> {
    let mut request = convert::append_request(request, &*service.clock)?;
    check_ownership(service, &request)?;
    if request.reaches_back(service.events.head().get()) {
        // A long look back is not the committer's work: everybody's appends wait for that.
        let look_ahead = move |events: &Events| {
            request.look_ahead(events.index(), events.head().get())?;
            Ok(request)
        };
        request = service.blocking(look_ahead).await?;
    }
    Ok(request)
}

/// Refuses what is another node's to append. Nothing else reaches the queue of what a client sends.
fn check_ownership(service: &EventLog, request: &Request) -> Result<(), Refusal> {
    let ownership = service.ownership.get();
    for (index, event) in request.events.iter().enumerate() {
        if let Err(refused) = ownership.may_append(event.event_type.as_str(), event.stream.as_str()) {
            return Err(Refusal::not_owner(index, refused));
        }
    }
    Ok(())
}

fn response(service: &EventLog, answer: Answer) -> Result<v1::AppendResponse, Refusal> {
    let appended: Appended = answer.map_err(|error| counted(service, error.into()))?;
    service.metrics.append_requests_ok.inc();
    let mut ids = BytesMut::with_capacity(16 * appended.events.len());
    let event = |event: &crate::append::AppendedEvent| v1::AppendedEvent {
        position: event.position.get(),
        revision: event.revision.get(),
        already_existed: event.already_existed,
        id: {
            ids.extend_from_slice(event.id.as_bytes());
            ids.split().freeze()
        },
    };
    Ok(v1::AppendResponse {
        events: appended.events.iter().map(event).collect(),
        already_applied: appended.already_applied(),
        token: Some(convert::token_out(service.events.token(appended.position))),
    })
}

fn counted(service: &EventLog, refusal: Refusal) -> Refusal {
    service.metrics.append_requests.with_label_values(&[refusal.reason()]).inc();
    refusal
}

fn unanswered() -> AppendError {
    AppendError::OutcomeUnknown("the committer stopped".into())
}
