//! A part of the index in memory: the events since the last run, or one full part that waits for its run file.
//!
//! Invariants: positions are dense from `first`; offsets count from it and ascend in every list. Does not know files,
//! nor who holds it under which lock.

use std::sync::Arc;

use super::{
    IndexError, StreamHead,
    matcher::Matcher,
    names::StreamNames,
    postings::Postings,
    table::{Entry, IdTable, NameTable},
    terms::{Kind, system_key, term_key},
    writer::RunWriter,
};
use crate::{
    event::{EventId, Position, RecordedEvent, Revision, StreamId},
    index::Filter,
};

/// Events indexed in memory.
#[derive(Debug)]
pub(super) struct Part {
    first: u64,
    count: u32,
    ids: IdTable,
    streams: NameTable,
    /// The streams in order of name, for listing.
    stream_names: Arc<StreamNames>,
    types: NameTable,
    tags: NameTable,
    /// Events that carry the position of a source.
    sources: NameTable,
    /// Events of the system's own.
    system: Vec<u32>,
}

impl Part {
    /// An empty part that begins at this position.
    pub(super) fn starting_at(first: u64, events_max: u32) -> Self {
        Self {
            first,
            count: 0,
            ids: IdTable::with_capacity(events_max as usize),
            streams: NameTable::default(),
            stream_names: Arc::default(),
            types: NameTable::default(),
            tags: NameTable::default(),
            sources: NameTable::default(),
            system: Vec::new(),
        }
    }

    /// An empty part behind this one, with room for as many names: growing would hold up the committer.
    pub(super) fn next(&self, events_max: u32) -> Self {
        Self {
            streams: self.streams.alike(),
            types: self.types.alike(),
            tags: self.tags.alike(),
            ..Self::starting_at(self.end(), events_max)
        }
    }

    /// An empty part behind this one that has no room yet: for a node at rest.
    pub(super) fn behind(&self) -> Self {
        Self::starting_at(self.end(), 0)
    }

    /// Adds the next event.
    pub(super) fn add(&mut self, recorded: &RecordedEvent) {
        let (position, expected) = (recorded.position.get(), self.end());
        assert!(position == expected, "the index expects position {expected}, found {position}");
        let offset = self.count;
        let event = &recorded.event;
        self.count += 1;
        self.ids.push(event.id);
        let stream = self.streams.add(event.stream.as_str(), offset);
        stream.last_revision = recorded.revision.get();
        self.types.add(event.event_type.as_str(), offset);
        for tag in &event.tags {
            self.tags.add(tag.as_str(), offset);
        }
        if let Some(tracking) = &recorded.tracking {
            self.sources.add(tracking.source.as_str(), offset);
        }
        if super::is_system(event) {
            self.system.push(offset);
        }
    }

    /// The position of the event with this id.
    pub(super) fn position_of(&self, id: &EventId) -> Option<u64> {
        self.ids.offset_of(id).map(|offset| self.first + u64::from(offset))
    }

    /// The newest event of a stream.
    pub(super) fn stream_head(&self, stream: &StreamId) -> Option<StreamHead> {
        self.streams.get(stream.as_str()).map(|found| self.head(found))
    }

    /// How many streams have events here.
    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Up to `limit` streams in the order of their first events, but for the first `behind`.
    pub(super) fn names_behind(&self, behind: usize, limit: usize) -> Vec<StreamId> {
        self.streams.names().skip(behind).take(limit).map(stream_id).collect()
    }

    /// Where its streams are sorted by those who list them.
    pub(super) fn stream_names(&self) -> &Arc<StreamNames> {
        &self.stream_names
    }

    /// All ids, in the order of their events.
    pub(super) fn ids(&self) -> impl Iterator<Item = &EventId> {
        self.ids.iter()
    }

    /// The keys of all streams, in the order of their first events.
    pub(super) fn stream_keys(&self) -> impl Iterator<Item = Vec<u8>> {
        self.streams.names().map(|name| term_key(Kind::Stream, name))
    }

    /// All streams with their newest events, in the order of their first ones.
    pub(super) fn streams(&self) -> impl Iterator<Item = (StreamId, StreamHead)> {
        self.streams.iter().map(|(name, found)| (stream_id(name), self.head(found)))
    }

    /// What finds the events of a filter; `None` if there can be none.
    pub(super) fn matcher<'a>(&'a self, filter: &Filter) -> Option<Matcher<'a>> {
        let mut matcher = Matcher::default();
        if let Some(stream) = &filter.stream {
            matcher.all.push(Postings::memory(self.streams.offsets_of(stream.as_str())?));
        }
        for tag in &filter.tags {
            matcher.all.push(Postings::memory(self.tags.offsets_of(tag.as_str())?));
        }
        if let Some(source) = &filter.source {
            matcher.all.push(Postings::memory(self.sources.offsets_of(source.as_str())?));
        }
        let offsets = filter.types.iter().filter_map(|event_type| self.types.offsets_of(event_type.as_str()));
        matcher.any.extend(offsets.map(Postings::memory));
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
        for (id, offset) in self.ids.sorted() {
            writer.push_id(id, offset)?;
        }
        write_names(writer, Kind::Stream, &self.streams)?;
        write_names(writer, Kind::Type, &self.types)?;
        write_names(writer, Kind::Tag, &self.tags)?;
        if !self.system.is_empty() {
            writer.push_term(&system_key(), 0, |push| push(0, &self.system))?;
        }
        write_names(writer, Kind::Source, &self.sources)
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

    fn head(&self, stream: &Entry) -> StreamHead {
        StreamHead {
            revision: Revision::new(stream.last_revision),
            last_position: Position::new(self.first + u64::from(stream.last())),
        }
    }
}

fn write_names(writer: &mut RunWriter<'_>, kind: Kind, names: &NameTable) -> Result<(), IndexError> {
    for (name, entry) in names.sorted() {
        let key = term_key(kind, name);
        writer.push_term(&key, entry.last_revision, |push| push(0, names.offsets(entry)))?;
    }
    Ok(())
}

fn stream_id(name: &str) -> StreamId {
    StreamId::parse_any(name).expect("a stream's name came from a stream")
}
