//! The command line against a node in a process of its own: what is printed, exit codes, and loads that are disturbed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use outrigger::api::proto::v1::{self, event_log_client::EventLogClient};
use serde_json::{Value, json};

use crate::{
    ports,
    support::{Process, airport, binary, connect, repository},
};

/// A node in a process of its own, and the command line beside it.
pub(crate) struct Cli {
    process: Process,
    dir: tempfile::TempDir,
}

impl Cli {
    pub(crate) fn start() -> Self {
        Self::serving(&airport())
    }

    pub(crate) fn serving(projections: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(&dir.path().join("data"), projections);
        Self { process, dir }
    }

    /// A node with these settings, by the names of their variables; `dir` is its directory.
    pub(crate) fn with_settings(dir: tempfile::TempDir, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.envs(settings.iter().copied());
        let process = Process::start_command(command, &dir.path().join("data"), &[]);
        Self { process, dir }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear().env("OUTRIGGER_ADDR", self.process.grpc_addr.to_string());
        command.args(words).current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn out(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of a command as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        let words = [words, &["--output", "json"]].concat();
        let out = self.out(&words);
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one line on stderr of a command that must be refused.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {err}");
        assert_eq!(err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{err}");
        err
    }

    /// Where the node listens: gRPC, and probes and metrics.
    pub(crate) fn addresses(&self) -> (String, String) {
        (self.process.grpc_addr.to_string(), self.process.http_addr.to_string())
    }

    /// A file in the directory in which commands run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }
}

fn line(number: u32, word: &str) -> String {
    format!(
        "{{\"id\":\"00000000-0000-4000-8000-{number:012}\",\"type\":\"t\",\"stream\":\"s\",\"data\":\"{word}\"}}\n"
    )
}

#[test]
fn an_append_is_read_listed_and_seen() {
    let cli = Cli::start();
    let data = r#"{"flight":"XX1","origin":"EWR","carrier":"XX","delay_minutes":5.50}"#;
    let event = [
        "append",
        "--type",
        "flight.departed",
        "--stream",
        "flight-XX1",
        "--tag",
        "b",
        "--tag",
        "a",
        "--data",
        data,
    ];
    let appended = cli.json(&[&event[..], &["--expect-revision", "none"]].concat());
    assert_eq!(appended[0]["events"][0]["position"], 1);
    assert_eq!(appended[0]["token"]["position"], 1);
    let token = appended[0]["at_least"].as_str().unwrap();
    let airport = cli.out(&["get", "departures", "airports", "EWR", "--at-least", token]);
    assert_eq!(serde_json::from_str::<Value>(&airport).unwrap()["delay_sum"], json!(5.5));
    let got = cli.json(&["get", "departures", "airports", "EWR", "--at-least", "1"]);
    assert_eq!(got[0]["document"]["key"], "EWR");
    assert_eq!(got[0]["context"]["as_of"], 1);

    let refusal = cli.refused(&[&event[..], &["--expect-revision", "none"]].concat());
    assert!(refusal.contains("flight-XX1"), "{refusal}");
    let second = cli.out(&event);
    assert!(second.starts_with("appended at position 2, revision 2, token "), "{second}");

    let read = cli.out(&["read", "--output", "json", "--limit", "1", "--backwards"]);
    assert!(read.contains("\"delay_minutes\":5.50"), "data is verbatim: {read}");
    let event: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(
        (&event["position"], &event["revision"], &event["tags"]),
        (&json!(2), &json!(2), &json!(["a", "b"]))
    );
    assert_eq!(cli.json(&["read", "--type", "none.such"]), Vec::<Value>::new());
    assert_eq!(cli.out(&["read", "--tag", "a", "--tag", "b"]).lines().count(), 2);
    let streams = cli.json(&["streams", "--prefix", "flight-"]);
    assert_eq!(streams, [json!({"stream": "flight-XX1", "revision": 2, "last_position": 2})]);
    let listed = cli.json(&[
        "list",
        "departures",
        "flights",
        "--index",
        "by_status",
        "--eq",
        "departed",
        "--at-least",
        "2",
    ]);
    assert_eq!(listed[0]["key"], "XX1");
}

#[test]
fn projections_are_listed_with_their_state() {
    let cli = Cli::start();
    cli.out(&["append", "--type", "weather.observed", "--stream", "w", "--data", "{}"]);
    let versions = cli.json(&["projection", "list"]);
    assert_eq!(versions.len(), 2);
    for field in ["version", "state", "position", "head", "lag", "rate", "content_hash"] {
        assert!(!versions[0][field].is_null(), "{field} is not in {}", versions[0]);
    }
    let shown = cli.out(&["projection", "show", "departures"]);
    assert!(shown.contains("by_departure") && shown.contains("airports"), "{shown}");
    assert!(cli.refused(&["projection", "show", "absent"]).contains("absent"));
}

#[test]
fn what_is_not_there_is_refused_in_one_line() {
    let cli = Cli::start();
    for words in [
        &["get", "departures", "airports", "ZZZ"][..],
        &["get", "absent", "airports", "EWR"],
        &["get", "departures", "absent", "EWR"],
        &["get", "departures", "airports", "EWR", "--version", "9"],
        &["list", "departures", "flights", "--index", "absent"],
        &["list", "departures", "flights", "--filter", "doc.("],
        &["list", "departures", "flights", "--limit", "0"],
        &["read", "--after", "7"],
        &["append", "--type", "a b", "--stream", "s", "--data", "1"],
    ] {
        let err = cli.refused(words);
        assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
    }
}

#[test]
fn plans_say_what_they_scan() {
    let cli = Cli::start();
    cli.out(&["load", repository().join("examples/airport/flights-2013-01-01.ndjson").to_str().unwrap()]);
    let list = [
        "list",
        "departures",
        "flights",
        "--index",
        "by_route",
        "--eq",
        "JFK",
        "--eq",
        "LAX",
        "--at-least",
        "2522",
    ];
    let plan = cli.json(&[&list[..], &["--explain"]].concat());
    assert_eq!((&plan[0]["index"], &plan[0]["range_size"]), (&json!("by_route"), &json!(30)));
    assert_eq!(cli.json(&list).len(), 30);
    let table =
        cli.out(&["list", "departures", "routes", "--index", "by_flights", "--descending", "--limit", "2"]);
    assert!(
        table.contains("[\"JFK\",\"LAX\"]") && table.contains("2 documents, departures version 1"),
        "{table}"
    );
    assert_eq!(cli.json(&["list", "departures", "flights", "--limit", "1500"]).len(), 842);
    assert_eq!(cli.json(&["list", "departures", "routes", "--prefix", "[\"JFK\",\"LA\"]"]).len(), 2);
}

#[test]
fn a_load_can_be_repeated_also_from_standard_input_and_without_ids() {
    let cli = Cli::start();
    let text: String = (1..=1_200).map(|number| line(number, "a")).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    fs::write(cli.dir.path().join("events.gz"), encoder.finish().unwrap()).unwrap();
    assert_eq!(cli.out(&["load", "events.gz"]), "loaded 1200 events, 0 already there, head 1200\n");
    let mut child = piped(cli.command(&["load", "-"]));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "loaded 0 events, 1200 already there, head 1200\n");
    let anonymous = "{\"type\":\"t\",\"stream\":\"s\",\"data\":1}\n".repeat(3);
    cli.write("anonymous", &anonymous);
    assert!(cli.refused(&["load", "anonymous"]).contains("anonymous:1:1: expected an id"));
    let loaded = cli.json(&["load", "anonymous", "--derive-ids"]);
    assert_eq!(loaded, [json!({"loaded": 3, "already_there": 0, "skipped": 0, "head": 1203})]);
    assert_eq!(
        cli.out(&["load", "anonymous", "--derive-ids"]),
        "loaded 0 events, 3 already there, head 1203\n"
    );
}

#[test]
fn a_bad_line_is_named_and_stops_or_is_skipped() {
    let cli = Cli::start();
    cli.write(
        "bad",
        &(line(1, "a") + "{\"type\":\"t\",\"stream\":\"s\",\"data\":{\"k\":1,\"k\":2}}\n" + &line(2, "b")),
    );
    let refusal = cli.refused(&["load", "bad"]);
    assert!(
        refusal.contains("bad:2:")
            && refusal.contains("repeated")
            && refusal.contains("1 events were loaded"),
        "{refusal}"
    );
    let output = cli.run(&["load", "bad", "--on-error", "skip"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "loaded 1 events, 1 already there, head 2\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: 1 lines were skipped"));
}

#[test]
fn a_line_that_the_node_refuses_is_named_too() {
    let cli = Cli::start();
    cli.write("first", &line(2, "a"));
    cli.out(&["load", "first"]);
    cli.write("second", &(line(1, "a") + &line(2, "other") + &line(3, "a")));
    let refusal = cli.refused(&["load", "second"]);
    assert!(refusal.contains("second:2:1: ") && refusal.contains("ID_"), "{refusal}");
    assert_eq!(
        cli.out(&["load", "second", "--on-error", "skip"]),
        "loaded 1 events, 1 already there, head 3\n"
    );
}

pub(crate) fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_subscription_follows_and_ends_with_an_interrupt() {
    let cli = Cli::start();
    cli.out(&["append", "--type", "t", "--stream", "s", "--data", "1"]);
    let mut child = piped(cli.command(&["subscribe", "--output", "json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"position\":1"));
    cli.out(&["append", "--type", "t", "--stream", "s", "--data", "2"]);
    assert!(lines.next().unwrap().unwrap().contains("\"position\":2"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_survives_a_kill_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let first = Process::start_on(addr, dir.path());
    let mut command = Command::new(binary());
    command.env_clear().args(["load", "-", "--addr", &addr.to_string()]);
    let mut load = piped(command);
    let mut input = load.stdin.take().unwrap();
    let some: String = (1..=5_000).map(|number| line(number, "a")).collect();
    input.write_all(some.as_bytes()).unwrap();
    let mut log = EventLogClient::new(connect(addr).await);
    let mut events = log
        .subscribe(v1::SubscribeRequest { after: Some(0), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let mut seen = 0;
    while seen < 2_000 {
        if let Some(v1::subscribe_response::Content::Events(batch)) =
            events.message().await.unwrap().unwrap().content
        {
            seen += batch.events.len();
        }
    }
    first.kill();
    let second = Process::start_on(addr, dir.path());
    let rest: String = (5_001..=9_000).map(|number| line(number, "a")).collect();
    input.write_all(rest.as_bytes()).unwrap();
    drop(input);
    let output = load.wait_with_output().unwrap();
    second.kill();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(out.ends_with("head 9000\n"), "{out}{err}");
    let numbers: Vec<u64> = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0] + numbers[1], 9_000, "{out}");
}

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    let output = command.env_clear().env("TMPDIR", dir.path()).args(["demo", "--exit"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    // In this order: the day, the deployment, the comparison, and what is active after each decision.
    let mut rest = &*out;
    for part in [
        "loaded 2522 events",
        "EV 4308",
        "cancelled",
        "17.5 min",
        "12.2 min",
        "3.1 min",
        "departures version 2 is new and is built",
        "caught up: departures version 2",
        "3 of ",
        "airports \"EWR\": different",
        "late_percent: nothing -> ",
        "departures version 2 is active, before version 1",
        "answered by departures version 2, as of ",
        "departures version 1 is active, before version 2",
        "answered by departures version 1, as of ",
        "departures version 2 is active, before version 1",
        "what the reader saw",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not there, or too early, in {out}"));
        rest = &rest[at + part.len()..];
    }
    let count = |what: &str| -> u64 {
        let line = rest.lines().find_map(|line| line.trim().strip_prefix(what));
        let digits: String = line.unwrap_or_else(|| panic!("no {what:?} in {rest}")).split(' ').collect();
        digits.parse().unwrap()
    };
    let (one, two) = (count("answered by version 1"), count("answered by version 2"));
    assert!(one > 0 && two > 0 && count("with a token of the traffic") > 0, "{rest}");
    assert_eq!(one + two, count("all"), "every read was answered by one of both: {rest}");
    for never in ["failed", "as-of went backwards", "token not seen", "document of another version"] {
        assert_eq!(count(never), 0, "{never}: {rest}");
    }
    assert!(!out.contains('\u{1b}'), "no colour where there is no terminal: {out}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the temporary directory is removed");
}
