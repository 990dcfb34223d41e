//! Sends what was submitted, and keeps the subscriptions of listeners and services.
//!
//! Invariants: nothing is sent while there is no connection, so that nothing piles up in the client; a listener is said
//! to be in force when a message sent behind its subscription has come back. Does not know replies.

use std::{collections::HashMap, sync::Arc};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::task::{AbortHandle, JoinSet};

use super::{
    Read, ReadStep, Shared, State, Waiting, reply,
    request::{self, LAST_PART, Outgoing},
};
use crate::{
    limits::BUS_ASKED_TIME_MAX,
    mesh::bus::{BusError, BusEvent, Message, Operation, Ticket},
};

/// The group of those that serve a subject: one of them gets each question.
const SERVICE_GROUP: &str = "outrigger";

/// Sends until it is aborted. Replies go to `inbox` and a ticket.
pub(super) async fn run(shared: Arc<Shared>, client: Client, inbox: String) {
    let mut sender = Sender { shared, client, inbox, listeners: HashMap::new(), tasks: JoinSet::new() };
    loop {
        let next = sender.shared.with(|state| state.queue.pop_front());
        match next {
            Some((ticket, operation)) => sender.send(ticket, operation).await,
            None => sender.shared.to_send.notified().await,
        }
        while sender.tasks.try_join_next().is_some() {}
    }
}

