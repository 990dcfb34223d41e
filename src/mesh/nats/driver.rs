//! The life of a connection: connect, check the broker, take replies, notice losses, connect again.
//!
//! Invariants: a broker that does not fit (version, size of messages, flags of the node's stream) is not used, is named
//! with what was expected, and is looked at again; replies to operations that are over are dropped.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, ServerError, StatusCode};
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    Read, ReadStep, SERVER_MIN, Shared, State, Waiting,
    credentials::Credentials,
    reply::{self, ReadPart},
    request, sender, stream,
};
use crate::{
    clock::Clock,
    disk::Disk,
    limits::{
        BUS_CLIENT_COMMANDS_MAX, BUS_CLIENT_MESSAGES_MAX, BUS_CONNECT_TIMEOUT, BUS_EXPIRY_INTERVAL,
        BUS_PING_INTERVAL, BUS_RECHECK_INTERVAL, BUS_RECONNECT_MAX, BUS_RECONNECT_MIN, BUS_TIMEOUT,
    },
    mesh::bus::{BusError, BusEvent, StreamState, Ticket},
};

/// Events of the connection that may wait.
const EVENTS_MAX: usize = 64;

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, clock: Arc<dyn Clock>, disk: Arc<dyn Disk>) {
    let (client, events) = loop {
        match connect(&shared, &clock, &disk).await {
            Ok(connected) => break connected,
            Err(reason) => {
                shared.with(|state| state.refuse(reason));
                tokio::time::sleep(BUS_RECHECK_INTERVAL).await;
            }
        }
    };
    let inbox = client.new_inbox();
    let replies = loop {
        match client.subscribe(format!("{inbox}.*")).await {
            Ok(replies) => break replies,
            Err(error) => {
                shared.with(|state| state.refuse(format!("cannot receive replies: {error}")));
                tokio::time::sleep(BUS_RECHECK_INTERVAL).await;
            }
        }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(sender::run(Arc::clone(&shared), client.clone(), inbox.clone()));
    let driver = Driver { shared, client, inbox };
    driver.drive(replies, events).await;
}

struct Driver {
    shared: Arc<Shared>,
    client: Client,
    inbox: String,
}

impl Driver {
    async fn drive(&self, mut replies: async_nats::Subscriber, mut events: mpsc::Receiver<Event>) {
        let mut expiry = interval(BUS_EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recheck = interval(BUS_RECHECK_INTERVAL);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A loss is noticed before replies that came ahead of it: they are doubtful then, and stay so.
                biased;
                Some(event) = events.recv() => self.happened(event).await,
                Some(received) = replies.next() => self.receive(&received).await,
                _ = expiry.tick() => {
                    let now = self.shared.now();
                    self.shared.with(|state| state.expire(now));
                }
                _ = recheck.tick() => {
                    if self.shared.with(|state| state.unfit.is_some()) {
                        self.check().await;
                    }
                }
            }
        }
    }

    async fn happened(&self, event: Event) {
        match event {
            Event::Connected => self.check().await,
            Event::Disconnected | Event::Closed => self.shared.with(|state| {
                state.unfit = None;
                state.lose("the connection to NATS was lost");
            }),
            Event::ServerError(ServerError::Other(words)) => self.shared.with(|state| state.violated(&words)),
            other => tracing::debug!(event = %other, "NATS"),
        }
    }

    /// Whether the broker may be used.
    async fn check(&self) {
        match self.fits().await {
            Ok(message_bytes_max) => {
                let unheard = self.shared.with(|state| {
                    state.unfit = None;
                    state.message_bytes_max = Some(message_bytes_max);
                    state.mailbox.come_back();
                    state.unheard.clone()
                });
                self.shared.to_send.notify_one();
                // The client has subscribed them again; what they sent to themselves may be lost.
                for ticket in unheard {
                    let echo =
                        self.client.publish(format!("{}.{}", self.inbox, ticket.0), bytes::Bytes::new());
                    drop(echo.await);
                }
            }
            Err(reason) => self.shared.with(|state| state.refuse(reason)),
        }
    }

    async fn fits(&self) -> Result<usize, String> {
        let settings = &self.shared.settings;
        let info = self.client.server_info();
        let (major, minor) = SERVER_MIN;
        if version(&info.version) < SERVER_MIN {
            let found = &info.version;
            return Err(format!(
                "NATS server {found} is too old: expected {major}.{minor} or newer; update it"
            ));
        }
        if info.max_payload < settings.message_bytes_min {
            return Err(format!(
                "the NATS server takes {} bytes in one message, expected {} or more; raise its max_payload",
                info.max_payload, settings.message_bytes_min
            ));
        }
        if let Some(size) = settings.create_stream {
            stream::ensure(&self.client, &settings.node, size, false).await?;
        }
        Ok(info.max_payload)
    }

    /// A reply, or a listener's echo.
    async fn receive(&self, received: &async_nats::Message) {
        let number = received.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let Some(ticket) = number.map(Ticket) else { return };
        let more = self.shared.with(|state| {
            if state.mailbox.listeners.contains_key(&ticket) {
                state.unheard.remove(&ticket);
                state.mailbox.listen(ticket);
                return None;
            }
            let now = self.shared.now();
            state.receive(ticket, received, now)
        });
        if let Some(outgoing) = more {
            let reply = format!("{}.{}", self.inbox, ticket.0);
            let sent = self.client.publish_with_reply(outgoing.subject, reply, outgoing.payload).await;
            if let Err(error) = sent {
                self.shared.with(|state| state.fail(ticket, BusError::Refused(error.to_string())));
            }
        }
    }
}

