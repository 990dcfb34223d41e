//! The way from a task that makes a stream of answers to the call that sends it.
//!
//! A few messages may wait for the connection. Invariants: a message that cannot be handed over for a while ends the
//! stream instead of holding up its maker for ever; how a stream ends is told behind all messages that were handed
//! over, also where the client takes none of them for a long time. Does not know what the messages say.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::Stream;
use tonic::Status;

use crate::limits::READ_AHEAD_MESSAGES;

/// Where messages are handed over.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    messages: mpsc::Sender<T>,
    end: oneshot::Sender<Status>,
    stall: Duration,
}

/// Why a message was not handed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The client gave up.
    ClientGone,
    /// The client took nothing for too long.
    Stalled,
}

/// The messages of a stream, and behind them how it ended if it did not end well.
#[derive(Debug)]
pub(crate) struct Responses<T> {
    first: Option<T>,
    messages: Option<mpsc::Receiver<T>>,
    end: Option<oneshot::Receiver<Status>>,
}

/// Both ends of a stream. A message that waits longer than `stall` ends it.
pub(crate) fn outbox<T>(stall: Duration) -> (Outbox<T>, Responses<T>) {
    let (messages, received) = mpsc::channel(READ_AHEAD_MESSAGES);
    let (end, ended) = oneshot::channel();
    let responses = Responses { first: None, messages: Some(received), end: Some(ended) };
    (Outbox { messages, end, stall }, responses)
}

impl<T> Outbox<T> {
    /// Hands a message over as soon as there is room for it.
    pub(crate) async fn send(&self, message: T) -> Result<(), NotSent> {
        match timeout(self.stall, self.messages.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NotSent::ClientGone),
            Err(_) => Err(NotSent::Stalled),
        }
    }

    /// Resolves when the client is gone.
    pub(crate) async fn closed(&self) {
        self.messages.closed().await;
    }

    /// Ends the stream with a failure, behind the messages that still wait.
    pub(crate) fn fail(self, status: Status) {
        // The client may be gone.
        drop(self.end.send(status));
    }
}

impl<T> Responses<T> {
    /// A stream of one message.
    pub(crate) fn one(message: T) -> Self {
        Self { first: Some(message), messages: None, end: None }
    }

    /// The same stream behind a message.
    pub(crate) fn behind(self, message: T) -> Self {
        Self { first: Some(message), ..self }
    }
}

impl<T: Unpin> Stream for Responses<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Some(messages) = &mut self.messages {
            match messages.poll_recv(cx) {
                Poll::Ready(None) => self.messages = None,
                other => return other.map(|message| message.map(Ok)),
            }
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let ended = std::task::ready!(Pin::new(end).poll(cx));
        self.end = None;
        Poll::Ready(ended.ok().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn the_end_comes_behind_all_messages() {
        let (outbox, responses) = outbox(Duration::ZERO);
        for message in 1..=READ_AHEAD_MESSAGES {
            outbox.send(message).await.unwrap();
        }
        assert_eq!(outbox.send(9).await, Err(NotSent::Stalled));
        outbox.fail(Status::resource_exhausted("too slow"));
        let received: Vec<_> =
            responses.behind(0).map(|item| item.map_err(|status| status.code())).collect().await;
        assert_eq!(received, [Ok(0), Ok(1), Ok(2), Err(tonic::Code::ResourceExhausted)]);
    }

    #[tokio::test]
    async fn a_stream_that_ends_well_just_ends() {
        let (outbox, responses) = outbox(Duration::ZERO);
        outbox.send(1).await.unwrap();
        drop(outbox);
        assert_eq!(responses.filter_map(Result::ok).collect::<Vec<_>>().await, [1]);
        assert_eq!(Responses::one(3).filter_map(Result::ok).collect::<Vec<_>>().await, [3]);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed() {
        let (outbox, responses) = outbox(Duration::MAX);
        drop(responses);
        assert_eq!(outbox.send(1).await, Err(NotSent::ClientGone));
        outbox.closed().await;
    }
}
