//! Events that a projection cannot apply, as a served node deals with them: the three policies, over restarts and rebuilds,
//! and the decisions of people about them.

use std::path::Path;

use outrigger::api::proto::v1::{self, EventErrorKind as Kind, VersionState};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Node, append, check_refused, config, event, text_key};

fn definition(policy: &str) -> String {
    format!(
        "\
projection: counts
version: 1
on_error: {policy}
collections: {{ counts: {{}}, others: {{}} }}
events:
  t:
    - add: counts
      key: data.key
      value: {{ n: \"${{data.n}}\" }}
  other:
    - put: others
      key: data.key
      value: {{ there: true }}
"
    )
}

/// A node with one projection under this policy.
async fn start(files: &Path, policy: &str) -> Node {
    std::fs::write(files.join("counts.yaml"), definition(policy)).unwrap();
    Node::start(&[files.to_owned()]).await
}

async fn restart(node: Node, files: &Path, rebuild: bool) -> Node {
    let dir = node.stop().await;
    if rebuild {
        std::fs::remove_file(dir.path().join("data/projections/counts-v1.redb")).unwrap();
    }
    let running = outrigger::app::start(config(dir.path(), &[files.to_owned()])).await.unwrap();
    Node::around(running, dir).await
}

async fn add(node: &Node, stream: &str, n: &str) -> u64 {
    let data = format!("{{\"key\":\"a\",\"n\":{n}}}");
    let answer = node.log().append(append(vec![event("t", stream, &data)])).await.unwrap();
    answer.into_inner().events[0].position
}

async fn show(node: &Node) -> v1::ProjectionVersion {
    let request = v1::GetProjectionRequest { projection: "counts".into() };
    node.projections().get_projection(request).await.unwrap().into_inner().versions.remove(0)
}

/// Waits until the version is as wanted; the test's own time limit ends it otherwise.
async fn until(node: &Node, wanted: impl Fn(&v1::ProjectionVersion) -> bool) -> v1::ProjectionVersion {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        tick.tick().await;
        let version = show(node).await;
        if wanted(&version) {
            return version;
        }
    }
}

async fn paused_at(node: &Node, position: u64) -> v1::ProjectionVersion {
    until(node, |version| version.pause.as_ref().is_some_and(|pause| pause.position == position)).await
}

async fn caught_up(node: &Node) -> v1::ProjectionVersion {
    let head = node.head().await;
    until(node, |version| version.position == head && version.state() == VersionState::Active).await
}

async fn errors(node: &Node, page_size: Option<u32>) -> Vec<v1::EventError> {
    let mut request = v1::ListErrorsRequest { projection: "counts".into(), page_size, ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = node.projections().list_errors(request.clone()).await.unwrap().into_inner();
        all.extend(page.errors);
        request.page_token = page.next_page_token;
        if request.page_token.is_none() {
            return all;
        }
    }
}

fn kinds(errors: &[v1::EventError]) -> Vec<(u64, Kind)> {
    errors.iter().map(|error| (error.position, error.kind())).collect()
}

async fn skip(node: &Node, expect_position: u64) -> Result<v1::SkipResponse, tonic::Status> {
    let reason = Some("from a test".to_owned());
    let request = v1::SkipRequest { projection: "counts".into(), version: None, expect_position, reason };
    node.projections().skip(request).await.map(tonic::Response::into_inner)
}

async fn retry(node: &Node) -> Result<v1::RetryResponse, tonic::Status> {
    let request = v1::RetryRequest { projection: "counts".into(), ..Default::default() };
    node.projections().retry(request).await.map(tonic::Response::into_inner)
}

/// The sum, and whether the answer calls its collection incomplete.
async fn count(node: &Node) -> (i64, bool) {
    let request = v1::GetRequest {
        projection: "counts".into(),
        collection: "counts".into(),
        key: Some(text_key("a")),
        ..Default::default()
    };
    let answer = node.query().get(request).await.unwrap().into_inner();
    let value: serde_json::Value = serde_json::from_slice(&answer.document.unwrap().value).unwrap();
    (value["n"].as_i64().unwrap(), answer.context.unwrap().incomplete)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_projection_shows_its_event_and_a_skip_takes_it_on_for_good() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "pause").await;
    check_refused(retry(&node).await, Code::FailedPrecondition, "NOTHING_TO_RETRY", "");
    add(&node, "s", "2").await;
    let poisoned = add(&node, "s", "\"many\"").await;
    add(&node, "s", "5").await;
    for rebuild in [false, true] {
        let version = paused_at(&node, poisoned).await;
        assert_eq!((version.state(), version.position), (VersionState::Failed, poisoned - 1));
        let pause = version.pause.unwrap();
        let exact = pause.event.unwrap();
        assert_eq!((exact.position, exact.r#type.as_str(), exact.stream.as_str()), (poisoned, "t", "s"));
        assert_eq!((&exact.data[..], exact.revision), (&br#"{"key":"a","n":"many"}"#[..], 2));
        assert_eq!((pause.step, pause.line), (Some(1), Some(7)));
        assert!(pause.error.unwrap().contains("many"));
        assert_eq!(kinds(&errors(&node, None).await), [(poisoned, Kind::Paused)]);
        assert_eq!(count(&node).await, (2, false), "what it had goes on being served");
        let tried = retry(&node).await.unwrap();
        assert_eq!(tried.version.unwrap().pause.unwrap().position, poisoned);
        node = restart(node, files.path(), rebuild).await;
    }
    paused_at(&node, poisoned).await;
    let refused = check_refused(skip(&node, 1).await, Code::Aborted, "STANDS_ELSEWHERE", "");
    assert_eq!(refused.get_details_error_info().unwrap().metadata["actual_position"], poisoned.to_string());
    let skipped = skip(&node, poisoned).await.unwrap();
    assert_eq!(skipped.version.unwrap().skipped_events, 1);
    let version = caught_up(&node).await;
    assert_eq!(count(&node).await, (7, false));
    let refused = check_refused(skip(&node, poisoned).await, Code::Aborted, "STANDS_ELSEWHERE", "");
    assert!(refused.message().contains("skipped already"), "{refused}");
    for rebuild in [false, true] {
        node = restart(node, files.path(), rebuild).await;
        let again = caught_up(&node).await;
        assert_eq!(again.content_hash, version.content_hash, "rebuild: {rebuild}");
        let listed = errors(&node, None).await;
        assert_eq!(kinds(&listed), [(poisoned, Kind::Skipped)]);
        assert_eq!(listed[0].decided_at, Some(skipped.position));
        assert_eq!(listed[0].reason.as_deref(), Some("from a test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_skips_that_come_at_once_one_wins() {
    let files = tempfile::tempdir().unwrap();
    let node = start(files.path(), "pause").await;
    let poisoned = add(&node, "s", "\"many\"").await;
    paused_at(&node, poisoned).await;
    let before = node.head().await;
    let (a, b, c) = tokio::join!(skip(&node, poisoned), skip(&node, poisoned), skip(&node, poisoned));
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 2));
    for lost in lost {
        assert_eq!(lost.unwrap_err().code(), Code::Aborted);
    }
    assert_eq!(node.head().await, before + 1, "one decision is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantining_projection_parks_one_stream_and_goes_on_with_the_rest() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "quarantine").await;
    add(&node, "bad", "1").await;
    let first = add(&node, "bad", "\"many\"").await;
    add(&node, "good", "10").await;
    let second = add(&node, "bad", "2").await;
    let parked = [(first, Kind::Parked), (second, Kind::Waiting)];
    for rebuild in [false, true] {
        let version = caught_up(&node).await;
        assert_eq!((version.parked_events, version.parked_streams), (2, 1));
        let incomplete: Vec<_> =
            version.collections.iter().map(|c| (c.name.as_str(), c.incomplete)).collect();
        assert_eq!(incomplete, [("counts", true), ("others", false)]);
        assert_eq!(count(&node).await, (11, true));
        assert_eq!(kinds(&errors(&node, Some(1)).await), parked, "a page each");
        node = restart(node, files.path(), rebuild).await;
    }
    caught_up(&node).await;
    let retried = retry(&node).await.unwrap();
    assert!(retried.position.is_some(), "a retry of parked events is a decision in the log");
    assert_eq!(retried.version.unwrap().parked_events, 2);
    let refused = check_refused(skip(&node, second).await, Code::Aborted, "STANDS_ELSEWHERE", "");
    assert!(refused.message().contains(&format!("position {first}")), "{refused}");
    skip(&node, first).await.unwrap();
    let late = caught_up(&node).await;
    assert!(late.content_hash_late && late.parked_events == 0 && late.skipped_events == 1);
    assert_eq!(count(&node).await, (13, false));
    node = restart(node, files.path(), false).await;
    assert!(caught_up(&node).await.content_hash_late, "a restart keeps the flag");
    node = restart(node, files.path(), true).await;
    let rebuilt = caught_up(&node).await;
    assert!(!rebuilt.content_hash_late, "a rebuild clears it");
    assert_eq!(rebuilt.content_hash, late.content_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipping_projection_counts_and_goes_on() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "skip").await;
    add(&node, "s", "1").await;
    let first = add(&node, "s", "\"many\"").await;
    let second = add(&node, "s", "{}").await;
    add(&node, "s", "2").await;
    for rebuild in [false, true] {
        let version = caught_up(&node).await;
        assert_eq!((version.skipped_events, version.last_error_position), (2, second));
        assert_eq!(count(&node).await, (3, false));
        let listed = errors(&node, Some(1)).await;
        assert_eq!(kinds(&listed), [(first, Kind::Skipped), (second, Kind::Skipped)]);
        assert!(listed[0].error.as_ref().unwrap().contains("many"));
        node = restart(node, files.path(), rebuild).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_name_what_stands_still() {
    let files = tempfile::tempdir().unwrap();
    let node = start(files.path(), "pause").await;
    let other = definition("quarantine").replace("projection: counts", "projection: parking");
    std::fs::write(files.path().join("parking.yaml"), other).unwrap();
    let poisoned = add(&node, "s", "\"many\"").await;
    paused_at(&node, poisoned).await;
    let parked = "projection parking version 1: parked events: 1, streams: 1";
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    let page = loop {
        tick.tick().await;
        let page = node.page("/readyz").await;
        if page.contains(parked) {
            break page;
        }
    };
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("warning: projection counts version 1 is paused at position 1: "), "{page}");
    let page = node.page("/metrics").await;
    for line in [
        "outrigger_projection_paused{projection=\"counts\",version=\"1\"} 1",
        "outrigger_projection_paused{projection=\"parking\",version=\"1\"} 0",
        "outrigger_projection_parked_events{projection=\"parking\",version=\"1\"} 1",
        "outrigger_projection_last_error_position{projection=\"counts\",version=\"1\"} 1",
        "outrigger_projection_skipped_events{projection=\"counts\",version=\"1\"} 0",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_mean_anything_are_refused() {
    let files = tempfile::tempdir().unwrap();
    let node = start(files.path(), "pause").await;
    let mut client = node.projections();
    let refused =
        client.list_errors(v1::ListErrorsRequest { projection: "nobody".into(), ..Default::default() });
    check_refused(refused.await, Code::NotFound, "PROJECTION_NOT_FOUND", "projection");
    let refused = client.list_errors(v1::ListErrorsRequest {
        projection: "counts".into(),
        page_token: Some("2-5".into()),
        ..Default::default()
    });
    check_refused(refused.await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    let refused = client.skip(v1::SkipRequest {
        projection: "counts".into(),
        expect_position: 1,
        reason: Some("x".repeat(1_025)),
        ..Default::default()
    });
    check_refused(refused.await, Code::InvalidArgument, "LIMIT_EXCEEDED", "reason");
    let refused = check_refused(skip(&node, 1).await, Code::Aborted, "STANDS_ELSEWHERE", "");
    assert!(refused.message().contains("stands at no event"), "{refused}");
    let decision = append(vec![event("$projection.event_skipped", "$projection-counts", "{}")]);
    assert_eq!(node.log().append(decision).await.unwrap_err().code(), Code::InvalidArgument);
}
