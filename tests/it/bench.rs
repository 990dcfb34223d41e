//! `outrigger bench` against a node in a process of its own: figures are plausible, nothing fails, and what was appended
//! is there. No figure is held against another machine's.

use std::process::Command;

use serde_json::Value;

use crate::support::{Process, airport, binary, repository};

/// Some time, so that there is something to measure.
const SHORT: &[&str] = &["--seconds", "0.3", "--warmup", "0.1", "--output", "json"];

fn bench(process: &Process, words: &[&str]) -> Vec<Value> {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("OUTRIGGER_ADDR", process.grpc_addr.to_string())
        .arg("bench")
        .args(words)
        .args(SHORT);
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {err}{}", String::from_utf8_lossy(&output.stdout));
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One report whose figures agree with each other.
fn check(process: &Process, words: &[&str]) -> Value {
    let reports = bench(process, words);
    assert_eq!(reports.len(), 1, "{words:?}");
    check_report(&reports[0]);
    reports[0].clone()
}

fn check_report(report: &Value) {
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
    };
    assert!(number("/requests") > 0.0 && number("/events") > 0.0, "{report}");
    let rate = number("/events") / number("/seconds");
    assert!((number("/events_per_second") / rate - 1.0).abs() < 0.05, "{report}");
    let latencies = ["p50", "p90", "p99", "p99_9", "max"].map(|name| number(&format!("/latency_ms/{name}")));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{report}");
    assert_eq!(report["errors"], serde_json::json!({}));
}

fn start() -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Process::start(&dir.path().join("data"), &[]), dir)
}

#[test]
fn appends_are_counted_whatever_the_shape() {
    let (process, _dir) = start();
    let mut before = 0;
    for words in [
        &["append"][..],
        &["append", "--writers", "3", "--batch", "20", "--size", "40"],
        &["append", "--writers", "2", "--stream", "--in-flight", "50"],
        &["append", "--writers", "5", "--batch", "3", "--conditional", "revision"],
        &["append", "--writers", "5", "--batch", "3", "--conditional", "query"],
    ] {
        let report = check(&process, words);
        let head = report["head"].as_u64().unwrap();
        assert!(head - before >= report["events"].as_u64().unwrap(), "{report}");
        assert!(report["server"]["resident_bytes"].as_u64().unwrap() > 1_000_000, "{report}");
        before = head;
    }
}

#[test]
fn a_log_is_filled_and_read() {
    let (process, _dir) = start();
    let report = check(&process, &["append", "--events", "20050", "--batch", "100", "--size", "20"]);
    assert_eq!((&report["events"], &report["head"]), (&20_050.into(), &20_050.into()));
    for filter in ["all", "tag", "stream", "type"] {
        let report = check(&process, &["read", "--filter", filter, "--readers", "2", "--limit", "1000"]);
        assert_eq!(report["head"], 20_050);
    }
}

#[test]
fn subscribers_see_every_append() {
    let (process, _dir) = start();
    let report = check(&process, &["subscribe", "--rate", "200", "--subscribers", "3"]);
    assert!(report["append_latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn documents_are_got_and_listed_beside_an_echo() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&dir.path().join("data"), &airport());
    let day = repository().join("examples/airport/flights-2013-01-01.ndjson");
    let mut load = Command::new(binary());
    load.env_clear().env("OUTRIGGER_ADDR", process.grpc_addr.to_string()).arg("load").arg(day);
    assert!(load.output().unwrap().status.success());
    // Some have to be there; which is nobody's concern.
    let mut count = Command::new(binary());
    count.env_clear().env("OUTRIGGER_ADDR", process.grpc_addr.to_string());
    count.args(["count", "departures", "flights", "--at-least", "2522"]);
    assert!(count.output().unwrap().status.success());
    for (words, name, least) in [
        (&["query", "departures", "flights", "--callers", "3"][..], "query_get", 1.0),
        (&["query", "departures", "flights", "--index", "by_route", "--page-size", "50"], "query_list", 40.0),
    ] {
        let reports = bench(&process, words);
        let names: Vec<&str> = reports.iter().map(|report| report["bench"].as_str().unwrap()).collect();
        assert_eq!(names, ["baseline_unary", name]);
        reports.iter().for_each(check_report);
        let documents = reports[1]["events"].as_f64().unwrap() / reports[1]["requests"].as_f64().unwrap();
        assert!(documents >= least, "{documents} documents a call");
    }
}

#[test]
fn the_baseline_needs_no_node() {
    let (process, dir) = start();
    let dir = dir.path().to_str().unwrap();
    let reports = bench(&process, &["baseline", "--writers", "2", "--batch", "10", "--dir", dir]);
    let names: Vec<&str> = reports.iter().map(|report| report["bench"].as_str().unwrap()).collect();
    assert_eq!(names, ["baseline_unary", "baseline_stream", "baseline_disk"]);
    reports.iter().for_each(check_report);
}

#[test]
fn what_was_appended_before_does_not_count_again() {
    let (process, _dir) = start();
    let words = ["append", "--seed", "7", "--events", "100", "--batch", "10", "--writers", "1"];
    check(&process, &words);
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("OUTRIGGER_ADDR", process.grpc_addr.to_string())
        .arg("bench")
        .args(words)
        .args(SHORT);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["events"], &report["errors"]["BENCH_ALREADY_EXISTED"]), (&0.into(), &10.into()));
}

#[test]
fn a_projection_is_built_followed_and_read_back_on_a_node_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.env_clear().args(["bench", "project", "--events", "12000", "--flights", "200", "--rate", "100"]);
    command.args(["--seconds", "0.2", "--output", "json", "--dir"]).arg(dir.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    for stretch in ["append", "build", "live"] {
        assert_eq!(figures[stretch]["events"], 12_000, "{stretch}: {figures}");
        assert!(figures[stretch]["events_per_second"].as_f64().unwrap() > 0.0, "{stretch}: {figures}");
    }
    assert!(figures["disk"]["documents"].as_u64().unwrap() > 3_000, "{figures}");
    assert!(figures["disk"]["ratio"].as_f64().unwrap() > 1.0, "{figures}");
    assert!(figures["visible_events"].as_u64().unwrap() > 0, "{figures}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the node's directory is gone");
}
