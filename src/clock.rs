//! Seam: wall time and entropy. Everything that would make a run differ from its repetition comes from here.
//!
//! Owns nothing but the two sources. Order in Outrigger is position only; time is information, never a decision.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The time and randomness of a process.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    fn now_unix_nanos(&self) -> i64;
    /// 128 random bits.
    fn random(&self) -> u128;
}

/// The machine's clock and the operating system's randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one owner of wall time")]
    fn now_unix_nanos(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}

/// A clock for simulation: time moves one microsecond a reading, randomness follows from the seed.
#[derive(Debug)]
pub struct SimClock {
    nanos: AtomicU64,
    state: AtomicU64,
}

impl SimClock {
    /// A clock that gives the same readings for the same seed.
    pub fn new(seed: u64) -> Self {
        Self { nanos: AtomicU64::new(1_700_000_000_000_000_000), state: AtomicU64::new(seed) }
    }

    /// The next 64 bits of the splitmix64 sequence (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let mut z = self.state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Clock for SimClock {
    fn now_unix_nanos(&self) -> i64 {
        self.nanos.fetch_add(1_000, Ordering::Relaxed) as i64
    }

    fn random(&self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}
