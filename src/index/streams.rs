//! Lists streams over all layers of the index, in order of name.
//!
//! Invariant: the newest layer that knows a stream says its head. Memory is bounded by the number of streams asked for
//! and a dictionary block for each run. Does not know pages or tokens.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    IndexError, StreamEntry, StreamHead,
    part::Part,
    run::{Run, TermCursor},
    state::State,
    terms::{Kind, term_key},
};
use crate::event::{Position, Revision, StreamId};

impl State {
    pub(super) fn list_streams(
        &self,
        prefix: &str,
        after_name: &str,
        limit: usize,
        include_system: bool,
    ) -> Result<Vec<StreamEntry>, IndexError> {
        let wanted = |name: &str| {
            name.starts_with(prefix) && name > after_name && (include_system || !name.starts_with('$'))
        };
        let mut memory = BTreeMap::new();
        let (frozen, runs) = {
            let layers = self.layers();
            gather(&layers.active, limit, wanted, &mut memory);
            (layers.frozen.clone(), Arc::clone(&layers.runs))
        };
        for part in frozen.iter().rev() {
            gather(part, limit, wanted, &mut memory);
        }
        let start = term_key(Kind::Stream, prefix.max(after_name));
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs.iter().rev() {
            let mut cursor = RunStreams { run, cursor: TermCursor::seek(run, &start)?, current: None };
            cursor.settle(prefix, wanted)?;
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
                    cursor.settle(prefix, wanted)?;
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Adds the first `limit` streams of a part, in order of name, unless a newer part has added them.
fn gather(
    part: &Part,
    limit: usize,
    wanted: impl Fn(&str) -> bool,
    streams: &mut BTreeMap<StreamId, StreamHead>,
) {
    for (stream, head) in part.streams() {
        let in_reach =
            || streams.len() < limit || streams.last_key_value().is_some_and(|(last, _)| stream < last);
        if wanted(stream.as_str()) && in_reach() {
            streams.entry(stream.clone()).or_insert(head);
            if streams.len() > limit {
                streams.pop_last();
            }
        }
    }
}

/// Walks the wanted streams of a run.
struct RunStreams<'a> {
    run: &'a Run,
    cursor: TermCursor<'a>,
    current: Option<StreamEntry>,
}

impl RunStreams<'_> {
    /// Moves on to the next wanted stream, unless the cursor stands at one.
    fn settle(&mut self, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<(), IndexError> {
        self.current = None;
        while let Some(term) = &self.cursor.term {
            let Some((&kind, name)) = term.key.split_first() else {
                break;
            };
            if kind != Kind::Stream as u8 || !name.starts_with(prefix.as_bytes()) {
                break;
            }
            let name = std::str::from_utf8(name).ok().and_then(|name| StreamId::parse_any(name).ok());
            let stream = name.ok_or_else(|| self.run.damage("expected the name of a stream".into()))?;
            if wanted(stream.as_str()) {
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
