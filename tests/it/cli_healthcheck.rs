//! `outrigger healthcheck` against a node, against nobody, and against those who answer otherwise.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use crate::support::{Process, airport, binary};

fn healthcheck(words: &[&str]) -> Output {
    Command::new(binary()).env_clear().arg("healthcheck").args(words).output().unwrap()
}

fn check_failed(words: &[&str], expected: &str) {
    let output = healthcheck(words);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error: ") && err.contains(expected) && err.lines().count() == 1, "{err}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_node_is_asked_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &airport());
    let url = format!("http://{}", process.http_addr);
    let says = |words: &[&str]| {
        let output = healthcheck(&[&["--url", &url], words].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(says(&["--probe", "live"]), "ok\n");
    assert_eq!(says(&["--probe", "startup"]), "started\n");
    while !healthcheck(&["--url", &url]).status.success() {
        std::thread::yield_now();
    }
    assert_eq!(says(&[]), "ready\n");
    let json: serde_json::Value = serde_json::from_str(&says(&["--output", "json"])).unwrap();
    assert_eq!(json, serde_json::json!({ "url": format!("{url}/readyz"), "status": 200, "text": "ready" }));
    check_failed(&["--url", &format!("{url}/other")], "/other answers 404");
    let addr = process.http_addr;
    drop(process);
    check_failed(&["--url", &format!("http://{addr}")], "is a node running there");
}

#[test]
fn who_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    check_failed(&["--url", &url, "--timeout", "1"], "no answer within 1 s");
}

#[test]
fn a_url_of_another_kind_is_a_usage_error() {
    let output = healthcheck(&["--url", "https://127.0.0.1:7480"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("expected http://HOST:PORT"));
}
