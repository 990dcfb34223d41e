//! The service `Query`: documents of projections. Handlers convert, take one snapshot, and answer from it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};

use super::{
    convert::query as convert,
    list_stream,
    outbox::Responses,
    proto::{raw_servers::query_server, v1},
    raw_query::{GetResponse, ListResponse},
    releases::released,
    status::Refusal,
    watch,
};
use crate::{
    lifecycle::Lifecycle,
    limits::{INLINE_DOCUMENTS_MAX, PAGE_SIZE_DEFAULT},
    metrics::Metrics,
    projection::{
        query::{QueryError, ReadContext, Reading},
        registry::Registry,
    },
};

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) projections: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lifecycle: Lifecycle,
    /// How long a message may wait for a reader that takes none.
    pub(crate) reader_stall: Duration,
    /// Places for watchers.
    pub(crate) watchers: Arc<Semaphore>,
}

impl Query {
    /// A snapshot that is as fresh as the request asks.
    pub(super) async fn reading(
        &self,
        projection: &str,
        options: Option<v1::ReadOptions>,
        page_token: Option<&str>,
    ) -> Result<Reading, Refusal> {
        let options = convert::read_options(options)?;
        Ok(self.projections.read(projection, &options, page_token).await?)
    }

    /// The answer, which began then, is there.
    fn answered<T>(&self, began: Instant, context: &ReadContext, answer: T) -> T {
        self.metrics.projections.answered(&context.projection, context.version, began.elapsed());
        answer
    }

    fn counted<T>(&self, method: &str, answer: Result<T, Refusal>) -> Result<Response<T>, Status> {
        let code = answer.as_ref().map_or_else(Refusal::reason, |_| "OK");
        self.metrics.queries.with_label_values(&[method, code]).inc();
        Ok(Response::new(answer?))
    }

    async fn get_one(&self, request: v1::GetRequest) -> Result<GetResponse, Refusal> {
        let began = Instant::now();
        let key = convert::key(request.key, "key")?;
        let reading = self.reading(&request.projection, request.options, None).await?;
        let document = reading.get_wire(&request.collection, &key, &request.fields)?;
        let context = convert::context(&reading.context_of(&request.collection)?);
        Ok(self.answered(began, reading.context(), GetResponse { document, context }))
    }

    async fn get_many(&self, request: v1::BatchGetRequest) -> Result<v1::BatchGetResponse, Refusal> {
        let began = Instant::now();
        let mut keys = Vec::with_capacity(request.keys.len());
        for (at, key) in request.keys.into_iter().enumerate() {
            keys.push(convert::key(Some(key), &format!("keys[{at}]"))?);
        }
        let reading = self.reading(&request.projection, request.options, None).await?;
        let about = reading.context().clone();
        let context = Some(convert::context(&reading.context_of(&request.collection)?));
        let (collection, fields) = (request.collection, request.fields);
        let found = blocking(move || {
            let found = reading.batch_get(&collection, &keys, &fields)?;
            Ok(keys.into_iter().zip(found).collect::<Vec<_>>())
        });
        let result = |(key, document): (_, Option<_>)| v1::BatchGetResult {
            key: Some(convert::key_out(&key)),
            document: document.map(convert::document),
        };
        let results = found.await?.into_iter().map(result).collect();
        Ok(self.answered(began, &about, v1::BatchGetResponse { results, context }))
    }

    async fn page(&self, mut request: v1::ListRequest) -> Result<ListResponse, Refusal> {
        let began = Instant::now();
        let (projection, options) = (std::mem::take(&mut request.projection), request.options.clone());
        let query = convert::list(request)?;
        let reading = self.reading(&projection, options, query.page_token.as_deref()).await?;
        let context = Some(convert::context(&reading.context_of(&query.collection)?));
        let about = reading.context().clone();
        // A short page without a filter costs less than to wake another thread for it.
        let size = query.page_size.unwrap_or(PAGE_SIZE_DEFAULT);
        let (documents, page) = if query.filter.is_none() && size <= INLINE_DOCUMENTS_MAX {
            reading.list_wire(&query)?
        } else {
            blocking(move || reading.list_wire(&query)).await?
        };
        let rest = v1::ListResponse {
            documents: Vec::new(),
            next_page_token: page.next_page_token,
            context,
            scanned: page.scanned as u64,
            scan_limit_hit: page.scan_limit_hit,
        };
        Ok(self.answered(began, &about, ListResponse { documents, rest }))
    }

    async fn number(&self, mut request: v1::CountRequest) -> Result<v1::CountResponse, Refusal> {
        let began = Instant::now();
        let (projection, options) = (std::mem::take(&mut request.projection), request.options.clone());
        let query = convert::count(request)?;
        let reading = self.reading(&projection, options, query.page_token.as_deref()).await?;
        let context = Some(convert::context(&reading.context_of(&query.collection)?));
        let about = reading.context().clone();
        let count = blocking(move || reading.count(&query)).await?;
        let answer = v1::CountResponse {
            count: count.count,
            at_least: count.next_page_token.is_some(),
            next_page_token: count.next_page_token,
            context,
            scanned: count.scanned as u64,
        };
        Ok(self.answered(began, &about, answer))
    }

