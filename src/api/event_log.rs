//! The service `EventLog`: append, read, subscribe. Handlers convert, call and answer; they decide nothing.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    append, convert, outbox,
    proto::{raw_servers::event_log_server, v1},
    raw, raw_append, read,
    status::Refusal,
    subscribe,
};
use crate::{
    append::Appender,
    clock::Clock,
    event::{EventId, Position},
    events::{Events, EventsError},
    index::StreamEntry,
    lifecycle::Lifecycle,
    metrics::Metrics,
    ownership::InForce,
};

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    pub(crate) node: Arc<str>,
    pub(crate) appender: Appender,
    pub(crate) ownership: InForce,
    pub(crate) events: Events,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    /// How long a message may wait for a reader that takes none.
    pub(crate) reader_stall: Duration,
}

#[tonic::async_trait]
impl event_log_server::EventLog for EventLog {
    async fn append(
        &self,
        request: Request<raw_append::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let trace = request.extensions().get().copied();
        Ok(Response::new(append::one(self, request.into_inner(), trace).await?))
    }

    type AppendStreamStream = append::Responses;

    async fn append_stream(
        &self,
        request: Request<Streaming<raw_append::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let trace = request.extensions().get().copied();
        Ok(Response::new(append::stream(self, request.into_inner(), trace)))
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

impl EventLog {
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
