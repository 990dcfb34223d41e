//! The commands that need no node: settings, definitions, help; and what every command does with wrong arguments.

use std::{fs, path::Path};

use assert_cmd::Command;

fn outrigger(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::cargo_bin("outrigger").unwrap();
    command.env_clear().current_dir(dir).args(words);
    command
}

/// Runs and holds exit code, standard output and stderr (parts of them) against what they should be.
fn check(dir: &Path, words: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = outrigger(dir, words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?}: {out}{err}");
    assert!(out.contains(stdout), "{words:?}: {stdout:?} is not in {out:?}");
    assert!(err.contains(stderr), "{words:?}: {stderr:?} is not in {err:?}");
    if code == 1 {
        assert_eq!(
            err.lines().filter(|line| line.starts_with("error: ")).count(),
            err.lines().count(),
            "{err}"
        );
    }
}

#[test]
fn versions_and_help_are_answers() {
    let dir = tempfile::tempdir().unwrap();
    let number = env!("CARGO_PKG_VERSION");
    check(dir.path(), &["version"], 0, &format!("outrigger {number}\n"), "");
    check(dir.path(), &["version", "--output", "json"], 0, &format!("{{\"version\":\"{number}\"}}\n"), "");
    check(dir.path(), &["--help"], 0, "Exit codes: 0 done, 1 refused or failed, 2 usage.", "");
    check(dir.path(), &["list", "--help"], 0, "Examples:", "");
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &[], 2, "", "Usage: outrigger");
    check(dir.path(), &["fly"], 2, "", "unrecognized subcommand 'fly'");
    check(dir.path(), &["read", "--limit", "many"], 2, "", "--limit");
    check(
        dir.path(),
        &["append", "--type", "t", "--stream", "s", "--data", "{"],
        2,
        "",
        "--data: expected one JSON value",
    );
    check(dir.path(), &["get", "p", "c", "[1.5]"], 2, "", "error: KEY: ");
    check(dir.path(), &["streams", "--addr", "nowhere"], 2, "", "--addr: expected HOST:PORT");
    check(dir.path(), &["serve", "--node", "No_Label"], 2, "", "--node: node: expected a DNS label");
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &["read", "--addr", "unix:absent.sock"],
        1,
        "",
        "error: cannot reach a node at unix:absent.sock",
    );
    let mut command = outrigger(dir.path(), &["streams"]);
    let output = command.env("OUTRIGGER_ADDR", "unix:other.sock").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("unix:other.sock"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &["load", "absent.ndjson"], 1, "", "error: absent.ndjson: cannot open");
    check(dir.path(), &["projection", "check", "absent.yaml"], 1, "", "error: absent.yaml: cannot read");
}

#[test]
fn settings_are_checked_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.yaml"), "node: Bad\nnods: x\n").unwrap();
    check(
        dir.path(),
        &["config", "check", "--config", "bad.yaml"],
        1,
        "",
        "error: bad.yaml:2:1: unknown key nods",
    );
    check(
        dir.path(),
        &["config", "check", "--config", "bad.yaml"],
        1,
        "",
        "error: bad.yaml:1:7: node: expected a DNS label",
    );
    check(dir.path(), &["serve", "--config", "bad.yaml"], 1, "", "unknown key nods");
    fs::write(dir.path().join("good.yaml"), "node: flights\n").unwrap();
    check(dir.path(), &["config", "check", "--config", "good.yaml"], 0, "the configuration is good", "");
}

#[test]
fn printed_settings_read_back_as_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["config", "print", "--node", "flights", "--data-dir", "a b", "--grpc", "127.0.0.1:1"];
    let first = outrigger(dir.path(), &words).env("OUTRIGGER_LIMITS__MEMORY", "1GiB").output().unwrap();
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(text.contains("# --node;") && text.contains("# OUTRIGGER_LIMITS__MEMORY;"), "{text}");
    fs::write(dir.path().join("printed.yaml"), &text).unwrap();
    let second = outrigger(dir.path(), &["config", "print", "--config", "printed.yaml"]).output().unwrap();
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split('#').next().unwrap_or_default().trim_end().to_owned();
        text.lines().map(value).collect()
    };
    assert_eq!(values(&String::from_utf8(second.stdout).unwrap()), values(&text));
}

#[test]
fn unknown_variables_warn_and_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = outrigger(dir.path(), &["config", "check"]);
    let output = command.env("OUTRIGGER_PORT", "tcp://10.0.0.1:7400").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("warning: the environment variable OUTRIGGER_PORT")
    );
}

const COUNTS: &str = "projection: counts\nversion: 1\ncollections:\n  words: {}\nevents:\n  word.said:\n    \
    - add: words\n      key: data.word\n      value: { times: 1 }\n";
const SAID: &str = "{\"type\":\"word.said\",\"stream\":\"s\",\"data\":{\"word\":\"a\"}}\n\
    {\"type\":\"word.said\",\"stream\":\"s\",\"data\":{\"word\":\"b\"}}\n\
    {\"type\":\"word.said\",\"stream\":\"s\",\"data\":{\"word\":\"a\"}}\n";

fn counts() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("counts.yaml"), COUNTS).unwrap();
    fs::write(dir.path().join("said.ndjson"), SAID).unwrap();
    dir
}

#[test]
fn definitions_are_checked_with_line_and_column() {
    let dir = counts();
    check(
        dir.path(),
        &["projection", "check", "counts.yaml"],
        0,
        "projection counts, version 1, collections words",
        "",
    );
    fs::write(dir.path().join("bad.yaml"), COUNTS.replace("data.word", "data.word +")).unwrap();
    check(dir.path(), &["projection", "check", "bad.yaml"], 1, "", "error: bad.yaml:8:");
}

#[test]
fn definitions_are_tested_against_expectations() {
    let dir = counts();
    let test = ["projection", "test", "counts.yaml", "--events", "said.ndjson"];
    let output = outrigger(dir.path(), &test).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed.split_whitespace().collect::<String>(),
        r#"{"words":{"a":{"times":2},"b":{"times":1}}}"#
    );
    fs::write(dir.path().join("expected.json"), &printed).unwrap();
    let expect = [&test[..], &["--expect", "expected.json"]].concat();
    check(dir.path(), &expect, 0, "", "the documents are as expected");
    fs::write(dir.path().join("expected.json"), r#"{"words":{"a":{"times":3},"b":{"times":1.0}}}"#).unwrap();
    check(
        dir.path(),
        &expect,
        1,
        "words \"a\".times: expected 3, found 2\n",
        "error: 1 place is not as expected",
    );
    let json = [&test[..], &["--output", "json"]].concat();
    check(dir.path(), &json, 0, "{\"collection\":\"words\",\"key\":\"a\",\"value\":{\"times\":2}}\n", "");
}

#[test]
fn a_bad_line_of_events_is_named() {
    let dir = counts();
    fs::write(dir.path().join("said.ndjson"), format!("{SAID}{{\"type\":1}}\n")).unwrap();
    let test = ["projection", "test", "counts.yaml", "--events", "said.ndjson"];
    check(dir.path(), &test, 1, "", "error: said.ndjson:4:10: missing field");
}

#[test]
fn a_closed_output_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let mut child = command
        .args(["config", "print"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
