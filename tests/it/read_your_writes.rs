//! A query with the token of an append shows that append, always.

use outrigger::api::proto::v1;
use serde_json::Value;
use tonic::Code;

use crate::support::{Node, airport, append, check_refused, event, text_key};

fn departed(delay_minutes: i64) -> v1::NewEvent {
    let data = format!(r#"{{"flight":"F","origin":"EWR","carrier":"UA","delay_minutes":{delay_minutes}}}"#);
    event("flight.departed", "flight-F", &data)
}

fn get(options: v1::ReadOptions) -> v1::GetRequest {
    v1::GetRequest {
        projection: "departures".into(),
        collection: "airports".into(),
        key: Some(text_key("EWR")),
        options: Some(options),
        fields: vec![],
    }
}

fn departures(response: &v1::GetResponse) -> i64 {
    let value: Value = serde_json::from_slice(&response.document.as_ref().unwrap().value).unwrap();
    value["departures"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_an_appends_token_shows_it_also_with_other_writers() {
    let node = Node::start(&airport()).await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (mut log, mut query) = (node.log(), node.query());
        writers.push(tokio::spawn(async move {
            let mut before = 0;
            for _ in 0..100 {
                let answer = log.append(append(vec![departed(3)])).await.unwrap().into_inner();
                let at_least = answer.token;
                let options = v1::ReadOptions { at_least: at_least.clone(), ..Default::default() };
                let response = query.get(get(options)).await.unwrap().into_inner();
                let context = response.context.clone().unwrap();
                assert!(context.as_of >= at_least.unwrap().position && context.head >= context.as_of);
                assert!(!context.stale);
                let now = departures(&response);
                assert!(now > before, "an own append is missing: {now} after {before}");
                // All events of this log are departures from EWR: the count is the as-of position.
                assert_eq!(now as u64, context.as_of);
                before = now;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(node.head().await, 400);
}

#[tokio::test]
async fn a_token_ahead_of_the_log_times_out_or_gives_stale_data_when_asked_to() {
    let node = Node::start(&airport()).await;
    let token = node.log().append(append(vec![departed(1)])).await.unwrap().into_inner().token.unwrap();
    let shown = v1::ReadOptions { at_least: Some(token.clone()), ..Default::default() };
    node.query().get(get(shown)).await.unwrap();
    let ahead = v1::Token { position: token.position + 10, ..token.clone() };
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let options = v1::ReadOptions { at_least: Some(ahead), timeout, ..Default::default() };
    check_refused(
        node.query().get(get(options.clone())).await,
        Code::DeadlineExceeded,
        "NOT_FRESH_ENOUGH",
        "",
    );
    let options = v1::ReadOptions { allow_stale: true, ..options };
    let response = node.query().get(get(options)).await.unwrap().into_inner();
    assert!(response.context.as_ref().unwrap().stale);
    assert_eq!(departures(&response), 1);
}
