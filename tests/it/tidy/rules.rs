//! The rules of the house: tables first, then one pure function per rule.
//!
//! Does not know where sources come from.

use std::{fmt, sync::LazyLock};

use regex::Regex;

use super::scan::{code_of, line_of, paths_of};

/// The layers from the ground up. A module imports only from layers below its own.
const LAYERS: &[&[&str]] = &[
    &["limits"],
    &["event", "sabotage"],
    &["json", "clock"],
    &["disk"],
    &["log"],
    &["allocator", "metrics", "process", "trace"],
    &["follower", "lifecycle"],
    &["index", "kv", "expression"],
    &["meta", "ownership", "mapping"],
    &["events"],
    &["append"],
    &["projection"],
    &["verify"],
    &["api", "http", "mesh"],
    &["config"],
    &["telemetry"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Modules that see less than all layers below them: the module, what it may import, why.
const NARROW: &[(&str, &[&str], &str)] = &[
    ("log", &["disk", "clock", "event", "json", "limits", "sabotage"], "the log stands on the seams alone"),
    ("expression", &["event", "json", "limits"], "expressions are pure"),
    (
        "mesh",
        &[
            "append",
            "events",
            "meta",
            "kv",
            "index",
            "expression",
            "mapping",
            "ownership",
            "follower",
            "log",
            "clock",
            "disk",
            "event",
            "json",
            "limits",
            "metrics",
            "lifecycle",
            "process",
            "trace",
            "sabotage",
        ],
        "the mesh knows the log and the way into it, not projections",
    ),
    ("main", &["cli", "config", "telemetry"], "main is args, telemetry, cli"),
];

/// Paths that only some files may name: the path's beginning, the owners' files or folders, why.
const OWNERS: &[(&[&str], &[&str], &str)] = &[
    (
        &["tonic", "tonic_health", "tonic_prost", "tonic_reflection", "tonic_types", "prost_types"],
        &["src/api.rs", "src/api/", "src/cli.rs", "src/cli/", "src/telemetry/otlp.rs", "src/telemetry/otlp/"],
        "gRPC stays at the edge: turn it into the crate's own types in src/api/convert.rs",
    ),
    (
        &["prost"],
        &[
            "src/api.rs",
            "src/api/",
            "src/cli.rs",
            "src/cli/",
            "src/event.rs",
            "src/event/",
            "src/mesh/repair/pack.rs",
        ],
        "protobuf stays at the edge, in the stored form of events and in what nodes answer one another",
    ),
    (
        &["redb"],
        &["src/kv.rs", "src/kv/", "src/meta.rs", "src/meta/", "src/projection/", "src/mesh/"],
        "redb stays with those that keep documents and decisions",
    ),
    (
        &["redb::Builder", "redb::Database::create", "redb::Database::open", "redb::StorageBackend"],
        &["src/kv.rs", "src/kv/"],
        "redb files are opened by kv, which sets cache, durability and backend",
    ),
    (&["notify"], &["src/disk/watch.rs"], "one file watches directories"),
    (&["cel"], &["src/expression.rs", "src/expression/"], "the parser is a detail of expressions"),
    (
        &[
            "opentelemetry",
            "opentelemetry_otlp",
            "opentelemetry_proto",
            "opentelemetry_sdk",
            "tracing_opentelemetry",
        ],
        &["src/telemetry/otlp.rs", "src/telemetry/otlp/"],
        "spans and metrics are the crate's own values until they leave",
    ),
    (&["async_nats"], &["src/mesh/nats.rs", "src/mesh/nats/"], "NATS has one owner"),
    (
        &["nkeys"],
        &[
            "src/mesh/trust.rs",
            "src/mesh/trust/",
            "src/mesh/nats/credentials.rs",
            "src/mesh/topology.rs",
            "src/mesh/topology/",
        ],
        "keys stay with trust, and with the names of NATS users",
    ),
    (&["axum"], &["src/http.rs", "src/http/"], "HTTP has one owner"),
    (
        &["hyper", "hyper_util", "http_body_util"],
        &["src/cli/healthcheck.rs"],
        "one command asks over HTTP, everything else is gRPC",
    ),
    (&["tokio_rustls", "der"], &["src/api/tls.rs"], "TLS of the listener has one owner"),
    (&["comfy_table", "indicatif"], &["src/cli.rs", "src/cli/"], "only the command line draws for people"),
    (&["rustix::fs", "std::fs", "tokio::fs"], &["src/disk/real.rs"], "file I/O goes through the disk seam"),
    (&["rustix::process"], &["src/process.rs"], "one file speaks to the scheduler"),
    (
        &["std::env::var", "std::env::vars", "std::env::var_os", "std::env::vars_os", "std::env::set_var"],
        &["src/config.rs", "src/config/"],
        "the environment is read in config only",
    ),
    (
        &["std::time::SystemTime", "std::time::UNIX_EPOCH"],
        &["src/clock.rs"],
        "wall time comes from the clock seam",
    ),
];

/// What the log may not know of: words of events and streams.
const NOT_IN_LOG: &[&str] =
    &["StreamId", "EventType", "EventId", "Tag", "Revision", "Event", "RecordedEvent", "redb"];

const FILE_LINES_MAX: usize = 500;

/// What may stand at the top of the repository, besides files that begin with a dot.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "src",
    "proto",
    "tests",
    "benches",
    "charts",
    "examples",
    "docs",
    "fuzz",
    "Dockerfile",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
];

/// What git ignores there.
const TOP_LEVEL_IGNORED: &[&str] = &["target", "outrigger-data", "proptest-regressions"];

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    pub(crate) line: usize,
    rule: String,
    help: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.rule, self.help)
    }
}

