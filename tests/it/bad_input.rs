//! Bad input: each gets a typed error that names the field, and changes nothing.

use bytes::Bytes;
use outrigger::{
    api::proto::v1::{
        self, ExpectedRevision, append_stream_response::Outcome, expected_revision::Expected,
        get_event_request::By, list_request::Selection,
    },
    cli::error::status_of,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Node, airport, append, check_refused, event, text_key};

/// A request that must be refused, as a call of its own and over an append stream, in the same words.
async fn check(
    node: &Node,
    code: Code,
    reason: &str,
    field: &str,
    change: impl FnOnce(&mut v1::AppendRequest),
) -> Status {
    let before = node.head().await;
    let mut request = append(vec![event("t", "s", "{}"), event("t", "s", "{}")]);
    change(&mut request);
    let status = check_refused(node.log().append(request.clone()).await, code, reason, field);
    let failure = over_stream(node, v1::AppendStreamRequest { request: Some(request) }).await;
    assert_eq!((failure.reason.as_str(), failure.message.as_str()), (reason, status.message()));
    check_refused(Err::<(), _>(status_of(failure)), code, reason, field);
    assert_eq!(node.head().await, before, "{status:?} changed the log");
    status
}

/// The failure that answers the one request of an append stream.
async fn over_stream(node: &Node, request: v1::AppendStreamRequest) -> v1::Failure {
    let answers = node.log().append_stream(tokio_stream::iter([request])).await.unwrap();
    let mut answers = answers.into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answers.message().await.unwrap(), None, "one answer");
    match answer.outcome.unwrap() {
        Outcome::Failure(failure) => failure,
        Outcome::Appended(appended) => panic!("expected a failure, found {appended:?}"),
    }
}

fn fact(status: &Status, name: &str) -> String {
    status.get_details_error_info().unwrap().metadata[name].clone()
}

const INVALID: Code = Code::InvalidArgument;

#[tokio::test]
async fn requests_over_their_limits_are_refused() {
    let node = Node::start(&[]).await;
    check(&node, INVALID, "EMPTY_REQUEST", "events", |r| r.events.clear()).await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "events", |r| {
        r.events = (0..1_001).map(|_| event("t", "s", "1")).collect();
    })
    .await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "events[1]", |r| {
        r.events[1].data = format!("\"{}\"", "x".repeat(1 << 20)).into();
    })
    .await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "events", |r| {
        r.events = (0..9).map(|_| event("t", "s", &format!("\"{}\"", "x".repeat(500_000)))).collect();
    })
    .await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "events[0].tags", |r| {
        r.events[0].tags = (0..33).map(|n| n.to_string()).collect();
    })
    .await;
}

#[tokio::test]
async fn names_outside_their_alphabet_or_length_are_refused() {
    let node = Node::start(&[]).await;
    for bad in ["", "a b", ".a", "a.", "a..b", "ä", "$system", &"x".repeat(129)] {
        check(&node, INVALID, "INVALID_TYPE", "events[1].type", |r| {
            r.events[1].r#type = bad.into();
        })
        .await;
    }
    for bad in ["", "a\u{0}b", "a\nb", "$system", &"x".repeat(257)] {
        check(&node, INVALID, "INVALID_STREAM", "events[1].stream", |r| {
            r.events[1].stream = bad.into();
        })
        .await;
    }
    for bad in ["", "a\tb", &"x".repeat(257)] {
        let tags = vec!["ok".to_owned(), bad.to_owned()];
        check(&node, INVALID, "INVALID_TAG", "events[0].tags[1]", |r| {
            r.events[0].tags = tags;
        })
        .await;
    }
}

#[tokio::test]
async fn bad_ids_are_refused() {
    let node = Node::start(&[]).await;
    for bad in [vec![0; 16], vec![1; 15], vec![]] {
        let bad = Some(Bytes::from(bad));
        check(&node, INVALID, "INVALID_ID", "events[0].id", |r| {
            r.events[0].id = bad;
        })
        .await;
    }
    check(&node, INVALID, "REPEATED_ID", "events[1].id", |r| {
        r.events[1].id = r.events[0].id.clone();
    })
    .await;
    let known = event("t", "s", "{\"a\":1}");
    node.log().append(append(vec![known.clone()])).await.unwrap();
    let changes: [fn(&mut v1::NewEvent); 5] = [
        |e| e.data = Bytes::from_static(b"{\"a\":2}"),
        |e| e.r#type = "u".into(),
        |e| e.stream = "other".into(),
        |e| e.tags = vec!["tag".into()],
        |e| e.time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
    ];
    for change in changes {
        let mut reused = known.clone();
        change(&mut reused);
        let request = append(vec![reused]);
        check(&node, Code::AlreadyExists, "ID_REUSED", "events[0].id", |r| {
            *r = request;
        })
        .await;
    }
}

