//! The commands that read documents, against a node with a day of flights.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::{cli::Cli, support::repository};

/// The position of the day's last event.
const LAST: &str = "2522";

fn loaded() -> Cli {
    let cli = Cli::start();
    let day = repository().join("examples/airport/flights-2013-01-01.ndjson");
    cli.out(&["load", day.to_str().unwrap()]);
    cli.out(&["get", "departures", "airports", "EWR", "--at-least", LAST]);
    cli
}

#[test]
fn documents_are_counted_streamed_and_cut() {
    let cli = loaded();
    let all = cli.json(&["list", "departures", "flights", "--all", "--fields", "status"]);
    let count = &cli.json(&["count", "departures", "flights"])[0];
    assert_eq!(count["count"], all.len());
    assert_eq!((&count["at_least"], &count["context"]["as_of"]), (&json!(false), &json!(2522)));
    let fields = |value: &Value| value["value"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(all.len() > 800 && all.iter().all(|document| fields(document) == ["status"]));
    let cancelled = all.iter().filter(|document| document["value"]["status"] == "cancelled").count();
    let words = ["count", "departures", "flights", "--index", "by_status", "--eq", "cancelled"];
    assert!(cli.out(&words).starts_with(&format!("{cancelled} documents, departures version 1, as of 2522")));
    let filtered = ["count", "departures", "flights", "--filter", "doc.status == 'cancelled'", "--all"];
    assert_eq!(cli.json(&filtered)[0]["count"], cancelled);
    let table = cli.out(&["list", "departures", "flights", "--all", "--filter", "doc.status == 'cancelled'"]);
    let last = table.lines().last().unwrap();
    assert!(last.contains(&format!("{cancelled} documents of 842 looked at")), "{last}");
    let one = cli.out(&["get", "departures", "airports", "EWR", "--fields", "departures"]);
    assert_eq!(one.trim_end(), r#"{"departures":304}"#);
    assert!(cli.refused(&["count", "departures", "x"]).contains("COLLECTION_NOT_FOUND"));
}

/// A watch and the lines it prints.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watching {
    fn start(cli: &Cli, words: &[&str]) -> Self {
        let words = [&["watch", "departures", "airports", "--output", "json"], words].concat();
        let mut child = cli.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_watch_prints_what_there_is_and_what_comes_and_resumes() {
    let cli = loaded();
    let mut watching = Watching::start(&cli, &[]);
    let keys = [(); 3].map(|()| watching.next()["put"]["key"].clone());
    assert_eq!(keys, ["EWR", "JFK", "LGA"]);
    let complete = watching.next();
    assert_eq!(complete["snapshot_complete"]["position"], 2522);
    let token = complete["resume_token"].as_str().unwrap().to_owned();
    let depart = || {
        let data = r#"{"flight":"XX1","origin":"EWR","carrier":"XX","delay_minutes":5}"#;
        cli.out(&["append", "--type", "flight.departed", "--stream", "flight-XX1", "--data", data]);
    };
    depart();
    let put = watching.next();
    assert_eq!((&put["put"]["key"], &put["put"]["value"]["departures"]), (&json!("EWR"), &json!(305)));
    assert_eq!(watching.next()["changes_complete"]["position"], 2523);
    watching.interrupt();
    depart();
    let mut watching = Watching::start(&cli, &["--after", &token]);
    let put = watching.next();
    assert_eq!((&put["put"]["key"], &put["put"]["value"]["departures"]), (&json!("EWR"), &json!(306)));
    assert_eq!(watching.next()["changes_complete"]["position"], 2524);
    watching.interrupt();
    let wrong = ["watch", "departures", "airports", "--filter", "true", "--after", &token];
    assert!(cli.refused(&wrong).contains("RESUME_TOKEN_MISMATCH"));
}
