//! Comparing versions of a served node: what is found, at which position, what is refused, and that nothing stays held.

use std::{fmt::Write as _, path::Path};

use outrigger::api::proto::v1::{self, ComparisonKind, compare_versions_response::Content};
use tonic::{Code, Status};

use crate::support::{Node, append, check_refused, event};

/// A version of the desk: what it makes of a ticket, and further collections and steps.
fn definition(version: u32, value: &str, more: &str, steps: &str) -> String {
    format!(
        "projection: desk\nversion: {version}\ncollections:\n  tickets: {{}}\n  sums: {{}}\n{more}events:\n  ticket.set:\n\
         \x20   - put: tickets\n      key: data.id\n      value: {value}\n\
         \x20   - add: sums\n      key: '\"all\"'\n      value: {{ tickets: 1 }}\n{steps}"
    )
}

const PLAIN: &str = r#"{ n: "${data.n}", more: { text: "${data.id}" } }"#;

fn write(dir: &Path, version: u32, text: &str) {
    std::fs::write(dir.join(format!("desk-v{version}.yaml")), text).unwrap();
}

async fn node(definitions: &[String]) -> (Node, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    for (version, text) in (1..).zip(definitions) {
        write(files.path(), version, text);
    }
    (Node::start(&[files.path().to_owned()]).await, files)
}

fn ticket(number: u64) -> v1::NewEvent {
    event("ticket.set", "s", &format!(r#"{{"id":"t{number:06}","n":{number}}}"#))
}

/// Appends tickets and waits until all versions show them.
async fn fill(node: &Node, numbers: std::ops::Range<u64>) {
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + 1_000);
        node.log().append(append((next..end).map(ticket).collect())).await.unwrap();
        next = end;
    }
    settle(node).await;
}

