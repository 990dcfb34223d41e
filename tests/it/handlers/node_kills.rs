//! `kill -9` of the node under two workers that attach again by themselves: the same documents, and every emitted event once.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use outrigger::api::proto::v1::{
    self, event_log_client::EventLogClient, projections_client::ProjectionsClient,
};
use tokio::{sync::watch, task::JoinSet, time::interval};
use tonic::transport::Channel;

use super::{
    airport,
    example::{departures, load, load_at},
    hash_at_head,
    kills::emissions,
    kit,
};
use crate::support::{Node, Process, airport as yaml, repository};

/// Two workers that go wherever the node is, and attach again whenever their call ends.
fn serve(addr: &watch::Receiver<SocketAddr>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for name in ["rust-1", "rust-2"] {
        let addr = addr.clone();
        tasks.spawn(async move {
            let mut tick = interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                let uri = format!("http://{}", *addr.borrow());
                let Ok(channel) = Channel::from_shared(uri).unwrap().connect().await else { continue };
                if let Ok(mut worker) = kit::Worker::attach(channel, departures(name, 400)).await {
                    drop(worker.work(&mut airport::Departures).await);
                }
            }
        });
    }
    tasks
}

/// The service's version, once it is there.
async fn shown(channel: &Channel) -> Option<v1::ProjectionVersion> {
    let request = v1::GetProjectionRequest { projection: "departures".into() };
    let found = ProjectionsClient::new(channel.clone()).get_projection(request).await.ok()?;
    Some(found.into_inner().versions.remove(0))
}

async fn until(channel: &Channel, wanted: impl Fn(&v1::ProjectionVersion) -> bool) -> v1::ProjectionVersion {
    let mut tick = interval(Duration::from_millis(2));
    loop {
        tick.tick().await;
        if let Some(found) = shown(channel).await
            && wanted(&found)
        {
            return found;
        }
    }
}

/// The first events of the month, at most so many, in a file; and how many they are.
fn beginning(dir: &Path, count_max: u64) -> (PathBuf, u64) {
    let month = std::fs::File::open(repository().join("tests/data/flights-2013-01.ndjson.gz")).unwrap();
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(month)).lines();
    let lines: Vec<_> = lines.take(count_max as usize).collect::<Result<_, _>>().unwrap();
    let file = dir.join("flights.ndjson");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    (file, lines.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_under_its_workers_comes_to_the_same_documents_and_emits_once() {
    let kills = std::env::var("TEST_KILLS").map_or(5, |text| text.parse().expect("TEST_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let (flights, count) = beginning(dir.path(), 4_000 * kills);
    let data = dir.path().join("data");
    let mut node = Process::start(&data, &[]);
    load_at(node.grpc_addr, &flights);
    let (address, addr) = watch::channel(node.grpc_addr);
    let _workers = serve(&addr);
    let mut rewound = 0_u32;
    for kill in 0..kills {
        // A random point of this round's share of the log.
        let share = count / kills;
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * share / 255;
        let channel = node.channel().await;
        let before = until(&channel, |found| found.position >= kill * share + random).await.position;
        node.kill();
        node = Process::start(&data, &[]);
        let channel = node.channel().await;
        // Nobody can have attached yet: this is what was durable.
        let after = until(&channel, |found| !found.content_hash.is_empty()).await.position;
        rewound += u32::from(after < before);
        address.send(node.grpc_addr).unwrap();
    }
    let channel = node.channel().await;
    let found = until(&channel, |found| found.position == found.head && !found.content_hash.is_empty()).await;
    let (emitted, expected) = emissions(EventLogClient::new(channel)).await;
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(emitted, expected, "every late flight has its event, once; rewound {rewound} times");

    let undisturbed = Node::start(&yaml()).await;
    load(&undisturbed, &flights);
    assert_eq!(found.content_hash, hash_at_head(&undisturbed, "departures", 1).await);
}
