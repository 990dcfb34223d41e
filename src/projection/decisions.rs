//! Decisions about a projection: system events in the log, `$projection.*` in the stream `$projection-NAME`.
//!
//! The event is the decision; compare-and-set is an expected revision of its stream. Owns the fold of these events (`form`
//! has their forms, `versions` what they say about versions), and how one is appended. Invariants: the fold depends on the log alone, so every rebuild knows the same decisions;
//! an event is folded once, in order of revision; types that a newer program wrote are passed over. Clients cannot append
//! such events: names that begin with `$` are refused at the edge. Does not know what versions do about a decision.

use std::collections::BTreeMap;

use crate::{
    append::{AppendError, Appender, Expectation, Expected, Request},
    clock::Clock,
    event::{Event, EventId, Invalid, Position, RecordedEvent, Revision, StreamId},
    events::{Events, EventsError},
    projection::{activation::Activations, versions::Versions},
};

mod form;

pub use form::{Decision, stream_of};

/// All decisions about one projection up to some position of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    stream: StreamId,
    /// Of the stream, as far as it is folded.
    revision: Revision,
    /// Where the last event of the stream stands, as far as it is folded.
    last: Position,
    /// The log was looked through up to here.
    upto: Position,
    skips: BTreeMap<(Position, Option<u32>), Skip>,
    versions: Versions,
}

/// A decision to skip an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Where the decision stands.
    pub decided_at: Position,
    /// Why.
    pub reason: String,
}

impl Decisions {
    /// None yet.
    pub fn new(projection: &str) -> Self {
        Self {
            stream: stream_of(projection),
            revision: Revision::NONE,
            last: Position::ZERO,
            upto: Position::ZERO,
            skips: BTreeMap::new(),
            versions: Versions::default(),
        }
    }

    /// Learns of what the log holds up to `upto`, which the index must have: reads the projection's own stream.
    pub fn refresh(&mut self, events: &Events, upto: Position) -> Result<(), EventsError> {
        let (stream, after) = (self.stream.clone(), self.upto);
        events.each_of_stream(stream, after, upto, |event| self.fold(event))?;
        self.upto = self.upto.max(upto);
        Ok(())
    }

    /// Whether an event belongs to this projection's decisions.
    pub fn concern(&self, event: &Event) -> bool {
        event.stream == self.stream
    }

    /// Learns of an event of the stream: the next one, or one that is folded already, which changes nothing.
    pub fn fold(&mut self, event: &RecordedEvent) -> Result<(), Invalid> {
        if event.revision <= self.revision {
            return Ok(());
        }
        if event.revision != self.revision.next() {
            return Err(Invalid(format!(
                "expected revision {} of stream {}, found {} at position {}",
                self.revision.next(),
                self.stream,
                event.revision,
                event.position
            )));
        }
        match Decision::read(&event.event)? {
            Some(Decision::EventSkipped { version, position, reason }) => {
                let skip = Skip { decided_at: event.position, reason };
                self.skips.entry((position, version)).or_insert(skip);
            }
            Some(Decision::Versions { change, .. }) => self.versions.fold(event.position, &change),
            Some(Decision::Retried { .. }) | None => {}
        }
        self.revision = event.revision;
        self.last = event.position;
        self.upto = self.upto.max(event.position);
        Ok(())
    }

    /// The last revision of the stream that is folded: what a decision that rests on these expects.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Where the last of them stands; 0: there is none.
    pub const fn last(&self) -> Position {
        self.last
    }

    /// The decision that this version does not apply this event.
    #[inline]
    pub fn skip_of(&self, version: u32, position: Position) -> Option<&Skip> {
        if self.skips.is_empty() {
            return None;
        }
        self.skips.get(&(position, Some(version)))
    }

    /// The decision that this version, which cannot apply this event, passes it by.
    pub fn skip_of_failing(&self, version: u32, position: Position) -> Option<&Skip> {
        self.skip_of(version, position).or_else(|| self.skips.get(&(position, None)))
    }

    /// Which versions there are to be, and which of them active, as far as the log was looked through.
    pub const fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The active versions along the log, as far as it was looked through; `first` became active without an event, where
    /// the log does not say which did.
    pub fn activations(&self, first: u32) -> Activations {
        self.versions.activations(first)
    }
}

/// Appends a decision through the ordinary queue and gives its position. It is durable then, and the visible head is
/// at least there.
pub async fn append(
    appender: &Appender,
    clock: &dyn Clock,
    projection: &str,
    decision: &Decision,
    expected: Expected,
) -> Result<Position, AppendError> {
    let request = request(clock, projection, decision, expected);
    Ok(appender.append(request).await?.position)
}

/// The request that appends a decision.
pub fn request(clock: &dyn Clock, projection: &str, decision: &Decision, expected: Expected) -> Request {
    let id = uuid::Builder::from_random_bytes(clock.random().to_be_bytes()).into_uuid();
    let id = EventId::from_uuid(id).expect("a UUID of version 4 is not nil");
    let expectations = vec![Expectation { stream: stream_of(projection), expected }];
    Request { expectations, ..Request::of(vec![decision.to_event(projection, id)]) }
}

/// What the next decision expects of the stream, so that it is refused if another one comes first.
pub fn expect(revision: Revision) -> Expected {
    if revision == Revision::NONE { Expected::NoStream } else { Expected::Revision(revision) }
}

#[cfg(test)]
mod tests;