struct Sender {
    shared: Arc<Shared>,
    client: Client,
    inbox: String,
    listeners: HashMap<Ticket, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Sender {
    async fn send(&mut self, ticket: Ticket, operation: Operation) {
        let done = match operation {
            Operation::Listen { filter } => self.listen(ticket, filter, false).await,
            Operation::Serve { filter } => self.listen(ticket, filter, true).await,
            Operation::Forget { ticket: listener } => {
                self.shared.with(|state| state.unheard.remove(&listener));
                if let Some(task) = self.listeners.remove(&listener) {
                    task.abort();
                }
                Ok(())
            }
            Operation::Announce { message } => self.announce(ticket, &message).await,
            Operation::Answer { asked, message, last } => self.answer(ticket, asked, &message, last).await,
            other => self.request(ticket, other).await,
        };
        if let Err(error) = done {
            self.shared.with(|state| state.fail(ticket, error));
        }
    }

    /// Sends what has a reply. It is awaited before it is sent, since the reply may be faster than this.
    async fn request(&self, ticket: Ticket, operation: Operation) -> Result<(), BusError> {
        let (outgoing, waiting) = prepare(operation, self.shared.settings.create_stream.is_some())?;
        self.check_size(&outgoing)?;
        let live = self.shared.with(|state| {
            let live = state.mailbox.is_pending(ticket);
            if live {
                state.waiting.insert(ticket, waiting);
            }
            live
        });
        if live { self.put(outgoing, Some(self.reply_to(ticket))).await } else { Ok(()) }
    }

    async fn announce(&self, ticket: Ticket, message: &Message) -> Result<(), BusError> {
        let outgoing = request::plain(message)?;
        self.check_size(&outgoing)?;
        self.put(outgoing, None).await?;
        self.shared.with(|state| state.finish(ticket, BusEvent::Announced { ticket }));
        Ok(())
    }

    async fn answer(
        &self,
        ticket: Ticket,
        asked: Ticket,
        message: &Message,
        last: bool,
    ) -> Result<(), BusError> {
        let mut outgoing = request::plain(message)?;
        self.check_size(&outgoing)?;
        if last {
            outgoing.headers.get_or_insert_default().insert(LAST_PART, "true");
        }
        let expires = self.shared.now() + BUS_ASKED_TIME_MAX.as_nanos() as i64;
        let subject = self.shared.with(|state| take_asked(state, asked, last, expires));
        outgoing.subject = subject
            .ok_or_else(|| BusError::NotFound(format!("question {} is answered, or too old", asked.0)))?;
        self.put(outgoing, None).await?;
        self.shared.with(|state| state.finish(ticket, BusEvent::Announced { ticket }));
        Ok(())
    }

    async fn listen(&mut self, ticket: Ticket, filter: String, serves: bool) -> Result<(), BusError> {
        if !self.shared.with(|state| state.mailbox.listeners.contains_key(&ticket)) {
            return Ok(());
        }
        let subscription = if serves {
            self.client.queue_subscribe(filter, SERVICE_GROUP.to_owned()).await
        } else {
            self.client.subscribe(filter).await
        };
        let subscription = subscription.map_err(|error| BusError::Refused(error.to_string()))?;
        let shared = Arc::clone(&self.shared);
        let task = self.tasks.spawn(forward(shared, subscription, ticket, serves));
        self.listeners.insert(ticket, task);
        self.shared.with(|state| state.unheard.insert(ticket));
        let echo = Outgoing { subject: self.reply_to(ticket), headers: None, payload: bytes::Bytes::new() };
        self.put(echo, None).await
    }

    async fn put(&self, outgoing: Outgoing, reply: Option<String>) -> Result<(), BusError> {
        let Outgoing { subject, headers, payload } = outgoing;
        let sent = match (reply, headers) {
            (Some(reply), Some(headers)) => {
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            (Some(reply), None) => self.client.publish_with_reply(subject, reply, payload).await,
            (None, Some(headers)) => self.client.publish_with_headers(subject, headers, payload).await,
            (None, None) => self.client.publish(subject, payload).await,
        };
        sent.map_err(|error| BusError::Refused(error.to_string()))
    }

    fn check_size(&self, outgoing: &Outgoing) -> Result<(), BusError> {
        let bytes = request::wire_bytes(outgoing);
        match self.shared.with(|state| state.message_bytes_max) {
            Some(bytes_max) if bytes > bytes_max => Err(BusError::TooLarge { bytes, bytes_max }),
            _ => Ok(()),
        }
    }

    fn reply_to(&self, ticket: Ticket) -> String {
        format!("{}.{}", self.inbox, ticket.0)
    }
}

/// The question that an operation puts to the broker, and how its reply is understood.
fn prepare(operation: Operation, may_inspect: bool) -> Result<(Outgoing, Waiting), BusError> {
    let read = |outgoing: Outgoing, node: String, step: ReadStep| {
        let subject = outgoing.subject.clone();
        Ok((outgoing, Waiting::Read(Read { subject, node, kept: Vec::new(), behind: 0, step })))
    };
    match operation {
        Operation::Publish { stream, message, message_id } => {
            let outgoing = request::publish(&message, &message_id)?;
            let subject = outgoing.subject.clone();
            Ok((outgoing, Waiting::Publish { subject, stream: request::stream_name(&stream) }))
        }
        Operation::Fetch { stream, filter, after, messages_max, bytes_max } => {
            read(request::fetch(&stream, &filter, after, messages_max, bytes_max), stream, ReadStep::Fetch)
        }
        Operation::Last { stream, filter } => read(request::last(&stream, &filter), stream, ReadStep::Last),
        Operation::State { stream } if may_inspect => {
            let outgoing = request::info(&stream);
            let subject = outgoing.subject.clone();
            Ok((outgoing, Waiting::State { subject }))
        }
        Operation::State { stream } => {
            let filter = request::stream_subjects(&stream);
            read(request::fetch(&stream, &filter, 0, 1, 1), stream, ReadStep::StateFirst)
        }
        Operation::Ask { message, .. } => {
            let outgoing = request::plain(&message)?;
            let subject = outgoing.subject.clone();
            Ok((outgoing, Waiting::Ask { subject }))
        }
        other => Err(BusError::Refused(format!("{other:?} has no reply"))),
    }
}

/// Where the next part of an answer goes.
fn take_asked(state: &mut State, asked: Ticket, last: bool, expires: i64) -> Option<String> {
    if last {
        let subject = state.asked.remove(&asked).map(|(subject, _)| subject)?;
        state.mailbox.close_question();
        return Some(subject);
    }
    let (subject, until) = state.asked.get_mut(&asked)?;
    *until = expires;
    Some(subject.clone())
}

/// Hands on what comes to a listener or service; what nobody polls in time is lost, as the seam says.
async fn forward(shared: Arc<Shared>, mut subscription: Subscriber, ticket: Ticket, serves: bool) {
    while let Some(received) = subscription.next().await {
        let bytes = received.length;
        let message = reply::message(&received);
        let expires = shared.now() + BUS_ASKED_TIME_MAX.as_nanos() as i64;
        shared.with(|state| {
            if !state.mailbox.listeners.contains_key(&ticket) {
                return;
            }
            if !serves {
                state.mailbox.hand(BusEvent::Heard { ticket, message }, bytes, None);
                return;
            }
            // A question that nobody waits for is none.
            let Some(reply) = received.reply.as_ref() else { return };
            if !state.mailbox.take_question() {
                return;
            }
            let asked = state.ticket();
            if state.mailbox.hand(BusEvent::Asked { ticket, asked, message }, bytes, None) {
                state.asked.insert(asked, (reply.to_string(), expires));
            } else {
                state.mailbox.close_question();
            }
        });
    }
}