impl State {
    /// The broker, or the way to it, does not fit.
    fn refuse(&mut self, reason: String) {
        if self.unfit.as_ref() != Some(&reason) {
            tracing::warn!(%reason, "the mesh cannot use NATS");
            if self.mailbox.connected {
                self.lose(&reason);
            } else {
                self.mailbox.say(BusEvent::Disconnected { reason: reason.clone() });
            }
        }
        self.unfit = Some(reason);
    }

    /// The server forbids a subject: whoever waits for a reply to it gets none.
    fn violated(&mut self, words: &str) {
        let subject = words.split('"').nth(1).unwrap_or_default();
        let forbidden: Vec<Ticket> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.subject() == subject)
            .map(|(ticket, _)| *ticket)
            .collect();
        if forbidden.is_empty() {
            tracing::warn!(words, "NATS refuses");
        }
        for ticket in forbidden {
            self.fail(ticket, BusError::Refused(words.to_owned()));
        }
    }

    /// Takes a reply; what more has to be asked for the same operation.
    fn receive(
        &mut self,
        ticket: Ticket,
        received: &async_nats::Message,
        now: i64,
    ) -> Option<request::Outgoing> {
        match self.waiting.get_mut(&ticket)? {
            Waiting::Publish { stream, .. } => {
                let outcome = reply::published(received, stream);
                match outcome {
                    Ok((sequence, duplicate)) => {
                        self.finish(ticket, BusEvent::Published { ticket, sequence, duplicate });
                    }
                    Err(error) => self.fail(ticket, error),
                }
                None
            }
            Waiting::State { .. } => {
                match reply::state(received) {
                    Ok(state) => self.finish(ticket, BusEvent::State { ticket, state }),
                    Err(error) => self.fail(ticket, error),
                }
                None
            }
            Waiting::Ask { subject } => {
                if received.status == Some(StatusCode::NO_RESPONDERS) {
                    let error = BusError::NotFound(format!("nobody serves {subject}"));
                    self.fail(ticket, error);
                } else {
                    self.answered(ticket, received, now);
                }
                None
            }
            Waiting::Read(read) => match read.take(ticket, received) {
                Ok(Taken::More) => None,
                Ok(Taken::Ask(outgoing)) => Some(outgoing),
                Ok(Taken::Done(event)) => {
                    self.finish(ticket, event);
                    None
                }
                Err(error) => {
                    self.fail(ticket, error);
                    None
                }
            },
        }
    }

    fn answered(&mut self, ticket: Ticket, received: &async_nats::Message, now: i64) {
        let (message, last) = reply::answer(received);
        let event = BusEvent::Answered { ticket, message, last };
        if !self.mailbox.hand(event, received.length, last.then_some(ticket)) {
            let error = BusError::Unknown("the answer has more parts than were polled".to_owned());
            self.fail(ticket, error);
        } else if last {
            self.waiting.remove(&ticket);
        } else {
            self.mailbox.restart(ticket, now);
        }
    }
}

