//! Versions side by side through gRPC: promote, roll back, retire, come back, and what is refused with which reason.

use std::{path::Path, time::Duration};

use outrigger::{
    api::proto::v1::{self, DeployResult, VersionState},
    app,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Node, append, check_refused, config, event, text_key};

mod desired;
mod emitting;
mod kills;
mod restarts;
mod traffic;
mod watching;

/// Version `number` of projection `desk`; every document says which version made it.
pub(crate) fn definition(number: u32) -> String {
    format!(
        "projection: desk\nversion: {number}\ncollections: {{ tickets: {{ indexes: {{ by_n: [n] }} }} }}\nevents:\n  \
         ticket.set:\n    - put: tickets\n      key: data.id\n      value: {{ n: \"${{data.n}}\", made_by: {number} }}\n"
    )
}

/// A node on `dir` without a projection directory.
async fn start(dir: tempfile::TempDir) -> Node {
    let running = app::start(config(dir.path(), &[])).await.unwrap();
    Node::around(running, dir).await
}

async fn fresh() -> Node {
    start(tempfile::tempdir().unwrap()).await
}

async fn restart(node: Node) -> Node {
    start(node.stop().await).await
}

async fn deploy(node: &Node, text: &str) -> Result<v1::DeployResponse, Status> {
    let request = v1::DeployRequest { definition: text.into(), file: "desk.yaml".into() };
    node.projections().deploy(request).await.map(tonic::Response::into_inner)
}

async fn add(node: &Node, n: u64) -> v1::Token {
    let set = event("ticket.set", "s", &format!(r#"{{"id":"a","n":{n}}}"#));
    node.log().append(append(vec![set])).await.unwrap().into_inner().token.unwrap()
}

/// The document's `n` and the version that made it, which must be the one that says it answered; and the as-of position.
async fn get(node: &Node, options: v1::ReadOptions) -> Result<(u64, u32, u64), Status> {
    let request = v1::GetRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        key: Some(text_key("a")),
        options: Some(options),
        ..Default::default()
    };
    let answer = node.query().get(request).await?.into_inner();
    let context = answer.context.unwrap();
    let value: serde_json::Value = serde_json::from_slice(&answer.document.unwrap().value).unwrap();
    assert_eq!(value["made_by"], context.version, "the document is of the version that answered");
    Ok((value["n"].as_u64().unwrap(), context.version, context.as_of))
}

fn at_least(token: &v1::Token) -> v1::ReadOptions {
    v1::ReadOptions { at_least: Some(token.clone()), ..Default::default() }
}

/// Which version answers a read that sees the head.
async fn answering(node: &Node) -> u32 {
    let token = add(node, 1).await;
    get(node, at_least(&token)).await.unwrap().1
}

async fn promote(node: &Node, version: u32) -> Result<v1::PromoteResponse, Status> {
    let request = v1::PromoteRequest { projection: "desk".into(), version, ..Default::default() };
    node.projections().promote(request).await.map(tonic::Response::into_inner)
}

async fn rollback(node: &Node) -> Result<v1::RollbackResponse, Status> {
    let request = v1::RollbackRequest { projection: "desk".into(), ..Default::default() };
    node.projections().rollback(request).await.map(tonic::Response::into_inner)
}

async fn retire(node: &Node, version: u32) -> Result<v1::RetireResponse, Status> {
    let request =
        v1::RetireRequest { projection: "desk".into(), version, reason: Some("from a test".into()) };
    node.projections().retire(request).await.map(tonic::Response::into_inner)
}

async fn versions(node: &Node) -> Vec<v1::ProjectionVersion> {
    let request = v1::GetProjectionRequest { projection: "desk".into() };
    node.projections().get_projection(request).await.unwrap().into_inner().versions
}

/// Waits until all versions are in these states; the test's own time limit ends it otherwise.
async fn until(node: &Node, expected: &[(u32, VersionState)]) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let found: Vec<_> =
            versions(node).await.iter().map(|version| (version.version, version.state())).collect();
        if found == expected {
            return;
        }
    }
}