    async fn plan(&self, request: v1::ExplainRequest) -> Result<v1::ExplainResponse, Refusal> {
        let missing = || Refusal::field("MISSING_FIELD", "request", "expected a list request, found none");
        let mut request = request.request.ok_or_else(missing)?;
        let (projection, options) = (std::mem::take(&mut request.projection), request.options.clone());
        let query = convert::list(request)?;
        let reading = self.reading(&projection, options, query.page_token.as_deref()).await?;
        let context = Some(convert::context(&reading.context_of(&query.collection)?));
        let explanation = blocking(move || reading.explain(&query)).await?;
        Ok(v1::ExplainResponse {
            plan: explanation.plan,
            index: explanation.index,
            filter: explanation.filter,
            collection_size: explanation.collection_size,
            range_size: explanation.range_size,
            context,
        })
    }
}

#[tonic::async_trait]
impl query_server::Query for Query {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = released(request, |request| &mut request.options)?;
        self.counted("Get", self.get_one(request).await)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::BatchGetResponse>, Status> {
        let request = released(request, |request| &mut request.options)?;
        self.counted("BatchGet", self.get_many(request).await)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<ListResponse>, Status> {
        let request = released(request, |request| &mut request.options)?;
        self.counted("List", self.page(request).await)
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let request = released(request, |request| &mut request.request.get_or_insert_default().options)?;
        self.counted("Explain", self.plan(request).await)
    }

    type ListStreamStream = Responses<v1::ListStreamResponse>;

    async fn list_stream(
        &self,
        request: Request<v1::ListStreamRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let request = released(request, |request| &mut request.request.get_or_insert_default().options)?;
        self.counted("ListStream", list_stream::start(self, request).await)
    }

    async fn count(&self, request: Request<v1::CountRequest>) -> Result<Response<v1::CountResponse>, Status> {
        let request = released(request, |request| &mut request.options)?;
        self.counted("Count", self.number(request).await)
    }

    type WatchStream = Responses<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = released(request, |request| &mut request.options)?;
        self.counted("Watch", watch::start(self, request))
    }
}

/// Long reads run on a thread that may block; a few documents are read where the call runs.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Refusal::new(Code::Internal, "INTERNAL", format!("a query did not end: {error}"))),
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let (reason, message) = (error.reason(), error.to_string());
        let named = |code, field: &str| Self::field(reason, field, &message).code(code);
        match error {
            QueryError::UnknownProjection { .. } => named(Code::NotFound, "projection"),
            QueryError::UnknownVersion { .. } => named(Code::NotFound, "options.version"),
            QueryError::UnknownRelease { .. } => named(Code::NotFound, "options.release"),
            QueryError::NotInRelease { .. } => named(Code::FailedPrecondition, "options.release"),
            QueryError::UnknownLabel { .. } => named(Code::NotFound, "options.label"),
            QueryError::BeyondStanding { until, wanted, .. } => {
                named(Code::OutOfRange, "options.at_least").with("until", until).with("wanted", wanted)
            }
            QueryError::UnknownCollection { .. } => named(Code::NotFound, "collection"),
            QueryError::UnknownIndex { .. } => named(Code::NotFound, "index.index"),
            QueryError::DocumentNotFound { .. } => Self::new(Code::NotFound, reason, message),
            QueryError::InvalidArgument { field, message, limit, actual } => {
                let reason = match (limit, actual) {
                    (Some(_), Some(0)) => "INVALID_LIMIT",
                    (Some(_), _) => "LIMIT_EXCEEDED",
                    _ => reason,
                };
                let mut refusal = Self::field(reason, field, message);
                for (name, value) in [("limit", limit), ("actual", actual)] {
                    if let Some(value) = value {
                        refusal = refusal.with(name, value);
                    }
                }
                refusal
            }
            QueryError::PageTokenInvalid | QueryError::PageTokenMismatch => {
                named(Code::InvalidArgument, "page_token")
            }
            QueryError::ResumeTokenInvalid | QueryError::ResumeTokenMismatch => {
                named(Code::InvalidArgument, "resume_token")
            }
            QueryError::PageExpired { .. } => Self::new(Code::Aborted, reason, message),
            QueryError::VersionGone { .. } => {
                Self::new(Code::Aborted, reason, message).retry_after(Duration::from_millis(200))
            }
            QueryError::Token(error) => Self::token(error, "options.at_least"),
            QueryError::DeadlineExceeded { wanted, as_of, .. } => {
                Self::new(Code::DeadlineExceeded, reason, message).with("wanted", wanted).with("as_of", as_of)
            }
            QueryError::FilterFailed { .. } => named(Code::InvalidArgument, "filter"),
            QueryError::Unavailable { .. } | QueryError::File(_) => {
                Self::new(Code::Unavailable, reason, message).retry_after(Duration::from_millis(200))
            }
            QueryError::VersionFailed { .. } | QueryError::ActiveNotDeployed { .. } => {
                Self::new(Code::FailedPrecondition, reason, message)
            }
        }
    }
}
