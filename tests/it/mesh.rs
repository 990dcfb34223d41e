//! Two nodes of their own processes share events over a real NATS server: end to end, through kills of everybody.
//!
//! Invariant of the tests: whoever imports ends with exactly what the owner let out, in the owner's order.

mod backed_up;
mod cut_off;

use std::{fs, path::Path, process::Command};

use futures_util::StreamExt as _;
use outrigger::{
    api::proto::v1::{
        self, EventFilter, event_log_client::EventLogClient, mesh_client::MeshClient,
        subscribe_response::Content,
    },
    mesh::trust::SigningKey,
};
use tonic::transport::Channel;

use crate::{
    nats_server::NatsServer,
    support::{Process, append, binary, event},
};

const EXPORT: &str =
    "export: flights\nversion: 1\nevents:\n  flight.departed:\n    when: data.n % 4 != 0\n    keep: [n]\n";
const IMPORT: &str =
    "import: flights\nfrom: {node: flights, export: flights, version: 1}\nstreams: 'flights/*'\n";
const BATCH: u64 = 50;

/// Everything that lasts over the lives of both nodes.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    url: String,
}

impl Place {
    pub(crate) fn new(nats: &NatsServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate();
        let place = Self { dir, url: nats.url() };
        place.write("key", &format!("{}\n", key.seed()));
        private(&place.dir.path().join("key"));
        place.write("trust.yaml", &format!("flights: [{{key: {}}}]\n", key.public()));
        place.write("exports/flights.yaml", EXPORT);
        place.write("imports/flights.yaml", IMPORT);
        place
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, node: &str) -> Command {
        let mut command = Command::new(binary());
        let path = |name: &str| self.dir.path().join(name);
        command.env("OUTRIGGER_NODE", node).env("OUTRIGGER_MESH__NATS__URL", &self.url);
        command.env("OUTRIGGER_MESH__CREATE_STREAM", "true");
        command.env("OUTRIGGER_MESH__TRUST_FILE", path("trust.yaml"));
        command
    }

    pub(crate) fn owner(&self) -> Process {
        let mut command = self.command("flights");
        command.env("OUTRIGGER_MESH__KEY_FILE", self.dir.path().join("key"));
        command.env("OUTRIGGER_EXPORTS__DIR", self.dir.path().join("exports"));
        Process::start_command(command, &self.dir.path().join("flights"), &[])
    }

    pub(crate) fn importer(&self) -> Process {
        let mut command = self.command("operations");
        command.env("OUTRIGGER_IMPORTS__DIR", self.dir.path().join("imports"));
        Process::start_command(command, &self.dir.path().join("operations"), &[])
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Appends the flights of these numbers, `BATCH` a request.
pub(crate) async fn depart(owner: &Process, numbers: std::ops::Range<u64>) {
    let mut log = EventLogClient::new(owner.channel().await);
    let mut first = numbers.start;
    while first < numbers.end {
        let last = (first + BATCH).min(numbers.end);
        let flight = |n| event("flight.departed", "s", &format!("{{\"n\": {n}, \"secret\": \"x{n}\"}}"));
        log.append(append((first..last).map(flight).collect())).await.unwrap();
        first = last;
    }
}

pub(crate) fn expected(upto: u64) -> Vec<u64> {
    (1..upto).filter(|n| n % 4 != 0).collect()
}

/// The imported events, in order, as soon as there are so many.
pub(crate) async fn imported(channel: Channel, count: usize) -> Vec<v1::Event> {
    let filter = Some(EventFilter { types: vec!["flight.departed".into()], ..EventFilter::default() });
    let request = v1::SubscribeRequest { filter, ..v1::SubscribeRequest::default() };
    let mut stream = EventLogClient::new(channel).subscribe(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        if let Some(Content::Events(batch)) = stream.message().await.unwrap().unwrap().content {
            events.extend(batch.events);
        }
    }
    events
}

pub(crate) fn numbers(events: &[v1::Event]) -> Vec<u64> {
    let number = |event: &v1::Event| {
        let value: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        assert!(value.get("secret").is_none(), "a private field left its node: {value}");
        value["n"].as_u64().unwrap()
    };
    events.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_node_are_imported_by_another() {
    let Some(nats) = NatsServer::start() else { return };
    let place = Place::new(&nats);
    let plain = async_nats::connect(nats.url()).await.unwrap();
    let mut heard = plain.subscribe("outrigger.v1.flights.>").await.unwrap();
    plain.flush().await.unwrap();
    let (owner, importer) = (place.owner(), place.importer());
    depart(&owner, 1..401).await;
    let events = imported(importer.channel().await, expected(401).len()).await;
    assert_eq!(numbers(&events), expected(401));
    for event in &events {
        let origin = event.origin.as_ref().unwrap();
        assert_eq!((origin.owner.as_str(), origin.hash.len()), ("flights", 32));
        assert_eq!(event.stream, "flights/s");
    }
    // Whoever knows CloudEvents reads the export without knowing Outrigger.
    let message = loop {
        let message = heard.next().await.unwrap();
        if message.subject.ends_with(".flight.departed") {
            break message;
        }
    };
    let headers = message.headers.unwrap();
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(header("ce-type").as_deref(), Some("flight.departed"));
    assert_eq!(header("ce-source").as_deref(), Some("outrigger://flights/flights/v1"));
    assert_eq!(&message.payload[..], b"{\"n\":1}");
    // Status is as of a step of the mesh, which may come a moment later than its events.
    let mut mesh = MeshClient::new(importer.channel().await);
    loop {
        let status = mesh.get_mesh_status(v1::GetMeshStatusRequest {}).await.unwrap().into_inner();
        let cursor = status.imports.first().and_then(|import| import.cursor.as_ref());
        if cursor.is_some_and(|cursor| cursor.seq == expected(401).len() as u64) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_everybody_and_a_wiped_broker_change_nothing() {
    let Some(mut nats) = NatsServer::start() else { return };
    let place = Place::new(&nats);
    let (mut owner, mut importer) = (place.owner(), place.importer());
    depart(&owner, 1..301).await;
    imported(importer.channel().await, 10).await;
    importer.kill();
    depart(&owner, 301..601).await;
    owner.kill();
    nats.kill();
    nats.wipe_store();
    // Without a broker both go on.
    owner = place.owner();
    importer = place.importer();
    depart(&owner, 601..801).await;
    nats.restart();
    depart(&owner, 801..1_001).await;
    let events = imported(importer.channel().await, expected(1_001).len()).await;
    assert_eq!(numbers(&events), expected(1_001));
    let ids: std::collections::HashSet<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), events.len());
}