#[tokio::test]
async fn data_that_is_not_json_is_refused() {
    let node = Node::start(&[]).await;
    for bad in ["", "{", "{\"a\":1,\"a\":2}", "1 2", "NaN", "\u{1}", "{\"a\":{\"b\":1,\"b\":1}}"] {
        let bad = Bytes::copy_from_slice(bad.as_bytes());
        check(&node, INVALID, "INVALID_JSON", "events[1].data", |r| {
            r.events[1].data = bad;
        })
        .await;
    }
    check(&node, INVALID, "INVALID_JSON", "events[0].data", |r| {
        r.events[0].data = Bytes::from_static(b"\"\xff\"");
    })
    .await;
    check(&node, INVALID, "INVALID_JSON", "events[0].metadata", |r| {
        r.events[0].metadata = Some(Bytes::from_static(b"[1]"));
    })
    .await;
    check(&node, INVALID, "INVALID_TIME", "events[0].time", |r| {
        r.events[0].time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    })
    .await;
}

#[tokio::test]
async fn contradictory_or_wrong_expectations_are_refused() {
    let node = Node::start(&[]).await;
    let entry = |stream: &str, expected| ExpectedRevision { stream: stream.into(), expected };
    let field = "expected_revisions[0].revision";
    check(&node, INVALID, "INVALID_REVISION", field, |r| {
        r.expected_revisions = vec![entry("s", Some(Expected::Revision(0)))];
    })
    .await;
    let field = "expected_revisions[1].stream";
    check(&node, INVALID, "CONTRADICTORY_EXPECTATIONS", field, |r| {
        let none = Some(Expected::None(v1::NoStream {}));
        r.expected_revisions = vec![entry("s", none), entry("s", Some(Expected::Revision(3)))];
    })
    .await;
    let field = "expected_revisions[0].expected";
    check(&node, INVALID, "MISSING_FIELD", field, |r| {
        r.expected_revisions = vec![entry("s", None)];
    })
    .await;
    let field = "expected_revisions[0].stream";
    check(&node, INVALID, "INVALID_STREAM", field, |r| {
        r.expected_revisions = vec![entry("$s", Some(Expected::Any(v1::AnyRevision {})))];
    })
    .await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "expected_revisions", |r| {
        let any = |n: u32| entry(&n.to_string(), Some(Expected::Any(v1::AnyRevision {})));
        r.expected_revisions = (0..65).map(any).collect();
    })
    .await;
    check(&node, Code::Aborted, "CONDITION_FAILED", "", |r| {
        r.expected_revisions = vec![entry("s", Some(Expected::Revision(7)))];
    })
    .await;
}

#[tokio::test]
async fn bad_reads_are_refused() {
    let node = Node::start(&[]).await;
    node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let read = async |request: v1::ReadRequest| node.log().read(request).await;
    let request = v1::ReadRequest { limit: Some(0), ..Default::default() };
    check_refused(read(request).await, INVALID, "INVALID_LIMIT", "limit");
    let request = v1::ReadRequest { after: Some(2), ..Default::default() };
    check_refused(read(request).await, Code::OutOfRange, "AFTER_BEYOND_HEAD", "after");
    let filter = Some(v1::EventFilter { types: vec!["a b".into()], ..Default::default() });
    let request = v1::ReadRequest { filter, ..Default::default() };
    check_refused(read(request).await, INVALID, "INVALID_TYPE", "filter.types[0]");
    let request = v1::SubscribeRequest { after: Some(2), ..Default::default() };
    check_refused(node.log().subscribe(request).await, Code::OutOfRange, "AFTER_BEYOND_HEAD", "after");
    let by = |by| v1::GetEventRequest { by };
    check_refused(node.log().get_event(by(None)).await, INVALID, "MISSING_FIELD", "by");
    check_refused(
        node.log().get_event(by(Some(By::Position(0)))).await,
        INVALID,
        "INVALID_POSITION",
        "position",
    );
    check_refused(node.log().get_event(by(Some(By::Id(Bytes::new())))).await, INVALID, "INVALID_ID", "id");
    let request = v1::ListStreamsRequest { page_size: Some(0), ..Default::default() };
    check_refused(node.log().list_streams(request).await, INVALID, "INVALID_LIMIT", "page_size");
}

