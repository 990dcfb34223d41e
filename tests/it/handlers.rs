//! Handlers as services meet them: attaching, runs, stale answers, workers that come, go, fall silent and break rules.

use outrigger::api::proto::v1::{
    self, VersionState, process_request::Content as Say, process_response::Content as Told,
    projections_client::ProjectionsClient, transaction_step::Operation,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{Node, append, check_refused, config, event, text_key};

#[path = "../../examples/handlers/rust/airport.rs"]
pub(crate) mod airport;
#[path = "../../examples/handlers/rust/kit.rs"]
pub(crate) mod kit;

mod example;
mod kills;
mod node_kills;
mod owned;
mod quarantine;
mod sharing;

/// Sums by key, as a service has them.
const COUNTS: &str = "\
projection: counts
version: 1
handler: service
collections: { counts: {} }
events: [t]
";

/// The same in YAML, under another name.
const DECLARED: &str = "\
projection: declared
version: 1
collections: { counts: {} }
events:
  t:
    - add: counts
      key: data.key
      value: { n: \"${data.n}\" }
";

/// A worker that says what a test tells it to say.
pub(crate) struct Worker {
    say: mpsc::Sender<v1::ProcessRequest>,
    told: Streaming<v1::ProcessResponse>,
}

fn attach(worker: &str, credits: u32) -> v1::AttachWorker {
    v1::AttachWorker {
        projection: "counts".into(),
        version: 1,
        worker: worker.into(),
        credits,
        deadline: None,
        definition: Some(COUNTS.into()),
    }
}

impl Worker {
    /// A call whose first message is this.
    async fn call(channel: &Channel, first: Say) -> Self {
        let (say, said) = mpsc::channel(16);
        let mut client = ProjectionsClient::new(channel.clone());
        let told = client.process(ReceiverStream::new(said)).await.unwrap().into_inner();
        let worker = Self { say, told };
        worker.say(first).await;
        worker
    }

    async fn attach(channel: &Channel, attach: v1::AttachWorker) -> Self {
        let mut worker = Self::call(channel, Say::Attach(attach)).await;
        match worker.told().await {
            Told::Attached(_) => worker,
            other => panic!("expected to be attached, found {other:?}"),
        }
    }

    async fn say(&self, content: Say) {
        self.say.send(v1::ProcessRequest { content: Some(content) }).await.unwrap();
    }

    async fn told(&mut self) -> Told {
        self.told.message().await.unwrap().unwrap().content.unwrap()
    }

    /// How the call ends; what is told before is passed over.
    async fn end(&mut self) -> Result<(), Status> {
        while self.told.message().await?.is_some() {}
        Ok(())
    }

    async fn run(&mut self) -> v1::EventRun {
        match self.told().await {
            Told::Run(run) => run,
            other => panic!("expected a run, found {other:?}"),
        }
    }

    async fn cancelled(&mut self) -> v1::RunsCancelled {
        match self.told().await {
            Told::Cancelled(cancelled) => cancelled,
            other => panic!("expected a cancellation, found {other:?}"),
        }
    }

    async fn read(&mut self, key: &str) -> v1::DocumentFound {
        let documents = vec![v1::DocumentName { collection: "counts".into(), key: Some(text_key(key)) }];
        self.say(Say::Read(v1::ReadDocuments { request: 7, documents })).await;
        match self.told().await {
            Told::Documents(mut found) if found.request == 7 => found.documents.remove(0),
            other => panic!("expected documents, found {other:?}"),
        }
    }

    async fn answer(&self, transactions: Vec<v1::Transaction>) {
        self.say(Say::Transactions(v1::Transactions { transactions })).await;
    }

    /// Adds what the events of a run say, without looking at anything.
    async fn add(&self, run: &v1::EventRun) {
        self.answer(run.events.iter().map(|event| adding(run.run, event)).collect()).await;
    }
}

fn adding(run: u64, event: &v1::Event) -> v1::Transaction {
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
    let fields = serde_json::json!({ "n": data["n"] }).to_string();
    let step = step(data["key"].as_str().unwrap(), Operation::Add(fields.into()));
    v1::Transaction { run, position: event.position, steps: vec![step], ..Default::default() }
}

fn step(key: &str, operation: Operation) -> v1::TransactionStep {
    v1::TransactionStep { collection: "counts".into(), key: Some(text_key(key)), operation: Some(operation) }
}

fn read_of(key: &str, position: Option<u64>) -> v1::DocumentRead {
    v1::DocumentRead { collection: "counts".into(), key: Some(text_key(key)), position }
}

/// Appends an event that adds `n` under a key.
async fn add(node: &Node, key: &str, n: i64) -> u64 {
    let data = format!("{{\"key\":\"{key}\",\"n\":{n}}}");
    let appended = node.log().append(append(vec![event("t", "s", &data)])).await.unwrap().into_inner();
    appended.events[0].position
}

pub(crate) async fn version(node: &Node, projection: &str, version: u32) -> v1::ProjectionVersion {
    let request = v1::GetProjectionRequest { projection: projection.into() };
    let versions = node.projections().get_projection(request).await.unwrap().into_inner().versions;
    versions.into_iter().find(|found| found.version == version).unwrap()
}

/// Waits until the version shows the whole log, and gives its content hash. What workers emit meanwhile belongs to it.
pub(crate) async fn hash_at_head(node: &Node, projection: &str, number: u32) -> String {
    loop {
        wait_for_head(node, projection, number).await;
        let shown = version(node, projection, number).await;
        if shown.lag == 0 {
            return shown.content_hash;
        }
    }
}

/// A wait that ends without the version is repeated as long as the version moves.
async fn wait_for_head(node: &Node, projection: &str, number: u32) {
    let at_least = node.log().get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().token;
    let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let options = v1::ReadOptions { version: Some(number), at_least, timeout, ..Default::default() };
    let collection = if projection == "departures" { "totals" } else { "counts" };
    let request = v1::ListRequest {
        projection: projection.into(),
        collection: collection.into(),
        options: Some(options),
        ..Default::default()
    };
    let mut position = 0;
    while let Err(refused) = node.query().list(request.clone()).await {
        let now = version(node, projection, number).await.position;
        assert!(refused.code() == tonic::Code::DeadlineExceeded && now > position, "{refused:?}");
        position = now;
    }
}

async fn count(node: &Node, key: &str) -> Option<String> {
    wait_for_head(node, "counts", 1).await;
    let request = v1::BatchGetRequest {
        projection: "counts".into(),
        collection: "counts".into(),
        keys: vec![text_key(key)],
        ..Default::default()
    };
    let found = node.query().batch_get(request).await.unwrap().into_inner().results.remove(0);
    found.document.map(|document| String::from_utf8(document.value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_brings_its_definition_and_events_that_it_does_not_handle_pass_without_it() {
    let node = Node::start(&[]).await;
    let mut worker = Worker::attach(&node.channel, attach("a", 100)).await;
    add(&node, "k", 2).await;
    let run = worker.run().await;
    assert_eq!((run.applied, run.events.len(), run.events[0].position), (0, 1, 1));
    assert_eq!(worker.read("k").await, v1::DocumentFound { value: None, position: 0 });
    worker.add(&run).await;
    assert_eq!(count(&node, "k").await.unwrap(), r#"{"n":2}"#);
    let found = worker.read("k").await;
    assert_eq!((found.value.unwrap(), found.position), (r#"{"n":2}"#.into(), 1));
    drop(worker);
    // Nobody is there, and nobody is needed.
    node.log().append(append(vec![event("other", "s", "{}")])).await.unwrap();
    assert_eq!(count(&node, "k").await.unwrap(), r#"{"n":2}"#);
    assert_eq!(version(&node, "counts", 1).await.position, 2);
    // What was brought along stays, also over a restart.
    let dir = node.stop().await;
    let running = outrigger::app::start(config(dir.path(), &[])).await.unwrap();
    let node = Node::around(running, dir).await;
    add(&node, "k", 3).await;
    let again = v1::AttachWorker { definition: None, ..attach("a", 100) };
    let mut worker = Worker::attach(&node.channel, again).await;
    let run = worker.run().await;
    assert_eq!((run.applied, run.events[0].position), (2, 3));
    worker.add(&run).await;
    assert_eq!(count(&node, "k").await.unwrap(), r#"{"n":5}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_brings_the_event_again() {
    let node = Node::start(&[]).await;
    let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
    // Of one run: the first event creates, changes or deletes what the second has seen otherwise.
    let cases = [
        ("created meanwhile", None, Operation::Put("{}".into())),
        ("changed meanwhile", Some(1), Operation::Put(r#"{"a":1}"#.into())),
        ("deleted meanwhile", Some(3), Operation::Delete(v1::DeleteDocument {})),
        ("missing all along", Some(5), Operation::Delete(v1::DeleteDocument {})),
    ];
    for (what, seen, operation) in cases {
        let data = r#"{"key":"k","n":1}"#;
        let events = vec![event("t", "s", data), event("t", "s", data)];
        node.log().append(append(events)).await.unwrap();
        let run = worker.run().await;
        let [first, second] = [run.events[0].position, run.events[1].position];
        let answer = |position, reads, steps| v1::Transaction {
            run: run.run,
            position,
            reads,
            steps,
            ..Default::default()
        };
        let wrong = vec![step("wrong", Operation::Put("{}".into()))];
        worker
            .answer(vec![
                answer(first, Vec::new(), vec![step("k", operation)]),
                answer(second, vec![read_of("k", seen)], wrong),
            ])
            .await;
        let cancelled = worker.cancelled().await;
        assert_eq!(cancelled.from_position, second, "{what}: {}", cancelled.reason);
        let again = worker.run().await;
        assert_eq!((again.applied, again.events[0].position), (first, second), "{what}");
        let found = worker.read("k").await;
        let seen = found.value.is_some().then_some(found.position);
        let mut answer = answer(second, vec![read_of("k", seen)], Vec::new());
        answer.run = again.run;
        worker.answer(vec![answer]).await;
        assert_eq!(count(&node, "wrong").await, None, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_stops_the_version_at_its_event_and_says_so() {
    for case in 0..4 {
        let node = Node::start(&[]).await;
        let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
        add(&node, "k", 1).await;
        let run = worker.run().await;
        worker.add(&run).await;
        add(&node, "k", 1).await;
        let run = worker.run().await;
        let answer = v1::Transaction { run: run.run, position: 2, ..Default::default() };
        let (answer, expected) = match case {
            0 => (v1::Transaction { failure: Some("no such key".into()), ..answer }, "no such key"),
            1 => {
                let mut unknown = step("k", Operation::Put("{}".into()));
                unknown.collection = "none".into();
                (
                    v1::Transaction { steps: vec![unknown], ..answer },
                    "steps[0]: there is no collection \"none\"",
                )
            }
            2 => {
                let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)).into();
                (
                    v1::Transaction { steps: vec![step("k", Operation::Put(large))], ..answer },
                    "at most 1048576 bytes",
                )
            }
            _ => {
                let text = Operation::Add(r#"{"n":"one"}"#.into());
                (v1::Transaction { steps: vec![step("k", text)], ..answer }, "expected two numbers")
            }
        };
        worker.answer(vec![answer]).await;
        let ended = check_refused(worker.end().await, Code::FailedPrecondition, "PROJECTION_STOPPED", "");
        assert!(ended.message().contains("position 2") && ended.message().contains(expected), "{ended:?}");
        let shown = version(&node, "counts", 1).await;
        assert_eq!((shown.state(), shown.position), (VersionState::Failed, 1));
        assert!(shown.error.unwrap().contains(expected));
        let mut late = Worker::call(&node.channel, Say::Attach(attach("b", 1))).await;
        check_refused(late.end().await, Code::FailedPrecondition, "PROJECTION_STOPPED", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_against_the_protocol_ends_the_call_with_its_reason() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("declared.yaml"), DECLARED).unwrap();
    let node = Node::start(&[files.path().to_owned()]).await;
    let refused = async |first: Say, code, reason, field| {
        let mut worker = Worker::call(&node.channel, first).await;
        check_refused(worker.end().await, code, reason, field);
    };
    let credits = Say::Credits(v1::WorkerCredits { credits: 1 });
    refused(credits, Code::InvalidArgument, "PROTOCOL_VIOLATION", "content").await;
    let attached = |change: fn(&mut v1::AttachWorker)| {
        let mut attach = attach("a", 1);
        change(&mut attach);
        Say::Attach(attach)
    };
    let invalid = Code::InvalidArgument;
    refused(attached(|a| a.credits = 0), invalid, "INVALID_LIMIT", "attach.credits").await;
    refused(attached(|a| a.credits = 10_001), invalid, "LIMIT_EXCEEDED", "attach.credits").await;
    refused(attached(|a| a.worker.clear()), invalid, "INVALID_ARGUMENT", "attach.worker").await;
    let short = Some(prost_types::Duration { seconds: 0, nanos: 1 });
    let mut too_short = attach("a", 1);
    too_short.deadline = short;
    refused(Say::Attach(too_short), invalid, "INVALID_ARGUMENT", "attach.deadline").await;
    refused(attached(|a| a.version = 2), invalid, "INVALID_DEFINITION", "attach.definition").await;
    refused(attached(|a| a.definition = Some("projection: [".into())), invalid, "INVALID_DEFINITION", "")
        .await;
    refused(attached(|a| a.definition = None), Code::NotFound, "PROJECTION_NOT_FOUND", "").await;
    let declared = |a: &mut v1::AttachWorker| (a.projection, a.definition) = ("declared".into(), None);
    refused(attached(declared), Code::FailedPrecondition, "NOT_A_HANDLER", "").await;
    Worker::attach(&node.channel, attach("a", 1)).await;
    let verify = v1::VerifyProjectionRequest { projection: "counts".into(), version: None };
    let verified = node.projections().verify_projection(verify).await;
    check_refused(verified.map(|_| ()), Code::FailedPrecondition, "HANDLED_BY_SERVICE", "");
    let other = |a: &mut v1::AttachWorker| a.definition = Some(COUNTS.replace("[t]", "[t, u]"));
    refused(attached(other), Code::FailedPrecondition, "DEFINITION_CHANGED", "").await;

    let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
    worker.say(Say::Attach(attach("a", 1))).await;
    check_refused(worker.end().await, invalid, "PROTOCOL_VIOLATION", "attach");
    add(&node, "k", 1).await;
    add(&node, "k", 1).await;
    let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
    let run = worker.run().await;
    worker.answer(vec![adding(run.run, &run.events[1])]).await;
    let status = check_refused(worker.end().await, invalid, "PROTOCOL_VIOLATION", "");
    assert!(status.message().contains("expected the answer to position 1"), "{status:?}");
    let mut worker = Worker::attach(&node.channel, attach("a", 10)).await;
    let run = worker.run().await;
    worker.answer(vec![adding(run.run + 1, &run.events[0])]).await;
    check_refused(worker.end().await, invalid, "PROTOCOL_VIOLATION", "");
    assert_eq!(version(&node, "counts", 1).await.position, 0, "nothing of it counted");
}
