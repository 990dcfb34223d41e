//! A large node after kill -9, its backup while it serves, and a restore, all within the limit. What it takes is printed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use outrigger::api::proto::v1::{self, event_log_client::EventLogClient};
use tokio::time::sleep;

use super::{
    Place,
    cgroup::{Cgroup, resident_bytes},
    is_caught_up, program, until,
};
use crate::support::{Process, page};

const PATIENCE: Duration = Duration::from_secs(3_600);

async fn until_ready(node: &Process) {
    until("ready", PATIENCE, async || page(node.http_addr, "/readyz").await.starts_with("HTTP/1.1 200"))
        .await;
}

async fn head(node: &Process) -> u64 {
    let mut log = EventLogClient::new(node.channel().await);
    log.get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().head
}

/// Runs a command of outrigger to its end, in the group or beside it; what it took, in words.
async fn run(mut command: Command, words: &[&str], beside: Option<&Process>) -> String {
    let begun = Instant::now();
    let mut child = command.args(words).stdout(Stdio::null()).spawn().unwrap();
    let (mut largest, mut largest_beside) = (0, 0);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        largest = largest.max(resident_bytes(child.id()));
        largest_beside = largest_beside.max(beside.map_or(0, |node| resident_bytes(node.child.id())));
        sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{words:?}: {status}");
    let node = beside.map_or(String::new(), |_| format!(", the node at most {} MiB", largest_beside >> 20));
    format!("{:?}, resident at most {} MiB{node}", begun.elapsed(), largest >> 20)
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes_in(&path) } else { path.metadata().unwrap().len() }).sum()
}

pub(super) async fn check(place: &Place, group: &Cgroup, node: Process, command: impl Fn() -> Command) {
    let before = head(&node).await;
    node.kill();
    let begun = Instant::now();
    let node = place.start("operations", command());
    until_ready(&node).await;
    println!("after kill -9: ready after {:?}", begun.elapsed());
    until("the projections", PATIENCE, async || is_caught_up(&node).await).await;
    assert!(head(&node).await >= before, "nothing is lost");

    let (backup, restored) = (place.path("backup"), place.path("restored"));
    let (to, data) = (backup.to_str().unwrap(), restored.to_str().unwrap());
    let addr = node.grpc_addr.to_string();
    let backed_up = ["backup", "--to", to, "--addr", &addr];
    let took = run(Command::new(program()), &backed_up, Some(&node)).await;
    println!("backup of {} MiB: {took}", bytes_in(&backup) >> 20);
    let again = run(Command::new(program()), &backed_up, Some(&node)).await;
    println!("the next backup: {again}");
    node.kill();
    let took = run(group.command(&program()), &["restore", "--from", to, "--data-dir", data], None).await;
    println!("restore: {took}");

    let begun = Instant::now();
    let mut command = group.command(&program());
    command.env("OUTRIGGER_NODE", "operations").env("OUTRIGGER_LIMITS__MEMORY", "128MiB");
    let node = Process::start_command(command, &restored, &[]);
    until_ready(&node).await;
    println!("the restored log: ready after {:?}; {}", begun.elapsed(), group.figures(node.child.id()));
    assert!(head(&node).await >= before, "nothing is lost");
    assert_eq!(group.kills(), 0, "the kernel has killed it");
}
