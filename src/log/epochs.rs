//! Epochs: which opening of the log wrote which positions.
//!
//! Invariants: counters ascend strictly, first positions ascend strictly (an epoch that wrote nothing is dropped when
//! the next begins). Does not know where the history is kept.

use crate::event::Position;

/// One opening of the log for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// 1, 2, 3 ... over the life of the log.
    pub counter: u64,
    /// Random bits: two copies of one log that are both opened have epochs that differ.
    pub random: u64,
}

/// Where an epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// Its first position; it goes up to the next epoch's.
    pub first: Position,
}

/// The epochs of a log, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochHistory(Vec<EpochStart>);

impl EpochHistory {
    /// A history read from a manifest; `None` if it does not ascend from position 1 or above.
    pub(crate) fn new(starts: Vec<EpochStart>) -> Option<Self> {
        let ascends = starts.is_sorted_by(|a, b| a.epoch.counter < b.epoch.counter && a.first < b.first);
        let begins = starts.first().is_none_or(|start| start.first > Position::ZERO);
        (ascends && begins).then_some(Self(starts))
    }

    pub(crate) fn starts(&self) -> &[EpochStart] {
        &self.0
    }

    pub(crate) fn newest(&self) -> Option<&EpochStart> {
        self.0.last()
    }

    /// The epoch that wrote, or would have written, this position.
    pub(crate) fn at(&self, position: Position) -> Option<Epoch> {
        let behind = self.0.partition_point(|start| start.first <= position);
        self.0[..behind].last().map(|start| start.epoch)
    }

    /// The counter of the epoch that wrote this position; of one before the log's beginning, the first epoch's.
    pub(crate) fn counter_at(&self, position: Position) -> u64 {
        let first = self.0.first().map(|start| start.epoch);
        self.at(position).or(first).map_or(0, |epoch| epoch.counter)
    }

    /// The history after everything from `first` on was cut: a new epoch stands there, with a counter that no other had.
    pub(crate) fn cut(&self, random: u64, first: Position) -> Self {
        let counter = self.newest().map_or(0, |newest| newest.epoch.counter) + 1;
        let mut starts: Vec<EpochStart> = self.0.clone();
        starts.retain(|start| start.first < first);
        starts.push(EpochStart { epoch: Epoch { counter, random }, first });
        Self(starts)
    }

    /// Begins a new epoch at `first`, which is not below the newest one's.
    pub(crate) fn begin(&mut self, random: u64, first: Position) -> Epoch {
        self.begin_from(random, first, 0)
    }

    /// The same, with a counter that is not below `counter_min`.
    pub(crate) fn begin_from(&mut self, random: u64, first: Position, counter_min: u64) -> Epoch {
        let newest = self.newest().copied();
        assert!(
            newest.is_none_or(|newest| newest.first <= first),
            "an epoch begins at {first}, below {newest:?}"
        );
        let counter = newest.map_or(1, |newest| newest.epoch.counter + 1).max(counter_min);
        let epoch = Epoch { counter, random };
        self.0.retain(|start| start.first < first);
        self.0.push(EpochStart { epoch, first });
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_cover_positions_and_idle_ones_are_dropped() {
        let mut history = EpochHistory::default();
        assert_eq!(history.at(Position::new(1)), None);
        history.begin(11, Position::new(1));
        history.begin(22, Position::new(1));
        history.begin(33, Position::new(5));
        let counters = |position| history.at(Position::new(position)).map(|epoch| epoch.counter);
        assert_eq!([0, 1, 4, 5, 99].map(counters), [None, Some(2), Some(2), Some(3), Some(3)]);
        assert_eq!(EpochHistory::new(history.starts().to_vec()), Some(history.clone()));
        let cut = history.cut(44, Position::new(3));
        let counters = |position| cut.at(Position::new(position)).map(|epoch| epoch.counter);
        assert_eq!([1, 2, 3, 5, 99].map(counters), [Some(2), Some(2), Some(4), Some(4), Some(4)]);
        let mut restored = history.clone();
        assert_eq!(restored.begin_from(55, Position::new(7), 1_000).counter, 1_000);
        assert_eq!(restored.begin_from(66, Position::new(9), 500).counter, 1_001);
        let mut backwards = history.starts().to_vec();
        backwards.reverse();
        assert_eq!(EpochHistory::new(backwards), None);
    }
}
