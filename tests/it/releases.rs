//! Releases through gRPC: applied, read by their name, promoted and taken back in one step, and what is refused.

use outrigger::{api::proto::v1, app};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{Node, append, config, event, text_key};

mod kills;

/// Version `number` of a projection over one type of events; every document says which version made it.
fn definition(projection: &str, number: u32) -> v1::DefinitionFile {
    let definition = format!(
        "projection: {projection}\nversion: {number}\ncollections: {{ tickets: {{}} }}\nevents:\n  ticket.set:\n    \
         - put: tickets\n      key: data.id\n      value: {{ n: \"${{data.n}}\", made_by: {number} }}\n"
    );
    v1::DefinitionFile { file: format!("{projection}-v{number}.yaml"), definition }
}

async fn start(dir: tempfile::TempDir) -> Node {
    let running = app::start(config(dir.path(), &[])).await.unwrap();
    Node::around(running, dir).await
}

async fn apply(
    node: &Node,
    release: &str,
    versions: &[(&str, u32)],
) -> Result<v1::ApplyReleaseResponse, Status> {
    let definitions = versions.iter().map(|(projection, number)| definition(projection, *number)).collect();
    let request = v1::ApplyReleaseRequest { release: release.into(), definitions, reason: None };
    node.releases().apply_release(request).await.map(tonic::Response::into_inner)
}

async fn promote(node: &Node, release: &str) -> Result<v1::PromoteReleaseResponse, Status> {
    let request = v1::PromoteReleaseRequest { release: release.into(), ..Default::default() };
    node.releases().promote_release(request).await.map(tonic::Response::into_inner)
}

async fn rollback(node: &Node, release: &str) -> Result<v1::RollbackReleaseResponse, Status> {
    let request = v1::RollbackReleaseRequest { release: release.into(), reason: Some("a test".into()) };
    node.releases().rollback_release(request).await.map(tonic::Response::into_inner)
}

async fn show(node: &Node, release: &str) -> v1::Release {
    let request = v1::GetReleaseRequest { release: release.into() };
    node.releases().get_release(request).await.unwrap().into_inner().release.unwrap()
}

async fn promote_one(node: &Node, projection: &str, version: u32) {
    let request = v1::PromoteRequest { projection: projection.into(), version, ..Default::default() };
    node.projections().promote(request).await.unwrap();
}

