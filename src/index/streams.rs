//! Lists streams over all layers of the index, in order of name.
//!
//! Invariants: the newest layer that knows a stream says its head; the lock around the layers is held for a bounded
//! number of names. A page costs what it holds, a dictionary block for each run, and the sorting of the names that came
//! since the last listing. Does not know pages or tokens.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    IndexError, StreamEntry, StreamHead,
    names::Wanted,
    part::Part,
    run::{Run, TermCursor},
    state::{Layers, State},
    terms::{Kind, term_key},
};
use crate::{
    event::{Position, Revision, StreamId},
    limits::INDEX_LOCK_EVENTS_MAX,
};

impl State {
    pub(super) fn list_streams(
        &self,
        prefix: &str,
        after_name: &str,
        limit: usize,
        include_system: bool,
    ) -> Result<Vec<StreamEntry>, IndexError> {
        let wanted = Wanted { prefix, after_name, include_system };
        let (mut memory, runs) = loop {
            // A part that becomes a run in the middle is looked at again, as a run.
            if let Some(found) = self.list_in_memory(wanted, limit) {
                break found;
            }
        };
        let start = term_key(Kind::Stream, prefix.max(after_name));
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs.iter().rev() {
            let mut cursor = RunStreams { run, cursor: TermCursor::seek(run, &start)?, current: None };
            cursor.settle(wanted)?;
            cursors.push(cursor);
        }
        let mut entries = Vec::new();
        while entries.len() < limit {
            let in_memory = memory
                .first_key_value()
                .map(|(stream, head)| StreamEntry { stream: stream.clone(), head: *head });
            // Memory first, then the newest run: the first of equal names is the one that counts.
            let candidates =
                in_memory.iter().chain(cursors.iter().filter_map(|cursor| cursor.current.as_ref()));
            let Some(entry) = candidates.min_by(|a, b| a.stream.cmp(&b.stream)).cloned() else {
                break;
            };
            memory.remove(&entry.stream);
            for cursor in &mut cursors {
                if cursor.current.as_ref().is_some_and(|current| current.stream == entry.stream) {
                    cursor.cursor.advance()?;
                    cursor.settle(wanted)?;
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The first `limit` streams of every part in memory with their newest events, and the runs behind which these parts
    /// stand. `None` if a part left memory meanwhile.
    fn list_in_memory(&self, wanted: Wanted<'_>, limit: usize) -> Option<InMemory> {
        let (parts, runs) = {
            let layers = self.layers();
            let frozen = layers.frozen.iter().map(|part| part.first());
            let parts: Vec<u64> = frozen.chain([layers.active.first()]).collect();
            (parts, Arc::clone(&layers.runs))
        };
        let mut memory = BTreeMap::new();
        for first in parts {
            for (stream, head) in self.list_part(first, wanted, limit)? {
                memory.insert(stream, head);
            }
        }
        Some((memory, runs))
    }

    /// The first `limit` streams of the part that begins at `first`.
    fn list_part(&self, first: u64, wanted: Wanted<'_>, limit: usize) -> Option<Vec<(StreamId, StreamHead)>> {
        let names = Arc::clone(part_at(&self.layers(), first)?.names());
        let mut sorted = names.lock();
        let count = part_at(&self.layers(), first)?.stream_count();
        while sorted.len() < count {
            let fresh = {
                let layers = self.layers();
                part_at(&layers, first)?.names_behind(sorted.len(), INDEX_LOCK_EVENTS_MAX as usize)
            };
            sorted.extend(fresh);
        }
        let page = sorted.page(wanted, limit);
        drop(sorted);
        let mut entries = Vec::with_capacity(page.len());
        for streams in page.chunks(INDEX_LOCK_EVENTS_MAX as usize) {
            let layers = self.layers();
            let part = part_at(&layers, first)?;
            entries.extend(
                streams.iter().filter_map(|stream| Some((stream.clone(), part.stream_head(stream)?))),
            );
        }
        Some(entries)
    }
}

type InMemory = (BTreeMap<StreamId, StreamHead>, Arc<[Arc<Run>]>);

/// The part in memory that begins at this position.
fn part_at(layers: &Layers, first: u64) -> Option<&Part> {
    if layers.active.first() == first {
        return Some(&layers.active);
    }
    layers.frozen.iter().find(|part| part.first() == first).map(|part| &**part)
}

/// Walks the wanted streams of a run.
struct RunStreams<'a> {
    run: &'a Run,
    cursor: TermCursor<'a>,
    current: Option<StreamEntry>,
}

impl RunStreams<'_> {
    /// Moves on to the next wanted stream, unless the cursor stands at one.
    fn settle(&mut self, wanted: Wanted<'_>) -> Result<(), IndexError> {
        self.current = None;
        while let Some(term) = &self.cursor.term {
            let Some((&kind, name)) = term.key.split_first() else {
                break;
            };
            if kind != Kind::Stream as u8 || !name.starts_with(wanted.prefix.as_bytes()) {
                break;
            }
            let name = std::str::from_utf8(name).ok().and_then(|name| StreamId::parse_any(name).ok());
            let stream = name.ok_or_else(|| self.run.damage("expected the name of a stream".into()))?;
            if wanted.holds(stream.as_str()) {
                let head = StreamHead {
                    revision: Revision::new(term.last_revision),
                    last_position: Position::new(self.run.first() + u64::from(term.last)),
                };
                self.current = Some(StreamEntry { stream, head });
                break;
            }
            self.cursor.advance()?;
        }
        Ok(())
    }
}
