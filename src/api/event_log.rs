//! The service `EventLog`: append, read, subscribe. Handlers convert, call and answer; they decide nothing.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    convert,
    proto::v1::{self, append_stream_response::Outcome, event_log_server},
    status::Refusal,
    subscribe,
};
use crate::{
    append::{Answer, AppendError, Appended, Appender},
    clock::Clock,
    event::{EventId, Position},
    events::{Events, EventsError, Page, PageRequest},
    index::{Direction, Filter, StreamEntry},
    lifecycle::Lifecycle,
    limits::{APPEND_STREAM_IN_FLIGHT_MAX, READ_BATCH_BYTES_MAX, READ_BATCH_EVENTS_MAX},
    metrics::Metrics,
};

/// Messages that wait for a reader's connection.
const READ_AHEAD_MESSAGES: usize = 2;

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    pub(crate) node: Arc<str>,
    pub(crate) appender: Appender,
    pub(crate) events: Events,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl event_log_server::EventLog for EventLog {
    async fn append(
        &self,
        request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let answer = match self.submit(request.into_inner()).await {
            Ok(answer) => self.answer(answer.await),
            Err(refusal) => Err(refusal),
        };
        self.count(answer.as_ref().err());
        Ok(Response::new(answer?))
    }

    type AppendStreamStream = Responses<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (in_flight, answers) = mpsc::channel(APPEND_STREAM_IN_FLIGHT_MAX);
        self.lifecycle.tasks().spawn(self.clone().take_in(request.into_inner(), in_flight));
        let service = self.clone();
        let respond = move |answer: InFlight| {
            let service = service.clone();
            async move {
                let outcome = match answer? {
                    Ok(answer) => service.answer(answer.await),
                    Err(refusal) => Err(refusal),
                };
                service.count(outcome.as_ref().err());
                let outcome =
                    outcome.map_or_else(|refusal| Outcome::Failure(refusal.into()), Outcome::Appended);
                Ok(v1::AppendStreamResponse { outcome: Some(outcome) })
            }
        };
        Ok(Response::new(Box::pin(ReceiverStream::new(answers).then(respond))))
    }

    type ReadStream = Responses<v1::ReadResponse>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let head = self.events.head().get();
        let read = Read {
            filter: convert::filter(request.filter)?,
            direction: if request.backwards { Direction::Backward } else { Direction::Forward },
            left: match request.limit {
                Some(0) => {
                    return Err(
                        Refusal::field("INVALID_LIMIT", "limit", "expected at least 1, found 0").into()
                    );
                }
                limit => limit.unwrap_or(u64::MAX),
            },
            cursor: match after(request.after, head)? {
                Some(after) => after,
                None if request.backwards => head.next(),
                None => Position::ZERO,
            },
            head,
        };
        let (messages, responses) = mpsc::channel(READ_AHEAD_MESSAGES);
        self.lifecycle.tasks().spawn(self.clone().read_all(read, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    type SubscribeStream = Responses<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let filter = convert::filter(request.filter)?;
        let after = after(request.after, self.events.head().get())?.unwrap_or(Position::ZERO);
        let (messages, responses) = mpsc::channel(READ_AHEAD_MESSAGES);
        self.lifecycle.tasks().spawn(subscribe::run(self.clone(), filter, after, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn get_event(
        &self,
        request: Request<v1::GetEventRequest>,
    ) -> Result<Response<v1::GetEventResponse>, Status> {
        use v1::get_event_request::By;
        let by = request.into_inner().by;
        let none = |what: String| Refusal::new(Code::NotFound, "EVENT_NOT_FOUND", what);
        let event = match by {
            Some(By::Position(0)) => {
                return Err(
                    Refusal::field("INVALID_POSITION", "position", "expected at least 1, found 0").into()
                );
            }
            Some(By::Position(position)) => {
                let position = Position::new(position);
                let head = self.events.head().get();
                let found = self.blocking(move |events| events.at(position)).await?;
                found.ok_or_else(|| {
                    none(format!("there is no event at position {position}; the head is {head}"))
                })
            }
            Some(By::Id(id)) => {
                let invalid = |invalid| Refusal::field("INVALID_ID", "id", invalid);
                let id = EventId::from_slice(&id).map_err(invalid)?;
                let found = self.blocking(move |events| events.by_id(&id)).await?;
                found.ok_or_else(|| none(format!("there is no event with the id {id}")))
            }
            None => Err(Refusal::field("MISSING_FIELD", "by", "expected a position or an id, found neither")),
        };
        Ok(Response::new(v1::GetEventResponse { event: Some(convert::event(event?)) }))
    }

    async fn get_head(
        &self,
        _request: Request<v1::GetHeadRequest>,
    ) -> Result<Response<v1::GetHeadResponse>, Status> {
        let head = self.events.head().get();
        Ok(Response::new(v1::GetHeadResponse {
            head: head.get(),
            token: Some(convert::token_out(self.events.token(head))),
            node: self.node.to_string(),
            first_position: self.events.log().first_position().get(),
        }))
    }

    async fn get_tracking(
        &self,
        request: Request<v1::GetTrackingRequest>,
    ) -> Result<Response<v1::GetTrackingResponse>, Status> {
        let source = convert::source(&request.into_inner().source, "source")?;
        let stored = self.blocking(move |events| events.tracking(&source)).await?;
        let (source_position, stored_at) =
            stored.map_or((0, 0), |(tracking, position)| (tracking.position, position.get()));
        Ok(Response::new(v1::GetTrackingResponse { source_position, stored_at }))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        let request = request.into_inner();
        let page_size = convert::page_size(request.page_size)?;
        let prefix = request.prefix.unwrap_or_default();
        let after = request.page_token.map(|token| stream_after(&token, &prefix)).transpose()?;
        let include_system = request.include_system;
        let wanted = prefix.clone();
        let list = move |events: &Events| {
            Ok(events.index().list_streams(
                &wanted,
                after.as_deref().unwrap_or_default(),
                page_size + 1,
                include_system,
            )?)
        };
        let mut streams = self.blocking(list).await?;
        let more = streams.len() > page_size;
        streams.truncate(page_size);
        let last = streams.last().map(|entry| entry.stream.as_str());
        let next_page_token = last.filter(|_| more).map(|last| format!("{}:{prefix}{last}", prefix.len()));
        let info = |entry: StreamEntry| v1::StreamInfo {
            stream: entry.stream.as_str().to_owned(),
            revision: entry.head.revision.get(),
            last_position: entry.head.last_position.get(),
        };
        let streams = streams.into_iter().map(info).collect();
        Ok(Response::new(v1::ListStreamsResponse { streams, next_page_token }))
    }
}

/// One request of an append stream: a refusal, or an answer on its way; the outer error ends the stream.
type InFlight = Result<Result<oneshot::Receiver<Answer>, Refusal>, Status>;

/// A read on its way.
struct Read {
    filter: Filter,
    direction: Direction,
    left: u64,
    cursor: Position,
    head: Position,
}

impl EventLog {
    async fn submit(&self, request: v1::AppendRequest) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let mut request = convert::append_request(request, &*self.clock)?;
        if request.reaches_back(self.events.head().get()) {
            // A long look back is not the committer's work: everybody's appends wait for that.
            let look_ahead = move |events: &Events| {
                request.look_ahead(events.index(), events.head().get())?;
                Ok(request)
            };
            request = self.blocking(look_ahead).await?;
        }
        Ok(self.appender.submit(request)?)
    }

    fn answer(
        &self,
        answer: Result<Answer, oneshot::error::RecvError>,
    ) -> Result<v1::AppendResponse, Refusal> {
        let gone = |_| Err(AppendError::OutcomeUnknown("the committer stopped".into()));
        let appended: Appended = answer.unwrap_or_else(gone)?;
        let event = |event: &crate::append::AppendedEvent| v1::AppendedEvent {
            position: event.position.get(),
            revision: event.revision.get(),
            already_existed: event.already_existed,
            id: bytes::Bytes::copy_from_slice(event.id.as_bytes()),
        };
        Ok(v1::AppendResponse {
            events: appended.events.iter().map(event).collect(),
            already_applied: appended.already_applied(),
            token: Some(convert::token_out(self.events.token(appended.position))),
        })
    }

    fn count(&self, refusal: Option<&Refusal>) {
        let outcome = refusal.map_or("ok", Refusal::reason);
        self.metrics.append_requests.with_label_values(&[outcome]).inc();
    }

    /// Submits what an append stream brings, in order, until it ends or the client is gone.
    async fn take_in(
        self,
        mut requests: Streaming<v1::AppendStreamRequest>,
        in_flight: mpsc::Sender<InFlight>,
    ) {
        loop {
            let message = tokio::select! {
                message = requests.message() => message,
                () = self.lifecycle.stop().cancelled() => Err(subscribe::stopping().into()),
            };
            let next = match message {
                Ok(Some(message)) => {
                    let missing =
                        || Refusal::field("MISSING_FIELD", "request", "expected a request, found none");
                    match message.request.ok_or_else(missing) {
                        Ok(request) => Ok(self.submit(request).await),
                        Err(refusal) => Ok(Err(refusal)),
                    }
                }
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let last = next.is_err();
            if in_flight.send(next).await.is_err() || last {
                return;
            }
        }
    }

    /// Sends a read's pages until it is at its end or the client is gone.
    async fn read_all(self, mut read: Read, messages: mpsc::Sender<Result<v1::ReadResponse, Status>>) {
        let mut sent = false;
        while !read.at_end() {
            let events_max =
                usize::try_from(read.left).map_or(READ_BATCH_EVENTS_MAX, |n| n.min(READ_BATCH_EVENTS_MAX));
            let page = self.page(&read.filter, read.direction, read.cursor, read.head, events_max).await;
            let message = page.map(|page| {
                read.cursor = page.scanned_to;
                read.left -= page.events.len() as u64;
                page.events
            });
            let message = match message {
                Ok(events) if events.is_empty() => continue,
                Ok(events) => Ok(self.read_response(events, read.head)),
                Err(refusal) => Err(Status::from(refusal)),
            };
            sent = true;
            let last = message.is_err();
            if messages.send(message).await.is_err() || last {
                return;
            }
        }
        if !sent {
            drop(messages.send(Ok(self.read_response(Vec::new(), read.head))).await);
        }
    }

    fn read_response(&self, events: Vec<crate::event::RecordedEvent>, head: Position) -> v1::ReadResponse {
        self.metrics.read_events.inc_by(events.len() as u64);
        v1::ReadResponse { events: events.into_iter().map(convert::event).collect(), head: head.get() }
    }

    /// One page, read on a thread that may block.
    pub(crate) async fn page(
        &self,
        filter: &Filter,
        direction: Direction,
        from: Position,
        upto: Position,
        events_max: usize,
    ) -> Result<Page, Refusal> {
        let filter = filter.clone();
        let bytes_max = READ_BATCH_BYTES_MAX;
        self.blocking(move |events| {
            events.page(PageRequest { filter: &filter, direction, from, upto, events_max, bytes_max })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Events) -> Result<T, EventsError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let events = self.events.clone();
        let done = tokio::task::spawn_blocking(move || read(&events)).await;
        match done {
            Ok(result) => Ok(result?),
            Err(error) => {
                Err(Refusal::new(Code::Internal, "INTERNAL", format!("a read did not end: {error}")))
            }
        }
    }
}

impl Read {
    fn at_end(&self) -> bool {
        self.left == 0
            || match self.direction {
                Direction::Forward => self.cursor >= self.head,
                Direction::Backward => self.cursor <= Position::new(1),
            }
    }
}

/// A position to start from: not above the head.
fn after(after: Option<u64>, head: Position) -> Result<Option<Position>, Refusal> {
    match after.map(Position::new) {
        Some(after) if after > head => {
            let what = format!("expected at most the head {head}, found {after}");
            let refusal = Refusal::field("AFTER_BEYOND_HEAD", "after", what).code(Code::OutOfRange);
            Err(refusal.with("head", head).with("actual", after))
        }
        after => Ok(after),
    }
}

/// The stream behind which a page begins; the token says for which prefix it was made.
fn stream_after(token: &str, prefix: &str) -> Result<String, Refusal> {
    let refused = |what: &str| Refusal::field("PAGE_TOKEN_MISMATCH", "page_token", what);
    let parsed = token.split_once(':').and_then(|(len, rest)| {
        let len: usize = len.parse().ok()?;
        Some((rest.get(..len)?, rest.get(len..)?))
    });
    match parsed {
        Some((for_prefix, after)) if for_prefix == prefix => Ok(after.to_owned()),
        Some(_) => Err(refused("expected the token of a page with the same prefix, found another's")),
        None => Err(refused("expected a next_page_token of this call, found something else")),
    }
}