fn get(projection: &str, collection: &str, version: Option<u32>) -> v1::GetRequest {
    v1::GetRequest {
        projection: projection.into(),
        collection: collection.into(),
        key: Some(text_key("EWR")),
        options: Some(v1::ReadOptions { version, ..Default::default() }),
        fields: vec![],
    }
}

#[tokio::test]
async fn queries_of_what_is_not_there_are_refused() {
    let node = Node::start(&airport()).await;
    let get = async |request| node.query().get(request).await;
    check_refused(
        get(self::get("none", "airports", None)).await,
        Code::NotFound,
        "PROJECTION_NOT_FOUND",
        "projection",
    );
    check_refused(
        get(self::get("departures", "airports", Some(9))).await,
        Code::NotFound,
        "VERSION_NOT_FOUND",
        "options.version",
    );
    check_refused(
        get(self::get("departures", "none", None)).await,
        Code::NotFound,
        "COLLECTION_NOT_FOUND",
        "collection",
    );
    check_refused(
        get(self::get("departures", "airports", None)).await,
        Code::NotFound,
        "DOCUMENT_NOT_FOUND",
        "",
    );
    let mut request = self::get("departures", "airports", None);
    request.key = None;
    check_refused(get(request).await, INVALID, "MISSING_FIELD", "key");
    let mut request = self::get("departures", "airports", None);
    let token = node.log().get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().token.unwrap();
    let at_least = v1::Token { log_id: Bytes::from(vec![1; 16]), ..token };
    request.options = Some(v1::ReadOptions { at_least: Some(at_least), ..Default::default() });
    check_refused(get(request).await, INVALID, "TOKEN_OF_OTHER_LOG", "options.at_least");
}

fn list(selection: Option<Selection>) -> v1::ListRequest {
    v1::ListRequest {
        projection: "departures".into(),
        collection: "flights".into(),
        selection,
        ..Default::default()
    }
}

#[tokio::test]
async fn bad_lists_are_refused() {
    let node = Node::start(&airport()).await;
    let list_of = async |request| node.query().list(request).await;
    let index = |index: &str, equals: &[&str]| {
        let equals = equals.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
        Some(Selection::Index(v1::IndexRange { index: index.into(), equals, from: None, to: None }))
    };
    check_refused(list_of(list(index("none", &[]))).await, Code::NotFound, "INDEX_NOT_FOUND", "index.index");
    let many = index("by_route", &["\"a\"", "\"b\"", "\"c\""]);
    check_refused(list_of(list(many)).await, INVALID, "LIMIT_EXCEEDED", "index.equals");
    let bad = index("by_route", &["{"]);
    check_refused(list_of(list(bad)).await, INVALID, "INVALID_JSON", "index.equals[0]");
    let request = v1::ListRequest { page_size: Some(0), ..list(None) };
    check_refused(list_of(request).await, INVALID, "INVALID_LIMIT", "page_size");
    let request = v1::ListRequest { page_size: Some(1_001), ..list(None) };
    check_refused(list_of(request).await, INVALID, "LIMIT_EXCEEDED", "page_size");
    let request = v1::ListRequest { filter: Some("doc.status ==".into()), ..list(None) };
    check_refused(list_of(request).await, INVALID, "INVALID_ARGUMENT", "filter");
    let request = v1::ListRequest { filter: Some("nothing == 1".into()), ..list(None) };
    check_refused(list_of(request).await, INVALID, "INVALID_ARGUMENT", "filter");
    let request = v1::ListRequest { page_token: Some("garbage".into()), ..list(None) };
    check_refused(list_of(request).await, INVALID, "PAGE_TOKEN_INVALID", "page_token");
}

#[tokio::test]
async fn a_page_token_serves_its_own_query_only() {
    let node = Node::start(&airport()).await;
    let scheduled = |n: u32| {
        let data = format!(
            r#"{{"flight":"F{n}","carrier":"UA","number":{n},"tail":"N1","origin":"EWR","dest":"IAH","scheduled_departure":"2013-01-01T10:15:00Z","distance_miles":1400}}"#
        );
        event("flight.scheduled", &format!("flight-F{n}"), &data)
    };
    let answer = node.log().append(append((0..5).map(scheduled).collect())).await.unwrap().into_inner();
    let options = Some(v1::ReadOptions { at_least: answer.token, ..Default::default() });
    let request = v1::ListRequest { page_size: Some(2), options, ..list(None) };
    let page = node.query().list(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.documents.len(), 2);
    let next = v1::ListRequest { page_token: page.next_page_token.clone(), ..request.clone() };
    let second = node.query().list(next).await.unwrap().into_inner();
    assert_ne!(page.documents[0].key, second.documents[0].key);
    for other in [
        v1::ListRequest { descending: true, ..request.clone() },
        v1::ListRequest { filter: Some("true".into()), ..request.clone() },
        v1::ListRequest { collection: "airports".into(), ..request.clone() },
    ] {
        let other = v1::ListRequest { page_token: page.next_page_token.clone(), ..other };
        check_refused(node.query().list(other).await, INVALID, "PAGE_TOKEN_MISMATCH", "page_token");
    }
}

