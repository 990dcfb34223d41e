//! The call of one worker of a handler: what it says goes to the runner of its version, what it is told comes back.
//!
//! Invariants: the first message attaches and no other does; a call that ends in any way is noticed by the runner; how
//! it ends is told behind all that came before. Decides nothing about events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, Streaming};

use super::{
    convert::process::{self as convert, Scope},
    projections::{ProjectionsService, versions::deploy_refusal},
    proto::v1::{self, process_request::Content, process_response},
    status::Refusal,
    subscribe,
};
use crate::projection::{
    definition::Definition,
    handler::hub::{Ended, Message, Session, ToWorker},
    registry::{Handler, HandlerError},
};

/// What a worker is told, and how the call ends.
#[derive(Debug)]
pub(crate) struct Responses {
    attached: Option<oneshot::Receiver<Attached>>,
    told: Option<(mpsc::Receiver<ToWorker>, Attached)>,
    end: Option<oneshot::Receiver<Status>>,
    /// Cancelled when nothing more will be told.
    over: CancellationToken,
    _gone: DropGuard,
}

/// What is known once a worker is attached.
#[derive(Debug)]
struct Attached {
    told: Option<mpsc::Receiver<ToWorker>>,
    deadline: Duration,
    definition: Arc<Definition>,
}

/// Takes a worker in.
pub(crate) fn start(service: &ProjectionsService, requests: Streaming<v1::ProcessRequest>) -> Responses {
    let (send_attached, attached) = oneshot::channel();
    let (send_end, end) = oneshot::channel();
    let over = CancellationToken::new();
    let call = Call { service: service.clone(), requests, over: over.clone() };
    service.lifecycle.tasks().spawn(async move {
        if let Err(refusal) = call.run(send_attached).await {
            // The client may be gone.
            drop(send_end.send(refusal.into()));
        }
    });
    let gone = over.clone().drop_guard();
    Responses { attached: Some(attached), told: None, end: Some(end), over, _gone: gone }
}

/// The worker's end of the call.
struct Call {
    service: ProjectionsService,
    requests: Streaming<v1::ProcessRequest>,
    over: CancellationToken,
}

/// What a call waits for.
enum Said {
    Message(Content),
    /// The worker leaves, or the client is gone.
    Nothing,
}

impl Call {
    async fn run(mut self, attached: oneshot::Sender<Attached>) -> Result<(), Refusal> {
        let attach = match self.said(None).await? {
            Said::Message(Content::Attach(attach)) => convert::attach(attach)?,
            Said::Message(_) => {
                let what = "expected attach in the first message, found something else";
                return Err(Refusal::field("PROTOCOL_VIOLATION", "content", what));
            }
            Said::Nothing => return Ok(()),
        };
        let handler = self.handler(&attach).await?;
        let scope = Scope {
            definition: Arc::clone(&handler.definition),
            log_id: handler.log_id,
            clock: Arc::clone(&self.service.clock),
        };
        let session = handler.hub.attach(attach.worker, attach.credits, attach.deadline).await;
        let (session, told) = session.ok_or_else(|| stopped(&handler))?;
        let definition = Arc::clone(&handler.definition);
        if attached.send(Attached { told: Some(told), deadline: attach.deadline, definition }).is_err() {
            return Ok(());
        }
        loop {
            let message = match self.said(Some((&session, &handler))).await? {
                Said::Message(message) => message,
                Said::Nothing => return Ok(()),
            };
            let attached = Some((&session, &handler));
            let taken = tokio::select! {
                taken = take(&scope, &session, message) => taken?,
                // What the runner does not take in may wait for long.
                refusal = ended(self.service.lifecycle.stop(), &self.over, attached) => return Err(refusal),
            };
            if !taken {
                return Err(stopped(&handler));
            }
        }
    }

    /// The next message.
    async fn said(&mut self, attached: Option<(&Session, &Handler)>) -> Result<Said, Refusal> {
        tokio::select! {
            message = self.requests.next() => match message {
                // A broken connection is an end as good as any other.
                None | Some(Err(_)) => Ok(Said::Nothing),
                Some(Ok(message)) => message.content.map(Said::Message).ok_or_else(|| {
                    let what = "expected attach, transactions, read or credits, found nothing";
                    Refusal::field("MISSING_FIELD", "content", what)
                }),
            },
            refusal = ended(self.service.lifecycle.stop(), &self.over, attached) => Err(refusal),
        }
    }

    async fn handler(&self, attach: &convert::Attach) -> Result<Handler, Refusal> {
        let projections = Arc::clone(&self.service.projections);
        let (projection, version) = (attach.projection.clone(), attach.version);
        let (definition, worker) = (attach.definition.clone(), attach.worker.clone());
        let find = move || projections.handler(&projection, version, definition.as_deref(), &worker);
        match tokio::task::spawn_blocking(find).await {
            Ok(handler) => Ok(handler?),
            Err(error) => {
                Err(Refusal::new(Code::Internal, "INTERNAL", format!("attaching did not end: {error}")))
            }
        }
    }
}