impl Waiting {
    fn subject(&self) -> &str {
        match self {
            Self::Publish { subject, .. } | Self::State { subject } | Self::Ask { subject } => subject,
            Self::Read(read) => &read.subject,
        }
    }
}

/// What a part of a read leads to.
enum Taken {
    /// Further parts come.
    More,
    /// This is asked next.
    Ask(request::Outgoing),
    /// It is complete.
    Done(BusEvent),
}

impl Read {
    fn take(&mut self, ticket: Ticket, received: &async_nats::Message) -> Result<Taken, BusError> {
        let part = reply::read(received, &request::stream_name(&self.node))?;
        match (self.step, part) {
            (ReadStep::Fetch | ReadStep::StateFirst, ReadPart::Message { kept, before, pending }) => {
                self.check_row(before)?;
                self.kept.push(kept);
                self.behind = pending.unwrap_or(0);
                // A single message of a broker that knows no batches has no count of what follows.
                if pending.is_some() { Ok(Taken::More) } else { Ok(self.complete(ticket)) }
            }
            (ReadStep::Fetch | ReadStep::StateFirst, ReadPart::End { last }) => {
                self.check_row(Some(last))?;
                Ok(self.complete(ticket))
            }
            (ReadStep::Fetch, ReadPart::Nothing) => {
                self.step = ReadStep::End;
                let filter = request::stream_subjects(&self.node);
                Ok(Taken::Ask(request::last(&self.node, &filter)))
            }
            (ReadStep::End, part) => {
                let last_sequence = part.sequence();
                Ok(Taken::Done(BusEvent::Fetched { ticket, messages: Vec::new(), last_sequence }))
            }
            (ReadStep::Last, ReadPart::Message { kept, .. }) => {
                self.kept.push(kept);
                Ok(self.complete(ticket))
            }
            (ReadStep::Last, _) => Ok(self.complete(ticket)),
            (ReadStep::StateFirst, ReadPart::Nothing) => Ok(state_of(ticket, 1, 0)),
            (ReadStep::StateLast(first), part) => Ok(state_of(ticket, first, part.sequence())),
        }
    }

    /// Every part says which one was before it, so that a lost one is noticed.
    fn check_row(&self, before: Option<u64>) -> Result<(), BusError> {
        let last = self.kept.last().map_or(0, |kept| kept.sequence);
        match before {
            Some(before) if before != last => {
                let error = format!("a part of the read was lost between {last} and {before}; read again");
                Err(BusError::NotConnected(error))
            }
            _ => Ok(()),
        }
    }

    fn complete(&mut self, ticket: Ticket) -> Taken {
        let messages = std::mem::take(&mut self.kept);
        // Without what is behind them a reader would take every part for the whole, and look again only when it hears of more.
        let last_sequence = messages.last().map_or(0, |kept| kept.sequence).saturating_add(self.behind);
        if self.step == ReadStep::StateFirst {
            let first = messages.first().map_or(1, |kept| kept.sequence);
            self.step = ReadStep::StateLast(first);
            return Taken::Ask(request::last(&self.node, &request::stream_subjects(&self.node)));
        }
        Taken::Done(BusEvent::Fetched { ticket, messages, last_sequence })
    }
}

