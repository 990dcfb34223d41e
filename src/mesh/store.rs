//! `mesh.redb`: where exports and imports go on more quickly than by reading everything again.
//!
//! Owns checkpoints of exports (the place after an event) and how far the bus was read for an import. Invariants: nothing
//! here is believed beyond what the log says: a checkpoint counts only if the log has its event at its position; losing
//! the file costs time and nothing else. Does not know messages.

use std::{path::Path, sync::Arc};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use uuid::Uuid;

use super::envelope::Place;
use crate::{
    disk::Disk,
    event::{EventId, Position},
    kv::{self, KvError, Persistence, Syncs},
    limits::MESH_CACHE_BYTES,
};

/// (export, version, seq) -> (epoch, position, event id, chain).
const CHECKPOINTS: TableDefinition<'_, (&str, u32, u64), CheckpointRow> = TableDefinition::new("checkpoints");
/// (export, version) -> the last number that the bus acknowledged.
const ACKNOWLEDGED: TableDefinition<'_, (&str, u32), u64> = TableDefinition::new("acknowledged");
/// import -> (all messages up to this one of the stream are for numbers up to that one).
const READ: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("read");
/// `log` -> the log that all this is about.
const LOG: TableDefinition<'_, &str, &'static [u8; 16]> = TableDefinition::new("log");

type CheckpointRow = (u64, u64, &'static [u8; 16], &'static [u8; 32]);

/// The open file.
#[derive(Debug)]
pub struct Store {
    database: Database,
    log_id: Uuid,
}

/// A place that an export had come to, and the event there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The place after the event.
    pub place: Place,
    /// The event's id.
    pub id: EventId,
}

impl Store {
    /// Opens the file; one that is damaged or about another log is begun anew.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path, log_id: Uuid) -> Result<Self, KvError> {
        let (database, _) = kv::open_or_replace(&**disk, path, MESH_CACHE_BYTES, Syncs::Through)?;
        let write = kv::begin_write(&database, Persistence::Durable)?;
        {
            let mut log = write.open_table(LOG)?;
            let known = log.get("log")?.map(|known| *known.value());
            if known != Some(*log_id.as_bytes()) {
                write.delete_table(CHECKPOINTS)?;
                write.delete_table(ACKNOWLEDGED)?;
                write.delete_table(READ)?;
                log.insert("log", log_id.as_bytes())?;
            }
            write.open_table(CHECKPOINTS)?;
            write.open_table(ACKNOWLEDGED)?;
            write.open_table(READ)?;
        }
        write.commit()?;
        Ok(Self { database, log_id })
    }

    /// The newest checkpoint of an export at or below a number, among those at or below a position, that `holds`.
    pub fn checkpoint(
        &self,
        (export, version): (&str, u32),
        seq_max: u64,
        mut holds: impl FnMut(&Checkpoint) -> bool,
    ) -> Result<Option<Checkpoint>, KvError> {
        let table = self.database.begin_read()?.open_table(CHECKPOINTS)?;
        let range = (export, version, 0)..=(export, version, seq_max);
        for row in table.range(range)?.rev() {
            let (key, value) = row?;
            let (epoch, position, id, chain) = value.value();
            let Ok(id) = EventId::from_slice(id) else { continue };
            let (seq, position) = (key.value().2, Position::new(position));
            let place = Place { log_id: self.log_id, epoch, seq, position, chain: *chain };
            let checkpoint = Checkpoint { place, id };
            if holds(&checkpoint) {
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    /// The highest checkpoint of an export at or below a position that `holds`.
    pub fn checkpoint_below(
        &self,
        name: (&str, u32),
        position: Position,
        mut holds: impl FnMut(&Checkpoint) -> bool,
    ) -> Result<Option<Checkpoint>, KvError> {
        self.checkpoint(name, u64::MAX, |checkpoint| {
            checkpoint.place.position <= position && holds(checkpoint)
        })
    }

    /// Keeps checkpoints and how far the bus has acknowledged.
    pub fn keep(
        &self,
        (export, version): (&str, u32),
        checkpoints: &[Checkpoint],
        acknowledged: u64,
        persistence: Persistence,
    ) -> Result<(), KvError> {
        let write = kv::begin_write(&self.database, persistence)?;
        {
            let mut table = write.open_table(CHECKPOINTS)?;
            for Checkpoint { place, id } in checkpoints {
                let row = (place.epoch, place.position.get(), id.as_bytes(), &place.chain);
                table.insert((export, version, place.seq), row)?;
            }
            write.open_table(ACKNOWLEDGED)?.insert((export, version), acknowledged)?;
        }
        Ok(write.commit()?)
    }

    /// How far the bus had acknowledged an export.
    pub fn acknowledged(&self, name: (&str, u32)) -> Result<u64, KvError> {
        let table = self.database.begin_read()?.open_table(ACKNOWLEDGED)?;
        Ok(table.get(name)?.map_or(0, |row| row.value()))
    }

    /// How far the stream was read for an import, and up to which number that goes.
    pub fn read(&self, import: &str) -> Result<(u64, u64), KvError> {
        let table = self.database.begin_read()?.open_table(READ)?;
        Ok(table.get(import)?.map_or((0, 0), |row| row.value()))
    }

    /// Keeps how far the stream was read for an import that has come to `seq`.
    pub fn keep_read(
        &self,
        import: &str,
        sequence: u64,
        seq: u64,
        persistence: Persistence,
    ) -> Result<(), KvError> {
        let write = kv::begin_write(&self.database, persistence)?;
        write.open_table(READ)?.insert(import, (sequence, seq))?;
        Ok(write.commit()?)
    }
}
