//! What handlers emit is checked as what clients append: events of other nodes are a failure of the answer.

use std::fs;

use outrigger::{
    api::proto::v1::{self, VersionState},
    app,
    ownership::Pattern,
};
use tonic::Code;

use super::{Worker, add, attach, version};
use crate::support::{Node, check_refused, config};

const IMPORT: &str =
    "import: flights\nfrom: {node: flights, export: departures, version: 1}\nstreams: 'flights/*'\n";

/// A node that owns the types `t` and `count.*`, and imports into `flights/*`.
async fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("imports")).unwrap();
    fs::write(dir.path().join("imports/flights.yaml"), IMPORT).unwrap();
    let mut config = config(dir.path(), &[]);
    config.imports_dir = Some(dir.path().join("imports"));
    config.owns.types = Some(["t", "count.*"].map(|name| Pattern::parse(name).unwrap()).into());
    Node::around(app::start(config).await.unwrap(), dir).await
}

fn emitting(run: &v1::EventRun, event_type: &str, stream: &str) -> Vec<v1::Transaction> {
    let emit = |position| v1::Transaction {
        run: run.run,
        position,
        emits: vec![v1::NewEvent {
            r#type: event_type.into(),
            stream: stream.into(),
            data: b"{}".to_vec().into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    run.events.iter().map(|event| emit(event.position)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_emits_only_what_its_node_owns() {
    let cases = [
        (
            "flight.departed",
            "counts",
            "type \"flight.departed\" is not this node's own: owns.types names t, count.* only",
        ),
        ("count.made", "flights/UA1", "the import flights keeps events of the node flights in flights/*"),
    ];
    for (event_type, stream, why) in cases {
        let node = node().await;
        let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
        add(&node, "k", 1).await;
        let run = worker.run().await;
        worker.answer(emitting(&run, "count.made", "counts")).await;
        // What it owns is appended.
        while node.head().await < 2 {}
        let head = add(&node, "k", 1).await;
        let run = worker.run().await;
        worker.answer(emitting(&run, event_type, stream)).await;
        let ended = check_refused(worker.end().await, Code::FailedPrecondition, "PROJECTION_STOPPED", "");
        assert!(
            ended.message().contains("NOT_OWNER: emits[0]: ") && ended.message().contains(why),
            "{ended:?}"
        );
        let shown = version(&node, "counts", 1).await;
        assert_eq!(shown.state(), VersionState::Failed);
        assert!(shown.error.unwrap().contains("NOT_OWNER"));
        assert_eq!(node.head().await, head, "nothing is appended");
        node.stop().await;
    }
}
