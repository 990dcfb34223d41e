//! Names and the offsets of their events, in memory; and ids.
//!
//! Made for the committer: one probe finds a name, names and lists that came first, which are mostly those that come
//! often, lie next to each other, and nothing is allocated for a single name. Hashes are keyed by the process's own
//! randomness, so that names and ids cannot be chosen to collide. Does not know kinds of terms, events or files.

use std::hash::{BuildHasher as _, Hasher as _};

use hashbrown::{HashTable, hash_table::Entry as Slot};

use super::lists::{List, Pool};
use crate::event::EventId;

type Hashing = foldhash::fast::RandomState;

/// Names with their offsets, numbered in the order of their coming.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    hashing: Hashing,
    numbers: HashTable<u32>,
    entries: Vec<Entry>,
    /// All names, one behind the other.
    names: String,
    pool: Pool,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) struct Entry {
    hash: u64,
    /// Of a stream: the revision of its last event. Else 0.
    pub(super) last_revision: u64,
    name_start: u32,
    name_len: u32,
    list: List,
}

impl NameTable {
    /// An empty table with room for as much as this one has.
    pub(super) fn alike(&self) -> Self {
        Self {
            hashing: Hashing::default(),
            numbers: HashTable::with_capacity(self.entries.len()),
            entries: Vec::with_capacity(self.entries.len()),
            names: String::with_capacity(self.names.len()),
            pool: self.pool.alike(),
        }
    }

    /// Adds an event of a name, behind all others, and gives what is known of the name.
    #[inline]
    pub(super) fn add(&mut self, name: &str, offset: u32) -> &mut Entry {
        let hash = self.hash(name);
        let (entries, names) = (&self.entries, &self.names);
        let is_it = |number: &u32| entries[*number as usize].is(hash, name, names);
        let number = match self.numbers.entry(hash, is_it, |number| entries[*number as usize].hash) {
            Slot::Occupied(slot) => *slot.get(),
            Slot::Vacant(slot) => {
                let number = entries.len() as u32;
                slot.insert(number);
                let (name_start, name_len) = (self.names.len() as u32, name.len() as u32);
                self.names.push_str(name);
                self.entries.push(Entry {
                    hash,
                    last_revision: 0,
                    name_start,
                    name_len,
                    list: List::default(),
                });
                number
            }
        };
        let entry = &mut self.entries[number as usize];
        entry.list.push(&mut self.pool, offset);
        entry
    }

    /// What is known of a name.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        let hash = self.hash(name);
        let number =
            self.numbers.find(hash, |number| self.entries[*number as usize].is(hash, name, &self.names))?;
        Some(&self.entries[*number as usize])
    }

    /// The offsets of a name.
    pub(super) fn offsets_of(&self, name: &str) -> Option<&[u32]> {
        self.get(name).map(|entry| self.offsets(entry))
    }

    /// The offsets of an entry of this table.
    pub(super) fn offsets<'a>(&'a self, entry: &'a Entry) -> &'a [u32] {
        entry.list.offsets(&self.pool)
    }

    /// All names with what is known of them, in the order of their coming.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|entry| (entry.name(&self.names), entry))
    }

    /// The same in order of name.
    pub(super) fn sorted(&self) -> Vec<(&str, &Entry)> {
        let mut names = self.names();
        let first = names.next().unwrap_or_default().as_bytes();
        let shared = names.fold(first.len(), |shared, name| {
            name.bytes().zip(&first[..shared]).take_while(|(a, b)| a == *b).count()
        });
        // Most comparisons end at eight bytes that lie here, behind what all names share.
        let key = |name: &str| {
            let rest = &name.as_bytes()[shared..];
            let mut key = [0; 8];
            let len = rest.len().min(8);
            key[..len].copy_from_slice(&rest[..len]);
            u64::from_be_bytes(key)
        };
        let mut keyed: Vec<(u64, &str, &Entry)> =
            self.iter().map(|(name, entry)| (key(name), name, entry)).collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        keyed.into_iter().map(|(_, name, entry)| (name, entry)).collect()
    }

    /// Names in the order of their coming.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    fn hash(&self, name: &str) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

