//! Points of the past as positions: what was recorded last at a time.
//!
//! Times of events in the log never go back, so halving finds the place in as many reads as the log's length has bits.

use super::{super::Registry, StandingError};
use crate::{
    event::{Invalid, Position},
    events::EventsError,
};

/// A point of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Behind this event.
    Position(Position),
    /// Behind the last event that was recorded at this time or before, in nanoseconds since 1970-01-01T00:00:00Z.
    Time(i64),
}

impl Registry {
    /// The position that is meant.
    pub(super) fn position_of(&self, until: Until) -> Result<Position, StandingError> {
        let (first, head) = (self.log.events.log().first_position(), self.head.get());
        match until {
            Until::Position(found) if found < first || found > head => {
                Err(StandingError::NotInLog { first, head, found })
            }
            Until::Position(position) => Ok(position),
            Until::Time(nanos) if nanos >= self.log.clock.now_unix_nanos() => Err(StandingError::NotPassed),
            Until::Time(nanos) => {
                let recorded = |position| self.recorded_at(position);
                let behind = partition_point(first.get(), head.get() + 1, |at| {
                    Ok::<_, EventsError>(recorded(Position::new(at))? <= nanos)
                })?;
                if behind == first.get() {
                    Err(StandingError::BeforeAll)
                } else {
                    Ok(Position::new(behind - 1))
                }
            }
        }
    }

    fn recorded_at(&self, position: Position) -> Result<i64, EventsError> {
        let event = self.log.events.at(position)?;
        let event = event.ok_or_else(|| Invalid(format!("the log has no record at position {position}")))?;
        Ok(event.recorded_at_unix_nanos)
    }
}

/// The first number from `low` up to `high` (exclusive) that is not below, or `high`; those below come first.
fn partition_point<E>(
    mut low: u64,
    mut high: u64,
    mut is_below: impl FnMut(u64) -> Result<bool, E>,
) -> Result<u64, E> {
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn halving_finds_what_counting_finds(low in 0_u64..50, length in 0_u64..50, below in 0_u64..60) {
            let high = low + length;
            let expected = (low..high).find(|at| *at >= below).unwrap_or(high);
            let mut looks = 0;
            let found = partition_point(low, high, |at| { looks += 1; Ok::<_, ()>(at < below) });
            prop_assert_eq!(found, Ok(expected));
            prop_assert!(looks <= 6);
        }
    }
}
