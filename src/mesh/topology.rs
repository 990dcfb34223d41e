//! The topology: which nodes there are, by which keys NATS knows them, who imports from whom.
//!
//! Owns the file `mesh.yaml` and what follows from it for a NATS server. Invariants: everything that is wrong with a
//! file is said at once, with line and column; a key belongs to one node. Does not talk to a server.

mod server_config;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::nats::StreamSize;

/// Bytes of a topology file.
pub const TOPOLOGY_BYTES_MAX: usize = 1 << 20;
/// Bytes that a node's stream keeps where the topology does not say.
const STREAM_BYTES_DEFAULT: u64 = 1 << 30;
/// Bytes of a node's name, as of a DNS label.
const NODE_NAME_BYTES_MAX: usize = 63;

/// Who takes part in a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Public keys of those who may make and change streams.
    pub operator_keys: Vec<String>,
    /// Servers that keep a copy of each stream.
    pub replicas: u32,
    /// The nodes by name.
    pub nodes: BTreeMap<String, Node>,
}

/// One node of a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Public keys under which it may connect; several while one replaces another.
    pub nats_keys: Vec<String>,
    /// Bytes that its stream keeps.
    pub bytes_max: u64,
    /// The nodes whose exports it may read.
    pub imports: Vec<String>,
}

/// Something that is wrong with a topology file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyProblem {
    /// From 1; 0 if unknown.
    pub line: u64,
    /// From 1; 0 if unknown.
    pub column: u64,
    /// Which key, what was expected, what was found.
    pub message: String,
}

impl fmt::Display for TopologyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// A mapping of the file, with the place of each value.
type Fields = BTreeMap<String, Spanned<Value>>;

impl Topology {
    /// Reads a file, or says all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<TopologyProblem>> {
        let mut reading = Reading { problems: Vec::new(), keys: BTreeMap::new() };
        let topology = reading.file(text);
        reading.problems.sort_by_key(|problem| (problem.line, problem.column));
        match topology {
            Some(topology) if reading.problems.is_empty() => Ok(topology),
            _ => Err(reading.problems),
        }
    }

    /// The nodes that import from this one.
    pub fn importers<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> {
        let imports = move |node: &Node| node.imports.iter().any(|import| import == owner);
        self.nodes.iter().filter(move |(_, node)| imports(node)).map(|(name, _)| name.as_str())
    }

    /// The stream of each node.
    pub fn streams(&self) -> Vec<(String, StreamSize)> {
        let size = |node: &Node| StreamSize { bytes_max: Some(node.bytes_max), replicas: self.replicas };
        self.nodes.iter().map(|(name, node)| (name.clone(), size(node))).collect()
    }

    /// The part of a NATS server's configuration that makes the server itself refuse what a node must not do.
    pub fn server_config(&self) -> String {
        server_config::write(self)
    }
}

struct Reading {
    problems: Vec<TopologyProblem>,
    /// Whose each key is.
    keys: BTreeMap<String, String>,
}

impl Reading {
    fn file(&mut self, text: &str) -> Option<Topology> {
        let parsed = serde_saphyr::from_str::<BTreeMap<String, Spanned<Value>>>(text);
        let fields = parsed.map_err(|error| self.yaml(&error)).ok()?;
        self.unknown(&fields, "", &["operator", "replicas", "nodes"]);
        let operator_keys = match fields.get("operator") {
            Some(operator) => self.operator(operator),
            None => self.missing("operator: {nats_key: U...}"),
        };
        let replicas = match fields.get("replicas") {
            Some(replicas) => self.replicas(replicas),
            None => 1,
        };
        let nodes = self.nodes(text, fields.get("nodes"));
        for (name, (node, at)) in &nodes {
            for import in &node.imports {
                if import == name {
                    self.say(*at, format!("nodes.{name}.imports: a node does not import from itself"));
                } else if !nodes.contains_key(import) {
                    self.say(*at, format!("nodes.{name}.imports: there is no node {import:?} in this file"));
                }
            }
        }
        let nodes = nodes.into_iter().map(|(name, (node, _))| (name, node)).collect();
        Some(Topology { operator_keys, replicas, nodes })
    }

    fn operator(&mut self, operator: &Spanned<Value>) -> Vec<String> {
        let Some(fields) = operator.value.as_object() else {
            self.say(
                operator.referenced,
                format!("operator: expected nats_key: U..., found {}", operator.value),
            );
            return Vec::new();
        };
        for name in fields.keys().filter(|name| *name != "nats_key") {
            self.say(operator.referenced, format!("operator.{name}: unknown key; expected nats_key"));
        }
        self.nats_keys("operator", operator.referenced, fields.get("nats_key"))
    }

    fn replicas(&mut self, replicas: &Spanned<Value>) -> u32 {
        if let Some(count @ (1 | 3 | 5)) = replicas.value.as_u64() {
            return count as u32;
        }
        self.say(replicas.referenced, format!("replicas: expected 1, 3 or 5, found {}", replicas.value));
        1
    }