impl Entry {
    /// The last of its offsets.
    pub(super) fn last(&self) -> u32 {
        self.list.last().expect("a name comes with an event")
    }

    fn name<'a>(&self, names: &'a str) -> &'a str {
        &names[self.name_start as usize..][..self.name_len as usize]
    }

    #[inline]
    fn is(&self, hash: u64, name: &str, names: &str) -> bool {
        let stored = || &names.as_bytes()[self.name_start as usize..][..self.name_len as usize];
        self.hash == hash && self.name_len as usize == name.len() && stored() == name.as_bytes()
    }
}

/// The ids of consecutive events. Of equal ids the first one counts.
#[derive(Debug, Default)]
pub(super) struct IdTable {
    hashing: Hashing,
    offsets: HashTable<u32>,
    ids: Vec<EventId>,
}

impl IdTable {
    /// An empty table that has its room from the beginning, since growing would hold up the committer.
    pub(super) fn with_capacity(ids: usize) -> Self {
        Self {
            hashing: Hashing::default(),
            offsets: HashTable::with_capacity(ids),
            ids: Vec::with_capacity(ids),
        }
    }

    /// Adds the id of the next event.
    #[inline]
    pub(super) fn push(&mut self, id: EventId) {
        let (ids, hashing) = (&self.ids, self.hashing);
        let is_it = |offset: &u32| ids[*offset as usize] == id;
        let hash = |offset: &u32| hash_id(hashing, &ids[*offset as usize]);
        if let Slot::Vacant(slot) = self.offsets.entry(hash_id(hashing, &id), is_it, hash) {
            slot.insert(ids.len() as u32);
        }
        self.ids.push(id);
    }

    /// The offset of the event with this id.
    #[inline]
    pub(super) fn offset_of(&self, id: &EventId) -> Option<u32> {
        self.offsets.find(hash_id(self.hashing, id), |offset| self.ids[*offset as usize] == *id).copied()
    }

    /// All ids, in the order of their events.
    pub(super) fn iter(&self) -> impl Iterator<Item = &EventId> {
        self.ids.iter()
    }

    /// All ids as numbers with their offsets, in order of id, each once.
    pub(super) fn sorted(&self) -> Vec<(u128, u32)> {
        let mut ids: Vec<_> = self.ids.iter().map(|id| id.uuid().as_u128()).zip(0..).collect();
        ids.sort_unstable();
        ids.dedup_by_key(|(id, _)| *id);
        ids
    }
}

#[inline]
fn hash_id(hashing: Hashing, id: &EventId) -> u64 {
    let mut hasher = hashing.build_hasher();
    hasher.write_u128(id.uuid().as_u128());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn a_table_equals_a_map(names in prop::collection::vec("a{0,9}b?[ab]{0,2}", 0..200)) {
            let mut table = NameTable::default();
            let mut model: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
            for (name, offset) in names.iter().zip(0..) {
                table.add(name, offset).last_revision += 1;
                model.entry(name).or_default().push(offset);
            }
            let sorted: Vec<_> = table.sorted().into_iter().map(|(name, entry)| (name, table.offsets(entry).to_vec())).collect();
            prop_assert_eq!(sorted, model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(table.len(), model.len());
            for (name, offsets) in &model {
                let entry = table.get(name).unwrap();
                prop_assert_eq!(entry.last_revision as usize, offsets.len());
                prop_assert_eq!(Some(entry.last()), offsets.last().copied());
                prop_assert_eq!(table.offsets_of(name), Some(&offsets[..]));
            }
            prop_assert!(table.get("nobody").is_none());
        }
    }

    #[test]
    fn of_equal_ids_the_first_counts() {
        let id = |number: u128| EventId::from_uuid(Uuid::from_u128(number)).unwrap();
        let mut table = IdTable::with_capacity(2);
        for number in [7, 3, 7, 9] {
            table.push(id(number));
        }
        assert_eq!([7, 3, 9].map(|number| table.offset_of(&id(number))), [Some(0), Some(1), Some(3)]);
        assert_eq!(table.offset_of(&id(8)), None);
        assert_eq!(table.sorted(), [(3, 1), (7, 0), (9, 3)]);
    }
}
