//! The mesh of one node: its outboxes, its inboxes and those who ask it, moved step by step.
//!
//! One thread drives it (`driver`), or the simulator does. A step polls the bus, hands each event to the machine that
//! waits for it, lets every machine go as far as it can, and says how long there is to wait. Invariants: nothing here
//! waits; a machine that fails is tried again later and keeps no other from going on. Does not know gRPC, files of
//! definitions or threads.

mod command;
pub mod driver;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use super::{
    bus::{Bus, BusEvent, Operation, Ticket},
    decisions::{ExportDecisions, GivenUp},
    definition::{Export, Import},
    inbox::Inbox,
    io::{Io, Next, Route},
    outbox::{Met, Outbox},
    repair::{Repairs, Served},
    state::{BusStatus, MeshStatus, Rewound, StopReason},
    store::Store,
    trust::{SigningKey, Trust},
};
use crate::{
    append::Appender,
    clock::Clock,
    event::Position,
    events::Events,
    limits::{BUS_RETRY, HEAD_MARK_IDLE},
    sabotage::Sabotage,
};
use command::Deciding;

/// What a node's mesh is made of.
#[derive(Debug)]
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The log.
    pub events: Events,
    /// The way into it.
    pub appender: Appender,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// `mesh.redb`.
    pub store: Store,
    /// With which the node signs.
    pub key: Arc<SigningKey>,
    /// Whose signatures it believes.
    pub trust: Arc<Trust>,
    /// From how many messages on an import asks for many at once (`limits::IMPORT_BULK_BEHIND`).
    pub bulk_behind: u64,
    /// A bug that is built in, in simulation.
    pub sabotage: Option<Sabotage>,
}

/// The mesh of one node.
#[derive(Debug)]
pub struct Mesh {
    parts: Parts,
    waker: Waker,
    own_trust: Trust,
    routes: HashMap<Ticket, Route>,
    next_number: usize,
    outboxes: BTreeMap<usize, Outbox>,
    inboxes: BTreeMap<usize, Inbox>,
    repairs: Repairs,
    decisions: ExportDecisions,
    decided_upto: Position,
    rewound: Option<Rewound>,
    given_up: Vec<GivenUp>,
    deciding: Vec<Deciding>,
    bus: BusStatus,
    problems: Vec<String>,
    failed_at: BTreeMap<Machine, i64>,
    stops: BTreeMap<(String, StopReason), u64>,
}

/// A machine, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Machine {
    Export(usize),
    Import(usize),
    Repair,
}

/// Splits the mesh into the hands of a step and its machines.
macro_rules! io {
    ($mesh:ident, $now:expr) => {
        Io {
            node: &$mesh.parts.node,
            now_unix_nanos: $now,
            bus: &*$mesh.parts.bus,
            events: &$mesh.parts.events,
            appender: &$mesh.parts.appender,
            waker: &$mesh.waker,
            clock: &*$mesh.parts.clock,
            store: &$mesh.parts.store,
            key: &$mesh.parts.key,
            trust: &$mesh.parts.trust,
            own_trust: &$mesh.own_trust,
            routes: &mut $mesh.routes,
            bulk_behind: $mesh.parts.bulk_behind,
            sabotage: $mesh.parts.sabotage,
        }
    };
}

impl Mesh {
    /// A mesh without exports and imports.
    pub fn new(parts: Parts) -> Self {
        let mut own_trust = Trust::default();
        let trusted = own_trust.trust(&parts.node, parts.key.public());
        trusted.expect("the key of a node is one that can be trusted");
        Self {
            parts,
            waker: Waker::noop().clone(),
            own_trust,
            routes: HashMap::new(),
            next_number: 0,
            outboxes: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            repairs: Repairs::default(),
            decisions: ExportDecisions::default(),
            decided_upto: Position::ZERO,
            rewound: None,
            given_up: Vec::new(),
            deciding: Vec::new(),
            bus: BusStatus::default(),
            problems: Vec::new(),
            failed_at: BTreeMap::new(),
            stops: BTreeMap::new(),
        }
    }

    /// From now on this is called when there is something to step for that neither the bus nor the head of the log tells.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// From now on these are the exports; those that stay as they are go on.
    pub fn set_exports(&mut self, exports: Vec<Arc<Export>>) {
        let is_same = |outbox: &Outbox, export: &Arc<Export>| {
            let known = outbox.export();
            known.name() == export.name()
                && known.version() == export.version()
                && known.hash() == export.hash()
                && importers(known) == importers(export)
        };
        self.outboxes.retain(|_, outbox| exports.iter().any(|export| is_same(outbox, export)));
        for export in exports {
            if !self.outboxes.values().any(|outbox| is_same(outbox, &export)) {
                let Parts { node, events, sabotage, .. } = &self.parts;
                let outbox = Outbox::new(self.next_number, export, node, events.log(), *sabotage);
                self.outboxes.insert(self.next_number, outbox);
                self.next_number += 1;
            }
        }
    }

