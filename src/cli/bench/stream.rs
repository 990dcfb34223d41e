//! A writer over one append stream: requests are pipelined, answers come in their order.
//!
//! The stream of requests and the reader of answers share a queue of what is unanswered, which bounds the pipeline.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    answer,
    run::{Course, Tally, Worker},
    wire::{Fields, Raw, put_len},
    workload::{Sent, Writer},
};
use crate::{api::proto::v1::Failure, cli::error::reason, limits::MESSAGE_BYTES_MAX};

const PATH: &str = "/outrigger.v1.EventLog/AppendStream";
/// Room for small messages that are sent together.
const BUFFER_BYTES: usize = 64 * 1024;

/// Requests that wait for their answers.
#[derive(Debug, Default)]
struct Unanswered {
    /// When each was sent, and how many events it has.
    requests: VecDeque<(Instant, usize)>,
    events: VecDeque<Sent>,
    /// The stream of requests, where it waits for room.
    waiting: Option<Waker>,
}

#[derive(Debug)]
struct Pipe {
    in_flight_max: usize,
    unanswered: Mutex<Unanswered>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of a writer, as many as there is room for.
struct Requests {
    writer: Writer,
    pipe: Arc<Pipe>,
    course: Arc<Course>,
    request: Vec<u8>,
    sent: Vec<Sent>,
}

impl Stream for Requests {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Self { writer, pipe, course, request, sent } = self.get_mut();
        if course.stopped() {
            return Poll::Ready(None);
        }
        let mut unanswered = pipe.lock();
        if unanswered.requests.len() >= pipe.in_flight_max {
            unanswered.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        request.clear();
        sent.clear();
        if !writer.request(request, sent) {
            return Poll::Ready(None);
        }
        let mut message = Vec::with_capacity(request.len() + 8);
        put_len(&mut message, 1, request.len());
        message.extend_from_slice(request);
        unanswered.requests.push_back((Instant::now(), sent.len()));
        unanswered.events.extend(sent.iter());
        Poll::Ready(Some(message.into()))
    }
}

/// Appends over one stream until the run ends.
pub(super) async fn append(worker: Worker, writer: Writer, in_flight_max: usize) -> Tally {
    let Worker { connection, course, .. } = worker;
    let pipe = Arc::new(Pipe { in_flight_max, unanswered: Mutex::default() });
    let requests = Requests {
        writer,
        pipe: Arc::clone(&pipe),
        course: Arc::clone(&course),
        request: Vec::new(),
        sent: Vec::new(),
    };
    let mut tally = Tally::default();
    if let Err(status) = exchange(Grpc::new(connection), requests, &pipe, &course, &mut tally).await
        && tally.failed(&reason(&status))
    {
        tracing::debug!(%status, "the append stream broke off");
    }
    tally
}

async fn exchange(
    grpc: Grpc<crate::cli::client::Connection>,
    requests: Requests,
    pipe: &Pipe,
    course: &Course,
    tally: &mut Tally,
) -> Result<(), Status> {
    let mut grpc = grpc.max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(PATH);
    let answers = grpc.streaming(Request::new(requests), path, Raw::new(BUFFER_BYTES)).await?;
    let mut answers = answers.into_inner();
    let mut sent = Vec::new();
    while let Some(message) = answers.message().await? {
        let mut unanswered = pipe.lock();
        let Some((started, count)) = unanswered.requests.pop_front() else {
            return Err(Status::internal("an answer came that nothing was sent for"));
        };
        sent.clear();
        sent.extend(unanswered.events.drain(..count));
        // Waking the writer for every answer would make it send single messages.
        let has_room = unanswered.requests.len() <= pipe.in_flight_max / 2;
        let waiting = if has_room { unanswered.waiting.take() } else { None };
        drop(unanswered);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        match check(&message, &sent) {
            Ok(()) => tally.answered(course, started, count as u64),
            Err(reason) if tally.failed(&reason) => {}
            Err(_) => return Ok(()),
        }
    }
    let left = pipe.lock().requests.len();
    if left > 0 && tally.failed("BENCH_UNANSWERED") {
        tracing::debug!(left, "requests of an append stream were not answered");
    }
    Ok(())
}

/// Checks one `AppendStreamResponse`.
fn check(message: &[u8], sent: &[Sent]) -> Result<(), String> {
    match Fields::of(message).next() {
        Some((1, value)) => answer::appended(value.bytes(), sent).map(|_| ()).map_err(str::to_owned),
        Some((2, value)) => {
            let failure = Failure::decode(value.bytes()).unwrap_or_default();
            Err(if failure.reason.is_empty() { "BENCH_BROKEN_ANSWER".into() } else { failure.reason })
        }
        _ => Err("BENCH_BROKEN_ANSWER".into()),
    }
}
