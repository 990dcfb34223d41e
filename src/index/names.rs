//! The names of a part's streams in order, gathered when someone lists them.
//!
//! Parts know streams by hash. Whoever lists them pays for the order, once a name: the names that came since the last
//! listing are sorted in, and a page then costs what the page holds. Invariant: holds names of its part's streams only.
//! Does not know parts; whoever fills it holds no other lock.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::event::StreamId;

/// The names of a part, in the order of their coming up to some point, sorted.
#[derive(Debug, Default)]
pub(super) struct StreamNames(Mutex<Sorted>);

/// What is sorted in.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    names: BTreeSet<StreamId>,
}

/// Which streams are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) prefix: &'a str,
    pub(super) after_name: &'a str,
    pub(super) include_system: bool,
}

impl StreamNames {
    pub(super) fn lock(&self) -> MutexGuard<'_, Sorted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sorted {
    /// How many names are sorted in: the first of the part.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Sorts in the names that came next, each for the first time.
    pub(super) fn extend(&mut self, names: Vec<StreamId>) {
        self.names.extend(names);
    }

    /// The first `limit` of those wanted, in order.
    pub(super) fn page(&self, wanted: Wanted<'_>, limit: usize) -> Vec<StreamId> {
        let start = wanted.prefix.max(wanted.after_name);
        self.names
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|name| name.as_str().starts_with(wanted.prefix))
            .filter(|name| wanted.holds(name.as_str()))
            .take(limit)
            .cloned()
            .collect()
    }
}

impl Wanted<'_> {
    /// Whether a stream of this name is one of those asked for.
    pub(super) fn holds(&self, name: &str) -> bool {
        name.starts_with(self.prefix)
            && name > self.after_name
            && (self.include_system || !name.starts_with('$'))
    }
}
