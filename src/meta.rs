//! `meta.redb`: what the node knows and the log does not say. Deployed definitions, the versions that answer, and in `standing`
//! builds up to a position.
//!
//! Invariants: every change is durable when its call returns; a definition once deployed stays until its version is retired,
//! whatever happens to the file it came from. Losing this file loses nothing that deploying the definitions again does not bring back.
//! Deliberately does not know: what a definition means, where projections keep their documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::{
    disk::Disk,
    kv::{self, KvError, Persistence, SetAside, Syncs},
    limits::META_CACHE_BYTES,
};

pub mod backup;
pub mod standing;

/// (projection, version) -> (order of deployment, hash, file, source text).
const DEPLOYED: TableDefinition<'_, (&str, u32), DeployedRow> = TableDefinition::new("deployed");
/// projection -> active version.
const ACTIVE: TableDefinition<'_, &str, u32> = TableDefinition::new("active");
/// (projection, version) of builds that are paused.
const PAUSED: TableDefinition<'_, (&str, u32), ()> = TableDefinition::new("paused");
/// projection -> the version that definition files want to be active, the hash of its definition, and where the log ended
/// when they began to.
const WANTED: TableDefinition<'_, &str, (u32, &'static [u8; 32], u64)> = TableDefinition::new("wanted");
/// `format` -> the version of this layout.
const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");
const FORMAT_VERSION: u32 = 1;

type DeployedRow = (u64, &'static [u8; 32], &'static str, &'static str);

/// Why `meta.redb` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The file did not open, read or commit.
    #[error("meta.redb: {0}")]
    Kv(#[from] KvError),
    /// A newer program wrote it.
    #[error(
        "meta.redb has format {found}, this program knows formats up to {FORMAT_VERSION}; use the newer program"
    )]
    NewerFormat {
        /// The format found.
        found: u32,
    },
}

/// A definition as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The projection's name.
    pub projection: String,
    /// Its version, from 1.
    pub version: u32,
    /// 1 for the first that was ever deployed on this node.
    pub order: u64,
    /// The definition's hash.
    pub hash: [u8; 32],
    /// The file it came from.
    pub file: String,
    /// The text.
    pub source: String,
}

/// The open file.
#[derive(Debug)]
pub struct Meta {
    database: Database,
    set_aside: Option<SetAside>,
}

