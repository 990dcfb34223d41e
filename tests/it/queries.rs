//! Counts, streams of pages and field masks of a served node.

use outrigger::api::proto::v1::{self, list_request};
use tonic::Code;

use crate::support::{Node, append, check_refused, event, text_key};

const DEFINITION: &str = "\
projection: desk
version: 1
collections:
  tickets:
    indexes: { by_tag: [tags] }
events:
  ticket.set:
    - put: tickets
      key: data.id
      value: { n: \"${data.n}\", tags: \"${data.tags}\", more: { text: \"${data.id}\" } }
";

/// A node with 250 tickets, `t000` to `t249`, and a token behind them. Every tenth has the tags a and b.
async fn filled() -> (Node, tempfile::TempDir, v1::ReadOptions) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("desk.yaml"), DEFINITION).unwrap();
    let node = Node::start(&[files.path().to_owned()]).await;
    let ticket = |n: u32| {
        let tags = if n.is_multiple_of(10) { r#"["a","b"]"# } else { "[]" };
        event("ticket.set", "s", &format!(r#"{{"id":"t{n:03}","n":{n},"tags":{tags}}}"#))
    };
    let token = node.log().append(append((0..250).map(ticket).collect())).await.unwrap().into_inner().token;
    (node, files, v1::ReadOptions { at_least: token, ..Default::default() })
}

fn count(options: &v1::ReadOptions) -> v1::CountRequest {
    v1::CountRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(options.clone()),
        ..Default::default()
    }
}

fn list(options: &v1::ReadOptions) -> v1::ListRequest {
    v1::ListRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        options: Some(options.clone()),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_counted() {
    let (node, _files, options) = filled().await;
    let counted = async |request| node.query().count(request).await.unwrap().into_inner();
    let whole = counted(count(&options)).await;
    assert_eq!((whole.count, whole.at_least, whole.next_page_token, whole.scanned), (250, false, None, 0));
    assert_eq!(whole.context.unwrap().as_of, 250);
    let filter = Some("doc.n >= 200".into());
    assert_eq!(counted(v1::CountRequest { filter, ..count(&options) }).await.count, 50);
    let tagged = |equals: &[&'static str]| {
        let equals = equals.iter().map(|value| bytes::Bytes::from_static(value.as_bytes())).collect();
        let range = v1::IndexRange { index: "by_tag".into(), equals, ..Default::default() };
        Some(v1::count_request::Selection::Index(range))
    };
    let selection = tagged(&["\"a\""]);
    assert_eq!(counted(v1::CountRequest { selection, ..count(&options) }).await.count, 25);
    let selection = tagged(&[]);
    let both = counted(v1::CountRequest { selection, ..count(&options) }).await;
    assert_eq!((both.count, both.scanned), (25, 50), "a document counts once, whatever entries it has");
    let page_token = Some("x".into());
    let wrong = v1::CountRequest { page_token, ..count(&options) };
    check_refused(node.query().count(wrong).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_all_pages_of_one_snapshot() {
    let (node, _files, options) = filled().await;
    let request = v1::ListStreamRequest {
        request: Some(v1::ListRequest { page_size: Some(7), descending: true, ..list(&options) }),
        limit: None,
    };
    let mut stream = node.query().list_stream(request.clone()).await.unwrap().into_inner();
    let (mut keys, mut messages, mut after_three) = (Vec::new(), 0, None);
    while let Some(page) = stream.message().await.unwrap() {
        if messages == 0 {
            // What comes now is not in the stream's snapshot.
            let data = r#"{"id":"t001x","n":1,"tags":[]}"#;
            node.log().append(append(vec![event("ticket.set", "s", data)])).await.unwrap();
        }
        assert_eq!(page.context.unwrap().as_of, 250);
        messages += 1;
        if messages == 3 {
            after_three = page.next_page_token.clone();
        }
        assert_eq!(page.next_page_token.is_none(), page.documents.len() < 7);
        keys.extend(page.documents.into_iter().map(|document| document.key.unwrap()));
    }
    let expected: Vec<_> = (0..250).rev().map(|n| text_key(&format!("t{n:03}"))).collect();
    assert_eq!((keys, messages), (expected.clone(), 36));
    // A stream that broke off goes on, here with the limit of what is wanted.
    let rest = v1::ListRequest { page_token: after_three, page_size: None, ..request.request.unwrap() };
    let rest = v1::ListStreamRequest { request: Some(rest), limit: Some(5) };
    let mut stream = node.query().list_stream(rest).await.unwrap().into_inner();
    let page = stream.message().await.unwrap().unwrap();
    let keys: Vec<_> = page.documents.into_iter().map(|document| document.key.unwrap()).collect();
    assert_eq!(keys, expected[21..26]);
    assert!(page.next_page_token.is_some() && stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_cut_fields_out_of_every_answer() {
    let (node, _files, options) = filled().await;
    let fields = vec!["n".to_owned(), "more.text".to_owned()];
    let expected = r#"{"more":{"text":"t003"},"n":3}"#;
    let get = v1::GetRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        key: Some(text_key("t003")),
        options: Some(options.clone()),
        fields: fields.clone(),
    };
    let got = node.query().get(get.clone()).await.unwrap().into_inner();
    assert_eq!(got.document.unwrap().value, expected);
    let batch = v1::BatchGetRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        keys: vec![text_key("t003")],
        options: Some(options.clone()),
        fields: fields.clone(),
    };
    let results = node.query().batch_get(batch).await.unwrap().into_inner().results;
    assert_eq!(results[0].document.as_ref().unwrap().value, expected);
    let keys = v1::KeyRange { prefix: Some(text_key("t003")), ..Default::default() };
    let selection = Some(list_request::Selection::Keys(keys));
    let filter = Some("size(doc.tags) == 0".into());
    let masked = v1::ListRequest { fields, selection, filter, ..list(&options) };
    let page = node.query().list(masked.clone()).await.unwrap().into_inner();
    assert_eq!((&*page.documents[0].value, page.scan_limit_hit), (expected.as_bytes(), false));
    let wrong = v1::GetRequest { fields: vec![String::new()], ..get };
    check_refused(node.query().get(wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", "fields");
    let many = v1::ListRequest { fields: vec!["a".into(); 65], ..masked };
    check_refused(node.query().list(many).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "fields");
}
