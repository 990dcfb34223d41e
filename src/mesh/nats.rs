//! The bus over NATS JetStream.
//!
//! Invariants: nothing here believes the broker beyond what the seam says; memory is bounded however long the broker is
//! away, since what cannot be sent fails at once; an operation ends once, over any loss of the connection. Reads are
//! direct gets without consumers, so that an importer leaves no state in the broker and needs no right to make any.
//! Does not know envelopes, signatures, exports or logs.

mod bare;
mod credentials;
mod driver;
mod operator;
mod reply;
mod request;
mod sender;
mod stream;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, sync::Notify, task::JoinSet, time::Instant};

pub use self::{
    bare::BareStream,
    operator::{ProvisionError, Provisioned, provision},
    request::{direct_get, stream_name, stream_subjects},
    stream::{StreamOutcome, StreamSize},
};
use super::bus::{
    Bus, BusError, BusEvent, BusFull, Kept, Operation, Ticket,
    mailbox::{Listener, Mailbox, Wake, cost},
};
use crate::{
    clock::Clock,
    disk::Disk,
    limits::{BUS_MESSAGE_EXTRA_BYTES, BUS_TIMEOUT, EVENT_BYTES_MAX},
};

/// The lowest version of the server that does what is needed.
const SERVER_MIN: (u64, u64) = (2, 12);

/// How a node gets to NATS.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// This node.
    pub node: String,
    /// `nats://HOST:PORT` or `tls://HOST:PORT`; several are joined by commas.
    pub url: String,
    /// An nkey's seed, or a file made by `nsc generate creds`; read for every connection.
    pub credentials_file: Option<PathBuf>,
    /// Whether the node makes its own stream where there is none, of this size. It may then call `STREAM.INFO` too.
    pub create_stream: Option<StreamSize>,
    /// Bytes that the broker has to take in one message.
    pub message_bytes_min: usize,
}

impl NatsSettings {
    /// Of a node that reaches a broker without credentials, and makes no stream.
    pub fn new(node: &str, url: &str) -> Self {
        Self {
            node: node.to_owned(),
            url: url.to_owned(),
            credentials_file: None,
            create_stream: None,
            message_bytes_min: EVENT_BYTES_MAX + BUS_MESSAGE_EXTRA_BYTES,
        }
    }
}

/// The bus of one node over NATS; dropping it ends its connection.
#[derive(Debug)]
pub struct NatsBus {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl NatsBus {
    /// Begins to connect, and never gives up. Runs on the runtime that is given.
    pub fn start(
        settings: NatsSettings,
        runtime: &Handle,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        let shared = Arc::new(Shared::new(settings));
        let mut tasks = JoinSet::new();
        tasks.spawn_on(driver::run(Arc::clone(&shared), clock, disk), runtime);
        Self { shared, _tasks: tasks }
    }

    /// Bytes that the broker takes in one message; none before it was reached.
    pub fn message_bytes_max(&self) -> Option<usize> {
        self.shared.with(|state| state.message_bytes_max)
    }
}

impl Bus for NatsBus {
    fn submit(&self, operation: Operation) -> Result<Ticket, BusFull> {
        self.shared.submit(operation)
    }

    fn poll(&self, _now_unix_nanos: i64) -> Vec<BusEvent> {
        self.shared.with(|state| state.mailbox.drain())
    }

    fn on_event(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.shared.with(|state| {
            state.mailbox.wake = Some(Wake(Arc::from(wake)));
            // Something may have come before.
            state.mailbox.woken = true;
        });
    }
}

/// What the tasks and the node's side share.
struct Shared {
    settings: NatsSettings,
    started: Instant,
    state: Mutex<State>,
    /// There is something to send.
    to_send: Notify,
}

#[derive(Debug)]
struct State {
    mailbox: Mailbox,
    last_ticket: u64,
    queue: VecDeque<(Ticket, Operation)>,
    waiting: HashMap<Ticket, Waiting>,
    /// Where the answer to what was asked goes, and when it is forgotten.
    asked: HashMap<Ticket, (String, i64)>,
    /// Listeners and services that were subscribed, and whose message to themselves has not come back.
    unheard: BTreeSet<Ticket>,
    /// Why the broker that was reached is not used.
    unfit: Option<String>,
    message_bytes_max: Option<usize>,
}

/// An operation whose reply is awaited.
#[derive(Debug)]
enum Waiting {
    Publish { subject: String, stream: String },
    State { subject: String },
    Read(Read),
    Ask { subject: String },
}

/// A read of a stream, in parts.
#[derive(Debug)]
struct Read {
    subject: String,
    node: String,
    kept: Vec<Kept>,
    /// How many the broker says are behind the newest of them, under the same filter.
    behind: u64,
    step: ReadStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadStep {
    /// Messages in a row.
    Fetch,
    /// Where the stream ends, since there was nothing to fetch.
    End,
    /// The newest message.
    Last,
    /// The oldest message, for the stream's state.
    StateFirst,
    /// The newest one, when the oldest has this sequence.
    StateLast(u64),
}

impl Shared {
    fn new(settings: NatsSettings) -> Self {
        let state = State {
            mailbox: Mailbox::new(),
            last_ticket: 0,
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            asked: HashMap::new(),
            unheard: BTreeSet::new(),
            unfit: None,
            message_bytes_max: None,
        };
        Self { settings, started: Instant::now(), state: Mutex::new(state), to_send: Notify::new() }
    }