/// A node with two versions at the head, the first one active.
async fn with_two() -> Node {
    let node = fresh().await;
    for number in [1, 2] {
        let deployed = deploy(&node, &definition(number)).await.unwrap();
        assert_eq!((deployed.version, deployed.result()), (number, DeployResult::New));
    }
    add(&node, 1).await;
    until(&node, &[(1, VersionState::Active), (2, VersionState::Ready)]).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_promoted_and_rolled_back_and_says_so() {
    let node = with_two().await;
    assert_eq!(answering(&node).await, 1);
    let promoted = promote(&node, 2).await.unwrap();
    assert_eq!((promoted.previous_version, promoted.active_version, promoted.answering_version), (1, 2, 2));
    assert_eq!(promoted.position, Some(node.head().await));
    until(&node, &[(1, VersionState::Standby), (2, VersionState::Active)]).await;
    assert_eq!(answering(&node).await, 2);
    let pinned = v1::ReadOptions { version: Some(1), ..at_least(&add(&node, 7).await) };
    assert_eq!(get(&node, pinned).await.unwrap().0, 7, "the version before goes on applying");
    let head = node.head().await;
    let again = promote(&node, 2).await.unwrap();
    assert_eq!((again.position, again.answering_version), (None, 2), "there was nothing to do");
    assert_eq!(node.head().await, head);

    let back = rollback(&node).await.unwrap();
    assert_eq!((back.previous_version, back.active_version, back.answering_version), (2, 1, 1));
    until(&node, &[(1, VersionState::Active), (2, VersionState::Standby)]).await;
    assert_eq!(answering(&node).await, 1);
    let refused = rollback(&node).await;
    check_refused(refused, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK_TO", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_promoted_is_refused_with_its_reason() {
    let node = with_two().await;
    let request =
        v1::PromoteRequest { projection: "desk".into(), version: 2, ..v1::PromoteRequest::default() };
    let mut client = node.projections();
    let elsewhere = v1::PromoteRequest { expect_active: Some(2), ..request.clone() };
    let refused = check_refused(client.promote(elsewhere).await, Code::Aborted, "EXPECTED_ACTIVE", "");
    assert_eq!(refused.get_details_error_info().unwrap().metadata["actual_version"], "1");
    let unknown = v1::PromoteRequest { version: 9, ..request.clone() };
    check_refused(client.promote(unknown).await, Code::NotFound, "VERSION_NOT_FOUND", "options.version");
    let nobody = v1::PromoteRequest { projection: "nobody".into(), ..request.clone() };
    check_refused(client.promote(nobody).await, Code::NotFound, "PROJECTION_NOT_FOUND", "projection");
    let zero = v1::PromoteRequest { version: 0, ..request.clone() };
    check_refused(client.promote(zero).await, Code::InvalidArgument, "INVALID_ARGUMENT", "version");
    let wordy = v1::PromoteRequest { reason: Some("x".repeat(1_025)), ..request.clone() };
    check_refused(client.promote(wordy).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "reason");

    // One that stands still lags behind whatever is appended.
    let pause = v1::PauseRequest { projection: "desk".into(), version: 2 };
    let paused = client.pause(pause.clone()).await.unwrap().into_inner();
    assert_eq!((paused.was_paused, paused.position), (false, node.head().await));
    assert!(client.pause(pause).await.unwrap().into_inner().was_paused);
    add(&node, 2).await;
    let refused = check_refused(promote(&node, 2).await, Code::FailedPrecondition, "NOT_READY", "");
    assert!(refused.message().contains("paused"), "{refused}");
    let details = refused.get_details_error_info().unwrap().metadata;
    assert_eq!((details["lag"].as_str(), details["on_its_way"].as_str()), ("1", "false"));
    assert_eq!(refused.get_details_precondition_failure().unwrap().violations[0].r#type, "READY");
    let resume = v1::ResumeRequest { projection: "desk".into(), version: 2 };
    assert!(client.resume(resume.clone()).await.unwrap().into_inner().was_paused);
    assert!(!client.resume(resume).await.unwrap().into_inner().was_paused);
    let active = v1::PauseRequest { projection: "desk".into(), version: 1 };
    check_refused(client.pause(active).await, Code::FailedPrecondition, "VERSION_ACTIVE", "");

    // One that failed is not ready.
    let broken = definition(3).replace("data.n}", "data.nothing}");
    deploy(&node, &broken).await.unwrap();
    until(&node, &[(1, VersionState::Active), (2, VersionState::Ready), (3, VersionState::Failed)]).await;
    let refused = check_refused(promote(&node, 3).await, Code::FailedPrecondition, "NOT_READY", "");
    assert_eq!(refused.get_details_error_info().unwrap().metadata["state"], "failed");
    assert_eq!(answering(&node).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_promotes_that_come_at_once_one_wins() {
    let node = with_two().await;
    deploy(&node, &definition(3)).await.unwrap();
    until(&node, &[(1, VersionState::Active), (2, VersionState::Ready), (3, VersionState::Ready)]).await;
    let expecting = |version| {
        let mut client = node.projections();
        let request = v1::PromoteRequest {
            projection: "desk".into(),
            version,
            expect_active: Some(1),
            ..Default::default()
        };
        async move { client.promote(request).await.map(tonic::Response::into_inner) }
    };
    let before = node.head().await;
    let (a, b, c, d) = tokio::join!(expecting(2), expecting(3), expecting(2), expecting(3));
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c, d].into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 3));
    for lost in lost {
        assert_eq!(lost.unwrap_err().code(), Code::Aborted);
    }
    let won = won.into_iter().next().unwrap().unwrap();
    assert_eq!(node.head().await, before + 1, "one decision is in the log");
    assert_eq!(answering(&node).await, won.active_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_is_gone_and_comes_back_with_its_definition_only() {
    let mut node = with_two().await;
    check_refused(retire(&node, 1).await, Code::FailedPrecondition, "VERSION_ACTIVE", "");
    promote(&node, 2).await.unwrap();
    let listed = v1::ListRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        page_size: Some(1),
        options: Some(v1::ReadOptions { version: Some(1), ..Default::default() }),
        ..Default::default()
    };
    for id in ["b", "c"] {
        let set = event("ticket.set", "s", &format!(r#"{{"id":"{id}","n":1}}"#));
        let token = node.log().append(append(vec![set])).await.unwrap().into_inner().token;
        let options = v1::ReadOptions { version: Some(1), at_least: token, ..Default::default() };
        get(&node, options).await.unwrap();
    }
    let page = node.query().list(listed.clone()).await.unwrap().into_inner();
    let retired = retire(&node, 1).await.unwrap();
    assert_eq!(retired.position, node.head().await);
    assert!(!node.dir.path().join("data/projections/desk-v1.redb").exists(), "its file is gone");
    for round in 0..2 {
        until(&node, &[(1, VersionState::Retired), (2, VersionState::Active)]).await;
        let pinned = v1::ReadOptions { version: Some(1), ..Default::default() };
        check_refused(get(&node, pinned).await, Code::NotFound, "VERSION_NOT_FOUND", "options.version");
        let next = v1::ListRequest { page_token: page.next_page_token.clone(), ..listed.clone() };
        check_refused(node.query().list(next).await, Code::Aborted, "PAGE_EXPIRED", "");
        check_refused(promote(&node, 1).await, Code::FailedPrecondition, "VERSION_RETIRED", "");
        check_refused(retire(&node, 1).await, Code::FailedPrecondition, "VERSION_RETIRED", "");
        check_refused(rollback(&node).await, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK_TO", "");
        let other = definition(1).replace("by_n", "by_m");
        check_refused(deploy(&node, &other).await, Code::FailedPrecondition, "DEFINITION_CHANGED", "");
        if round == 0 {
            node = restart(node).await;
        }
    }
    let again = deploy(&node, &definition(1)).await.unwrap();
    assert_eq!(again.result(), DeployResult::Restored);
    until(&node, &[(1, VersionState::Ready), (2, VersionState::Active)]).await;
    promote(&node, 1).await.unwrap();
    assert_eq!(answering(&node).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_definition_is_refused_and_told_what_changed() {
    let node = with_two().await;
    assert_eq!(deploy(&node, &definition(2)).await.unwrap().result(), DeployResult::Unchanged);
    let changed = definition(2).replace("by_n: [n]", "by_m: [n]").replace("made_by: 2", "made_by: 3");
    let refused = deploy(&node, &changed).await;
    let refused = check_refused(refused, Code::FailedPrecondition, "DEFINITION_CHANGED", "");
    for words in [
        "index by_n of collection tickets is gone",
        "index by_m of collection tickets is new",
        "events.ticket.set[0].value.made_by is 3, it was 2",
    ] {
        assert!(refused.message().contains(words), "no {words:?} in {refused}");
    }
    let broken = deploy(&node, "projection: desk\nversion: none\n").await;
    let broken = check_refused(broken, Code::InvalidArgument, "INVALID_DEFINITION", "definition");
    assert!(broken.message().contains("desk.yaml:2:10"), "{broken}");
    let request = v1::DeployRequest { definition: definition(4), file: "a\nb".into() };
    check_refused(
        node.projections().deploy(request).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "file",
    );
}

/// Removes the file of the node's own state, as if it were lost.
fn lose_meta(dir: &Path) {
    std::fs::remove_file(dir.join("data/meta.redb")).unwrap();
}
