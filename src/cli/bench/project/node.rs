//! The node that `bench project` measures: a process of its own in a directory of its own, which ends with this value.

use std::{path::PathBuf, process::Child, time::Duration};

use tempfile::TempDir;

use crate::{
    cli::{
        bench::{process, run::Server},
        error::CliError,
    },
    disk::{self, Disk as _, real::RealDisk},
    projection::definition::Definition,
};

/// A file whose size is the same so often in a row is taken to be written.
const SETTLED_LOOKS: u32 = 5;
const SETTLED_LOOK: Duration = Duration::from_millis(200);

/// A served node, its log empty at first, that watches a directory of definitions.
#[derive(Debug)]
pub(super) struct ServedNode {
    child: Child,
    dir: TempDir,
    /// How to talk to it, and its process.
    pub(super) server: Server,
}

impl ServedNode {
    /// Starts this program as a node in a new directory below `parent`.
    pub(super) fn start(parent: &std::path::Path) -> Result<Self, CliError> {
        let failed = |error: &dyn std::fmt::Display| {
            CliError::failed(format!(
                "cannot start a node in {}: {error}; choose another --dir",
                parent.display()
            ))
        };
        let dir = tempfile::Builder::new().prefix("outrigger-bench-").tempdir_in(parent);
        let dir = dir.map_err(|error| failed(&error))?;
        let definitions = dir.path().join("definitions");
        RealDisk.create_dir_all(&definitions).map_err(|error| failed(&error))?;
        let what = format!("cannot start a node in {}", parent.display());
        let (child, server) = process::serve(&what, |command| {
            command
                .args(["--node", "bench", "--data-dir"])
                .arg(dir.path().join("data"))
                .arg("--projection")
                .arg(definitions)
        })?;
        Ok(Self { child, dir, server })
    }

    /// Puts a definition where the node looks for them.
    pub(super) fn deploy(&self, definition: &str) -> Result<(), CliError> {
        let path = self.dir.path().join("definitions").join("bench.yaml");
        disk::replace_file(&RealDisk, &path, definition.as_bytes())
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
    }

    /// The bytes that the file of a version takes on the disk.
    pub(super) fn version_bytes(&self, projection: &str, version: u32) -> Result<u64, CliError> {
        let path = self.version_path(projection, version);
        RealDisk
            .allocated_bytes(&path)
            .map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))
    }

    /// Waits until everything that a version has written has its place on the disk.
    pub(super) async fn settle(&self, definition: &Definition) -> Result<(), CliError> {
        let (mut before, mut looks) = (0, 0);
        while looks < SETTLED_LOOKS {
            tokio::time::sleep(SETTLED_LOOK).await;
            let bytes = self.version_bytes(definition.name(), definition.version())?;
            looks = if bytes == before { looks + 1 } else { 0 };
            before = bytes;
        }
        Ok(())
    }

    fn version_path(&self, projection: &str, version: u32) -> PathBuf {
        self.dir.path().join("data/projections").join(format!("{projection}-v{version}.redb"))
    }
}

impl Drop for ServedNode {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        tracing::debug!(?ended, "the node of the bench has ended");
    }
}
