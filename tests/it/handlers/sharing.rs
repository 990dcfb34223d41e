//! Several workers of one version: they share the work, and each may fail at any time.

use super::{COUNTS, DECLARED, Told, Worker, add, attach, count, hash_at_head, kit};
use outrigger::api::proto::v1;
use serde_json::Value;
use tonic::Code;

use crate::support::{Node, append, check_refused, event, text_key};

/// Sums as `DECLARED` has them, but by looking at the document first.
#[derive(Debug, Default)]
struct Sums;

impl kit::Projector for Sums {
    fn reads(&self, _: &v1::Event, data: &Value) -> Vec<kit::Name> {
        vec![("counts", text_key(data["key"].as_str().unwrap()))]
    }

    fn handle(
        &mut self,
        _: &v1::Event,
        data: &Value,
        documents: &[Option<&kit::Document>],
    ) -> Result<kit::Changes, String> {
        let before = documents[0].map_or(0, |document| document["n"].as_i64().unwrap());
        let mut changes = kit::Changes::default();
        let name = ("counts", text_key(data["key"].as_str().unwrap()));
        changes.put(name, &serde_json::json!({ "n": before + data["n"].as_i64().unwrap() }));
        Ok(changes)
    }
}

async fn with_events(count: u64) -> (Node, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("declared.yaml"), DECLARED).unwrap();
    std::fs::write(files.path().join("counts.yaml"), COUNTS).unwrap();
    let node = Node::start(&[files.path().to_owned()]).await;
    let one = |n: u64| event("t", "s", &format!("{{\"key\":\"k{}\",\"n\":{n}}}", n % 7));
    for chunk in (0..count).collect::<Vec<_>>().chunks(1_000) {
        node.log().append(append(chunk.iter().map(|n| one(*n)).collect())).await.unwrap();
    }
    (node, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_contend_for_documents_and_are_cut_off_give_the_same_documents() {
    let (node, _files) = with_events(3_000).await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..2 {
        for life in 0..4 {
            // Each is cut off after some runs, in the middle of what it holds, and comes again as another.
            let (channel, name) = (node.channel.clone(), format!("w{worker}-{life}"));
            let runs = if life == 3 { usize::MAX } else { 2 + life + worker };
            tasks.spawn(async move {
                let mut worker = kit::Worker::attach(channel, attach(&name, 100)).await.unwrap();
                for _ in 0..runs {
                    if !worker.work_once(&mut Sums).await.unwrap_or(false) {
                        break;
                    }
                }
            });
        }
    }
    let declared = hash_at_head(&node, "declared", 1).await;
    assert_eq!(hash_at_head(&node, "counts", 1).await, declared);
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_loses_its_events_to_the_other() {
    let (node, _files) = with_events(20).await;
    let mut first = Worker::attach(&node.channel, attach("first", 10)).await;
    let run = first.run().await;
    assert_eq!(run.events.len(), 10);
    let mut second = Worker::attach(&node.channel, attach("second", 10)).await;
    let other = second.run().await;
    assert_eq!((other.events[0].position, other.events.len()), (11, 10));
    second.add(&other).await;
    drop(first);
    let taken_over = second.run().await;
    assert_eq!((taken_over.events[0].position, taken_over.events.len()), (1, 10));
    second.add(&taken_over).await;
    let declared = hash_at_head(&node, "declared", 1).await;
    assert_eq!(hash_at_head(&node, "counts", 1).await, declared);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_silent_past_its_deadline_loses_its_events() {
    let (node, _files) = with_events(3).await;
    let mut impatient = attach("silent", 10);
    impatient.deadline = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    let mut silent = Worker::attach(&node.channel, impatient).await;
    let run = silent.run().await;
    let mut other = Worker::attach(&node.channel, attach("other", 10)).await;
    let taken_over = other.run().await;
    assert_eq!(taken_over.events, run.events);
    other.add(&taken_over).await;
    check_refused(silent.end().await, Code::DeadlineExceeded, "WORKER_SILENT", "");
    let declared = hash_at_head(&node, "declared", 1).await;
    assert_eq!(hash_at_head(&node, "counts", 1).await, declared);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_worker_of_the_same_name_takes_the_place_of_the_older() {
    let (node, _files) = with_events(1).await;
    let mut older = Worker::attach(&node.channel, attach("same", 10)).await;
    older.run().await;
    let mut newer = Worker::attach(&node.channel, attach("same", 10)).await;
    check_refused(older.end().await, Code::Aborted, "WORKER_REPLACED", "");
    let run = newer.run().await;
    newer.add(&run).await;
    assert_eq!(count(&node, "k0").await.unwrap(), r#"{"n":0}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_credits_gets_nothing_and_may_leave() {
    let (node, _files) = with_events(3).await;
    let mut worker = Worker::attach(&node.channel, attach("a", 1)).await;
    let run = worker.run().await;
    assert_eq!(run.events.len(), 1, "as many as it has credits");
    worker.say(super::Say::Credits(v1::WorkerCredits { credits: 0 })).await;
    worker.add(&run).await;
    let Worker { say, mut told } = worker;
    drop(say);
    assert_eq!(told.message().await.unwrap(), None, "no more events, and a good end");
    let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
    let run = worker.run().await;
    assert_eq!(run.events[0].position, 2);
    worker.add(&run).await;
    add(&node, "k0", 5).await;
    let Told::Run(run) = worker.told().await else { panic!("no run") };
    worker.add(&run).await;
    assert_eq!(count(&node, "k0").await.unwrap(), r#"{"n":5}"#);
}
