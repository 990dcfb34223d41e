//! The two worlds in which a check runs, and a node in them that waits for what comes.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use async_nats::jetstream;
use outrigger::{
    clock::{Clock as _, SystemClock},
    disk::real::RealDisk,
    mesh::{
        bus::{Bus, BusEvent, Message, Operation, Ticket},
        memory::{MemoryBroker, StreamLimits},
        nats::{NatsBus, NatsSettings, StreamSize, stream_name},
    },
};
use tokio::runtime::Runtime;

use crate::nats_server::NatsServer;

/// How long anything may take on a real server.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) enum World {
    Memory { broker: MemoryBroker, now: Arc<Mutex<i64>> },
    Nats { server: NatsServer, runtime: Runtime },
}

/// A node with its bus.
pub(crate) struct Peer {
    pub(crate) bus: Box<dyn Bus>,
    seen: VecDeque<BusEvent>,
    signal: Arc<(Mutex<bool>, Condvar)>,
    memory: Option<(MemoryBroker, Arc<Mutex<i64>>)>,
}

impl World {
    pub(crate) fn memory(broker: MemoryBroker) -> Self {
        Self::Memory { broker, now: Arc::new(Mutex::new(1_000_000_000)) }
    }

    pub(crate) fn nats(server: NatsServer) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self::Nats { server, runtime: runtime.unwrap() }
    }

    /// A node whose stream is there, connected.
    pub(crate) fn peer(&self, node: &str) -> Peer {
        let mut peer = self.unconnected(node);
        peer.wait("a connection", |event| matches!(event, BusEvent::Connected));
        peer
    }

    pub(crate) fn unconnected(&self, node: &str) -> Peer {
        match self {
            Self::Memory { broker, now } => {
                let memory = Some((broker.clone(), Arc::clone(now)));
                Peer::new(Box::new(broker.connect(node)), memory)
            }
            Self::Nats { server, runtime } => {
                let settings = NatsSettings {
                    create_stream: Some(StreamSize::default()),
                    ..NatsSettings::new(node, &server.url())
                };
                Peer::over(settings, runtime)
            }
        }
    }

    /// Cuts everybody off.
    pub(crate) fn cut(&mut self, nodes: &[&str]) {
        match self {
            Self::Memory { broker, .. } => nodes.iter().for_each(|node| broker.cut(node)),
            Self::Nats { server, .. } => server.kill(),
        }
    }

    pub(crate) fn heal(&mut self, nodes: &[&str]) {
        match self {
            Self::Memory { broker, .. } => nodes.iter().for_each(|node| broker.heal(node)),
            Self::Nats { server, .. } => server.restart(),
        }
    }

    /// The stream loses everything, and its sequences begin again.
    pub(crate) fn wipe(&self, node: &str) {
        match self {
            Self::Memory { broker, .. } => broker.wipe(node),
            Self::Nats { .. } => self.with_jetstream(async |context| {
                let name = stream_name(node);
                let mut stream = context.get_stream(&name).await.unwrap();
                let config = stream.info().await.unwrap().config.clone();
                context.delete_stream(&name).await.unwrap();
                context.create_stream(config).await.unwrap();
            }),
        }
    }

    /// Other bounds for a stream.
    pub(crate) fn limit(&self, node: &str, messages_max: usize, refuse_new: bool) {
        match self {
            Self::Memory { broker, .. } => {
                broker.limit(node, StreamLimits { messages_max, refuse_new, ..StreamLimits::default() });
            }
            Self::Nats { .. } => self.with_jetstream(async |context| {
                let mut stream = context.get_stream(stream_name(node)).await.unwrap();
                let mut config = stream.info().await.unwrap().config.clone();
                config.max_messages = i64::try_from(messages_max).unwrap();
                if refuse_new {
                    config.discard = jetstream::stream::DiscardPolicy::New;
                }
                context.update_stream(config).await.unwrap();
            }),
        }
    }

    fn with_jetstream(&self, act: impl AsyncFnOnce(jetstream::Context)) {
        let Self::Nats { server, runtime } = self else { panic!("only for NATS") };
        runtime.block_on(async {
            let client = async_nats::connect(server.url()).await.unwrap();
            act(jetstream::new(client)).await;
        });
    }
}

impl Peer {
    fn new(bus: Box<dyn Bus>, memory: Option<(MemoryBroker, Arc<Mutex<i64>>)>) -> Self {
        let signal = Arc::new((Mutex::new(true), Condvar::new()));
        let waker = Arc::clone(&signal);
        bus.on_event(Box::new(move || {
            *waker.0.lock().unwrap() = true;
            waker.1.notify_all();
        }));
        Self { bus, seen: VecDeque::new(), signal, memory }
    }

