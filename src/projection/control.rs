//! What people ask of a version that runs: to try again, and to hold still while they decide.
//!
//! Invariant: a try and a decision exclude each other, so whoever decides that an event is skipped knows that it is not
//! being applied at the same time. Both are short; neither waits for the other. Does not know what is tried or decided.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Between one version's runner and those who decide about it.
#[derive(Debug, Default)]
pub(crate) struct Control(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    /// How many tries were asked for, and how many of these the runner has begun.
    tries: u64,
    begun: u64,
    trying: bool,
    deciding: bool,
}

/// While it lives, the version begins no try.
#[derive(Debug)]
pub(crate) struct Deciding<'a>(&'a Control);

impl Control {
    /// Asks for a try; gives its number. The runner counts the tries that it has ended.
    pub(crate) fn ask_try(&self) -> u64 {
        let mut state = self.lock();
        state.tries += 1;
        state.tries
    }

    /// For the runner: begins the try that was asked for, if there is one and nobody decides; gives its number.
    pub(crate) fn begin_try(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.deciding || state.begun == state.tries {
            return None;
        }
        state.begun = state.tries;
        state.trying = true;
        Some(state.begun)
    }

    /// For the runner of a service's version that stands still: the answer that takes it on may come at any time, so
    /// each step is a try of its own. `false`: somebody decides.
    pub(crate) fn begin_step(&self) -> bool {
        let mut state = self.lock();
        state.trying |= !state.deciding;
        state.trying
    }

    /// For the runner: the try has ended, whatever came of it.
    pub(crate) fn end_try(&self) {
        self.lock().trying = false;
    }

    /// Holds the version still; `None` while it tries or somebody else decides.
    pub(crate) fn decide(&self) -> Option<Deciding<'_>> {
        let mut state = self.lock();
        if state.deciding || state.trying || state.begun < state.tries {
            return None;
        }
        state.deciding = true;
        Some(Deciding(self))
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.0.lock().deciding = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_and_decisions_exclude_each_other() {
        let control = Control::default();
        assert_eq!(control.begin_try(), None, "nobody asked");
        let deciding = control.decide().unwrap();
        assert!(control.decide().is_none());
        assert_eq!(control.ask_try(), 1);
        assert_eq!(control.begin_try(), None, "somebody decides");
        drop(deciding);
        assert!(control.decide().is_none(), "a try was asked for");
        assert_eq!(control.ask_try(), 2);
        assert_eq!(control.begin_try(), Some(2), "one try for both who asked");
        assert!(control.decide().is_none());
        control.end_try();
        assert_eq!(control.begin_try(), None);
        assert!(control.decide().is_some());
        assert!(control.begin_step() && control.decide().is_none(), "a step of a version that stands still");
        control.end_try();
        let deciding = control.decide().unwrap();
        assert!(!control.begin_step(), "somebody decides");
        drop(deciding);
    }
}
