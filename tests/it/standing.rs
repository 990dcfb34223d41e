//! Standing versions of a served node: the state at a position or time of the past, by label, for good.

use std::collections::BTreeMap;

use outrigger::api::proto::v1::{self, build_standing_version_request::Until, watch_response::Content};
use tonic::{Code, Status};

use crate::support::{Node, append, check_refused, config, event, text_key};

const DEFINITION: &str = "\
projection: desk
version: 1
collections: { tickets: {} }
events:
  ticket.set:
    - add: tickets
      key: data.id
      value: { n: \"${data.n}\" }
    - when: data.n == 13
      delete: tickets
      key: data.id
";

const SERVICE: &str = "\
projection: served
version: 1
handler: service
collections: { counts: {} }
events: [ticket.set]
";

fn ticket(number: u64) -> v1::NewEvent {
    event("ticket.set", "s", &format!(r#"{{"id":"t{}","n":{}}}"#, number % 11, number % 17))
}

/// What the documents are behind so many tickets.
fn fold(count: u64) -> BTreeMap<String, u64> {
    let mut documents = BTreeMap::new();
    for number in 1..=count {
        let (key, n) = (format!("t{}", number % 11), number % 17);
        *documents.entry(key.clone()).or_insert(0) += n;
        if n == 13 {
            documents.remove(&key);
        }
    }
    documents
}

/// A node with so many tickets, in requests of seven.
async fn filled(count: u64) -> (Node, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("desk.yaml"), DEFINITION).unwrap();
    std::fs::write(files.path().join("served.yaml"), SERVICE).unwrap();
    let node = Node::start(&[files.path().to_owned()]).await;
    more(&node, 1..count + 1).await;
    (node, files)
}

async fn more(node: &Node, numbers: std::ops::Range<u64>) -> v1::Token {
    let mut token = None;
    let numbers: Vec<u64> = numbers.collect();
    for chunk in numbers.chunks(7) {
        let events = chunk.iter().map(|number| ticket(*number)).collect();
        token = node.log().append(append(events)).await.unwrap().into_inner().token;
    }
    token.unwrap()
}

async fn build(node: &Node, until: Until, label: &str) -> Result<v1::StandingVersion, Status> {
    let request = v1::BuildStandingVersionRequest {
        projection: "desk".into(),
        version: 1,
        until: Some(until),
        label: label.into(),
    };
    let built = node.projections().build_standing_version(request).await?;
    Ok(built.into_inner().standing.unwrap())
}

async fn remove(node: &Node, label: &str) -> Result<(), Status> {
    let request = v1::RemoveStandingVersionRequest { projection: "desk".into(), label: label.into() };
    node.projections().remove_standing_version(request).await.map(drop)
}

async fn standing(node: &Node) -> Vec<v1::StandingVersion> {
    let all = node.projections().list_projections(v1::ListProjectionsRequest {}).await.unwrap();
    all.into_inner().standing
}

fn stands(one: &v1::StandingVersion) -> bool {
    one.state() == v1::StandingState::Standing
}

fn labelled(label: &str) -> v1::ReadOptions {
    v1::ReadOptions { label: Some(label.into()), ..Default::default() }
}

fn list(options: v1::ReadOptions) -> v1::ListRequest {
    v1::ListRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(options),
        ..Default::default()
    }
}

/// All documents under a label, and the position they are as of.
async fn documents(node: &Node, label: &str) -> (BTreeMap<String, u64>, u64) {
    let page = node.query().list(list(labelled(label))).await.unwrap().into_inner();
    let key = |document: &v1::Document| match &document.key.as_ref().unwrap().parts[0].part {
        Some(v1::key_part::Part::Text(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    let n = |document: &v1::Document| {
        let value: serde_json::Value = serde_json::from_slice(&document.value).unwrap();
        value["n"].as_u64().unwrap()
    };
    let found = page.documents.iter().map(|document| (key(document), n(document))).collect();
    (found, page.context.unwrap().as_of)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_at_a_position_is_that_of_a_naive_fold_and_stays() {
    let (node, files) = filled(300).await;
    for position in [1, 137, 299, 300] {
        let built = build(&node, Until::Position(position), &format!("at-{position}")).await.unwrap();
        assert_eq!((built.until, built.version), (position, 1));
        // A query waits until it is built.
        assert_eq!(documents(&node, &format!("at-{position}")).await, (fold(position), position));
    }
    let token = more(&node, 301..400).await;
    let now = v1::ReadOptions { at_least: Some(token), ..Default::default() };
    let page = node.query().list(list(now)).await.unwrap().into_inner();
    assert_eq!(page.context.unwrap().as_of, 399, "the running version goes on");
    let dir = node.stop().await;
    let running = outrigger::app::start(config(dir.path(), &[files.path().to_owned()])).await.unwrap();
    let node = Node::around(running, dir).await;
    for position in [1, 137, 299, 300] {
        assert_eq!(documents(&node, &format!("at-{position}")).await, (fold(position), position));
    }
    let all = standing(&node).await;
    assert!(all.iter().all(|one| stands(one) && one.position == one.until && one.error.is_none()), "{all:?}");
    let labels: Vec<_> = all.iter().map(|one| &*one.label).collect();
    assert_eq!(labels, ["at-1", "at-137", "at-299", "at-300"]);
    let hashes: std::collections::BTreeSet<_> = all.iter().map(|one| &one.content_hash).collect();
    assert_eq!(hashes.len(), 4);
    // A file that is lost is built again.
    let dir = node.stop().await;
    std::fs::remove_file(dir.path().join("data/projections/desk-v1.standing-at-137.redb")).unwrap();
    let running = outrigger::app::start(config(dir.path(), &[files.path().to_owned()])).await.unwrap();
    let node = Node::around(running, dir).await;
    assert_eq!(documents(&node, "at-137").await, (fold(137), 137));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_at_a_time_is_that_of_the_last_event_recorded_by_then() {
    let (node, _files) = filled(200).await;
    let mut recorded = Vec::new();
    let request = v1::ReadRequest { limit: Some(1_000), ..Default::default() };
    let mut read = node.log().read(request).await.unwrap().into_inner();
    while let Some(message) = read.message().await.unwrap() {
        recorded.extend(message.events.into_iter().map(|event| event.recorded_at.unwrap()));
    }
    assert_eq!(recorded.len(), 200);
    let nanos = |time: &prost_types::Timestamp| time.seconds * 1_000_000_000 + i64::from(time.nanos);
    for (number, at) in [0, 77, 150, 199].into_iter().enumerate() {
        let time = recorded[at];
        let expected = recorded.iter().filter(|other| nanos(other) <= nanos(&time)).count() as u64;
        let built = build(&node, Until::Time(time), &format!("t{number}")).await.unwrap();
        assert_eq!(built.until, expected);
        assert_eq!(documents(&node, &format!("t{number}")).await, (fold(expected), expected));
    }
    let before = prost_types::Timestamp { seconds: recorded[0].seconds - 1, nanos: 0 };
    let early = build(&node, Until::Time(before), "early").await;
    check_refused(early, Code::OutOfRange, "TIME_NOT_IN_LOG", "until");
    let after = prost_types::Timestamp { seconds: recorded[199].seconds + 3_600, nanos: 0 };
    let late = build(&node, Until::Time(after), "late").await;
    check_refused(late, Code::OutOfRange, "TIME_NOT_IN_LOG", "until");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_beyond_its_position_fails_at_once() {
    let (node, _files) = filled(50).await;
    build(&node, Until::Position(20), "then").await.unwrap();
    let token = more(&node, 51..60).await;
    let beyond = v1::ReadOptions { at_least: Some(token.clone()), ..labelled("then") };
    let status = check_refused(
        node.query().list(list(beyond.clone())).await,
        Code::OutOfRange,
        "BEYOND_STANDING_POSITION",
        "options.at_least",
    );
    assert!(status.message().contains("stands at position 20 for good"), "{}", status.message());
    let watch = v1::WatchRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(beyond),
        ..Default::default()
    };
    check_refused(
        node.query().watch(watch).await,
        Code::OutOfRange,
        "BEYOND_STANDING_POSITION",
        "options.at_least",
    );
    let within = v1::ReadOptions { at_least: Some(v1::Token { position: 20, ..token }), ..labelled("then") };
    let get = v1::GetRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        key: Some(text_key("t1")),
        options: Some(within),
        fields: Vec::new(),
    };
    let got = node.query().get(get).await.unwrap().into_inner();
    assert_eq!(got.document.unwrap().value, format!("{{\"n\":{}}}", fold(20)["t1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_refused() {
    let (node, _files) = filled(30).await;
    let refused = async |until, label: &str, code, reason, field| {
        check_refused(build(&node, until, label).await, code, reason, field)
    };
    let at = Until::Position;
    for (position, head) in [(0, "30"), (31, "30")] {
        let status = refused(at(position), "a", Code::OutOfRange, "POSITION_NOT_IN_LOG", "until").await;
        assert!(status.message().contains(head), "{status:?}");
    }
    for label in ["", "A", "a b", "ä", "a.b", &"a".repeat(64)] {
        refused(at(3), label, Code::InvalidArgument, "INVALID_ARGUMENT", "label").await;
    }
    build(&node, at(3), "a").await.unwrap();
    let status = refused(at(4), "a", Code::AlreadyExists, "LABEL_TAKEN", "").await;
    assert!(status.message().contains("up to position 3"), "{status:?}");
    for number in 1..16 {
        build(&node, at(3), &format!("a-{number}")).await.unwrap();
    }
    refused(at(3), "one-more", Code::ResourceExhausted, "TOO_MANY_STANDING_VERSIONS", "").await;
    let request = |projection: &str, version| v1::BuildStandingVersionRequest {
        projection: projection.into(),
        version,
        until: Some(at(3)),
        label: "b".into(),
    };
    let mut client = node.projections();
    for (projection, version, code, reason) in [
        ("none", 1, Code::NotFound, "PROJECTION_NOT_FOUND"),
        ("desk", 2, Code::NotFound, "VERSION_NOT_FOUND"),
        ("desk", 0, Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("served", 1, Code::FailedPrecondition, "HANDLED_BY_SERVICE"),
    ] {
        let built = client.build_standing_version(request(projection, version)).await;
        check_refused(built, code, reason, "");
    }
    let nowhere = v1::BuildStandingVersionRequest { until: None, ..request("desk", 1) };
    check_refused(
        client.build_standing_version(nowhere).await,
        Code::InvalidArgument,
        "MISSING_FIELD",
        "until",
    );
    let unknown = node.query().list(list(labelled("none"))).await;
    check_refused(unknown, Code::NotFound, "LABEL_NOT_FOUND", "options.label");
    let other = node.query().list(list(v1::ReadOptions { version: Some(2), ..labelled("a") })).await;
    check_refused(other, Code::InvalidArgument, "INVALID_ARGUMENT", "options.version");
    check_refused(remove(&node, "none").await, Code::NotFound, "LABEL_NOT_FOUND", "options.label");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_the_snapshot_then_nothing_until_the_version_is_removed() {
    let (node, files) = filled(60).await;
    build(&node, Until::Position(40), "then").await.unwrap();
    let request = v1::WatchRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(labelled("then")),
        ..Default::default()
    };
    let mut watch = node.query().watch(request.clone()).await.unwrap().into_inner();
    let mut documents = 0;
    let complete = loop {
        let message = watch.message().await.unwrap().unwrap();
        match message.content.unwrap() {
            Content::Documents(batch) => documents += batch.documents.len(),
            Content::SnapshotComplete(complete) => break (complete.position, message.resume_token),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((documents, complete.0), (fold(40).len(), 40));
    let token = more(&node, 61..90).await;
    let now = v1::ReadOptions { at_least: Some(token), ..Default::default() };
    let first = v1::ListRequest { page_size: Some(2), ..list(now) };
    let page = node.query().list(first.clone()).await.unwrap().into_inner();
    // Tokens go on where they came from.
    let crossed =
        v1::ListRequest { page_token: page.next_page_token, options: Some(labelled("then")), ..first };
    check_refused(
        node.query().list(crossed).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_MISMATCH",
        "page_token",
    );
    let crossed = v1::WatchRequest { resume_token: complete.1, options: None, ..request.clone() };
    let crossed = node.query().watch(crossed).await;
    check_refused(crossed, Code::InvalidArgument, "RESUME_TOKEN_MISMATCH", "resume_token");
    remove(&node, "then").await.unwrap();
    check_refused(watch.message().await, Code::Aborted, "VERSION_GONE", "");
    check_refused(node.query().list(list(labelled("then"))).await, Code::NotFound, "LABEL_NOT_FOUND", "");
    assert_eq!(standing(&node).await, []);
    let dir = node.stop().await;
    let names = std::fs::read_dir(dir.path().join("data/projections")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.contains("standing")), "{names:?}");
    let running = outrigger::app::start(config(dir.path(), &[files.path().to_owned()])).await.unwrap();
    let node = Node::around(running, dir).await;
    assert_eq!(standing(&node).await, []);
    // The label is free again.
    build(&node, Until::Position(41), "then").await.unwrap();
    assert_eq!(crate::standing::documents(&node, "then").await, (fold(41), 41));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_applied_is_told_and_a_decision_takes_it_on() {
    let (node, _files) = filled(10).await;
    let poisoned = r#"{"id":"t1","n":"many"}"#;
    node.log().append(append(vec![event("ticket.set", "s", poisoned)])).await.unwrap();
    more(&node, 11..21).await;
    build(&node, Until::Position(15), "then").await.unwrap();
    build(&node, Until::Position(10), "before").await.unwrap();
    assert_eq!(documents(&node, "before").await, (fold(10), 10));
    let failed = loop {
        let found = standing(&node).await.into_iter().find(|one| one.label == "then").unwrap();
        if found.state() == v1::StandingState::Failed {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert!(!stands(&failed) && failed.error.unwrap().contains("position 11"));
    let status = check_refused(
        node.query().list(list(labelled("then"))).await,
        Code::DeadlineExceeded,
        "NOT_FRESH_ENOUGH",
        "",
    );
    assert!(status.message().contains("does not move on"), "{}", status.message());
    let skip =
        v1::SkipRequest { projection: "desk".into(), version: None, expect_position: 11, reason: None };
    node.projections().skip(skip).await.unwrap();
    // The decision stands behind the position where the version ends, and counts all the same.
    let options = v1::ReadOptions {
        timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..labelled("then")
    };
    loop {
        let listed = node.query().list(list(options.clone())).await;
        match listed {
            Ok(page) => break assert_eq!(page.into_inner().context.unwrap().as_of, 15),
            Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
        }
    }
    assert_eq!(documents(&node, "then").await, (fold(14), 15));
}