async fn add(node: &Node, n: u64) -> v1::Token {
    let set = event("ticket.set", "s", &format!(r#"{{"id":"a","n":{n}}}"#));
    node.log().append(append(vec![set])).await.unwrap().into_inner().token.unwrap()
}

/// Which version answers a query that sees the head; the release is named by the call's metadata.
async fn answers(node: &Node, projection: &str, release: Option<&str>) -> Result<u32, Status> {
    let token = add(node, 1).await;
    let mut request = Request::new(v1::GetRequest {
        projection: projection.into(),
        collection: "tickets".into(),
        key: Some(text_key("a")),
        options: Some(v1::ReadOptions { at_least: Some(token), ..Default::default() }),
        ..Default::default()
    });
    if let Some(release) = release {
        request.metadata_mut().insert("outrigger-release", release.parse().unwrap());
    }
    let answer = node.query().get(request).await?.into_inner();
    let (context, document) = (answer.context.unwrap(), answer.document.unwrap());
    let value: serde_json::Value = serde_json::from_slice(&document.value).unwrap();
    assert_eq!(value["made_by"], context.version, "the document is of the version that answered");
    Ok(context.version)
}

async fn all_answer(node: &Node, release: Option<&str>) -> (u32, u32) {
    (answers(node, "desk", release).await.unwrap(), answers(node, "door", release).await.unwrap())
}

fn check_refused(status: &Status, code: Code, reason: &str, says: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, reason, "{status:?}");
    assert!(status.message().contains(says), "{says:?} is not in {:?}", status.message());
}

/// A node where blue (version 1 of both) is active and green (version 2 of `desk`, 3 of `door`) stands beside it.
async fn with_two() -> Node {
    let node = start(tempfile::tempdir().unwrap()).await;
    let blue = apply(&node, "blue", &[("desk", 1), ("door", 1)]).await.unwrap();
    assert_eq!((blue.deployed, blue.position), (2, Some(1)));
    // Of several versions of a projection the highest counts.
    let green = apply(&node, "green", &[("door", 3), ("desk", 2), ("door", 2)]).await.unwrap();
    assert_eq!(green.deployed, 3);
    let named: Vec<_> =
        green.release.unwrap().versions.into_iter().map(|v| (v.projection, v.version)).collect();
    assert_eq!(named, [("desk".to_owned(), 2), ("door".to_owned(), 3)]);
    assert_eq!(all_answer(&node, Some("green")).await, (2, 3));
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_read_exactly_what_their_release_names() {
    let node = with_two().await;
    assert_eq!(all_answer(&node, None).await, (1, 1));
    assert_eq!(all_answer(&node, Some("blue")).await, (1, 1));
    assert_eq!(all_answer(&node, Some("green")).await, (2, 3));
    promote_one(&node, "desk", 2).await;
    promote_one(&node, "door", 3).await;
    assert_eq!(all_answer(&node, Some("blue")).await, (1, 1), "blue code still reads blue documents");

    let unknown = answers(&node, "desk", Some("red")).await.unwrap_err();
    check_refused(&unknown, Code::NotFound, "RELEASE_NOT_FOUND", "red");
    apply(&node, "small", &[("desk", 2)]).await.unwrap();
    let outside = answers(&node, "door", Some("small")).await.unwrap_err();
    check_refused(&outside, Code::FailedPrecondition, "PROJECTION_NOT_IN_RELEASE", "door");

    // What the message names comes first.
    let options = v1::ReadOptions { version: Some(1), ..Default::default() };
    let mut request = Request::new(v1::ListRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(options),
        ..Default::default()
    });
    request.metadata_mut().insert("outrigger-release", "green".parse().unwrap());
    assert_eq!(node.query().list(request).await.unwrap().into_inner().context.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_promoted_and_taken_back_in_one_step() {
    let node = with_two().await;
    let promoted = promote(&node, "green").await.unwrap();
    let turns: Vec<_> = promoted
        .turns
        .iter()
        .map(|turn| (turn.previous_version, turn.active_version, turn.answering_version))
        .collect();
    assert_eq!(turns, [(1, 2, 2), (1, 3, 3)]);
    assert_eq!(promoted.position, Some(node.head().await), "one append: two versions and the release");
    assert_eq!(all_answer(&node, None).await, (2, 3));
    let green = show(&node, "green").await;
    assert!(green.active && green.ready);
    assert_eq!(green.promoted_position, promoted.position);
    let head = node.head().await;
    assert_eq!(promote(&node, "green").await.unwrap().position, None, "nothing to decide");
    assert_eq!(node.head().await, head);

    let back = rollback(&node, "green").await.unwrap();
    assert_eq!(back.position, head + 3);
    assert_eq!(all_answer(&node, None).await, (1, 1));
    assert!(!show(&node, "green").await.active && show(&node, "blue").await.active);
    let twice = rollback(&node, "green").await.unwrap_err();
    check_refused(&twice, Code::FailedPrecondition, "RELEASE_NOT_PROMOTED", "green");

    // Again, over a restart, and with something else decided meanwhile.
    promote(&node, "green").await.unwrap();
    let node = start(node.stop().await).await;
    assert_eq!(all_answer(&node, None).await, (2, 3));
    assert_eq!(all_answer(&node, Some("blue")).await, (1, 1));
    promote_one(&node, "door", 2).await;
    let moved = rollback(&node, "green").await.unwrap_err();
    check_refused(&moved, Code::FailedPrecondition, "RELEASE_MOVED", "door");
    assert_eq!(all_answer(&node, None).await, (2, 2), "nothing was decided about the other one either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_which_one_version_is_not_ready_is_not_promoted_at_all() {
    let node = with_two().await;
    let pause = v1::PauseRequest { projection: "door".into(), version: 3 };
    node.projections().pause(pause).await.unwrap();
    let head = node.head().await;
    let refused = promote(&node, "green").await.unwrap_err();
    check_refused(&refused, Code::FailedPrecondition, "NOT_READY", "door version 3");
    assert_eq!(node.head().await, head, "nothing is in the log");
    assert_eq!(answers(&node, "desk", None).await.unwrap(), 1);
    node.projections().resume(v1::ResumeRequest { projection: "door".into(), version: 3 }).await.unwrap();
    assert_eq!(answers(&node, "door", Some("green")).await.unwrap(), 3);
    promote(&node, "green").await.unwrap();
    assert_eq!(all_answer(&node, None).await, (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_a_release_names_are_not_retired_and_removing_it_lets_them_go() {
    let node = with_two().await;
    let retire = || {
        let request = v1::RetireRequest { projection: "desk".into(), version: 2, reason: None };
        let mut client = node.projections();
        async move { client.retire(request).await }
    };
    let needed = retire().await.unwrap_err();
    check_refused(&needed, Code::FailedPrecondition, "VERSION_NEEDED", "release green");
    let repeated = apply(&node, "green", &[("desk", 2), ("door", 3)]).await.unwrap();
    assert_eq!((repeated.position, repeated.deployed), (None, 0));
    // Bound to something else, the name goes on.
    let rebound = apply(&node, "green", &[("desk", 3), ("door", 3)]).await.unwrap();
    assert!(rebound.position.is_some());
    assert_eq!(all_answer(&node, Some("green")).await, (3, 3));
    retire().await.unwrap();
    let request = v1::RemoveReleaseRequest { release: "green".into(), reason: None };
    node.releases().remove_release(request.clone()).await.unwrap();
    check_refused(
        &node.releases().remove_release(request).await.unwrap_err(),
        Code::NotFound,
        "RELEASE_NOT_FOUND",
        "blue",
    );
    let names: Vec<_> =
        node.releases().list_releases(v1::ListReleasesRequest {}).await.unwrap().into_inner().releases;
    assert_eq!(names.iter().map(|release| &*release.release).collect::<Vec<_>>(), ["blue"]);
    let node = start(node.stop().await).await;
    check_refused(
        &answers(&node, "desk", Some("green")).await.unwrap_err(),
        Code::NotFound,
        "RELEASE_NOT_FOUND",
        "blue",
    );
    assert_eq!(answers(&node, "desk", Some("blue")).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_release_is_refused_and_deploys_nothing() {
    let node = start(tempfile::tempdir().unwrap()).await;
    let name = apply(&node, "Not-A-Label", &[("desk", 1)]).await.unwrap_err();
    check_refused(&name, Code::InvalidArgument, "INVALID_ARGUMENT", "Not-A-Label");
    let empty = apply(&node, "green", &[]).await.unwrap_err();
    check_refused(&empty, Code::InvalidArgument, "INVALID_ARGUMENT", "definitions");
    let mut definitions = vec![definition("desk", 1), definition("door", 1)];
    definitions[1].definition = "projection: door\n".into();
    let request = v1::ApplyReleaseRequest { release: "green".into(), definitions, reason: None };
    let broken = node.releases().apply_release(request).await.unwrap_err();
    check_refused(&broken, Code::InvalidArgument, "INVALID_DEFINITION", "door-v1.yaml");
    let listed =
        node.projections().list_projections(v1::ListProjectionsRequest {}).await.unwrap().into_inner();
    assert_eq!((listed.versions.len(), node.head().await), (0, 0));

    apply(&node, "green", &[("desk", 1)]).await.unwrap();
    let mut changed = definition("desk", 1);
    changed.definition = changed.definition.replace("data.n", "data.id");
    let request =
        v1::ApplyReleaseRequest { release: "green".into(), definitions: vec![changed], reason: None };
    let changed = node.releases().apply_release(request).await.unwrap_err();
    check_refused(&changed, Code::FailedPrecondition, "DEFINITION_CHANGED", "data.id");
}
