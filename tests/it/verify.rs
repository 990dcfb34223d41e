//! `outrigger verify` and `outrigger repair` on the directory of a real node that has stopped.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use outrigger::api::proto::v1::event_log_client::EventLogClient;
use serde_json::Value;

use crate::support::{Process, airport, append, binary, event};

/// A directory of a node that took this many events and stopped.
async fn data(events: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), &airport());
    let mut log = EventLogClient::new(process.channel().await);
    for number in 0..events {
        let event = event("flight.noted", &format!("s-{}", number % 3), &format!("{{\"n\":{number}}}"));
        log.append(append(vec![event])).await.unwrap();
    }
    process.terminate();
    dir
}

fn run(words: &[&str], dir: &Path) -> Output {
    Command::new(binary()).args(words).arg("--data-dir").arg(dir).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("log/00000000000000000001.log")
}

/// Turns over a bit of the first place behind the head that holds this text.
fn flip(path: &Path, text: &[u8]) -> u64 {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    // In place: a running node never sees a file that is shorter.
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    at as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_directory_is_told_and_left_as_it_is() {
    let dir = data(20).await;
    let before = files(dir.path());
    let table = run(&["verify"], dir.path());
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert!(String::from_utf8_lossy(&table.stdout).contains("sound"));
    let report = json(&run(&["verify", "--output", "json"], dir.path()));
    assert_eq!(
        (&report["sound"], &report["head"], &report["records"]),
        (&true.into(), &20.into(), &20.into())
    );
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report}");
    assert!(files(dir.path()) == before, "verify changed a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_and_one_without_a_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &[]);
    let refused = run(&["verify"], dir.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&format!("in use by process {}", process.child.id())));
    let empty = tempfile::tempdir().unwrap();
    let refused = run(&["verify"], empty.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("holds no log"), "{}", stderr(&refused));
    assert!(files(empty.path()).is_empty());
    let usage = Command::new(binary()).arg("verify").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_names_segment_offset_and_positions() {
    let dir = data(20).await;
    flip(&segment(dir.path()), b"{\"n\":7}");
    let output = run(&["verify"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    for expected in
        ["00000000000000000001.log at offset ", "position 8", "outrigger repair --cut-from 8 --lose 13"]
    {
        assert!(error.contains(expected), "expected {expected:?} in {error}");
    }
    let start = Command::new(binary())
        .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(1));
    assert!(stderr(&start).contains("outrigger verify") && stderr(&start).contains("outrigger repair"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_projection_is_told_from_a_damaged_log() {
    let dir = data(20).await;
    let file = fs::read_dir(dir.path().join("projections")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[2] ^= 4;
    fs::write(&file, bytes).unwrap();
    let output = run(&["verify", "--output", "json"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let findings = json(&output)["findings"].clone();
    assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
    assert_eq!((&findings[0]["part"], &findings[0]["rebuildable"]), (&"projection".into(), &true.into()));
}

async fn appended(dir: &Path) -> u64 {
    let mut process = Process::start(dir, &airport());
    let mut log = EventLogClient::new(process.channel().await);
    let event = event("flight.noted", "s-0", "{\"again\":true}");
    let answer = log.append(append(vec![event])).await.unwrap().into_inner();
    process.terminate();
    answer.events[0].position
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_needs_the_right_numbers_and_keeps_everything_in_quarantine() {
    let dir = data(20).await;
    let bytes = fs::read(segment(dir.path())).unwrap();
    flip(&segment(dir.path()), b"{\"n\":7}");
    let before = files(dir.path());
    for (flags, code, expected) in [
        (&[][..], 1, "name the flags"),
        (&["--restore-mark"], 1, "nothing to do"),
        (&["--cut-from", "8", "--lose", "12"], 1, "--cut-from 8 --lose 13"),
        (&["--cut-from", "8"], 2, "--lose"),
        (&["--cut-from", "8", "--lose", "13", "--dry-run"], 0, ""),
    ] {
        let output = run(&[&["repair"], flags].concat(), dir.path());
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{flags:?}: {}", stderr(&output));
        let after = files(dir.path());
        let changed = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
            !path.ends_with("LOCK") && before.get(*path) != Some(bytes)
        };
        assert_eq!(
            after.iter().filter(changed).map(|(path, _)| path).collect::<Vec<_>>(),
            Vec::<&PathBuf>::new()
        );
    }
    let cut = ["repair", "--cut-from", "8", "--lose", "13", "--output", "json"];
    let output = run(&cut, dir.path());
    // The projections are ahead of the log now, and are rebuilt by the next start.
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let done = json(&output);
    assert_eq!(done["sound"], false);
    assert_eq!(done["actions"][0]["action"], "cut", "{done} {}", stderr(&output));
    let kept = fs::read(done["actions"][0]["files"][0].as_str().unwrap()).unwrap();
    assert!(kept.windows(8).any(|window| window == b"{\"n\":19}"), "the last event is in quarantine");
    assert!(bytes.len() > kept.len());
    assert_eq!(appended(dir.path()).await, 8, "positions go on where the log was cut");
    let output = run(&["verify", "--output", "json"], dir.path());
    let report = json(&output);
    assert_eq!((&report["sound"], &report["head"]), (&true.into(), &8.into()), "{report}");
    let counters: Vec<u64> =
        report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["counter"].as_u64().unwrap()).collect();
    assert_eq!(counters, [1, 3], "1 wrote positions 1 to 7, 2 is the cut, 3 wrote position 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_marks_and_headers_are_written_anew() {
    let dir = data(20).await;
    for (at, flag) in [(0, "--restore-header"), (4_096, "--restore-mark")] {
        let mut bytes = fs::read(segment(dir.path())).unwrap();
        bytes[at..at + 64].fill(0xAA);
        if at > 0 {
            bytes[8_192..8_192 + 64].fill(0xAA);
        }
        fs::write(segment(dir.path()), bytes).unwrap();
        let found = run(&["verify"], dir.path());
        assert!(stderr(&found).contains(flag), "{}", stderr(&found));
        let output = run(&["repair", flag], dir.path());
        assert_eq!(output.status.code(), Some(0), "{flag}: {}", stderr(&output));
        assert_eq!(run(&["verify"], dir.path()).status.code(), Some(0));
    }
    assert_eq!(appended(dir.path()).await, 21);
}

/// Data of a megabyte that no two events share.
fn large(number: u64) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1_000_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_finds_damage_in_a_sealed_segment_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::support::config(dir.path(), &[]);
    config.log.scrub = Some(std::time::Duration::from_millis(1));
    let running = outrigger::app::start(config).await.unwrap();
    let http = running.http_addr;
    let node = crate::support::Node::around(running, dir).await;
    let mut log = node.log();
    for number in 0..70 {
        log.append(append(vec![event("noted", "s", &large(number))])).await.unwrap();
    }
    let metrics = || crate::probes::get(http, "/metrics");
    assert!(!metrics().contains("outrigger_scrub_damaged_segments 1"));
    flip(&segment(&node.dir.path().join("data")), b"{\"n\":7,");
    while !metrics().contains("outrigger_scrub_damaged_segments 1") {
        tokio::task::yield_now().await;
    }
    let ready = crate::probes::get(http, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("warning: ") && ready.contains("00000000000000000001.log"), "{ready}");
    assert!(ready.contains("positions 8 to "), "{ready}");
    log.append(append(vec![event("noted", "s", "1")])).await.unwrap();
    drop(node.stop().await);
}
