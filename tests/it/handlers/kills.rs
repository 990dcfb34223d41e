//! `kill -9` of workers in processes of their own, again and again: the same documents, and every emitted event once.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient};
use tonic::transport::Channel;

use super::{airport, example::load, hash_at_head};
use crate::support::{Node, airport as yaml, repository};

/// The example, which is built with the tests.
fn example() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let example = deps.parent().unwrap().parent().unwrap().join("examples/handler");
    assert!(example.exists(), "build it first: cargo build --example handler");
    example
}

struct Worker(Child);

impl Worker {
    fn start(node: &Node, name: &str) -> Self {
        let mut command = Command::new(example());
        command.args(["--addr", &node.grpc_addr().to_string(), "--worker", name, "--credits", "400"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Worker {
    /// kill -9.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How far the service has come; 0 before it is there.
async fn position(node: &Node) -> u64 {
    let request = v1::GetProjectionRequest { projection: "departures".into() };
    let found = node.projections().get_projection(request).await;
    found.map_or(0, |found| found.into_inner().versions[0].position)
}

/// What flights emitted, by the position of the cause, and what they should have.
pub(super) async fn emissions(
    mut log: EventLogClient<Channel>,
) -> (BTreeMap<u64, Vec<String>>, BTreeMap<u64, Vec<String>>) {
    let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
    let mut events = log.read(v1::ReadRequest::default()).await.unwrap().into_inner();
    while let Some(batch) = events.message().await.unwrap() {
        for event in batch.events {
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            let late = |data: &serde_json::Value| data["flight"].as_str().unwrap().to_owned();
            if event.r#type == "flight.late" {
                let metadata: serde_json::Value = serde_json::from_slice(&event.metadata.unwrap()).unwrap();
                let cause = metadata["causation_position"].as_u64().unwrap();
                found.entry(cause).or_insert_with(Vec::new).push(late(&data));
            } else if event.r#type == "flight.departed"
                && data["delay_minutes"].as_i64().unwrap() >= airport::LATE_MINUTES
            {
                expected.insert(event.position, vec![late(&data)]);
            }
        }
    }
    (found, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_in_the_middle_leave_no_trace() {
    let kills = std::env::var("TEST_KILLS").map_or(20, |text| text.parse().expect("TEST_KILLS is a number"));
    let flights = repository().join("tests/data/flights-2013-01.ndjson.gz");
    let node = Node::start(&[]).await;
    // The service is the first version, so it is active and emits.
    let mut workers: Vec<_> = ["rust-1", "rust-2"].map(|name| Worker::start(&node, name)).into();
    load(&node, &flights);
    for kill in 0..kills {
        // A random point of this round's share of the log.
        let share = 78_000 / kills;
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * share / 255;
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(2));
        while position(&node).await < kill * share + random {
            tick.tick().await;
        }
        let killed = usize::try_from(kill % 2).unwrap();
        workers[killed] = Worker::start(&node, &format!("rust-{}", 3 + kill));
    }
    let hash = hash_at_head(&node, "departures", 2).await;
    let (found, expected) = emissions(node.log()).await;
    assert!(expected.len() > 500, "{}", expected.len());
    assert_eq!(found, expected, "every late flight has its event, once");
    drop(workers);

    let undisturbed = Node::start(&yaml()).await;
    load(&undisturbed, &flights);
    assert_eq!(hash, hash_at_head(&undisturbed, "departures", 1).await);
}
