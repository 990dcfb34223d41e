//! Tests of the topology file: all problems at once, and one text for one topology.

use super::*;

fn key() -> String {
    nkeys::KeyPair::new_user().public_key()
}

fn topology(text: &str) -> Topology {
    Topology::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn a_topology_is_read() {
    let keys: Vec<String> = (0..4).map(|_| key()).collect();
    let read = topology(&format!(
        "operator: {{nats_key: {}}}\nreplicas: 3\nnodes:\n  flights: {{nats_key: {}, max_bytes: 10Gi}}\n  \
         operations: {{nats_key: [{}, {}], imports: [flights]}}\n",
        keys[0], keys[1], keys[2], keys[3]
    ));
    assert_eq!(read.operator_keys, [keys[0].clone()]);
    assert_eq!(read.nodes["flights"].bytes_max, 10 << 30);
    assert_eq!(read.nodes["operations"].nats_keys.len(), 2);
    assert_eq!(read.importers("flights").collect::<Vec<_>>(), ["operations"]);
    assert_eq!(read.importers("operations").count(), 0);
    let size = StreamSize { bytes_max: Some(STREAM_BYTES_DEFAULT), replicas: 3 };
    assert_eq!(read.streams()[1], ("operations".to_owned(), size));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let key = key();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let text = format!(
        "replicas: 2\nservers: 3\nnodes:\n  flights: {{nats_key: {key}, max_bytes: much}}\n  \
         weather: {{nats_key: {key}, imports: [weather, nobody]}}\n  Operations: {{nats_key: {seed}, color: red}}\n  \
         crew: 7\n"
    );
    let problems = Topology::parse(&text).unwrap_err();
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    for expected in [
        "expected operator: {nats_key: U...}, found none",
        "1:11: replicas: expected 1, 3 or 5, found 2",
        "2:10: servers: unknown key",
        "4:12: nodes.flights.max_bytes: expected bytes such as 512Mi or 10Gi, found \"much\"",
        "is the key of nodes.",
        "5:12: nodes.weather.imports: a node does not import from itself",
        "5:12: nodes.weather.imports: there is no node \"nobody\"",
        "expected a DNS label (1 to 63 of a-z, 0-9 and -, no - at either end), found \"Operations\"",
        "nodes.Operations.color: unknown key",
        "found a seed, which is a secret",
        "7:9: nodes.crew: expected nats_key, max_bytes and imports, found 7",
        "nodes.crew.nats_key: expected a public user key U... or a list of them, found nothing",
    ] {
        assert!(said.contains(expected), "no {expected:?} in\n{said}");
    }
    assert!(!said.contains(&seed), "{said}");
    assert!(Topology::parse("nodes: [").unwrap_err()[0].message.starts_with("expected YAML: "));
}

#[test]
fn sizes_have_binary_units() {
    let check = |found: Value, expected: Option<u64>| assert_eq!(bytes(&found), expected, "{found}");
    check("10Gi".into(), Some(10 << 30));
    check("1KiB".into(), Some(1_024));
    check(4_096.into(), Some(4_096));
    check("4096".into(), Some(4_096));
    for bad in ["", "Gi", "1GB", "-1Gi", "0", "99999999Ti", "1.5Gi"] {
        check(bad.into(), None);
    }
}

#[test]
fn one_topology_gives_one_text() {
    let keys: Vec<String> = (0..3).map(|_| key()).collect();
    let nodes =
        |first: &str, second: &str| format!("operator: {{nats_key: {}}}\nnodes:\n{first}{second}", keys[0]);
    let flights = format!("  flights: {{nats_key: {}}}\n", keys[1]);
    let operations = format!("  operations: {{nats_key: {}, imports: [flights]}}\n", keys[2]);
    let text = topology(&nodes(&flights, &operations)).server_config();
    assert_eq!(text, topology(&nodes(&operations, &flights)).server_config());
    for expected in [
        "{ service: \"outrigger.v1.flights.>\", accounts: [NODE_flights] }",
        "{ service: \"$JS.API.DIRECT.GET.OUTRIGGER_flights\", response_type: stream, accounts: [NODE_flights, NODE_operations] }",
        "{ service: \"$JS.API.DIRECT.GET.OUTRIGGER_operations\", response_type: stream, accounts: [NODE_operations] }",
        "{ stream: \"outrigger.hint.flights.>\", accounts: [NODE_operations] }",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    // An empty list of accounts would mean all of them.
    assert!(!text.contains("accounts: []"), "{text}");
}
