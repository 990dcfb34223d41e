//! Conditions of appends through the API: queries that no event may match, and positions of sources.

use outrigger::api::proto::v1::{self, EventQuery, EventQueryItem, FailIfEventsMatch};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Node, Process, append, check_refused, event};

fn tagged(event_type: &str, tags: &[&str]) -> v1::NewEvent {
    let tags = tags.iter().map(ToString::to_string).collect();
    v1::NewEvent { tags, ..event(event_type, "s", "{}") }
}

fn item(types: &[&str], tags: &[&str]) -> EventQueryItem {
    let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    EventQueryItem { types: list(types), tags: list(tags) }
}

fn unless(items: Vec<EventQueryItem>, after: Option<u64>) -> FailIfEventsMatch {
    FailIfEventsMatch { query: Some(EventQuery { items }), after }
}

fn conditional(boundaries: Vec<FailIfEventsMatch>) -> v1::AppendRequest {
    v1::AppendRequest { fail_if_events_match: boundaries, ..append(vec![tagged("seat.booked", &["seat:9"])]) }
}

fn violations(status: &Status) -> Vec<(String, String)> {
    let failure = status.get_details_precondition_failure().unwrap();
    failure.violations.into_iter().map(|violation| (violation.r#type, violation.subject)).collect()
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata[key].clone()
}

async fn check(node: &Node, boundary: FailIfEventsMatch, broken_at: Option<u64>) {
    let result = node.log().append(conditional(vec![boundary.clone()])).await;
    match broken_at {
        None => drop(result.unwrap_or_else(|status| panic!("{boundary:?}: {status:?}"))),
        Some(position) => {
            let status = check_refused(result, Code::Aborted, "CONDITION_FAILED", "");
            assert_eq!(metadata(&status, "match_position"), position.to_string(), "{boundary:?}");
            let expected = ("EVENTS_MATCH".to_owned(), "fail_if_events_match[0]".to_owned());
            assert_eq!(violations(&status), [expected]);
        }
    }
}

#[tokio::test]
async fn an_append_fails_if_an_event_behind_a_position_matches_its_query() {
    let node = Node::start(&[]).await;
    for (event_type, tags) in
        [("seat.booked", &["seat:1", "flight:7"][..]), ("seat.freed", &["seat:1"]), ("gate", &["flight:7"])]
    {
        node.log().append(append(vec![tagged(event_type, tags)])).await.unwrap();
    }
    check(&node, unless(vec![item(&[], &["seat:1"])], None), Some(1)).await;
    check(&node, unless(vec![item(&[], &["seat:1"])], Some(1)), Some(2)).await;
    check(&node, unless(vec![item(&[], &["seat:1"])], Some(2)), None).await;
    check(&node, unless(vec![item(&["gate", "seat.freed"], &["seat:1"])], None), Some(2)).await;
    check(&node, unless(vec![item(&[], &["seat:1", "flight:7"])], Some(0)), Some(1)).await;
    check(&node, unless(vec![item(&["gate"], &["seat:1"])], None), None).await;
    let either = || vec![item(&["gate"], &[]), item(&[], &["seat:1", "flight:8"])];
    check(&node, unless(either(), None), Some(3)).await;
    check(&node, unless(either(), Some(3)), None).await;
}

#[tokio::test]
async fn every_failing_condition_is_named_and_a_retry_is_known_first() {
    let node = Node::start(&[]).await;
    node.log().append(append(vec![tagged("a", &["x"])])).await.unwrap();
    let mut request = conditional(vec![
        unless(vec![item(&["a"], &[])], Some(0)),
        unless(vec![item(&["b"], &[])], None),
        unless(vec![item(&[], &["x"])], None),
    ]);
    let none = v1::expected_revision::Expected::None(v1::NoStream {});
    request.expected_revisions = vec![v1::ExpectedRevision { stream: "s".into(), expected: Some(none) }];
    let status =
        check_refused(node.log().append(request.clone()).await, Code::Aborted, "CONDITION_FAILED", "");
    let named: Vec<_> = violations(&status).into_iter().map(|(_, subject)| subject).collect();
    assert_eq!(named, ["s", "fail_if_events_match[0]", "fail_if_events_match[2]"]);
    request.expected_revisions.clear();
    request.fail_if_events_match = vec![unless(vec![item(&["seat.booked"], &[])], None)];
    node.log().append(request.clone()).await.unwrap();
    let again = node.log().append(request).await.unwrap().into_inner();
    assert!(again.already_applied, "the request's own event matches its query, and yet it is a retry");
}

#[tokio::test]
async fn of_many_who_race_for_one_boundary_one_wins() {
    let node = Node::start(&[]).await;
    let contenders = (0..64).map(|_| {
        let mut log = node.log();
        let request = conditional(vec![unless(vec![item(&["seat.booked"], &["seat:9"])], None)]);
        tokio::spawn(async move { log.append(request).await.map(drop) })
    });
    let mut winners = 0;
    for contender in contenders.collect::<Vec<_>>() {
        match contender.await.unwrap() {
            Ok(()) => winners += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    }
    assert_eq!((winners, node.head().await), (1, 1));
}

#[tokio::test]
async fn a_condition_far_back_is_judged_as_any_other() {
    let node = Node::start(&[]).await;
    for first in 0..12 {
        let one = |n: u32| tagged("t", if first == 3 && n == 9 { &["needle", "hay"] } else { &["hay"] });
        node.log().append(append((0..1_000).map(one).collect())).await.unwrap();
    }
    check(&node, unless(vec![item(&[], &["needle"])], None), Some(3_010)).await;
    check(&node, unless(vec![item(&["t"], &["needle", "hay"])], Some(100)), Some(3_010)).await;
    check(&node, unless(vec![item(&[], &["needle"])], Some(3_010)), None).await;
    check(&node, unless(vec![item(&["nobody"], &[])], None), None).await;
}

fn tracking(source: &str, position: u64) -> v1::AppendRequest {
    let tracking = Some(v1::Tracking { source: source.into(), position });
    v1::AppendRequest { tracking, ..append(vec![event("t", "s", "1"), event("t", "s", "2")]) }
}

async fn check_tracked(
    mut log: v1::event_log_client::EventLogClient<tonic::transport::Channel>,
    source: &str,
    expected: (u64, u64),
) {
    let request = v1::GetTrackingRequest { source: source.into() };
    let answer = log.get_tracking(request).await.unwrap().into_inner();
    assert_eq!((answer.source_position, answer.stored_at), expected, "{source}");
}

#[tokio::test]
async fn a_source_only_advances() {
    let node = Node::start(&[]).await;
    check_tracked(node.log(), "flights", (0, 0)).await;
    node.log().append(tracking("flights", 5)).await.unwrap();
    let second = tracking("flights", 9);
    node.log().append(second.clone()).await.unwrap();
    for position in [9, 5, 1] {
        let refused = node.log().append(tracking("flights", position)).await;
        let status = check_refused(refused, Code::Aborted, "TRACKING_NOT_ADVANCED", "");
        assert_eq!(metadata(&status, "stored_position"), "9");
        assert_eq!(violations(&status), [("TRACKING".to_owned(), "flights".to_owned())]);
    }
    let again = node.log().append(second).await.unwrap().into_inner();
    assert!(again.already_applied);
    node.log().append(tracking("weather", 1)).await.unwrap();
    check_tracked(node.log(), "flights", (9, 4)).await;
    check_tracked(node.log(), "weather", (1, 6)).await;
    check_tracked(node.log(), "flight", (0, 0)).await;
}

#[tokio::test]
async fn a_source_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &[]);
    let mut log = v1::event_log_client::EventLogClient::new(process.channel().await);
    log.append(tracking("flights", 5)).await.unwrap();
    log.append(append((0..900).map(|n| event("t", "s", &n.to_string())).collect())).await.unwrap();
    process.kill();
    let process = Process::start(dir.path(), &[]);
    let mut log = v1::event_log_client::EventLogClient::new(process.channel().await);
    let refused = log.append(tracking("flights", 5)).await;
    check_refused(refused, Code::Aborted, "TRACKING_NOT_ADVANCED", "");
    log.append(tracking("flights", 6)).await.unwrap();
    check_tracked(log, "flights", (6, 904)).await;
}
