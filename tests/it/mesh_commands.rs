//! `outrigger mesh`: keys that are made, rules that are explained, and what a node without a mesh says.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use outrigger::mesh::trust::{SigningKey, Trust};

use crate::{cli::Cli, support::binary};

fn offline(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(binary()).env_clear().args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_key_is_made_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flights.nk");
    let name = file.to_str().unwrap();
    let (code, out, err) = offline(&["mesh", "keygen", "--out", name, "--node", "flights"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = SigningKey::from_seed(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(!out.contains(&key.seed()), "{out}");
    let line = out.lines().find_map(|line| line.strip_prefix("trust file  ")).unwrap();
    let trust = Trust::parse(line, "printed").unwrap();
    assert_eq!(trust.keys_of("flights")[0].public, key.public());

    let (code, out, err) = offline(&["mesh", "keygen", "--out", name]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("exists, and a key is never replaced"), "{err}");
    assert_eq!(SigningKey::from_seed(&fs::read_to_string(&file).unwrap()).unwrap().public(), key.public());
    let other = dir.path().join("other.nk");
    let (code, out, _) = offline(&["mesh", "keygen", "--out", other.to_str().unwrap(), "--output", "json"]);
    let made: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert!(made["public_key"].as_str().unwrap().starts_with('V'), "{made}");
    let (code, _, err) = offline(&["mesh", "keygen", "--out", "x", "--node", "Flights"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_node_refuses_keys_that_others_can_read_and_files_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let refused = |settings: &str| {
        let config = format!(
            "data_dir: {}\ngrpc: {{listen: '127.0.0.1:0'}}\nhttp: {{listen: '127.0.0.1:0'}}\n{settings}",
            path("data")
        );
        fs::write(path("config.yaml"), config).unwrap();
        let (code, _, err) = offline(&["serve", "--config", &path("config.yaml")]);
        assert_eq!(code, 1, "{err}");
        err
    };
    let key = path("node.nk");
    let settings = format!("mesh: {{key_file: {key}}}\n");
    assert!(refused(&settings).contains("there is none; `outrigger mesh keygen --out FILE` makes one"));
    fs::write(&key, SigningKey::generate().seed()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let err = refused(&settings);
    assert!(err.contains("found mode 0644; run: chmod 600"), "{err}");
    fs::write(&key, "no key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&settings).contains("expected one line with the seed of a key of a service"));
    let creds = path("node.creds");
    fs::write(&creds, "SUAX").unwrap();
    fs::set_permissions(&creds, fs::Permissions::from_mode(0o604)).unwrap();
    let err = refused(&format!("mesh: {{nats: {{url: 'nats://127.0.0.1:1', creds_file: {creds}}}}}\n"));
    assert!(err.contains("credentials file") && err.contains("found mode 0604; run: chmod 600"), "{err}");
    fs::write(path("trust.yaml"), "flights: [{kye: x}]\n").unwrap();
    let err = refused(&format!("mesh: {{trust_file: {}}}\n", path("trust.yaml")));
    assert!(err.contains("trust.yaml:1:12: unknown key `kye`") && err.contains("missing key `key`"), "{err}");
    let err =
        refused("mesh: {nats: {url: 'nats://127.0.0.1:1'}}\nexports: {dir: e}\nowns: {types: ['a*b']}\n");
    assert!(
        err.contains("exports.dir needs mesh.key_file") && err.contains("owns.types: expected a name"),
        "{err}"
    );
}

#[test]
fn rules_say_who_may_append_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let imports = dir.path().join("imports");
    fs::create_dir(&imports).unwrap();
    let import = "import: f\nfrom: {node: flights, export: departures, version: 1}\nstreams: 'flights/*'\n";
    fs::write(imports.join("f.yaml"), import).unwrap();
    let settings = [
        ("OUTRIGGER_NODE", "operations"),
        ("OUTRIGGER_OWNS__TYPES", "board.*,note"),
        ("OUTRIGGER_IMPORTS__DIR", imports.to_str().unwrap()),
    ];
    let cli = Cli::with_settings(dir, &settings);
    assert_eq!(
        cli.out(&["mesh", "rules"]),
        "clients of operations may append\n  types    board.*, note\n  streams  all that no import keeps (owns.streams is \
         not set)\n  but not  flights/*, which the import f keeps for flights\n"
    );
    assert_eq!(
        cli.out(&["mesh", "rules", "--type", "note", "--stream", "flights/UA1"]),
        "clients of operations may not append it\n  stream flights/UA1: of flights; the import f keeps events of the node \
         flights in flights/*: append at flights\n  type note: its own; owns.types names note\n"
    );
    let rules = cli.json(&["mesh", "rules", "--type", "weather.observed"]);
    assert_eq!(rules[0]["may_append"], false);
    assert_eq!(rules[0]["rules"][0]["why"], "owns.types names board.*, note only");
    assert_eq!(rules[0]["imported"][0]["owner"], "flights");
    let refused = cli.refused(&["append", "--type", "other", "--stream", "s", "--data", "1"]);
    assert!(
        refused.contains("type \"other\" is not this node's own") && refused.contains("NOT_OWNER"),
        "{refused}"
    );
}

#[test]
fn a_node_shows_whom_it_trusts_and_that_it_shares_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (trust, key) = (dir.path().join("trust.yaml"), SigningKey::from_entropy([3; 32]));
    let listed =
        format!("flights: [{{key: {}, not_after: 2001-01-01T00:00:00Z}}, {{key: {0}}}]\n", key.public());
    fs::write(&trust, listed).unwrap();
    let cli = Cli::with_settings(dir, &[("OUTRIGGER_MESH__TRUST_FILE", trust.to_str().unwrap())]);
    let peers = cli.json(&["mesh", "peers"]);
    assert_eq!(peers[0]["node"], "flights");
    assert_eq!(peers[0]["keys"][0]["is_in_force"], false);
    assert_eq!(peers[0]["keys"][1]["is_in_force"], true);
    assert!(cli.out(&["mesh", "peers"]).contains("2001-01-01T00:00:00Z"));
    assert!(cli.out(&["mesh", "status"]).contains("shares nothing"));
    assert_eq!(cli.out(&["mesh", "imports"]), "");
    assert_eq!(cli.out(&["mesh", "graph"]), "nothing is exported or imported\n");
    let refused = cli.refused(&["mesh", "skip", "f", "--expect-position", "7"]);
    assert!(refused.contains("this node shares nothing"), "{refused}");
    let usage = cli.run(&["mesh", "resync"]);
    assert_eq!(usage.status.code(), Some(2));
}