    /// Nanoseconds since the start; no wall time, which may jump.
    fn now(&self) -> i64 {
        self.started.elapsed().as_nanos() as i64
    }

    /// Does something with the state, then wakes the node's side if there is something new, without the lock.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let wake = if std::mem::take(&mut state.mailbox.woken) { state.mailbox.wake.clone() } else { None };
        drop(state);
        if let Some(wake) = wake {
            (wake.0)();
        }
        result
    }

    fn submit(&self, operation: Operation) -> Result<Ticket, BusFull> {
        let now = self.now();
        let ticket = self.with(|state| state.submit(operation, now))?;
        self.to_send.notify_one();
        Ok(ticket)
    }
}

impl State {
    fn submit(&mut self, operation: Operation, now: i64) -> Result<Ticket, BusFull> {
        let listener = match &operation {
            Operation::Listen { filter } => Some(Listener::new(filter.clone(), false)),
            Operation::Serve { filter } => Some(Listener::new(filter.clone(), true)),
            _ => None,
        };
        let bytes = cost(&operation);
        self.mailbox.admit(bytes, listener.is_some())?;
        let ticket = self.ticket();
        if let Some(listener) = listener {
            self.mailbox.listeners.insert(ticket, listener);
            self.queue.push_back((ticket, operation));
            return Ok(ticket);
        }
        let (timeout, doubtful) = match &operation {
            Operation::Ask { timeout_nanos, .. } => (i64::try_from(*timeout_nanos).unwrap_or(i64::MAX), true),
            Operation::Publish { .. } => (BUS_TIMEOUT.as_nanos() as i64, true),
            _ => (BUS_TIMEOUT.as_nanos() as i64, false),
        };
        self.mailbox.begin(ticket, bytes, now, timeout, doubtful);
        match operation {
            Operation::Forget { ticket: listener } => {
                let event = if self.mailbox.listeners.remove(&listener).is_some() {
                    self.queue.push_back((ticket, operation));
                    BusEvent::Forgotten { ticket: listener }
                } else {
                    let error = BusError::NotFound(format!("there is no listener {}", listener.0));
                    BusEvent::Failed { ticket, error }
                };
                self.mailbox.finish(ticket, event);
            }
            _ if !self.mailbox.connected => {
                let error = match &self.unfit {
                    Some(reason) => BusError::Refused(reason.clone()),
                    None => BusError::NotConnected("there is no connection to NATS".to_owned()),
                };
                self.fail(ticket, error);
            }
            _ => self.queue.push_back((ticket, operation)),
        }
        Ok(ticket)
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn finish(&mut self, ticket: Ticket, event: BusEvent) {
        self.waiting.remove(&ticket);
        self.mailbox.finish(ticket, event);
    }

    fn fail(&mut self, ticket: Ticket, error: BusError) {
        self.finish(ticket, BusEvent::Failed { ticket, error });
    }

    /// The connection is gone: what is in flight or queued comes to nothing, but for listeners.
    fn lose(&mut self, reason: &str) {
        self.mailbox.lose(reason);
        self.waiting.clear();
        self.queue.retain(|(_, operation)| {
            matches!(operation, Operation::Listen { .. } | Operation::Serve { .. } | Operation::Forget { .. })
        });
    }

    /// Ends what took too long.
    fn expire(&mut self, now: i64) {
        for (ticket, waited) in self.mailbox.overdue(now) {
            self.fail(ticket, BusError::Unknown(format!("none within {} ms", waited / 1_000_000)));
        }
        let before = self.asked.len();
        self.asked.retain(|_, (_, expires)| *expires > now);
        for _ in self.asked.len()..before {
            self.mailbox.close_question();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}
