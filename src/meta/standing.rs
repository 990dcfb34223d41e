//! Standing versions in `meta.redb`: builds of definitions up to a position, by label.
//!
//! Invariant: a row holds its definition's text, so it does not depend on what is deployed. Does not know what is built.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::{Meta, MetaError};
use crate::{event::Position, kv::KvError};

/// (projection, label) -> (version, position, the epoch that wrote it, file, source text).
const STANDING: TableDefinition<'_, (&str, &str), Row> = TableDefinition::new("standing");

type Row = (u32, u64, u64, &'static str, &'static str);

/// A build up to a position, and what it is a build of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRow {
    /// The projection's name.
    pub projection: String,
    /// What it is called, once in a projection.
    pub label: String,
    /// The version whose definition it has.
    pub version: u32,
    /// Where it stands.
    pub until: Position,
    /// The epoch that wrote the event there.
    pub epoch: u64,
    /// The file that the definition came from.
    pub file: String,
    /// The definition's text.
    pub source: String,
}

impl Meta {
    /// All standing versions, by projection and label.
    pub fn standing(&self) -> Result<Vec<StandingRow>, MetaError> {
        let read = || -> Result<Vec<StandingRow>, KvError> {
            let table = match self.database.begin_read()?.open_table(STANDING) {
                Ok(table) => table,
                // Written by a program that had none.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let row = |row: Result<_, redb::StorageError>| {
                let (key, value): (redb::AccessGuard<'_, (&str, &str)>, redb::AccessGuard<'_, Row>) = row?;
                let ((projection, label), (version, until, epoch, file, source)) =
                    (key.value(), value.value());
                Ok(StandingRow {
                    projection: projection.to_owned(),
                    label: label.to_owned(),
                    version,
                    until: Position::new(until),
                    epoch,
                    file: file.to_owned(),
                    source: source.to_owned(),
                })
            };
            table.iter()?.map(row).collect()
        };
        Ok(read()?)
    }

    /// Records a standing version, in place of one of the same label.
    pub fn put_standing(&self, row: &StandingRow) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            let mut table = write.open_table(STANDING)?;
            let value = (row.version, row.until.get(), row.epoch, &*row.file, &*row.source);
            table.insert((&*row.projection, &*row.label), value)?;
            Ok(())
        })?)
    }

    /// Forgets a standing version.
    pub fn remove_standing(&self, projection: &str, label: &str) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            write.open_table(STANDING)?.remove((projection, label))?;
            Ok(())
        })?)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::disk::{Disk, sim::SimDisk};

    #[test]
    fn standing_versions_survive_power_loss_until_they_are_removed() {
        let sim = SimDisk::new(1);
        let path = Path::new("/d/meta.redb");
        sim.create_dir_all(Path::new("/d")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let meta = Meta::open(&disk, path).unwrap();
        assert_eq!(meta.standing().unwrap(), []);
        let row = |projection: &str, label: &str| StandingRow {
            projection: projection.into(),
            label: label.into(),
            version: 2,
            until: Position::new(17),
            epoch: 3,
            file: "p.yaml".into(),
            source: "text".into(),
        };
        for (projection, label) in [("q", "a"), ("p", "b"), ("p", "a")] {
            meta.put_standing(&row(projection, label)).unwrap();
        }
        meta.remove_standing("p", "b").unwrap();
        meta.remove_standing("p", "none").unwrap();
        drop(meta);
        let disk: Arc<dyn Disk> = Arc::new(sim.crash(7));
        assert_eq!(Meta::inspect(&*disk, path).unwrap(), 0);
        assert_eq!(Meta::open(&disk, path).unwrap().standing().unwrap(), [row("p", "a"), row("q", "a")]);
    }
}
