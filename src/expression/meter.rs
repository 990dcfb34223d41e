//! Counts the elementary steps of an evaluation, so that no expression runs for ever.

use super::EvaluateError;

/// Steps that are left.
#[derive(Debug)]
pub(super) struct Meter {
    left: u64,
}

impl Meter {
    pub(super) const fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn charge(&mut self, steps: u64) -> Result<(), EvaluateError> {
        if let Some(left) = self.left.checked_sub(steps) {
            self.left = left;
            Ok(())
        } else {
            self.left = 0;
            Err(EvaluateError::fatal("the evaluation takes too many steps".into()))
        }
    }

    /// For work over this many bytes.
    pub(super) fn charge_bytes(&mut self, bytes: usize) -> Result<(), EvaluateError> {
        const BYTES_PER_STEP: u64 = 16;
        self.charge(bytes as u64 / BYTES_PER_STEP)
    }
}
