//! Latencies in buckets that are at most 1/128 of their value wide, from a nanosecond to ten minutes.
//!
//! Fixed size, no allocation when recording, and two histograms add up. Values are exact below 256 ns.

use std::time::Duration;

/// Buckets to each power of two, as a power of two.
const PRECISION_BITS: u32 = 7;
const PER_OCTAVE: u64 = 1 << PRECISION_BITS;
/// Values at or above 2 to this power count as the largest.
const OCTAVES_MAX: u32 = 40;
const BUCKETS: usize = ((OCTAVES_MAX - PRECISION_BITS) as usize + 1) << PRECISION_BITS;

/// How often which latency was seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_nanos: u64,
}

impl Histogram {
    /// Nothing was seen yet.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_nanos: 0 }
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Takes over what another one has seen.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// How many were seen.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest, exactly.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The latency that this share of all (0 to 1) did not exceed, rounded up to its bucket's upper bound.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_bound(at).min(self.max_nanos));
            }
        }
        self.max()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min((1 << OCTAVES_MAX) - 1);
    let shift = (u64::BITS - (nanos | PER_OCTAVE).leading_zeros()) - (PRECISION_BITS + 1);
    ((u64::from(shift) << PRECISION_BITS) + (nanos >> shift)) as usize
}

fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PER_OCTAVE {
        return bucket;
    }
    let shift = (bucket >> PRECISION_BITS) - 1;
    let top = (bucket & (PER_OCTAVE - 1)) + PER_OCTAVE;
    ((top + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_narrow_and_holds_its_value(nanos in 0..(1_u64 << OCTAVES_MAX)) {
            let at = bucket(nanos);
            prop_assert!(at < BUCKETS);
            let upper = upper_bound(at);
            prop_assert!(upper >= nanos && upper - nanos <= nanos / PER_OCTAVE, "{nanos} in {upper}");
            prop_assert_eq!(bucket(upper), at);
            prop_assert!(upper + 1 >= 1 << OCTAVES_MAX || bucket(upper + 1) == at + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        for micros in (1..=1_000).rev() {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |share: f64, micros: u64| {
            let found = histogram.quantile(share).as_nanos() as u64;
            assert!((micros * 1_000..=micros * 1_008).contains(&found), "{share}: {found}");
        };
        near(0.5, 500);
        near(0.99, 990);
        near(0.999, 999);
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!(histogram.max(), Duration::from_millis(1));
    }

    #[test]
    fn histograms_add_up_and_an_empty_one_is_zero() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        assert_eq!(a.quantile(0.5), Duration::ZERO);
        a.record(Duration::from_nanos(10));
        b.record(Duration::from_secs(1_000_000));
        a.add(&b);
        assert_eq!((a.total(), a.max()), (2, Duration::from_secs(1_000_000)));
        assert_eq!(a.quantile(0.5), Duration::from_nanos(10));
    }
}
