//! What refuses to start says why, where and what to do, in one line; nothing is changed by it.

use std::{path::Path, process::Command};

use crate::support::{Process, binary};

/// Runs `serve` until it gives up; its one line of error.
fn check_refused(dir: &Path, arguments: &[&str], code: i32, expected: &[&str]) {
    let output = Command::new(binary())
        .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let line = stderr.lines().last().unwrap_or_default();
    for text in expected {
        assert!(stderr.contains(text), "expected {text:?} in {stderr}");
    }
    assert!(!line.is_empty() && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_data_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Process::start(dir.path(), &[]));
    check_refused(dir.path(), &["--node", "flights"], 1, &["local", "flights", "another data directory"]);
    drop(Process::start(dir.path(), &[]));
}

#[test]
fn a_locked_data_directory_names_the_process_that_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &[]);
    check_refused(dir.path(), &[], 1, &[&format!("{}", process.child.id()), "in use"]);
}

#[test]
fn an_unreadable_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    check_refused(&file, &[], 1, &["file"]);
    check_refused(&file.join("below"), &[], 1, &["file"]);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Process::start(dir.path(), &[]));
    let manifest = dir.path().join("log/manifest");
    let bytes = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, newer(&bytes)).unwrap();
    check_refused(dir.path(), &[], 1, &["format", "newer"]);
    std::fs::write(&manifest, bytes).unwrap();
    drop(Process::start(dir.path(), &[]));
}

/// The manifest with the next format number, as a newer program would begin it.
fn newer(manifest: &[u8]) -> Vec<u8> {
    let mut newer = manifest.to_vec();
    newer[8] += 1;
    newer
}

#[test]
fn settings_that_do_not_hold_are_all_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, "node: flights\nnod: x\ngrpc:\n  listen: nowhere\n").unwrap();
    let data = dir.path().join("data");
    let flag = ["--config", config.to_str().unwrap()];
    check_refused(&data, &flag, 1, &["config.yaml", "nod", "expected"]);
    std::fs::write(&config, "node: a\nnode: b\n").unwrap();
    check_refused(&data, &flag, 1, &["config.yaml", "node", "2"]);
    assert!(!data.exists(), "a refused start leaves no data directory");
}

#[test]
fn a_listener_beyond_loopback_without_tokens_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0", "--data-dir"];
    let output = Command::new(binary()).args(arguments).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a flag that does not hold is a usage error");
    assert!(String::from_utf8_lossy(&output.stderr).contains("token_file"));
}

#[test]
fn a_broken_definition_that_is_named_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.yaml");
    std::fs::write(&file, "projection: p\nversion: 1\ncollections: {c: {}}\nevents:\n  t:\n    - putt: c\n")
        .unwrap();
    let data = dir.path().join("data");
    check_refused(
        &data,
        &["--projection", file.to_str().unwrap()],
        1,
        &["broken.yaml:6:", "putt", "expected"],
    );
    check_refused(
        &data,
        &["--projection", dir.path().join("none.yaml").to_str().unwrap()],
        1,
        &["none.yaml"],
    );
}
