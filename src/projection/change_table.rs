//! Which documents changed at which position: what watchers go on from.
//!
//! Invariants: the table changes in the same transaction as the documents; every change above its floor is in it, up to
//! the cursor; it has a bounded number of entries, the oldest go first. It says nothing of the first build, and begins
//! anew, with a floor at the cursor, where another program wrote the file without it.
//!
//! Table `changes`: position (8 bytes, big-endian) and a number that tells changes of one position apart (4 bytes,
//! big-endian) -> number of the collection (2 bytes, big-endian), encoded key. A document that changed several times in
//! one commit has one entry, at the last of its positions. Key `changes` of the table `state`: format 1 (1 byte), base,
//! floor and upto (8 bytes each, big-endian), CRC32C of all before (4). Deliberately does not know what a document looks
//! like now, or who watches.

use std::ops::Bound;

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition, TableError, WriteTransaction};

use crate::{
    event::Position,
    kv::KvError,
    limits::CHANGES_MAX,
    projection::{
        key::Key,
        state::State,
        store::{STATE, STATE_KEY, Snapshot},
    },
};

const CHANGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("changes");
const REACH_KEY: &str = "changes";
const FORMAT: u8 = 1;
const BODY_BYTES: usize = 1 + 3 * 8;
const REACH_BYTES: usize = BODY_BYTES + 4;

/// How far back the changes of a file go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Where the table began: the identity of what it tells. A file that is built anew begins at another position.
    pub(crate) base: Position,
    /// All changes above this are there.
    pub(crate) floor: Position,
    /// Up to here: the cursor of the state it belongs to.
    upto: Position,
}

/// A change: the position of the event, the collection's number, the document's encoded key.
type Entry = (Position, usize, Vec<u8>);

/// Puts the changes of a commit that leads to `state` into the table; before the state itself is written.
pub(crate) fn record<'a>(
    write: &WriteTransaction,
    state: &State,
    changes: impl Iterator<Item = (Position, usize, &'a Key)>,
) -> Result<(), KvError> {
    let mut states = write.open_table(STATE)?;
    let before = match states.get(STATE_KEY)? {
        Some(record) => State::decode(record.value()).map_err(KvError::Damaged)?.0,
        None => return Ok(()),
    };
    let stored = states.get(REACH_KEY)?.map(|record| Reach::decode(record.value())).transpose()?;
    let reach = match Reach::of(&before, stored) {
        None if !state.built => return Ok(()),
        None => {
            write.delete_table(CHANGES)?;
            Reach::beginning(state.cursor)
        }
        Some(reach) => {
            if stored != Some(reach) {
                write.delete_table(CHANGES)?;
            }
            // What is applied late, out of the order of the log, counts as changed now.
            let position_of =
                |position: Position| if position > before.cursor { position } else { state.cursor };
            let mut entries: Vec<Entry> = changes
                .map(|(position, collection, key)| (position_of(position), collection, key.encode()))
                .collect();
            // Their order in memory is random; the file is to be the same every time.
            entries.sort_unstable();
            Reach { upto: state.cursor, ..append(write, reach, state.cursor, &entries)? }
        }
    };
    if stored != Some(reach) {
        states.insert(REACH_KEY, &reach.encode()[..])?;
    }
    Ok(())
}

/// Adds entries and drops the oldest beyond the bound; gives where the table now reaches.
fn append(
    write: &WriteTransaction,
    reach: Reach,
    cursor: Position,
    entries: &[Entry],
) -> Result<Reach, KvError> {
    if entries.is_empty() {
        return Ok(reach);
    }
    if entries.len() as u64 > CHANGES_MAX {
        write.delete_table(CHANGES)?;
        return Ok(Reach { floor: cursor, ..reach });
    }
    let mut table = write.open_table(CHANGES)?;
    let (mut last, mut number) = (Position::ZERO, 0_u32);
    let mut value = Vec::new();
    for (position, collection, key) in entries {
        number = if *position == last { number + 1 } else { 0 };
        last = *position;
        value.clear();
        value.extend((*collection as u16).to_be_bytes());
        value.extend_from_slice(key);
        table.insert(&entry_key(*position, number)[..], &value[..])?;
    }
    let mut floor = reach.floor;
    for _ in CHANGES_MAX..table.len()? {
        if let Some((key, _)) = table.pop_first()? {
            floor = position_of(key.value())?;
        }
    }
    Ok(Reach { floor, ..reach })
}

