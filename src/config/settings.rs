//! The keys, and the one way from texts to a `Config`.
//!
//! Owns the table of keys. A value is judged only where it wins: what a flag overrides is not looked at. Does not know
//! where a text came from beyond naming it in a problem.

use std::collections::BTreeMap;

use super::{
    Config, Grpc, Http, Limits, Log, Mesh, Otlp, Owns, Problem, Projections, Source, Telemetry, access, otlp,
    value,
};
use crate::{
    event::Invalid,
    limits::{
        BUILDS_DEFAULT, LOW_WATER_BYTES_DEFAULT, MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN, READER_STALL_DEFAULT,
    },
};

/// A setting that a file, the environment and (often) a flag can name.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted, as in the file.
    pub name: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
    /// What it is, in one line.
    pub about: &'static str,
    /// Its value is a list of texts: in the file a YAML list, elsewhere separated by commas.
    pub list: bool,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("OUTRIGGER_{}", self.name.to_uppercase().replace('.', "__"))
    }
}

const fn key(name: &'static str, flag: Option<&'static str>, about: &'static str) -> Key {
    Key { name, flag, about, list: false }
}

const fn list(name: &'static str, about: &'static str) -> Key {
    Key { name, flag: None, about, list: true }
}

/// All keys, in the order in which they are printed.
pub const KEYS: &[Key] = &[
    key("node", Some("--node"), "the node's name, a DNS label"),
    key("data_dir", Some("--data-dir"), "where the node keeps what it stores"),
    key("grpc.listen", Some("--grpc"), "address of the gRPC API"),
    key("grpc.token_file", None, "tokens that callers must present"),
    key("grpc.tls.cert_file", None, "the node's certificate"),
    key("grpc.tls.key_file", None, "the key of the node's certificate"),
    key("grpc.tls.client_ca_file", None, "who vouches for certificates that clients must present"),
    key("http.listen", Some("--http"), "address of probes and metrics"),
    key("projections.dir", None, "directory watched for projection definitions"),
    list("owns.types", "event types that clients of this node may append"),
    list("owns.streams", "streams that clients of this node may append to"),
    key("exports.dir", None, "directory watched for export definitions"),
    key("imports.dir", None, "directory watched for import definitions"),
    key("mesh.nats.url", None, "NATS servers that nodes share events over"),
    key("mesh.nats.creds_file", None, "credentials for NATS"),
    key("mesh.key_file", None, "the key that this node signs with"),
    key("mesh.trust_file", None, "the keys of nodes whose signatures are believed"),
    key("mesh.create_stream", None, "create this node's stream if it is missing"),
    key("limits.memory", None, "memory for caches, queues and builds"),
    key("limits.reader_stall", None, "how long a reader may take nothing before its call is ended"),
    key("limits.builds", None, "how many versions build at the same time"),
    key("log.low_water", None, "free disk space below which appends are refused"),
    key("log.scrub", None, "how often sealed segments are checked: off, or an interval"),
    key("telemetry.log", None, "which log lines are written"),
    key("telemetry.log_format", None, "text or json"),
    key("telemetry.otlp.endpoint", None, "collector that is sent spans and metrics over OTLP/gRPC"),
    key("telemetry.otlp.traces", None, "make and send spans"),
    key("telemetry.otlp.sample", None, "share of the traces that begin here which is recorded"),
    key("telemetry.otlp.metrics_interval", None, "how often metrics are sent: off, or an interval"),
    key("restore.epoch", None, "counts restores of the volume from a snapshot"),
    key("dev", Some("--dev"), "rebuild a definition that is changed in place"),
];

/// The values that somebody named, by key; a later one replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, (String, Source)>);

impl Given {
    pub(super) fn set(&mut self, name: &str, text: String, source: Source) {
        let known = KEYS.iter().find(|key| key.name == name);
        let key = known.expect("callers name keys of the table");
        self.0.insert(key.name, (text, source));
    }

