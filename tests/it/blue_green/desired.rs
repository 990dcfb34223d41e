//! Desired state: what definition files want to be active becomes so, forwards and back, and what people decide stands.

use std::{path::Path, time::Duration};

use outrigger::{
    api::proto::v1::{self, DeployResult},
    app,
};

use super::{add, definition, deploy, rollback, versions};
use crate::support::{Node, config};

/// A file of version `number` that says when it is to be active.
fn put(dir: &Path, projection: &str, number: u32, auto_promote: &str) {
    let text = definition(number).replace("projection: desk", &format!("projection: {projection}"));
    let text = format!("{text}auto_promote: {auto_promote}\n");
    let path = dir.join(format!("{projection}-v{number}.yaml"));
    let new = dir.join(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

async fn start(data: tempfile::TempDir, dir: &Path) -> Node {
    let mut config = config(data.path(), &[]);
    config.projections.dir = Some(dir.to_owned());
    let running = app::start(config).await.unwrap();
    Node::around(running, data).await
}

async fn active(node: &Node, projection: &str) -> Option<u32> {
    let request = v1::GetProjectionRequest { projection: projection.into() };
    let found = node.projections().get_projection(request).await.ok()?.into_inner().versions;
    found.iter().find(|version| version.active).map(|version| version.version)
}

async fn until_active(node: &Node, projection: &str, version: u32) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while active(node, projection).await != Some(version) {
        tick.tick().await;
    }
}

/// Types and data of all decisions about a projection.
async fn decisions(node: &Node, projection: &str) -> Vec<(String, serde_json::Value)> {
    let stream = Some(format!("$projection-{projection}"));
    let filter = v1::EventFilter { stream, include_system: true, ..Default::default() };
    let request = v1::ReadRequest { filter: Some(filter), ..Default::default() };
    let mut events = node.log().read(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(batch) = events.message().await.unwrap() {
        for event in batch.events {
            found.push((event.r#type, serde_json::from_slice(&event.data).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_of_the_files_becomes_active_forwards_and_back() {
    let files = tempfile::tempdir().unwrap();
    put(files.path(), "desk", 1, "when_ready");
    let node = start(tempfile::tempdir().unwrap(), files.path()).await;
    add(&node, 1).await;
    until_active(&node, "desk", 1).await;
    assert_eq!(decisions(&node, "desk").await, [], "the first version is active without an event");
    put(files.path(), "desk", 2, "when_ready");
    until_active(&node, "desk", 2).await;
    let decided = decisions(&node, "desk").await;
    assert_eq!(decided.len(), 1);
    assert_eq!(decided[0].0, "$projection.promoted");
    let file = files.path().join("desk-v2.yaml").display().to_string();
    let expected = serde_json::json!({"version": 2, "from": 1, "reason": format!("auto_promote: {file}")});
    assert_eq!(decided[0].1, expected);
    put(files.path(), "desk", 3, "never");
    // Deployed, and that is all: it is the highest, and says so.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while versions(&node).await.len() < 3 {
        tick.tick().await;
    }
    for number in [3, 2] {
        std::fs::remove_file(files.path().join(format!("desk-v{number}.yaml"))).unwrap();
    }
    until_active(&node, "desk", 1).await;
    let decided = decisions(&node, "desk").await;
    assert_eq!(decided.len(), 2, "{decided:?}");
    assert_eq!((decided[1].0.as_str(), &decided[1].1["version"]), ("$projection.rolled_back", &1.into()));
    assert_eq!(versions(&node).await.len(), 3, "a file that vanishes retires nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_decides_stands_until_the_files_want_something_else() {
    let files = tempfile::tempdir().unwrap();
    put(files.path(), "desk", 1, "when_ready");
    let node = start(tempfile::tempdir().unwrap(), files.path()).await;
    add(&node, 1).await;
    put(files.path(), "desk", 2, "when_ready");
    until_active(&node, "desk", 2).await;
    rollback(&node).await.unwrap();
    // The files are looked at again, at the start and whenever one of them changes. Projections take their turns in order
    // of their names: when a later one is done, this one was looked at.
    let mut node = start(node.stop().await, files.path()).await;
    put(files.path(), "later", 1, "never");
    put(files.path(), "later", 2, "when_ready");
    until_active(&node, "later", 2).await;
    assert_eq!(active(&node, "desk").await, Some(1));
    assert_eq!(decisions(&node, "desk").await.len(), 2);

    // Where a file cannot be read nobody knows what is wanted.
    std::fs::write(files.path().join("broken.yaml"), "projection: [").unwrap();
    std::fs::remove_file(files.path().join("later-v2.yaml")).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let problems = async |node: &Node| {
        let listed = node.projections().list_projections(v1::ListProjectionsRequest {}).await.unwrap();
        listed.into_inner().problems.len()
    };
    while problems(&node).await == 0 {
        tick.tick().await;
    }
    node = start(node.stop().await, files.path()).await;
    assert_eq!(active(&node, "later").await, Some(2));
    std::fs::remove_file(files.path().join("broken.yaml")).unwrap();

    // Something else is wanted: the next version.
    put(files.path(), "desk", 3, "when_ready");
    until_active(&node, "desk", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_version_becomes_active_is_no_part_of_its_definition() {
    let files = tempfile::tempdir().unwrap();
    put(files.path(), "desk", 1, "when_ready");
    let node = start(tempfile::tempdir().unwrap(), files.path()).await;
    assert_eq!(deploy(&node, &definition(1)).await.unwrap().result(), DeployResult::Unchanged);
    let wrong = format!("{}auto_promote: sometimes\n", definition(2));
    let refused = deploy(&node, &wrong).await.unwrap_err();
    assert!(refused.message().contains("expected when_ready or never"), "{refused}");
}
