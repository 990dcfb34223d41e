//! Ownership over gRPC: what clients may not append, in which words it is refused, and that nothing else changes.

use std::fs;

use outrigger::{
    api::proto::v1::{self, append_stream_response::Outcome, mesh_client::MeshClient},
    app,
    cli::error::status_of,
    ownership::Pattern,
};
use tonic::{Code, Status};

use crate::support::{Node, append, check_refused, config, event};

const IMPORT: &str = "import: from-flights\nfrom: {node: flights, export: departures, version: 1}\n\
                      streams: 'board/flights/*'\nevents: {flight.departed: }\n";

/// A node that owns `board.*` in `board/*`, and imports.
async fn operations() -> Node {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("imports")).unwrap();
    fs::write(dir.path().join("imports/flights.yaml"), IMPORT).unwrap();
    fs::write(dir.path().join("imports/broken.yaml"), "import: 5\n").unwrap();
    let mut config = config(dir.path(), &[]);
    config.imports_dir = Some(dir.path().join("imports"));
    config.owns.types = Some(vec![Pattern::parse("board.*").unwrap()]);
    config.owns.streams = Some(vec![Pattern::parse("board/*").unwrap()]);
    let running = app::start(config).await.unwrap();
    Node::around(running, dir).await
}

/// Refused alone and over a stream, in the same words; nothing of the request is appended.
async fn check(node: &Node, event_type: &str, stream: &str, field: &str, owner: Option<&str>) -> Status {
    let before = node.head().await;
    let request = append(vec![event("board.made", "board/1", "{}"), event(event_type, stream, "{}")]);
    let refused = node.log().append(request.clone()).await;
    let status = check_refused(refused, Code::PermissionDenied, "NOT_OWNER", field);
    let mut answers = {
        let requests = [v1::AppendStreamRequest { request: Some(request) }];
        node.log().append_stream(tokio_stream::iter(requests)).await.unwrap().into_inner()
    };
    let Some(Outcome::Failure(failure)) = answers.message().await.unwrap().unwrap().outcome else {
        panic!("{event_type} in {stream} was appended over a stream");
    };
    let over_stream =
        check_refused(Err::<(), _>(status_of(failure)), Code::PermissionDenied, "NOT_OWNER", field);
    assert_eq!(over_stream.message(), status.message());
    for status in [&status, &over_stream] {
        use tonic_types::StatusExt as _;
        let facts = status.get_details_error_info().unwrap().metadata;
        assert_eq!(facts.get("owner").map(String::as_str), owner, "{facts:?}");
    }
    assert_eq!(node.head().await, before);
    status
}

#[tokio::test]
async fn clients_append_only_what_the_node_owns() {
    let node = operations().await;
    node.log().append(append(vec![event("board.made", "board/1", "{}")])).await.unwrap();
    let status = check(&node, "board.made", "board/flights/UA1", "events[1].stream", Some("flights")).await;
    assert!(
        status.message().contains("the import from-flights keeps events of the node flights"),
        "{status}"
    );
    check(&node, "flight.departed", "board/1", "events[1].type", Some("flights")).await;
    check(&node, "weather.observed", "board/1", "events[1].type", None).await;
    let status = check(&node, "board.made", "elsewhere", "events[1].stream", None).await;
    assert!(status.message().contains("owns.streams names board/* only"), "{status}");
    let read = v1::ReadRequest::default();
    let mut read = node.log().read(read).await.unwrap().into_inner();
    assert!(read.message().await.unwrap().is_some(), "reads are nobody's business");
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_settings_takes_everything() {
    let node = Node::start(&[]).await;
    node.log().append(append(vec![event("anything", "anywhere", "{}")])).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_shares_nothing_says_so() {
    let node = operations().await;
    let mut mesh = MeshClient::new(node.channel.clone());
    let status = mesh.get_mesh_status(v1::GetMeshStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.bus, status.exports.len(), status.log_id.len()), (None, 0, 16));
    let pause = v1::PauseImportRequest { import: "from-flights".into(), reason: None };
    check_refused(mesh.pause_import(pause).await, Code::FailedPrecondition, "IMPORT_STATE", "");
    let nothing = v1::PauseImportRequest::default();
    check_refused(mesh.pause_import(nothing).await, Code::InvalidArgument, "MISSING_FIELD", "import");
    let long = v1::ResumeImportRequest { import: "x".into(), reason: Some("y".repeat(1_025)) };
    check_refused(mesh.resume_import(long).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "reason");
    let skip = v1::SkipImportEventRequest { import: "x".into(), ..v1::SkipImportEventRequest::default() };
    check_refused(
        mesh.skip_import_event(skip).await,
        Code::InvalidArgument,
        "INVALID_POSITION",
        "expect_position",
    );
    node.stop().await;
}
