//! Watches of a served node: snapshot, changes, resumes, resets, slow readers, and what they cost.

use std::{collections::BTreeMap, time::Duration};

use outrigger::{
    api::proto::v1::{self, document_change::Change, key_part::Part, watch_response::Content},
    app,
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::{Node, append, check_refused, config, event, text_key};

const DEFINITION: &str = "\
projection: desk
version: 1
collections:
  tickets:
    indexes: { by_state: [state] }
  others: {}
events:
  ticket.set:
    - put: tickets
      key: data.id
      value: { state: \"${data.state}\", text: \"${data.text}\" }
  ticket.gone:
    - delete: tickets
      key: data.id
  other.set:
    - put: others
      key: data.id
      value: { }
";

/// A projection file in a directory of its own.
fn files(text: &str) -> tempfile::TempDir {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("desk.yaml"), text).unwrap();
    files
}

async fn start(files: &tempfile::TempDir) -> Node {
    Node::start(&[files.path().to_owned()]).await
}

fn set(id: &str, state: &str) -> v1::NewEvent {
    event("ticket.set", "s", &format!(r#"{{"id":"{id}","state":"{state}","text":"t"}}"#))
}

fn gone(id: &str) -> v1::NewEvent {
    event("ticket.gone", "s", &format!(r#"{{"id":"{id}"}}"#))
}

async fn add(node: &Node, events: Vec<v1::NewEvent>) -> v1::Token {
    node.log().append(append(events)).await.unwrap().into_inner().token.unwrap()
}

/// All tickets, at least as of a token.
fn all(at_least: Option<v1::Token>) -> v1::WatchRequest {
    v1::WatchRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(v1::ReadOptions { at_least, ..Default::default() }),
        ..Default::default()
    }
}

async fn watch(node: &Node, request: v1::WatchRequest) -> Watcher {
    let stream = node.query().watch(request).await.unwrap().into_inner();
    Watcher { stream, documents: BTreeMap::new(), position: 0, token: None, resets: Vec::new() }
}

/// A client that puts what it is told into a map.
#[derive(Debug)]
struct Watcher {
    stream: Streaming<v1::WatchResponse>,
    documents: BTreeMap<String, String>,
    position: u64,
    token: Option<String>,
    resets: Vec<String>,
}

impl Watcher {
    /// Takes a message.
    async fn take(&mut self) -> Result<(), Status> {
        let response = self.stream.message().await?.expect("a watch does not end by itself");
        self.token = response.resume_token.or(self.token.take());
        match response.content.unwrap() {
            Content::Documents(batch) => batch.documents.into_iter().for_each(|put| self.put(put)),
            Content::SnapshotComplete(complete) => self.position = complete.position,
            Content::Reset(reset) => {
                self.documents.clear();
                self.resets.push(reset.reason);
            }
            Content::Changes(batch) => {
                for change in batch.changes {
                    match change.change.unwrap() {
                        Change::Put(put) => self.put(put),
                        Change::Deleted(gone) => drop(self.documents.remove(&text(gone.key.as_ref()))),
                    }
                }
                self.position = batch.position.unwrap_or(self.position);
            }
        }
        Ok(())
    }

    fn put(&mut self, document: v1::Document) {
        let value = String::from_utf8(document.value.to_vec()).unwrap();
        self.documents.insert(text(document.key.as_ref()), value);
    }

    /// Takes messages until it has come to a position.
    async fn until(&mut self, position: u64) {
        while self.position < position {
            self.take().await.unwrap();
        }
        assert_eq!(self.position, position);
    }

    /// The failure that the stream ends with.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.take().await {
                return status;
            }
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.documents.keys().map(String::as_str).collect()
    }
}

fn text(key: Option<&v1::Key>) -> String {
    match key.unwrap().parts[0].part.as_ref().unwrap() {
        Part::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_the_snapshot_then_every_change() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let token = add(&node, vec![set("a", "open"), set("b", "open")]).await;
    let mut watcher = watch(&node, all(Some(token))).await;
    watcher.until(2).await;
    assert_eq!(watcher.keys(), ["a", "b"]);
    add(&node, vec![set("a", "shut"), gone("b"), set("c", "open")]).await;
    watcher.until(5).await;
    assert_eq!(watcher.keys(), ["a", "c"]);
    assert_eq!(watcher.documents["a"], r#"{"state":"shut","text":"t"}"#);
    // What does not concern it is told after a while, so that its token keeps up.
    add(&node, vec![event("other.set", "s", r#"{"id":"x"}"#)]).await;
    watcher.until(6).await;
    assert_eq!((watcher.keys(), watcher.resets.len()), (vec!["a", "c"], 0));
    assert_eq!(node.metric("outrigger_watches").await, 1);
    drop(watcher);
    while node.metric("outrigger_watches").await != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_watch_loses_what_no_longer_matches() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let token = add(&node, vec![set("a", "open"), set("b", "shut")]).await;
    let open =
        v1::IndexRange { index: "by_state".into(), equals: vec!["\"open\"".into()], ..Default::default() };
    let by_index = v1::WatchRequest {
        selection: Some(v1::watch_request::Selection::Index(open)),
        fields: vec!["state".into()],
        ..all(Some(token.clone()))
    };
    let filtered = v1::WatchRequest { filter: Some("doc.state == 'open'".into()), ..all(Some(token)) };
    let (mut by_index, mut filtered) = (watch(&node, by_index).await, watch(&node, filtered).await);
    by_index.until(2).await;
    filtered.until(2).await;
    add(&node, vec![set("a", "shut"), set("b", "open")]).await;
    by_index.until(4).await;
    filtered.until(4).await;
    assert_eq!(by_index.documents, BTreeMap::from([("b".into(), r#"{"state":"open"}"#.into())]));
    assert_eq!(filtered.keys(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_over_a_restart_and_is_reset_where_it_cannot() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let token = add(&node, vec![set("a", "open"), set("b", "open")]).await;
    let mut watcher = watch(&node, all(Some(token))).await;
    watcher.until(2).await;
    let resume_token = watcher.token.clone();
    let end = tokio::spawn(async move { watcher.end().await });
    let dir = node.stop().await;
    let status = check_refused(Err::<(), _>(end.await.unwrap()), Code::Unavailable, "STOPPING", "");
    let told = status.get_details_error_info().unwrap().metadata["resume_token"].clone();
    assert_eq!(Some(told), resume_token);

    let config = config(dir.path(), &[files.path().to_owned()]);
    let node = Node::around(app::start(config.clone()).await.unwrap(), dir).await;
    add(&node, vec![gone("b")]).await;
    let resume = v1::WatchRequest { resume_token: resume_token.clone(), ..all(None) };
    let mut watcher = watch(&node, resume.clone()).await;
    watcher.until(3).await;
    assert_eq!((watcher.resets.len(), watcher.documents.len()), (0, 0), "only the deletion was told");

    let dir = node.stop().await;
    std::fs::remove_dir_all(config.data_dir.join("projections")).unwrap();
    let node = Node::around(app::start(config).await.unwrap(), dir).await;
    let mut watcher = watch(&node, resume).await;
    watcher.until(3).await;
    assert_eq!((watcher.resets, watcher.documents.len()), (vec!["REBUILT".to_owned()], 1));
    assert_eq!(node.metric("outrigger_watch_resets_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_changed_in_place_ends_the_watch_and_resets_the_next() {
    let files = files(DEFINITION);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[files.path().to_owned()]);
    config.dev = true;
    let node = Node::around(app::start(config).await.unwrap(), dir).await;
    let token = add(&node, vec![set("a", "open")]).await;
    let mut watcher = watch(&node, all(Some(token))).await;
    watcher.until(1).await;
    std::fs::write(files.path().join("desk.yaml"), DEFINITION.replace("${data.text}", "changed")).unwrap();
    let status = watcher.end().await;
    check_refused(Err::<(), _>(status), Code::Aborted, "VERSION_GONE", "");
    let resume_token = watcher.token.clone();
    // Until the new one is in its place, the old one goes on being gone.
    let mut watcher = loop {
        let mut watcher =
            watch(&node, v1::WatchRequest { resume_token: resume_token.clone(), ..all(None) }).await;
        match watcher.take().await {
            Ok(()) => break watcher,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    watcher.until(1).await;
    assert_eq!(watcher.resets, ["REBUILT"]);
    assert!(watcher.documents["a"].contains("changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_takes_nothing_is_ended_and_holds_up_nobody() {
    let files = files(DEFINITION);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[files.path().to_owned()]);
    config.limits.reader_stall = Duration::from_millis(50);
    let node = Node::around(app::start(config).await.unwrap(), dir).await;
    // More than all buffers between the node and a reader that takes nothing hold.
    let large = "x".repeat(900_000);
    let mut token = None;
    for n in 0..32 {
        let data = format!(r#"{{"id":"k{n}","state":"open","text":"{large}"}}"#);
        token = Some(add(&node, vec![event("ticket.set", "s", &data)]).await);
    }
    let mut slow = watch(&node, all(token.clone())).await;
    let masked = v1::WatchRequest { fields: vec!["state".into()], ..all(token) };
    let mut quick = watch(&node, masked).await;
    quick.until(32).await;
    while node.metric("outrigger_watches").await != 1 {
        tokio::task::yield_now().await;
    }
    let status = slow.end().await;
    check_refused(Err::<(), _>(status), Code::ResourceExhausted, "WATCHER_TOO_SLOW", "");
    add(&node, vec![set("k1", "shut")]).await;
    quick.until(33).await;
    assert_eq!((quick.documents.len(), &*quick.documents["k1"]), (32, r#"{"state":"shut"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_watches_are_refused() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let token = add(&node, vec![set("a", "open")]).await;
    let refused = async |request: v1::WatchRequest, code, reason, field| {
        check_refused(node.query().watch(request).await, code, reason, field);
    };
    let none = || all(None);
    let (invalid, missing) = (Code::InvalidArgument, Code::NotFound);
    let other = |projection: &str, collection: &str| v1::WatchRequest {
        projection: projection.into(),
        collection: collection.into(),
        ..none()
    };
    refused(other("x", "tickets"), missing, "PROJECTION_NOT_FOUND", "projection").await;
    refused(other("desk", "x"), missing, "COLLECTION_NOT_FOUND", "collection").await;
    let filter = Some("doc.state ==".to_owned());
    refused(v1::WatchRequest { filter, ..none() }, invalid, "INVALID_ARGUMENT", "filter").await;
    let fields = vec!["a..b".to_owned()];
    refused(v1::WatchRequest { fields, ..none() }, invalid, "INVALID_ARGUMENT", "fields").await;
    let resume_token = Some("00ff".to_owned());
    refused(v1::WatchRequest { resume_token, ..none() }, invalid, "RESUME_TOKEN_INVALID", "resume_token")
        .await;
    let mut watcher = watch(&node, all(Some(token))).await;
    watcher.until(1).await;
    let filter = Some("true".to_owned());
    let resume_token = watcher.token.clone();
    let changed = v1::WatchRequest { filter, resume_token, ..none() };
    refused(changed, invalid, "RESUME_TOKEN_MISMATCH", "resume_token").await;
    // What only the documents can tell ends the stream.
    let filter = Some("doc.missing == 1".to_owned());
    let mut watcher = watch(&node, v1::WatchRequest { filter, ..none() }).await;
    check_refused(Err::<(), _>(watcher.end().await), invalid, "FILTER_FAILED", "filter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_the_first_build() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let mut watcher = watch(&node, all(None)).await;
    watcher.until(0).await;
    add(&node, vec![set("a", "open")]).await;
    watcher.until(1).await;
    assert_eq!(watcher.keys(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_no_change_concerns_sleep() {
    let files = files(DEFINITION);
    let node = start(&files).await;
    let token = add(&node, vec![set("a", "open")]).await;
    let mut watchers = Vec::new();
    for n in 0..100 {
        let prefix = text_key(&format!("x{n:02}"));
        let keys = v1::KeyRange { prefix: Some(prefix), ..Default::default() };
        let selection = Some(v1::watch_request::Selection::Keys(keys));
        let mut watcher = watch(&node, v1::WatchRequest { selection, ..all(Some(token.clone())) }).await;
        watcher.until(1).await;
        watchers.push(watcher);
    }
    let mut concerned = watch(&node, all(None)).await;
    concerned.until(1).await;
    let before = node.metric("outrigger_watch_wakeups_total").await;
    for n in 0..200 {
        add(&node, vec![set("a", if n % 2 == 0 { "shut" } else { "open" })]).await;
    }
    while concerned.position < 201 {
        concerned.take().await.unwrap();
    }
    // One by one they would have woken 20,000 times; now and then each is woken to tell how far it is.
    let woken = node.metric("outrigger_watch_wakeups_total").await - before;
    assert!(woken < 4_000, "{woken} wake-ups");
    add(&node, vec![set("x07y", "open")]).await;
    while watchers[7].documents.is_empty() {
        watchers[7].take().await.unwrap();
    }
    assert_eq!(watchers[7].keys(), ["x07y"]);
    for watcher in &mut watchers {
        while watcher.position < 202 {
            watcher.take().await.unwrap();
        }
    }
}
