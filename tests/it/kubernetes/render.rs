//! What Helm makes of the charts: objects, by kind and name.
//!
//! Invariant: the charts are rendered in a copy, so that a test leaves nothing in the tree. Does not know what an object is
//! for.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{ports, support::repository};

/// A copy of the charts with their dependencies.
pub(crate) struct Charts {
    dir: tempfile::TempDir,
    helm: PathBuf,
    ports: Ports,
}

/// The ports of one test. Tests run side by side and a pod's ports are fixed, so each render takes two that are free: this
/// is the one place where a rendered pod differs from the chart's defaults.
struct Ports {
    grpc: u16,
    http: u16,
}

impl Ports {
    fn free() -> Self {
        Self { grpc: ports::free(), http: ports::free() }
    }
}

impl Charts {
    /// None: skip the test, a program is missing.
    pub(crate) fn new() -> Option<Self> {
        let helm = tool("helm")?;
        tool("bwrap")?;
        let dir = tempfile::tempdir().unwrap();
        copy(&repository().join("charts"), &dir.path().join("charts"));
        let charts = Self { dir, helm, ports: Ports::free() };
        charts.helm(&["dependency", "build", "charts/outrigger"]);
        Some(charts)
    }

    /// `helm template` with a file of `ci/` and these arguments, in the namespace `air`.
    pub(crate) fn render(&self, values: &str, arguments: &[String]) -> Objects {
        let values = format!("charts/outrigger/ci/{values}-values.yaml");
        let ports =
            format!("outrigger.grpc.port={},outrigger.http.port={}", self.ports.grpc, self.ports.http);
        let fixed =
            ["template", "flights", "charts/outrigger", "--namespace", "air", "-f", &values, "--set", &ports];
        let words: Vec<&str> = fixed.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        Objects(serde_saphyr::from_multiple(&self.helm(&words)).unwrap())
    }

    /// `--set-file` for a definition of projections out of this text.
    pub(crate) fn projection(&self, name: &str, text: &str) -> [String; 2] {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let key = name.replace('.', "\\.");
        ["--set-file".into(), format!("outrigger.projections.files.{key}={}", path.display())]
    }

    fn helm(&self, words: &[&str]) -> String {
        let output = Command::new(&self.helm).args(words).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "helm {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The objects of one render.
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name)
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name} was rendered"))
    }
}

/// An address of this machine that is not loopback, as the kubelet dials a pod. None: skip the test.
pub(crate) fn pod_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: this asks which of the machine's addresses a packet would carry.
    let address = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    let found =
        address.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    found.or_else(|| skip("the machine has no address but loopback"))
}

/// A program of .tools, where tests/run puts it.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let program = repository().join(".tools/bin").join(name);
    if program.exists() {
        return Some(program);
    }
    skip(&format!("{} is missing: run tests/run tools", program.display()))
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn skip<T>(why: &str) -> Option<T> {
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci, "{why}");
    println!("SKIPPED: {why}");
    None
}

pub(crate) fn address(ip: IpAddr, port: &Value) -> SocketAddr {
    SocketAddr::new(ip, u16::try_from(port.as_u64().expect("a port is a number")).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            // What Helm packed in the tree may be of another state of the library.
            if from.file_name().is_some_and(|name| name != "charts") {
                copy(&from, &to);
            }
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}
