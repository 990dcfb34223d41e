//! Subscriptions: history and live, epochs, resuming, and those who read too slowly or not at all.

use std::time::Duration;

use bytes::Bytes;
use outrigger::{
    api::proto::v1::{
        self, EventFilter, EventQuery, EventQueryItem, Token, event_log_client::EventLogClient,
        subscribe_response::Content,
    },
    app,
};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    event_log::{filled, positions},
    support::{Node, append, check_refused, config, connect, event},
};

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> Content {
    stream.message().await.unwrap().unwrap().content.unwrap()
}

#[tokio::test]
async fn a_subscription_has_no_gap_and_no_repeat_between_history_and_live() {
    let node = filled().await;
    let writer = {
        let mut log = node.log();
        tokio::spawn(async move {
            for n in 0..300 {
                log.append(append(vec![event("live", "l", &n.to_string())])).await.unwrap();
            }
        })
    };
    let mut stream = node.log().subscribe(v1::SubscribeRequest::default()).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut caught_up = 0;
    while seen.len() < 340 {
        match next(&mut stream).await {
            Content::Events(batch) => seen.extend(positions(&batch.events)),
            Content::CaughtUp(at) => {
                assert!(at.position <= seen.len() as u64);
                caught_up += 1;
            }
            Content::FellBehind(_) | Content::PositionAdvanced(_) | Content::EpochChanged(_) => {}
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, (1..=340).collect::<Vec<_>>());
    assert!(caught_up <= 1 || seen.len() > 1_000, "{caught_up}");
}

#[tokio::test]
async fn a_filtered_subscription_says_how_far_it_looked() {
    let node = filled().await;
    let filter = Some(EventFilter { types: vec!["rare".into()], ..Default::default() });
    let request = v1::SubscribeRequest { after: Some(7), filter, ..Default::default() };
    let mut stream = node.log().subscribe(request).await.unwrap().into_inner();
    assert!(matches!(next(&mut stream).await, Content::EpochChanged(_)));
    assert!(matches!(next(&mut stream).await, Content::CaughtUp(at) if at.position == 40));
    node.log().append(append(vec![event("other", "s", "1")])).await.unwrap();
    assert!(matches!(next(&mut stream).await, Content::PositionAdvanced(at) if at.position == 41));
    node.log().append(append(vec![event("rare", "s", "1")])).await.unwrap();
    assert!(matches!(next(&mut stream).await, Content::Events(batch) if positions(&batch.events) == [42]));
}

async fn subscribe(log: &mut EventLogClient<Channel>, after: u64) -> Streaming<v1::SubscribeResponse> {
    let request = v1::SubscribeRequest { after: Some(after), ..Default::default() };
    log.subscribe(request).await.unwrap().into_inner()
}

/// What a subscription tells up to `CaughtUp`: epochs as (epoch, first position), events as positions.
async fn told(stream: &mut Streaming<v1::SubscribeResponse>) -> (Vec<(u64, u64)>, Vec<Vec<u64>>) {
    let (mut epochs, mut batches) = (Vec::new(), Vec::new());
    loop {
        match next(stream).await {
            Content::EpochChanged(epoch) => epochs.push((epoch.epoch, epoch.first_position)),
            Content::Events(batch) => batches.push(positions(&batch.events)),
            Content::CaughtUp(_) => return (epochs, batches),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn epochs_are_told_first_and_split_batches() {
    let node = Node::start(&[]).await;
    node.log().append(append((0..5).map(|n| event("t", "s", &n.to_string())).collect())).await.unwrap();
    let dir = node.stop().await;
    // An epoch that writes nothing is not told.
    app::start(config(dir.path(), &[])).await.unwrap().stop().await.unwrap();
    let node = Node::around(app::start(config(dir.path(), &[])).await.unwrap(), dir).await;
    node.log().append(append((0..3).map(|n| event("t", "s", &n.to_string())).collect())).await.unwrap();
    let mut log = node.log();
    let all = told(&mut subscribe(&mut log, 0).await).await;
    assert_eq!(all, (vec![(1, 1), (3, 6)], vec![vec![1, 2, 3, 4, 5], vec![6, 7, 8]]));
    let inside = told(&mut subscribe(&mut log, 3).await).await;
    assert_eq!(inside, (vec![(1, 1), (3, 6)], vec![vec![4, 5], vec![6, 7, 8]]));
    let behind = told(&mut subscribe(&mut log, 5).await).await;
    assert_eq!(behind, (vec![(3, 6)], vec![vec![6, 7, 8]]));
    let at_head = told(&mut subscribe(&mut log, 8).await).await;
    assert_eq!(at_head, (vec![(3, 6)], vec![]));
}

async fn head_token(node: &Node) -> Token {
    node.log().get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().token.unwrap()
}

#[tokio::test]
async fn a_token_resumes_reads_and_subscriptions() {
    let node = filled().await;
    let token = Token { position: 37, ..head_token(&node).await };
    let request = v1::SubscribeRequest { after_token: Some(token.clone()), ..Default::default() };
    let mut stream = node.log().subscribe(request).await.unwrap().into_inner();
    assert_eq!(told(&mut stream).await, (vec![(1, 1)], vec![vec![38, 39, 40]]));
    let request = v1::ReadRequest { after_token: Some(token.clone()), ..Default::default() };
    assert_eq!(positions(&crate::event_log::read(&node, request.clone()).await), [38, 39, 40]);
    let backwards = v1::ReadRequest { backwards: true, limit: Some(2), ..request };
    assert_eq!(positions(&crate::event_log::read(&node, backwards).await), [36, 35]);
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata[key].clone()
}

async fn refused(
    node: &Node,
    after: Option<u64>,
    token: Token,
    code: Code,
    reason: &str,
    field: &str,
) -> Status {
    let read = v1::ReadRequest { after, after_token: Some(token.clone()), ..Default::default() };
    let status = check_refused(node.log().read(read).await, code, reason, field);
    let subscribe = v1::SubscribeRequest { after, after_token: Some(token), ..Default::default() };
    check_refused(node.log().subscribe(subscribe).await, code, reason, field);
    status
}

#[tokio::test]
async fn a_token_that_is_not_of_this_history_is_refused() {
    let node = filled().await;
    let head = head_token(&node).await;
    let dir = node.stop().await;
    let node = Node::around(app::start(config(dir.path(), &[])).await.unwrap(), dir).await;
    node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let other = Token { log_id: Bytes::from(vec![7; 16]), ..head.clone() };
    refused(&node, None, other, Code::InvalidArgument, "TOKEN_OF_OTHER_LOG", "after_token").await;
    let short = Token { log_id: Bytes::from(vec![7; 15]), ..head.clone() };
    refused(&node, None, short, Code::InvalidArgument, "INVALID_TOKEN", "after_token.log_id").await;
    refused(&node, Some(1), head.clone(), Code::InvalidArgument, "CONTRADICTORY_START", "after_token").await;
    let lost = Token { position: 41, ..head.clone() };
    let status = refused(&node, None, lost, Code::Aborted, "STALE_EPOCH", "").await;
    assert_eq!(metadata(&status, "position"), "40");
    let never = Token { epoch: 9, ..head.clone() };
    let status = refused(&node, None, never, Code::Aborted, "STALE_EPOCH", "").await;
    assert_eq!(metadata(&status, "position"), "0");
    let above = Token { epoch: 2, position: 42, ..head };
    let status = refused(&node, None, above, Code::OutOfRange, "AFTER_BEYOND_HEAD", "after_token").await;
    assert_eq!(metadata(&status, "head"), "41");
}

#[tokio::test]
async fn who_takes_nothing_is_told_where_it_was_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.limits.reader_stall = Duration::from_millis(50);
    let node = Node::around(app::start(config).await.unwrap(), dir).await;
    // More than all buffers between the node and a reader that takes nothing hold.
    let large = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..32 {
        node.log().append(append(vec![event("t", "s", &large)])).await.unwrap();
    }
    let mut subscription = subscribe(&mut node.log(), 0).await;
    let mut read = node.log().read(v1::ReadRequest::default()).await.unwrap().into_inner();
    for n in 0..50 {
        node.log().append(append(vec![event("t", "s", &n.to_string())])).await.unwrap();
    }
    let filter = Some(EventFilter { stream: Some("s".into()), ..Default::default() });
    let request = v1::ReadRequest { filter, after: Some(32), ..Default::default() };
    assert_eq!(crate::event_log::read(&node, request).await.len(), 50);
    for open in ["outrigger_subscriptions", "outrigger_reads"] {
        while node.metric(open).await != 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut last = 0;
    let status = loop {
        match subscription.message().await {
            Ok(message) => match message.unwrap().content.unwrap() {
                Content::Events(batch) => last = positions(&batch.events)[batch.events.len() - 1],
                Content::EpochChanged(_) => {}
                other => panic!("{other:?}"),
            },
            Err(status) => break status,
        }
    };
    let status = check_refused(Err::<(), _>(status), Code::ResourceExhausted, "SUBSCRIBER_TOO_SLOW", "");
    assert_eq!(metadata(&status, "position"), last.to_string());
    assert!(last < 82, "it never came to the head");
    let (mut last, mut status) = (0, None);
    while status.is_none() {
        match read.message().await {
            Ok(message) => last = message.unwrap().events.last().unwrap().position,
            Err(error) => status = Some(error),
        }
    }
    let status = check_refused(Err::<(), _>(status.unwrap()), Code::ResourceExhausted, "READER_TOO_SLOW", "");
    assert_eq!(metadata(&status, "position"), last.to_string());
}

/// One of many: they differ in what they wait for, and nobody ever appends it.
fn idle(number: usize) -> v1::SubscribeRequest {
    let name = format!("never-{number}");
    let item = |types: &[&str], tags: &[&str]| {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        EventQueryItem { types: list(types), tags: list(tags) }
    };
    let mut filter = EventFilter::default();
    match number % 4 {
        0 => filter.stream = Some(name),
        1 => filter.types = vec![name],
        2 => filter.tags = vec!["common".into(), name],
        _ => {
            filter.query = Some(EventQuery { items: vec![item(&[&name], &["common"]), item(&[], &[&name])] });
        }
    }
    v1::SubscribeRequest { filter: Some(filter), ..Default::default() }
}

#[tokio::test]
async fn a_thousand_idle_subscriptions_sleep_through_the_appends_of_others() {
    let node = Node::start(&[]).await;
    let mut streams = Vec::new();
    for connection in 0..10 {
        let channel = connect(node.grpc_addr()).await;
        for number in 0..100 {
            let mut log = EventLogClient::new(channel.clone());
            let mut stream = log.subscribe(idle(connection * 100 + number)).await.unwrap().into_inner();
            told(&mut stream).await;
            streams.push(stream);
        }
    }
    let filter = Some(EventFilter { types: vec!["wanted".into()], ..Default::default() });
    let request = v1::SubscribeRequest { filter, ..Default::default() };
    let mut wanted = node.log().subscribe(request).await.unwrap().into_inner();
    told(&mut wanted).await;
    assert_eq!(node.metric("outrigger_subscriptions").await, 1_001);
    let before = node.metric("outrigger_subscription_wakeups_total").await;
    for n in 0..200 {
        let mut other = event("other", "s", &n.to_string());
        other.tags = vec!["common".into()];
        node.log().append(append(vec![other])).await.unwrap();
    }
    node.log().append(append(vec![event("wanted", "s", "1")])).await.unwrap();
    while !matches!(next(&mut wanted).await, Content::Events(_)) {}
    // The dispatcher has looked at all of them now. One by one they would have woken 200,000 times; a few wake-ups each
    // tell them how far the log is.
    let woken = node.metric("outrigger_subscription_wakeups_total").await - before;
    assert!(woken < 20_000, "{woken} wake-ups");
    for stream in &mut streams {
        assert!(matches!(next(stream).await, Content::PositionAdvanced(at) if at.position > 0));
    }
}

/// Whether the event with this number is wanted.
type Wants = fn(u64) -> bool;

#[tokio::test]
async fn subscribers_at_the_head_get_what_they_want_and_nothing_else() {
    let node = Node::start(&[]).await;
    let filters: [(EventFilter, Wants); 5] = [
        (EventFilter::default(), |_| true),
        (EventFilter { types: vec!["even".into()], ..Default::default() }, |n| n % 2 == 0),
        (EventFilter { stream: Some("s1".into()), ..Default::default() }, |n| n % 4 == 1),
        (EventFilter { tags: vec!["mod3:0".into(), "mod5:0".into()], ..Default::default() }, |n| n % 15 == 0),
        (EventFilter { types: vec!["odd".into(), "even".into()], ..Default::default() }, |_| true),
    ];
    let mut readers = Vec::new();
    for (filter, wants) in filters {
        let mut log = node.log();
        let expected: Vec<u64> = (1..=600).filter(|n| wants(*n)).collect();
        let request = v1::SubscribeRequest { filter: Some(filter), ..Default::default() };
        let mut stream = log.subscribe(request).await.unwrap().into_inner();
        told(&mut stream).await;
        readers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < expected.len() {
                match next(&mut stream).await {
                    Content::Events(batch) => seen.extend(positions(&batch.events)),
                    Content::PositionAdvanced(at) => {
                        assert!(at.position >= seen.last().copied().unwrap_or(0));
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(seen, expected);
        }));
    }
    let mut n = 0;
    for size in [1, 2, 7, 90, 100, 200, 200] {
        let new = (0..size).map(|_| {
            n += 1;
            let mut new = event(["even", "odd"][n % 2], &format!("s{}", n % 4), "{}");
            new.tags = vec![format!("mod5:{}", n % 5), format!("mod3:{}", n % 3)];
            new
        });
        node.log().append(append(new.collect())).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}