impl Meta {
    /// Opens `meta.redb`; a damaged one is set aside and begun anew.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, MetaError> {
        let (database, set_aside) = kv::open_or_replace(&**disk, path, META_CACHE_BYTES, Syncs::Through)?;
        let meta = Self { database, set_aside };
        meta.write(|write| {
            let mut format = write.open_table(FORMAT)?;
            let found = format.get("format")?.map(|found| found.value());
            if found.is_none() {
                format.insert("format", FORMAT_VERSION)?;
            }
            write.open_table(DEPLOYED)?;
            write.open_table(ACTIVE)?;
            write.open_table(PAUSED)?;
            write.open_table(WANTED)?;
            Ok(found.unwrap_or(FORMAT_VERSION))
        })
        .map_err(MetaError::from)
        .and_then(|found| match found {
            FORMAT_VERSION => Ok(meta),
            found => Err(MetaError::NewerFormat { found }),
        })
    }

    /// Reads all of a file without changing it; gives how many definitions are deployed.
    pub fn inspect(disk: &dyn Disk, path: &Path) -> Result<usize, MetaError> {
        let meta = Self { database: kv::open_read_only(disk, path)?, set_aside: None };
        let read = || -> Result<Option<u32>, KvError> {
            let table = meta.database.begin_read()?.open_table(FORMAT)?;
            Ok(table.get("format")?.map(|found| found.value()))
        };
        match read()? {
            Some(FORMAT_VERSION) => {}
            Some(found) => return Err(MetaError::NewerFormat { found }),
            None => return Err(KvError::Damaged("it does not say its format".into()).into()),
        }
        meta.active()?;
        meta.standing()?;
        Ok(meta.deployed()?.len())
    }

    /// The damaged file that gave way when this one was opened.
    pub const fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    /// All deployed definitions, in order of deployment.
    pub fn deployed(&self) -> Result<Vec<Deployed>, MetaError> {
        let read = || -> Result<Vec<Deployed>, KvError> {
            let table = self.database.begin_read()?.open_table(DEPLOYED)?;
            let mut all = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                let (projection, version) = key.value();
                let (order, hash, file, source) = value.value();
                all.push(Deployed {
                    projection: projection.to_owned(),
                    version,
                    order,
                    hash: *hash,
                    file: file.to_owned(),
                    source: source.to_owned(),
                });
            }
            all.sort_by_key(|deployed| deployed.order);
            Ok(all)
        };
        Ok(read()?)
    }

    /// The active version of every projection that has one.
    pub fn active(&self) -> Result<BTreeMap<String, u32>, MetaError> {
        let read = || -> Result<BTreeMap<String, u32>, KvError> {
            let table = self.database.begin_read()?.open_table(ACTIVE)?;
            table
                .iter()?
                .map(|row| {
                    let (projection, version) = row?;
                    Ok((projection.value().to_owned(), version.value()))
                })
                .collect()
        };
        Ok(read()?)
    }

    /// Records a definition, in place of an earlier one of the same projection and version, whose order it keeps; where
    /// the projection has no active version, this one becomes it.
    pub fn deploy(
        &self,
        projection: &str,
        version: u32,
        hash: &[u8; 32],
        file: &str,
        source: &str,
    ) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            let mut deployed = write.open_table(DEPLOYED)?;
            let mut order = 0;
            for row in deployed.iter()? {
                order = order.max(row?.1.value().0);
            }
            let before = deployed.get((projection, version))?.map(|row| row.value().0);
            let order = before.unwrap_or(order + 1);
            deployed.insert((projection, version), (order, hash, file, source))?;
            let mut active = write.open_table(ACTIVE)?;
            if active.get(projection)?.is_none() {
                active.insert(projection, version)?;
            }
            Ok(())
        })?)
    }

    /// The text of one deployed definition; empty if there is none.
    pub fn deployed_source(&self, projection: &str, version: u32) -> Result<String, MetaError> {
        let read = || -> Result<String, KvError> {
            let table = self.database.begin_read()?.open_table(DEPLOYED)?;
            let row = table.get((projection, version))?;
            Ok(row.map(|row| row.value().3.to_owned()).unwrap_or_default())
        };
        Ok(read()?)
    }

    /// Records the active version of a projection.
    pub fn set_active(&self, projection: &str, version: u32) -> Result<(), MetaError> {
        self.set_all_active(&[(projection, version)])
    }

    /// The same of several projections: all or none.
    pub fn set_all_active(&self, active: &[(&str, u32)]) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            let mut table = write.open_table(ACTIVE)?;
            for (projection, version) in active {
                table.insert(projection, version)?;
            }
            Ok(())
        })?)
    }

    /// Records whether the build of a version is paused.
    pub fn set_paused(&self, projection: &str, version: u32, paused: bool) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            let mut table = write.open_table(PAUSED)?;
            if paused {
                table.insert((projection, version), ())?;
            } else {
                table.remove((projection, version))?;
            }
            Ok(())
        })?)
    }

    /// All versions whose builds are paused.
    pub fn paused(&self) -> Result<BTreeSet<(String, u32)>, MetaError> {
        let read = || -> Result<BTreeSet<(String, u32)>, KvError> {
            let table = self.database.begin_read()?.open_table(PAUSED)?;
            table
                .iter()?
                .map(|row| {
                    let (key, _) = row?;
                    let (projection, version) = key.value();
                    Ok((projection.to_owned(), version))
                })
                .collect()
        };
        Ok(read()?)
    }

    /// Records what definition files want to be active, and since which position.
    pub fn set_wanted(
        &self,
        projection: &str,
        version: u32,
        hash: &[u8; 32],
        since: u64,
    ) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            write.open_table(WANTED)?.insert(projection, (version, hash, since))?;
            Ok(())
        })?)
    }

    /// Definition files want nothing to be active.
    pub fn clear_wanted(&self, projection: &str) -> Result<(), MetaError> {
        if self.wanted(projection)?.is_none() {
            return Ok(());
        }
        Ok(self.write(|write| {
            write.open_table(WANTED)?.remove(projection)?;
            Ok(())
        })?)
    }

    /// What definition files wanted to be active when they were last looked at.
    pub fn wanted(&self, projection: &str) -> Result<Option<(u32, [u8; 32], u64)>, MetaError> {
        let read = || -> Result<_, KvError> {
            let table = self.database.begin_read()?.open_table(WANTED)?;
            let row = table.get(projection)?;
            Ok(row.map(|row| {
                let (version, hash, since) = row.value();
                (version, *hash, since)
            }))
        };
        Ok(read()?)
    }

    /// Forgets a version. That it was the active one is not forgotten.
    pub fn remove(&self, projection: &str, version: u32) -> Result<(), MetaError> {
        Ok(self.write(|write| {
            write.open_table(DEPLOYED)?.remove((projection, version))?;
            write.open_table(PAUSED)?.remove((projection, version))?;
            Ok(())
        })?)
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, KvError>,
    ) -> Result<T, KvError> {
        let write = kv::begin_write(&self.database, Persistence::Durable)?;
        let changed = change(&write)?;
        write.commit()?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn what_is_deployed_survives_power_loss() {
        let sim = SimDisk::new(1);
        let path = Path::new("/d/meta.redb");
        sim.create_dir_all(Path::new("/d")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let meta = Meta::open(&disk, path).unwrap();
        meta.deploy("b", 2, &[2; 32], "b.yaml", "second").unwrap();
        meta.deploy("a", 1, &[1; 32], "a.yaml", "first").unwrap();
        meta.deploy("b", 3, &[3; 32], "b3.yaml", "third").unwrap();
        meta.deploy("b", 2, &[4; 32], "b.yaml", "second, changed").unwrap();
        for seed in 0..10 {
            let disk: Arc<dyn Disk> = Arc::new(sim.crash(seed));
            let meta = Meta::open(&disk, path).unwrap();
            assert_eq!(meta.set_aside(), None);
            let deployed = meta.deployed().unwrap();
            let found: Vec<_> =
                deployed.iter().map(|d| (d.order, &*d.projection, d.version, &*d.source)).collect();
            assert_eq!(found, [(1, "b", 2, "second, changed"), (2, "a", 1, "first"), (3, "b", 3, "third")]);
            assert_eq!(deployed[0].hash, [4; 32]);
            let active = meta.active().unwrap();
            assert_eq!(active, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_a_damaged_file_begun_anew() {
        let sim = SimDisk::new(1);
        let path = Path::new("/d/meta.redb");
        sim.create_dir_all(Path::new("/d")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let meta = Meta::open(&disk, path).unwrap();
        meta.write(|write| {
            write.open_table(FORMAT)?.insert("format", 2)?;
            Ok(())
        })
        .unwrap();
        drop(meta);
        assert!(matches!(Meta::open(&disk, path), Err(MetaError::NewerFormat { found: 2 })));
        sim.flip_bit(path, 3).unwrap();
        let meta = Meta::open(&disk, path).unwrap();
        assert!(meta.set_aside().is_some());
        assert_eq!(meta.deployed().unwrap(), []);
    }
}
