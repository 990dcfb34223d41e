//! One connection's books, the same for every transport: what it has in flight, whom it listens to, what nobody polled.
//!
//! Invariants: an operation ends once; what is in flight and what waits to be polled is bounded. Time is any count of
//! nanoseconds that rises. Does not know brokers, streams or faults.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    sync::Arc,
};

use crate::{
    limits::{
        BUS_ASKED_MAX, BUS_FETCH_BYTES_MAX, BUS_LISTENERS_MAX, BUS_OPERATION_BYTES_MAX, BUS_OPERATIONS_MAX,
        BUS_UNPOLLED_BYTES_MAX, BUS_UNPOLLED_MAX,
    },
    mesh::bus::{BusError, BusEvent, BusFull, Message, Operation, Ticket, subject_matches},
};

/// Wakes whoever polls.
#[derive(Clone)]
pub(in crate::mesh) struct Wake(pub(in crate::mesh) Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

#[derive(Debug)]
pub(in crate::mesh) struct Mailbox {
    pub(in crate::mesh) connected: bool,
    pub(in crate::mesh) listeners: BTreeMap<Ticket, Listener>,
    pub(in crate::mesh) wake: Option<Wake>,
    pub(in crate::mesh) woken: bool,
    pending: BTreeMap<Ticket, Pending>,
    events: VecDeque<Waiting>,
    /// Operations and their bytes that are pending, or over and not polled.
    held: usize,
    held_bytes: usize,
    unpolled: usize,
    unpolled_bytes: usize,
    asked: usize,
}

/// A listener or a service.
#[derive(Debug)]
pub(in crate::mesh) struct Listener {
    pub(in crate::mesh) filter: String,
    pub(in crate::mesh) serves: bool,
    /// `Listening` was said.
    pub(in crate::mesh) in_force: bool,
}

impl Listener {
    pub(in crate::mesh) fn new(filter: String, serves: bool) -> Self {
        Self { filter, serves, in_force: false }
    }
}

/// An operation that is not over.
#[derive(Debug)]
struct Pending {
    deadline: i64,
    timeout: i64,
    bytes: usize,
    /// Whether it changes anything, so that its loss leaves doubt.
    doubtful: bool,
}

#[derive(Debug)]
struct Waiting {
    event: BusEvent,
    /// Bytes of the operation that this ends.
    ends: Option<usize>,
}

impl Mailbox {
    /// Of a connection that is not there yet.
    pub(in crate::mesh) fn new() -> Self {
        Self {
            connected: false,
            listeners: BTreeMap::new(),
            wake: None,
            woken: false,
            pending: BTreeMap::new(),
            events: VecDeque::new(),
            held: 0,
            held_bytes: 0,
            unpolled: 0,
            unpolled_bytes: 0,
            asked: 0,
        }
    }

    /// Makes room for an operation.
    pub(in crate::mesh) fn admit(&mut self, bytes: usize, listens: bool) -> Result<(), BusFull> {
        if listens {
            return if self.listeners.len() < BUS_LISTENERS_MAX { Ok(()) } else { Err(BusFull) };
        }
        let fits = self.held == 0 || self.held_bytes + bytes <= BUS_OPERATION_BYTES_MAX;
        if self.held >= BUS_OPERATIONS_MAX || !fits {
            return Err(BusFull);
        }
        self.held += 1;
        self.held_bytes += bytes;
        Ok(())
    }

    pub(in crate::mesh) fn begin(
        &mut self,
        ticket: Ticket,
        bytes: usize,
        now: i64,
        timeout: i64,
        doubtful: bool,
    ) {
        let deadline = now.saturating_add(timeout);
        self.pending.insert(ticket, Pending { deadline, timeout, bytes, doubtful });
    }

    /// The operation is over, unless it was before.
    pub(in crate::mesh) fn finish(&mut self, ticket: Ticket, event: BusEvent) -> bool {
        let Some(pending) = self.pending.remove(&ticket) else { return false };
        self.push(Waiting { event, ends: Some(pending.bytes) });
        true
    }

    pub(in crate::mesh) fn is_pending(&self, ticket: Ticket) -> bool {
        self.pending.contains_key(&ticket)
    }

    /// Its time begins again.
    pub(in crate::mesh) fn restart(&mut self, ticket: Ticket, now: i64) {
        if let Some(pending) = self.pending.get_mut(&ticket) {
            pending.deadline = now.saturating_add(pending.timeout);
        }
    }

    pub(in crate::mesh) fn first_deadline(&self) -> Option<i64> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// Operations whose time is over, and how long they had.
    pub(in crate::mesh) fn overdue(&self, now: i64) -> Vec<(Ticket, i64)> {
        let overdue = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        overdue.map(|(ticket, pending)| (*ticket, pending.timeout)).collect()
    }

    pub(in crate::mesh) fn say(&mut self, event: BusEvent) {
        self.push(Waiting { event, ends: None });
    }

    /// A message that nobody asked to be counted: heard, asked or a part of an answer. False if there is no room.
    pub(in crate::mesh) fn hand(
        &mut self,
        event: BusEvent,
        message_bytes: usize,
        ends: Option<Ticket>,
    ) -> bool {
        let fits = self.unpolled == 0 || self.unpolled_bytes + message_bytes <= BUS_UNPOLLED_BYTES_MAX;
        if self.unpolled >= BUS_UNPOLLED_MAX || !fits {
            return false;
        }
        self.unpolled += 1;
        self.unpolled_bytes += message_bytes;
        let ends = ends.and_then(|ticket| self.pending.remove(&ticket)).map(|pending| pending.bytes);
        self.push(Waiting { event, ends });
        true
    }

    /// Whether one more question can be open.
    pub(in crate::mesh) fn take_question(&mut self) -> bool {
        let takes = self.asked < BUS_ASKED_MAX;
        self.asked += usize::from(takes);
        takes
    }

    pub(in crate::mesh) fn close_question(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// The connection is gone: what is in flight comes to nothing.
    pub(in crate::mesh) fn lose(&mut self, reason: &str) {
        if !mem::replace(&mut self.connected, false) {
            return;
        }
        self.say(BusEvent::Disconnected { reason: reason.to_owned() });
        let pending: Vec<_> =
            self.pending.iter().map(|(ticket, pending)| (*ticket, pending.doubtful)).collect();
        for (ticket, doubtful) in pending {
            let reason = reason.to_owned();
            let error = if doubtful { BusError::Unknown(reason) } else { BusError::NotConnected(reason) };
            self.finish(ticket, BusEvent::Failed { ticket, error });
        }
    }

    pub(in crate::mesh) fn come_back(&mut self) {
        if !mem::replace(&mut self.connected, true) {
            self.say(BusEvent::Connected);
        }
    }

    /// Says that a listener is in force, once.
    pub(in crate::mesh) fn listen(&mut self, ticket: Ticket) {
        if let Some(listener) = self.listeners.get_mut(&ticket)
            && !mem::replace(&mut listener.in_force, true)
        {
            self.say(BusEvent::Listening { ticket });
        }
    }

    /// Everything that waits.
    pub(in crate::mesh) fn drain(&mut self) -> Vec<BusEvent> {
        self.unpolled = 0;
        self.unpolled_bytes = 0;
        for waiting in &self.events {
            if let Some(bytes) = waiting.ends {
                self.held -= 1;
                self.held_bytes -= bytes;
            }
        }
        mem::take(&mut self.events).into_iter().map(|waiting| waiting.event).collect()
    }

    /// The services under which a message falls, or the listeners.
    pub(in crate::mesh) fn ears<'a>(
        &'a self,
        message: &'a Message,
        serving: bool,
    ) -> impl Iterator<Item = Ticket> + 'a {
        let hears = move |listener: &Listener| {
            listener.serves == serving && subject_matches(&listener.filter, &message.subject)
        };
        let found = self.listeners.iter().filter(move |(_, listener)| hears(listener));
        found.map(|(ticket, _)| *ticket).filter(|_| self.connected)
    }

    fn push(&mut self, waiting: Waiting) {
        self.events.push_back(waiting);
        self.woken = true;
    }
}

/// Bytes that an operation takes while it is in flight.
pub(in crate::mesh) fn cost(operation: &Operation) -> usize {
    match operation {
        Operation::Publish { message, .. }
        | Operation::Announce { message }
        | Operation::Ask { message, .. }
        | Operation::Answer { message, .. } => message.bytes(),
        Operation::Fetch { bytes_max, .. } => (*bytes_max).min(BUS_FETCH_BYTES_MAX),
        Operation::Last { .. }
        | Operation::State { .. }
        | Operation::Listen { .. }
        | Operation::Serve { .. }
        | Operation::Forget { .. } => 0,
    }
}
