//! What a real broker has stored: a damaged message changes nothing, and private fields are nowhere in its files.
//!
//! Invariant of the tests: whoever imports ends with exactly what the owner let out, in the owner's order.

use std::{fs, path::Path};

use outrigger::api::proto::v1::{self, mesh_client::MeshClient};
use uuid::Uuid;

use crate::{
    mesh::{Place, depart, expected, imported, numbers},
    nats_server::NatsServer,
    support::{Process, append, event},
};

const MARKED: &str = "export: flights\nversion: 1\nevents:\n  flight.departed:\n    as: flight.left\n    stream: \"public/${data.flight}\"\n    \
                      tags: [\"flight:${data.flight}\"]\n    keep: [flight, crew.seats]\n";
/// The same, and the marker with it.
const CONTROL: &str = "export: control\nversion: 1\nevents:\n  flight.departed: {keep: [flight, captain]}\n";

/// Waits until the broker has acknowledged so many events of each export.
async fn acknowledged(owner: &Process, count: u64) {
    let mut mesh = MeshClient::new(owner.channel().await);
    loop {
        let status = mesh.get_mesh_status(v1::GetMeshStatusRequest {}).await.unwrap().into_inner();
        if !status.exports.is_empty() && status.exports.iter().all(|export| export.acknowledged_seq >= count)
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Flips a bit of a payload in the broker's files; which file it was.
fn flip(dir: &Path, payload: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = flip(&path, payload) {
                return Some(found);
            }
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(payload.len()).position(|part| part == payload.as_bytes());
        if let Some(at) = at.filter(|_| path.extension().is_some_and(|end| end == "blk")) {
            // A digit becomes another one: the JSON stays one.
            bytes[at + payload.len() - 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            return Some(path);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_stored_message_is_repaired_from_the_owner() {
    let Some(mut nats) = NatsServer::start() else { return };
    let place = Place::new(&nats);
    let owner = place.owner();
    depart(&owner, 1..401).await;
    acknowledged(&owner, expected(401).len() as u64).await;
    nats.kill();
    let file = flip(&nats.store(), "{\"n\":202}").expect("the broker has stored the message in a block file");
    assert!(!holds(&fs::read(file).unwrap(), "{\"n\":202}"), "the message is as it was");
    nats.restart();
    let importer = place.importer();
    let events = imported(importer.channel().await, expected(401).len()).await;
    assert_eq!(numbers(&events), expected(401));
    depart(&owner, 401..501).await;
    let events = imported(importer.channel().await, expected(501).len()).await;
    assert_eq!(numbers(&events), expected(501), "it goes on behind the repair");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_stores_nothing_that_is_not_exported() {
    let Some(nats) = NatsServer::start() else { return };
    let place = Place::new(&nats);
    place.write("exports/flights.yaml", MARKED);
    let owner = place.owner();
    let marker = format!("marker{}", Uuid::new_v4().simple());
    let data = format!(
        "{{\"flight\":\"UA1\",\"captain\":\"{marker}\",\"crew\":{{\"seats\":3,\"chief\":\"{marker}\",\"deep\":[[\"{marker}\"]]}},\
         \"notes\":{{\"{marker}\":1}}}}"
    );
    let mut private = event("flight.departed", &format!("stream-{marker}"), &data);
    private.tags = vec![format!("tag:{marker}")];
    private.metadata = Some(format!("{{\"user\":\"{marker}\",\"traceparent\":\"{marker}\"}}").into());
    let other = event("crew.assigned", &marker, &data);
    let mut log = v1::event_log_client::EventLogClient::new(owner.channel().await);
    log.append(append(vec![other, private])).await.unwrap();
    acknowledged(&owner, 1).await;
    let stored = nats.stored_bytes();
    assert!(
        holds(&stored, "{\"crew\":{\"seats\":3},\"flight\":\"UA1\"}"),
        "what is exported is in the broker's files"
    );
    assert!(!holds(&stored, &marker), "what is not exported is in the broker's files");

    // The control: where the marker is exported, it is found there.
    drop(owner);
    place.write("exports/control.yaml", CONTROL);
    let owner = place.owner();
    loop {
        acknowledged(&owner, 1).await;
        if holds(&nats.stored_bytes(), &marker) {
            break;
        }
        tokio::task::yield_now().await;
    }
}