impl ReadPart {
    fn sequence(&self) -> u64 {
        match self {
            Self::Message { kept, .. } => kept.sequence,
            Self::End { .. } | Self::Nothing => 0,
        }
    }
}

fn state_of(ticket: Ticket, first_sequence: u64, last_sequence: u64) -> Taken {
    let state = StreamState { first_sequence, last_sequence, created: String::new() };
    Taken::Done(BusEvent::State { ticket, state })
}

/// Major and minor number of a version; 0 where there is none.
fn version(text: &str) -> (u64, u64) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Begins to connect. The client goes on trying by itself, with a credential that is read each time.
pub(super) async fn connect(
    shared: &Shared,
    clock: &Arc<dyn Clock>,
    disk: &Arc<dyn Disk>,
) -> Result<(Client, mpsc::Receiver<Event>), String> {
    let settings = &shared.settings;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let options = options(settings.credentials_file.as_ref(), clock, disk)
        .name(format!("outrigger {}", settings.node))
        .retry_on_initial_connect()
        .event_callback(move |event| {
            let sender = sender.clone();
            async move {
                // The receiver is gone when this bus is: nobody has to know then.
                drop(sender.send(event).await);
            }
        });
    let client = options.connect(addresses(&settings.url)?).await.map_err(|error| error.to_string())?;
    Ok((client, events))
}

/// What every connection of this product has in common.
pub(super) fn options(
    credentials_file: Option<&std::path::PathBuf>,
    clock: &Arc<dyn Clock>,
    disk: &Arc<dyn Disk>,
) -> ConnectOptions {
    let options = match credentials_file {
        None => ConnectOptions::new(),
        Some(file) => {
            let credentials = Credentials { file: file.clone(), disk: Arc::clone(disk) };
            ConnectOptions::with_auth_callback(move |nonce| {
                let signed = credentials.sign(&nonce);
                async move { signed }
            })
        }
    };
    let clock = Arc::clone(clock);
    options
        .connection_timeout(BUS_CONNECT_TIMEOUT)
        .request_timeout(Some(BUS_TIMEOUT))
        .ping_interval(BUS_PING_INTERVAL)
        .subscription_capacity(BUS_CLIENT_MESSAGES_MAX)
        .client_capacity(BUS_CLIENT_COMMANDS_MAX)
        .reconnect_delay_callback(move |attempts| pause(attempts, clock.random() as u64))
}

/// The pause before an attempt: doubling, and up to the same again at random, so that nodes do not come all at once.
fn pause(attempts: usize, random: u64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let pause = BUS_RECONNECT_MIN.saturating_mul(1 << doublings).min(BUS_RECONNECT_MAX);
    pause + Duration::from_nanos(random % (pause.as_nanos() as u64 + 1))
}

pub(super) fn addresses(urls: &str) -> Result<Vec<ServerAddr>, String> {
    let wrong = |url: &str| format!("'{url}' is no address of a NATS server; expected nats://HOST:PORT");
    urls.split(',').map(|url| url.trim().parse::<ServerAddr>().map_err(|_| wrong(url))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let check = |text: &str, fits: bool| assert_eq!(version(text) >= SERVER_MIN, fits, "{text}");
        check("2.12.0", true);
        check("2.15.1", true);
        check("3.0.0-beta", true);
        check("2.9.10", false);
        check("", false);
    }

    #[test]
    fn pauses_grow_to_their_bound_with_jitter() {
        assert_eq!(pause(1, 0), BUS_RECONNECT_MIN);
        assert_eq!(pause(2, 0), 2 * BUS_RECONNECT_MIN);
        assert_eq!(pause(1_000, 0), BUS_RECONNECT_MAX);
        assert!(pause(1_000, u64::MAX) <= 2 * BUS_RECONNECT_MAX);
        assert_ne!(pause(5, 7), pause(5, 8));
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        assert_eq!(addresses("nats://a:1, tls://b:2").unwrap().len(), 2);
        assert!(addresses("nats://a:1,nats://b:x").unwrap_err().contains("'nats://b:x'"));
    }
}
