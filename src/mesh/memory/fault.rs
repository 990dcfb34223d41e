//! What a bus in memory can do to those who use it: the faults by name, how often they come, how often they did.
//!
//! Invariant: a fault is counted when it took effect, not when it was rolled. Does not know how a fault is done.

use std::{collections::BTreeMap, time::Duration};

/// One kind of unkindness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A published message does not land, and nobody says so.
    Drop,
    /// A published message lands, and nobody says so.
    Unanswered,
    /// A published message lands after its sender was told that nobody knows.
    Late,
    /// A published message lands twice.
    RepeatKept,
    /// An announcement is heard twice.
    RepeatHeard,
    /// An announcement, a question or a part of an answer is lost.
    Lose,
    /// An announcement or a part of an answer overtakes the one before.
    Reorder,
    /// An outcome or a message comes late.
    Delay,
    /// A bit flips in what a stream keeps.
    CorruptKept,
    /// A bit flips on the way to a reader.
    CorruptRead,
    /// A stream is emptied, created anew, and begins again at 1.
    Wipe,
    /// A stream loses its newer half; the next message gets a sequence that was given before.
    Halve,
    /// A read is answered by a broker that lags.
    Stale,
    /// A connection is lost for a while.
    Disconnect,
    /// A stream drops its oldest message to take a new one. By limits, not by rate.
    Limit,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Drop,
        Self::Unanswered,
        Self::Late,
        Self::RepeatKept,
        Self::RepeatHeard,
        Self::Lose,
        Self::Reorder,
        Self::Delay,
        Self::CorruptKept,
        Self::CorruptRead,
        Self::Wipe,
        Self::Halve,
        Self::Stale,
        Self::Disconnect,
        Self::Limit,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
            Self::RepeatKept => "repeat_kept",
            Self::RepeatHeard => "repeat_heard",
            Self::Lose => "lose",
            Self::Reorder => "reorder",
            Self::Delay => "delay",
            Self::CorruptKept => "corrupt_kept",
            Self::CorruptRead => "corrupt_read",
            Self::Wipe => "wipe",
            Self::Halve => "halve",
            Self::Stale => "stale",
            Self::Disconnect => "disconnect",
            Self::Limit => "limit",
        }
    }
}

/// How often faults come, and how long things take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    rates_per_million: BTreeMap<Fault, u32>,
    /// Every outcome and message takes up to this long, in order.
    pub latency_max: Duration,
    /// A delayed one takes up to this much longer.
    pub delay_max: Duration,
    /// A lost connection is back after at most this long.
    pub outage_max: Duration,
}

impl Faults {
    /// None: everything happens at once.
    pub fn none() -> Self {
        Self {
            rates_per_million: BTreeMap::new(),
            latency_max: Duration::ZERO,
            delay_max: Duration::from_secs(2),
            outage_max: Duration::from_secs(10),
        }
    }

    /// Each fault at this rate for each operation that it can befall, but wipes and halved streams a hundred times rarer
    /// and lost connections ten times.
    pub fn all(rate_per_million: u32) -> Self {
        let mut faults = Self { latency_max: Duration::from_millis(5), ..Self::none() };
        for fault in Fault::ALL {
            let rarer = match fault {
                Fault::Wipe | Fault::Halve => 100,
                Fault::Disconnect => 10,
                _ => 1,
            };
            faults = faults.with(fault, rate_per_million / rarer);
        }
        faults
    }

    /// The same, with this fault at this rate.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate_per_million: u32) -> Self {
        self.rates_per_million.insert(fault, rate_per_million);
        self
    }

    /// How often, in a million operations that it can befall.
    pub fn rate_per_million(&self, fault: Fault) -> u32 {
        self.rates_per_million.get(&fault).copied().unwrap_or(0)
    }
}
