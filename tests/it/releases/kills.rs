//! `kill -9` of a node around promotions of a release and their taking back, again and again: afterwards the release is
//! active whole or not at all, at every look.

use std::time::Duration;

use outrigger::api::proto::v1::{
    self, event_log_client::EventLogClient, projections_client::ProjectionsClient,
    releases_client::ReleasesClient,
};
use tonic::{Code, Status, transport::Channel};

use super::definition;
use crate::support::{Process, append, event};

async fn apply(channel: &Channel, release: &str, number: u32) {
    let definitions = ["desk", "door"].map(|projection| definition(projection, number)).into();
    let request = v1::ApplyReleaseRequest { release: release.into(), definitions, reason: None };
    ReleasesClient::new(channel.clone()).apply_release(request).await.unwrap();
}

/// Promotes the release, or takes its promotion back, whatever is possible; the version that is active then.
async fn turn(channel: Channel) -> Result<u32, Status> {
    let mut client = ReleasesClient::new(channel);
    let back = v1::RollbackReleaseRequest { release: "green".into(), reason: None };
    match client.rollback_release(back).await {
        Ok(_) => Ok(1),
        Err(status) if status.code() == Code::FailedPrecondition => {
            let promote = v1::PromoteReleaseRequest { release: "green".into(), ..Default::default() };
            client.promote_release(promote).await.map(|_| 2)
        }
        Err(status) => Err(status),
    }
}

/// The active versions, which are the same number, and whether everything that was decided is done.
async fn active(channel: &Channel) -> (u32, bool) {
    let request = v1::ListProjectionsRequest {};
    let found = ProjectionsClient::new(channel.clone()).list_projections(request).await.unwrap().into_inner();
    let active: Vec<_> = found.versions.iter().filter(|version| version.active).collect();
    let numbers: Vec<_> = active.iter().map(|version| (&*version.projection, version.version)).collect();
    assert!(
        numbers == [("desk", 1), ("door", 1)] || numbers == [("desk", 2), ("door", 2)],
        "half of a release: {numbers:?}"
    );
    (numbers[0].1, found.versions.iter().all(|version| !version.taking_over))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_around_promotions_of_a_release_has_all_of_it_active_or_nothing() {
    let kills = std::env::var("TEST_KILLS").map_or(30, |text| text.parse().expect("TEST_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), &[]);
    let mut channel = process.channel().await;
    apply(&channel, "blue", 1).await;
    apply(&channel, "green", 2).await;
    let mut turns = 0;
    for kill in 0..kills {
        let turning = tokio::spawn(turn(channel.clone()));
        // A random number of appends, each of which takes its time, is where the kill comes.
        for _ in 0..uuid::Uuid::new_v4().as_bytes()[0] % 24 {
            let set = event("ticket.set", "s", r#"{"id":"a","n":1}"#);
            EventLogClient::new(channel.clone()).append(append(vec![set])).await.unwrap();
        }
        process.kill();
        let turned = turning.await.unwrap().ok();
        process = Process::start(dir.path(), &[]);
        channel = process.channel().await;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let version = loop {
            let (version, is_done) = active(&channel).await;
            if is_done {
                break version;
            }
            tick.tick().await;
        };
        let request = v1::GetReleaseRequest { release: "green".into() };
        let green = ReleasesClient::new(channel.clone()).get_release(request).await.unwrap().into_inner();
        let promoted = green.release.unwrap().promoted_position.is_some();
        assert_eq!(version == 2, promoted, "kill {kill}: what is decided is done");
        if let Some(turned) = turned {
            turns += 1;
            assert_eq!(version, turned, "kill {kill}: what was acknowledged holds");
        }
    }
    println!("{kills} kills, {turns} turns were acknowledged before");
}
