//! One look at an open node: everything that it shows is held against the model, checker by checker.
//!
//! What a look has seen is promised: readers may have seen it too. What lies behind the promise is judged as new: the
//! requests whose answers never came.

use std::collections::HashMap;

use bytes::Bytes;
use outrigger::{
    append::{AppendError, Appended, FailedCondition},
    event::{Event, EventId, Position, RecordedEvent, Revision, Source, StreamId},
    index::{Direction, Filter},
    log::LogReader,
};
use sha2::{Digest as _, Sha256};

use super::{
    check::{Checked, Checker},
    documents::Documents,
    model::{Model, same},
    node::Node,
    request::{self, Requests, SOURCES, STREAMS, Sent, request_of},
};

/// The hash over all records up to a position.
pub(crate) type Chain = [u8; 32];

/// What an answer named, to be there whatever happens.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Event(EventId, Position, Revision),
    Stream(StreamId, Revision, Position),
    Position(Position),
    Tracked(Source, u64),
    /// Not by an answer: a subscriber was shown it.
    Shown(EventId, Position, Revision),
}

/// What is known of a node's log and must be there.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) model: Model,
    /// How many events have been promised: acknowledged or seen.
    pub(crate) promised: usize,
    /// Where the groups behind the last look end.
    pub(crate) edges: Vec<usize>,
    /// The last position of the last look, and the chain there.
    looked: usize,
    chain: Option<Chain>,
    documents: Documents,
    pub(crate) named: Vec<Named>,
}

impl Known {
    /// Takes note of what an answer names.
    pub(crate) fn note(&mut self, answer: &Result<Appended, AppendError>) {
        let named = &mut self.named;
        match answer {
            Ok(appended) => {
                let event = |e: &outrigger::append::AppendedEvent| Named::Event(e.id, e.position, e.revision);
                named.extend(appended.events.iter().map(event));
            }
            Err(AppendError::PartlyApplied { known }) => {
                named.extend(known.iter().map(|(_, e)| Named::Event(e.id, e.position, e.revision)));
            }
            Err(AppendError::IdReused { position, .. }) => named.push(Named::Position(*position)),
            Err(AppendError::AfterBeyondHead { head, .. }) => named.push(Named::Position(*head)),
            Err(AppendError::ConditionsFailed(failed)) => {
                named.extend(failed.iter().filter_map(|failed| match failed {
                    FailedCondition::Stream(f) if f.position > Position::ZERO => {
                        Some(Named::Stream(f.expectation.stream.clone(), f.actual, f.position))
                    }
                    FailedCondition::Stream(_) => None,
                    FailedCondition::Match { position, .. } => Some(Named::Position(*position)),
                    FailedCondition::Tracking { source, stored, .. } => {
                        Some(Named::Tracked(source.clone(), *stored))
                    }
                }));
            }
            Err(_) => {}
        }
    }

    /// Holds the log against all that is known, and takes over what is new.
    pub(crate) fn look(&mut self, reader: &LogReader, sent: &[Sent]) -> Checked {
        // A look that an error ended promised nothing.
        self.model.truncate(self.promised);
        self.documents.truncate(self.promised);
        let records = read_all(reader)?;
        let head = records.len();
        Checker::Durability.holds(head >= self.promised, || {
            format!("promised up to {}, found up to {head}", self.promised)
        })?;
        let mut fresh = Vec::new();
        for (at, (recorded, payload)) in records.iter().enumerate() {
            if at < self.promised {
                self.look_at_known(at, recorded, payload)?;
            } else {
                fresh.push((recorded.clone(), payload.clone()));
            }
        }
        self.adopt(fresh, sent)?;
        self.look_at_answers()?;
        self.look_at_chain(reader, &records)?;
        self.looked = head;
        self.promised = head;
        self.edges.clear();
        self.named.clear();
        Ok(())
    }