impl Reach {
    const fn beginning(at: Position) -> Self {
        Self { base: at, floor: at, upto: at }
    }

    /// How far the changes of a state go back; `None` during the first build. A record that does not end at the
    /// state's cursor misses changes that another program made.
    fn of(state: &State, stored: Option<Self>) -> Option<Self> {
        let fits = stored.filter(|stored| stored.upto == state.cursor);
        state.built.then(|| fits.unwrap_or(Self::beginning(state.cursor)))
    }

    fn encode(&self) -> [u8; REACH_BYTES] {
        let mut bytes = Vec::with_capacity(REACH_BYTES);
        bytes.push(FORMAT);
        for position in [self.base, self.floor, self.upto] {
            bytes.extend(position.get().to_be_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        bytes.try_into().expect("the parts add up to the record's length")
    }

    fn decode(bytes: &[u8]) -> Result<Self, KvError> {
        let damaged = || KvError::Damaged("the record of its changes is damaged".into());
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        let body: &[u8; BODY_BYTES] = body.try_into().map_err(|_| damaged())?;
        if body[0] != FORMAT || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
            return Err(damaged());
        }
        let position = |at: usize| {
            let bytes: [u8; 8] = std::array::from_fn(|byte| body[1 + 8 * at + byte]);
            Position::new(u64::from_be_bytes(bytes))
        };
        Ok(Self { base: position(0), floor: position(1), upto: position(2) })
    }
}

impl Snapshot {
    /// How far back the changes go that it holds; `None` until the first build is done.
    pub(crate) fn reach(&self) -> Result<Option<Reach>, KvError> {
        let states = self.transaction().open_table(STATE)?;
        let stored = states.get(REACH_KEY)?.map(|record| Reach::decode(record.value())).transpose()?;
        Ok(Reach::of(self.state(), stored))
    }

    /// The next changes of a collection behind a place, at most so many, in order of position: the place and the encoded
    /// key of each. Fewer than `count`: there are no more.
    pub(crate) fn changes_behind(
        &self,
        place: Place,
        collection: usize,
        count: usize,
    ) -> Result<Vec<(Place, Vec<u8>)>, KvError> {
        let mut found = Vec::new();
        let table = match self.transaction().open_table(CHANGES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(found),
            Err(error) => return Err(error.into()),
        };
        for row in table.range::<&[u8]>((Bound::Excluded(&place.0[..]), Bound::Unbounded))? {
            if found.len() == count {
                break;
            }
            let (at, change) = row?;
            let too_short = || KvError::Damaged("a recorded change is too short".into());
            let (number, key) = change.value().split_first_chunk().ok_or_else(too_short)?;
            if usize::from(u16::from_be_bytes(*number)) == collection {
                found.push((Place(at.value().try_into().map_err(|_| too_short())?), key.to_vec()));
            }
        }
        Ok(found)
    }
}

/// A place in the table of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place([u8; 12]);

impl Place {
    /// Behind all changes of this position.
    pub(crate) fn behind(position: Position) -> Self {
        Self(entry_key(position, u32::MAX))
    }

    /// The position that changed something here.
    pub(crate) fn position(&self) -> Position {
        let position: [u8; 8] = std::array::from_fn(|at| self.0[at]);
        Position::new(u64::from_be_bytes(position))
    }
}

fn entry_key(position: Position, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&position.get().to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn position_of(key: &[u8]) -> Result<Position, KvError> {
    let position = key
        .first_chunk()
        .ok_or_else(|| KvError::Damaged("the position of a recorded change is too short".into()))?;
    Ok(Position::new(u64::from_be_bytes(*position)))
}

#[cfg(test)]
pub(crate) mod tests;
