//! Backups of a running node, and what is restored from them: through the command line and the API.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use outrigger::{
    api::proto::v1::{self, admin_client::AdminClient, event_log_client::EventLogClient},
    app,
    config::Config,
};
use serde_json::Value;
use tonic::{Code, transport::Channel};

use crate::support::{Node, Process, airport, append, binary, check_refused, config, event, repository};

fn run(addr: Option<SocketAddr>, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.env_clear().args(words);
    if let Some(addr) = addr {
        command.env("OUTRIGGER_ADDR", addr.to_string());
    }
    command.output().unwrap()
}

fn ok(addr: Option<SocketAddr>, words: &[&str]) -> String {
    let output = run(addr, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(words: &[&str], expected: &[&str]) {
    let output = run(None, words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
    for text in expected {
        assert!(stderr.contains(text), "expected {text:?} in {stderr}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Backs up from another thread, so that a node of this process goes on.
async fn back_up(addr: SocketAddr, to: &Path, more: &[&str]) -> Value {
    let words = [&["backup", "--output", "json", "--to", text(to)], more].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let out = tokio::task::spawn_blocking(move || {
        ok(Some(addr), &words.iter().map(String::as_str).collect::<Vec<_>>())
    });
    serde_json::from_str(&out.await.unwrap()).unwrap()
}

/// The data directory of golden data: three segments, 400 events.
fn golden(dir: &Path) {
    for part in ["log", "index"] {
        fs::create_dir_all(dir.join("data").join(part)).unwrap();
        for file in fs::read_dir(repository().join("tests/fixtures/data-v1").join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.join("data").join(part).join(file.file_name())).unwrap();
        }
    }
}

fn config_of(name: &str, dir: &Path, projections: &[PathBuf]) -> Config {
    Config { node: name.to_owned(), ..config(dir, projections) }
}

async fn golden_node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    golden(dir.path());
    Node::around(app::start(config_of("golden", dir.path(), &[])).await.unwrap(), dir).await
}

async fn events(channel: &Channel, upto: u64) -> Vec<v1::Event> {
    let filter = Some(v1::EventFilter { include_system: true, ..Default::default() });
    let mut log = EventLogClient::new(channel.clone());
    let mut pages = log.read(v1::ReadRequest { filter, ..Default::default() }).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        events.extend(page.events);
    }
    events.retain(|event| event.position <= upto);
    events
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("backup.json")).unwrap()).unwrap()
}

fn restore(from: &Path, to: &Path) {
    ok(None, &["restore", "--from", text(from), "--data-dir", text(to)]);
    ok(None, &["verify", "--data-dir", text(to)]);
}

/// The content hash of every projection that is up to date.
async fn hashes(node: &Node) -> Vec<String> {
    loop {
        let listed =
            node.projections().list_projections(v1::ListProjectionsRequest {}).await.unwrap().into_inner();
        let head = node.head().await;
        if listed.versions.iter().all(|version| version.position == head) {
            let hash = |version: &v1::ProjectionVersion| format!("{:?}", version.content_hash);
            return listed.versions.iter().map(hash).collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_becomes_a_node_that_goes_on() {
    let node = Node::start(&airport()).await;
    let addr = node.grpc_addr();
    let flights = repository().join("examples/airport/flights-2013-01-01.ndjson");
    tokio::task::spawn_blocking(move || ok(Some(addr), &["load", text(&flights)])).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (mut log, stopped) = (node.log(), stopped.clone());
            tokio::spawn(async move {
                let mut last = None;
                while !*stopped.borrow() {
                    let events = vec![event("written", &format!("w-{writer}"), "1"); 1];
                    last = log.append(append(events)).await.unwrap().into_inner().token;
                }
                last
            })
        })
        .collect();
    let backup = node.dir.path().join("backup");
    let told = back_up(addr, &backup, &[]).await;
    let head = told["head"].as_u64().unwrap();
    // What is acknowledged behind the backup is what the copy lacks.
    while node.head().await < head + 50 {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    let mut beyond = None;
    for writer in writers {
        beyond = writer.await.unwrap().or(beyond);
    }
    assert!(head >= 2_500, "{told}");
    let noted = node.metric("outrigger_last_backup_timestamp_seconds").await;
    assert!(noted > 1_700_000_000, "{noted}");
    let original = events(&node.channel, head).await;

    // The original's documents as of a backup that nobody disturbs.
    let quiet = back_up(addr, &node.dir.path().join("quiet"), &[]).await;
    let expected = hashes(&node).await;
    let dir = node.stop().await;
    let running = app::start(config(dir.path(), &airport())).await.unwrap();
    let again = Node::around(running, dir).await;
    assert!(again.metric("outrigger_last_backup_timestamp_seconds").await > 0, "over a restart too");
    let dir = again.stop().await;

    let copy = tempfile::tempdir().unwrap();
    restore(&backup, &copy.path().join("data"));
    let restored = Node::around(app::start(config(copy.path(), &airport())).await.unwrap(), copy).await;
    assert_eq!(restored.head().await, head + 1, "and the decision that it is a copy");
    assert_eq!(events(&restored.channel, head).await, original);
    let read = v1::ReadRequest { after_token: beyond.clone(), ..Default::default() };
    let status = check_refused(restored.log().read(read).await, Code::Aborted, "STALE_EPOCH", "");
    assert!(status.message().contains(&format!("ends at {head}")), "{status:?}");
    let request = append(vec![event("t", "s", "1")]);
    let appended = restored.log().append(request).await.unwrap().into_inner();
    assert_eq!(appended.events[0].position, head + 2);
    drop(restored.stop().await);

    let copy = tempfile::tempdir().unwrap();
    restore(&dir.path().join("quiet"), &copy.path().join("data"));
    let restored = Node::around(app::start(config(copy.path(), &airport())).await.unwrap(), copy).await;
    assert_eq!(restored.head().await, quiet["head"].as_u64().unwrap() + 1);
    assert_eq!(hashes(&restored).await, expected, "projections are built to the same content");
    drop(restored.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_sends_only_what_is_new() {
    let node = golden_node().await;
    let backup = node.dir.path().join("backup");
    let first = back_up(node.grpc_addr(), &backup, &[]).await;
    assert_eq!((first["files"].as_u64(), first["files_sent"].as_u64()), (Some(5), Some(5)), "{first}");
    node.log().append(append(vec![event("t", "s", "1")])).await.unwrap();
    let second = back_up(node.grpc_addr(), &backup, &[]).await;
    assert_eq!((second["files"].as_u64(), second["files_sent"].as_u64()), (Some(5), Some(3)), "{second}");
    assert_eq!(second["head"].as_u64(), Some(401));
    let names: Vec<String> =
        fs::read_dir(&backup).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 5 + 2, "what only the first one had is gone: {names:?}");
    let third = back_up(node.grpc_addr(), &backup, &[]).await;
    assert_eq!(third["files_sent"].as_u64(), Some(2), "nothing of the log is new: {third}");
    let data = node.dir.path().join("restored");
    restore(&backup, &data);

    // One backup at a time, and one that is no continuation does not replace a newer one.
    let older = tempfile::tempdir().unwrap();
    golden(older.path());
    let other = Node::around(app::start(config_of("golden", older.path(), &[])).await.unwrap(), older).await;
    let before = fs::read(backup.join("backup.json")).unwrap();
    let addr = other.grpc_addr();
    let to = text(&backup).to_owned();
    let output =
        tokio::task::spawn_blocking(move || run(Some(addr), &["backup", "--to", &to])).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("position 401") && stderr.contains("name another directory"), "{stderr}");
    assert_eq!(fs::read(backup.join("backup.json")).unwrap(), before);
    other.stop().await;

    let mut admin = AdminClient::new(node.channel.clone());
    let finish = v1::FinishBackupRequest { head: 999 };
    check_refused(admin.finish_backup(finish).await, Code::OutOfRange, "HEAD_NOT_REACHED", "head");
    let slow = v1::BackupRequest { have: Vec::new(), bytes_per_second_max: Some(1) };
    let held = admin.backup(slow.clone()).await.unwrap();
    check_refused(admin.backup(slow).await, Code::ResourceExhausted, "BACKUP_RUNNING", "");
    drop(held);
    let zero = v1::BackupRequest { have: Vec::new(), bytes_per_second_max: Some(0) };
    check_refused(admin.backup(zero).await, Code::InvalidArgument, "INVALID_RATE", "bytes_per_second_max");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backup_leaves_the_former_one_and_is_resumed() {
    let node = golden_node().await;
    let backup = node.dir.path().join("backup");
    back_up(node.grpc_addr(), &backup, &[]).await;
    let former = manifest(&backup);
    // Another directory: all is to be sent again, slowly, and killed behind the first segment.
    let other = node.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for directory in [&other, &backup] {
        for n in 0..40 {
            let data = format!("\"{n}{}\"", "x".repeat(4_000));
            node.log().append(append(vec![event("t", "s", &data)])).await.unwrap();
        }
        let mut child = Command::new(binary())
            .args(["backup", "--bandwidth", "200kB", "--to", text(directory)])
            .env("OUTRIGGER_ADDR", node.grpc_addr().to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let is_under_way = || {
            let mut names = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
            names.any(|name| Path::new(&name).extension().is_some_and(|extension| extension == "new"))
        };
        while !is_under_way() {
            assert!(child.try_wait().unwrap().is_none(), "it was too fast");
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(manifest(&backup), former);
    assert!(!other.join("backup.json").exists());
    let data = node.dir.path().join("of-former");
    restore(&backup, &data);
    refused(
        &["restore", "--from", text(&other), "--data-dir", text(&node.dir.path().join("none"))],
        &["holds no backup", "backup.json"],
    );
    // The node lets go of a backup whose caller is gone.
    for directory in [&other, &backup] {
        let done = loop {
            let (addr, to) = (node.grpc_addr(), text(directory).to_owned());
            let words = move || run(Some(addr), &["backup", "--resume", "--output", "json", "--to", &to]);
            let output = tokio::task::spawn_blocking(words).await.unwrap();
            if output.status.success() {
                break serde_json::from_slice::<Value>(&output.stdout).unwrap();
            }
            assert!(String::from_utf8_lossy(&output.stderr).contains("BACKUP_RUNNING"), "{output:?}");
        };
        assert_eq!(done["head"].as_u64(), Some(480));
        restore(directory, &node.dir.path().join(directory.file_name().unwrap()).join("restored"));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_refused_with_its_place_and_nothing_is_restored() {
    let node = golden_node().await;
    let backup = node.dir.path().join("backup");
    back_up(node.grpc_addr(), &backup, &[]).await;
    let dir = node.stop().await;
    let entries = manifest(&backup)["files"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 5);
    for (number, entry) in entries.iter().enumerate() {
        let name = entry["name"].as_str().unwrap();
        let whole = fs::read(backup.join(name)).unwrap();
        for at in [20, whole.len() / 2, whole.len() - 9] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(backup.join(name), &damaged).unwrap();
            let data = dir.path().join(format!("restored-{number}-{at}"));
            let words = ["restore", "--from", text(&backup), "--data-dir", text(&data)];
            let is_groups = entry["kind"] == "segment" && at > 12_288;
            let place = if is_groups { ", position" } else { "" };
            let output = run(None, &words);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} at {at}: {stderr}");
            assert!(stderr.contains("damaged") && stderr.contains(place), "{name} at {at}: {stderr}");
            assert!(stderr.contains(name), "{name} at {at}: {stderr}");
            assert!(!data.join("log").exists());
            // A node does not begin an empty log where a restore is to go on.
            if at == 20 {
                let serve =
                    ["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", text(&data)];
                refused(&serve, &["did not come to its end", "run it again"]);
            }
            // With the byte as it was, the same command goes on.
            fs::write(backup.join(name), &whole).unwrap();
            restore(&backup, &data);
        }
    }
    let cut = fs::read(backup.join("backup.json")).unwrap();
    fs::write(backup.join("backup.json"), &cut[..cut.len() / 2]).unwrap();
    let data = dir.path().join("of-cut-manifest");
    refused(
        &["restore", "--from", text(&backup), "--data-dir", text(&data)],
        &["is no manifest of a backup"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_overwrites_nothing_and_can_rename() {
    let node = golden_node().await;
    let backup = node.dir.path().join("backup");
    let told = back_up(node.grpc_addr(), &backup, &[]).await;
    let dir = node.stop().await;
    let data = dir.path().join("data");
    refused(
        &["restore", "--from", text(&backup), "--data-dir", text(&data)],
        &["holds the data of a node already"],
    );
    let copy = dir.path().join("copy");
    let words = ["restore", "--from", text(&backup), "--data-dir", text(&copy), "--node", "golden-copy"];
    let out = ok(None, &[&words[..], &["--bandwidth", "1GiB", "--output", "json"]].concat());
    let restored: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((restored["node"].as_str(), &restored["chain"]), (Some("golden-copy"), &told["chain"]));
    let config = Config { data_dir: copy.clone(), ..config_of("golden-copy", dir.path(), &[]) };
    app::start(config).await.unwrap().stop().await.unwrap();
    refused(&["restore", "--from", text(&backup), "--data-dir", text(&copy)], &["holds the data", "(log)"]);
    for (flag, value) in [("--node", "Not A Label"), ("--bandwidth", "fast"), ("--bandwidth", "0")] {
        let output = run(None, &["restore", "--from", "x", "--data-dir", "y", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag} {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_restored_and_one_that_is_cut_is_not() {
    let node = golden_node().await;
    let addr = node.grpc_addr();
    let stream =
        tokio::task::spawn_blocking(move || run(Some(addr), &["backup", "--to", "-"])).await.unwrap();
    assert!(stream.status.success(), "{stream:?}");
    let (original, dir) = (events(&node.channel, 400).await, node.stop().await);
    let restore = |bytes: &[u8], data: &Path| {
        let mut command = Command::new(binary());
        command.args(["restore", "--from", "-", "--data-dir", text(data)]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let written = std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes);
        // One that is refused early does not read to the end.
        drop(written);
        child.wait_with_output().unwrap()
    };
    let data = dir.path().join("restored");
    for len in [0, 30, stream.stdout.len() / 2, stream.stdout.len() - 1] {
        let output = restore(&stream.stdout[..len], &data);
        assert_eq!(output.status.code(), Some(1), "cut to {len}");
        assert!(!data.join("log").exists(), "cut to {len}");
    }
    let mut damaged = stream.stdout.clone();
    damaged[stream.stdout.len() / 2] ^= 1;
    let output = restore(&damaged, &data);
    assert!(String::from_utf8_lossy(&output.stderr).contains("damaged"), "{output:?}");
    let output = restore(&stream.stdout, &data);
    assert!(output.status.success(), "{output:?}");
    let config = Config { data_dir: data, ..config_of("golden", dir.path(), &[]) };
    let restored = Node::around(app::start(config).await.unwrap(), dir).await;
    assert_eq!(events(&restored.channel, 400).await, original);
    restored.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_from_a_snapshot_is_restored_once_for_each_number() {
    let dir = tempfile::tempdir().unwrap();
    golden(dir.path());
    let start = async |number| {
        let config = Config { restore_epoch: number, ..config_of("golden", dir.path(), &[]) };
        app::start(config).await.unwrap()
    };
    let epoch = async |running: &app::Running| {
        let channel = crate::support::connect(running.grpc_addr.tcp().unwrap()).await;
        let node = AdminClient::new(channel).get_node(v1::GetNodeRequest {}).await.unwrap().into_inner();
        (node.epoch, node.head)
    };
    let mut seen = Vec::new();
    for number in [0, 1, 1, 0, 2] {
        let running = start(number).await;
        seen.push(epoch(&running).await);
        running.stop().await.unwrap();
    }
    let heads: Vec<u64> = seen.iter().map(|(_, head)| *head).collect();
    assert_eq!(heads, [400, 401, 401, 401, 402], "each restore is a decision in the log");
    let counters: Vec<u64> = seen.iter().map(|(epoch, _)| *epoch).collect();
    assert!(counters.is_sorted_by(|a, b| a < b), "{counters:?}");
    assert!(counters[0] < 100 && counters[1] > 1_700_000_000_000, "{counters:?}");
    drop(Process::start_command(
        {
            let mut command = Command::new(binary());
            command.env("OUTRIGGER_NODE", "golden").env("OUTRIGGER_RESTORE__EPOCH", "3");
            command
        },
        &dir.path().join("data"),
        &[],
    ));
}