    fn look_at_known(&mut self, at: usize, recorded: &RecordedEvent, payload: &Bytes) -> Checked {
        let entry = &mut self.model.entries[at];
        let is_same = recorded.event == entry.event
            && recorded.revision.get() == entry.revision
            && recorded.tracking == entry.tracking
            && entry.payload.as_ref().is_none_or(|seen| seen == payload);
        entry.payload.get_or_insert_with(|| payload.clone());
        Checker::Durability
            .holds(is_same, || format!("position {} was {entry:?} and is {recorded:?}", at + 1))
    }

    /// Events that nobody was told of: the requests whose outcome was unknown.
    fn adopt(&mut self, fresh: Vec<(RecordedEvent, Bytes)>, sent: &[Sent]) -> Checked {
        let mut at = 0;
        let mut before = None;
        while at < fresh.len() {
            let number = request_of(&fresh[at].0.event);
            let count = fresh[at..].iter().take_while(|(e, _)| request_of(&e.event) == number).count();
            let request = number.and_then(|number| sent.get(number as usize));
            let position = self.model.entries.len() + 1;
            let Some(request) = request else {
                return Checker::Content.holds(false, || format!("position {position} was never sent"));
            };
            Checker::Order.holds(before < number, || {
                format!("position {position}: request {number:?} behind request {before:?}")
            })?;
            before = number;
            self.adopt_request(request, &fresh[at..at + count])?;
            at += count;
        }
        Ok(())
    }

    fn adopt_request(&mut self, sent: &Sent, records: &[(RecordedEvent, Bytes)]) -> Checked {
        let upto = self.model.entries.len();
        let failed = self.model.failed(sent, upto);
        let is_tracking = |failed: &FailedCondition| matches!(failed, FailedCondition::Tracking { .. });
        Checker::Tracking.holds(!failed.iter().any(is_tracking), || format!("{failed:?} behind {upto}"))?;
        Checker::Conditions.holds(failed.is_empty(), || {
            format!("request {} is behind position {upto}, where {failed:?}", sent.number)
        })?;
        for (recorded, payload) in records {
            let position = self.model.head().next();
            let event = &recorded.event;
            let is_sent = |sent: &&Event| sent.id == event.id && same(sent, event);
            Checker::Content.holds(sent.request.events.iter().any(|sent| is_sent(&sent)), || {
                format!("position {position} holds what request {} did not send", sent.number)
            })?;
            Checker::Order.holds(self.model.find(&event.id).is_none(), || {
                format!("position {position} repeats the id {}", event.id)
            })?;
            let (revision, _) = self.model.stream_head(&event.stream, self.model.entries.len());
            Checker::Order.holds(recorded.revision.get() == revision + 1, || {
                format!("position {position} has revision {} behind {revision}", recorded.revision)
            })?;
            self.model.adopt(recorded.clone(), payload.clone());
        }
        let missing = sent.request.events.iter().find(|event| self.model.find(&event.id).is_none());
        Checker::Atomicity.holds(missing.is_none(), || {
            format!("of request {} the event {missing:?} is missing", sent.number)
        })?;
        let tracking = records.last().and_then(|(recorded, _)| recorded.tracking.clone());
        Checker::Tracking
            .holds(tracking == sent.request.tracking, || format!("request {} left {tracking:?}", sent.number))
    }

    /// Takes note of events that a subscriber was shown; those of known requests must be the ones that were answered.
    pub(crate) fn show(&mut self, shown: Vec<(EventId, Position, Revision)>) -> Checked {
        for (id, position, revision) in shown {
            let entry = self.model.entries.get(position.get() as usize - 1);
            let is_same = entry.is_none_or(|e| e.event.id == id && e.revision == revision.get());
            Checker::Readers
                .holds(is_same, || format!("{id} was shown at {position}, where {entry:?} is"))?;
            self.named.push(Named::Shown(id, position, revision));
        }
        Ok(())
    }