    fn nodes(&mut self, text: &str, nodes: Option<&Spanned<Value>>) -> BTreeMap<String, (Node, Location)> {
        /// The same file, with the place of each node.
        #[derive(serde::Deserialize)]
        struct Places {
            nodes: BTreeMap<String, Spanned<Value>>,
        }
        if nodes.is_none() {
            return self.missing("nodes: {NAME: {nats_key: U...}}");
        }
        let Ok(places) = serde_saphyr::from_str::<Places>(text) else {
            let at = nodes.map_or(Location::UNKNOWN, |nodes| nodes.referenced);
            self.say(at, "nodes: expected names, each with nats_key, max_bytes and imports".to_owned());
            return BTreeMap::new();
        };
        let read = |(name, value): (String, Spanned<Value>)| {
            let at = value.referenced;
            (name.clone(), (self.node(&name, at, &value.value), at))
        };
        places.nodes.into_iter().map(read).collect()
    }

    fn node(&mut self, name: &str, at: Location, value: &Value) -> Node {
        let path = format!("nodes.{name}");
        if !is_dns_label(name) {
            let expected = "expected a DNS label (1 to 63 of a-z, 0-9 and -, no - at either end)";
            self.say(at, format!("nodes: {expected}, found {name:?}"));
        }
        let empty = serde_json::Map::new();
        let fields = value.as_object().unwrap_or_else(|| {
            self.say(at, format!("{path}: expected nats_key, max_bytes and imports, found {value}"));
            &empty
        });
        for field in
            fields.keys().filter(|field| !["nats_key", "max_bytes", "imports"].contains(&field.as_str()))
        {
            self.say(at, format!("{path}.{field}: unknown key; expected nats_key, max_bytes or imports"));
        }
        let nats_keys = self.nats_keys(&path, at, fields.get("nats_key"));
        let bytes_max = fields.get("max_bytes").map_or(STREAM_BYTES_DEFAULT, |found| {
            bytes(found).unwrap_or_else(|| {
                self.say(
                    at,
                    format!("{path}.max_bytes: expected bytes such as 512Mi or 10Gi, found {found}"),
                );
                STREAM_BYTES_DEFAULT
            })
        });
        let mut imports: Vec<String> = fields.get("imports").map_or_else(Vec::new, |found| {
            texts(found).unwrap_or_else(|| {
                self.say(at, format!("{path}.imports: expected a list of nodes, found {found}"));
                Vec::new()
            })
        });
        imports.sort();
        imports.dedup();
        Node { nats_keys, bytes_max, imports }
    }

    /// One key, or a list of some.
    fn nats_keys(&mut self, path: &str, at: Location, found: Option<&Value>) -> Vec<String> {
        let keys = match found {
            Some(Value::String(key)) => Some(vec![key.clone()]),
            Some(list) => texts(list).filter(|keys| !keys.is_empty()),
            None => None,
        };
        let Some(mut keys) = keys else {
            let found = found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            self.say(
                at,
                format!("{path}.nats_key: expected a public user key U... or a list of them, found {found}"),
            );
            return Vec::new();
        };
        keys.sort();
        keys.dedup();
        for key in &keys {
            let is_user = key.starts_with('U') && nkeys::KeyPair::from_public_key(key).is_ok();
            if !is_user {
                // A seed in the place of a key must not be repeated on a terminal.
                let found = if key.starts_with('S') { "a seed, which is a secret" } else { key };
                self.say(
                    at,
                    format!(
                        "{path}.nats_key: expected a public user key (U and 55 characters), found {found}"
                    ),
                );
            } else if let Some(other) = self.keys.insert(key.clone(), path.to_owned()) {
                self.say(
                    at,
                    format!("{path}.nats_key: {key} is the key of {other} too; every user has its own"),
                );
            }
        }
        keys
    }

    fn unknown(&mut self, fields: &Fields, path: &str, known: &[&str]) {
        for (name, value) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let expected = known.join(", ");
            self.say(value.referenced, format!("{path}{name}: unknown key; expected one of {expected}"));
        }
    }

    fn missing<T: Default>(&mut self, what: &str) -> T {
        self.say(Location::UNKNOWN, format!("expected {what}, found none"));
        T::default()
    }

    fn yaml(&mut self, error: &serde_saphyr::Error) {
        let message = error.without_snippet().to_string();
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        self.say(error.location().unwrap_or(Location::UNKNOWN), format!("expected YAML: {line}"));
    }

    fn say(&mut self, at: Location, message: String) {
        self.problems.push(TopologyProblem { line: at.line(), column: at.column(), message });
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= NODE_NAME_BYTES_MAX
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A count of bytes, plain or with a binary unit, above 0.
fn bytes(found: &Value) -> Option<u64> {
    if let Some(count) = found.as_u64() {
        return Some(count).filter(|count| *count > 0);
    }
    let text = found.as_str()?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "" | "B" => 1,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        "Ti" | "TiB" => 1_u64 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit).filter(|count| *count > 0)
}

fn texts(found: &Value) -> Option<Vec<String>> {
    found.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}
