//! The example in `examples/handlers`: the same documents from YAML and from the services.

use std::{net::SocketAddr, path::Path};

use tonic::transport::Channel;

use super::{airport, hash_at_head, kit};
use crate::support::{Node, airport as yaml, binary, repository};
use outrigger::api::proto::v1;

pub(super) fn load(node: &Node, file: &Path) {
    load_at(node.grpc_addr(), file);
}

pub(super) fn load_at(addr: SocketAddr, file: &Path) {
    let mut command = std::process::Command::new(binary());
    let output = command.args(["load", "--addr", &addr.to_string()]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How a worker of the example attaches.
pub(super) fn departures(name: &str, credits: u32) -> v1::AttachWorker {
    v1::AttachWorker {
        projection: "departures".into(),
        version: 2,
        worker: name.into(),
        credits,
        deadline: None,
        definition: Some(airport::DEFINITION.into()),
    }
}

async fn rust_worker(channel: Channel, name: &str) -> kit::Worker {
    kit::Worker::attach(channel, departures(name, 2_048)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_gives_the_same_documents_from_yaml_and_from_rust() {
    let node = Node::start(&yaml()).await;
    let mut worker = rust_worker(node.channel.clone(), "rust-1").await;
    let task = tokio::spawn(async move { worker.work(&mut airport::Departures).await });
    load(&node, &repository().join("examples/airport/flights-2013-01-01.ndjson"));
    let declared = hash_at_head(&node, "departures", 1).await;
    assert_eq!(hash_at_head(&node, "departures", 2).await, declared);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_month_gives_the_same_documents_from_yaml_and_from_two_workers_in_rust() {
    let node = Node::start(&yaml()).await;
    load(&node, &repository().join("tests/data/flights-2013-01.ndjson.gz"));
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["rust-1", "rust-2"] {
        let mut worker = rust_worker(node.channel.clone(), name).await;
        tasks.spawn(async move {
            let ended = worker.work(&mut airport::Departures).await;
            drop(ended);
        });
    }
    let handled = hash_at_head(&node, "departures", 2).await;
    assert_eq!(handled, hash_at_head(&node, "departures", 1).await);
    tasks.shutdown().await;
}