fn unless(types: &[&str], tags: &[&str], after: Option<u64>) -> v1::FailIfEventsMatch {
    let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let items = vec![v1::EventQueryItem { types: list(types), tags: list(tags) }];
    v1::FailIfEventsMatch { query: Some(v1::EventQuery { items }), after }
}

#[tokio::test]
async fn conditions_that_make_no_sense_are_refused() {
    let node = Node::start(&[]).await;
    node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let query = "fail_if_events_match[0].query";
    let check_condition = async |reason: &str, field: &str, condition: v1::FailIfEventsMatch| {
        check(&node, INVALID, reason, field, |r| r.fail_if_events_match = vec![condition]).await;
    };
    check_condition("MISSING_FIELD", query, v1::FailIfEventsMatch::default()).await;
    let no_items = v1::FailIfEventsMatch { query: Some(v1::EventQuery::default()), after: None };
    check_condition("EMPTY_QUERY", &format!("{query}.items"), no_items).await;
    check_condition("EMPTY_QUERY_ITEM", &format!("{query}.items[0]"), unless(&[], &[], None)).await;
    let field = |name: &str| format!("{query}.items[0].{name}");
    check_condition("INVALID_TYPE", &field("types[1]"), unless(&["t", "$promote"], &[], None)).await;
    check_condition("INVALID_TYPE", &field("types[0]"), unless(&["a b"], &[], None)).await;
    check_condition("INVALID_TAG", &field("tags[0]"), unless(&[], &[&"x".repeat(257)], None)).await;
    check_condition("LIMIT_EXCEEDED", &field("tags"), unless(&[], &["a"; 33], None)).await;
    check_condition("LIMIT_EXCEEDED", &field("types"), unless(&["a"; 65], &[], None)).await;
    let mut many = unless(&["t"], &[], None);
    many.query.as_mut().unwrap().items =
        vec![v1::EventQueryItem { types: vec!["t".into()], tags: vec![] }; 33];
    check_condition("LIMIT_EXCEEDED", &format!("{query}.items"), many).await;
    check(&node, INVALID, "LIMIT_EXCEEDED", "fail_if_events_match", |r| {
        r.fail_if_events_match = vec![unless(&["u"], &[], None); 40];
        r.expected_revisions = (0..25).map(|n| expected(&format!("e{n}"))).collect();
    })
    .await;
    check(&node, INVALID, "INVALID_STREAM", "expected_revisions[0].stream", |r| {
        r.expected_revisions = vec![expected("$projections")];
    })
    .await;
    let beyond = |r: &mut v1::AppendRequest| r.fail_if_events_match = vec![unless(&["u"], &[], Some(2))];
    let field = "fail_if_events_match[0].after";
    let status = check(&node, Code::OutOfRange, "AFTER_BEYOND_HEAD", field, beyond).await;
    assert_eq!((fact(&status, "head"), fact(&status, "actual")), ("1".into(), "2".into()));
    let mut most = append(vec![event("t", "s", "1")]);
    most.fail_if_events_match = vec![unless(&["u"], &[], None); 40];
    most.expected_revisions = (0..24).map(|n| expected(&format!("e{n}"))).collect();
    node.log().append(most).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_appends_wants_requests() {
    let node = Node::start(&[]).await;
    let failure = over_stream(&node, v1::AppendStreamRequest { request: None }).await;
    check_refused(Err::<(), _>(status_of(failure)), INVALID, "MISSING_FIELD", "request");
}

fn expected(stream: &str) -> ExpectedRevision {
    ExpectedRevision { stream: stream.into(), expected: Some(Expected::Any(v1::AnyRevision {})) }
}

#[tokio::test]
async fn reads_and_subscriptions_that_make_no_sense_are_refused() {
    let node = Node::start(&[]).await;
    node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let check_filter = async |reason: &str, field: &str, filter: v1::EventFilter| {
        let read = v1::ReadRequest { filter: Some(filter.clone()), ..Default::default() };
        check_refused(node.log().read(read).await, INVALID, reason, field);
        let subscribe = v1::SubscribeRequest { filter: Some(filter), ..Default::default() };
        check_refused(node.log().subscribe(subscribe).await, INVALID, reason, field);
    };
    let query = |query: Option<v1::EventQuery>| v1::EventFilter { query, ..Default::default() };
    let tags = |tags: Vec<String>| v1::EventFilter { tags, ..Default::default() };
    check_filter("EMPTY_QUERY", "filter.query.items", query(Some(v1::EventQuery::default()))).await;
    let item = "filter.query.items[0]";
    check_filter("EMPTY_QUERY_ITEM", item, query(unless(&[], &[], None).query)).await;
    let long = "x".repeat(257);
    check_filter("INVALID_TAG", &format!("{item}.tags[0]"), query(unless(&[], &[&long], None).query)).await;
    check_filter("LIMIT_EXCEEDED", &format!("{item}.tags"), query(unless(&[], &["a"; 33], None).query)).await;
    check_filter("INVALID_TAG", "filter.tags[0]", tags(vec![long])).await;
    check_filter("LIMIT_EXCEEDED", "filter.tags", tags(vec!["a".into(); 33])).await;
    let read = v1::ReadRequest { after: Some(2), ..Default::default() };
    check_refused(node.log().read(read).await, Code::OutOfRange, "AFTER_BEYOND_HEAD", "after");
    let subscribe = v1::SubscribeRequest { after: Some(2), ..Default::default() };
    check_refused(node.log().subscribe(subscribe).await, Code::OutOfRange, "AFTER_BEYOND_HEAD", "after");
}

#[tokio::test]
async fn tracking_that_makes_no_sense_is_refused() {
    let node = Node::start(&[]).await;
    let tracking = |source: &str, position| Some(v1::Tracking { source: source.into(), position });
    check(&node, INVALID, "INVALID_POSITION", "tracking.position", |r| r.tracking = tracking("a", 0)).await;
    for bad in ["", "$mesh", "a\nb", &"x".repeat(257)] {
        check(&node, INVALID, "INVALID_SOURCE", "tracking.source", |r| r.tracking = tracking(bad, 1)).await;
        let request = v1::GetTrackingRequest { source: bad.into() };
        check_refused(node.log().get_tracking(request).await, INVALID, "INVALID_SOURCE", "source");
    }
    let mut first = append(vec![event("t", "s", "1")]);
    first.tracking = tracking("a", 5);
    node.log().append(first).await.unwrap();
    for back in [5, 1] {
        let back = |r: &mut v1::AppendRequest| r.tracking = tracking("a", back);
        let status = check(&node, Code::Aborted, "TRACKING_NOT_ADVANCED", "", back).await;
        assert_eq!(fact(&status, "stored_position"), "5");
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert!(violations[0].description.contains("stored 5"), "{violations:?}");
    }
}

#[tokio::test]
async fn every_query_refuses_a_token_that_is_not_of_this_history() {
    let node = Node::start(&airport()).await;
    let answer = node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let token = answer.into_inner().token.unwrap();
    let check_token = async |token: v1::Token, code: Code, reason: &str, field: &str| {
        let options = Some(v1::ReadOptions { at_least: Some(token), ..Default::default() });
        let request = v1::GetRequest { options: options.clone(), ..get("departures", "airports", None) };
        check_refused(node.query().get(request).await, code, reason, field);
        let request = v1::ListRequest { options: options.clone(), ..list(None) };
        check_refused(node.query().list(request).await, code, reason, field);
        let request = v1::BatchGetRequest {
            projection: "departures".into(),
            collection: "airports".into(),
            keys: vec![text_key("EWR")],
            options,
            fields: vec![],
        };
        check_refused(node.query().batch_get(request).await, code, reason, field)
    };
    let field = "options.at_least";
    let other = v1::Token { log_id: Bytes::from(vec![1; 16]), ..token.clone() };
    check_token(other, INVALID, "TOKEN_OF_OTHER_LOG", field).await;
    let short = v1::Token { log_id: Bytes::from(vec![1; 15]), ..token.clone() };
    check_token(short, INVALID, "INVALID_TOKEN", &format!("{field}.log_id")).await;
    let never = v1::Token { epoch: token.epoch + 1, ..token.clone() };
    let status = check_token(never, Code::Aborted, "STALE_EPOCH", "").await;
    assert_eq!(fact(&status, "position"), "0", "nothing of that epoch is here");
}