    /// From now on these are the imports; those that stay as they are go on.
    pub fn set_imports(&mut self, imports: Vec<Arc<Import>>) {
        let is_same = |inbox: &Inbox, import: &Arc<Import>| inbox.import().hash() == import.hash();
        let gone: Vec<usize> = (self.inboxes.iter())
            .filter(|(_, inbox)| !imports.iter().any(|import| is_same(inbox, import)))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            let listening = self.inboxes.remove(&number).and_then(|inbox| inbox.listening());
            if let Some(ticket) = listening
                && self.parts.bus.submit(Operation::Forget { ticket }).is_err()
            {
                tracing::warn!(
                    "an import is gone, and the bus could not be told; what it hears is passed over"
                );
            }
        }
        for import in imports {
            if !self.inboxes.values().any(|inbox| is_same(inbox, &import)) {
                self.inboxes.insert(self.next_number, Inbox::new(self.next_number, import));
                self.next_number += 1;
            }
        }
    }

    /// From now on these signatures are believed.
    pub fn set_trust(&mut self, trust: Arc<Trust>) {
        self.parts.trust = trust;
        for inbox in self.inboxes.values_mut() {
            if inbox.stopped().is_some_and(|stop| stop.reason == StopReason::NotOwner) {
                inbox.restart();
            }
        }
    }

    /// Files that cannot be used, for status.
    pub fn set_problems(&mut self, problems: Vec<String>) {
        self.problems = problems;
    }

    /// Whether everything that is durable is published and acknowledged.
    pub fn is_drained(&self) -> bool {
        let head = self.parts.events.head().get();
        self.outboxes.values().all(|outbox| outbox.is_drained(head))
    }

    /// Whether there is a bus to publish to.
    pub const fn is_connected(&self) -> bool {
        self.bus.is_connected
    }

    /// How often each import stopped since the node started.
    pub fn stops(&self) -> impl Iterator<Item = (&str, StopReason, u64)> {
        self.stops.iter().map(|((import, reason), count)| (import.as_str(), *reason, *count))
    }

    /// As it is now.
    pub fn status(&mut self, now_unix_nanos: i64) -> MeshStatus {
        MeshStatus {
            node: self.parts.node.clone(),
            log_id: self.parts.events.log().log_id(),
            bus: self.bus.clone(),
            rewound: self.rewound.clone(),
            exports: self.outboxes.values_mut().map(|outbox| outbox.status(now_unix_nanos)).collect(),
            imports: self.inboxes.values_mut().map(|inbox| inbox.status(now_unix_nanos)).collect(),
            problems: self.problems.clone(),
        }
    }

    /// Goes on as far as it can without waiting; says how long there is to wait for something to happen.
    pub fn step(&mut self, now_unix_nanos: i64) -> Duration {
        for event in self.parts.bus.poll(now_unix_nanos) {
            self.hand_out(&event, now_unix_nanos);
        }
        self.answer_commands();
        let head = self.parts.events.head().get();
        if head > self.decided_upto {
            match self.decisions.refresh(&self.parts.events) {
                Ok(()) => self.decided_upto = head,
                Err(error) => tracing::error!(%error, "decisions about exports cannot be read"),
            }
        }
        let mut next = Next::At(now_unix_nanos.saturating_add(nanos(HEAD_MARK_IDLE)));
        next = next.or(self.step_exports(now_unix_nanos));
        next = next.or(self.step_imports(now_unix_nanos));
        next = next.or(self.step_repairs(now_unix_nanos));
        match next {
            Next::Now => Duration::ZERO,
            Next::At(at) => Duration::from_nanos(at.saturating_sub(now_unix_nanos).max(0) as u64),
        }
    }

    fn step_exports(&mut self, now: i64) -> Next {
        let mut next = Next::At(i64::MAX);
        let mut met = Vec::new();
        let mut failures = Vec::new();
        for (number, outbox) in &mut self.outboxes {
            if let Some(at) = self.failed_at.get(&Machine::Export(*number)).filter(|at| **at > now) {
                next = next.or(Next::At(*at));
                continue;
            }
            let stepped = outbox.step(&mut io!(self, now), &self.decisions);
            met.extend(outbox.met.take());
            match stepped {
                Ok(wanted) => next = next.or(wanted),
                Err(error) => failures.push((Machine::Export(*number), error.to_string())),
            }
        }
        for met in met {
            self.meet(met);
        }
        next.or(self.note_failures(failures, now))
    }

    fn step_imports(&mut self, now: i64) -> Next {
        let mut next = Next::At(i64::MAX);
        let mut failures = Vec::new();
        for (number, inbox) in &mut self.inboxes {
            if let Some(at) = self.failed_at.get(&Machine::Import(*number)).filter(|at| **at > now) {
                next = next.or(Next::At(*at));
                continue;
            }
            match inbox.step(&mut io!(self, now)) {
                Ok(wanted) => next = next.or(wanted),
                Err(error) => failures.push((Machine::Import(*number), error.to_string())),
            }
            for reason in std::mem::take(&mut inbox.stops) {
                *self.stops.entry((inbox.import().name().to_owned(), reason)).or_default() += 1;
            }
        }
        next.or(self.note_failures(failures, now))
    }

    fn step_repairs(&mut self, now: i64) -> Next {
        if let Some(at) = self.failed_at.get(&Machine::Repair).filter(|at| **at > now) {
            return Next::At(*at);
        }
        let served_of = |outbox: &Outbox| Served {
            export: Arc::clone(outbox.export()),
            published: outbox.published_upto(),
        };
        let exports: Vec<Served> = self.outboxes.values().map(served_of).collect();
        let mut served = Vec::new();
        let stepped = self.repairs.step(&mut io!(self, now), &exports, &mut |name| served.push(name.clone()));
        for name in served {
            let is_of = |outbox: &&mut Outbox| *outbox.name() == name;
            if let Some(outbox) = self.outboxes.values_mut().find(is_of) {
                outbox.repairs_served += 1;
            }
        }
        match stepped {
            Ok(next) => next,
            Err(error) => self.note_failures(vec![(Machine::Repair, error.to_string())], now),
        }
    }

    fn note_failures(&mut self, failures: Vec<(Machine, String)>, now: i64) -> Next {
        let mut next = Next::At(i64::MAX);
        for (route, error) in failures {
            tracing::error!(machine = ?route, %error, "a part of the mesh failed; it is tried again");
            let at = now.saturating_add(nanos(BUS_RETRY));
            self.failed_at.insert(route, at);
            next = next.or(Next::At(at));
        }
        next
    }

    /// What an outbox has met concerns the node.
    fn meet(&mut self, met: Met) {
        match met {
            Met::Rewound(rewound, given_up) => {
                let reason = format!(
                    "LOG_REWOUND: this node has published event {} of {} at position {}, which its log (head {}) does \
                     not have; bring the newer copy of the data directory back, or let this one count with \
                     `outrigger mesh resync --node`",
                    rewound.seq, rewound.export, rewound.position, rewound.head
                );
                tracing::error!(%reason, "appends are refused");
                self.parts.appender.refuse(Some(reason));
                self.rewound.get_or_insert(rewound);
                self.given_up.push(given_up);
            }
            Met::NameTaken(given_up) => {
                tracing::error!(
                    export = %given_up.export, log_id = %given_up.place.log_id,
                    "NODE_NAME_TAKEN: another log publishes under this node's name; this one exports nothing any more"
                );
                self.given_up.push(given_up);
            }
        }
    }

    fn hand_out(&mut self, event: &BusEvent, now: i64) {
        match event {
            BusEvent::Connected => {
                (self.bus.is_connected, self.bus.since_unix_nanos) = (true, now);
                return self.hand_to_all(event, now);
            }
            BusEvent::Disconnected { reason } => {
                tracing::warn!(%reason, "the bus is gone; the node goes on without it");
                (self.bus.is_connected, self.bus.since_unix_nanos) = (false, now);
                self.bus.disconnects += 1;
                self.bus.last_error = Some(reason.clone());
                return self.hand_to_all(event, now);
            }
            _ => {}
        }
        let (ticket, is_final) = ticket_of(event);
        let Some(ticket) = ticket else { return };
        let route = if is_final { self.routes.remove(&ticket) } else { self.routes.get(&ticket).copied() };
        let mut io = io!(self, now);
        match route {
            Some(Route::Export(number)) => {
                if let Some(outbox) = self.outboxes.get_mut(&number) {
                    outbox.on_event(event, &io);
                }
            }
            Some(Route::Import(number)) => {
                if let Some(inbox) = self.inboxes.get_mut(&number) {
                    inbox.on_event(event, &mut io);
                }
            }
            Some(Route::Repair) => self.repairs.on_event(event, &io),
            None => {}
        }
    }

    fn hand_to_all(&mut self, event: &BusEvent, now: i64) {
        for outbox in self.outboxes.values_mut() {
            outbox.on_event(event, &io!(self, now));
        }
        for inbox in self.inboxes.values_mut() {
            inbox.on_event(event, &mut io!(self, now));
        }
    }
}

/// What an event is about, and whether nothing else will come of it.
fn ticket_of(event: &BusEvent) -> (Option<Ticket>, bool) {
    match event {
        BusEvent::Connected | BusEvent::Disconnected { .. } => (None, false),
        BusEvent::Listening { ticket } | BusEvent::Heard { ticket, .. } | BusEvent::Asked { ticket, .. } => {
            (Some(*ticket), false)
        }
        BusEvent::Answered { ticket, last, .. } => (Some(*ticket), *last),
        BusEvent::Published { ticket, .. }
        | BusEvent::Fetched { ticket, .. }
        | BusEvent::State { ticket, .. }
        | BusEvent::Announced { ticket }
        | BusEvent::Forgotten { ticket }
        | BusEvent::Failed { ticket, .. } => (Some(*ticket), true),
    }
}

fn importers(export: &Export) -> Option<Vec<String>> {
    export.importers().map(|names| names.map(str::to_owned).collect())
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
