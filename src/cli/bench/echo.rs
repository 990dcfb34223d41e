//! The bare gRPC server of the baseline, and the stream to it. **Frozen**, as the baseline is.
//!
//! It answers with the first bytes of what it is sent; the first 4 bytes, little endian, say how many. The server ends
//! when its standard input does, so that it never outlives the process that started it.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client,
    codegen::http::{self, uri::PathAndQuery},
    server::{self, NamedService},
    transport::{Server, server::TcpIncoming},
};

use super::{
    run::{Course, Tally, Worker},
    wire::Raw,
};
use crate::{
    cli::{error::CliError, error::reason, output::print_lines},
    limits::{CONNECTION_STREAMS_MAX, MESSAGE_BYTES_MAX},
};

/// One call, one answer.
pub const UNARY_PATH: &str = "/outrigger.bench.Echo/Unary";
const STREAM_PATH: &str = "/outrigger.bench.Echo/Stream";
/// Unanswered messages of a stream.
const IN_FLIGHT_MAX: usize = 4_000;
const BUFFER_BYTES: usize = 64 * 1_024;

/// Shown below the help.
pub const EXAMPLES: &str = "Examples:\n  outrigger bench echo-server";

/// Writes into a message how many of its bytes are to come back.
pub fn set_answer_bytes(message: &mut [u8], count: u32) {
    if let Some(head) = message.get_mut(..4) {
        head.copy_from_slice(&count.to_le_bytes());
    }
}

/// How many bytes of a message come back.
pub fn answer_bytes(message: &[u8]) -> usize {
    let head = message.first_chunk().map_or(0, |head| u32::from_le_bytes(*head));
    (head as usize).min(message.len())
}

/// Runs the server until standard input ends, and says where it listens.
pub async fn serve() -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::failed(format!("the bare server failed: {error}"));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let listener = listener.map_err(|error| failed(&error))?;
    let addr = listener.local_addr().map_err(|error| failed(&error))?;
    print_lines(&[addr.to_string()])?;
    let (told, end) = tokio::sync::oneshot::channel::<()>();
    let wait = std::thread::Builder::new().spawn(move || {
        let read = io::copy(&mut io::stdin(), &mut io::sink());
        tracing::debug!(?read, "standard input has ended");
        drop(told);
    });
    wait.map_err(|error| failed(&error))?;
    let end = async {
        let end = end.await;
        tracing::debug!(?end, "the bare server ends");
    };
    Server::builder()
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .add_service(Echo)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), end)
        .await
        .map_err(|error| failed(&error))
}

#[derive(Debug, Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "outrigger.bench.Echo";
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let unary = tower::service_fn(async |request: Request<Bytes>| -> Result<Response<Bytes>, Status> {
            Ok(Response::new(echo(request.into_inner())))
        });
        let stream = tower::service_fn(
            async |request: Request<Streaming<Bytes>>| -> Result<Response<Answers>, Status> {
                let answers: Answers = Box::pin(request.into_inner().map(|message| message.map(echo)));
                Ok(Response::new(answers))
            },
        );
        Box::pin(async move {
            Ok(if request.uri().path() == UNARY_PATH {
                let mut grpc = server::Grpc::new(Raw::new(1_024));
                grpc = grpc.apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), None);
                grpc.unary(unary, request).await
            } else {
                let mut grpc = server::Grpc::new(Raw::new(BUFFER_BYTES));
                grpc = grpc.apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), None);
                grpc.streaming(stream, request).await
            })
        })
    }
}

fn echo(message: Bytes) -> Bytes {
    let count = answer_bytes(&message);
    message.slice(..count)
}

/// Sends a message over one stream, as often as there is room, until the run ends.
pub async fn exchange(worker: Worker, message: Bytes, events: u64) -> Tally {
    let Worker { connection, course, .. } = worker;
    let mut tally = Tally::default();
    let grpc = client::Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    if let Err(status) = pump(grpc, message, events, &course, &mut tally).await
        && tally.failed(&reason(&status))
    {
        tracing::debug!(%status, "the stream broke off");
    }
    tally
}

async fn pump(
    mut grpc: client::Grpc<crate::cli::client::Connection>,
    message: Bytes,
    events: u64,
    course: &Arc<Course>,
    tally: &mut Tally,
) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let expected = message.slice(..answer_bytes(&message));
    let (taken, ends) = (Arc::clone(&room), Arc::clone(course));
    let (tell, times) = std::sync::mpsc::sync_channel(IN_FLIGHT_MAX);
    let messages = tokio_stream::iter(std::iter::repeat(message)).then(move |message| {
        let (room, course, tell) = (Arc::clone(&taken), Arc::clone(&ends), tell.clone());
        async move {
            if course.stopped() {
                return None;
            }
            room.acquire().await.ok()?.forget();
            tell.try_send(Instant::now()).ok()?;
            Some(message)
        }
    });
    let messages = messages.take_while(Option::is_some).filter_map(std::convert::identity);
    let path = PathAndQuery::from_static(STREAM_PATH);
    let answers = grpc.streaming(Request::new(messages), path, Raw::new(BUFFER_BYTES)).await?;
    let mut answers = answers.into_inner();
    let mut owed = 0;
    while let Some(answer) = answers.message().await? {
        let started =
            times.try_recv().map_err(|_| Status::internal("an answer that nothing was sent for"))?;
        // Room is given back in lots, so that messages go out together.
        owed += 1;
        if owed == IN_FLIGHT_MAX / 4 {
            room.add_permits(owed);
            owed = 0;
        }
        if answer == expected {
            tally.answered(course, started, events);
        } else if !tally.failed("BENCH_BROKEN_ANSWER") {
            return Ok(());
        }
    }
    Ok(())
}
