//! A part of the index in memory: the events since the last run, or one full part that waits for its run file.
//!
//! Invariants: positions are dense from `first`; offsets count from it and ascend in every list. Does not know files,
//! nor who holds it under which lock.

use std::collections::HashMap;

use super::{
    IndexError, StreamHead,
    matcher::Matcher,
    postings::Postings,
    terms::{source_key, stream_key, system_key, tag_key, type_key},
    writer::RunWriter,
};
use crate::{
    event::{EventId, EventType, Position, RecordedEvent, Revision, Source, StreamId, Tag},
    index::Filter,
};

/// Events indexed in memory.
#[derive(Debug)]
pub(super) struct Part {
    first: u64,
    count: u32,
    ids: HashMap<EventId, u32>,
    streams: HashMap<StreamId, StreamOffsets>,
    types: HashMap<EventType, Vec<u32>>,
    tags: HashMap<Tag, Vec<u32>>,
    /// Events that carry the position of a source.
    sources: HashMap<Source, Vec<u32>>,
    /// Events of the system's own.
    system: Vec<u32>,
}

#[derive(Debug, Default)]
struct StreamOffsets {
    last_revision: u64,
    offsets: Vec<u32>,
}

impl Part {
    /// An empty part that begins at this position. Its ids have their room from the beginning, since growing in the
    /// middle would hold up the committer.
    pub(super) fn starting_at(first: u64, events_max: u32) -> Self {
        Self {
            first,
            count: 0,
            ids: HashMap::with_capacity(events_max as usize),
            streams: HashMap::new(),
            types: HashMap::new(),
            tags: HashMap::new(),
            sources: HashMap::new(),
            system: Vec::new(),
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
        let stream = match self.streams.get_mut(event.stream.as_str()) {
            Some(stream) => stream,
            None => self.streams.entry(event.stream.clone()).or_default(),
        };
        stream.last_revision = recorded.revision.get();
        stream.offsets.push(offset);
        match self.types.get_mut(event.event_type.as_str()) {
            Some(offsets) => offsets.push(offset),
            None => drop(self.types.insert(event.event_type.clone(), vec![offset])),
        }
        for tag in &event.tags {
            match self.tags.get_mut(tag.as_str()) {
                Some(offsets) if offsets.last() == Some(&offset) => {}
                Some(offsets) => offsets.push(offset),
                None => drop(self.tags.insert(tag.clone(), vec![offset])),
            }
        }
        if let Some(tracking) = &recorded.tracking {
            match self.sources.get_mut(tracking.source.as_str()) {
                Some(offsets) => offsets.push(offset),
                None => drop(self.sources.insert(tracking.source.clone(), vec![offset])),
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

    /// All streams with their newest events, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&StreamId, StreamHead)> {
        self.streams.iter().map(|(stream, found)| (stream, self.head(found)))
    }

    /// What finds the events of a filter; `None` if there can be none.
    pub(super) fn matcher<'a>(&'a self, filter: &Filter) -> Option<Matcher<'a>> {
        let mut matcher = Matcher::default();
        if let Some(stream) = &filter.stream {
            matcher.all.push(Postings::memory(&self.streams.get(stream.as_str())?.offsets));
        }
        for tag in &filter.tags {
            matcher.all.push(Postings::memory(self.tags.get(tag.as_str())?));
        }
        if let Some(source) = &filter.source {
            matcher.all.push(Postings::memory(self.sources.get(source.as_str())?));
        }
        let offsets = filter.types.iter().filter_map(|event_type| self.types.get(event_type.as_str()));
        matcher.any.extend(offsets.map(|offsets| Postings::memory(offsets)));
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
            push(stream_key(stream), found.last_revision, &found.offsets)?;
        }
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_unstable();
        for (event_type, offsets) in types {
            push(type_key(event_type), 0, offsets)?;
        }
        let mut tags: Vec<_> = self.tags.iter().collect();
        tags.sort_unstable();
        for (tag, offsets) in tags {
            push(tag_key(tag), 0, offsets)?;
        }
        if !self.system.is_empty() {
            push(system_key(), 0, &self.system)?;
        }
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_unstable();
        for (source, offsets) in sources {
            push(source_key(source), 0, offsets)?;
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
        let last = stream.offsets.last().copied().expect("a stream here has an event");
        StreamHead {
            revision: Revision::new(stream.last_revision),
            last_position: Position::new(self.first + u64::from(last)),
        }
    }
}
