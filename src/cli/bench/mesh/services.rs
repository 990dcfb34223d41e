//! What `bench mesh` measures: a broker and two nodes, each a process of its own, in a directory that ends with this value.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    cli::{
        bench::{process, run::Server},
        error::CliError,
    },
    disk::{self, Disk as _, real::RealDisk},
    mesh::trust::SigningKey,
};

/// The node whose events are shared.
pub(super) const OWNER: &str = "owner";
/// The node that takes them over.
pub(super) const IMPORTER: &str = "importer";
const EXPORT: &[u8] = b"export: flights
version: 1
importers: [importer]
events:
  flight.scheduled: {data: all}
  flight.departed: {data: all}
  flight.arrived: {data: all}
  flight.cancelled: {data: all}
";
const IMPORT: &[u8] = b"import: flights
from: {node: owner, export: flights, version: 1}
streams: 'flights/*'
";
/// The largest event and its headers.
const NATS_CONFIG: &[u8] = b"max_payload: 2MB\n";
/// How long the broker may take to listen.
const NATS_START_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// A broker and two nodes. The broker outlives the nodes.
#[derive(Debug)]
pub(super) struct Services {
    nodes: Vec<Child>,
    broker: Child,
    /// Where the broker is.
    pub(super) url: String,
    dir: TempDir,
}

impl Services {
    /// Starts a broker in a new directory below `parent`.
    pub(super) async fn start(parent: &Path, program: &Path) -> Result<Self, CliError> {
        let unusable = |error: io::Error| {
            CliError::failed(format!("cannot write in {}: {error}; choose another --dir", parent.display()))
        };
        let dir = tempfile::Builder::new().prefix("outrigger-bench-").tempdir_in(parent).map_err(unusable)?;
        let at = |name: &str| dir.path().join(name);
        for folder in ["exports", "imports", "definitions"] {
            RealDisk.create_dir_all(&at(folder)).map_err(unusable)?;
        }
        let key = SigningKey::generate();
        RealDisk.create_private(&at("owner.nk"), key.seed().as_bytes()).map_err(unusable)?;
        let trust = format!("{OWNER}: [{{key: {}}}]\n", key.public());
        disk::replace_file(&RealDisk, &at("trust.yaml"), trust.as_bytes()).map_err(unusable)?;
        disk::replace_file(&RealDisk, &at("nats.conf"), NATS_CONFIG).map_err(unusable)?;
        let mut command = Command::new(program);
        command.args(["-js", "-a", "127.0.0.1", "-p", "-1", "-c"]).arg(at("nats.conf"));
        command.arg("-sd").arg(at("nats")).arg("--ports_file_dir").arg(dir.path());
        let broker = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let broker = broker.map_err(|error| {
            let program = program.display();
            CliError::failed(format!(
                "cannot start {program}: {error}; --nats-server names nats-server 2.12 or newer"
            ))
        })?;
        let mut services = Self { nodes: Vec::new(), broker, url: String::new(), dir };
        services.url = services.listening().await?;
        Ok(services)
    }

    /// Where the broker says that it listens.
    async fn listening(&mut self) -> Result<String, CliError> {
        let file = self.dir.path().join(format!("nats-server_{}.ports", self.broker.id()));
        let begun = Instant::now();
        while begun.elapsed() < NATS_START_MAX {
            let text = disk::read_file(&RealDisk, &file, 1 << 16).unwrap_or_default();
            let ports: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(url) = ports["nats"][0].as_str() {
                return Ok(url.to_owned());
            }
            if let Ok(Some(status)) = self.broker.try_wait() {
                return Err(CliError::failed(format!("nats-server has ended: {status}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(CliError::failed(format!("nats-server does not listen after {NATS_START_MAX:?}")))
    }

    /// Starts the node whose events are shared; it exports nothing before `share`.
    pub(super) fn owner(&mut self) -> Result<Server, CliError> {
        let (exports, key) = (self.path("exports"), self.path("owner.nk"));
        self.node(OWNER, |command| {
            command
                .env("OUTRIGGER_EXPORTS__DIR", exports)
                .env("OUTRIGGER_MESH__KEY_FILE", key)
                .env("OUTRIGGER_MESH__CREATE_STREAM", "true")
        })
    }

    /// Starts the node that takes them over, with a projection; it imports nothing before `share`.
    pub(super) fn importer(&mut self, definition: &str) -> Result<Server, CliError> {
        let (imports, definitions) = (self.path("imports"), self.path("definitions"));
        write(&definitions.join("bench.yaml"), definition.as_bytes())?;
        self.node(IMPORTER, |command| {
            command.env("OUTRIGGER_IMPORTS__DIR", imports).arg("--projection").arg(definitions)
        })
    }

    /// Deploys the export, or the import.
    pub(super) fn share(&self, node: &str) -> Result<(), CliError> {
        match node {
            OWNER => write(&self.path("exports").join("flights-v1.yaml"), EXPORT),
            _ => write(&self.path("imports").join("flights.yaml"), IMPORT),
        }
    }

    fn node(
        &mut self,
        name: &str,
        configure: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Server, CliError> {
        let (data, trust, url) = (self.path(name), self.path("trust.yaml"), self.url.clone());
        let (child, server) = process::serve(&format!("cannot start the node {name}"), |command| {
            configure(command.args(["--node", name]).arg("--data-dir").arg(data))
                .env("OUTRIGGER_MESH__NATS__URL", url)
                .env("OUTRIGGER_MESH__TRUST_FILE", trust)
        })?;
        self.nodes.push(child);
        Ok(server)
    }

    /// The broker's process.
    pub(super) fn broker(&self) -> u32 {
        self.broker.id()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    disk::replace_file(&RealDisk, path, bytes)
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
}

impl Drop for Services {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().chain([&mut self.broker]) {
            let ended = child.kill().and_then(|()| child.wait());
            tracing::debug!(?ended, "a process of the bench has ended");
        }
    }
}
