//! Two nodes on one bus in memory, through the API: what is shared arrives and nothing else leaves, and decisions about an
//! import take effect.

use std::{fs, path::Path, sync::Arc};

use outrigger::{
    api::proto::v1::{self, mesh_client::MeshClient, subscribe_response::Content},
    app,
    config::Config,
    disk::real::RealDisk,
    mesh::{
        memory::{Faults, MemoryBroker},
        trust::SigningKey,
    },
};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::support::{Node, append, check_refused, config, event};

const EXPORT: &str = "export: departures\nversion: 1\nevents:\n  flight.departed: {keep: [flight, delay]}\n";
const IMPORT: &str = "import: flights\nfrom: {node: flights, export: departures, version: 1}\nstreams: 'flights/*'\nevents:\n  \
                      flight.departed:\n    append:\n    - {type: board.flight, data: {flight: \"${data.flight}\", late: \"${data.delay > 15}\"}}\n";

async fn node(name: &str, broker: &MemoryBroker, set: impl FnOnce(&mut Config, &Path)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    name.clone_into(&mut config.node);
    set(&mut config, dir.path());
    let running = app::start_on(config, Some(Arc::new(broker.connect(name)))).await.unwrap();
    Node::around(running, dir).await
}

pub(crate) async fn pair(broker: &MemoryBroker) -> (Node, Node) {
    pair_with(broker, |_, _| {}).await
}

/// The same with further settings for both.
pub(crate) async fn pair_with(broker: &MemoryBroker, set: impl Fn(&mut Config, &Path)) -> (Node, Node) {
    let key = SigningKey::generate();
    let flights = node("flights", broker, |config, dir| {
        fs::create_dir(dir.join("exports")).unwrap();
        fs::write(dir.join("exports/departures.yaml"), EXPORT).unwrap();
        RealDisk.create_private(&dir.join("flights.nk"), key.seed().as_bytes()).unwrap();
        config.exports_dir = Some(dir.join("exports"));
        config.mesh.key_file = Some(dir.join("flights.nk"));
        set(config, dir);
    });
    let flights = flights.await;
    let operations = node("operations", broker, |config, dir| {
        fs::create_dir(dir.join("imports")).unwrap();
        fs::write(dir.join("imports/flights.yaml"), IMPORT).unwrap();
        fs::write(dir.join("trust.yaml"), format!("flights: [{{key: {}}}]\n", key.public())).unwrap();
        config.imports_dir = Some(dir.join("imports"));
        config.mesh.trust_file = Some(dir.join("trust.yaml"));
        set(config, dir);
    });
    (flights, operations.await)
}

pub(crate) async fn depart(node: &Node, data: &str) -> u64 {
    let departed = event("flight.departed", "UA1", data);
    node.log().append(append(vec![departed])).await.unwrap().into_inner().events[0].position
}

/// The first events of a log, as many as are asked for, as they come.
pub(crate) async fn events(node: &Node, count: usize) -> Vec<v1::Event> {
    let mut messages = node.log().subscribe(v1::SubscribeRequest::default()).await.unwrap().into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        if let Some(Content::Events(batch)) = messages.message().await.unwrap().unwrap().content {
            events.extend(batch.events);
        }
    }
    events
}

