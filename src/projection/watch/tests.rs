//! Tests of watchers: what they hold against what a list gives.

use std::{collections::BTreeMap, path::Path};

use super::*;
use crate::{
    disk::sim::SimDisk,
    follower::Follower as _,
    json::Json,
    projection::{
        change_table::tests::{forget, trim},
        query::Selection,
        store::LogFacts,
        testing::{DATA, DEFINITION, Driven, Node},
    },
};

mod random;

/// A client that puts what it is told into a map.
#[derive(Debug, Default)]
struct Client {
    documents: BTreeMap<Vec<u8>, Document>,
    token: Option<ResumeToken>,
    resets: Vec<ResetReason>,
    /// All puts and deletions that it was told since the last snapshot, in words.
    told: Vec<String>,
}

impl Client {
    /// Takes a message; gives whether it completes something.
    fn take(&mut self, told: Told) -> bool {
        match told {
            Told::Reset(reason) => {
                self.documents.clear();
                self.resets.push(reason);
                false
            }
            Told::Documents(documents) => {
                for document in documents {
                    let before = self.documents.insert(document.key.encode(), document);
                    assert_eq!(before, None, "a snapshot tells a document once");
                }
                false
            }
            Told::SnapshotComplete { context, resume } => {
                assert_eq!(context.as_of, resume.log.position);
                self.told.clear();
                self.token = Some(resume);
                true
            }
            Told::Changes { changes, resume } => {
                for change in changes {
                    self.change(change);
                }
                self.token = resume.or(self.token);
                resume.is_some()
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put(document) => {
                self.told.push(format!("{}@{}", document.key, document.position));
                self.documents.insert(document.key.encode(), document);
            }
            Change::Deleted { key, position } => {
                self.told.push(format!("-{key}@{position}"));
                self.documents.remove(&key.encode());
            }
        }
    }
}

fn node() -> Node {
    Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA))
}

fn reading(version: &Driven) -> Reading {
    let snapshot = version.store.snapshot().unwrap();
    let as_of = snapshot.state().cursor;
    Reading::new(
        snapshot,
        ReadContext {
            projection: "p".into(),
            version: 1,
            as_of,
            head: as_of,
            stale: false,
            incomplete: false,
        },
    )
}

/// All documents that a list gives now.
fn listed(version: &Driven, query: &ListQuery) -> BTreeMap<Vec<u8>, Document> {
    let mut pages = reading(version).pages(query, None).unwrap();
    let mut all = BTreeMap::new();
    while let Some(page) = pages.next_page().unwrap() {
        all.extend(page.documents.into_iter().map(|document| (document.key.encode(), document)));
    }
    all
}

fn watch(node: &Node, version: &Driven, query: &ListQuery, resume: Option<&ResumeToken>) -> Watch {
    Watch::new(version.store.definition(), query, resume, &node.reader).unwrap()
}

/// Tells the client all that is there now, and holds what it has against a list.
fn follow(version: &Driven, watch: &mut Watch, client: &mut Client, query: &ListQuery) {
    watch.look(reading(version)).unwrap();
    while let Some(told) = watch.next_message().unwrap() {
        client.take(told);
    }
    assert!(!watch.is_telling());
    assert_eq!(client.documents, listed(version, query), "{query:?}");
}

fn all() -> ListQuery {
    ListQuery { collection: "docs".into(), ..ListQuery::default() }
}

