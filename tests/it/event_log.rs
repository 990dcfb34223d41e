//! The event log through its API.

use bytes::Bytes;
use outrigger::api::proto::v1::{
    self, EventFilter, ExpectedRevision, append_stream_response::Outcome, expected_revision::Expected,
    get_event_request::By,
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::{Node, append, check_refused, event};

pub(crate) async fn read(node: &Node, request: v1::ReadRequest) -> Vec<v1::Event> {
    let mut stream = node.log().read(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(page) = stream.message().await.unwrap() {
        events.extend(page.events);
    }
    events
}

pub(crate) fn positions(events: &[v1::Event]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

/// 40 events over 4 streams, 2 types and a few tags.
pub(crate) async fn filled() -> Node {
    let node = Node::start(&[]).await;
    for n in 1..=40_u32 {
        let mut new =
            event(["even", "odd"][n as usize % 2], &format!("s{}", n % 4), &format!("{{\"n\":{n}}}"));
        new.tags = vec![format!("mod5:{}", n % 5), format!("mod3:{}", n % 3)];
        node.log().append(append(vec![new])).await.unwrap();
    }
    node
}

#[tokio::test]
async fn appended_events_have_dense_positions_and_revisions() {
    let node = Node::start(&[]).await;
    let request = append(vec![event("a.b", "x", "{}"), event("a.b", "y", "[1]"), event("a.b", "x", "null")]);
    let answer = node.log().append(request).await.unwrap().into_inner();
    let places: Vec<_> = answer.events.iter().map(|e| (e.position, e.revision)).collect();
    assert_eq!(places, [(1, 1), (2, 1), (3, 2)]);
    assert!(!answer.already_applied);
    assert_eq!(answer.token.unwrap().position, 3);
    assert_eq!(node.head().await, 3);
}

#[tokio::test]
async fn a_repeated_request_answers_with_the_original_positions() {
    let node = Node::start(&[]).await;
    let mut request = append(vec![event("t", "s", r#"{"a":1, "b":[1.0]}"#), event("t", "s", "2")]);
    request.expected_revisions =
        vec![ExpectedRevision { stream: "s".into(), expected: Some(Expected::None(v1::NoStream {})) }];
    let first = node.log().append(request.clone()).await.unwrap().into_inner();
    request.events[0].data = Bytes::from_static(br#"{"b":[1],"a":1}"#);
    request.events[0].metadata = Some(Bytes::from_static(b"{\"trace\":1}"));
    let again = node.log().append(request.clone()).await.unwrap().into_inner();
    assert!(again.already_applied);
    assert_eq!(again.events[1].position, first.events[1].position);
    request.events.push(event("t", "s", "3"));
    let refused = node.log().append(request.clone()).await;
    check_refused(refused, Code::Aborted, "PARTLY_APPLIED", "");
    request.skip_existing = true;
    request.expected_revisions.clear();
    let skipped = node.log().append(request).await.unwrap().into_inner();
    let existed: Vec<_> = skipped.events.iter().map(|e| e.already_existed).collect();
    assert_eq!(existed, [true, true, false]);
    assert_eq!(node.head().await, 3);
}

#[tokio::test]
async fn reads_go_both_ways_with_limits_and_filters() {
    let node = filled().await;
    let all = read(&node, v1::ReadRequest::default()).await;
    assert_eq!(positions(&all), (1..=40).collect::<Vec<_>>());
    let request = v1::ReadRequest { after: Some(10), limit: Some(3), ..Default::default() };
    assert_eq!(positions(&read(&node, request).await), [11, 12, 13]);
    let request = v1::ReadRequest { after: Some(10), limit: Some(3), backwards: true, ..Default::default() };
    assert_eq!(positions(&read(&node, request).await), [9, 8, 7]);
    let request = v1::ReadRequest { limit: Some(2), backwards: true, ..Default::default() };
    assert_eq!(positions(&read(&node, request).await), [40, 39]);
    let filter = |stream: Option<&str>, types: &[&str], tags: &[&str]| {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Some(EventFilter {
            stream: stream.map(str::to_owned),
            types: list(types),
            tags: list(tags),
            ..Default::default()
        })
    };
    let check = async |filter: Option<EventFilter>, expected: &dyn Fn(u64) -> bool| {
        let expected: Vec<u64> = (1..=40).filter(|n| expected(*n)).collect();
        let request = v1::ReadRequest { filter: filter.clone(), ..Default::default() };
        assert_eq!(positions(&read(&node, request).await), expected, "{filter:?}");
        let request = v1::ReadRequest { filter, backwards: true, ..Default::default() };
        let backwards: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(positions(&read(&node, request).await), backwards);
    };
    check(filter(Some("s1"), &[], &[]), &|n| n % 4 == 1).await;
    check(filter(None, &["odd"], &[]), &|n| n % 2 == 1).await;
    check(filter(None, &["odd", "even"], &[]), &|_| true).await;
    check(filter(None, &[], &["mod5:1", "mod3:1"]), &|n| n % 15 == 1).await;
    check(filter(Some("s1"), &["odd"], &["mod5:1"]), &|n| n % 4 == 1 && n % 5 == 1).await;
    check(filter(None, &["never"], &[]), &|_| false).await;
    check(filter(Some("s1"), &["even"], &[]), &|_| false).await;
    let query = |items: &[(&[&str], &[&str])], rest: EventFilter| {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let item =
            |(types, tags): &(&[&str], &[&str])| v1::EventQueryItem { types: list(types), tags: list(tags) };
        let query = Some(v1::EventQuery { items: items.iter().map(item).collect() });
        Some(EventFilter { query, ..rest })
    };
    let either: &[(&[&str], &[&str])] =
        &[(&["odd"], &["mod5:1"]), (&[], &["mod3:0", "mod5:0"]), (&["even"], &["mod5:4"])];
    let in_either =
        |n: u64| (n % 2 == 1 && n % 5 == 1) || n.is_multiple_of(15) || (n.is_multiple_of(2) && n % 5 == 4);
    check(query(either, EventFilter::default()), &in_either).await;
    let in_stream = EventFilter { stream: Some("s1".into()), include_system: true, ..Default::default() };
    check(query(either, in_stream), &|n| n % 4 == 1 && in_either(n)).await;
    let limited = v1::ReadRequest {
        filter: query(either, EventFilter::default()),
        limit: Some(3),
        ..Default::default()
    };
    let expected: Vec<u64> = (1..=40).filter(|n| in_either(*n)).collect();
    assert_eq!(positions(&read(&node, limited.clone()).await), expected[..3]);
    let backwards = v1::ReadRequest { backwards: true, ..limited };
    let last: Vec<u64> = expected.into_iter().rev().take(3).collect();
    assert_eq!(positions(&read(&node, backwards).await), last);
}

#[tokio::test]
async fn an_append_stream_answers_in_order_and_survives_a_refused_request() {
    let node = Node::start(&[]).await;
    let mut requests: Vec<_> = (0..500).map(|n| append(vec![event("t", "s", &n.to_string())])).collect();
    requests[250].events[0].r#type = "not a type".into();
    let requests = requests.into_iter().map(|request| v1::AppendStreamRequest { request: Some(request) });
    let responses = node.log().append_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let outcomes: Vec<_> = responses.map(|response| response.unwrap().outcome.unwrap()).collect().await;
    assert_eq!(outcomes.len(), 500);
    let mut expected = 0;
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Appended(appended) => {
                expected += 1;
                assert_eq!(appended.events[0].position, expected);
            }
            Outcome::Failure(failure) => {
                assert_eq!((at, failure.code, failure.reason.as_str()), (250, 3, "INVALID_TYPE"));
                assert!(!failure.details.is_empty());
            }
        }
    }
    assert_eq!(node.head().await, 499);
}

fn expecting(stream: &str, expected: Expected) -> v1::AppendRequest {
    let mut request = append(vec![event("t", "s", "1")]);
    request.expected_revisions = vec![ExpectedRevision { stream: stream.into(), expected: Some(expected) }];
    request
}

#[tokio::test]
async fn expected_revisions_hold_or_refuse() {
    let node = Node::start(&[]).await;
    let none = Expected::None(v1::NoStream {});
    let exists = Expected::Exists(v1::StreamExists {});
    let any = Expected::Any(v1::AnyRevision {});
    check_refused(node.log().append(expecting("s", exists)).await, Code::Aborted, "CONDITION_FAILED", "");
    check_refused(
        node.log().append(expecting("s", Expected::Revision(1))).await,
        Code::Aborted,
        "CONDITION_FAILED",
        "",
    );
    node.log().append(expecting("s", none)).await.unwrap();
    check_refused(node.log().append(expecting("s", none)).await, Code::Aborted, "CONDITION_FAILED", "");
    node.log().append(expecting("s", Expected::Revision(1))).await.unwrap();
    check_refused(
        node.log().append(expecting("s", Expected::Revision(1))).await,
        Code::Aborted,
        "CONDITION_FAILED",
        "",
    );
    node.log().append(expecting("s", exists)).await.unwrap();
    node.log().append(expecting("s", any)).await.unwrap();
    node.log().append(expecting("another", none)).await.unwrap();
    assert_eq!(node.head().await, 5);
}

#[tokio::test]
async fn of_many_writers_with_one_expectation_exactly_one_wins() {
    let node = Node::start(&[]).await;
    let mut writers = Vec::new();
    for _ in 0..32 {
        let mut log = node.log();
        let request = expecting("s", Expected::None(v1::NoStream {}));
        writers.push(tokio::spawn(async move { log.append(request).await.is_ok() }));
    }
    let mut won = 0;
    for writer in writers {
        won += u32::from(writer.await.unwrap());
    }
    assert_eq!((won, node.head().await), (1, 1));
}

#[tokio::test]
async fn events_are_found_by_position_and_by_id() {
    let node = Node::start(&[]).await;
    let new = event("t", "s", "{\"kept\" :  1.50}");
    let id = new.id.clone().unwrap();
    node.log().append(append(vec![new])).await.unwrap();
    for by in [By::Position(1), By::Id(id)] {
        let request = v1::GetEventRequest { by: Some(by) };
        let found = node.log().get_event(request).await.unwrap().into_inner().event.unwrap();
        assert_eq!((found.position, found.revision), (1, 1));
        assert_eq!(&found.data[..], b"{\"kept\" :  1.50}", "data is kept to the letter");
        assert_eq!(found.time, found.recorded_at);
    }
    let absent = [By::Position(2), By::Id(Bytes::from(vec![7; 16]))];
    for by in absent {
        let request = v1::GetEventRequest { by: Some(by) };
        check_refused(node.log().get_event(request).await, Code::NotFound, "EVENT_NOT_FOUND", "");
    }
}

#[tokio::test]
async fn streams_come_in_pages_in_order_of_their_names() {
    let node = filled().await;
    node.log().append(append(vec![event("t", "zz", "1")])).await.unwrap();
    let mut request =
        v1::ListStreamsRequest { prefix: Some("s".into()), page_size: Some(3), ..Default::default() };
    let first = node.log().list_streams(request.clone()).await.unwrap().into_inner();
    let names: Vec<_> =
        first.streams.iter().map(|s| (s.stream.as_str(), s.revision, s.last_position)).collect();
    assert_eq!(names, [("s0", 10, 40), ("s1", 10, 37), ("s2", 10, 38)]);
    request.page_token = first.next_page_token;
    let second = node.log().list_streams(request.clone()).await.unwrap().into_inner();
    assert_eq!((second.streams.len(), second.next_page_token), (1, None));
    request.prefix = Some("z".into());
    check_refused(
        node.log().list_streams(request).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_MISMATCH",
        "page_token",
    );
}

#[tokio::test]
async fn a_restarted_node_goes_on_where_it_was() {
    let node = filled().await;
    let before = read(&node, v1::ReadRequest::default()).await;
    let dir = node.stop().await;
    let running = outrigger::app::start(crate::support::config(dir.path(), &[])).await.unwrap();
    let channel = crate::support::connect(running.grpc_addr.tcp().unwrap()).await;
    let mut log = v1::event_log_client::EventLogClient::new(channel);
    let mut after = Vec::new();
    let mut stream = log.read(v1::ReadRequest::default()).await.unwrap().into_inner();
    while let Some(page) = stream.message().await.unwrap() {
        after.extend(page.events);
    }
    assert_eq!(after, before);
    let answer = log.append(append(vec![event("t", "s1", "1")])).await.unwrap().into_inner();
    assert_eq!((answer.events[0].position, answer.events[0].revision), (41, 11));
    running.stop().await.unwrap();
}
