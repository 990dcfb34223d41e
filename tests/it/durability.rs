//! No append is acknowledged before it is durable, told by the server's own system calls: the page cache survives a
//! kill, so only a trace can show it. Needs strace; without it the test says so, and fails where CI=true.

use std::process::{Command, Stdio};

use outrigger::api::proto::v1::{self, append_stream_response::Outcome, event_log_client::EventLogClient};
use tokio_stream::StreamExt as _;

use crate::support::{Process, append, binary, event, repository};

const CALLS: &str =
    "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync";

fn marked(n: u32) -> v1::AppendRequest {
    append(vec![event("t", &format!("s{}", n % 7), &format!("{{\"mark\":\"durable-mark-{n}\"}}"))])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledgement_follows_the_sync_that_covers_it() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "strace is missing: install it");
        eprintln!("skipped: strace is missing: install it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-yy", "-xx", "-s", "16777216", "-e", CALLS, "-o"]).arg(&trace).arg(binary());
    let mut process = Process::start_command(strace, &dir.path().join("data"), &[]);
    let mut writers = Vec::new();
    for writer in 0..4 {
        let mut log = EventLogClient::new(process.channel().await);
        writers.push(tokio::spawn(async move {
            for n in 0..50 {
                log.append(marked(writer * 1_000 + n)).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let requests = (0..200).map(|n| v1::AppendStreamRequest { request: Some(marked(10_000 + n)) });
    let mut log = EventLogClient::new(process.channel().await);
    let mut answers = log.append_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut appended = 0;
    while let Some(answer) = answers.next().await {
        appended += u32::from(matches!(answer.unwrap().outcome, Some(Outcome::Appended(_))));
    }
    assert_eq!(appended, 200);
    process.terminate();
    let judge = Command::new("python3")
        .arg(repository().join("tests/durability/strace_acks.py"))
        .arg(&trace)
        .args(["--log-files", "/log/", "--acks-min", "400"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judge.stdout).into_owned() + &String::from_utf8_lossy(&judge.stderr);
    assert!(judge.status.success(), "{said}");
}
