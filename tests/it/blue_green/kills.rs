//! `kill -9` of a node around promotes and rollbacks, again and again: afterwards one version is active, always one of the
//! two, and no reader goes back.

use std::time::Duration;

use outrigger::api::proto::v1::{
    self, event_log_client::EventLogClient, projections_client::ProjectionsClient, query_client::QueryClient,
};
use tonic::{Status, transport::Channel};

use super::definition;
use crate::support::{Process, append, event, text_key};

async fn add(channel: &Channel, n: u64) -> Result<v1::Token, Status> {
    let set = event("ticket.set", "s", &format!(r#"{{"id":"a","n":{n}}}"#));
    let answer = EventLogClient::new(channel.clone()).append(append(vec![set])).await?;
    Ok(answer.into_inner().token.unwrap())
}

/// The version that answers, what it shows, and its as-of position.
async fn read(channel: &Channel, at_least: Option<v1::Token>) -> (u32, u64, u64) {
    let request = v1::GetRequest {
        projection: "desk".into(),
        collection: "tickets".into(),
        key: Some(text_key("a")),
        options: Some(v1::ReadOptions { at_least, ..Default::default() }),
        ..Default::default()
    };
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let answer = loop {
        tick.tick().await;
        // Right behind a start its file may still be opened: the answer says so, and to try again.
        match QueryClient::new(channel.clone()).get(request.clone()).await {
            Err(status) if status.code() == tonic::Code::Unavailable => {}
            answer => break answer.unwrap().into_inner(),
        }
    };
    let context = answer.context.unwrap();
    let value: serde_json::Value = serde_json::from_slice(&answer.document.unwrap().value).unwrap();
    assert_eq!(value["made_by"], context.version);
    (context.version, value["n"].as_u64().unwrap(), context.as_of)
}

async fn versions(channel: &Channel) -> Vec<v1::ProjectionVersion> {
    let request = v1::GetProjectionRequest { projection: "desk".into() };
    let found = ProjectionsClient::new(channel.clone()).get_projection(request).await;
    found.unwrap().into_inner().versions
}

/// Promotes the second version or goes back to the first, whatever is possible.
async fn turn(channel: Channel) -> Result<u32, Status> {
    let mut client = ProjectionsClient::new(channel);
    let projection = "desk".to_owned();
    let promote = v1::PromoteRequest {
        projection: projection.clone(),
        version: 2,
        expect_active: Some(1),
        ..Default::default()
    };
    match client.promote(promote).await {
        Ok(done) => Ok(done.into_inner().active_version),
        Err(status) if status.code() == tonic::Code::Aborted => {
            let back = v1::RollbackRequest { projection, expect_active: Some(2), reason: None };
            Ok(client.rollback(back).await?.into_inner().active_version)
        }
        Err(status) => Err(status),
    }
}

/// The version that the last decision in the log made active.
async fn decided(channel: &Channel) -> Option<u64> {
    let filter = v1::EventFilter {
        stream: Some("$projection-desk".into()),
        include_system: true,
        ..Default::default()
    };
    let request =
        v1::ReadRequest { filter: Some(filter), backwards: true, limit: Some(1), ..Default::default() };
    let mut events = EventLogClient::new(channel.clone()).read(request).await.unwrap().into_inner();
    let batch = events.message().await.unwrap()?;
    let data: serde_json::Value = serde_json::from_slice(&batch.events.first()?.data).unwrap();
    data["version"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_around_promotes_and_rollbacks_has_one_active_version() {
    let kills = std::env::var("TEST_KILLS").map_or(30, |text| text.parse().expect("TEST_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), &[]);
    let mut channel = process.channel().await;
    for number in [1, 2] {
        let request = v1::DeployRequest { definition: definition(number), file: "desk.yaml".into() };
        ProjectionsClient::new(channel.clone()).deploy(request).await.unwrap();
    }
    let (mut n, mut shown, mut turns) = (0, 0, 0);
    let mut token = add(&channel, n).await.unwrap();
    for kill in 0..kills {
        let turning = tokio::spawn(turn(channel.clone()));
        // A random number of appends, each of which takes its time, is where the kill comes.
        for _ in 0..uuid::Uuid::new_v4().as_bytes()[0] % 24 {
            n += 1;
            token = add(&channel, n).await.unwrap();
            shown = shown.max(read(&channel, None).await.2);
        }
        process.kill();
        let turned = turning.await.unwrap().ok();
        process = Process::start(dir.path(), &[]);
        channel = process.channel().await;

        let (version, _, as_of) = read(&channel, None).await;
        assert!(as_of >= shown, "kill {kill}: shown {as_of} after {shown}");
        assert!([1, 2].contains(&version));
        let (_, found, as_of) = read(&channel, Some(token.clone())).await;
        assert!(as_of >= token.position && found == n, "kill {kill}: {found} at {as_of}, {n} at {token:?}");
        shown = as_of;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let active = loop {
            let found = versions(&channel).await;
            let active: Vec<u32> =
                found.iter().filter(|version| version.active).map(|version| version.version).collect();
            assert_eq!((active.len(), found.len()), (1, 2), "kill {kill}: {found:?}");
            if found.iter().all(|version| !version.taking_over) {
                break active[0];
            }
            tick.tick().await;
        };
        assert_eq!(u64::from(active), decided(&channel).await.unwrap_or(1), "kill {kill}");
        if let Some(turned) = turned {
            turns += 1;
            assert_eq!(active, turned, "kill {kill}: what was acknowledged holds");
        }
        assert_eq!(read(&channel, None).await.0, active);
    }
    println!("{kills} kills, {turns} turns were acknowledged before");
}
