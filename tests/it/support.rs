//! What the tests stand on: a node in this process, a node in its own process, and a real gRPC client for either.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use outrigger::{
    api::proto::v1::{
        self, event_log_client::EventLogClient, projections_client::ProjectionsClient,
        query_client::QueryClient, releases_client::ReleasesClient,
    },
    app::{self, Running},
    config::Config,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// A node in this process, on free ports, in a directory of its own.
pub(crate) struct Node {
    running: Option<Running>,
    pub(crate) channel: Channel,
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    /// A fresh node with these projection files.
    pub(crate) async fn start(projections: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = app::start(config(dir.path(), projections)).await.unwrap();
        Self::around(running, dir).await
    }

    /// A node that was started by the test itself.
    pub(crate) async fn around(running: Running, dir: tempfile::TempDir) -> Self {
        let channel = connect(running.grpc_addr.tcp().unwrap()).await;
        Self { running: Some(running), channel, dir }
    }

    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        self.running.take().unwrap().stop().await.unwrap();
        self.dir
    }

    pub(crate) fn log(&self) -> EventLogClient<Channel> {
        EventLogClient::new(self.channel.clone())
    }

    pub(crate) fn query(&self) -> QueryClient<Channel> {
        QueryClient::new(self.channel.clone())
    }

    pub(crate) fn projections(&self) -> ProjectionsClient<Channel> {
        ProjectionsClient::new(self.channel.clone())
    }

    pub(crate) fn releases(&self) -> ReleasesClient<Channel> {
        ReleasesClient::new(self.channel.clone())
    }

    pub(crate) fn grpc_addr(&self) -> SocketAddr {
        self.running.as_ref().unwrap().grpc_addr.tcp().unwrap()
    }

    /// A metric without labels, as the page of metrics has it.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// A page of the probes' port, with the answer's head.
    pub(crate) async fn page(&self, path: &str) -> String {
        page(self.running.as_ref().unwrap().http_addr, path).await
    }

    pub(crate) async fn head(&self) -> u64 {
        self.log().get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().head
    }
}

/// Settings of a test node: everything in `dir`, any free ports.
pub(crate) fn config(dir: &Path, projections: &[PathBuf]) -> Config {
    let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.projections.paths = projections.to_vec();
    config
}

/// A page of a probes' port, with the answer's head.
pub(crate) async fn page(addr: SocketAddr, path: &str) -> String {
    let mut http = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    http.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    http.read_to_string(&mut page).await.unwrap();
    page
}

pub(crate) async fn connect(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

/// A node in a process of its own.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) http_addr: SocketAddr,
}

impl Process {
    /// Starts `outrigger serve` on `dir` and waits until it says where it listens.
    pub(crate) fn start(dir: &Path, projections: &[PathBuf]) -> Self {
        Self::start_command(Command::new(binary()), dir, projections)
    }

    /// The same under another command (a tracer, say) whose arguments end where those of `serve` begin.
    pub(crate) fn start_command(mut command: Command, dir: &Path, projections: &[PathBuf]) -> Self {
        command.args(["serve", "--grpc", "127.0.0.1:0"]);
        Self::start_serve(command, dir, projections)
    }

    /// The same on an address that is known before, to be had again by the next one.
    pub(crate) fn start_on(addr: SocketAddr, dir: &Path) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--grpc", &addr.to_string()]);
        Self::start_serve(command, dir, &[])
    }

    fn start_serve(mut command: Command, dir: &Path, projections: &[PathBuf]) -> Self {
        command.args(["--http", "127.0.0.1:0", "--data-dir"]).arg(dir);
        for path in projections {
            command.arg("--projection").arg(path);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the node says where it listens").unwrap();
        let addr = |name: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
        };
        Self { grpc_addr: addr("grpc"), http_addr: addr("http"), child }
    }

    pub(crate) async fn channel(&self) -> Channel {
        connect(self.grpc_addr).await
    }

    /// SIGTERM, and the node's own end. A tracer passes the end of the node on.
    pub(crate) fn terminate(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let child = std::fs::read_to_string(children).unwrap_or_default();
        let pid = child.split_whitespace().next().map_or_else(|| self.child.id().to_string(), str::to_owned);
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_outrigger")
}

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn airport() -> Vec<PathBuf> {
    vec![repository().join("examples/airport/projections")]
}

/// An event with a random id.
pub(crate) fn event(event_type: &str, stream: &str, data: &str) -> v1::NewEvent {
    v1::NewEvent {
        id: Some(Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes())),
        r#type: event_type.into(),
        stream: stream.into(),
        tags: Vec::new(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: None,
        time: None,
    }
}

pub(crate) fn append(events: Vec<v1::NewEvent>) -> v1::AppendRequest {
    v1::AppendRequest { events, ..Default::default() }
}

pub(crate) fn text_key(text: &str) -> v1::Key {
    v1::Key { parts: vec![v1::KeyPart { part: Some(v1::key_part::Part::Text(text.into())) }] }
}

/// Holds a refusal against what it should be: code, reason, and a field of its `BadRequest` (empty: none expected).
pub(crate) fn check_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
    field: &str,
) -> Status {
    let status = result.expect_err(reason);
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.reason, reason, "{status:?}");
    if !field.is_empty() {
        let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        assert!(fields.iter().any(|violation| violation.field == field), "{field} is not in {fields:?}");
    }
    assert!(!status.message().contains('\n'), "one line: {}", status.message());
    status
}
