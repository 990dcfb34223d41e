//! What the machines of a node's mesh have in their hands during one step, and who gets which event of the bus.
//!
//! Invariant: every operation that is submitted has one receiver. Does not know what operations are for.

use std::{collections::HashMap, task::Waker, time::Duration};

use super::{
    bus::{Bus, BusFull, Operation, Ticket},
    envelope::{ExportName, Place, Signature},
    store::Store,
    trust::{SigningKey, Trust, TrustError},
};
use crate::{append::Appender, clock::Clock, events::Events, sabotage::Sabotage};

/// Who gets what comes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// An export, by its number.
    Export(usize),
    /// An import, by its number.
    Import(usize),
    /// Those who ask this node.
    Repair,
}

/// One step's hands.
#[derive(Debug)]
pub struct Io<'a> {
    /// This node.
    pub node: &'a str,
    /// Nanoseconds since 1970.
    pub now_unix_nanos: i64,
    /// The bus.
    pub bus: &'a dyn Bus,
    /// The log.
    pub events: &'a Events,
    /// The way into it.
    pub appender: &'a Appender,
    /// Makes this node step again: for answers that are not there yet.
    pub waker: &'a Waker,
    /// Randomness.
    pub clock: &'a dyn Clock,
    /// Checkpoints.
    pub store: &'a Store,
    /// With which this node signs.
    pub key: &'a SigningKey,
    /// Whose signatures are believed.
    pub trust: &'a Trust,
    /// This node's own key, whether the trust file has it or not.
    pub own_trust: &'a Trust,
    /// Who gets what.
    pub routes: &'a mut HashMap<Ticket, Route>,
    /// From how many messages on an import asks for many at once.
    pub bulk_behind: u64,
    /// A bug that is built in, in simulation.
    pub sabotage: Option<Sabotage>,
}

impl Io<'_> {
    /// Submits an operation for a receiver.
    pub fn submit(&mut self, route: Route, operation: Operation) -> Result<Ticket, BusFull> {
        let ticket = self.bus.submit(operation)?;
        self.routes.insert(ticket, route);
        Ok(ticket)
    }

    /// Whether a bug is built in.
    pub fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Whether a signature is the owner's.
    pub fn verify(
        &self,
        name: &ExportName,
        definition: &[u8; 32],
        place: &Place,
        signature: &Signature,
    ) -> Result<(), TrustError> {
        let now = self.now_unix_nanos;
        let verified = self.trust.verify(name, definition, place, signature, now);
        if verified.is_err() && name.owner == self.node {
            return self.own_trust.verify(name, definition, place, signature, now).or(verified);
        }
        verified
    }

    /// The moment after a while.
    pub fn after(&self, wait: Duration) -> i64 {
        self.now_unix_nanos.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// What a machine wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do at once.
    Now,
    /// At this moment, or when something happens; nanoseconds since 1970.
    At(i64),
}

impl Next {
    /// Whichever comes first.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(other)) => Self::At(one.min(other)),
            _ => Self::Now,
        }
    }
}

/// Events of the last second or so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    since_unix_nanos: i64,
    count: u64,
    per_second: u64,
}

impl Rate {
    /// Counts events.
    pub fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// Events a second.
    pub fn per_second(&mut self, now_unix_nanos: i64) -> u64 {
        let passed = now_unix_nanos.saturating_sub(self.since_unix_nanos);
        if passed >= 1_000_000_000 {
            self.per_second =
                (u128::from(self.count) * 1_000_000_000 / u128::from(passed.unsigned_abs())) as u64;
            (self.count, self.since_unix_nanos) = (0, now_unix_nanos);
        }
        self.per_second
    }
}
