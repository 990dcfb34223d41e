//! The service `EventLog`: append, read, subscribe. Handlers convert, call and answer; they decide nothing.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    convert, outbox,
    proto::{
        raw_servers::event_log_server,
        v1::{self, append_stream_response::Outcome},
    },
    raw, read,
    status::Refusal,
    subscribe,
};
use crate::{
    append::{Answer, AppendError, Appended, Appender},
    clock::Clock,
    event::{EventId, Position},
    events::{Events, EventsError},
    index::StreamEntry,
    lifecycle::Lifecycle,
    limits::APPEND_STREAM_IN_FLIGHT_MAX,
    metrics::Metrics,
};

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    pub(crate) node: Arc<str>,
    pub(crate) appender: Appender,
    pub(crate) events: Events,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    /// How long a message may wait for a reader that takes none.
    pub(crate) reader_stall: Duration,
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

    type ReadStream = outbox::Responses<raw::ReadResponse>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(Response::new(read::start(self.clone(), request.into_inner()).await?))
    }

    type SubscribeStream = outbox::Responses<raw::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Ok(Response::new(subscribe::start(self.clone(), request.into_inner())?))
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

    /// Reads on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
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
