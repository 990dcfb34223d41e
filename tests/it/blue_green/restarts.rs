//! Decisions over restarts: of the node, without its own state, and with a build that is paused.

use outrigger::api::proto::v1::{self, VersionState};
use tonic::Code;

use super::{
    add, answering, definition, deploy, get, lose_meta, promote, restart, retire, rollback, start, until,
    versions, with_two,
};
use crate::support::check_refused;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_holds_over_restarts_and_reads_never_go_back() {
    let mut node = with_two().await;
    let mut shown = 0;
    for round in 0..4_u32 {
        let token = add(&node, u64::from(round)).await;
        let expected = if round % 2 == 0 {
            promote(&node, 2).await.unwrap();
            2
        } else {
            rollback(&node).await.unwrap();
            1
        };
        node = restart(node).await;
        // The first read of all names neither version nor token.
        let (n, version, as_of) = get(&node, v1::ReadOptions::default()).await.unwrap();
        assert_eq!((n, version), (u64::from(round), expected));
        assert!(as_of >= token.position && as_of >= shown);
        shown = as_of;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_own_state_learns_from_the_log_who_is_active() {
    let node = with_two().await;
    deploy(&node, &definition(3)).await.unwrap();
    until(&node, &[(1, VersionState::Active), (2, VersionState::Ready), (3, VersionState::Ready)]).await;
    promote(&node, 3).await.unwrap();
    promote(&node, 2).await.unwrap();
    retire(&node, 1).await.unwrap();
    let token = add(&node, 5).await;
    let dir = node.stop().await;
    lose_meta(dir.path());
    let node = start(dir).await;
    deploy(&node, &definition(3)).await.unwrap();
    let missing = get(&node, v1::ReadOptions::default()).await;
    let missing = check_refused(missing, Code::FailedPrecondition, "ACTIVE_NOT_DEPLOYED", "");
    assert!(missing.message().contains("version 2"), "{missing}");
    deploy(&node, &definition(2)).await.unwrap();
    let (n, version, as_of) = get(&node, v1::ReadOptions::default()).await.unwrap();
    assert_eq!((n, version), (5, 2));
    assert!(as_of >= token.position);
    let back = rollback(&node).await.unwrap();
    assert_eq!(back.active_version, 3, "the version that was retired is passed over");
    assert_eq!(answering(&node).await, 3);
    let gone: Vec<_> = versions(&node).await.iter().map(|v| (v.version, v.state())).collect();
    assert_eq!(gone[0], (1, VersionState::Retired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_build_stays_paused_over_a_restart() {
    let node = with_two().await;
    let pause = v1::PauseRequest { projection: "desk".into(), version: 2 };
    let at = node.projections().pause(pause).await.unwrap().into_inner().position;
    add(&node, 2).await;
    let node = restart(node).await;
    let token = add(&node, 3).await;
    assert_eq!(get(&node, super::at_least(&token)).await.unwrap().1, 1);
    let second = versions(&node).await.remove(1);
    assert!(second.build_paused);
    assert!(second.position <= at, "it stands where it stood, or is not open yet");
    let resume = v1::ResumeRequest { projection: "desk".into(), version: 2 };
    assert!(node.projections().resume(resume).await.unwrap().into_inner().was_paused);
    let pinned = v1::ReadOptions { version: Some(2), ..super::at_least(&token) };
    assert_eq!(get(&node, pinned).await.unwrap(), (3, 2, token.position));
    assert!(!versions(&node).await[1].build_paused);
}
