//! A poisoned event under each policy, as a service meets it: over restarts, rebuilds, retries and workers that are killed.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use outrigger::api::proto::v1::EventErrorKind as Kind;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{COUNTS, DECLARED, Worker, adding, attach, kit, version};
use crate::support::{Node, append, check_refused, config, event, text_key};
use outrigger::api::proto::v1;
use tonic::Code;

/// Sums by looking at the document first; what is no number is poison, until the service has learned to take it.
#[derive(Debug, Clone, Default)]
struct Sums {
    learned: Arc<AtomicBool>,
}

impl kit::Projector for Sums {
    fn reads(&self, _: &v1::Event, data: &Value) -> Vec<kit::Name> {
        vec![("counts", text_key(data["key"].as_str().unwrap()))]
    }

    fn handle(
        &mut self,
        event: &v1::Event,
        data: &Value,
        documents: &[Option<&kit::Document>],
    ) -> Result<kit::Changes, String> {
        let n = match data["n"].as_i64() {
            Some(n) => n,
            None if self.learned.load(Ordering::Acquire) => 1_000,
            None => return Err(format!("expected a number, found {}", data["n"])),
        };
        let before = documents[0].map_or(0, |document| document["n"].as_i64().unwrap());
        let mut changes = kit::Changes::default();
        let name = ("counts", text_key(data["key"].as_str().unwrap()));
        changes.put(name, &json!({ "n": before + n }));
        changes.emits.push(v1::NewEvent {
            r#type: "taken".into(),
            stream: "taken".into(),
            data: json!({ "cause": event.position }).to_string().into(),
            ..Default::default()
        });
        Ok(changes)
    }
}

/// A service of two workers, which attach again whenever they are let go.
fn serve(node: &Node, sums: &Sums) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for name in ["w1", "w2"] {
        let (channel, mut sums) = (node.channel.clone(), sums.clone());
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
            loop {
                tick.tick().await;
                let attach = v1::AttachWorker { definition: None, ..attach(name, 4) };
                if let Ok(mut worker) = kit::Worker::attach(channel.clone(), attach).await {
                    drop(worker.work(&mut sums).await);
                }
            }
        });
    }
    tasks
}

fn with_policy(definition: &str, policy: &str) -> String {
    definition.replace("version: 1", &format!("version: 1\non_error: {policy}"))
}

async fn start(files: &Path, policy: &str) -> Node {
    std::fs::write(files.join("counts.yaml"), with_policy(COUNTS, policy)).unwrap();
    std::fs::write(files.join("declared.yaml"), with_policy(DECLARED, policy)).unwrap();
    Node::start(&[files.to_owned()]).await
}

async fn restart(node: Node, files: &Path, rebuild: bool) -> Node {
    let dir = node.stop().await;
    if rebuild {
        for name in ["counts-v1.redb", "declared-v1.redb"] {
            std::fs::remove_file(dir.path().join("data/projections").join(name)).unwrap();
        }
    }
    let running = outrigger::app::start(config(dir.path(), &[files.to_owned()])).await.unwrap();
    Node::around(running, dir).await
}

async fn put(node: &Node, stream: &str, key: &str, n: &str) -> u64 {
    let data = format!("{{\"key\":\"{key}\",\"n\":{n}}}");
    let appended = node.log().append(append(vec![event("t", stream, &data)])).await.unwrap();
    appended.into_inner().events[0].position
}

/// Two streams, one with poison in its middle; the poison's position and that of the event behind it.
async fn story(node: &Node) -> (u64, u64) {
    for n in ["1", "2", "3"] {
        put(node, "good", "a", n).await;
        put(node, "bad", "a", n).await;
        put(node, "bad", "b", n).await;
    }
    let poison = put(node, "bad", "a", "\"many\"").await;
    put(node, "good", "a", "10").await;
    let behind = put(node, "bad", "b", "20").await;
    put(node, "good", "b", "30").await;
    (poison, behind)
}

async fn until(
    node: &Node,
    projection: &str,
    wanted: impl Fn(&v1::ProjectionVersion) -> bool,
) -> v1::ProjectionVersion {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    loop {
        tick.tick().await;
        let found = version(node, projection, 1).await;
        if wanted(&found) {
            return found;
        }
    }
}

/// The version when it has come to the log's last position, which may move because of what it emits.
async fn caught_up(node: &Node, projection: &str) -> v1::ProjectionVersion {
    until(node, projection, |found| found.position == found.head && found.state() == v1::VersionState::Active)
        .await
}

