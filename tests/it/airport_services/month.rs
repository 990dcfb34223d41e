//! A month of flights and weather through three services over a real broker: what the importing one holds, event by event, and
//! what it joins, hour by hour, against the raw files.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path, process::Command};

use outrigger::{
    api::proto::v1::{self, EventFilter, event_log_client::EventLogClient, subscribe_response::Content},
    mesh::trust::SigningKey,
};
use serde_json::Value;

use crate::{
    nats_server::NatsServer,
    support::{Process, binary, repository},
};

/// What another service may know, by owner.
const EXPORTED: [(&str, &[&str]); 2] =
    [("flights", &["flight.departed", "flight.cancelled"]), ("weather", &["weather.observed"])];

/// What the board shows of an hour at an airport.
#[derive(Debug, Default, PartialEq)]
struct Hour {
    departures: u64,
    delay_sum_minutes: i64,
    temp_f: Option<f64>,
}

fn file(owner: &str) -> std::path::PathBuf {
    repository().join(format!("tests/data/{owner}-2013-01.ndjson.gz"))
}

/// The events that an owner lets out, in its order.
fn exported(owner: &str, types: &[&str]) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(file(owner)).unwrap()).read_to_string(&mut text).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| types.contains(&event["type"].as_str().unwrap())).collect()
}

fn start(node: &str, dir: &Path, nats: &NatsServer) -> Process {
    let mut command = Command::new(binary());
    command.current_dir(repository().join("examples/airport").join(node));
    command.env("OUTRIGGER_NODE", node).env("OUTRIGGER_MESH__NATS__URL", nats.url());
    command.env("OUTRIGGER_MESH__CREATE_STREAM", "true");
    command.env("OUTRIGGER_MESH__TRUST_FILE", dir.join("trust.yaml"));
    if node == "operations" {
        command.env("OUTRIGGER_IMPORTS__DIR", "imports").env("OUTRIGGER_PROJECTIONS__DIR", "projections");
    } else {
        command.env("OUTRIGGER_MESH__KEY_FILE", dir.join(format!("{node}.nk")));
        command.env("OUTRIGGER_EXPORTS__DIR", "exports");
    }
    Process::start_command(command, &dir.join(node), &[])
}

fn outrigger(node: &Process, arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(["--addr", &node.grpc_addr.to_string()]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The events that came from elsewhere, in order of position, as soon as there are so many.
async fn imported(node: &Process, count: usize) -> Vec<v1::Event> {
    let types = ["departure.left", "departure.cancelled", "weather.read"].map(str::to_owned).to_vec();
    let filter = Some(EventFilter { types, ..EventFilter::default() });
    let request = v1::SubscribeRequest { filter, ..v1::SubscribeRequest::default() };
    let mut stream = EventLogClient::new(node.channel().await).subscribe(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        if let Some(Content::Events(batch)) = stream.message().await.unwrap().unwrap().content {
            events.extend(batch.events);
        }
    }
    events
}

/// Adds an event to the hour that it belongs to.
fn tell(hours: &mut BTreeMap<(String, String), Hour>, event: &Value) {
    let data = &event["data"];
    let airport = data["origin"].as_str().or(data["station"].as_str()).unwrap().to_owned();
    let time = event["time"].as_str().unwrap()[..13].to_owned();
    match event["type"].as_str().unwrap() {
        "flight.departed" => {
            let hour = hours.entry((airport, time)).or_default();
            hour.departures += 1;
            hour.delay_sum_minutes += data["delay_minutes"].as_i64().unwrap();
        }
        "weather.observed" => hours.entry((airport, time)).or_default().temp_f = data["temp_f"].as_f64(),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a month of events in a debug build: run by tests/run --long"]
async fn a_month_is_imported_event_by_event_and_joined() {
    let Some(nats) = NatsServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut trust = Vec::new();
    for (owner, _) in EXPORTED {
        let key = SigningKey::generate();
        let path = dir.path().join(format!("{owner}.nk"));
        fs::write(&path, key.seed()).unwrap();
        super::private(&path);
        trust.push(format!("{owner}: [{{key: {}}}]\n", key.public()));
    }
    fs::write(dir.path().join("trust.yaml"), trust.concat()).unwrap();
    let owners = EXPORTED.map(|(owner, _)| start(owner, dir.path(), &nats));
    let operations = start("operations", dir.path(), &nats);
    let expected = EXPORTED.map(|(owner, types)| exported(owner, types));
    for ((owner, _), node) in EXPORTED.iter().zip(&owners) {
        outrigger(node, &["load", file(owner).to_str().unwrap()]);
    }
    let events = imported(&operations, expected.iter().map(Vec::len).sum()).await;
    let mut hours = BTreeMap::new();
    for ((owner, _), expected) in EXPORTED.iter().zip(&expected) {
        let ids: Vec<String> = events
            .iter()
            .filter_map(|event| event.origin.as_ref().filter(|origin| origin.owner == *owner))
            .map(|origin| uuid::Uuid::from_slice(&origin.id).unwrap().to_string())
            .collect();
        let wanted: Vec<&str> = expected.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), wanted.len(), "{owner}");
        assert!(ids == wanted, "the events of {owner} are not those that it let out, in its order");
        for event in expected {
            tell(&mut hours, event);
        }
    }
    outrigger(&operations, &["projection", "show", "board", "--wait", "--timeout", "120"]);
    let told = outrigger(&operations, &["list", "board", "hours", "--all", "--output", "json"]);
    let mut found = BTreeMap::new();
    for line in told.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let Some(key) = document["key"].as_array() else { continue };
        let value = &document["value"];
        let hour = Hour {
            departures: value["departures"].as_u64().unwrap_or_default(),
            delay_sum_minutes: value["delay_sum_minutes"].as_i64().unwrap_or_default(),
            temp_f: value["temp_f"].as_f64(),
        };
        let text = |at: usize| key[at].as_str().unwrap().to_owned();
        found.insert((text(0), text(1)), hour);
    }
    assert!(found.len() > 2_000, "{} hours", found.len());
    assert_eq!(found, hours);
}
