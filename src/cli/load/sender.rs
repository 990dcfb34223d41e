//! Appends batches in order over one append stream, with a bounded window of unanswered requests.
//!
//! Owns the window and the patience. Whatever is unanswered when the connection or the node fails is sent again: event
//! ids make that safe. A request that the node refuses is sent again event by event, so that the one bad line is known.
//! Does not know files.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{
    progress::{Progress, Tally},
    source::{Batch, Item},
};
use crate::{
    api::proto::v1::{
        AppendRequest, AppendResponse, AppendStreamRequest, AppendStreamResponse, NewEvent,
        append_stream_response::Outcome, event_log_client::EventLogClient,
    },
    cli::{client::Connection, error},
    event::{Event, Tag},
    limits::{LOAD_IN_FLIGHT_MAX, LOAD_PAUSE_MAX, LOAD_PAUSE_MIN, LOAD_RETRY_MAX},
};

/// Lines that are reported one by one when they are left out; the others are only counted.
const SKIPPED_SHOWN_MAX: u64 = 20;

/// How a load stands with the node.
#[derive(Debug)]
pub struct Sender {
    client: EventLogClient<Connection>,
    /// The source's name in messages about its lines.
    name: String,
    skip_refused: bool,
    in_flight: VecDeque<Batch>,
    patience: Patience,
    /// What is done.
    pub tally: Tally,
    /// What is shown.
    pub progress: Progress,
    failure: Option<String>,
}

/// Why a stream of appends ended before the batches did.
enum Interrupted {
    /// Try again, not before this pause.
    Again(Status, Option<Duration>),
    /// The first unanswered request was refused.
    Refused,
    /// It is of no use to go on.
    Fatal(String),
}

impl Sender {
    /// Sends to a node that `client` is connected to; the connection mends itself.
    pub fn new(
        client: EventLogClient<Connection>,
        name: String,
        skip_refused: bool,
        progress: Progress,
    ) -> Self {
        Self {
            client,
            name,
            skip_refused,
            in_flight: VecDeque::with_capacity(LOAD_IN_FLIGHT_MAX),
            patience: Patience::new(),
            tally: Tally::default(),
            progress,
            failure: None,
        }
    }

    /// Appends all batches; on an error says what is wrong, and `tally` says what was done before.
    pub async fn send_all(&mut self, mut items: mpsc::Receiver<Item>) -> Result<(), String> {
        loop {
            match self.stream(&mut items).await {
                Ok(()) => return self.failure.take().map_or(Ok(()), Err),
                Err(Interrupted::Again(status, hint)) => self.wait(&status, hint).await?,
                Err(Interrupted::Refused) => self.one_by_one().await?,
                Err(Interrupted::Fatal(message)) => return Err(message),
            }
        }
    }

    /// One append stream, until nothing is left or something comes between.
    async fn stream(&mut self, items: &mut mpsc::Receiver<Item>) -> Result<(), Interrupted> {
        while self.in_flight.is_empty() {
            match items.recv().await {
                Some(item) => self.take(item),
                None => return Ok(()),
            };
        }
        let (requests, outgoing) = mpsc::channel(LOAD_IN_FLIGHT_MAX);
        for batch in &self.in_flight {
            send(&requests, batch).await;
        }
        let mut answers =
            self.client.append_stream(ReceiverStream::new(outgoing)).await.map_err(of_call)?.into_inner();
        let mut more = true;
        while more || !self.in_flight.is_empty() {
            tokio::select! {
                item = items.recv(), if more && self.in_flight.len() < LOAD_IN_FLIGHT_MAX => {
                    match item {
                        Some(item) => {
                            if self.take(item) {
                                let batch = self.in_flight.back().expect("it was just taken");
                                send(&requests, batch).await;
                            }
                        }
                        None => more = false,
                    }
                }
                answer = answers.message(), if !self.in_flight.is_empty() => self.answered(answer)?,
            }
        }
        drop(requests);
        finish(answers).await;
        Ok(())
    }

