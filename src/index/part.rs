//! A part of the index in memory: the events since the last run, or one full part that waits for its run file.
//!
//! Invariants: positions are dense from `first`; offsets count from it and ascend in every list. Does not know files,
//! nor who holds it under which lock.

use std::{collections::HashMap, sync::Arc};

use super::{
    IndexError, StreamHead,
    matcher::Matcher,
    names::StreamNames,
    offsets::Offsets,
    postings::Postings,
    terms::{source_key, stream_key, system_key, tag_key, type_key},
    writer::RunWriter,
};
use crate::{
    event::{EventId, EventType, Position, RecordedEvent, Revision, Source, StreamId, Tag},
    index::Filter,
};

/// Keyed by the process's own randomness, so that names and ids cannot be chosen to collide.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Events indexed in memory.
#[derive(Debug)]
pub(super) struct Part {
    first: u64,
    count: u32,
    ids: Map<EventId, u32>,
    streams: Map<StreamId, StreamOffsets>,
    /// The streams in the order of their first events here.
    stream_order: Vec<StreamId>,
    /// The same in order of name, for listing.
    names: Arc<StreamNames>,
    types: Map<EventType, Offsets>,
    tags: Map<Tag, Offsets>,
    /// Events that carry the position of a source.
    sources: Map<Source, Offsets>,
    /// Events of the system's own.
    system: Vec<u32>,
}

#[derive(Debug, Default)]
struct StreamOffsets {
    last_revision: u64,
    offsets: Offsets,
}

impl Part {
    /// An empty part that begins at this position. Its ids have their room from the beginning, since growing in the
    /// middle would hold up the committer.
    pub(super) fn starting_at(first: u64, events_max: u32) -> Self {
        Self {
            first,
            count: 0,
            ids: with_capacity(events_max as usize),
            streams: Map::default(),
            stream_order: Vec::new(),
            names: Arc::default(),
            types: Map::default(),
            tags: Map::default(),
            sources: Map::default(),
            system: Vec::new(),
        }
    }

    /// An empty part behind this one, with room for as many names.
    pub(super) fn next(&self, events_max: u32) -> Self {
        Self {
            streams: with_capacity(self.streams.len()),
            stream_order: Vec::with_capacity(self.stream_order.len()),
            tags: with_capacity(self.tags.len()),
            ..Self::starting_at(self.end(), events_max)
        }
    }

    /// Adds the next event.
    pub(super) fn add(&mut self, recorded: &RecordedEvent) {
        let (position, expected) = (recorded.position.get(), self.end());
        assert!(position == expected, "the index expects position {expected}, found {position}");
        let offset = self.count;
        let event = &recorded.event;
        self.count += 1;
        self.ids.entry(event.id).or_insert(offset);
        let stream = if let Some(stream) = self.streams.get_mut(event.stream.as_str()) {
            stream
        } else {
            self.stream_order.push(event.stream.clone());
            self.streams.entry(event.stream.clone()).or_default()
        };
        stream.last_revision = recorded.revision.get();
        stream.offsets.push(offset);
        match self.types.get_mut(event.event_type.as_str()) {
            Some(offsets) => offsets.push(offset),
            None => self.types.entry(event.event_type.clone()).or_default().push(offset),
        }
        for tag in &event.tags {
            match self.tags.get_mut(tag.as_str()) {
                Some(offsets) => offsets.push(offset),
                None => self.tags.entry(tag.clone()).or_default().push(offset),
            }
        }
        if let Some(tracking) = &recorded.tracking {
            match self.sources.get_mut(tracking.source.as_str()) {
                Some(offsets) => offsets.push(offset),
                None => self.sources.entry(tracking.source.clone()).or_default().push(offset),
            }
        }
        if super::is_system(event) {
            self.system.push(offset);
        }
    }

    /// The position of the event with this id.
    pub(super) fn position_of(&self, id: &EventId) -> Option<u64> {
        self.ids.get(id).map(|offset| self.first + u64::from(*offset))
    }

    /// The newest event of a stream.
    pub(super) fn stream_head(&self, stream: &StreamId) -> Option<StreamHead> {
        self.streams.get(stream.as_str()).map(|found| self.head(found))
    }

