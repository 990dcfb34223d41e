//! `doctor`, `log-level` and `support-bundle`, as people type them: findings with remedies, a filter that changes and comes
//! back, and a bundle that holds no data.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use outrigger::{api::proto::v1, api::proto::v1::admin_client::AdminClient, mesh::trust::SigningKey};
use serde_json::Value;
use tonic::Code;

use crate::{
    cli::Cli,
    support::{Node, binary, check_refused},
};

/// The findings of `doctor` in `dir`, with its exit code and its stderr.
fn doctor(dir: &Path, words: &[&str]) -> (i32, Vec<Value>, String) {
    let mut command = Command::new(binary());
    command.env_clear().current_dir(dir).args(["doctor", "--output", "json"]).args(words);
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let findings = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), findings, String::from_utf8(output.stderr).unwrap())
}

fn outcome<'a>(findings: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check} in {findings:?}"));
    assert_eq!(finding["outcome"] == "ok", finding.get("remedy").is_none(), "{finding}");
    (finding["outcome"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

const FREE_PORTS: [&str; 4] = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];

#[test]
fn a_machine_that_is_fit_passes_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (code, findings, err) = doctor(dir.path(), &FREE_PORTS);
    assert_eq!(code, 0, "{findings:?} {err}");
    for check in ["config", "disk", "file system", "sync", "clock", "memory", "grpc.listen", "http.listen"] {
        let (outcome, found) = outcome(&findings, check);
        assert!(outcome != "failed" && !found.is_empty(), "{findings:?}");
    }
    assert!(outcome(&findings, "sync").1.contains(" ms in the middle"), "{findings:?}");
    assert_eq!(fs::read_dir(dir.path().join("outrigger-data")).unwrap().count(), 0);
}

#[test]
fn what_is_wrong_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("key"), SigningKey::generate().seed()).unwrap();
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path("trust"), "flights: [{key: nonsense}]\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!(
        "data_dir: {}/data\ngrpc: {{listen: '{}', token_file: {}}}\nhttp: {{listen: '127.0.0.1:0'}}\nlog: {{low_water: 900000GiB}}\n\
         limits: {{memory: 900000GiB}}\nmesh: {{key_file: {}, trust_file: {}, nats: {{url: 'nats://127.0.0.1:1'}}}}\n",
        dir.path().display(),
        taken.local_addr().unwrap(),
        path("none"),
        path("key"),
        path("trust")
    );
    fs::write(path("config.yaml"), settings).unwrap();
    let (code, findings, err) = doctor(dir.path(), &["--config", &path("config.yaml")]);
    assert_eq!(code, 1, "{findings:?}");
    for check in ["disk", "memory", "key file", "token file", "trust file", "grpc.listen", "NATS"] {
        assert_eq!(outcome(&findings, check).0, "failed", "{check}: {findings:?}");
    }
    assert!(outcome(&findings, "key file").1.contains("mode 644"), "{findings:?}");
    assert!(err.contains("checks failed"), "{err}");

    fs::write(path("config.yaml"), "node: Flights\nunknown: 1\n").unwrap();
    let (code, findings, _) = doctor(dir.path(), &["--config", &path("config.yaml")]);
    assert_eq!((code, findings.len()), (1, 2), "{findings:?}");
    assert_eq!(outcome(&findings, "config").0, "failed");
}

#[test]
fn a_node_that_runs_has_its_ports() {
    let cli = Cli::serving(&[]);
    let node = cli.json(&["log-level"]);
    assert_eq!(node[0]["configured"], "info");
    let (grpc, http) = cli.addresses();
    let findings = cli.json(&["doctor", "--data-dir", "data", "--grpc", &grpc, "--http", &http]);
    assert!(outcome(&findings, "grpc.listen").1.contains("the node local"), "{findings:?}");
    assert_eq!(outcome(&findings, "http.listen").0, "ok");
}