/// Resolves when the call cannot go on, with the reason.
async fn ended(
    stop: &CancellationToken,
    over: &CancellationToken,
    attached: Option<(&Session, &Handler)>,
) -> Refusal {
    let runner_stopped = async {
        match attached {
            Some((session, handler)) => {
                session.stopped().await;
                stopped(handler)
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => subscribe::stopping(),
        () = over.cancelled() => Ended::TakesNothing.into(),
        refusal = runner_stopped => refusal,
    }
}

/// Hands over what a worker says. `false`: the version does not run any more.
async fn take(scope: &Scope, session: &Session, message: Content) -> Result<bool, Refusal> {
    Ok(match message {
        Content::Attach(_) => {
            let what = "expected it in the first message only; open another call for another worker";
            return Err(Refusal::field("PROTOCOL_VIOLATION", "attach", what));
        }
        Content::Transactions(transactions) => {
            let answers = transactions.transactions.into_iter();
            session.send(Message::Answers(answers.map(|answer| scope.answer(answer)).collect())).await
        }
        Content::Read(read) => session.read(read.request, scope.read(read.documents)?).await,
        Content::Credits(credits) => {
            session.send(Message::Credits(convert::credits(credits.credits, "credits.credits")?)).await
        }
    })
}

fn stopped(handler: &Handler) -> Refusal {
    Ended::Stopped(handler.failure()).into()
}

impl Stream for Responses {
    type Item = Result<v1::ProcessResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(attached) = &mut self.attached {
            let attached = ready!(Pin::new(attached).poll(cx));
            self.attached = None;
            self.told = attached.ok().and_then(|mut attached| Some((attached.told.take()?, attached)));
        }
        if let Some((told, attached)) = &mut self.told {
            match told.poll_recv(cx) {
                Poll::Ready(Some(message)) => {
                    let response = response(message, attached);
                    if response.is_err() {
                        (self.told, self.end) = (None, None);
                    }
                    return Poll::Ready(Some(response.map_err(Status::from)));
                }
                // Where the node let the worker go, the call learns it here.
                Poll::Ready(None) => self.over.cancel(),
                // The call may have ended, and the runner may take its time to notice.
                Poll::Pending => {}
            }
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let ended = ready!(Pin::new(end).poll(cx));
        (self.told, self.end) = (None, None);
        Poll::Ready(ended.ok().map(Err))
    }
}

fn response(message: ToWorker, attached: &Attached) -> Result<v1::ProcessResponse, Refusal> {
    let content = match message {
        ToWorker::Attached { applied, head } => {
            let attached = convert::attached((applied, head), attached.deadline, &attached.definition);
            Some(process_response::Content::Attached(attached))
        }
        ToWorker::End(why) => return Err(why.into()),
        other => convert::told(other),
    };
    Ok(v1::ProcessResponse { content })
}

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        let message = ended.to_string();
        let retried = |code, reason, advice: &str| Self::new(code, reason, format!("{message}; {advice}"));
        match ended {
            Ended::Replaced => {
                retried(Code::Aborted, "WORKER_REPLACED", "give each worker a name of its own")
            }
            Ended::Silent(_) => retried(
                Code::DeadlineExceeded,
                "WORKER_SILENT",
                "its events went to others; attach again, with a longer deadline if events take so long",
            ),
            Ended::TakesNothing => retried(
                Code::ResourceExhausted,
                "WORKER_TOO_SLOW",
                "its events went to others; attach again and take messages as they come",
            ),
            Ended::TooMany(_) => Self::new(Code::ResourceExhausted, "TOO_MANY_WORKERS", message),
            Ended::Violation(_) => Self::new(Code::InvalidArgument, "PROTOCOL_VIOLATION", message),
            Ended::ReadTooLarge(limit) => {
                Self::new(Code::InvalidArgument, "LIMIT_EXCEEDED", message).with("limit", limit)
            }
            Ended::Rewound => retried(Code::Aborted, "PROJECTION_REWOUND", "attach again"),
            Ended::Stopped(_) => Self::new(Code::FailedPrecondition, "PROJECTION_STOPPED", message),
        }
    }
}

impl From<HandlerError> for Refusal {
    fn from(error: HandlerError) -> Self {
        let message = error.to_string();
        match error {
            HandlerError::Unknown(error) => error.into(),
            HandlerError::Declarative { .. } => Self::new(Code::FailedPrecondition, "NOT_A_HANDLER", message),
            HandlerError::OtherDefinition { .. } => {
                Self::field("INVALID_DEFINITION", "attach.definition", message)
            }
            HandlerError::Deploy(error) => deploy_refusal(error, "attach.definition"),
        }
    }
}
