//! One read: pages of matching events up to the head at the time of the call.
//!
//! The first page is read before the call is answered, so that a short read needs no task of its own; the others are
//! read while the ones before are on their way. Does not know how events are found.

use tonic::{Code, Status};

use super::{
    convert,
    event_log::EventLog,
    outbox::{NotSent, Outbox, Responses, outbox},
    proto::v1,
    raw::ReadResponse,
    resume,
    status::Refusal,
    subscribe,
};
use crate::{
    event::Position,
    events::{Buffer, Page, PageRequest},
    index::{Direction, Filter},
    limits::{READ_BATCH_BYTES_MAX, READ_BATCH_EVENTS_MAX},
};

/// A read on its way.
struct Read {
    service: EventLog,
    filter: Filter,
    direction: Direction,
    /// Events that may still be sent.
    left: u64,
    /// Everything up to here (in the direction of the read) was looked at.
    cursor: Position,
    head: Position,
    /// The last event that was handed over; before the first one where the read began.
    sent: Position,
    buffer: Buffer,
}

/// Starts a read and answers with its stream.
pub(crate) async fn start(
    service: EventLog,
    request: v1::ReadRequest,
) -> Result<Responses<ReadResponse>, Refusal> {
    let stall = service.reader_stall;
    let mut read = Read::new(service, request)?;
    let first = read.next_page().await?.unwrap_or_default();
    if read.at_end() {
        return Ok(Responses::one(first));
    }
    read.sent = read.cursor;
    let (outbox, responses) = outbox(stall);
    let tasks = read.service.lifecycle.tasks().clone();
    read.service.metrics.reads.inc();
    tasks.spawn(read.run(outbox));
    Ok(responses.behind(first))
}

impl Read {
    fn new(service: EventLog, request: v1::ReadRequest) -> Result<Self, Refusal> {
        let filter = convert::filter(request.filter)?;
        let direction = if request.backwards { Direction::Backward } else { Direction::Forward };
        let left = request.limit.unwrap_or(u64::MAX);
        if left == 0 {
            return Err(Refusal::field("INVALID_LIMIT", "limit", "expected at least 1, found 0"));
        }
        let after = resume::start(&service.events, request.after, request.after_token.as_ref())?;
        // Behind the check of `after`: the head may have moved since, and only ever up.
        let head = service.events.head().get();
        let cursor = match (after, direction) {
            (Some(after), _) => after,
            (None, Direction::Backward) => head.next(),
            (None, Direction::Forward) => Position::ZERO,
        };
        Ok(Self { service, filter, direction, left, cursor, head, sent: cursor, buffer: Buffer::default() })
    }

    async fn run(mut self, outbox: Outbox<ReadResponse>) {
        let stop = self.service.lifecycle.stop().clone();
        let sent = tokio::select! {
            sent = self.send_all(&outbox) => sent,
            () = stop.cancelled() => Err(subscribe::stopping()),
        };
        if let Err(refusal) = sent {
            outbox.fail(Status::from(refusal));
        }
        self.service.metrics.reads.dec();
    }

    async fn send_all(&mut self, outbox: &Outbox<ReadResponse>) -> Result<(), Refusal> {
        while let Some(message) = self.next_page().await? {
            let last = self.cursor;
            match outbox.send(message).await {
                Ok(()) => self.sent = last,
                Err(NotSent::ClientGone) => return Ok(()),
                Err(NotSent::Stalled) => return Err(too_slow("READER_TOO_SLOW", "read", self.sent)),
            }
        }
        Ok(())
    }

    /// The next page with an event on it; `None` at the end.
    async fn next_page(&mut self) -> Result<Option<ReadResponse>, Refusal> {
        while !self.at_end() {
            let page = self.page().await?;
            self.cursor = page.scanned_to;
            if page.events.count > 0 {
                self.left -= page.events.count as u64;
                self.service.metrics.read_events.inc_by(page.events.count as u64);
                return Ok(Some(ReadResponse { events: page.events, head: self.head.get() }));
            }
        }
        Ok(None)
    }

    async fn page(&mut self) -> Result<Page, Refusal> {
        let events_max =
            usize::try_from(self.left).map_or(READ_BATCH_EVENTS_MAX, |n| n.min(READ_BATCH_EVENTS_MAX));
        let filter = self.filter.clone();
        let (direction, from, upto) = (self.direction, self.cursor, self.head);
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.service.blocking(move |events| {
            let request = PageRequest {
                filter: &filter,
                direction,
                from,
                upto,
                events_max,
                bytes_max: READ_BATCH_BYTES_MAX,
            };
            let page = events.page(request, &mut buffer)?;
            Ok((page, buffer))
        });
        let (page, buffer) = read.await?;
        self.buffer = buffer;
        Ok(page)
    }

    fn at_end(&self) -> bool {
        self.left == 0
            || match self.direction {
                Direction::Forward => self.cursor >= self.head,
                Direction::Backward => self.cursor <= Position::new(1),
            }
    }
}

/// What a client is told that took no message for too long.
pub(crate) fn too_slow(reason: &'static str, what: &str, position: Position) -> Refusal {
    let message = format!(
        "the {what} was ended because its messages were not taken; it had come to position {position}: go on from there"
    );
    Refusal::new(Code::ResourceExhausted, reason, message).with("position", position)
}
