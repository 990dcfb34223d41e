//! One subscription: history, then live, from one cursor, so that there is no gap and no repeat at the seam.
//!
//! Pages come from memory where the cursor has reached the newest groups, else from the log; a subscription at the head
//! sleeps until an event comes that it wants. It pulls at the pace of its client and keeps nothing, so a slow client
//! costs nobody anything; one that takes nothing for too long is told where it was, and ended. Between events it says
//! how far it looked, so that a filtered subscriber can resume near the head, and which epoch wrote what follows.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use super::{
    convert,
    event_log::EventLog,
    outbox::{NotSent, Outbox, Responses, outbox},
    proto::v1::{self, subscribe_response::Content},
    raw::SubscribeResponse,
    read::too_slow,
    resume,
    status::Refusal,
};
use crate::{
    event::Position,
    events::{Buffer, Page, PageRequest, live::Seat, recent::Reading},
    index::{Direction, Filter},
    limits::{ADVANCE_POSITIONS, ADVANCE_WAIT, READ_BATCH_BYTES_MAX, READ_BATCH_EVENTS_MAX},
};

/// Starts a subscription and answers with its stream.
pub(crate) fn start(
    service: EventLog,
    request: v1::SubscribeRequest,
) -> Result<Responses<SubscribeResponse>, Refusal> {
    let filter = Arc::new(convert::filter(request.filter)?);
    let after = resume::start(&service.events, request.after, request.after_token.as_ref())?;
    let (outbox, responses) = outbox(service.reader_stall);
    let tasks = service.lifecycle.tasks().clone();
    tasks.spawn(run(service, filter, after.unwrap_or(Position::ZERO), outbox));
    Ok(responses)
}

/// Runs until the client is gone, or too slow, or the node stops.
async fn run(service: EventLog, filter: Arc<Filter>, after: Position, outbox: Outbox<SubscribeResponse>) {
    service.metrics.subscriptions.inc();
    let stop = service.lifecycle.stop().clone();
    let mut subscription = Subscription {
        reading: service.events.recent().reading(),
        seat: service.events.live().seat(Arc::clone(&filter)),
        epoch: 0,
        cursor: after,
        told: after,
        told_at: Instant::now(),
        caught_up: false,
        buffer: Buffer::default(),
        service,
        filter,
        outbox,
    };
    let end = tokio::select! {
        end = subscription.follow() => match end {
            Err(end) => end,
            Ok(never) => match never {},
        },
        () = stop.cancelled() => End::Refused(stopping()),
    };
    let Subscription { service, outbox, seat, reading, .. } = subscription;
    drop((seat, reading));
    if let End::Refused(refusal) = end {
        outbox.fail(Status::from(refusal));
    }
    service.metrics.subscriptions.dec();
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
    filter: Arc<Filter>,
    /// Keeps the newest groups in memory.
    reading: Reading,
    seat: Seat,
    /// Which of the log's epochs the client was told of last.
    epoch: usize,
    /// Everything up to here was looked at.
    cursor: Position,
    /// Everything up to here is known to the client as looked at.
    told: Position,
    told_at: Instant,
    caught_up: bool,
    buffer: Buffer,
    outbox: Outbox<SubscribeResponse>,
}

impl Subscription {
    /// Goes on for ever; what it returns is why it could not.
    async fn follow(&mut self) -> Result<std::convert::Infallible, End> {
        let epochs = self.service.events.log().epochs();
        let begun = epochs.partition_point(|start| start.first <= self.cursor.next());
        self.epoch = begun.saturating_sub(1);
        self.tell_epoch().await?;
        loop {
            let head = self.service.events.head().get();
            if self.cursor < head {
                self.advance(head).await?;
            } else if self.caught_up {
                self.wait().await?;
            } else {
                self.caught_up = true;
                self.tell(Content::CaughtUp(v1::CaughtUp { position: head.get() }), head).await?;
            }
        }
    }

