//! `meta.redb` in a backup: all of its rows as one value, and back; and when the last backup was finished.
//!
//! A copy of the file itself would be no cut, and would carry what the file has of its past. Invariant: what is put into an empty file is
//! what was taken out. When the last backup was made is not part of a backup.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::{ACTIVE, DEPLOYED, Meta, MetaError, PAUSED, WANTED, standing::StandingRow};
use crate::{event::Position, kv::KvError};

/// `last` -> (seconds since 1970, head) of the last backup that was finished.
const BACKUP: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("backup");
const LAST: &str = "last";
const SNAPSHOT_FORMAT: u32 = 1;

/// All that `meta.redb` holds and the log does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaSnapshot {
    format: u32,
    deployed: Vec<DeployedRow>,
    active: BTreeMap<String, u32>,
    paused: BTreeSet<(String, u32)>,
    wanted: BTreeMap<String, (u32, [u8; 32], u64)>,
    standing: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployedRow {
    projection: String,
    version: u32,
    order: u64,
    hash: [u8; 32],
    file: String,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Standing {
    projection: String,
    label: String,
    version: u32,
    until: u64,
    epoch: u64,
    file: String,
    source: String,
}

impl MetaSnapshot {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("rows are plain values")
    }

    /// From JSON; why not, if it is none of a known format.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let snapshot: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match snapshot.format {
            SNAPSHOT_FORMAT => Ok(snapshot),
            found => Err(format!(
                "it has format {found}, this program knows formats up to {SNAPSHOT_FORMAT}; use the newer program"
            )),
        }
    }
}

impl Meta {
    /// All rows, as they are at one moment.
    pub fn snapshot(&self) -> Result<MetaSnapshot, MetaError> {
        let standing = self.standing()?;
        let read = || -> Result<MetaSnapshot, KvError> {
            let read = self.database.begin_read()?;
            let (mut deployed, mut active, mut paused, mut wanted) =
                (Vec::new(), BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
            for row in read.open_table(DEPLOYED)?.iter()? {
                let (key, value) = row?;
                let ((projection, version), (order, hash, file, source)) = (key.value(), value.value());
                let (projection, file, source) = (projection.to_owned(), file.to_owned(), source.to_owned());
                deployed.push(DeployedRow { projection, version, order, hash: *hash, file, source });
            }
            for row in read.open_table(ACTIVE)?.iter()? {
                let (projection, version) = row?;
                active.insert(projection.value().to_owned(), version.value());
            }
            for row in read.open_table(PAUSED)?.iter()? {
                let (key, _) = row?;
                let (projection, version) = key.value();
                paused.insert((projection.to_owned(), version));
            }
            for row in read.open_table(WANTED)?.iter()? {
                let (projection, value) = row?;
                let (version, hash, since) = value.value();
                wanted.insert(projection.value().to_owned(), (version, *hash, since));
            }
            let standing = standing.into_iter().map(Standing::from).collect();
            Ok(MetaSnapshot { format: SNAPSHOT_FORMAT, deployed, active, paused, wanted, standing })
        };
        Ok(read()?)
    }

    /// Puts all rows of a snapshot into a file that has none, in one step.
    pub fn restore(&self, snapshot: &MetaSnapshot) -> Result<(), MetaError> {
        self.write(|write| {
            let mut deployed = write.open_table(DEPLOYED)?;
            for row in &snapshot.deployed {
                let value = (row.order, &row.hash, row.file.as_str(), row.source.as_str());
                deployed.insert((row.projection.as_str(), row.version), value)?;
            }
            let mut active = write.open_table(ACTIVE)?;
            for (projection, version) in &snapshot.active {
                active.insert(projection.as_str(), version)?;
            }
            let mut paused = write.open_table(PAUSED)?;
            for (projection, version) in &snapshot.paused {
                paused.insert((projection.as_str(), *version), ())?;
            }
            let mut wanted = write.open_table(WANTED)?;
            for (projection, (version, hash, since)) in &snapshot.wanted {
                wanted.insert(projection.as_str(), (*version, hash, *since))?;
            }
            Ok(())
        })?;
        snapshot.standing.iter().try_for_each(|row| self.put_standing(&row.into()))
    }

    /// A backup of the log up to this head was finished at this time.
    pub fn note_backup(&self, unix_seconds: u64, head: Position) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            write.open_table(BACKUP)?.insert(LAST, (unix_seconds, head.get()))?;
            Ok(())
        })?)
    }

    /// When the last backup was finished, in seconds since 1970, and its head; none if there was none.
    pub fn last_backup(&self) -> Result<Option<(u64, Position)>, MetaError> {
        let read = || -> Result<_, KvError> {
            let table = match self.database.begin_read()?.open_table(BACKUP) {
                Ok(table) => table,
                // Written by a program that made none.
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let row = table.get(LAST)?;
            Ok(row.map(|row| (row.value().0, Position::new(row.value().1))))
        };
        Ok(read()?)
    }
}