    /// Takes an item over; true if it is a batch that is to be sent.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Batch(batch) => {
                self.in_flight.push_back(batch);
                return true;
            }
            Item::Skipped(message) => self.skip(&message),
            Item::Failed(message) => self.failure = Some(message),
        }
        false
    }

    fn skip(&mut self, message: &str) {
        self.tally.skipped += 1;
        if self.tally.skipped <= SKIPPED_SHOWN_MAX {
            self.progress.say(&format!("skipped {message}"));
        }
    }

    fn answered(&mut self, answer: Result<Option<AppendStreamResponse>, Status>) -> Result<(), Interrupted> {
        let outcome = answer.map_err(of_call)?.and_then(|response| response.outcome);
        match outcome {
            Some(Outcome::Appended(response)) => {
                self.in_flight.pop_front();
                self.count(&response);
                Ok(())
            }
            Some(Outcome::Failure(failure)) => Err(of_request(error::status_of(failure))),
            None => {
                let status =
                    Status::unavailable("the node ended the stream before it had answered every request");
                Err(Interrupted::Again(status, None))
            }
        }
    }

    fn count(&mut self, response: &AppendResponse) {
        let existing = response.events.iter().filter(|event| event.already_existed).count() as u64;
        self.tally.existing += existing;
        self.tally.loaded += response.events.len() as u64 - existing;
        self.patience = Patience::new();
        self.progress.update(&self.tally);
    }

    /// Sends the events of the refused request alone.
    async fn one_by_one(&mut self) -> Result<(), String> {
        let Some(batch) = self.in_flight.pop_front() else {
            return Ok(());
        };
        for (event, line) in batch.events.iter().zip(&batch.lines) {
            loop {
                match self.client.append(request(std::slice::from_ref(event))).await {
                    Ok(response) => self.count(&response.into_inner()),
                    Err(status) => match of_request(status.clone()) {
                        Interrupted::Again(status, hint) => {
                            self.wait(&status, hint).await?;
                            continue;
                        }
                        Interrupted::Fatal(message) => return Err(message),
                        Interrupted::Refused => {
                            let message = format!("{}:{line}:1: {}", self.name, error::describe(&status));
                            if !self.skip_refused {
                                return Err(message);
                            }
                            self.skip(&message);
                        }
                    },
                }
                break;
            }
        }
        Ok(())
    }

    async fn wait(&mut self, status: &Status, hint: Option<Duration>) -> Result<(), String> {
        let why = error::describe(status);
        let pause = self.patience.next(hint).ok_or_else(|| {
            format!("no progress for {} s; the last answer was: {why}", LOAD_RETRY_MAX.as_secs())
        })?;
        tracing::debug!(?pause, why, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Queues a batch; the queue is as long as the window, so it never waits. A closed queue shows in the answers.
async fn send(requests: &mpsc::Sender<AppendStreamRequest>, batch: &Batch) {
    let request = AppendStreamRequest { request: Some(request(&batch.events)) };
    if requests.send(request).await.is_err() {
        tracing::debug!("the append stream is closed");
    }
}

/// Lets the node end the stream, so that it sees a clean end.
async fn finish(mut answers: Streaming<AppendStreamResponse>) {
    let rest = tokio::time::timeout(LOAD_PAUSE_MIN, answers.message()).await;
    tracing::debug!(?rest, "the append stream has ended");
}

fn request(events: &[Event]) -> AppendRequest {
    AppendRequest {
        events: events.iter().map(new_event).collect(),
        expected_revisions: Vec::new(),
        skip_existing: true,
        fail_if_events_match: Vec::new(),
        tracking: None,
    }
}

/// An event as the protocol carries it.
pub fn new_event(event: &Event) -> NewEvent {
    NewEvent {
        id: Some(Bytes::copy_from_slice(event.id.as_bytes())),
        r#type: event.event_type.as_str().to_owned(),
        stream: event.stream.as_str().to_owned(),
        tags: event.tags.iter().map(|tag: &Tag| tag.as_str().to_owned()).collect(),
        data: event.data.clone(),
        metadata: event.metadata.clone(),
        time: event.time_unix_nanos.map(|nanos| prost_types::Timestamp {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: nanos.rem_euclid(1_000_000_000) as i32,
        }),
    }
}

/// What the end of a whole call means.
fn of_call(status: Status) -> Interrupted {
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::Internal
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted => again(status),
        _ => Interrupted::Fatal(error::describe(&status)),
    }
}

/// What the refusal of one request means.
fn of_request(status: Status) -> Interrupted {
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::Internal
        | Code::DeadlineExceeded
        | Code::ResourceExhausted => again(status),
        Code::Unauthenticated | Code::Unimplemented => Interrupted::Fatal(error::describe(&status)),
        _ => Interrupted::Refused,
    }
}

fn again(status: Status) -> Interrupted {
    let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
    Interrupted::Again(status, hint)
}

/// How long to go on without progress.
#[derive(Debug)]
struct Patience {
    /// The first failure since the last progress.
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    const fn new() -> Self {
        Self { since: None, pause: LOAD_PAUSE_MIN }
    }

    /// The next pause, at least `hint` within bounds; none when the patience is at its end.
    fn next(&mut self, hint: Option<Duration>) -> Option<Duration> {
        let pause = self.pause.max(hint.unwrap_or_default()).min(LOAD_PAUSE_MAX);
        self.pause = (self.pause * 2).min(LOAD_PAUSE_MAX);
        let since = self.since.get_or_insert_with(Instant::now);
        (since.elapsed() + pause <= LOAD_RETRY_MAX).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_heed_hints() {
        let mut patience = Patience::new();
        assert_eq!(patience.next(None), Some(LOAD_PAUSE_MIN));
        assert_eq!(patience.next(None), Some(LOAD_PAUSE_MIN * 2));
        assert_eq!(patience.next(Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        assert_eq!(patience.next(Some(Duration::from_secs(100))), Some(LOAD_PAUSE_MAX));
        patience.since = Instant::now().checked_sub(LOAD_RETRY_MAX);
        assert!(patience.since.is_some());
        assert_eq!(patience.next(None), None);
    }

    #[test]
    fn refusals_are_told_from_interruptions() {
        let check = |code: Code, again: bool| {
            let status = Status::with_error_details(code, "m", ErrorDetails::new());
            assert_eq!(matches!(of_request(status), Interrupted::Again(..)), again, "{code:?}");
        };
        check(Code::Unavailable, true);
        check(Code::ResourceExhausted, true);
        check(Code::AlreadyExists, false);
        check(Code::InvalidArgument, false);
        check(Code::Unauthenticated, false);
    }

    #[test]
    fn an_event_travels_whole() {
        let line = br#"{"id":"3efa6fb7-dee6-57a7-9b42-c58ba424fc02","type":"t","stream":"s","time":"1969-12-31T23:59:59.5Z","data":1}"#;
        let event = crate::cli::load::line::parse(line, &mut crate::cli::load::line::Ids::Required).unwrap();
        let new = new_event(&event);
        assert_eq!(new.time, Some(prost_types::Timestamp { seconds: -1, nanos: 500_000_000 }));
        assert_eq!(new.data, "1");
        assert_eq!(new.id.as_deref(), Some(&event.id.as_bytes()[..]));
    }
}
