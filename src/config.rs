//! The settings of a node: flag over environment over file over default, checked all at once.
//!
//! Owns every key, its default and what its values must look like, and is the one place that reads the environment.
//! All problems are found in one go, each with the place it comes from. Whoever holds a `Config` need not check it
//! again. Does not know what the settings are used for, and opens nothing but the configuration file itself.

use std::{fmt, io, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use crate::{
    disk::{self, Disk},
    limits::{
        BUILDS_DEFAULT, CONFIG_BYTES_MAX, LOW_WATER_BYTES_DEFAULT, MEMORY_BYTES_DEFAULT,
        READER_STALL_DEFAULT, SCRUB_INTERVAL_DEFAULT,
    },
    ownership::Pattern,
};

mod access;
mod environment;
mod file;
mod otlp;
mod settings;
pub mod value;

pub use environment::{ClientDefaults, Environment};
pub use otlp::Otlp;
use settings::Given;
pub use settings::{KEYS, Key};

/// A node's settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name: a DNS label.
    pub node: String,
    /// Where the node keeps everything it stores.
    pub data_dir: PathBuf,
    /// The gRPC API.
    pub grpc: Grpc,
    /// Probes and metrics.
    pub http: Http,
    /// Where projection definitions come from.
    pub projections: Projections,
    /// What the node owns.
    pub owns: Owns,
    /// The directory that is watched for export definitions.
    pub exports_dir: Option<PathBuf>,
    /// The directory that is watched for import definitions.
    pub imports_dir: Option<PathBuf>,
    /// How events are shared.
    pub mesh: Mesh,
    /// What the process may use.
    pub limits: Limits,
    /// The event log.
    pub log: Log,
    /// What the process says about itself.
    pub telemetry: Telemetry,
    /// Counts restores of the volume: a number above the one that the data directory has makes its log a restored one, once.
    pub restore_epoch: u64,
    /// A definition that is changed in place is rebuilt in place instead of being refused.
    pub dev: bool,
}

/// The gRPC API's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Where it listens.
    pub listen: Listen,
    /// The file of tokens that callers must present. None: no token is asked for.
    pub token_file: Option<PathBuf>,
    /// How connections are encrypted. None: they are not.
    pub tls: Option<Tls>,
}

/// Where the gRPC API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes any free port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The files of TLS, each in PEM form and read again when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The node's certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who vouches for clients. None: clients need no certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// The settings of probes and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it listens; port 0 takes any free port.
    pub listen: SocketAddr,
}

/// Where projection definitions come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Projections {
    /// The directory that is watched for definitions.
    pub dir: Option<PathBuf>,
    /// Further files and directories, in the order of the command line.
    pub paths: Vec<PathBuf>,
}

/// What clients of the node may append. None: everything that is not imported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owns {
    /// Event types.
    pub types: Option<Vec<Pattern>>,
    /// Streams.
    pub streams: Option<Vec<Pattern>>,
}

/// How events are shared with other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mesh {
    /// The servers, separated by commas. None: nothing is shared.
    pub nats_url: Option<String>,
    /// Credentials for them.
    pub nats_creds_file: Option<PathBuf>,
    /// The key that this node signs with.
    pub key_file: Option<PathBuf>,
    /// The keys of nodes whose signatures are believed.
    pub trust_file: Option<PathBuf>,
    /// The node creates its own stream if it is missing.
    pub create_stream: bool,
}

/// What the process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all caches, queues and builds share.
    pub memory_bytes: u64,
    /// How long a message may wait for a reader that takes none.
    pub reader_stall: Duration,
    /// How many versions build at the same time.
    pub builds: usize,
}

/// The event log's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Appends are refused while the disk has less free than this many bytes.
    pub low_water_bytes: u64,
    /// How often sealed segments are read and checked in the background; `None`: never.
    pub scrub: Option<Duration>,
}

/// What the process says about itself: on stderr, and to a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// A filter of `tracing`: `info`, or `warn,outrigger::log=debug`.
    pub log: String,
    /// How a line looks.
    pub log_format: LogFormat,
    /// What a collector is sent.
    pub otlp: Otlp,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "local".into(),
            data_dir: "./outrigger-data".into(),
            grpc: Grpc {
                listen: SocketAddr::from(([127, 0, 0, 1], 7400)).into(),
                token_file: None,
                tls: None,
            },
            http: Http { listen: SocketAddr::from(([0, 0, 0, 0], 7480)) },
            projections: Projections::default(),
            owns: Owns::default(),
            exports_dir: None,
            imports_dir: None,
            mesh: Mesh::default(),
            limits: Limits {
                memory_bytes: MEMORY_BYTES_DEFAULT,
                reader_stall: READER_STALL_DEFAULT,
                builds: BUILDS_DEFAULT,
            },
            log: Log { low_water_bytes: LOW_WATER_BYTES_DEFAULT, scrub: Some(SCRUB_INTERVAL_DEFAULT) },
            telemetry: Telemetry { log: "info".into(), log_format: LogFormat::Text, otlp: Otlp::default() },
            restore_epoch: 0,
            dev: false,
        }
    }
}

/// What the command line says: values by their key, as texts.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`: the file to read.
    pub config_file: Option<PathBuf>,
    /// (key, flag as typed, value).
    pub values: Vec<(&'static str, &'static str, String)>,
    /// `--projection`, in order.
    pub projections: Vec<PathBuf>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody named one.
    Default,
    /// A line and column, from 1, of the configuration file.
    File {
        /// The file as it was named.
        file: String,
        /// From 1.
        line: u64,
        /// From 1, in characters.
        column: u64,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_of_value}: {message}")]
pub struct Problem {
    /// Where the value comes from.
    pub source_of_value: Source,
    /// What is wrong, what was expected and what to do.
    pub message: String,
}

/// The settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.one_line())]
pub struct ConfigError {
    /// All that is wrong, in order of the keys; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    fn one_line(&self) -> String {
        let all: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        all.join("; ")
    }

    /// Whether every problem was typed on the command line.
    pub fn is_usage(&self) -> bool {
        self.problems.iter().all(|problem| matches!(problem.source_of_value, Source::Flag(_)))
    }
}

/// The settings and where they come from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What the environment holds and no key explains.
    pub warnings: Vec<String>,
    /// By key, in order of `KEYS`: the value's text, none where the key has no default and nobody named it.
    pub effective: Vec<(&'static Key, Option<String>, Source)>,
}

/// Reads, merges and checks all settings.
pub fn load(flags: &Flags, environment: &Environment, disk: &dyn Disk) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut given = Given::default();
    if let Some(path) = &flags.config_file {
        match read(disk, path) {
            Ok(text) => file::read(&path.display().to_string(), &text, &mut given, &mut problems),
            Err(message) => problems.push(Problem { source_of_value: Source::Flag("--config"), message }),
        }
    }
    let warnings = environment.add_to(&mut given);
    for (key, flag, value) in &flags.values {
        given.set(key, value.clone(), Source::Flag(flag));
    }
    let mut config = given.check(&mut problems);
    config.projections.paths.clone_from(&flags.projections);
    if problems.is_empty() {
        Ok(Loaded { config, warnings, effective: given.effective() })
    } else {
        Err(ConfigError { problems })
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<String, String> {
    let bytes = disk::read_file(disk, path, CONFIG_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {}; name one that exists", path.display()),
        _ => format!("cannot read {}: {error}", path.display()),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "{} is not UTF-8 text (byte {}); expected YAML",
            path.display(),
            error.utf8_error().valid_up_to()
        )
    })
}

#[cfg(test)]
mod tests;
