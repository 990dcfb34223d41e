//! The dictionary of a run: which positions hold a stream, type or tag.
//!
//! Owns the keys of terms, the form of a dictionary entry, and the fences that say which block may hold a key.
//! A dictionary block is its checksum and entries in order of key; entries never cross blocks. Does not read files.

use super::codec::{CHECKSUM_BYTES, Fields, put_varint};
use crate::event::{EventType, Source, StreamId, Tag};

/// What a term names. The number orders the dictionary and is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    Stream = 1,
    Type = 2,
    Tag = 3,
    /// One term without a name: all events of the system's own.
    System = 4,
    /// A source whose position some events carry.
    Source = 5,
}

/// A term's key: its kind and its name. Keys order the dictionary.
pub(super) fn term_key(kind: Kind, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind as u8);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The key of a stream.
pub(super) fn stream_key(stream: &StreamId) -> Vec<u8> {
    term_key(Kind::Stream, stream.as_str())
}

/// The key of a type.
pub(super) fn type_key(event_type: &EventType) -> Vec<u8> {
    term_key(Kind::Type, event_type.as_str())
}

/// The key of a tag.
pub(super) fn tag_key(tag: &Tag) -> Vec<u8> {
    term_key(Kind::Tag, tag.as_str())
}

/// The key of a tracked source.
pub(super) fn source_key(source: &Source) -> Vec<u8> {
    term_key(Kind::Source, source.as_str())
}

/// The key of the system's own events.
pub(super) fn system_key() -> Vec<u8> {
    term_key(Kind::System, "")
}

/// A dictionary entry. Offsets of positions count from the run's first position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) key: Vec<u8>,
    /// How many events have it; at least one.
    pub(super) count: u32,
    /// Of a stream: the revision of its last event here. Else 0.
    pub(super) last_revision: u64,
    /// Offset of the first position.
    pub(super) first: u32,
    /// Offset of the last position.
    pub(super) last: u32,
    pub(super) list: List,
}

/// Where the offsets behind the first are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum List {
    /// In the entry, as deltas. Empty where `first` and `last` say everything.
    Inline(Vec<u8>),
    /// In posting blocks, which begin at `offset` of the file and take `len` bytes together.
    Blocks { offset: u64, len: u64 },
}

impl Term {
    /// Appends the entry to a dictionary block.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.key.len() as u64);
        out.extend_from_slice(&self.key);
        put_varint(out, u64::from(self.count));
        put_varint(out, self.last_revision);
        put_varint(out, u64::from(self.first));
        if self.count > 1 {
            put_varint(out, u64::from(self.last - self.first));
        }
        match &self.list {
            _ if self.count <= 2 => {}
            List::Inline(deltas) => {
                put_varint(out, (deltas.len() as u64) << 1);
                out.extend_from_slice(deltas);
            }
            List::Blocks { offset, len } => {
                put_varint(out, (offset << 1) | 1);
                put_varint(out, *len);
            }
        }
    }

    /// The offsets of an inline list.
    pub(super) fn inline_offsets(&self, deltas: &[u8]) -> Option<Vec<u32>> {
        match self.count {
            0 => None,
            1 => Some(vec![self.first]),
            2 => Some(vec![self.first, self.last]),
            _ => {
                let mut offsets = vec![self.first];
                decode_deltas(Fields(deltas), self.count as usize - 1, &mut offsets)?;
                Some(offsets)
            }
        }
    }
}

/// Appends `count` offsets to `offsets`, each a delta to the one before; `None` if the bytes do not hold them.
pub(super) fn decode_deltas(mut deltas: Fields<'_>, count: usize, offsets: &mut Vec<u32>) -> Option<()> {
    let mut offset = *offsets.last()?;
    for _ in 0..count {
        offset = offset.checked_add(deltas.varint_u32()?)?;
        offsets.push(offset);
    }
    Some(())
}

/// An entry where it lies in its block.
struct Entry<'a> {
    key: &'a [u8],
    count: u32,
    last_revision: u64,
    first: u32,
    last: u32,
    inline: &'a [u8],
    blocks: Option<(u64, u64)>,
}

impl<'a> Entry<'a> {
    fn take(fields: &mut Fields<'a>) -> Option<Self> {
        let key_len = fields.varint()? as usize;
        let key = fields.bytes(key_len)?;
        let count = fields.varint_u32()?;
        let last_revision = fields.varint()?;
        let first = fields.varint_u32()?;
        let span = if count > 1 { fields.varint_u32()? } else { 0 };
        let (mut inline, mut blocks) = (&[][..], None);
        if count > 2 {
            let place = fields.varint()?;
            if place & 1 == 0 {
                inline = fields.bytes((place >> 1) as usize)?;
            } else {
                blocks = Some((place >> 1, fields.varint()?));
            }
        }
        Some(Self { key, count, last_revision, first, last: first.checked_add(span)?, inline, blocks })
    }

    fn to_term(&self) -> Term {
        let list = match self.blocks {
            Some((offset, len)) => List::Blocks { offset, len },
            None => List::Inline(self.inline.to_vec()),
        };
        Term {
            key: self.key.to_vec(),
            count: self.count,
            last_revision: self.last_revision,
            first: self.first,
            last: self.last,
            list,
        }
    }
}

