//! Versions that emit: nobody is promoted over one that still has to emit and stands still, and none is retired before it has.

use std::time::Duration;

use outrigger::api::proto::v1::{
    self, VersionState, process_request::Content as Said, process_response::Content as Told,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{add, definition, deploy, fresh, promote, retire, until, versions};
use crate::support::{Node, check_refused};

/// Version 1, handled by a service.
const SERVICE: &str = "\
projection: desk
version: 1
handler: service
collections: { tickets: {} }
events: [ticket.set]
";

/// A worker of version 1 that emits an event for each it is given, until it is dropped.
async fn work(node: &Node) -> tokio::task::JoinHandle<()> {
    let (say, said) = mpsc::channel(16);
    let attach = v1::AttachWorker {
        projection: "desk".into(),
        version: 1,
        worker: "w".into(),
        credits: 1,
        ..Default::default()
    };
    say.send(v1::ProcessRequest { content: Some(Said::Attach(attach)) }).await.unwrap();
    let mut told = node.projections().process(ReceiverStream::new(said)).await.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(message)) = told.message().await {
            if let Some(Told::Run(run)) = message.content {
                let transactions = run.events.iter().map(|event| v1::Transaction {
                    run: run.run,
                    position: event.position,
                    emits: vec![v1::NewEvent {
                        r#type: "ticket.seen".into(),
                        stream: "seen".into(),
                        data: b"{}".to_vec().into(),
                        ..Default::default()
                    }],
                    ..Default::default()
                });
                let answer = v1::Transactions { transactions: transactions.collect() };
                drop(say.send(v1::ProcessRequest { content: Some(Said::Transactions(answer)) }).await);
            }
        }
    })
}

/// Positions of events, and the positions that they were emitted for.
async fn emitted(node: &Node) -> (Vec<u64>, Vec<u64>) {
    let (mut causes, mut emitted) = (Vec::new(), Vec::new());
    let mut events = node.log().read(v1::ReadRequest::default()).await.unwrap().into_inner();
    while let Some(batch) = events.message().await.unwrap() {
        for event in batch.events {
            if event.r#type == "ticket.set" {
                causes.push(event.position);
            } else {
                let metadata: serde_json::Value = serde_json::from_slice(&event.metadata.unwrap()).unwrap();
                emitted.push(metadata["causation_position"].as_u64().unwrap());
            }
        }
    }
    (causes, emitted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_still_has_to_emit_is_waited_for() {
    let node = fresh().await;
    deploy(&node, SERVICE).await.unwrap();
    deploy(&node, &definition(2)).await.unwrap();
    for n in 0..5 {
        add(&node, n).await;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while versions(&node).await[1].state() != VersionState::Ready {
        tick.tick().await;
    }
    let refused = check_refused(promote(&node, 2).await, Code::FailedPrecondition, "EMITTER_BEHIND", "");
    assert!(refused.message().contains("no worker is attached"), "{refused}");
    let details = refused.get_details_error_info().unwrap().metadata;
    assert_eq!((details["position"].as_str(), details["upto"].as_str()), ("0", "5"));

    let worker = work(&node).await;
    while versions(&node).await[0].lag > 0 {
        tick.tick().await;
    }
    promote(&node, 2).await.unwrap();
    worker.abort();
    until(&node, &[(1, VersionState::Standby), (2, VersionState::Active)]).await;
    // What comes now is for the second version, which emits nothing.
    add(&node, 9).await;
    retire(&node, 1).await.unwrap();
    let (causes, emitted) = emitted(&node).await;
    assert_eq!((causes.len(), emitted.as_slice()), (6, &causes[..5]), "each once, and none for the last");
}