    /// How many streams have events here.
    pub(super) fn stream_count(&self) -> usize {
        self.stream_order.len()
    }

    /// Up to `limit` streams in the order of their first events, but for the first `behind`.
    pub(super) fn names_behind(&self, behind: usize, limit: usize) -> Vec<StreamId> {
        self.stream_order.iter().skip(behind).take(limit).cloned().collect()
    }

    /// Where its streams are sorted by those who list them.
    pub(super) fn names(&self) -> &Arc<StreamNames> {
        &self.names
    }

    /// All ids, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &EventId> {
        self.ids.keys()
    }

    /// All streams with their newest events, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&StreamId, StreamHead)> {
        self.streams.iter().map(|(stream, found)| (stream, self.head(found)))
    }

    /// What finds the events of a filter; `None` if there can be none.
    pub(super) fn matcher<'a>(&'a self, filter: &Filter) -> Option<Matcher<'a>> {
        let mut matcher = Matcher::default();
        if let Some(stream) = &filter.stream {
            matcher.all.push(Postings::memory(self.streams.get(stream.as_str())?.offsets.as_slice()));
        }
        for tag in &filter.tags {
            matcher.all.push(Postings::memory(self.tags.get(tag.as_str())?.as_slice()));
        }
        if let Some(source) = &filter.source {
            matcher.all.push(Postings::memory(self.sources.get(source.as_str())?.as_slice()));
        }
        let offsets = filter.types.iter().filter_map(|event_type| self.types.get(event_type.as_str()));
        matcher.any.extend(offsets.map(|offsets| Postings::memory(offsets.as_slice())));
        if matcher.any.is_empty() && !filter.types.is_empty() {
            return None;
        }
        if !filter.include_system && !self.system.is_empty() {
            matcher.except = Some(Postings::memory(&self.system));
        }
        Some(matcher)
    }

    /// Writes all of it to a run.
    pub(super) fn write_to(&self, writer: &mut RunWriter<'_>) -> Result<(), IndexError> {
        let mut ids: Vec<_> = self.ids.iter().map(|(id, offset)| (id.as_bytes(), *offset)).collect();
        ids.sort_unstable();
        ids.into_iter().try_for_each(|(id, offset)| writer.push_id(id, offset))?;
        let mut push = |key: Vec<u8>, last_revision: u64, offsets: &[u32]| {
            writer.push_term(&key, last_revision, |push| offsets.iter().try_for_each(|offset| push(*offset)))
        };
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(stream, _)| *stream);
        for (stream, found) in streams {
            push(stream_key(stream), found.last_revision, found.offsets.as_slice())?;
        }
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_unstable_by_key(|(event_type, _)| *event_type);
        for (event_type, offsets) in types {
            push(type_key(event_type), 0, offsets.as_slice())?;
        }
        let mut tags: Vec<_> = self.tags.iter().collect();
        tags.sort_unstable_by_key(|(tag, _)| *tag);
        for (tag, offsets) in tags {
            push(tag_key(tag), 0, offsets.as_slice())?;
        }
        if !self.system.is_empty() {
            push(system_key(), 0, &self.system)?;
        }
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_unstable_by_key(|(source, _)| *source);
        for (source, offsets) in sources {
            push(source_key(source), 0, offsets.as_slice())?;
        }
        Ok(())
    }

    /// How many terms a run of it has.
    pub(super) fn terms(&self) -> usize {
        self.streams.len()
            + self.types.len()
            + self.tags.len()
            + self.sources.len()
            + usize::from(!self.system.is_empty())
    }

    /// The position of its first event.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The position behind its last event.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// How many events it holds.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    fn head(&self, stream: &StreamOffsets) -> StreamHead {
        let last = stream.offsets.last().expect("a stream here has an event");
        StreamHead {
            revision: Revision::new(stream.last_revision),
            last_position: Position::new(self.first + u64::from(last)),
        }
    }
}

fn with_capacity<K, V>(capacity: usize) -> Map<K, V> {
    Map::with_capacity_and_hasher(capacity, foldhash::fast::RandomState::default())
}
