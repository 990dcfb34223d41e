//! Pages of events from the index and the log's files, or from the newest groups.
//!
//! Invariants: a page holds at most as many events and about as many bytes as asked for; everything between where it
//! began and `scanned_to` was looked at. Records are read through a buffer that the reader keeps from page to page.
//! Does not know who reads.

use std::ops::ControlFlow;

use super::{
    Events, EventsError, Page, PageRequest,
    wire::{Stored, WireEvents},
};
use crate::{
    event::{Invalid, Position},
    index::{Direction, Filter},
};

/// What one reader keeps from page to page.
#[derive(Debug, Default)]
pub struct Buffer(crate::log::Buffer);

/// Bytes of a page that are expected of an event without a look at it.
const EVENT_BYTES_EXPECTED: usize = 512;

impl Events {
    /// A page of events. It may be empty and still not at the end: `scanned_to` tells.
    pub fn page(&self, request: PageRequest<'_>, buffer: &mut Buffer) -> Result<Page, EventsError> {
        match request.direction {
            _ if !request.filter.is_open() => self.find(request, buffer),
            Direction::Forward => self.scan(request, buffer),
            Direction::Backward => self.scan_back(request),
        }
    }

    /// A page at the head, from memory: the next events above `after` up to `upto`. `None`: take it from the log.
    pub fn recent_page(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
    ) -> Result<Option<Page>, EventsError> {
        Ok(self.recent.page(filter, after, upto)?)
    }

    /// Without a filter the log itself is the list.
    fn scan(&self, request: PageRequest<'_>, buffer: &mut Buffer) -> Result<Page, EventsError> {
        let PageRequest { filter, from, upto, events_max, bytes_max, .. } = request;
        let there = upto.get().saturating_sub(from.get()).min(events_max as u64) as usize;
        let mut picked = Picked::with_room_for(there, bytes_max);
        let mut scanned_to = None;
        self.log.visit((from, upto), (bytes_max, events_max), &mut buffer.0, |position, payload| {
            scanned_to = Some(position);
            picked.add(position, payload, filter.include_system)
        })?;
        Ok(picked.page(scanned_to.unwrap_or(upto)))
    }

    fn scan_back(&self, request: PageRequest<'_>) -> Result<Page, EventsError> {
        let PageRequest { filter, from, events_max, bytes_max, .. } = request;
        let records = self.log.scan_back(from, Position::ZERO, bytes_max, events_max)?;
        let scanned_to = records.last().map_or(Position::ZERO, |(position, _)| *position);
        let mut picked = Picked::with_room_for(records.len(), bytes_max);
        for (position, payload) in records {
            picked.add(position, &payload, filter.include_system)?;
        }
        Ok(picked.page(scanned_to))
    }

    fn find(&self, request: PageRequest<'_>, buffer: &mut Buffer) -> Result<Page, EventsError> {
        let PageRequest { filter, direction, from, upto, events_max, bytes_max } = request;
        let (found, scanned_to) = match direction {
            Direction::Forward => {
                let found = self.index.find(filter, direction, from, upto, events_max)?;
                let scanned_to = found.scanned_to;
                (found, scanned_to)
            }
            Direction::Backward => {
                let below = Position::new(from.get().saturating_sub(1));
                let found = self.index.find(filter, direction, Position::ZERO, below, events_max)?;
                let scanned_to = found.scanned_to.next();
                (found, scanned_to)
            }
        };
        let there = self.log.first_position()..=self.log.head();
        if let Some(missing) = found.positions.iter().find(|position| !there.contains(position)) {
            let what = format!("the index names position {missing}, which the log does not have");
            return Err(Invalid(what).into());
        }
        let mut picked = Picked::with_room_for(found.positions.len(), bytes_max);
        let mut bytes = 0;
        let mut stopped_at = None;
        self.log.visit_each(&found.positions, &mut buffer.0, |position, payload| {
            picked.add(position, payload, true)?;
            bytes += payload.len();
            if bytes < bytes_max {
                return Ok(ControlFlow::Continue(()));
            }
            stopped_at = Some(position);
            Ok::<_, EventsError>(ControlFlow::Break(()))
        })?;
        Ok(picked.page(stopped_at.unwrap_or(scanned_to)))
    }
}

/// A page in the making.
struct Picked {
    bytes: Vec<u8>,
    count: usize,
    last: Position,
}

impl Picked {
    fn with_room_for(events: usize, bytes_max: usize) -> Self {
        let bytes = Vec::with_capacity((events * EVENT_BYTES_EXPECTED).min(bytes_max + bytes_max / 4));
        Self { bytes, count: 0, last: Position::ZERO }
    }

    fn add(&mut self, position: Position, payload: &[u8], also_system: bool) -> Result<(), EventsError> {
        let stored = Stored::parse(position, payload)?;
        if also_system || !stored.is_system() {
            stored.frame(position, &mut self.bytes);
            self.count += 1;
            self.last = position;
        }
        Ok(())
    }

    fn page(self, scanned_to: Position) -> Page {
        let events = WireEvents { bytes: self.bytes.into(), count: self.count };
        Page { events, last: self.last, scanned_to }
    }
}