fn put(key: &str, a: i64) -> (&'static str, String) {
    ("doc.put", format!(r#"{{"key":"{key}","a":{a},"b":0,"tags":["t{a}","u"]}}"#))
}

fn delete(key: &str) -> (&'static str, String) {
    ("doc.deleted", format!(r#"{{"key":"{key}"}}"#))
}

#[test]
fn a_watcher_has_the_snapshot_and_then_the_newest_of_each_change() {
    let mut node = node();
    node.append(&[put("x", 1), put("y", 1)]);
    let mut version = node.version(DEFINITION);
    version.run();
    let (mut watch, mut client) = (watch(&node, &version, &all(), None), Client::default());
    follow(&version, &mut watch, &mut client, &all());
    assert_eq!((client.documents.len(), watch.position()), (2, Some(Position::new(2))));
    watch.look(reading(&version)).unwrap();
    assert_eq!(watch.next_message().unwrap(), None, "nothing new, nothing told");

    // In one commit: changed twice, deleted and created, created and deleted, deleted.
    node.append(&[put("x", 2), put("x", 3), delete("y"), put("y", 4), put("z", 5), delete("z")]);
    version.run();
    follow(&version, &mut watch, &mut client, &all());
    assert_eq!(client.told, ["x@4", "y@6"]);
    // One commit after the other, told at once.
    for event in [put("x", 6), put("z", 7), delete("y"), put("z", 8)] {
        node.append(&[event]);
        version.run();
    }
    follow(&version, &mut watch, &mut client, &all());
    assert_eq!(client.told[2..], ["x@9", "-y@11", "z@12"]);
    node.append(&[("other", "1".into())]);
    version.run();
    follow(&version, &mut watch, &mut client, &all());
    assert_eq!(client.told.len(), 5);
    assert_eq!(watch.untold(), 1);
    let Some(Told::Changes { changes, resume: Some(resume) }) = watch.advance_message() else {
        panic!("it tells how far it is");
    };
    assert_eq!((changes, resume.log.position), (vec![], Position::new(13)));
    assert_eq!((watch.untold(), watch.advance_message()), (0, None));
}

#[test]
fn what_is_no_longer_selected_is_deleted_for_its_watcher() {
    let mut node = node();
    node.append(&[put("x", 1), put("y", 9), put("z", 2)]);
    let mut version = node.version(DEFINITION);
    version.run();
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let range =
        Selection::Index { index: "by_a".into(), equals: vec![], from: Some(json("1")), to: Some(json("5")) };
    let by_index = ListQuery { selection: range, ..all() };
    let filtered = ListQuery { filter: Some("doc.a < 5".into()), ..all() };
    for query in [by_index, filtered] {
        let (mut watch, mut client) = (watch(&node, &version, &query, None), Client::default());
        follow(&version, &mut watch, &mut client, &query);
        assert_eq!(client.documents.len(), 2);
        let at = node.append(&[put("x", 9), put("y", 8), put("new", 7), put("z", 3), delete("new")]).get();
        version.run();
        follow(&version, &mut watch, &mut client, &query);
        assert_eq!(client.told, [format!("-x@{}", at - 4), format!("z@{}", at - 1)]);
        node.append(&[put("x", 1), put("z", 2), delete("new")]);
        version.run();
        follow(&version, &mut watch, &mut client, &query);
        node.append(&[put("y", 9)]);
        version.run();
    }
    let masked = ListQuery { fields: vec!["a".into()], selection: Selection::all(), ..all() };
    let (mut watch, mut client) = (watch(&node, &version, &masked, None), Client::default());
    follow(&version, &mut watch, &mut client, &masked);
    node.append(&[put("x", 5)]);
    version.run();
    follow(&version, &mut watch, &mut client, &masked);
    let values: Vec<_> = client.documents.values().map(|document| document.value.clone()).collect();
    assert_eq!(values, [r#"{"a":5}"#, r#"{"a":9}"#, r#"{"a":2}"#]);
}

/// A version that was built, then changed, and a client that has seen it all.
fn followed() -> (Node, Driven, Client) {
    let mut node = node();
    node.append(&[put("x", 1), put("y", 1)]);
    let mut version = node.version(DEFINITION);
    version.run();
    node.append(&[put("z", 1)]);
    version.run();
    let mut client = Client::default();
    let mut watch = watch(&node, &version, &all(), None);
    follow(&version, &mut watch, &mut client, &all());
    (node, version, client)
}

#[test]
fn a_token_goes_on_behind_what_was_told() {
    let (mut node, mut version, mut client) = followed();
    node.append(&[put("x", 2), delete("y")]);
    version.run();
    version.runner.finish();
    drop(version);
    // The file is opened again, by another process as it were.
    let mut version = node.version(DEFINITION);
    version.run();
    let mut again = watch(&node, &version, &all(), client.token.as_ref());
    follow(&version, &mut again, &mut client, &all());
    assert_eq!((&client.told[..], client.resets.len()), (&["x@4".to_owned(), "-y@5".into()][..], 0));
    let mut again = watch(&node, &version, &all(), client.token.as_ref());
    follow(&version, &mut again, &mut client, &all());
    assert_eq!(client.told.len(), 2, "nothing twice");
}

/// Opens the file as a runner would, which then has not come further yet.
fn open(node: &Node, version: &Driven) {
    let facts = LogFacts {
        log_id: node.reader.log_id(),
        head: node.reader.head(),
        epoch_at: &|position| node.reader.epoch_at(position),
    };
    version.store.open(&facts).unwrap();
}

fn check_reset(node: &Node, version: &Driven, mut client: Client, reason: ResetReason) {
    let mut watch = watch(node, version, &all(), client.token.as_ref());
    follow(version, &mut watch, &mut client, &all());
    assert_eq!(client.resets, [reason]);
    assert_eq!(client.token.unwrap().log.position, node.head.get());
}

#[test]
fn a_token_that_leads_nowhere_gets_a_reset_and_a_snapshot() {
    let (mut node, mut version, client) = followed();
    node.append(&[put("x", 2)]);
    version.run();
    trim(&version.store);
    check_reset(&node, &version, client, ResetReason::ChangesTrimmed);

    let (node, version, client) = followed();
    forget(&version.store, false);
    check_reset(&node, &version, client, ResetReason::Rebuilt);

    let (node, version, mut client) = followed();
    client.token.as_mut().unwrap().log.epoch = 99;
    check_reset(&node, &version, client, ResetReason::StaleEpoch);

    let (node, version, mut client) = followed();
    client.token.as_mut().unwrap().log.position = Position::new(4);
    check_reset(&node, &version, client, ResetReason::StaleEpoch);

    let (node, version, mut client) = followed();
    client.token.as_mut().unwrap().version = 7;
    check_reset(&node, &version, client, ResetReason::VersionGone);

    let (node, version, client) = followed();
    drop(version);
    let mut version = node.version(&DEFINITION.replace("by_a: [a]", "by_b: [b]"));
    version.run();
    check_reset(&node, &version, client, ResetReason::Rebuilt);
}

#[test]
fn a_file_built_anew_under_a_watcher_gives_a_reset_once_it_is_built() {
    let (mut node, mut version, mut client) = followed();
    let mut watch = watch(&node, &version, &all(), client.token.as_ref());
    version.runner.finish();
    version.store.remove().unwrap();
    open(&node, &version);
    assert_eq!(version.store.snapshot().unwrap().state().cursor, Position::ZERO);
    watch.look(reading(&version)).unwrap();
    assert_eq!(watch.next_message().unwrap(), None, "not in the middle of a build");
    let mut version = node.version(DEFINITION);
    version.run();
    node.append(&[put("x", 3)]);
    version.run();
    follow(&version, &mut watch, &mut client, &all());
    assert_eq!(client.resets, [ResetReason::Rebuilt]);
}

#[test]
fn a_token_of_another_question_is_refused() {
    let (node, version, client) = followed();
    let filtered = ListQuery { filter: Some("true".into()), ..all() };
    let masked = ListQuery { fields: vec!["a".into()], ..all() };
    let other = ListQuery { collection: "sums".into(), ..all() };
    for query in [filtered, masked, other] {
        let refused = Watch::new(version.store.definition(), &query, client.token.as_ref(), &node.reader);
        assert_eq!(refused.unwrap_err().reason(), "RESUME_TOKEN_MISMATCH");
    }
}