async fn errors(node: &Node, projection: &str) -> Vec<(u64, Kind)> {
    let request = v1::ListErrorsRequest { projection: projection.into(), ..Default::default() };
    let errors = node.projections().list_errors(request).await.unwrap().into_inner().errors;
    errors.iter().map(|error| (error.position, error.kind())).collect()
}

async fn skip(node: &Node, projection: &str, position: u64) -> Result<v1::SkipResponse, tonic::Status> {
    let request =
        v1::SkipRequest { projection: projection.into(), expect_position: position, ..Default::default() };
    Ok(node.projections().skip(request).await?.into_inner())
}

async fn retry(node: &Node) -> v1::RetryResponse {
    let request = v1::RetryRequest { projection: "counts".into(), ..Default::default() };
    node.projections().retry(request).await.unwrap().into_inner()
}

/// The causes of all emitted events, in order.
async fn emitted(node: &Node) -> Vec<u64> {
    let mut causes = Vec::new();
    let mut events = node.log().read(v1::ReadRequest::default()).await.unwrap().into_inner();
    while let Some(batch) = events.message().await.unwrap() {
        for event in batch.events.iter().filter(|event| event.r#type == "taken") {
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            causes.push(data["cause"].as_u64().unwrap());
        }
    }
    causes.sort_unstable();
    causes
}