/// The only import, as soon as it is as it should be.
pub(crate) async fn import(
    mesh: &mut MeshClient<Channel>,
    is_there: impl Fn(&v1::MeshImport) -> bool,
) -> v1::MeshImport {
    loop {
        let status = mesh.get_mesh_status(v1::GetMeshStatusRequest {}).await.unwrap().into_inner();
        if let Some(import) = status.imports.into_iter().find(&is_there) {
            return import;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_arrives_and_nothing_else_leaves() {
    let broker = MemoryBroker::new(1, Faults::none());
    let (flights, operations) = pair(&broker).await;
    let marker = format!("marker{}", Uuid::new_v4().simple());
    let data = format!("{{\"flight\":\"UA1\",\"delay\":20,\"captain\":\"{marker}\"}}");
    let mut private = event("flight.departed", "UA1", &data);
    private.tags = vec![format!("tag:{marker}")];
    private.metadata = Some(format!("{{\"user\":\"{marker}\"}}").into());
    let mut other = event("crew.assigned", &marker, &data);
    other.tags = vec![marker.clone()];
    flights.log().append(append(vec![other, private])).await.unwrap();
    let second = depart(&flights, "{\"flight\":\"UA2\",\"delay\":1}").await;

    let found = events(&operations, 2).await;
    assert_eq!((found[0].r#type.as_str(), found[0].stream.as_str()), ("board.flight", "flights/UA1"));
    assert_eq!(found[0].data, "{\"flight\":\"UA1\",\"late\":true}");
    assert_eq!(found[1].data, "{\"flight\":\"UA2\",\"late\":false}");
    let origin = found[1].origin.as_ref().unwrap();
    assert_eq!((origin.owner.as_str(), origin.position), ("flights", second));

    let kept = broker.messages("flights");
    let bytes: Vec<u8> = (kept.iter().map(|kept| &kept.message))
        .flat_map(|message| {
            let headers =
                message.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()].concat());
            message.subject.bytes().chain(headers).chain(message.payload.to_vec()).collect::<Vec<u8>>()
        })
        .collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(
        kept.len() >= 2 && holds("{\"delay\":20,\"flight\":\"UA1\"}"),
        "what is exported is on the broker"
    );
    assert!(!holds(&marker), "what is not exported is on the broker");

    let foreign = operations.log().append(append(vec![event("board.flight", "flights/UA1", "{}")])).await;
    check_refused(foreign, Code::PermissionDenied, "NOT_OWNER", "events[0].stream");
    let mut mesh = MeshClient::new(operations.channel.clone());
    let import =
        import(&mut mesh, |import| import.cursor.as_ref().is_some_and(|cursor| cursor.seq == 2)).await;
    assert_eq!((import.from.unwrap().owner.as_str(), import.appended), ("flights", 2));
    let peers = mesh.list_peers(v1::ListPeersRequest {}).await.unwrap().into_inner().peers;
    assert_eq!(
        (peers[0].node.as_str(), peers[0].imports.as_slice()),
        ("flights", &["flights".to_owned()][..])
    );
    let status = MeshClient::new(flights.channel.clone()).get_mesh_status(v1::GetMeshStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!((status.exports[0].seq, status.bus.unwrap().is_connected), (2, true));
    flights.stop().await;
    operations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_paused_resumed_and_passes_an_event_by() {
    let broker = MemoryBroker::new(2, Faults::none());
    let (flights, operations) = pair(&broker).await;
    let mut mesh = MeshClient::new(operations.channel.clone());
    depart(&flights, "{\"flight\":\"UA1\",\"delay\":1}").await;
    events(&operations, 1).await;
    let (name, reason) = ("flights".to_owned(), Some("a test".to_owned()));
    let pause = v1::PauseImportRequest { import: name.clone(), reason: reason.clone() };
    assert!(mesh.pause_import(pause).await.unwrap().into_inner().position > 1);
    import(&mut mesh, |import| import.state() == v1::ImportState::Paused).await;
    let broken = depart(&flights, "{\"flight\":\"UA2\"}").await;
    depart(&flights, "{\"flight\":\"UA3\",\"delay\":99}").await;
    let unknown = v1::PauseImportRequest { import: "weather".into(), reason: None };
    check_refused(mesh.pause_import(unknown).await, Code::NotFound, "IMPORT_NOT_FOUND", "");
    mesh.resume_import(v1::ResumeImportRequest { import: name.clone(), reason: None }).await.unwrap();

    let stopped = import(&mut mesh, |import| import.state() == v1::ImportState::Stopped).await;
    let stop = stopped.stop.unwrap();
    assert_eq!((stop.reason.as_str(), stop.position, stop.seq), ("MAPPING_FAILED", broken, 2));
    assert!(
        stop.message.contains("data.late, in `data.delay > 15`: `data.delay` is missing"),
        "{}",
        stop.message
    );
    let skip = |expect_position| v1::SkipImportEventRequest {
        import: name.clone(),
        expect_position,
        reason: reason.clone(),
    };
    check_refused(mesh.skip_import_event(skip(broken + 1)).await, Code::Aborted, "OTHER_POSITION", "");
    mesh.skip_import_event(skip(broken)).await.unwrap();
    let found = events(&operations, 2).await;
    assert_eq!(found[1].data, "{\"flight\":\"UA3\",\"late\":true}");
    flights.stop().await;
    operations.stop().await;
}
