//! Boundaries looked at before their request is queued, so that the committer has little left to look at.
//!
//! Invariant: what is found here is durable and stays true: no event up to `checked_upto` matches, or one at `broken_at`
//! does. The committer goes on from there. Does not judge: ids come before conditions.

use super::{Boundary, Request};
use crate::{
    event::Position,
    index::{Direction, Index, IndexError},
    limits::CONDITION_POSITIONS_MAX,
};

impl Request {
    /// Whether its boundaries reach so far back from the head that they should be looked at before it is queued.
    pub fn reaches_back(&self, head: Position) -> bool {
        let reaches_back = |boundary: &Boundary| {
            boundary.after <= head && head.get() - boundary.after.get() > CONDITION_POSITIONS_MAX
        };
        self.boundaries.iter().any(reaches_back)
    }

    /// Looks at its boundaries up to the visible head. May read files.
    pub fn look_ahead(&mut self, index: &Index, head: Position) -> Result<(), IndexError> {
        for boundary in &mut self.boundaries {
            boundary.broken_at = boundary.find(index, head)?;
            boundary.checked_upto = boundary.checked_upto.max(head.min(index.head()));
        }
        Ok(())
    }
}

impl Boundary {
    /// The first event behind `checked_upto`, up to `head`, that matches.
    pub(super) fn find(&self, index: &Index, head: Position) -> Result<Option<Position>, IndexError> {
        let mut after = self.checked_upto;
        while after < head {
            let found = index.find(&self.filter, Direction::Forward, after, head, 1)?;
            if let Some(position) = found.positions.first() {
                return Ok(Some(*position));
            }
            after = found.scanned_to;
        }
        Ok(None)
    }
}
