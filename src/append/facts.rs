//! What requests are judged by: the durable state of the log, and the group being built on top of it.
//!
//! Invariants: what is read here is as of the group's last event; the clock never goes back along the log. Does not
//! decide and does not write.

use std::sync::Arc;

use foldhash::HashMap;

use super::{Boundary, Request, decide::Facts, group::Group};
use crate::{
    clock::Clock,
    event::{Invalid, Position, RecordedEvent, Source},
    events::{EventsError, stored_tracking},
    index::Index,
    limits::TRACKED_SOURCES_MAX,
    log::LogReader,
    sabotage::Sabotage,
};

/// Where facts come from.
#[derive(Debug)]
pub(super) struct Sources {
    reader: LogReader,
    pub(super) index: Arc<Index>,
    clock: Arc<dyn Clock>,
    recorded_at_unix_nanos: i64,
    /// Positions of tracked sources, as the log has them; forgotten when there are too many.
    tracked: HashMap<Source, u64>,
    /// A bug that is built in, in simulation.
    pub(super) sabotage: Option<Sabotage>,
}

impl Sources {
    /// Facts about this log.
    pub(super) fn new(
        reader: LogReader,
        index: Arc<Index>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EventsError> {
        let last = reader.head();
        let recorded_at_unix_nanos = match reader.read(last)? {
            Some(payload) => RecordedEvent::decode(last, payload)?.recorded_at_unix_nanos,
            None => i64::MIN,
        };
        let tracked = HashMap::default();
        Ok(Self { reader, index, clock, recorded_at_unix_nanos, tracked, sabotage: None })
    }

    /// When the next event is recorded, in nanoseconds since 1970: now, but never before the one before.
    pub(super) fn recorded_at_unix_nanos(&mut self) -> i64 {
        self.recorded_at_unix_nanos = self.clock.now_unix_nanos().max(self.recorded_at_unix_nanos);
        self.recorded_at_unix_nanos
    }

    /// What is to be known about a request.
    pub(super) fn facts(&mut self, request: &Request, group: &mut Group) -> Result<Facts, EventsError> {
        group.settle();
        let known = self.known(request, group)?;
        let mut facts = Facts { known, head: group.last(), ..Facts::default() };
        let written = request.events.iter().map(|event| &event.stream);
        let expected = request.expectations.iter().map(|expectation| &expectation.stream);
        for stream in written.chain(expected) {
            if facts.streams.contains_key(stream) {
                continue;
            }
            let in_group = group.stream_head(stream).filter(|_| self.is_not(Sabotage::StaleHeads));
            let head = match in_group {
                Some(head) => Some(head),
                None => self.index.stream_head(stream)?,
            };
            facts.streams.extend(head.map(|head| (stream.clone(), head)));
        }
        if facts.known.iter().all(Option::is_some) {
            return Ok(facts);
        }
        for boundary in &request.boundaries {
            facts.matches.push(self.first_match(boundary, group)?);
        }
        if let Some(tracking) = &request.tracking {
            facts.tracked = self.tracked(&tracking.source, group)?;
        }
        Ok(facts)
    }

    /// The group is durable: what it stored of sources is what the log has.
    pub(super) fn adopt(&mut self, group: &Group) {
        for (source, position) in &group.sources {
            self.remember(source.clone(), *position);
        }
    }

    /// For each event of the request the event that has its id, in the group being built or in the log.
    fn known(
        &self,
        request: &Request,
        group: &Group,
    ) -> Result<Vec<Option<Box<RecordedEvent>>>, EventsError> {
        let ids: Vec<_> = request.events.iter().map(|event| event.id).collect();
        let positions = self.index.positions_of(&ids)?;
        let in_group = |id| group.event(id).filter(|_| self.is_not(Sabotage::ForgetIds));
        let known = |(id, position)| match (in_group(id), position) {
            (Some(event), _) => Ok(Some(Box::new(event.clone()))),
            (None, Some(position)) => read(&self.reader, position).map(|event| Some(Box::new(event))),
            (None, None) => Ok(None),
        };
        ids.iter().zip(positions).map(known).collect()
    }

    fn first_match(&self, boundary: &Boundary, group: &mut Group) -> Result<Option<Position>, EventsError> {
        if boundary.broken_at.is_some() {
            return Ok(boundary.broken_at);
        }
        let found = match self.sabotage {
            Some(Sabotage::IgnoreAfter) => {
                let whole = Boundary::new(boundary.filter.query.clone(), Position::ZERO);
                whole.find(&self.index, self.reader.head())?
            }
            _ => boundary.find(&self.index, self.reader.head())?,
        };
        if self.sabotage == Some(Sabotage::QueryDurableOnly) {
            return Ok(found);
        }
        Ok(found.or_else(|| group.first_match(&boundary.filter, boundary.after)))
    }

    fn tracked(&mut self, source: &Source, group: &Group) -> Result<u64, EventsError> {
        if !self.is_not(Sabotage::TrackingBack) {
            return Ok(0);
        }
        if let Some(position) = group.sources.get(source).or_else(|| self.tracked.get(source)) {
            return Ok(*position);
        }
        let stored = stored_tracking(&self.index, &self.reader, source, self.reader.head())?;
        let position = stored.map_or(0, |(tracking, _)| tracking.position);
        self.remember(source.clone(), position);
        Ok(position)
    }

    fn is_not(&self, sabotage: Sabotage) -> bool {
        self.sabotage != Some(sabotage)
    }

    fn remember(&mut self, source: Source, position: u64) {
        if self.tracked.len() >= TRACKED_SOURCES_MAX {
            self.tracked.clear();
        }
        self.tracked.insert(source.detached(), position);
    }
}

fn read(reader: &LogReader, position: Position) -> Result<RecordedEvent, EventsError> {
    let payload = reader.read(position)?;
    let payload = payload.ok_or_else(|| Invalid(format!("no record at position {position}")))?;
    Ok(RecordedEvent::decode(position, payload)?)
}
