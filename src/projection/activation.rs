//! Which version of a projection was active at which position, told by the promotions in the log.
//!
//! Pure. Invariants: the first version is active from the beginning, without an event; a promotion that stands at
//! position P divides exactly: up to and including P the version before, behind P the promoted one. Does not know where
//! promotions are read, or whether the promoted version exists.

use crate::event::Position;

/// The active versions of one projection along the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activations {
    first: u32,
    /// Where a promotion stands and whom it made active; ascending, each other than the one before.
    promotions: Vec<(Position, u32)>,
}

/// A stretch of the log over which one version is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The active version.
    pub version: u32,
    /// It is active behind this position.
    pub after: Position,
    /// The last position at which it is active; `None`: it still is.
    pub upto: Option<Position>,
}

impl Interval {
    /// Whether the version is active at this position.
    pub fn contains(&self, position: Position) -> bool {
        position > self.after && self.upto.is_none_or(|upto| position <= upto)
    }
}

impl Activations {
    /// Of a projection whose first version is this one, with promotions in ascending order of position.
    pub fn new(first: u32, promotions: impl IntoIterator<Item = (Position, u32)>) -> Self {
        let mut activations = Self { first, promotions: Vec::new() };
        for (at, version) in promotions {
            activations.promote(at, version);
        }
        activations
    }

    /// Notes a promotion behind all others. Promoting the active version changes nothing.
    pub fn promote(&mut self, at: Position, version: u32) {
        let last = self.promotions.last();
        assert!(last.is_none_or(|(before, _)| *before < at), "promotions come in order of position");
        if self.latest() != version {
            self.promotions.push((at, version));
        }
    }

    /// The version that was active for the event at this position.
    pub fn active_at(&self, position: Position) -> u32 {
        match self.promotions.partition_point(|(at, _)| *at < position) {
            0 => self.first,
            count => self.promotions[count - 1].1,
        }
    }

    /// The version that is active behind the last promotion.
    pub fn latest(&self) -> u32 {
        self.promotions.last().map_or(self.first, |(_, version)| *version)
    }

    /// The stretches in which one version is active, in order; they cover the log without gap or overlap.
    pub fn intervals(&self) -> impl Iterator<Item = Interval> {
        let starts = std::iter::once((Position::ZERO, self.first)).chain(self.promotions.iter().copied());
        let ends = self.promotions.iter().map(|(at, _)| Some(*at)).chain([None]);
        starts.zip(ends).map(|((after, version), upto)| Interval { version, after, upto })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(promotions: &[(u64, u32)], expected: &[(u64, u32)]) {
        let promotions = promotions.iter().map(|(at, version)| (Position::new(*at), *version));
        let activations = Activations::new(1, promotions);
        for (position, version) in expected {
            assert_eq!(activations.active_at(Position::new(*position)), *version, "at {position}");
        }
    }

    #[test]
    fn a_promotion_divides_at_its_own_position() {
        check(&[], &[(0, 1), (1, 1), (u64::MAX, 1)]);
        check(&[(10, 2)], &[(1, 1), (9, 1), (10, 1), (11, 2), (1_000, 2)]);
        check(&[(10, 2), (11, 1), (20, 3)], &[(10, 1), (11, 2), (12, 1), (20, 1), (21, 3)]);
        check(&[(10, 1), (12, 2), (13, 2)], &[(11, 1), (12, 1), (13, 2), (14, 2)]);
    }

    proptest! {
        #[test]
        fn intervals_cover_the_log_and_agree_with_single_positions(
            steps in prop::collection::vec((1_u64..6, 1_u32..4), 0..12),
        ) {
            let mut at = 0;
            let promotions: Vec<_> = steps.iter().map(|(step, version)| {
                at += step;
                (Position::new(at), *version)
            }).collect();
            let activations = Activations::new(1, promotions.iter().copied());
            let intervals: Vec<_> = activations.intervals().collect();
            for position in (1..at + 3).map(Position::new) {
                let holding: Vec<_> = intervals.iter().filter(|interval| interval.contains(position)).collect();
                prop_assert_eq!(holding.len(), 1);
                prop_assert_eq!(holding[0].version, activations.active_at(position));
                // Said in another way: the last promotion before the position counts.
                let last = promotions.iter().rfind(|(at, _)| *at < position);
                prop_assert_eq!(holding[0].version, last.map_or(1, |(_, version)| *version));
            }
            prop_assert!(intervals.windows(2).all(|pair| pair[0].version != pair[1].version));
        }
    }
}