/// All findings of one file; `file` is relative to the repository, with slashes.
pub(crate) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = check_form(file, text);
    if file.starts_with("src/") {
        let code = code_of(text);
        for path in paths_of(&code) {
            let rules =
                [import_rule(file, &path.text), owner_rule(file, &path.text), log_rule(file, &path.text)];
            findings.extend(rules.into_iter().flatten().map(|(rule, help)| Finding {
                file: file.to_owned(),
                line: path.line,
                rule,
                help,
            }));
        }
    }
    findings
}

type Broken = Option<(String, String)>;

/// Imports go one way.
fn import_rule(file: &str, path: &str) -> Broken {
    let mut names = path.split("::");
    if !matches!(names.next(), Some("crate" | "outrigger")) || file == "src/lib.rs" {
        return None;
    }
    let (from, to) = (module_of(file), names.next()?);
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    if to == from || !to.starts_with(|first: char| first.is_lowercase() || first == '*') {
        return None;
    }
    let (Some(from_layer), Some(to_layer)) = (layer(from), layer(to)) else {
        let unknown = if layer(from).is_none() { from } else { to };
        let help = format!("decide where {unknown} stands and add it to LAYERS in tests/it/tidy.rs");
        return Some((format!("{from} imports {to}, and {unknown} stands in no layer"), help));
    };
    if let Some((_, allowed, why)) = NARROW.iter().find(|(module, ..)| *module == from)
        && !allowed.contains(&to)
    {
        return Some((
            format!("{from} may not import {to}: {why}"),
            format!("{from} may import {allowed:?}"),
        ));
    }
    (to_layer >= from_layer).then(|| {
        let help = "move what both need to a layer below, or pass it in from above (app wires)";
        (format!("{from} may not import {to}: imports go down the layers only"), help.to_owned())
    })
}

/// One owner per crate.
fn owner_rule(file: &str, path: &str) -> Broken {
    let under = |start: &&str| {
        path.strip_prefix(*start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let owns = |owner: &&str| {
        if owner.ends_with('/') { file.starts_with(*owner) } else { file == *owner }
    };
    let broken = |(starts, owners, _): &&(&[&str], &[&str], &str)| {
        starts.iter().any(under) && !owners.iter().any(owns)
    };
    let (_, owners, why) = OWNERS.iter().find(broken)?;
    Some((format!("{path} may not be named here: {why}"), format!("its owners are {}", owners.join(", "))))
}

/// The log holds opaque records.
fn log_rule(file: &str, path: &str) -> Broken {
    let known =
        |name: &str| NOT_IN_LOG.contains(&name) && (path.starts_with("crate::event::") || name == "redb");
    if module_of(file) != "log" || !path.split("::").any(known) {
        return None;
    }
    let help = "records are opaque bytes to the log; do this in a follower or in append";
    Some((format!("the log may not know {path}"), help.to_owned()))
}

/// Length, header, unfinished places, silent skips.
fn check_form(file: &str, text: &str) -> Vec<Finding> {
    static UNFINISHED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:todo|unimplemented)!").expect("the pattern is valid"));
    static IGNORED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"#\[ignore\s*\]").expect("the pattern is valid"));
    static NOTE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(r"\b(?:FIX", r"ME|TO", r"DO|XX", r"X)\b")).expect("the pattern is valid")
    });
    let mut findings = Vec::new();
    let mut found = |line: usize, rule: String, help: &str| {
        findings.push(Finding { file: file.to_owned(), line, rule, help: help.to_owned() });
    };
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        let rule = format!("the file has {lines} lines, {FILE_LINES_MAX} are the most");
        found(FILE_LINES_MAX + 1, rule, "split it into rooms by what they own");
    }
    if !text.starts_with("//!") {
        let help = "say what the file owns, its invariants, and what it deliberately does not know";
        found(1, "the file does not open with a //! header".to_owned(), help);
    }
    let code = code_of(text);
    for place in UNFINISHED.find_iter(&code) {
        found(
            line_of(&code, place.start()),
            format!("{} is unfinished", place.as_str()),
            "finish it or take it out",
        );
    }
    for place in IGNORED.find_iter(&code) {
        let help = "write #[ignore = \"why, and who runs it when\"]";
        found(line_of(&code, place.start()), "a test is ignored without a reason".to_owned(), help);
    }
    for place in NOTE.find_iter(text) {
        found(line_of(text, place.start()), format!("a {} note", place.as_str()), "do it or take it out");
    }
    findings
}

pub(crate) fn check_top_level(names: &[String]) -> Vec<Finding> {
    let known =
        |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || TOP_LEVEL_IGNORED.contains(&name);
    let strangers = names.iter().filter(|name| !known(name));
    let finding = |name: &String| Finding {
        file: name.clone(),
        line: 1,
        rule: "the top level of the repository stays short".to_owned(),
        help: format!("move it under one of {TOP_LEVEL:?}"),
    };
    strangers.map(finding).collect()
}

/// The top-level module that a file of src/ belongs to: `log` for `src/log.rs` and `src/log/segment.rs`.
fn module_of(file: &str) -> &str {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.split('/').next().unwrap_or(path)
}
