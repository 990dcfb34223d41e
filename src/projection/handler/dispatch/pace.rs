//! Whether runs go out side by side: not for a while after two of them were cancelled.
//!
//! Invariant: a while grows each time that it did not help for as long as it lasted, up to a bound. Does not know runs.

use crate::limits::{HANDLER_SERIAL_EVENTS_MAX, HANDLER_SERIAL_EVENTS_MIN};

/// Cancellations after which runs go out one by one.
const CANCELLATIONS: u32 = 2;

/// Counts events and cancellations.
#[derive(Debug)]
pub(super) struct Pace {
    cancellations: u32,
    /// Events to go one run at a time.
    serial_left: u64,
    /// How many the next time.
    serial_next: u64,
    /// Events applied since runs go out side by side.
    calm: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { cancellations: 0, serial_left: 0, serial_next: HANDLER_SERIAL_EVENTS_MIN, calm: 0 }
    }
}

impl Pace {
    pub(super) const fn is_serial(&self) -> bool {
        self.serial_left > 0
    }

    pub(super) fn applied(&mut self) {
        if self.serial_left > 0 {
            self.serial_left -= 1;
            return;
        }
        self.calm += 1;
        if self.calm >= self.serial_next {
            *self = Self::default();
        }
    }

    pub(super) fn cancelled(&mut self) {
        self.cancellations += 1;
        if self.cancellations >= CANCELLATIONS {
            self.cancellations = 0;
            self.calm = 0;
            self.serial_left = self.serial_next;
            self.serial_next = (2 * self.serial_next).min(HANDLER_SERIAL_EVENTS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cancellations_make_it_serial_for_a_while_that_grows_until_it_helps() {
        let mut pace = Pace::default();
        let mut length = HANDLER_SERIAL_EVENTS_MIN;
        while length < HANDLER_SERIAL_EVENTS_MAX {
            pace.cancelled();
            assert!(!pace.is_serial());
            pace.cancelled();
            for _ in 0..length {
                assert!(pace.is_serial());
                pace.applied();
            }
            assert!(!pace.is_serial());
            length *= 2;
        }
        for _ in 0..HANDLER_SERIAL_EVENTS_MAX {
            pace.applied();
        }
        assert_eq!(pace.serial_next, HANDLER_SERIAL_EVENTS_MIN);
    }
}
