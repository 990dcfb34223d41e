//! One subscription: history, then live, from one cursor, so that there is no gap and no repeat at the seam.
//!
//! It pulls pages at the pace of its client and keeps none of them, so a slow client costs nobody anything. Between
//! events it says how far it looked, so that a filtered subscriber can resume near the head.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use super::{
    convert,
    event_log::EventLog,
    proto::v1::{self, subscribe_response::Content},
    status::Refusal,
};
use crate::{
    event::Position,
    index::{Direction, Filter},
    limits::READ_BATCH_EVENTS_MAX,
};

/// Positions without a matching event after which the client is told how far the subscription looked.
const ADVANCE_POSITIONS: u64 = 10_000;
/// How long such a stretch may stay untold.
const ADVANCE_WAIT: Duration = Duration::from_secs(1);

type Messages = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

/// Runs until the client is gone or the node stops.
pub(crate) async fn run(service: EventLog, filter: Filter, after: Position, messages: Messages) {
    service.metrics.subscriptions.inc();
    let mut subscription =
        Subscription { service, filter, cursor: after, told: after, caught_up: false, messages };
    let end = subscription.follow().await;
    if let Err(End::Refused(refusal)) = end {
        drop(subscription.messages.send(Err(Status::from(refusal))).await);
    }
    subscription.service.metrics.subscriptions.dec();
}

/// What a call is told when the node stops under it.
pub(crate) fn stopping() -> Refusal {
    Refusal::new(
        Code::Unavailable,
        "STOPPING",
        "the node is stopping; call again and resume after the last position",
    )
    .retry_after(Duration::from_secs(1))
}

enum End {
    ClientGone,
    Refused(Refusal),
}

struct Subscription {
    service: EventLog,
    filter: Filter,
    /// Everything up to here was looked at.
    cursor: Position,
    /// Everything up to here is known to the client as looked at.
    told: Position,
    caught_up: bool,
    messages: Messages,
}

impl Subscription {
    async fn follow(&mut self) -> Result<(), End> {
        let mut heads = self.service.events.head().subscribe();
        loop {
            let head = *heads.borrow_and_update();
            if self.cursor < head {
                self.advance(head).await?;
            } else if self.caught_up {
                self.wait(&mut heads).await?;
            } else {
                self.caught_up = true;
                self.tell(Content::CaughtUp(v1::CaughtUp { position: head.get() }), head).await?;
            }
        }
    }

    /// One page towards the head.
    async fn advance(&mut self, head: Position) -> Result<(), End> {
        let behind = head.get() - self.cursor.get();
        if self.caught_up && behind > READ_BATCH_EVENTS_MAX as u64 {
            self.caught_up = false;
            let position = self.cursor.get();
            self.tell(Content::FellBehind(v1::FellBehind { position, head: head.get() }), self.cursor)
                .await?;
        }
        let page = self
            .service
            .page(&self.filter, Direction::Forward, self.cursor, head, READ_BATCH_EVENTS_MAX)
            .await
            .map_err(End::Refused)?;
        self.cursor = page.scanned_to;
        if page.events.is_empty() {
            if self.cursor.get() - self.told.get() >= ADVANCE_POSITIONS {
                self.tell_advance().await?;
            }
            return Ok(());
        }
        self.service.metrics.read_events.inc_by(page.events.len() as u64);
        let upto = page.events.last().map_or(self.cursor, |event| event.position);
        let events = page.events.into_iter().map(convert::event).collect();
        self.tell(Content::Events(v1::EventBatch { events }), upto).await
    }

    /// Waits at the head; an untold stretch is told after a while.
    async fn wait(&mut self, heads: &mut watch::Receiver<Position>) -> Result<(), End> {
        let untold = self.cursor > self.told;
        tokio::select! {
            changed = heads.changed() => changed.map_err(|_| End::Refused(stopping())),
            () = tokio::time::sleep(ADVANCE_WAIT), if untold => self.tell_advance().await,
            () = self.service.lifecycle.stop().cancelled() => Err(End::Refused(stopping())),
            () = self.messages.closed() => Err(End::ClientGone),
        }
    }

    async fn tell_advance(&mut self) -> Result<(), End> {
        let position = self.cursor.get();
        self.tell(Content::PositionAdvanced(v1::PositionAdvanced { position }), self.cursor).await
    }

    /// Sends a message, after which the client knows that everything up to `upto` was looked at.
    async fn tell(&mut self, content: Content, upto: Position) -> Result<(), End> {
        self.told = upto;
        let message = Ok(v1::SubscribeResponse { content: Some(content) });
        tokio::select! {
            sent = self.messages.send(message) => sent.map_err(|_| End::ClientGone),
            () = self.service.lifecycle.stop().cancelled() => Err(End::Refused(stopping())),
        }
    }
}
