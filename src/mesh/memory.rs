//! The bus in memory: one broker that nodes of one process share, with faults by seed.
//!
//! Serves simulation and the demo. Invariants: no threads and no time of its own (time is what `poll` was told last),
//! so the same seed and the same calls give the same events; every fault that took effect is counted. Without faults
//! everything happens at once, and `on_event` wakes those it concerns. Does not know what messages mean.

mod broker;
mod fault;
mod operations;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::broker::{Broker, MemberId};
pub use self::{
    fault::{Fault, Faults},
    stream::StreamLimits,
};
use super::bus::{Bus, BusEvent, BusFull, Kept, Message, Operation, Ticket, mailbox::Wake};

/// A broker in memory. Clones are the same broker.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

/// The bus as one node sees it; dropping it ends its connection.
#[derive(Debug)]
pub struct MemoryBus {
    shared: Arc<Shared>,
    member: MemberId,
}

struct Shared {
    broker: Mutex<Broker>,
}

impl MemoryBroker {
    /// A broker without streams; the seed decides what faults do, and when.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self { shared: Arc::new(Shared { broker: Mutex::new(Broker::new(seed, faults)) }) }
    }

    /// A connection of this node, whose stream is created if there is none. A node may have several: a process that is
    /// gone and its successor, or two nodes under one name.
    pub fn connect(&self, node: &str) -> MemoryBus {
        let member = self.shared.with(|broker| broker.connect(node));
        MemoryBus { shared: Arc::clone(&self.shared), member }
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.with(|broker| broker.faults = faults);
    }

    /// How often each fault took effect.
    pub fn fault_counts(&self) -> BTreeMap<Fault, u64> {
        self.shared.with(|broker| broker.counts.clone())
    }

    /// When something is due that no call has brought about yet: a message on its way, a timeout, a connection's return.
    pub fn next_due_unix_nanos(&self) -> Option<i64> {
        self.shared.with(|broker| broker.next_due())
    }

    /// Cuts a node off, all of its connections, until `heal`.
    pub fn cut(&self, node: &str) {
        self.shared.with(|broker| broker.cut(node, None));
    }

    /// Brings a node's connections back.
    pub fn heal(&self, node: &str) {
        self.shared.with(|broker| broker.heal(node));
    }

    /// Empties a stream as a broker that lost its store: it is created anew and begins at 1.
    pub fn wipe(&self, stream: &str) {
        self.shared.with(|broker| broker.wipe(stream));
    }

    /// Takes a stream away altogether.
    pub fn remove_stream(&self, stream: &str) {
        self.shared.with(|broker| broker.streams.remove(stream));
    }

    /// Other limits for a stream, which is created if there is none.
    pub fn limit(&self, stream: &str, limits: StreamLimits) {
        self.shared.with(|broker| broker.create_stream(stream).set_limits(limits));
    }

    /// Puts a message into a stream past all rights, as somebody with the broker's own credentials could.
    pub fn plant(&self, stream: &str, message: Message) {
        self.shared.with(|broker| broker.create_stream(stream).land_again(message));
    }

    /// Removes one message of a stream past all rights; false if there is no such message.
    pub fn remove(&self, stream: &str, sequence: u64) -> bool {
        self.shared.with(|broker| broker.create_stream(stream).remove(sequence))
    }

    /// Flips one bit, of the payload or of a header, in the n-th oldest message of a stream; false if there is none.
    pub fn corrupt(&self, stream: &str, n: usize) -> bool {
        self.shared.with(|broker| broker.corrupt_nth(stream, n))
    }

    /// All that a stream keeps.
    pub fn messages(&self, stream: &str) -> Vec<Kept> {
        self.shared.with(|broker| {
            broker.streams.get(stream).map(|stream| stream.all().cloned().collect()).unwrap_or_default()
        })
    }
}

impl Bus for MemoryBus {
    fn submit(&self, operation: Operation) -> Result<Ticket, BusFull> {
        self.shared.with(|broker| broker.submit(self.member, operation))
    }

    fn poll(&self, now_unix_nanos: i64) -> Vec<BusEvent> {
        self.shared.with(|broker| broker.poll(self.member, now_unix_nanos))
    }

    fn on_event(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let wake = Wake(Arc::from(wake));
        self.shared.with(|broker| broker.set_wake(self.member, wake));
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.shared.with(|broker| broker.leave(self.member));
    }
}

impl Shared {
    /// Does something with the broker, then wakes whom it concerns, without the lock.
    fn with<T>(&self, act: impl FnOnce(&mut Broker) -> T) -> T {
        let mut broker = self.lock();
        let result = act(&mut broker);
        let wakes = broker.take_wakes();
        drop(broker);
        for wake in wakes {
            (wake.0)();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
