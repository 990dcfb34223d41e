//! Searches whose query has several items: each item is a search of its own, and what they find is merged.
//!
//! Invariant: `scanned_to` is where the search that came least far stopped, so nothing is left out or found twice. Does
//! not know layers.

use super::{Direction, Filter, Found, IndexError, QueryItem, state::State};
use crate::event::Position;

impl State {
    /// Positions of events that match; see `Index::find`.
    pub(super) fn find(
        &self,
        filter: &Filter,
        direction: Direction,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Found, IndexError> {
        if filter.query.is_empty() {
            return self.find_one(filter, direction, after, upto, limit);
        }
        let mut merged = Merged { positions: Vec::new(), scanned_to: None, direction };
        for item in &filter.query {
            if let Some(filter) = narrowed(filter, item) {
                merged.add(self.find_one(&filter, direction, after, upto, limit)?);
            }
        }
        let nothing = match direction {
            Direction::Forward => self.head().min(upto).max(after),
            Direction::Backward => after,
        };
        Ok(merged.finish(nothing, limit))
    }
}

/// The filter for one item of a filter's query; `None` if their types have nothing in common.
fn narrowed(filter: &Filter, item: &QueryItem) -> Option<Filter> {
    let types = match (filter.types.as_slice(), item.types.as_slice()) {
        (types, []) | ([], types) => types.to_vec(),
        (a, b) => {
            let common: Vec<_> = a.iter().filter(|event_type| b.contains(event_type)).cloned().collect();
            if common.is_empty() {
                return None;
            }
            common
        }
    };
    let mut tags: Vec<_> = filter.tags.iter().chain(&item.tags).cloned().collect();
    tags.sort_unstable();
    tags.dedup();
    Some(Filter { types, tags, query: Vec::new(), ..filter.clone() })
}

struct Merged {
    positions: Vec<Position>,
    /// How far the search that came least far came.
    scanned_to: Option<Position>,
    direction: Direction,
}

impl Merged {
    fn add(&mut self, found: Found) {
        self.positions.extend(found.positions);
        self.scanned_to = Some(match (self.scanned_to, self.direction) {
            (None, _) => found.scanned_to,
            (Some(other), Direction::Forward) => other.min(found.scanned_to),
            (Some(other), Direction::Backward) => other.max(found.scanned_to),
        });
    }

    fn finish(mut self, nothing: Position, limit: usize) -> Found {
        let mut scanned_to = self.scanned_to.unwrap_or(nothing);
        self.positions.sort_unstable();
        self.positions.dedup();
        match self.direction {
            Direction::Forward => self.positions.retain(|position| *position <= scanned_to),
            Direction::Backward => {
                self.positions.retain(|position| *position > scanned_to);
                self.positions.reverse();
            }
        }
        if self.positions.len() >= limit {
            self.positions.truncate(limit);
            // Behind the last one the searches may have found more.
            if let Some(last) = self.positions.last() {
                scanned_to = match self.direction {
                    Direction::Forward => *last,
                    Direction::Backward => Position::new(last.get() - 1),
                };
            }
        }
        Found { positions: self.positions, scanned_to }
    }
}
