//! What settings come out of which flags, variables and files.

use std::path::Path;

use super::*;
use crate::disk::sim::SimDisk;

const FILE: &str = "/etc/outrigger/config.yaml";

/// A disk that holds the configuration file.
fn disk_with(text: &str) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/etc/outrigger")).unwrap();
    disk::replace_file(&disk, Path::new(FILE), text.as_bytes()).unwrap();
    disk
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn flags(values: &[(&'static str, &'static str, &str)]) -> Flags {
    let owned = |(key, flag, value): &(&'static str, &'static str, &str)| (*key, *flag, (*value).to_owned());
    Flags {
        config_file: Some(FILE.into()),
        values: values.iter().map(owned).collect(),
        projections: Vec::new(),
    }
}

fn loaded(file: &str, variables: &[(&str, &str)]) -> Loaded {
    load(&flags(&[]), &environment(variables), &disk_with(file)).unwrap()
}

fn check_problems(file: &str, expected: &[&str]) {
    let error = load(&flags(&[]), &Environment::default(), &disk_with(file)).unwrap_err();
    let actual: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    let same = actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, e)| a.contains(e));
    assert!(same, "expected {expected:#?}, found {actual:#?}");
}

#[test]
fn nothing_given_means_the_defaults() {
    let nothing = load(&Flags::default(), &Environment::default(), &disk_with("")).unwrap();
    assert_eq!(nothing.config, Config::default());
    assert_eq!(loaded("# only a comment\n", &[]).config, Config::default());
}

#[test]
fn the_effective_texts_of_the_defaults_are_the_defaults() {
    let mut given = Given::default();
    for (key, text, _) in Given::default().effective() {
        if let Some(text) = text {
            given.set(key.name, text, Source::Default);
        }
    }
    let mut problems = Vec::new();
    assert_eq!(given.check(&mut problems), Config::default());
    assert_eq!(problems, []);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "node: from-file\ndata_dir: /file\ngrpc:\n  listen: 127.0.0.1:1\n";
    let variables =
        environment(&[("OUTRIGGER_NODE", "from-environment"), ("OUTRIGGER_GRPC__LISTEN", "127.0.0.1:2")]);
    let flags = flags(&[("node", "--node", "from-flag")]);
    let loaded = load(&flags, &variables, &disk_with(file)).unwrap();
    assert_eq!(loaded.config.node, "from-flag");
    assert_eq!(loaded.config.grpc.listen.to_string(), "127.0.0.1:2");
    assert_eq!(loaded.config.data_dir, Path::new("/file"));
    let source = |name: &str| {
        let found = loaded.effective.iter().find(|(key, ..)| key.name == name);
        found.unwrap().2.to_string()
    };
    assert_eq!(source("node"), "--node");
    assert_eq!(source("grpc.listen"), "OUTRIGGER_GRPC__LISTEN");
    assert_eq!(source("data_dir"), "/etc/outrigger/config.yaml:2:11");
    assert_eq!(source("dev"), "default");
}