async fn settle(node: &Node) {
    let head = node.head().await;
    loop {
        let request = v1::GetProjectionRequest { projection: "desk".into() };
        let versions = node.projections().get_projection(request).await.unwrap().into_inner().versions;
        if versions.iter().all(|version| version.position >= head) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn request(left: u32, right: u32) -> v1::CompareVersionsRequest {
    v1::CompareVersionsRequest { projection: "desk".into(), left, right, ..Default::default() }
}

async fn compare(node: &Node, request: v1::CompareVersionsRequest) -> Result<v1::CompareResult, Status> {
    let mut messages = node.projections().compare_versions(request).await?.into_inner();
    let mut result = None;
    while let Some(message) = messages.message().await? {
        assert!(result.is_none(), "the result is the last message");
        match message.content.unwrap() {
            Content::Progress(progress) => assert!(progress.compared <= progress.total, "{progress:?}"),
            Content::Result(found) => result = Some(found),
        }
    }
    Ok(result.unwrap())
}

fn counts(result: &v1::CompareResult) -> Vec<(&str, [u64; 4])> {
    let counts = |one: &v1::CollectionComparison| [one.equal, one.different, one.only_left, one.only_right];
    result.collections.iter().map(|one| (&*one.name, counts(one))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_documents_among_a_hundred_thousand_are_found() {
    const COUNT: u64 = 100_000;
    let other =
        r#"{ n: "${data.n in [17, 50000, 99999] ? -data.n : data.n}", more: { text: "${data.id}" } }"#;
    let (node, _files) = node(&[definition(1, PLAIN, "", ""), definition(2, other, "", "")]).await;
    fill(&node, 0..COUNT).await;
    let found = compare(&node, request(1, 2)).await.unwrap();
    assert_eq!((found.left, found.right, found.position), (1, 2, COUNT));
    assert_eq!(counts(&found), [("sums", [1, 0, 0, 0]), ("tickets", [COUNT - 3, 3, 0, 0])]);
    let samples: Vec<_> = found
        .samples
        .iter()
        .map(|sample| {
            assert_eq!((sample.kind(), &*sample.collection), (ComparisonKind::Different, "tickets"));
            let [field] = &sample.fields[..] else { panic!("{sample:?}") };
            let (left, right) = (field.left.clone().unwrap(), field.right.clone().unwrap());
            (sample.key.clone(), field.path.clone(), left, right)
        })
        .collect();
    let expected = [17, 50_000, 99_999]
        .map(|n: u64| (format!("\"t{n:06}\""), "n".to_owned(), n.to_string(), format!("-{n}")));
    assert_eq!(samples, expected);
    let ignoring = v1::CompareVersionsRequest { ignore: vec!["n".into()], ..request(2, 1) };
    let found = compare(&node, ignoring).await.unwrap();
    assert_eq!(counts(&found), [("sums", [1, 0, 0, 0]), ("tickets", [COUNT, 0, 0, 0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_definitions_are_equal_at_one_position_while_appends_go_on() {
    let (node, _files) = node(&[definition(1, PLAIN, "", ""), definition(2, PLAIN, "", "")]).await;
    fill(&node, 0..2_000).await;
    let log = node.log();
    let appending = tokio::spawn(async move {
        let mut log = log;
        for number in 0.. {
            if log.append(append(vec![ticket(number % 3_000)])).await.is_err() {
                return;
            }
        }
    });
    let mut last = 0;
    for _ in 0..20 {
        let found = compare(&node, request(1, 2)).await.unwrap();
        let (documents, not_equal) = found.collections.iter().fold((0, 0), |(equal, not), one| {
            (equal + one.equal, not + one.different + one.only_left + one.only_right)
        });
        assert_eq!((not_equal, &found.samples[..]), (0, &[][..]), "at {}", found.position);
        assert!(documents >= 2_001 && found.position >= last);
        last = found.position;
    }
    assert!(last > 2_000, "events came meanwhile");
    appending.abort();
    drop(appending.await);
    // Nothing holds them now.
    settle(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_collections_of_one_version_alone_are_counted() {
    let left = definition(
        1,
        PLAIN,
        "  old: {}\n",
        "    - put: old\n      key: data.id\n      value: { gone: true }\n",
    );
    let right = definition(
        2,
        PLAIN,
        "  new: {}\n",
        "    - when: data.n < 3\n      put: new\n      key: [data.n, data.id]\n      value: { here: true }\n    - when: data.n == 7\n      delete: tickets\n      key: data.id\n",
    );
    let (node, _files) = node(&[left, right]).await;
    fill(&node, 0..50).await;
    let found = compare(&node, request(1, 2)).await.unwrap();
    let expected =
        [("new", [0, 0, 0, 3]), ("old", [0, 0, 50, 0]), ("sums", [1, 0, 0, 0]), ("tickets", [49, 0, 1, 0])];
    assert_eq!(counts(&found), expected);
    let of = |kind| found.samples.iter().filter(move |sample| sample.kind() == kind);
    assert_eq!(of(ComparisonKind::OnlyLeft).count(), 20, "at most so many are shown");
    let new: Vec<_> = of(ComparisonKind::OnlyRight).map(|sample| (&*sample.key, &sample.fields[0])).collect();
    assert_eq!(new.len(), 3);
    assert_eq!((new[1].0, &*new[1].1.path), ("[1,\"t000001\"]", ""));
    assert_eq!((new[1].1.left.as_deref(), new[1].1.right.as_deref()), (None, Some(r#"{"here":true}"#)));
    let some = v1::CompareVersionsRequest { collections: vec!["new".into(), "new".into()], ..request(2, 1) };
    assert_eq!(counts(&compare(&node, some).await.unwrap()), [("new", [0, 0, 3, 0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_small_and_ignored_fields_may_lie_deep() {
    let value = |text: &str| {
        let mut value = "{ list: [ { a: 1, b: TEXT }, { a: 1, b: TEXT } ], long: LONG".replace("TEXT", text);
        for field in 0..30 {
            write!(value, ", f{field:02}: {text}").unwrap();
        }
        value.replace("LONG", &text.repeat(500)) + " }"
    };
    let (node, _files) =
        node(&[definition(1, &value("x"), "", ""), definition(2, &value("y"), "", "")]).await;
    fill(&node, 0..2).await;
    let found = compare(&node, request(1, 2)).await.unwrap();
    let sample = &found.samples[0];
    assert_eq!((sample.fields.len(), sample.more_fields), (20, 13));
    let mut ignore = vec!["list.b".to_owned(), "long".to_owned()];
    ignore.extend((0..30).map(|field| format!("f{field:02}")));
    let most = v1::CompareVersionsRequest { ignore: ignore[1..].to_vec(), ..request(1, 2) };
    let found = compare(&node, most).await.unwrap();
    let paths: Vec<_> = found.samples[0].fields.iter().map(|field| &*field.path).collect();
    assert_eq!(paths, ["list.0.b", "list.1.b"]);
    let all = v1::CompareVersionsRequest { ignore, ..request(1, 2) };
    assert_eq!(counts(&compare(&node, all).await.unwrap())[1], ("tickets", [2, 0, 0, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_refused_and_nothing_stays_held() {
    let failing = "    - when: data.n == 30\n      add: sums\n      key: '\"all\"'\n      value: { tickets: \"${data.id}\" }\n";
    let (node, _files) = node(&[
        definition(1, PLAIN, "", ""),
        definition(2, PLAIN, "", ""),
        definition(3, PLAIN, "", failing),
    ])
    .await;
    fill_two(&node, 0..60).await;
    let refused = async |request, code, reason, field| {
        check_refused(compare(&node, request).await, code, reason, field)
    };
    refused(request(0, 1), Code::InvalidArgument, "INVALID_ARGUMENT", "left").await;
    refused(request(1, 1), Code::InvalidArgument, "INVALID_ARGUMENT", "right").await;
    refused(request(1, 9), Code::NotFound, "VERSION_NOT_FOUND", "").await;
    let unknown = v1::CompareVersionsRequest { projection: "none".into(), ..request(1, 2) };
    refused(unknown, Code::NotFound, "PROJECTION_NOT_FOUND", "projection").await;
    let collection = v1::CompareVersionsRequest { collections: vec!["none".into()], ..request(1, 2) };
    refused(collection, Code::NotFound, "COLLECTION_NOT_FOUND", "collection").await;
    let path = v1::CompareVersionsRequest { ignore: vec!["a..b".into()], ..request(1, 2) };
    refused(path, Code::InvalidArgument, "INVALID_ARGUMENT", "ignore").await;
    let cannot = refused(request(1, 3), Code::FailedPrecondition, "CANNOT_MEET", "").await;
    for part in
        ["version 3 cannot be compared with version 1", "position 30", "position 31", "expected an increment"]
    {
        assert!(cannot.message().contains(part), "{part} is not in: {}", cannot.message());
    }
    // What was held goes on.
    fill_two(&node, 60..70).await;
    assert_eq!(compare(&node, request(1, 2)).await.unwrap().position, 70);
}

/// Appends tickets and waits until versions 1 and 2 show them.
async fn fill_two(node: &Node, numbers: std::ops::Range<u64>) {
    let token = node.log().append(append(numbers.map(ticket).collect())).await.unwrap().into_inner().token;
    for version in [1, 2] {
        let options =
            v1::ReadOptions { version: Some(version), at_least: token.clone(), ..Default::default() };
        let request = v1::CountRequest {
            projection: "desk".into(),
            collection: "tickets".into(),
            options: Some(options),
            ..Default::default()
        };
        node.query().count(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_comparison_runs_at_a_time_and_ends_with_its_client() {
    let (node, _files) = node(&[definition(1, PLAIN, "", ""), definition(2, PLAIN, "", "")]).await;
    fill(&node, 0..30_000).await;
    let mut first = node.projections().compare_versions(request(1, 2)).await.unwrap().into_inner();
    assert!(matches!(first.message().await.unwrap().unwrap().content, Some(Content::Progress(_))));
    check_refused(compare(&node, request(1, 2)).await, Code::ResourceExhausted, "COMPARISON_RUNNING", "");
    // Whoever gives up, in the middle or before there is an answer, leaves nothing behind.
    drop(first);
    for _ in 0..5 {
        let mut client = node.projections();
        let asked = client.compare_versions(request(1, 2));
        drop(tokio::time::timeout(std::time::Duration::from_micros(300), asked).await);
    }
    fill(&node, 30_000..30_100).await;
    let found = loop {
        match compare(&node, request(1, 2)).await {
            Ok(found) => break found,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
        }
    };
    assert_eq!((found.position, counts(&found)[1].1), (30_100, [30_100, 0, 0, 0]));
}