    fn look_at_answers(&self) -> Checked {
        for named in &self.named {
            let entry = |position: &Position| self.model.entries.get(position.get() as usize - 1);
            let holds = match named {
                Named::Event(id, position, revision) | Named::Shown(id, position, revision) => {
                    entry(position).is_some_and(|e| e.event.id == *id && e.revision == revision.get())
                }
                Named::Stream(stream, revision, position) => {
                    entry(position).is_some_and(|e| e.event.stream == *stream && e.revision == revision.get())
                }
                Named::Position(position) => *position <= self.model.head(),
                Named::Tracked(source, position) => {
                    self.model.tracked(source, self.model.entries.len()) >= *position
                }
            };
            let checker = if matches!(named, Named::Shown(..)) { Checker::Readers } else { Checker::Answers };
            checker.holds(holds, || format!("an answer named {named:?}, which is not there"))?;
        }
        Ok(())
    }

    /// Group by group from the last look on; what lies behind the known groups was one group.
    fn look_at_chain(&mut self, reader: &LogReader, records: &[(RecordedEvent, Bytes)]) -> Checked {
        let verified = reader.verify().map_err(|error| Checker::Chain.refused(error))?;
        let mut chain = self.chain.unwrap_or_else(|| {
            Sha256::new().chain_update([2]).chain_update(reader.log_id().as_bytes()).finalize().into()
        });
        let mut at = self.looked;
        for edge in self.edges.iter().copied().chain([records.len()]) {
            if edge > at {
                chain = link(&chain, at + 1, records[at..edge].iter().map(|(_, payload)| payload));
                at = edge;
            }
        }
        Checker::Chain.holds(verified.chain == chain && verified.records == records.len() as u64, || {
            format!("the chain over {} records is not the one computed", verified.records)
        })?;
        self.chain = Some(chain);
        Ok(())
    }

    /// The index against the log: ids, streams, sources and two random searches.
    pub(crate) fn look_at_index(&self, node: &Node, requests: &Requests<'_>) -> Checked {
        let model = &self.model;
        let refused = |error: &dyn std::fmt::Display| Checker::Index.refused(error);
        Checker::Index.holds(node.index.head() == model.head(), || {
            format!("it stands at {}, the log at {}", node.index.head(), model.head())
        })?;
        let mut ids: Vec<EventId> = model.entries.iter().map(|entry| entry.event.id).collect();
        ids.push(EventId::from_slice(&[0xEE; 16]).unwrap());
        let found = node.index.positions_of(&ids).map_err(|error| refused(&error))?;
        for (at, (id, found)) in ids.iter().zip(found).enumerate() {
            let expected = (at < model.entries.len()).then(|| Position::new(at as u64 + 1));
            Checker::Index.holds(found == expected, || format!("{id}: {found:?}, expected {expected:?}"))?;
        }
        for stream in (0..STREAMS).map(request::stream) {
            let found = node.index.stream_head(&stream).map_err(|error| refused(&error))?;
            let found = found.map_or((0, Position::ZERO), |head| (head.revision.get(), head.last_position));
            let expected = model.stream_head(&stream, model.entries.len());
            Checker::Index.holds(found == expected, || format!("{stream}: {found:?}, not {expected:?}"))?;
        }
        for source in (0..SOURCES).map(request::source) {
            let found = node.events.tracking(&source).map_err(|error| refused(&error))?;
            let found = found.map_or(0, |(tracking, _)| tracking.position);
            let expected = model.tracked(&source, model.entries.len());
            Checker::Tracking.holds(found == expected, || format!("{source}: {found}, not {expected}"))?;
        }
        for direction in [Direction::Forward, Direction::Backward] {
            self.look_at_search(node, requests, direction)?;
        }
        Ok(())
    }