impl From<StandingRow> for Standing {
    fn from(row: StandingRow) -> Self {
        let StandingRow { projection, label, version, until, epoch, file, source } = row;
        Self { projection, label, version, until: until.get(), epoch, file, source }
    }
}

impl From<&Standing> for StandingRow {
    fn from(row: &Standing) -> Self {
        let Standing { projection, label, version, until, epoch, file, source } = row.clone();
        Self { projection, label, version, until: Position::new(until), epoch, file, source }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::disk::{Disk, sim::SimDisk};

    fn meta(path: &str) -> Meta {
        let sim = SimDisk::new(1);
        sim.create_dir_all(Path::new("/d")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(sim);
        Meta::open(&disk, &Path::new("/d").join(path)).unwrap()
    }

    #[test]
    fn what_is_put_back_is_what_was_taken_out() {
        let meta = meta("one");
        meta.deploy("b", 2, &[2; 32], "b.yaml", "second: \"ü\"\n").unwrap();
        meta.deploy("a", 1, &[1; 32], "a.yaml", "first").unwrap();
        meta.set_active("b", 7).unwrap();
        meta.set_paused("a", 1, true).unwrap();
        meta.set_wanted("a", 1, &[9; 32], 44).unwrap();
        let standing = StandingRow {
            projection: "a".into(),
            label: "march".into(),
            version: 1,
            until: Position::new(17),
            epoch: 3,
            file: "a.yaml".into(),
            source: "first".into(),
        };
        meta.put_standing(&standing).unwrap();
        let snapshot = meta.snapshot().unwrap();
        let read = MetaSnapshot::from_json(&snapshot.to_json()).unwrap();
        assert_eq!(read, snapshot);
        let other = self::meta("two");
        other.restore(&read).unwrap();
        assert_eq!(other.snapshot().unwrap(), snapshot);
        assert_eq!(other.deployed().unwrap(), meta.deployed().unwrap());
        assert_eq!(other.active().unwrap(), meta.active().unwrap());
        assert_eq!(other.standing().unwrap(), [standing]);
    }

    #[test]
    fn unknown_formats_and_fields_are_refused() {
        let json = String::from_utf8(meta("one").snapshot().unwrap().to_json()).unwrap();
        let refused = |from: &str, to: &str| {
            MetaSnapshot::from_json(json.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        assert!(refused("\"format\":1", "\"format\":2").contains("format 2"));
        assert!(refused("\"format\":1", "\"format\":1,\"more\":1").contains("more"));
        assert!(refused("{", "").contains("expected"));
    }

    #[test]
    fn the_last_backup_is_remembered() {
        let meta = meta("one");
        assert_eq!(meta.last_backup().unwrap(), None);
        meta.note_backup(1_700_000_000, Position::new(5)).unwrap();
        meta.note_backup(1_700_000_060, Position::new(8)).unwrap();
        assert_eq!(meta.last_backup().unwrap(), Some((1_700_000_060, Position::new(8))));
    }
}
