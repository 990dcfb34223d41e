//! Watches over promotes and rollbacks: who names no version goes over, who names one stays.

use std::collections::BTreeMap;

use outrigger::api::proto::v1::{self, document_change::Change, watch_response::Content};
use tonic::Streaming;

use super::{add, promote, retire, rollback, with_two};
use crate::support::Node;

/// A client that puts what it is told into a map.
struct Watcher {
    stream: Streaming<v1::WatchResponse>,
    documents: BTreeMap<String, serde_json::Value>,
    position: u64,
    token: Option<String>,
    resets: Vec<String>,
}

impl Watcher {
    async fn start(node: &Node, version: Option<u32>, resume_token: Option<String>) -> Self {
        let request = v1::WatchRequest {
            projection: "desk".into(),
            collection: "tickets".into(),
            options: Some(v1::ReadOptions { version, ..Default::default() }),
            resume_token: resume_token.clone(),
            ..Default::default()
        };
        let stream = node.query().watch(request).await.unwrap().into_inner();
        Self { stream, documents: BTreeMap::new(), position: 0, token: resume_token, resets: Vec::new() }
    }

    fn put(&mut self, document: &v1::Document) {
        let value = serde_json::from_slice(&document.value).unwrap();
        self.documents.insert(format!("{:?}", document.key), value);
    }

    async fn take(&mut self) {
        let response = self.stream.message().await.unwrap().expect("a watch does not end by itself");
        self.token = response.resume_token.or(self.token.take());
        match response.content.unwrap() {
            Content::Documents(batch) => batch.documents.iter().for_each(|document| self.put(document)),
            Content::SnapshotComplete(complete) => self.advance(complete.position),
            Content::Changes(group) => {
                for change in group.changes {
                    match change.change.unwrap() {
                        Change::Put(document) => self.put(&document),
                        Change::Deleted(gone) => {
                            self.documents.remove(&format!("{:?}", gone.key));
                        }
                    }
                }
                self.advance(group.position.unwrap_or(self.position));
            }
            Content::Reset(reset) => {
                self.resets.push(reset.reason);
                self.documents.clear();
            }
        }
    }

    fn advance(&mut self, position: u64) {
        assert!(position >= self.position, "from {} back to {position}", self.position);
        self.position = position;
    }

    /// Waits until it was told of a position by a version.
    async fn sees(&mut self, position: u64, version: u32) {
        let made_by = |value: &serde_json::Value| value["made_by"] == version;
        while self.position < position || !self.documents.values().all(made_by) || self.documents.is_empty() {
            self.take().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_over_to_the_version_that_becomes_active() {
    let node = with_two().await;
    let mut watcher = Watcher::start(&node, None, None).await;
    let mut pinned = Watcher::start(&node, Some(1), None).await;
    watcher.sees(node.head().await, 1).await;
    for round in 1..=3_u64 {
        promote(&node, 2).await.unwrap();
        let token = add(&node, 10 * round).await;
        watcher.sees(token.position, 2).await;
        rollback(&node).await.unwrap();
        let token = add(&node, 10 * round + 1).await;
        watcher.sees(token.position, 1).await;
    }
    assert_eq!(watcher.resets, ["VERSION_CHANGED"; 6]);
    pinned.sees(node.head().await - 1, 1).await;
    assert_eq!(pinned.resets, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_resumes_behind_a_promote_begins_anew_and_never_goes_back() {
    let node = with_two().await;
    let mut watcher = Watcher::start(&node, None, None).await;
    watcher.sees(node.head().await, 1).await;
    let (token, position) = (watcher.token.clone(), watcher.position);
    drop(watcher);
    promote(&node, 2).await.unwrap();
    let mut resumed = Watcher::start(&node, None, token.clone()).await;
    resumed.position = position;
    let appended = add(&node, 9).await;
    resumed.sees(appended.position, 2).await;
    assert_eq!(resumed.resets, ["VERSION_CHANGED"]);
    retire(&node, 1).await.unwrap();
    let mut resumed = Watcher::start(&node, None, token).await;
    resumed.sees(appended.position, 2).await;
    assert_eq!(resumed.resets, ["VERSION_GONE"]);
}
