//! A naive model of the log: every question is answered by going through all of it.
//!
//! Shares no code with the judgement, the group being built or the index.

use std::collections::HashMap;

use bytes::Bytes;
use outrigger::{
    append::{Answer, AppendError, Expected, FailedCondition, FailedExpectation},
    event::{Event, EventId, Position, RecordedEvent, Revision, Source, StreamId, Tracking},
    index::QueryItem,
};

use super::request::{Sent, Tracked};

/// One event of the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) revision: u64,
    pub(crate) tracking: Option<Tracking>,
    /// Its bytes in the log, once they were seen.
    pub(crate) payload: Option<Bytes>,
}

/// The log as it should be.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) entries: Vec<Entry>,
    ids: HashMap<EventId, usize>,
}

/// What an answer says, in terms that model and node share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Applied(Vec<(Position, Revision, bool)>),
    Reused(usize, Position),
    Partly(Vec<(usize, Position, Revision)>),
    Failed(Vec<FailedCondition>),
    BeyondHead(usize, Position),
}

impl Judged {
    /// `None`: the answer judges nothing.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Ok(appended) => {
                let place = |event: &outrigger::append::AppendedEvent| {
                    (event.position, event.revision, event.already_existed)
                };
                Some(Self::Applied(appended.events.iter().map(place).collect()))
            }
            Err(AppendError::IdReused { index, position, .. }) => Some(Self::Reused(*index, *position)),
            Err(AppendError::PartlyApplied { known }) => {
                let known = known.iter().map(|(index, event)| (*index, event.position, event.revision));
                Some(Self::Partly(known.collect()))
            }
            Err(AppendError::ConditionsFailed(failed)) => Some(Self::Failed(failed.clone())),
            Err(AppendError::AfterBeyondHead { index, head, .. }) => Some(Self::BeyondHead(*index, *head)),
            Err(_) => None,
        }
    }
}

impl Tracked for Model {
    fn of(&self, source: &Source) -> u64 {
        self.tracked(source, self.entries.len())
    }
}

pub(crate) fn matches(items: &[QueryItem], event: &Event) -> bool {
    items.iter().any(|item| {
        (item.types.is_empty() || item.types.contains(&event.event_type))
            && item.tags.iter().all(|tag| event.tags.contains(tag))
    })
}

/// Whether two events under one id are the same to a client.
pub(crate) fn same(a: &Event, b: &Event) -> bool {
    a.event_type == b.event_type && a.stream == b.stream && a.tags == b.tags && a.data == b.data
}

impl Model {
    pub(crate) fn head(&self) -> Position {
        Position::new(self.entries.len() as u64)
    }

    pub(crate) fn find(&self, id: &EventId) -> Option<usize> {
        self.ids.get(id).copied()
    }

    /// Revision and position of a stream's newest event among the first `upto`.
    pub(crate) fn stream_head(&self, stream: &StreamId, upto: usize) -> (u64, Position) {
        let at = self.entries[..upto].iter().rposition(|entry| entry.event.stream == *stream);
        at.map_or((0, Position::ZERO), |at| (self.entries[at].revision, Position::new(at as u64 + 1)))
    }

    /// The newest position of a source among the first `upto`.
    pub(crate) fn tracked(&self, source: &Source, upto: usize) -> u64 {
        let trackings = self.entries[..upto].iter().rev().filter_map(|entry| entry.tracking.as_ref());
        trackings
            .into_iter()
            .find(|tracking| tracking.source == *source)
            .map_or(0, |tracking| tracking.position)
    }

    /// The conditions of a request that do not hold behind the first `upto` events.
    pub(crate) fn failed(&self, sent: &Sent, upto: usize) -> Vec<FailedCondition> {
        let mut failed = Vec::new();
        for expectation in &sent.request.expectations {
            let (revision, position) = self.stream_head(&expectation.stream, upto);
            let holds = match expectation.expected {
                Expected::Revision(expected) => expected.get() == revision,
                Expected::NoStream => revision == 0,
                Expected::Exists => revision > 0,
                Expected::Any => true,
            };
            if !holds {
                let (expectation, actual) = (expectation.clone(), Revision::new(revision));
                failed.push(FailedCondition::Stream(FailedExpectation { expectation, actual, position }));
            }
        }
        for (index, (boundary, items)) in sent.request.boundaries.iter().zip(&sent.queries).enumerate() {
            let after = boundary.after;
            let behind = (after.get() as usize).min(upto)..upto;
            let found = behind.into_iter().find(|at| matches(items, &self.entries[*at].event));
            if let Some(at) = found {
                failed.push(FailedCondition::Match { index, after, position: Position::new(at as u64 + 1) });
            }
        }
        if let Some(Tracking { source, position }) = &sent.request.tracking {
            let stored = self.tracked(source, upto);
            if *position <= stored {
                let source = source.clone();
                failed.push(FailedCondition::Tracking { source, stored, requested: *position });
            }
        }
        failed
    }

    /// What the answer to a request must be, as of now.
    pub(crate) fn judge(&self, sent: &Sent) -> Judged {
        let request = &sent.request;
        let mut known = Vec::new();
        for (index, event) in request.events.iter().enumerate() {
            let Some(at) = self.find(&event.id) else { continue };
            let (entry, position) = (&self.entries[at], Position::new(at as u64 + 1));
            if !same(&entry.event, event) {
                return Judged::Reused(index, position);
            }
            known.push((index, position, Revision::new(entry.revision)));
        }
        let is_known = known.len() == request.events.len();
        if !is_known && !known.is_empty() && !request.skip_existing {
            return Judged::Partly(known);
        }
        if !is_known {
            let head = self.head();
            if let Some(index) = request.boundaries.iter().position(|boundary| boundary.after > head) {
                return Judged::BeyondHead(index, head);
            }
            let failed = self.failed(sent, self.entries.len());
            if !failed.is_empty() {
                return Judged::Failed(failed);
            }
        }
        let mut next = self.head().get();
        let mut revisions: HashMap<StreamId, u64> = HashMap::new();
        let place = |(index, event): (usize, &Event)| {
            if let Some((_, position, revision)) = known.iter().find(|(at, ..)| *at == index) {
                return (*position, *revision, true);
            }
            next += 1;
            let before = || self.stream_head(&event.stream, self.entries.len()).0;
            let revision = revisions.entry(event.stream.clone()).or_insert_with(before);
            *revision += 1;
            (Position::new(next), Revision::new(*revision), false)
        };
        Judged::Applied(request.events.iter().enumerate().map(place).collect())
    }

    /// Appends what the judgement says is new.
    pub(crate) fn apply(&mut self, sent: &Sent, places: &[(Position, Revision, bool)]) {
        let before = self.entries.len();
        for (event, (_, revision, existed)) in sent.request.events.iter().zip(places) {
            if !existed {
                let entry =
                    Entry { event: event.clone(), revision: revision.get(), tracking: None, payload: None };
                self.push(entry);
            }
        }
        if self.entries.len() > before {
            let last = self.entries.last_mut().expect("one was pushed");
            last.tracking.clone_from(&sent.request.tracking);
        }
    }

    /// Takes over an event as the log has it.
    pub(crate) fn adopt(&mut self, recorded: RecordedEvent, payload: Bytes) {
        let RecordedEvent { event, revision, tracking, .. } = recorded;
        self.push(Entry { event, revision: revision.get(), tracking, payload: Some(payload) });
    }

    /// Forgets everything behind the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.ids.retain(|_, at| *at < count);
    }

    fn push(&mut self, entry: Entry) {
        self.ids.entry(entry.event.id).or_insert(self.entries.len());
        self.entries.push(entry);
    }
}
