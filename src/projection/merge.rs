//! Two sorted tables side by side, key by key.
//!
//! Invariants: every key that one of them has comes once, in order; what is kept is one row of each. Does not know what
//! the rows mean.

use std::{cmp::Ordering, fmt, iter::Peekable};

use redb::{AccessGuard, Range, ReadOnlyTable, Value};

use crate::kv::KvError;

/// A key, and what is there under it on the left and on the right.
pub(crate) type Pair<V> = (Vec<u8>, Option<V>, Option<V>);

/// Walks two ascending sources of rows together; an error of one of them comes in place of a row.
pub(crate) struct Merge<I: Iterator> {
    left: Peekable<I>,
    right: Peekable<I>,
}

impl<I: Iterator> Merge<I> {
    /// Of rows in ascending order of their keys, each key once.
    pub(crate) fn new(left: I, right: I) -> Self {
        Self { left: left.peekable(), right: right.peekable() }
    }
}

impl<I: Iterator> fmt::Debug for Merge<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge").finish_non_exhaustive()
    }
}

impl<I, V, E> Iterator for Merge<I>
where
    I: Iterator<Item = Result<(Vec<u8>, V), E>>,
{
    type Item = Result<Pair<V>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.peek(), self.right.peek()) {
            (None, None) => return None,
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
            (Some(Ok((left, _))), Some(Ok((right, _)))) => left.cmp(right),
        };
        let row = if order.is_le() { self.left.next()? } else { self.right.next()? };
        Some(row.map(|(key, value)| match order {
            Ordering::Less => (key, Some(value), None),
            Ordering::Greater => (key, None, Some(value)),
            Ordering::Equal => {
                let other = self.right.next().and_then(Result::ok);
                (key, Some(value), other.map(|(_, value)| value))
            }
        }))
    }
}

/// The rows of a table that may not be there, in order of their keys. They keep their snapshot.
pub(crate) struct Rows<V: Value + 'static>(Option<Range<'static, &'static [u8], V>>);

impl<V: Value + 'static> Rows<V> {
    /// Of one snapshot.
    pub(crate) fn of(table: Option<&ReadOnlyTable<&'static [u8], V>>) -> Result<Self, KvError> {
        Ok(Self(table.map(|table| table.range::<&[u8]>(..)).transpose()?))
    }
}

impl<V: Value + 'static> fmt::Debug for Rows<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rows").field(&self.0.is_some()).finish()
    }
}

impl<V: Value + 'static> Iterator for Rows<V> {
    type Item = Result<(Vec<u8>, AccessGuard<'static, V>), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.as_mut()?.next()?;
        Some(row.map(|(key, value)| (key.value().to_vec(), value)).map_err(KvError::from))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Row = Result<(Vec<u8>, u8), &'static str>;

    fn merged(left: Vec<Row>, right: Vec<Row>) -> Vec<Result<Pair<u8>, &'static str>> {
        Merge::new(left.into_iter(), right.into_iter()).collect()
    }

    proptest! {
        #[test]
        fn every_key_comes_once_in_order_with_what_both_have(
            left in prop::collection::btree_map(prop::collection::vec(0_u8..4, 0..4), any::<u8>(), 0..30),
            right in prop::collection::btree_map(prop::collection::vec(0_u8..4, 0..4), any::<u8>(), 0..30),
        ) {
            let rows = |of: &BTreeMap<Vec<u8>, u8>| of.iter().map(|(key, value)| Ok((key.clone(), *value))).collect();
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).cloned().collect();
            let expected: Vec<_> = keys
                .into_iter()
                .map(|key| { let (l, r) = (left.get(&key).copied(), right.get(&key).copied()); Ok((key, l, r)) })
                .collect();
            prop_assert_eq!(merged(rows(&left), rows(&right)), expected);
        }
    }

    #[test]
    fn an_error_of_either_comes_through() {
        let row = |key: u8| Ok((vec![key], key));
        let errors = |found: Vec<Result<Pair<u8>, _>>| found.into_iter().filter_map(Result::err).count();
        assert_eq!(errors(merged(vec![row(1), Err("left")], vec![row(1), row(2)])), 1);
        assert_eq!(errors(merged(vec![row(1)], vec![row(1), Err("right")])), 1);
        assert_eq!(errors(merged(vec![Err("left")], vec![Err("right")])), 2);
        assert_eq!(errors(merged(Vec::new(), vec![Err("right"), row(2)])), 1);
    }
}