    /// A node over NATS with settings of its own.
    pub(crate) fn over(settings: NatsSettings, runtime: &Runtime) -> Self {
        let bus = NatsBus::start(settings, runtime.handle(), Arc::new(SystemClock), Arc::new(RealDisk));
        Self::new(Box::new(bus), None)
    }

    pub(crate) fn submit(&self, operation: Operation) -> Ticket {
        self.bus.submit(operation).expect("the bus takes one more operation")
    }

    /// What has come; waits for nothing.
    pub(crate) fn poll(&mut self) {
        let now = match &self.memory {
            Some((_, now)) => *now.lock().unwrap(),
            None => SystemClock.now_unix_nanos(),
        };
        self.seen.extend(self.bus.poll(now));
    }

    /// The first event like this, taken out of what has come.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&BusEvent) -> bool) -> BusEvent {
        for _ in 0..1_000_000 {
            self.poll();
            if let Some(place) = self.seen.iter().position(&wanted) {
                return self.seen.remove(place).unwrap();
            }
            self.pass_time(what);
        }
        panic!("no {what}: {:?}", self.seen)
    }

    /// Lets time pass until something may have come.
    fn pass_time(&self, what: &str) {
        if let Some((broker, now)) = &self.memory {
            let mut now = now.lock().unwrap();
            *now = broker.next_due_unix_nanos().unwrap_or(*now + 1_000_000).max(*now + 1);
            return;
        }
        let signalled = self.signal.0.lock().unwrap();
        let waited = self.signal.1.wait_timeout_while(signalled, PATIENCE, |signalled| !*signalled);
        let (mut signalled, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "no {what}: {:?}", self.seen);
        *signalled = false;
    }

    /// What an operation came to.
    pub(crate) fn end_of(&mut self, ticket: Ticket) -> BusEvent {
        self.wait("end of the operation", |event| final_ticket(event) == Some(ticket))
    }

    pub(crate) fn run(&mut self, operation: Operation) -> BusEvent {
        let ticket = self.submit(operation);
        self.end_of(ticket)
    }

    /// The sequence under which it landed, and whether it was there before.
    pub(crate) fn publish(&mut self, node: &str, message: Message, id: &str) -> (u64, bool) {
        match self.run(publish(node, message, id)) {
            BusEvent::Published { sequence, duplicate, .. } => (sequence, duplicate),
            other => panic!("{other:?}"),
        }
    }

    /// Sequences and payloads of what a fetch brings, and where the stream ends.
    pub(crate) fn fetch(
        &mut self,
        node: &str,
        filter: &str,
        after: u64,
        messages_max: usize,
        bytes_max: usize,
    ) -> (Vec<(u64, Message)>, u64) {
        let (stream, filter) = (node.to_owned(), filter.to_owned());
        match self.run(Operation::Fetch { stream, filter, after, messages_max, bytes_max }) {
            BusEvent::Fetched { messages, last_sequence, .. } => {
                let pair = |kept: outrigger::mesh::bus::Kept| (kept.sequence, kept.message);
                (messages.into_iter().map(pair).collect(), last_sequence)
            }
            other => panic!("{other:?}"),
        }
    }

    /// A listener or service that is in force.
    pub(crate) fn listen(&mut self, operation: Operation) -> Ticket {
        let ticket = self.submit(operation);
        self.wait("a listener in force", |event| *event == BusEvent::Listening { ticket });
        ticket
    }

    /// Ends a listener or service; what says so comes under its ticket.
    pub(crate) fn forget(&mut self, listener: Ticket) {
        self.submit(Operation::Forget { ticket: listener });
        self.wait("the end of a listener", |event| *event == BusEvent::Forgotten { ticket: listener });
    }

    /// How many events like this have come and were not waited for.
    pub(crate) fn count(&mut self, wanted: impl Fn(&BusEvent) -> bool) -> usize {
        self.poll();
        self.seen.iter().filter(|event| wanted(event)).count()
    }
}

/// The operation that this event ends.
pub(crate) fn final_ticket(event: &BusEvent) -> Option<Ticket> {
    match event {
        BusEvent::Published { ticket, .. }
        | BusEvent::Fetched { ticket, .. }
        | BusEvent::State { ticket, .. }
        | BusEvent::Announced { ticket }
        | BusEvent::Forgotten { ticket }
        | BusEvent::Answered { ticket, last: true, .. }
        | BusEvent::Failed { ticket, .. } => Some(*ticket),
        _ => None,
    }
}

pub(crate) fn message(subject: &str, payload: impl Into<bytes::Bytes>) -> Message {
    let headers = vec![("ce-id".to_owned(), "7".to_owned()), ("outrigger-seq".to_owned(), "1".to_owned())];
    Message { subject: subject.to_owned(), headers, payload: payload.into() }
}

pub(crate) fn publish(node: &str, message: Message, id: &str) -> Operation {
    Operation::Publish { stream: node.to_owned(), message, message_id: id.to_owned() }
}
