//! `outrigger append` on conditions: what passes, what a refusal says to people and to programs, and where reads and
//! subscriptions go on.

use std::{
    io::{BufRead as _, BufReader},
    process::Command,
};

use serde_json::{Value, json};

use crate::cli::{Cli, piped};

/// An append with these further words.
fn append<'a>(event_type: &'a str, stream: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["append", "--type", event_type, "--stream", stream, "--data", "{}"], words].concat()
}

/// The error of a refused command as programs get it.
fn refused_json(cli: &Cli, words: &[&str]) -> Value {
    let output = cli.run(&[words, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{words:?}");
    let mut error: Value = serde_json::from_slice(&output.stderr).unwrap();
    error["error"].take()
}

#[test]
fn an_append_waits_for_its_conditions() {
    let cli = Cli::start();
    cli.out(&append("seat.booked", "booking-1", &["--tag", "seat:9C"]));
    cli.out(&append("customer.known", "customer=3", &[]));
    let seat = ["--tag", "seat:9C", "--fail-if-match", "types=seat.booked,seat.blocked;tags=seat:9C"];
    let refusal = cli.refused(&append("seat.booked", "booking-2", &seat));
    assert!(refusal.contains("expected no event that matches, found one at position 1"), "{refusal}");
    assert_eq!(refusal.lines().count(), 1, "{refusal}");

    let behind = |after: &'static str| [&seat[..], &["--fail-if-match-after", after]].concat();
    cli.refused(&append("seat.booked", "booking-2", &behind("0")));
    let others = ["--expect-revision", "none", "--expect", "customer=3=1", "--expect", "nobody=none"];
    let booked = cli.json(&append("seat.booked", "booking-2", &[&behind("2")[..], &others].concat()));
    let token = booked[0]["at_least"].as_str().unwrap();
    cli.out(&append("a", "s", &["--fail-if-match", "types=b", "--fail-if-match-after", token]));
    let beyond = refused_json(&cli, &append("seat.booked", "booking-3", &behind("99")));
    assert_eq!((&beyond["code"], &beyond["metadata"]["head"]), (&json!("OUT_OF_RANGE"), &json!("4")));
    let foreign = "00000000000040008000000000000001:1:1";
    let foreign = refused_json(&cli, &append("seat.booked", "booking-3", &behind(foreign)));
    assert_eq!(foreign["reason"], "TOKEN_OF_OTHER_LOG");
}

#[test]
fn every_condition_that_fails_is_told() {
    let cli = Cli::start();
    cli.out(&append("a", "s", &["--tag", "x", "--tracking", "payments=41"]));
    assert_eq!(cli.out(&["tracking", "payments"]), "position 41, stored at position 1\n");
    let failing = [
        "--expect-revision",
        "none",
        "--expect",
        "t=exists",
        "--fail-if-match",
        "types=b",
        "--fail-if-match",
        "tags=x",
        "--tracking",
        "payments=41",
    ];
    let words = append("b", "s", &failing);
    let refusal = cli.refused(&words);
    let lines: Vec<&str> = refusal.lines().collect();
    assert_eq!(lines.len(), 4, "{refusal}");
    for (line, part) in lines.iter().zip([
        "stream \"s\" was expected to have no event and is at revision 1 (position 1)",
        "also: stream \"t\" was expected to have an event and has no event",
        "also: fail_if_events_match[0]: expected no event that matches, found one at position 1",
        "also: tracking of \"payments\": expected a position above the stored 41, found 41",
    ]) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    let error = refused_json(&cli, &words);
    assert_eq!((&error["code"], &error["reason"]), (&json!("ABORTED"), &json!("CONDITION_FAILED")));
    let subjects: Vec<&Value> =
        error["violations"].as_array().unwrap().iter().map(|violation| &violation["subject"]).collect();
    assert_eq!(subjects, ["s", "t", "fail_if_events_match[0]", "payments"]);
    assert_eq!(error["metadata"]["stored_position"], "41");
    assert_eq!(error["metadata"]["actual_revision"], "1", "the facts of the first that failed");

    let handled = cli.refused(&append("b", "s", &["--tracking", "payments=40"]));
    assert!(handled.contains("TRACKING_NOT_ADVANCED") && handled.contains("stored 41"), "{handled}");
    cli.out(&append("b", "s", &["--tracking", "payments=42"]));
    assert_eq!(cli.json(&["tracking", "payments"]), [json!({"source_position": 42, "stored_at": 2})]);
}

#[test]
fn conditions_that_cannot_mean_anything_are_usage_errors() {
    let cli = Cli::start();
    for words in [
        &["--expect-revision", "x"][..],
        &["--expect", "s"],
        &["--expect", "s=-1"],
        &["--fail-if-match", "a"],
        &["--fail-if-match-after", "7"],
        &["--fail-if-match", "types=a", "--fail-if-match-after", "x"],
        &["--tracking", "payments"],
    ] {
        let output = cli.run(&append("a", "s", words));
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    }
    assert_eq!(cli.out(&["read"]), "");
}

#[test]
fn a_token_says_where_reads_and_subscriptions_go_on() {
    let cli = Cli::start();
    let first = cli.json(&append("a", "s", &[]));
    let token = first[0]["at_least"].as_str().unwrap();
    cli.out(&append("b", "s", &[]));
    let read = cli.json(&["read", "--after-token", token]);
    assert_eq!(read.iter().map(|event| &event["position"]).collect::<Vec<_>>(), [2]);
    let mut child = piped(cli.command(&["subscribe", "--after-token", token, "--output", "json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(event["position"], 2);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