    /// The checked settings; where a value is wrong, a problem is added and the default stands in.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) -> Config {
        let defaults = Config::default();
        let mut checked = Checked { given: self, problems };
        let config = Config {
            node: checked.or("node", defaults.node, value::dns_label),
            data_dir: checked.or("data_dir", defaults.data_dir, value::path),
            grpc: Grpc {
                listen: checked.or("grpc.listen", defaults.grpc.listen, value::listen),
                token_file: checked.optional("grpc.token_file", value::path),
                tls: access::tls(&mut checked),
            },
            http: Http { listen: checked.or("http.listen", defaults.http.listen, value::address) },
            projections: Projections {
                dir: checked.optional("projections.dir", value::path),
                paths: Vec::new(),
            },
            owns: Owns {
                types: checked.optional("owns.types", value::patterns),
                streams: checked.optional("owns.streams", value::patterns),
            },
            exports_dir: checked.optional("exports.dir", value::path),
            imports_dir: checked.optional("imports.dir", value::path),
            mesh: Mesh {
                nats_url: checked.optional("mesh.nats.url", value::nats_url),
                nats_creds_file: checked.optional("mesh.nats.creds_file", value::path),
                key_file: checked.optional("mesh.key_file", value::path),
                trust_file: checked.optional("mesh.trust_file", value::path),
                create_stream: checked.or("mesh.create_stream", false, value::boolean),
            },
            limits: Limits {
                memory_bytes: checked.or("limits.memory", MEMORY_BYTES_DEFAULT, |text| {
                    value::bytes_at_least(text, MEMORY_BYTES_MIN)
                }),
                reader_stall: checked.or("limits.reader_stall", READER_STALL_DEFAULT, value::duration),
                builds: checked.or("limits.builds", BUILDS_DEFAULT, value::builds),
            },
            log: Log {
                low_water_bytes: checked.or("log.low_water", LOW_WATER_BYTES_DEFAULT, value::bytes),
                scrub: checked.or("log.scrub", defaults.log.scrub, value::scrub),
            },
            telemetry: Telemetry {
                log: checked.or("telemetry.log", defaults.telemetry.log, value::log_filter),
                log_format: checked.or(
                    "telemetry.log_format",
                    defaults.telemetry.log_format,
                    value::log_format,
                ),
                otlp: checked.otlp(),
            },
            restore_epoch: checked.or("restore.epoch", 0, value::number),
            dev: checked.or("dev", false, value::boolean),
        };
        access::check(self, &config, problems);
        self.check_mesh(&config, problems);
        config
    }

    /// What is shared must be signed, and what is taken over must be vouched for. With `dev` the node makes its key itself.
    fn check_mesh(&self, config: &Config, problems: &mut Vec<Problem>) {
        let needs = [
            (
                "exports.dir",
                "mesh.key_file",
                "events are published under a signature: create a key with `outrigger mesh keygen`",
            ),
            (
                "imports.dir",
                "mesh.trust_file",
                "events are taken over only under signatures that a file of trusted keys vouches for",
            ),
        ];
        if config.mesh.nats_url.is_none() {
            return;
        }
        for (key, needed, why) in needs {
            if config.dev && needed == "mesh.key_file" {
                continue;
            }
            if self.0.contains_key(key) && !self.0.contains_key(needed) {
                let message = format!("{key} needs {needed}: {why}");
                problems.push(Problem { source_of_value: self.source(key), message });
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn source(&self, name: &str) -> Source {
        self.0.get(name).map_or(Source::Default, |(_, source)| source.clone())
    }

    /// The text of every key and where it comes from.
    pub(super) fn effective(&self) -> Vec<(&'static Key, Option<String>, Source)> {
        let one = |key: &'static Key| match self.0.get(key.name) {
            Some((text, source)) => (key, Some(text.clone()), source.clone()),
            None => (key, default_text(key.name), Source::Default),
        };
        KEYS.iter().map(one).collect()
    }
}

fn default_text(name: &str) -> Option<String> {
    let config = Config::default();
    Some(match name {
        "node" => config.node,
        "data_dir" => config.data_dir.display().to_string(),
        "grpc.listen" => config.grpc.listen.to_string(),
        "http.listen" => config.http.listen.to_string(),
        "limits.memory" => value::bytes_text(config.limits.memory_bytes),
        "limits.reader_stall" => value::duration_text(config.limits.reader_stall),
        "limits.builds" => config.limits.builds.to_string(),
        "log.low_water" => value::bytes_text(config.log.low_water_bytes),
        "log.scrub" => value::scrub_text(config.log.scrub),
        "telemetry.log" => config.telemetry.log,
        "telemetry.log_format" => "text".into(),
        "restore.epoch" => config.restore_epoch.to_string(),
        "telemetry.otlp.traces" => "true".into(),
        "telemetry.otlp.sample" => "1".into(),
        "telemetry.otlp.metrics_interval" => {
            config.telemetry.otlp.metrics_interval.map(value::duration_text)?
        }
        "dev" | "mesh.create_stream" => "false".into(),
        _ => return None,
    })
}

pub(super) struct Checked<'a> {
    given: &'a Given,
    problems: &'a mut Vec<Problem>,
}

impl Checked<'_> {
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let (text, source) = self.given.0.get(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(Invalid(reason)) => {
                self.problems
                    .push(Problem { source_of_value: source.clone(), message: format!("{name}: {reason}") });
                None
            }
        }
    }

    fn otlp(&mut self) -> Otlp {
        let defaults = Otlp::default();
        Otlp {
            endpoint: self.optional("telemetry.otlp.endpoint", otlp::endpoint),
            traces: self.or("telemetry.otlp.traces", defaults.traces, value::boolean),
            sample_ppm: self.or("telemetry.otlp.sample", defaults.sample_ppm, otlp::sample),
            metrics_interval: self.or(
                "telemetry.otlp.metrics_interval",
                defaults.metrics_interval,
                otlp::metrics_interval,
            ),
        }
    }

    fn or<T>(&mut self, name: &str, default: T, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> T {
        self.optional(name, parse).unwrap_or(default)
    }
}