#[test]
fn every_key_can_stand_in_the_file() {
    let config = loaded(
        "node: n\ndata_dir: d\ngrpc: {listen: '0.0.0.0:1', token_file: t}\nhttp: {listen: '127.0.0.1:3'}\n\
         projections: {dir: p}\nlimits: {memory: 1GiB}\nlog: {low_water: 5MB}\n\
         telemetry: {log: debug, log_format: json}\ndev: true\nrestore: {epoch: 3}\n\
         owns: {types: [flight.*, 'a,b'], streams: []}\nexports: {dir: e}\nimports: {dir: i}\n\
         mesh: {nats: {url: 'nats://a:4222,tls://b', creds_file: c}, key_file: k, trust_file: t, create_stream: true}\n",
        &[],
    )
    .config;
    assert_eq!(config.limits.memory_bytes, 1 << 30);
    assert_eq!(config.log.low_water_bytes, 5_000_000);
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.projections.dir.as_deref(), Some(Path::new("p")));
    assert!(config.dev);
    assert_eq!(config.restore_epoch, 3);
    let shown = |patterns: &Option<Vec<Pattern>>| {
        patterns.as_ref().map(|patterns| patterns.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(shown(&config.owns.types), Some(vec!["flight.*".into(), "a,b".into()]));
    assert_eq!(shown(&config.owns.streams), Some(Vec::new()));
    assert_eq!(config.exports_dir.as_deref(), Some(Path::new("e")));
    assert_eq!(config.imports_dir.as_deref(), Some(Path::new("i")));
    let mesh = Mesh {
        nats_url: Some("nats://a:4222,tls://b".into()),
        nats_creds_file: Some("c".into()),
        key_file: Some("k".into()),
        trust_file: Some("t".into()),
        create_stream: true,
    };
    assert_eq!(config.mesh, mesh);
}

#[test]
fn lists_are_yaml_lists_in_the_file_and_have_commas_elsewhere() {
    let variables =
        [("OUTRIGGER_OWNS__TYPES", " flight.*, weather.observed"), ("OUTRIGGER_OWNS__STREAMS", "[\"a,b\"]")];
    let owns = loaded("owns: {types: [x]}", &variables).config.owns;
    assert_eq!(owns.types.unwrap()[1], Pattern::Exact("weather.observed".into()));
    assert_eq!(owns.streams.unwrap(), [Pattern::Exact("a,b".into())]);
    check_problems(
        "owns:\n  types: [a*b]\n  streams: {a: b}\nexports: {dir: [x]}\nmesh: {nats: {url: 'http://x'}, create_stream: maybe}\n",
        &[
            "config.yaml:3:12: owns.streams: expected a list of texts, found keys and values",
            "config.yaml:4:16: exports.dir: expected one value, found a list",
            "config.yaml:2:10: owns.types: expected a name, or the beginning of names and a `*`, found a `*` that is not at the end",
            "config.yaml:5:20: mesh.nats.url: expected addresses such as nats://127.0.0.1:4222",
            "config.yaml:5:48: mesh.create_stream: expected true or false",
        ],
    );
    check_problems(
        "owns: {types: [[a]]}",
        &["owns.types: expected a list of texts, found a list of other things"],
    );
}

#[test]
fn what_is_shared_is_signed_and_what_is_imported_is_vouched_for() {
    let nats = "mesh: {nats: {url: 'nats://x'}}\nexports: {dir: e}\nimports: {dir: i}\n";
    let key = "config.yaml:2:16: exports.dir needs mesh.key_file: events are published under a signature: create a key";
    let trust = "config.yaml:3:16: imports.dir needs mesh.trust_file";
    check_problems(nats, &[key, trust]);
    check_problems(&format!("{nats}dev: true\n"), &[trust]);
    assert!(loaded("exports: {dir: e}\nimports: {dir: i}\n", &[]).config.mesh.key_file.is_none());
}

#[test]
fn unknown_variables_warn() {
    let loaded = loaded("", &[("OUTRIGGER_PORT", "tcp://x"), ("OUTRIGGER_ADDR", "a"), ("PATH", "b")]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("OUTRIGGER_PORT"), "{:?}", loaded.warnings);
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    check_problems(
        "node: Bad_Name\ngrpc:\n  listne: x\n  listen: nowhere\nmush: {}\nlog: 5\nhttp:\n  listen: [1]\n",
        &[
            "config.yaml:3:3: unknown key grpc.listne; expected one of: listen, token_file, tls",
            "config.yaml:5:1: unknown key mush; expected one of: node, data_dir, grpc,",
            "config.yaml:6:6: log: expected keys and values, found a single value",
            "config.yaml:8:11: http.listen: expected one value, found a list",
            "config.yaml:1:7: node: expected a DNS label",
            "config.yaml:4:11: grpc.listen: expected an IP address and a port such as 127.0.0.1:7400, or unix:PATH, found \"nowhere\"",
        ],
    );
}

#[test]
fn broken_yaml_names_its_place() {
    check_problems("node: a\nnode: b\n", &["config.yaml:2:1: expected YAML: duplicate"]);
    check_problems("node: [\n", &["config.yaml:"]);
    check_problems(
        "just text\n",
        &["config.yaml:1:1: the file: expected keys and values, found a single value"],
    );
}

#[test]
fn a_listener_for_other_machines_needs_tokens() {
    check_problems(
        "grpc:\n  listen: 0.0.0.0:7400\n",
        &["config.yaml:2:11: grpc.listen 0.0.0.0:7400 can be reached from other machines"],
    );
    assert!(loaded("grpc: {listen: '0.0.0.0:7400', token_file: t}", &[]).config.grpc.token_file.is_some());
    let tls = "grpc: {listen: '0.0.0.0:7400', tls: {cert_file: c, key_file: k";
    check_problems(
        &format!("{tls}}}}}"),
        &["can be reached from other machines and no token or certificate"],
    );
    let mutual = loaded(&format!("{tls}, client_ca_file: a}}}}"), &[]).config.grpc.tls;
    assert_eq!(mutual.unwrap().client_ca_file.as_deref(), Some(Path::new("a")));
    assert_eq!(loaded("grpc: {listen: 'unix:s'}", &[]).config.grpc.listen, Listen::Unix("s".into()));
}

#[test]
fn the_files_of_tls_go_together() {
    check_problems(
        "grpc: {tls: {cert_file: c}}",
        &["config.yaml:1:25: grpc.tls.cert_file needs grpc.tls.key_file"],
    );
    check_problems("grpc: {tls: {key_file: k}}", &["grpc.tls.key_file needs grpc.tls.cert_file"]);
    check_problems("grpc: {tls: {client_ca_file: a}}", &["grpc.tls.client_ca_file needs grpc.tls.cert_file"]);
    check_problems(
        "grpc: {listen: 'unix:s', tls: {cert_file: c, key_file: k}}",
        &["grpc.tls.cert_file goes with a TCP address"],
    );
}

#[test]
fn only_what_was_typed_is_a_usage_error() {
    let typed =
        load(&flags(&[("node", "--node", "A")]), &Environment::default(), &disk_with("")).unwrap_err();
    assert!(typed.is_usage());
    let missing = Flags { config_file: Some("absent.yaml".into()), ..Flags::default() };
    let error = load(&missing, &Environment::default(), &disk_with("")).unwrap_err();
    assert!(error.to_string().contains("there is no file absent.yaml"), "{error}");
    let from_file = load(&flags(&[]), &Environment::default(), &disk_with("node: A")).unwrap_err();
    assert!(!from_file.is_usage());
}
