//! A subscriber at the head of the log: it reads whatever the node shows, from memory where it is there, else from the
//! files, as a served subscription does.
//!
//! Does not know what it should be shown; what it was shown it tells.

use outrigger::{
    api::proto::v1::ReadResponse,
    event::{EventId, Position, Revision},
    events::{Buffer, Events, Page, PageRequest, recent::Reading},
    index::{Direction, Filter},
};
use prost::Message as _;

use super::check::{Checked, Checker};

#[derive(Debug)]
pub(crate) struct Subscriber {
    /// As long as it lives the newest groups are kept in memory.
    _reading: Reading,
    at: Position,
    buffer: Buffer,
}

impl Subscriber {
    /// A subscriber behind the last event.
    pub(crate) fn new(events: &Events) -> Self {
        Self { _reading: events.recent().reading(), at: events.head().get(), buffer: Buffer::default() }
    }

    /// Reads up to the visible head; gives what it was shown.
    pub(crate) fn follow(&mut self, events: &Events) -> Checked<Vec<(EventId, Position, Revision)>> {
        let head = events.head().get();
        let mut shown = Vec::new();
        while self.at < head {
            let page = self.page(events, head)?;
            let response = ReadResponse::decode(page.events.bytes);
            for event in response.map_err(|error| Checker::Readers.refused(error))?.events {
                let position = Position::new(event.position);
                Checker::Readers.holds(position == self.at.next(), || {
                    format!("position {position} was shown behind {}", self.at)
                })?;
                self.at = position;
                let id = EventId::from_slice(&event.id).map_err(|error| Checker::Readers.refused(error))?;
                shown.push((id, position, Revision::new(event.revision)));
            }
            Checker::Readers.holds(self.at == page.scanned_to, || {
                format!("nothing was shown up to {}", page.scanned_to)
            })?;
        }
        Ok(shown)
    }

    fn page(&mut self, events: &Events, head: Position) -> Checked<Page> {
        let filter = Filter::default();
        let refused = |error| Checker::Readers.refused(error);
        if let Some(page) = events.recent_page(&filter, self.at, head).map_err(refused)? {
            return Ok(page);
        }
        let request = PageRequest {
            filter: &filter,
            direction: Direction::Forward,
            from: self.at,
            upto: head,
            events_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        events.page(request, &mut self.buffer).map_err(refused)
    }
}
