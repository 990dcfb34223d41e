//! The life of the process: probes before the log is open, an orderly end under load, and a second signal.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
};

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient};
use tokio::sync::Notify;
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    probes::get,
    support::{Process, append, binary, connect, event},
};

fn signal(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

/// A node in a process of its own whose log lines are read.
struct Told {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
}

impl Told {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that has this text.
    fn line(&mut self, text: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text:?} was not said"))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn addr(line: &str, name: &str) -> SocketAddr {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
}

#[test]
fn probes_answer_before_the_log_is_open_and_a_signal_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(Process::start(&data, &[]));
    // Whoever reads the manifest waits until somebody writes into the pipe, and nobody does.
    fs::remove_file(data.join("log/manifest")).unwrap();
    assert!(Command::new("mkfifo").arg(data.join("log/manifest")).status().unwrap().success());
    let mut node = Told::start(&data);
    let http = addr(&node.line("probes answer"), "http");
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
    for page in ["/startupz", "/readyz"] {
        let answer = get(http, page);
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("starting: the log is being recovered"), "{answer}");
    }
    assert!(get(http, "/metrics").contains("outrigger_head_position 0"));
    signal(&node.child);
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
}

/// Appends one after the other until a call fails; the ids that were acknowledged, and how the last one ended.
async fn write(channel: Channel, writer: usize, begun: Arc<Notify>) -> (Vec<bytes::Bytes>, tonic::Status) {
    let mut log = EventLogClient::new(channel);
    let mut acknowledged = Vec::new();
    loop {
        let events: Vec<v1::NewEvent> = (0..3).map(|_| event("t", &format!("s-{writer}"), "1")).collect();
        let ids: Vec<_> = events.iter().map(|event| event.id.clone().unwrap()).collect();
        match log.append(append(events)).await {
            Ok(_) => acknowledged.extend(ids),
            Err(status) => return (acknowledged, status),
        }
        if acknowledged.len() >= 60 {
            begun.notify_one();
        }
    }
}

/// Whether the client had been told that the connection takes no more calls, and did not send this one: what an orderly end
/// looks like to a call that came at that moment. tonic says `Internal` then.
fn is_behind_goaway(status: &tonic::Status) -> bool {
    let source = format!("{:?}", std::error::Error::source(status));
    status.code() == Code::Internal && source.contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Ends a node while everybody writes; the ids that were acknowledged. Every call is answered or refused.
pub(crate) async fn end_under_load(
    channels: Vec<Channel>,
    end: impl FnOnce() + Send + 'static,
) -> Vec<bytes::Bytes> {
    let mut writers = Vec::new();
    for (writer, channel) in channels.into_iter().enumerate() {
        let begun = Arc::new(Notify::new());
        writers.push((tokio::spawn(write(channel, writer, Arc::clone(&begun))), begun));
    }
    for (_, begun) in &writers {
        begun.notified().await;
    }
    let ended = tokio::task::spawn_blocking(end);
    let mut acknowledged = Vec::new();
    for (writer, _) in writers {
        let (ids, status) = writer.await.unwrap();
        assert!(ids.len() >= 60);
        acknowledged.extend(ids);
        // Refused by the node, or the connection was closed before the call was taken in.
        let is_refused = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
        assert!(is_refused || is_behind_goaway(&status), "{status:?}");
        assert_ne!(status.message(), "", "{status:?}");
    }
    ended.await.unwrap();
    acknowledged
}

/// Whether a node that was started again has all of these.
pub(crate) async fn check_nothing_lost(channel: Channel, acknowledged: &[bytes::Bytes]) {
    let mut log = EventLogClient::new(channel);
    let mut found = std::collections::HashSet::new();
    let mut pages = log.read(v1::ReadRequest::default()).await.unwrap().into_inner();
    while let Some(page) = pages.message().await.unwrap() {
        found.extend(page.events.into_iter().map(|event| event.id));
    }
    let lost = acknowledged.iter().filter(|id| !found.contains(*id)).count();
    assert_eq!(lost, 0, "of {} acknowledged events", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_under_load_loses_nothing_and_answers_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), &[]);
    let mut channels = Vec::new();
    for _ in 0..16 {
        channels.push(process.channel().await);
    }
    let end = move || {
        signal(&process.child);
        assert_eq!(process.child.wait().unwrap().code(), Some(0));
    };
    let acknowledged = end_under_load(channels, end).await;
    let process = Process::start(dir.path(), &[]);
    check_nothing_lost(process.channel().await, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Told::start(dir.path());
    let grpc = addr(&node.line(" serving"), "grpc");
    // A call whose request never ends keeps the node from ending in an orderly way before its bound.
    let mut client = Grpc::new(connect(grpc).await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/outrigger.v1.EventLog/Append");
    let call = tokio::spawn(async move {
        let request = Request::new(tokio_stream::pending::<()>());
        client.client_streaming(request, path, ProstCodec::<(), ()>::default()).await.map(drop)
    });
    // The call is with the node once another one on a connection of its own has been answered behind it.
    let mut log = EventLogClient::new(connect(grpc).await);
    for _ in 0..20 {
        log.append(append(vec![event("t", "s", "1")])).await.unwrap();
    }
    signal(&node.child);
    node.line(" stopping");
    signal(&node.child);
    node.line("stopped at once by a second signal");
    assert_eq!(node.child.wait().unwrap().code(), Some(1));
    assert!(call.await.unwrap().is_err());
    drop(Process::start(dir.path(), &[]));
}
