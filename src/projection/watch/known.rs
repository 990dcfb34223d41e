//! Which documents a watcher has, as far as a bounded memory can tell.
//!
//! Invariant: a key that is not known to be absent counts as had, so that no deletion is left out; of few documents none
//! is told deleted that was never there. Does not know documents.

use std::collections::HashSet;

use crate::limits::WATCH_KNOWN_BYTES_MAX;

/// Bytes that a key takes in a set beside its own, roughly.
const KEY_BYTES: usize = 48;

/// The keys of a watcher's documents.
#[derive(Debug)]
pub(super) struct Known {
    /// `None`: it may have any.
    keys: Option<HashSet<Box<[u8]>>>,
    bytes: usize,
}

impl Known {
    /// The watcher has no document.
    pub(super) fn nothing() -> Self {
        Self { keys: Some(HashSet::new()), bytes: 0 }
    }

    /// The watcher may have any document.
    pub(super) const fn anything() -> Self {
        Self { keys: None, bytes: 0 }
    }

    /// The watcher has this document from now on.
    pub(super) fn put(&mut self, key: &[u8]) {
        if let Some(keys) = &mut self.keys
            && !keys.contains(key)
        {
            keys.insert(key.into());
            self.bytes += key.len() + KEY_BYTES;
            if self.bytes > WATCH_KNOWN_BYTES_MAX {
                *self = Self::anything();
            }
        }
    }

    /// The watcher does not have this document any more; gives whether it may have had it.
    pub(super) fn take(&mut self, key: &[u8]) -> bool {
        let Some(keys) = &mut self.keys else {
            return true;
        };
        let had = keys.remove(key);
        if had {
            self.bytes -= key.len() + KEY_BYTES;
        }
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_known_exactly_and_many_may_all_be_there() {
        let mut known = Known::nothing();
        assert!(!known.take(b"a"));
        known.put(b"a");
        known.put(b"a");
        assert!(known.take(b"a") && !known.take(b"a"));
        assert_eq!(known.bytes, 0);
        for number in 0..WATCH_KNOWN_BYTES_MAX / KEY_BYTES {
            known.put(&number.to_be_bytes());
        }
        assert!(known.take(b"a"), "too many to tell");
        assert!(Known::anything().take(b"a"));
    }
}