#[test]
fn a_filter_is_changed_shown_and_taken_back() {
    let cli = Cli::serving(&[]);
    assert_eq!(cli.out(&["log-level"]), "info\n");
    let changed = cli.out(&["log-level", "warn,outrigger::mesh=debug", "--for", "1h"]);
    assert_eq!(changed, "warn,outrigger::mesh=debug; info again in 3600 s\n");
    assert_eq!(cli.json(&["log-level"])[0]["filter"], "warn,outrigger::mesh=debug");
    assert_eq!(cli.out(&["log-level", "--reset"]), "info\n");
    cli.out(&["log-level", "error", "--for", "1s"]);
    while cli.json(&["log-level"])[0]["filter"] != "info" {
        std::thread::yield_now();
    }
    assert!(cli.refused(&["log-level", "a=b=c"]).contains("INVALID_FILTER"));
    assert!(cli.refused(&["log-level", "info", "--for", "2d"]).contains("INVALID_DURATION"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_inside_of_another_process_leaves_its_log_alone() {
    let node = Node::start(&[]).await;
    let mut admin = AdminClient::new(node.channel.clone());
    let request = v1::SetLogFilterRequest { filter: Some("debug".into()), revert_after_seconds: None };
    check_refused(admin.set_log_filter(request).await, Code::FailedPrecondition, "NO_LOG_CONTROL", "");
    let told = admin.get_diagnostics(v1::GetDiagnosticsRequest {}).await.unwrap().into_inner();
    assert!(told.metrics.contains("outrigger_head_position 0") && told.recent.is_empty(), "{told:?}");
    node.stop().await;
}

/// The files of a bundle, as one text each.
fn unpacked(path: &Path) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let text = |entry: Result<tar::Entry<'_, _>, std::io::Error>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    };
    archive.entries().unwrap().map(text).collect()
}

const DEFINITION: &str = "projection: flights\nversion: 1\non_error: pause\ncollections:\n  flights: {}\nevents:\n  flight.departed:\n    \
                          - put: flights\n      key: data.flight\n      value: { late: \"${int(data.delay) > 1}\", from: \"${data.from}\" }\n";

#[test]
fn a_bundle_holds_states_and_no_data() {
    let marker = format!("marker{}", uuid::Uuid::new_v4().simple());
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let secret = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        path(name)
    };
    let tokens = secret("tokens.yaml", &format!("app: app-{marker}\nadmin: admin-{marker}\n"));
    let key = SigningKey::generate();
    let key_file = secret("node.nk", &key.seed());
    let credentials = secret("nats.creds", &marker);
    fs::create_dir(path("projections")).unwrap();
    fs::write(dir.path().join("projections/flights.yaml"), DEFINITION).unwrap();
    let settings = [
        ("OUTRIGGER_GRPC__TOKEN_FILE", tokens.as_str()),
        ("OUTRIGGER_MESH__KEY_FILE", &key_file),
        ("OUTRIGGER_MESH__NATS__CREDS_FILE", &credentials),
        ("OUTRIGGER_MESH__NATS__URL", &format!("nats://user:{marker}@127.0.0.1:1")),
        ("OUTRIGGER_PROJECTIONS__DIR", &path("projections")),
    ];
    let cli = Cli::with_settings(dir, &settings);
    let admin = format!("admin-{marker}");
    let with = |words: &[&'static str]| {
        words.iter().copied().chain(["--token", admin.as_str()]).collect::<Vec<&str>>()
    };
    let (stream, tag) = (format!("s-{marker}"), format!("t:{marker}"));
    let metadata = format!("{{\"user\":\"{marker}\"}}");
    let append = |data: &str| {
        let event = ["append", "--type", "flight.departed", "--stream", &stream, "--data", data];
        let words = [&event[..], &["--tag", &tag, "--metadata", &metadata, "--token", &admin]].concat();
        cli.out(&words)
    };
    append(&format!("{{\"flight\":\"{marker}\",\"delay\":\"2\",\"from\":\"{marker}\"}}"));
    append(&format!("{{\"flight\":\"{marker}2\",\"delay\":\"{marker}\",\"from\":\"x\"}}"));
    loop {
        let errors = cli.out(&with(&["projection", "errors", "flights", "--full"]));
        if errors.contains(&marker) {
            break;
        }
    }
    cli.out(&with(&["support-bundle", "--to", "bundle.tar.gz"]));
    let file = cli.path("bundle.tar.gz");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&file);
    let text = |name: &str| {
        let found = files.iter().find(|(path, _)| *path == format!("local/{name}"));
        found.unwrap_or_else(|| panic!("no {name} in {files:?}")).1.as_str()
    };
    assert!(
        text("settings.txt").contains(&format!("grpc.token_file = {tokens}")),
        "{}",
        text("settings.txt")
    );
    assert!(text("settings.txt").contains("nats://(left out)@127.0.0.1:1"), "{}", text("settings.txt"));
    assert!(text("metrics.txt").contains("outrigger_head_position 2"), "{}", text("metrics.txt"));
    assert!(text("recent.txt").contains("a projection stopped"), "{}", text("recent.txt"));
    let version: Value = serde_json::from_str(text("projections.ndjson").lines().next().unwrap()).unwrap();
    assert_eq!((&version["position"], &version["has_error"]), (&1.into(), &true.into()), "{version}");
    let node: Value = serde_json::from_str(text("node.json")).unwrap();
    assert_eq!(node["head"], 2);
    for (name, text) in &files {
        assert!(
            !text.contains(&marker) && !text.contains(&key.seed()),
            "{name} holds data or a secret: {text}"
        );
    }
    check_guarded(&cli, &admin, &format!("app-{marker}"));
}

/// It is for administrators, and never replaces a file.
fn check_guarded(cli: &Cli, admin: &str, app: &str) {
    let bundle = |token: &str, name: &str| cli.run(&["support-bundle", "--to", name, "--token", token]);
    assert!(!bundle(admin, "bundle.tar.gz").status.success());
    assert!(bundle(app, "other.tar.gz").status.success());
    let files = unpacked(&cli.path("other.tar.gz"));
    let missing = files.iter().find(|(path, _)| path == "local/missing.txt").unwrap();
    assert!(missing.1.contains("diagnostics: PermissionDenied"), "{missing:?}");
}
