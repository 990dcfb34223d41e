//! Projections as a served node keeps them: deployed, watched, failed, restarted.

use std::path::Path;

use outrigger::api::proto::v1::{self, VersionState};
use tonic::Code;

use crate::support::{Node, append, check_refused, config, event, text_key};

const V1: &str = "\
projection: counts
version: 1
collections: { counts: {} }
events:
  t:
    - add: counts
      key: data.key
      value: { n: \"${data.n}\" }
";

async fn versions(node: &Node) -> Vec<v1::ProjectionVersion> {
    let request = v1::GetProjectionRequest { projection: "counts".into() };
    node.projections().get_projection(request).await.unwrap().into_inner().versions
}

async fn problems(node: &Node) -> Vec<String> {
    let all = node.projections().list_projections(v1::ListProjectionsRequest {}).await.unwrap().into_inner();
    all.problems.into_iter().map(|problem| format!("{}: {}", problem.file, problem.error)).collect()
}

/// Waits until what is looked at holds; the test's own time limit ends it otherwise.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        tick.tick().await;
        if let Some(seen) = look().await {
            return seen;
        }
    }
}

/// Asks for the document `a`.
fn get(version: Option<u32>, at_least: Option<v1::Token>) -> v1::GetRequest {
    v1::GetRequest {
        projection: "counts".into(),
        collection: "counts".into(),
        key: Some(text_key("a")),
        options: Some(v1::ReadOptions { version, at_least, ..Default::default() }),
        fields: Vec::new(),
    }
}

async fn count(node: &Node, version: Option<u32>, at_least: Option<v1::Token>) -> i64 {
    let document = node.query().get(get(version, at_least)).await.unwrap().into_inner().document.unwrap();
    serde_json::from_slice::<serde_json::Value>(&document.value).unwrap()["n"].as_i64().unwrap()
}

async fn add(node: &Node, n: i64) -> Option<v1::Token> {
    let request = append(vec![event("t", "s", &format!("{{\"key\":\"a\",\"n\":{n}}}"))]);
    node.log().append(request).await.unwrap().into_inner().token
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_watched_and_a_vanished_file_retires_nothing() {
    let files = tempfile::tempdir().unwrap();
    write(files.path(), "v1.yaml", V1);
    let node = Node::start(&[files.path().to_owned()]).await;
    let token = add(&node, 2).await;
    assert_eq!(count(&node, None, token).await, 2);
    write(
        files.path(),
        "v2.yaml",
        &V1.replace("version: 1", "version: 2").replace("${data.n}", "${data.n * 10}"),
    );
    let ready = eventually(async || {
        let versions = versions(&node).await;
        (versions.len() == 2 && versions[1].state() == VersionState::Ready).then_some(versions)
    });
    let ready = ready.await;
    assert!(ready[0].active && !ready[1].active, "the first version stays active");
    assert_eq!(ready[1].position, ready[1].head);
    assert_ne!(ready[0].content_hash, ready[1].content_hash);
    std::fs::remove_file(files.path().join("v2.yaml")).unwrap();
    let token = add(&node, 1).await;
    assert_eq!(count(&node, None, token.clone()).await, 3);
    assert_eq!(count(&node, Some(2), token).await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_broken_file_is_a_problem_of_its_own_and_is_mended_by_the_next_one() {
    let files = tempfile::tempdir().unwrap();
    write(files.path(), "v1.yaml", V1);
    let node = Node::start(&[files.path().to_owned()]).await;
    let token = add(&node, 2).await;
    write(files.path(), "v1.yaml", &V1.replace("${data.n}", "${data.n * 10}"));
    write(
        files.path(),
        "broken.yaml",
        "projection: other\nversion: 1\ncollections: { c: {} }\nevents:\n  t:\n    - puut: c\n",
    );
    let seen = eventually(async || Some(problems(&node).await).filter(|problems| problems.len() == 2)).await;
    assert!(seen.iter().any(|p| p.contains("v1.yaml") && p.contains("another definition")), "{seen:?}");
    assert!(seen.iter().any(|p| p.contains("broken.yaml:6:")), "{seen:?}");
    assert_eq!(count(&node, None, token).await, 2);
    write(files.path(), "v1.yaml", V1);
    std::fs::remove_file(files.path().join("broken.yaml")).unwrap();
    eventually(async || problems(&node).await.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_applied_stops_its_projection_and_nothing_else() {
    let files = tempfile::tempdir().unwrap();
    write(files.path(), "v1.yaml", V1);
    let node = Node::start(&[files.path().to_owned()]).await;
    add(&node, 2).await;
    node.log().append(append(vec![event("t", "s", r#"{"key":"a","n":"many"}"#)])).await.unwrap();
    let after = add(&node, 5).await;
    let failed = eventually(async || {
        let version = versions(&node).await.remove(0);
        (version.state() == VersionState::Failed).then_some(version)
    });
    let failed = failed.await;
    assert_eq!((failed.position, failed.head), (1, 3));
    let error = failed.error.unwrap();
    assert!(error.contains("position 2") && error.contains("many"), "{error}");
    assert_eq!(count(&node, None, None).await, 2, "what it had goes on being served");
    check_refused(node.query().get(get(None, after)).await, Code::DeadlineExceeded, "NOT_FRESH_ENOUGH", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_serves_the_same_documents_also_without_the_files() {
    let files = tempfile::tempdir().unwrap();
    write(files.path(), "v1.yaml", V1);
    let node = Node::start(&[files.path().to_owned()]).await;
    for n in 1..=20 {
        add(&node, n).await;
    }
    let head = node.log().get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().token;
    assert_eq!(count(&node, None, head).await, 210);
    let hash = versions(&node).await.remove(0).content_hash;
    let dir = node.stop().await;
    let running = outrigger::app::start(config(dir.path(), &[])).await.unwrap();
    let node = Node::around(running, dir).await;
    // No token: an unpinned read never goes behind what was shown before the restart.
    assert_eq!(count(&node, None, None).await, 210);
    assert_eq!(versions(&node).await.remove(0).content_hash, hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_every_key_from_one_snapshot() {
    let files = tempfile::tempdir().unwrap();
    write(files.path(), "v1.yaml", V1);
    let node = Node::start(&[files.path().to_owned()]).await;
    let at_least = add(&node, 7).await;
    let mut request = v1::BatchGetRequest {
        projection: "counts".into(),
        collection: "counts".into(),
        keys: vec![text_key("none"), text_key("a")],
        options: Some(v1::ReadOptions { at_least, ..Default::default() }),
        fields: vec![],
    };
    let answer = node.query().batch_get(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.context.unwrap().as_of, 1);
    assert_eq!(answer.results[0].document, None);
    assert_eq!(answer.results[1].document.as_ref().unwrap().value, r#"{"n":7}"#);
    request.keys = (0..1_001).map(|n| text_key(&n.to_string())).collect();
    check_refused(node.query().batch_get(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "keys");
}
