//! A NATS server under the generated configuration: the mesh works, the server refuses what is foreign, and changes of
//! the topology disturb nobody.

mod cluster;
mod forgery;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use nkeys::KeyPair;
use outrigger::{
    disk::real::RealDisk,
    mesh::{
        bus::{BusError, BusEvent, Operation},
        nats::NatsSettings,
        topology::Topology,
    },
};
use tokio::runtime::Runtime;

use crate::{
    mesh_bus::peer::{Peer, message, publish},
    nats_server::NatsServer,
    support,
};

const A: &str = "outrigger.v1.flights.board.v1.flight.departed";
const ALL: &str = "outrigger.v1.flights.>";
const REPAIR: &str = "outrigger.repair.flights";
const PATIENCE: Duration = Duration::from_secs(60);

/// A topology whose users are made for the test, with files of their seeds.
struct Mesh {
    dir: tempfile::TempDir,
    keys: BTreeMap<String, KeyPair>,
    runtime: Runtime,
}

impl Mesh {
    fn new(users: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys: BTreeMap<String, KeyPair> =
            users.iter().map(|user| ((*user).to_owned(), KeyPair::new_user())).collect();
        for (user, key) in &keys {
            RealDisk.create_private(&dir.path().join(user), key.seed().unwrap().as_bytes()).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { dir, keys, runtime: runtime.unwrap() }
    }

    fn key(&self, user: &str) -> String {
        self.keys[user].public_key()
    }

    fn seed_file(&self, user: &str) -> PathBuf {
        self.dir.path().join(user)
    }

    /// Writes the topology with these lines of nodes, and gives the server's configuration for it.
    fn topology(&self, nodes: &[String]) -> String {
        let text =
            format!("operator: {{nats_key: {}}}\nnodes:\n  {}\n", self.key("operator"), nodes.join("\n  "));
        std::fs::write(self.dir.path().join("mesh.yaml"), &text).unwrap();
        Topology::parse(&text).unwrap().server_config()
    }

    fn nodes(&self) -> Vec<String> {
        vec![
            format!("flights: {{nats_key: {}, max_bytes: 64Mi}}", self.key("flights")),
            format!(
                "operations: {{nats_key: {}, max_bytes: 64Mi, imports: [flights]}}",
                self.key("operations")
            ),
            format!("weather: {{nats_key: {}, max_bytes: 64Mi}}", self.key("weather")),
        ]
    }

    fn peer(&self, server: &NatsServer, node: &str, user: &str) -> Peer {
        let credentials_file = Some(self.seed_file(user));
        let settings = NatsSettings { credentials_file, ..NatsSettings::new(node, &server.url()) };
        let mut peer = Peer::over(settings, &self.runtime);
        peer.wait("a connection", |event| *event == BusEvent::Connected);
        peer
    }

    /// `outrigger mesh provision`, and what it prints.
    fn provision(&self, server: &NatsServer, user: &str) -> Result<String, String> {
        let output = Command::new(support::binary())
            .args(["mesh", "provision", "--url", &server.url(), "--topology"])
            .arg(self.dir.path().join("mesh.yaml"))
            .arg("--creds")
            .arg(self.seed_file(user))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

fn error(event: BusEvent) -> BusError {
    match event {
        BusEvent::Failed { error, .. } => error,
        other => panic!("expected a failure, found {other:?}"),
    }
}

#[test]
fn the_mesh_works_between_accounts() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    let Some(server) = NatsServer::start_with(&mesh.topology(&mesh.nodes())) else { return };
    let created = "OUTRIGGER_flights created\nOUTRIGGER_operations created\nOUTRIGGER_weather created\n";
    assert_eq!(mesh.provision(&server, "operator").unwrap(), created);
    assert_eq!(mesh.provision(&server, "operator").unwrap(), created.replace("created", "unchanged"));
    let mut owner = mesh.peer(&server, "flights", "flights");
    let mut importer = mesh.peer(&server, "operations", "operations");
    let mut stranger = mesh.peer(&server, "weather", "weather");
    importer.listen(Operation::Listen { filter: "outrigger.hint.flights.>".to_owned() });
    stranger.listen(Operation::Listen { filter: "outrigger.repair.weather".to_owned() });
    owner.listen(Operation::Serve { filter: REPAIR.to_owned() });
    for n in 1..=600 {
        assert_eq!(owner.publish("flights", message(A, n.to_string()), &n.to_string()), (n, false));
    }
    assert_eq!(owner.publish("flights", message(A, "600"), "600"), (600, true));
    for reader in [&mut owner, &mut importer] {
        let (messages, end) = reader.fetch("flights", ALL, 0, 500, 1 << 20);
        assert_eq!((messages.len(), end, &messages[499].1), (500, 600, &message(A, "500")));
        assert_eq!(reader.fetch("flights", ALL, 500, 500, 1 << 20).0.len(), 100);
        assert_eq!(reader.fetch("flights", ALL, 600, 500, 1 << 20), (vec![], 600));
        let state = reader.run(Operation::State { stream: "flights".to_owned() });
        assert!(
            matches!(state, BusEvent::State { state, .. } if (state.first_sequence, state.last_sequence) == (1, 600))
        );
    }
    owner.run(Operation::Announce { message: message("outrigger.hint.flights.board.v1", "600") });
    importer
        .wait("a hint", |event| matches!(event, BusEvent::Heard { message, .. } if message.payload == "600"));
    check_questions(&mut owner, &mut importer);
    check_refusals(&mut importer, &mut stranger);
}

/// An importer asks, the owner learns from the server which account asked, and answers in parts.
fn check_questions(owner: &mut Peer, importer: &mut Peer) {
    let asking = importer
        .submit(Operation::Ask { message: message(REPAIR, "after 7"), timeout_nanos: 30_000_000_000 });
    let event = owner.wait("a question", |event| matches!(event, BusEvent::Asked { .. }));
    let BusEvent::Asked { asked, message: question, .. } = event else { panic!("{event:?}") };
    let info =
        question.headers.iter().find(|(name, _)| name == "nats-request-info").expect("the asker's account");
    assert!(info.1.contains("\"NODE_operations\""), "{info:?}");
    for n in 0..200 {
        owner.run(Operation::Answer { asked, message: message("", n.to_string()), last: n == 199 });
    }
    for n in 0..200 {
        let event = importer.wait("a part", |event| matches!(event, BusEvent::Answered { .. }));
        let BusEvent::Answered { ticket, message: part, last } = event else { panic!("{event:?}") };
        assert_eq!((ticket, part.payload, last), (asking, n.to_string().into(), n == 199));
    }
}

/// What the topology does not give, the server refuses.
fn check_refusals(importer: &mut Peer, stranger: &mut Peer) {
    let ask = || Operation::Ask { message: message(REPAIR, ""), timeout_nanos: 30_000_000_000 };
    let fetch = || Operation::Last { stream: "flights".to_owned(), filter: ALL.to_owned() };
    for refused in [
        error(importer.run(publish("flights", message(A, "forged"), "forged"))),
        error(stranger.run(publish("flights", message(A, "forged"), "forged"))),
        error(stranger.run(fetch())),
        error(stranger.run(ask())),
    ] {
        assert!(
            matches!(&refused, BusError::Refused(words) if words.contains("Permissions Violation")),
            "{refused:?}"
        );
    }
}

#[test]
fn changes_of_the_topology_disturb_nobody() {
    let mesh = Mesh::new(&["operator", "flights", "flights-next", "operations", "weather", "crew"]);
    let Some(server) = NatsServer::start_with(&mesh.topology(&mesh.nodes())) else { return };
    mesh.provision(&server, "operator").unwrap();
    let mut owner = mesh.peer(&server, "flights", "flights");
    let mut importer = mesh.peer(&server, "operations", "operations");
    importer.listen(Operation::Listen { filter: "outrigger.hint.flights.>".to_owned() });
    let mut sent = 0;
    // Operations are in flight while the server takes the configuration: all of them land, each once.
    let mut go_on = |owner: &mut Peer, importer: &mut Peer, change: &dyn Fn()| {
        let mut published = Vec::new();
        for n in 0..300 {
            sent += 1;
            let id = sent.to_string();
            published.push((owner.submit(publish("flights", message(A, id.clone()), &id)), id));
            if n == 150 {
                change();
            }
        }
        for (ticket, id) in published {
            let mut end = owner.end_of(ticket);
            let begun = Instant::now();
            // While it takes its accounts in, the server has no stream for anybody: nothing landed, and the same goes again,
            // as the outbox does it.
            while matches!(end, BusEvent::Failed { error: BusError::NotFound(_), .. })
                && begun.elapsed() < PATIENCE
            {
                end = owner.run(publish("flights", message(A, id.clone()), &id));
            }
            assert!(matches!(end, BusEvent::Published { duplicate: false, .. }), "{end:?}");
        }
        let (messages, _) = importer.fetch("flights", ALL, sent - 300, 500, 1 << 20);
        assert_eq!((messages.len(), messages[299].0), (300, sent));
        owner.run(Operation::Announce {
            message: message("outrigger.hint.flights.board.v1", sent.to_string()),
        });
        importer.wait(
            "a hint",
            |event| matches!(event, BusEvent::Heard { message, .. } if message.payload == sent.to_string()),
        );
        for peer in [owner, importer] {
            assert_eq!(peer.count(|event| matches!(event, BusEvent::Disconnected { .. })), 0);
        }
    };
    // A node more, which imports too.
    let mut nodes = mesh.nodes();
    nodes.push(format!("crew: {{nats_key: {}, imports: [flights]}}", mesh.key("crew")));
    // The server gives a new account what it imports at the second reload only.
    go_on(&mut owner, &mut importer, &|| {
        server.reload(&mesh.topology(&nodes));
        server.reload(&mesh.topology(&nodes));
    });
    assert!(mesh.provision(&server, "operator").unwrap().contains("OUTRIGGER_crew created"));
    let mut crew = mesh.peer(&server, "crew", "crew");
    assert_eq!(crew.fetch("flights", ALL, 0, 500, 1 << 20).0.len(), 300);
    // A second key beside the first, a process that uses it, and the first one taken away.
    let (old, new) = (mesh.key("flights"), mesh.key("flights-next"));
    nodes[0] = format!("flights: {{nats_key: [{old}, {new}], max_bytes: 64Mi}}");
    go_on(&mut owner, &mut importer, &|| server.reload(&mesh.topology(&nodes)));
    let mut next = mesh.peer(&server, "flights", "flights-next");
    nodes[0] = format!("flights: {{nats_key: {new}, max_bytes: 64Mi}}");
    go_on(&mut next, &mut importer, &|| server.reload(&mesh.topology(&nodes)));
    // The old key opens nothing any more: who used it is cut off, and comes no more.
    owner.wait("a loss", |event| matches!(event, BusEvent::Disconnected { .. }));
    let credentials_file = Some(mesh.seed_file("flights"));
    let settings = NatsSettings { credentials_file, ..NatsSettings::new("flights", &server.url()) };
    let mut former = Peer::over(settings, &mesh.runtime);
    let refused = error(former.run(publish("flights", message(A, "x"), "x")));
    assert!(matches!(refused, BusError::NotConnected(_)), "{refused:?}");
    // Somebody who is not the operator makes no stream.
    assert!(
        mesh.provision(&server, "crew")
            .unwrap_err()
            .contains("crew: no answer to $JS.API.STREAM.INFO.OUTRIGGER_crew")
    );
}

#[test]
fn provision_names_a_stream_that_is_wrong_and_resizes_one_that_is_right() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    let Some(server) = NatsServer::start_with(&mesh.topology(&mesh.nodes())) else { return };
    mesh.provision(&server, "operator").unwrap();
    let mut nodes = mesh.nodes();
    nodes[0] = nodes[0].replace("64Mi", "32Mi");
    mesh.topology(&nodes);
    let done = mesh.provision(&server, "operator").unwrap();
    assert_eq!(
        done,
        "OUTRIGGER_flights resized\nOUTRIGGER_operations unchanged\nOUTRIGGER_weather unchanged\n"
    );
    mesh.runtime.block_on(async {
        let options = async_nats::ConnectOptions::with_nkey(mesh.keys["operator"].seed().unwrap());
        let context = async_nats::jetstream::new(options.connect(server.url()).await.unwrap());
        for name in ["OUTRIGGER_flights", "OUTRIGGER_weather"] {
            let mut stream = context.get_stream(name).await.unwrap();
            let mut config = stream.info().await.unwrap().config.clone();
            config.allow_direct = false;
            context.update_stream(config).await.unwrap();
        }
    });
    let wrong = mesh.provision(&server, "operator").unwrap_err();
    for node in ["flights", "weather"] {
        let expected = format!("{node}: the stream OUTRIGGER_{node} is not as it has to be: allow_direct is");
        assert!(wrong.contains(&expected), "{wrong}");
    }
}

#[test]
fn the_configuration_is_written_into_a_directory() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    let expected = mesh.topology(&mesh.nodes());
    let run = |more: &[&str]| {
        let mut command = Command::new(support::binary());
        command.args(["mesh", "nats-config", "--topology"]).arg(mesh.dir.path().join("mesh.yaml")).args(more);
        command.output().unwrap()
    };
    assert_eq!(String::from_utf8(run(&[]).stdout).unwrap(), expected);
    let out = mesh.dir.path().join("etc");
    assert!(run(&["--out", out.to_str().unwrap()]).status.success());
    assert_eq!(std::fs::read_to_string(out.join("outrigger-mesh.conf")).unwrap(), expected);
    std::fs::write(mesh.dir.path().join("mesh.yaml"), "nodes: {flights: {}, weather: {}}\n").unwrap();
    let output = run(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for node in ["flights", "weather"] {
        assert!(said.contains(&format!("nodes.{node}.nats_key: expected a public user key")), "{said}");
    }
}
