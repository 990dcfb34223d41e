//! Fills a log as fast as the node takes it: one append stream with requests of 1,000 events, so that they stay in order.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Flights;
use crate::{
    api::proto::v1::{AppendRequest, AppendStreamRequest, append_stream_response::Outcome},
    cli::{
        bench::Client,
        error::{CliError, status_of},
    },
};

/// Events of a request.
const BATCH: u64 = 1_000;
/// Requests that are made ahead of the stream.
const READY_MAX: usize = 4;

/// Appends so many events and gives the rest back.
pub(in crate::cli::bench) async fn append(
    log: &mut Client,
    flights: Flights,
    events: u64,
) -> Result<Flights, CliError> {
    let (requests, outgoing) = mpsc::channel(READY_MAX);
    let maker =
        std::thread::Builder::new().name("flights".into()).spawn(move || make(flights, events, &requests));
    let maker = maker.map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    let mut answers = log.append_stream(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut appended = 0;
    while let Some(answer) = answers.message().await? {
        match answer.outcome {
            Some(Outcome::Appended(answer)) if !answer.already_applied => {
                appended += answer.events.len() as u64;
            }
            Some(Outcome::Failure(failure)) => return Err(status_of(failure).into()),
            _ => return Err(CliError::failed("the node answered an append with nothing new")),
        }
    }
    if appended != events {
        return Err(CliError::failed(format!("{appended} of {events} events were acknowledged")));
    }
    maker.join().map_err(|_| CliError::failed("the thread that makes events panicked"))
}

fn make(mut flights: Flights, events: u64, requests: &mpsc::Sender<AppendStreamRequest>) -> Flights {
    let mut left = events;
    while left > 0 {
        let batch = left.min(BATCH);
        let events = flights.by_ref().take(batch as usize).collect();
        let request = AppendRequest { events, ..AppendRequest::default() };
        if requests.blocking_send(AppendStreamRequest { request: Some(request) }).is_err() {
            break;
        }
        left -= batch;
    }
    flights
}