    fn look_at_search(&self, node: &Node, requests: &Requests<'_>, direction: Direction) -> Checked {
        let items = vec![requests.item(), requests.item()];
        let filter = Filter { query: items.clone(), ..Filter::default() };
        let head = self.model.head();
        let found = node.index.find(&filter, direction, Position::ZERO, head, usize::MAX);
        let found = found.map_err(|error| Checker::Index.refused(error))?;
        let entries = self.model.entries.iter().enumerate();
        let matching = entries.filter(|(_, entry)| super::model::matches(&items, &entry.event));
        let mut expected: Vec<Position> = matching.map(|(at, _)| Position::new(at as u64 + 1)).collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        Checker::Index.holds(found.positions == expected, || {
            format!("{items:?} {direction:?}: found {:?}, expected {expected:?}", found.positions)
        })
    }

    /// The projection's documents, hash and cursor against a replay.
    pub(crate) fn look_at_projection(&mut self, node: &Node) -> Checked {
        let refused = |error: &dyn std::fmt::Display| Checker::Projection.refused(error);
        let snapshot = node.store.snapshot().map_err(|error| refused(&error))?;
        let state = *snapshot.state();
        Checker::Projection.holds(state.cursor <= self.model.head(), || {
            format!("its cursor is {}, the head {}", state.cursor, self.model.head())
        })?;
        let upto = state.cursor.get() as usize;
        let expected = self.documents.hash_at(upto, &self.model.entries);
        Checker::Projection.holds(state.content_hash == expected, || {
            format!("at {upto} its hash is {}, a replay's {expected}", state.content_hash)
        })?;
        let documents = snapshot.hash_documents().map_err(|error| refused(&error))?;
        Checker::Projection.holds(documents == expected, || {
            format!("at {upto} its documents' hash is {documents}, a replay's {expected}")
        })
    }

    /// What was deployed is there, and nothing that was not.
    pub(crate) fn look_at_meta(node: &Node, deployed: &HashMap<u32, bool>) -> Checked {
        let found = node.meta.deployed().map_err(|error| Checker::Meta.refused(error))?;
        for (version, is_certain) in deployed {
            let row = found.iter().find(|row| row.version == *version);
            let fits = row.is_none_or(|row| row.source == source_of(*version));
            Checker::Meta.holds(fits && (row.is_some() || !is_certain), || {
                format!("version {version} was deployed and is {row:?}")
            })?;
        }
        let stranger = found.iter().find(|row| !deployed.contains_key(&row.version));
        Checker::Meta.holds(stranger.is_none(), || format!("{stranger:?} was never deployed"))
    }
}

/// The text that the campaign deploys as a version.
pub(crate) fn source_of(version: u32) -> String {
    format!("definition {version} {}", "y".repeat(version as usize % 700))
}

fn link<'a>(before: &Chain, first: usize, payloads: impl ExactSizeIterator<Item = &'a Bytes>) -> Chain {
    let mut hash = Sha256::new().chain_update([1]).chain_update(before);
    hash.update((first as u64).to_le_bytes());
    hash.update((payloads.len() as u32).to_le_bytes());
    for payload in payloads {
        hash.update(Sha256::new().chain_update([0]).chain_update(payload).finalize());
    }
    hash.finalize().into()
}

fn read_all(reader: &LogReader) -> Checked<Vec<(RecordedEvent, Bytes)>> {
    let records = reader.scan(Position::ZERO, Position::new(u64::MAX), usize::MAX, usize::MAX);
    let records = records.map_err(|error| Checker::Durability.refused(error))?;
    let mut out = Vec::with_capacity(records.len());
    for (at, (position, payload)) in records.into_iter().enumerate() {
        Checker::Order.holds(position.get() == at as u64 + 1, || format!("{position} at place {at}"))?;
        match RecordedEvent::decode(position, payload.clone()) {
            Ok(recorded) => out.push((recorded, payload)),
            Err(error) => Checker::Content.holds(false, || error.to_string())?,
        }
    }
    Checker::Durability.holds(out.len() as u64 == reader.head().get(), || {
        format!("{} records, the head is {}", out.len(), reader.head())
    })?;
    Ok(out)
}