/// The first entry at or behind `at` whose key is not below `key`, and where the entry behind it begins.
/// `Ok(None)`: there is none in this block. `Err`: the block is not what a block should be.
pub(super) fn entry_from(block: &[u8], at: usize, key: &[u8]) -> Result<Option<(Term, usize)>, NotABlock> {
    let mut fields = Fields(block.get(at.max(CHECKSUM_BYTES)..).ok_or(NotABlock)?);
    while !fields.is_empty() {
        let entry = Entry::take(&mut fields).ok_or(NotABlock)?;
        if entry.key >= key {
            return Ok(Some((entry.to_term(), block.len() - fields.0.len())));
        }
    }
    Ok(None)
}

/// A sound checksum over bytes that are no dictionary block.
#[derive(Debug)]
pub(super) struct NotABlock;

/// The first key of every dictionary block and where the block lies, packed.
#[derive(Debug, Default)]
pub(super) struct Fences {
    keys: Vec<u8>,
    blocks: Vec<Fence>,
}

#[derive(Debug, Clone, Copy)]
struct Fence {
    /// Where its key ends in `keys`; it begins where the one before ends.
    key_end: u32,
    len: u32,
    offset: u64,
}

impl Fences {
    /// Adds the block behind the others.
    pub(super) fn push(&mut self, first_key: &[u8], offset: u64, len: usize) {
        self.keys.extend_from_slice(first_key);
        self.blocks.push(Fence { key_end: self.keys.len() as u32, len: len as u32, offset });
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Offset and length of a block.
    pub(super) fn block(&self, number: usize) -> (u64, usize) {
        (self.blocks[number].offset, self.blocks[number].len as usize)
    }

    /// The only block that can hold `key`; the first one if all begin behind it.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    fn key(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.blocks[before].key_end as usize);
        &self.keys[start..self.blocks[number].key_end as usize]
    }

    /// Its bytes in a run file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in 0..self.blocks.len() {
            let (offset, len) = self.block(number);
            put_varint(&mut out, self.key(number).len() as u64);
            out.extend_from_slice(self.key(number));
            put_varint(&mut out, offset);
            put_varint(&mut out, len as u64);
        }
        out
    }

    /// The fences with these bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fences = Self::default();
        let mut fields = Fields(bytes);
        while !fields.is_empty() {
            let key_len = fields.varint()? as usize;
            let key = fields.bytes(key_len)?;
            let offset = fields.varint()?;
            fences.push(key, offset, fields.varint_u32()? as usize);
        }
        Some(fences)
    }

    /// Bytes they take in memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.keys.len() + self.blocks.len() * size_of::<Fence>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(key: &str, offsets: &[u32]) -> Term {
        let mut deltas = Vec::new();
        if offsets.len() > 2 {
            offsets.windows(2).for_each(|pair| put_varint(&mut deltas, u64::from(pair[1] - pair[0])));
        }
        Term {
            key: term_key(Kind::Tag, key),
            count: offsets.len() as u32,
            last_revision: 5,
            first: offsets[0],
            last: *offsets.last().unwrap(),
            list: List::Inline(deltas),
        }
    }

    #[test]
    fn entries_survive_and_are_found_in_order() {
        let mut blocks = term("c", &[1, 9, 300, 70_000]);
        blocks.list = List::Blocks { offset: 1 << 40, len: 9_000 };
        let terms = [term("a", &[7]), term("b", &[7, 8]), term("bb", &[1, 9, 300, 70_000]), blocks];
        let mut block = vec![0; CHECKSUM_BYTES];
        for term in &terms {
            term.put(&mut block);
        }
        let mut at = 0;
        for term in &terms {
            let (found, behind) = entry_from(&block, at, b"").unwrap().unwrap();
            assert_eq!(&found, term);
            at = behind;
        }
        assert!(entry_from(&block, at, b"").unwrap().is_none());
        let found = entry_from(&block, 0, &term_key(Kind::Tag, "ba")).unwrap().unwrap().0;
        let List::Inline(deltas) = &found.list else { panic!("{found:?} is inline") };
        assert_eq!(found.inline_offsets(deltas), Some(vec![1, 9, 300, 70_000]));
        assert!(entry_from(&block, 0, &term_key(Kind::Tag, "d")).unwrap().is_none());
        assert!(entry_from(&block[..block.len() - 1], 0, &term_key(Kind::Tag, "d")).is_err());
    }

    #[test]
    fn fences_find_the_only_block_that_can_hold_a_key() {
        let mut fences = Fences::default();
        fences.push(b"b", 4096, 100);
        fences.push(b"bb", 5000, 4096);
        fences.push(b"d", 1 << 33, 7);
        let fences = Fences::decode(&fences.encode()).unwrap();
        let find = |key: &[u8]| fences.block(fences.find(key)).0;
        assert_eq!(
            [find(b"a"), find(b"b"), find(b"ba"), find(b"bb"), find(b"c"), find(b"d"), find(b"e")],
            [4096, 4096, 4096, 5000, 5000, 1 << 33, 1 << 33]
        );
        assert!(Fences::decode(&fences.encode()[1..]).is_none());
    }
}