    /// One page towards the head, of one epoch.
    async fn advance(&mut self, head: Position) -> Result<(), End> {
        let next = self.service.events.log().epochs().get(self.epoch + 1).copied();
        let upto = match next {
            Some(next) if next.first <= self.cursor.next() => {
                self.epoch += 1;
                return self.tell_epoch().await;
            }
            Some(next) => head.min(Position::new(next.first.get() - 1)),
            None => head,
        };
        let recent = self.service.events.recent_page(&self.filter, self.cursor, upto);
        let page = match recent.map_err(refused)? {
            Some(page) => page,
            None => self.logged_page(head, upto).await?,
        };
        self.cursor = page.scanned_to;
        if page.events.count > 0 {
            self.service.metrics.read_events.inc_by(page.events.count as u64);
            return self.send(SubscribeResponse::Events(page.events), page.last).await;
        }
        if self.cursor.get() - self.told.get() >= ADVANCE_POSITIONS {
            self.tell_advance().await?;
        }
        Ok(())
    }

    async fn logged_page(&mut self, head: Position, upto: Position) -> Result<Page, End> {
        if self.caught_up && head.get() - self.cursor.get() > READ_BATCH_EVENTS_MAX as u64 {
            self.caught_up = false;
            let fell_behind = v1::FellBehind { position: self.cursor.get(), head: head.get() };
            self.tell(Content::FellBehind(fell_behind), self.cursor).await?;
        }
        let (filter, from) = (Arc::clone(&self.filter), self.cursor);
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.service.blocking(move |events| {
            let request = PageRequest {
                filter: &filter,
                direction: Direction::Forward,
                from,
                upto,
                events_max: READ_BATCH_EVENTS_MAX,
                bytes_max: READ_BATCH_BYTES_MAX,
            };
            let page = events.page(request, &mut buffer)?;
            Ok((page, buffer))
        });
        let (page, buffer) = read.await.map_err(End::Refused)?;
        self.buffer = buffer;
        Ok(page)
    }

    /// Sleeps at the head; a stretch that is untold is told after a while.
    async fn wait(&mut self) -> Result<(), End> {
        // An idle subscription keeps no memory for pages.
        self.buffer = Buffer::default();
        if !self.seat.wait_at(self.cursor) {
            return Ok(());
        }
        let untold = self.cursor > self.told;
        tokio::select! {
            () = self.seat.woken() => Ok(()),
            () = sleep_until(self.told_at + ADVANCE_WAIT), if untold => self.tell_advance().await,
            () = self.outbox.closed() => Err(End::ClientGone),
        }
    }

    async fn tell_advance(&mut self) -> Result<(), End> {
        let position = self.cursor.get();
        self.tell(Content::PositionAdvanced(v1::PositionAdvanced { position }), self.cursor).await
    }

    /// Says which epoch wrote what follows.
    async fn tell_epoch(&mut self) -> Result<(), End> {
        let log = self.service.events.log();
        let start = log.epochs().get(self.epoch).copied();
        let content = Content::EpochChanged(v1::EpochChanged {
            epoch: start.map_or(0, |start| start.epoch.counter),
            first_position: start.map_or(0, |start| start.first.get()),
            log_id: bytes::Bytes::copy_from_slice(log.log_id().as_bytes()),
        });
        self.tell(content, self.told).await
    }

    async fn tell(&mut self, content: Content, upto: Position) -> Result<(), End> {
        self.send(SubscribeResponse::other(content), upto).await
    }

    /// Hands a message over, after which the client knows that everything up to `upto` was looked at.
    async fn send(&mut self, message: SubscribeResponse, upto: Position) -> Result<(), End> {
        match self.outbox.send(message).await {
            Ok(()) => {
                self.told = upto;
                self.told_at = Instant::now();
                Ok(())
            }
            Err(NotSent::ClientGone) => Err(End::ClientGone),
            Err(NotSent::Stalled) => {
                Err(End::Refused(too_slow("SUBSCRIBER_TOO_SLOW", "subscription", self.told)))
            }
        }
    }
}

fn refused(error: crate::events::EventsError) -> End {
    End::Refused(error.into())
}
