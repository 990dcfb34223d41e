//! A real NATS server for tests: on a port of its own, in a directory of its own, to be killed, emptied and restarted.
//!
//! Invariant: it is gone when the value drops. Where the program is missing a test is skipped loudly, and fails where
//! `CI` is `true`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use crate::ports;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct NatsServer {
    program: PathBuf,
    child: Child,
    log: Arc<Log>,
    port: u16,
    config: PathBuf,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

/// What a server wrote, as it comes.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl NatsServer {
    /// With JetStream and without accounts; takes messages as large as the mesh needs. None: skip the test.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With these further lines of configuration; `jetstream` is configured here.
    pub(crate) fn start_with(config: &str) -> Option<Self> {
        Self::start_command(config, &[])
    }

    /// With further arguments, and under another command (a namespace, say).
    pub(crate) fn start_command(config: &str, arguments: &[String]) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.conf");
        write_config(&path, dir.path(), config);
        let arguments = arguments.to_vec();
        let port = ports::free();
        let (child, log) = spawn(&program, &path, port, &arguments);
        log.wait(0, "Server is ready");
        Some(Self { program, child, log, port, config: path, arguments, dir })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Removes all that it stored; only while it is killed.
    pub(crate) fn wipe_store(&self) {
        let store = self.dir.path().join("store");
        if store.exists() {
            std::fs::remove_dir_all(store).unwrap();
        }
    }

    /// Starts it again after `kill`, on the same port.
    pub(crate) fn restart(&mut self) {
        let (child, log) = spawn(&self.program, &self.config, self.port, &self.arguments);
        (self.child, self.log) = (child, log);
        self.log.wait(0, "Server is ready");
    }

    /// Other lines of configuration, without a restart.
    pub(crate) fn reload(&self, config: &str) {
        let before = self.log.len();
        write_config(&self.config, self.dir.path(), config);
        self.signal("HUP");
        let line = self.log.wait(before, "eload");
        let taken = line.contains("Reloaded server configuration") || line.contains("Reloaded:");
        assert!(taken, "the server does not take the configuration: {line}");
        self.log.wait(before, "Reloaded server configuration");
    }

    /// Sends it a signal: `STOP`, `CONT`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
        // Its threads stop one after the other, and one that runs may still answer.
        while name == "STOP" && !is_stopped(&pid) {
            std::thread::yield_now();
        }
    }

    /// Where it stores.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// All files of its store, for tests that look for what must not be there.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        collect(&self.store(), &mut bytes);
        bytes
    }
}

/// Whether all threads of a process stand still.
fn is_stopped(pid: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Log {
    /// The first line from the n-th on that holds the text.
    fn wait(&self, from: usize, text: &str) -> String {
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().skip(from).find(|line| line.contains(text)) {
                return line.clone();
            }
            let (next, timeout) = self.more.wait_timeout(lines, PATIENCE).unwrap();
            lines = next;
            assert!(!timeout.timed_out(), "no '{text}' in the server's log:\n{}", lines.join("\n"));
        }
    }

    fn len(&self) -> usize {
        self.lines.lock().unwrap().len()
    }
}

/// The program of .tools, where tests/run put it.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    if program.exists() {
        return Some(program);
    }
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci, "{} is missing: run tests/run tools", program.display());
    println!("SKIPPED: {} is missing: run tests/run tools", program.display());
    None
}

fn write_config(path: &Path, dir: &Path, config: &str) {
    let store = dir.join("store");
    let own = format!("max_payload: 2MB\njetstream {{ store_dir: {:?} }}\n", store.display().to_string());
    std::fs::write(path, format!("{own}{config}\n")).unwrap();
}

fn spawn(program: &Path, config: &Path, port: u16, arguments: &[String]) -> (Child, Arc<Log>) {
    let mut child = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"])
        .arg(config)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Log::default());
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let shared = Arc::clone(&log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            shared.lines.lock().unwrap().push(line);
            shared.more.notify_all();
        }
    });
    (child, log)
}

fn collect(path: &Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, bytes);
        } else {
            bytes.extend(std::fs::read(path).unwrap_or_default());
        }
    }
}
