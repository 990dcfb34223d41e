//! Long work: to its end although the client is gone, or for one client, piece by piece, told as a stream.
//!
//! The work is done on a thread that may block; after each piece it rests as long as the piece took, so that it takes at
//! most half of a core. It ends with the client, or with the node. Does not know what the work is.

use std::time::Instant;

use tonic::Code;

use super::{
    outbox::{Outbox, Responses, outbox},
    projections::ProjectionsService,
    status::Refusal,
    subscribe::stopping,
};
use crate::lifecycle::Lifecycle;

/// Works although the client is gone, but not longer than the node runs.
pub(super) async fn to_its_end<T: Send + 'static>(
    lifecycle: &Lifecycle,
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let stop = lifecycle.stop().clone();
    let task = lifecycle.tasks().spawn(async move {
        tokio::select! {
            done = work => done,
            () = stop.cancelled() => Err(stopping()),
        }
    });
    task.await.map_err(|error| did_not_end(&error))?
}

/// Work that panicked, or that the runtime gave up.
pub(super) fn did_not_end(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, "INTERNAL", format!("the call did not end: {error}"))
}

/// What came of a piece: what the client is told, and whether it was the last one.
pub(super) type Piece<M> = Result<(M, bool), Refusal>;

/// Does the work, and answers with the stream of what is told.
pub(super) fn stream<W: Send + 'static, M: Send + Unpin + 'static>(
    service: &ProjectionsService,
    work: W,
    piece: fn(&mut W) -> Piece<M>,
) -> Responses<M> {
    let (outbox, responses) = outbox(service.reader_stall);
    let stop = service.lifecycle.stop().clone();
    service.lifecycle.tasks().spawn(async move {
        let refusal = tokio::select! {
            ended = run(work, piece, &outbox) => ended.err(),
            () = outbox.closed() => None,
            () = stop.cancelled() => Some(stopping()),
        };
        if let Some(refusal) = refusal {
            outbox.fail(refusal.into());
        }
    });
    responses
}

async fn run<W: Send + 'static, M: Send + 'static>(
    mut work: W,
    piece: fn(&mut W) -> Piece<M>,
    outbox: &Outbox<M>,
) -> Result<(), Refusal> {
    loop {
        let began = Instant::now();
        let done = blocking(move || {
            let told = piece(&mut work);
            (work, told)
        });
        let (back, told) = done.await?;
        work = back;
        let (message, over) = told?;
        let sent = outbox.send(message).await;
        if over || sent.is_err() {
            return Ok(());
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}

/// Work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::new(Code::Internal, "INTERNAL", "the work broke an invariant; the node's log says which")
    })
}