/// The service's version and that of the file hold the same documents and have set the same events aside.
async fn check_same(node: &Node) -> v1::ProjectionVersion {
    let (service, file) = (caught_up(node, "counts").await, caught_up(node, "declared").await);
    assert_eq!(service.content_hash, file.content_hash);
    assert_eq!(errors(node, "counts").await, errors(node, "declared").await);
    let counts = |found: &v1::ProjectionVersion| (found.parked_events, found.skipped_events);
    assert_eq!(counts(&service), counts(&file));
    assert_eq!(
        service.collections.iter().map(|found| found.incomplete).collect::<Vec<_>>(),
        file.collections.iter().map(|found| found.incomplete).collect::<Vec<_>>(),
    );
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_pauses_stands_until_its_event_is_skipped_and_rebuilds_repeat_that() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "pause").await;
    let sums = Sums::default();
    let (poison, _) = story(&node).await;
    for rebuild in [false, true] {
        let service = serve(&node, &sums);
        for projection in ["counts", "declared"] {
            let found = until(&node, projection, |found| found.pause.is_some()).await;
            let pause = found.pause.unwrap();
            assert_eq!((pause.position, found.position), (poison, poison - 1));
            assert!(pause.error.unwrap().contains("many"));
            assert_eq!(errors(&node, projection).await, [(poison, Kind::Paused)]);
        }
        drop(service);
        node = restart(node, files.path(), rebuild).await;
    }
    let mut service = serve(&node, &sums);
    for projection in ["counts", "declared"] {
        until(&node, projection, |found| found.pause.is_some()).await;
        skip(&node, projection, poison).await.unwrap();
    }
    let hash = check_same(&node).await.content_hash;
    let taken = emitted(&node).await;
    assert!(!taken.contains(&poison) && taken.is_sorted_by(|a, b| a < b), "{taken:?}");
    for rebuild in [false, true] {
        drop(service);
        node = restart(node, files.path(), rebuild).await;
        service = serve(&node, &sums);
        assert_eq!(check_same(&node).await.content_hash, hash);
        assert_eq!(errors(&node, "counts").await, [(poison, Kind::Skipped)]);
        assert_eq!(emitted(&node).await, taken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_skips_gives_the_documents_of_a_file_that_skips() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "skip").await;
    let (poison, _) = story(&node).await;
    for rebuild in [false, true] {
        let _service = serve(&node, &Sums::default());
        let found = check_same(&node).await;
        assert_eq!((found.skipped_events, found.last_error_position), (1, poison));
        assert_eq!(emitted(&node).await.len(), 12, "all but the poisoned one");
        node = restart(node, files.path(), rebuild).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_quarantines_parks_one_stream_and_a_skip_releases_it() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "quarantine").await;
    let sums = Sums::default();
    let (poison, behind) = story(&node).await;
    for rebuild in [false, true] {
        let _service = serve(&node, &sums);
        let found = check_same(&node).await;
        assert_eq!((found.parked_events, found.parked_streams), (2, 1));
        assert!(found.collections[0].incomplete, "nobody knows what the service would change");
        assert_eq!(errors(&node, "counts").await, [(poison, Kind::Parked), (behind, Kind::Waiting)]);
        assert_eq!(emitted(&node).await.len(), 11);
        node = restart(node, files.path(), rebuild).await;
    }
    let mut service = serve(&node, &sums);
    caught_up(&node, "counts").await;
    // Later events of the stream wait without a try.
    let last = put(&node, "bad", "a", "5").await;
    caught_up(&node, "counts").await;
    assert_eq!(errors(&node, "counts").await.last(), Some(&(last, Kind::Waiting)));
    check_refused(skip(&node, "counts", behind).await, Code::Aborted, "STANDS_ELSEWHERE", "");
    for projection in ["counts", "declared"] {
        skip(&node, projection, poison).await.unwrap();
    }
    let late = check_same(&node).await;
    assert!(late.content_hash_late && late.parked_events == 0 && late.skipped_events == 1);
    for rebuild in [false, true] {
        drop(service);
        node = restart(node, files.path(), rebuild).await;
        service = serve(&node, &sums);
        let again = check_same(&node).await;
        assert_eq!((again.content_hash, again.content_hash_late), (late.content_hash.clone(), !rebuild));
        let taken = emitted(&node).await;
        assert!(taken.len() == 13 && taken.is_sorted_by(|a, b| a < b), "{taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_brings_parked_events_to_a_service_that_has_learned() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "quarantine").await;
    let sums = Sums::default();
    let (poison, behind) = story(&node).await;
    let mut service = serve(&node, &sums);
    caught_up(&node, "counts").await;
    let hash = version(&node, "counts", 1).await.content_hash;
    retry(&node).await;
    let found = caught_up(&node, "counts").await;
    assert_eq!((found.parked_events, found.content_hash), (2, hash), "it still cannot be handled");
    sums.learned.store(true, Ordering::Release);
    let at = retry(&node).await.position.unwrap();
    let late = caught_up(&node, "counts").await;
    assert!(late.content_hash_late && late.parked_events == 0 && late.skipped_events == 0);
    let request =
        v1::ListRequest { projection: "counts".into(), collection: "counts".into(), ..Default::default() };
    let documents = node.query().list(request).await.unwrap().into_inner().documents;
    let found: Vec<_> = documents.iter().map(|found| (&found.value[..], found.position)).collect();
    assert_eq!(found, [(&br#"{"n":1022}"#[..], at), (br#"{"n":56}"#, at)], "changed by the decision");
    let taken = emitted(&node).await;
    assert!(taken.contains(&poison) && taken.contains(&behind) && taken.len() == 13, "{taken:?}");
    for rebuild in [false, true] {
        drop(service);
        node = restart(node, files.path(), rebuild).await;
        service = serve(&node, &sums);
        let again = caught_up(&node, "counts").await;
        assert_eq!((&again.content_hash, again.content_hash_late), (&late.content_hash, !rebuild));
        assert_eq!(emitted(&node).await, taken, "rebuild: {rebuild}");
    }
    // Another version of the service has nothing to apply late, and nothing to emit.
    let definition = with_policy(COUNTS, "quarantine").replace("version: 1", "version: 2");
    let second = v1::AttachWorker { version: 2, definition: Some(definition), ..attach("v2", 4) };
    let mut worker = kit::Worker::attach(node.channel.clone(), second).await.unwrap();
    let mut learned = sums.clone();
    let _second = tokio::spawn(async move { drop(worker.work(&mut learned).await) });
    let hash = super::hash_at_head(&node, "counts", 2).await;
    assert_eq!(hash, late.content_hash);
    assert_eq!(emitted(&node).await, taken);
}

/// The next parked event that comes again; what is to be forgotten before it is passed over.
async fn late_run(worker: &mut Worker) -> v1::EventRun {
    loop {
        match worker.told().await {
            super::Told::Run(run) => {
                assert!(run.late_at.is_some() && run.events.len() == 1, "{run:?}");
                return run;
            }
            super::Told::Cancelled(_) => {}
            other => panic!("expected a run, found {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_survives_its_workers_and_the_node() {
    let files = tempfile::tempdir().unwrap();
    let mut node = start(files.path(), "quarantine").await;
    let attach = |name| v1::AttachWorker { definition: None, ..attach(name, 10) };
    let mut worker = Worker::attach(&node.channel, attach("w1")).await;
    for n in ["\"many\"", "2", "3"] {
        put(&node, "bad", "a", n).await;
    }
    let run = worker.run().await;
    let failed =
        v1::Transaction { run: run.run, position: 1, failure: Some("not yet".into()), ..Default::default() };
    worker.answer(vec![failed]).await;
    until(&node, "counts", |found| found.parked_events == 3).await;
    // Nobody is left who could handle anything: the decision stands, and the version stands before it.
    drop(worker);
    let mut client = node.projections();
    let request = v1::RetryRequest { projection: "counts".into(), ..Default::default() };
    let retried = tokio::spawn(async move { client.retry(request).await });
    let mut worker = Worker::attach(&node.channel, attach("w2")).await;
    let first = late_run(&mut worker).await;
    assert_eq!((first.applied, first.events[0].position, first.late_at), (3, 1, Some(4)));
    // It is gone in the middle, before and after an answer.
    drop(worker);
    let mut worker = Worker::attach(&node.channel, attach("w3")).await;
    let first = late_run(&mut worker).await;
    assert_eq!(first.events[0].position, 1);
    let hundred = |run: &v1::EventRun, reads| {
        let add = super::step("a", super::Operation::Add(br#"{"n":100}"#.to_vec().into()));
        let position = run.events[0].position;
        v1::Transaction { run: run.run, position, reads, steps: vec![add], ..Default::default() }
    };
    // What it claims to have seen is not so.
    worker.answer(vec![hundred(&first, vec![super::read_of("a", Some(3))])]).await;
    let again = late_run(&mut worker).await;
    assert_eq!(again.events[0].position, 1);
    worker.answer(vec![hundred(&again, vec![super::read_of("a", None)])]).await;
    let second = late_run(&mut worker).await;
    assert_eq!(second.events[0].position, 2);
    assert_eq!(worker.read("a").await.position, 4, "the document counts as changed by the decision");
    assert_eq!(version(&node, "counts", 1).await.parked_events, 3, "nothing is shown before all is done");
    drop(retried);
    node = restart(node, files.path(), false).await;
    let mut worker = Worker::attach(&node.channel, attach("w4")).await;
    for (position, answer) in [(1, None), (2, Some(())), (3, Some(()))] {
        let run = late_run(&mut worker).await;
        assert_eq!(run.events[0].position, position, "it begins anew, since nothing of it was durable");
        let answer = match answer {
            None => hundred(&run, Vec::new()),
            Some(()) => adding(run.run, &run.events[0]),
        };
        worker.answer(vec![answer]).await;
    }
    let found = caught_up(&node, "counts").await;
    assert!(found.content_hash_late && found.parked_events == 0);
    assert_eq!(super::count(&node, "a").await.unwrap(), r#"{"n":105}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quarantine_of_a_service_is_taken_on_by_a_skip_and_emptied_by_a_retry() {
    const PARKED_MAX: u64 = outrigger::limits::PARKED_EVENTS_MAX as u64;
    let files = tempfile::tempdir().unwrap();
    let node = start(files.path(), "quarantine").await;
    let attach = |name| v1::AttachWorker { definition: None, ..attach(name, 1) };
    let mut worker = Worker::attach(&node.channel, attach("w1")).await;
    let number = |n: u64| event("t", "bad", &format!("{{\"key\":\"a\",\"n\":{n}}}"));
    for _ in 0..=PARKED_MAX / 1_000 {
        node.log().append(append((0..1_000).map(number).collect())).await.unwrap();
    }
    let run = worker.run().await;
    let failed =
        v1::Transaction { run: run.run, position: 1, failure: Some("not yet".into()), ..Default::default() };
    worker.answer(vec![failed]).await;
    let full = until(&node, "counts", |found| found.pause.is_some()).await;
    assert_eq!((full.parked_events, full.position), (PARKED_MAX, PARKED_MAX));
    skip(&node, "counts", 1).await.unwrap();
    // There is room for one more, and its stream is parked still.
    let full = until(&node, "counts", |found| {
        found.pause.as_ref().is_some_and(|pause| pause.position == PARKED_MAX + 2)
    })
    .await;
    assert_eq!((full.parked_events, full.skipped_events), (PARKED_MAX, 1));
    let request = v1::ListErrorsRequest { projection: "counts".into(), ..Default::default() };
    let listed = node.projections().list_errors(request).await.unwrap().into_inner().errors;
    let first = listed.iter().find(|error| error.kind() == Kind::Parked).unwrap();
    assert!(first.position == 2 && first.error.as_ref().unwrap().contains("stood still"), "{first:?}");
}
