//! `outrigger projection errors`, `retry` and `skip` on a node in a process of its own.

use serde_json::{Value, json};

use crate::cli::Cli;

#[test]
fn an_event_that_cannot_be_applied_is_shown_retried_and_skipped() {
    let cli = Cli::start();
    assert_eq!(cli.out(&["projection", "errors", "departures"]), "no errors\n");
    let refused = cli.refused(&["projection", "retry", "departures"]);
    assert!(refused.contains("NOTHING_TO_RETRY"), "{refused}");
    let data = r#"{"flight":"XX1","origin":"EWR","carrier":"XX","delay_minutes":"many"}"#;
    let event = ["append", "--type", "flight.departed", "--stream", "flight-XX1", "--data"];
    cli.out(&[&event[..], &[data]].concat());
    let error: Value = loop {
        if let Some(error) = cli.json(&["projection", "errors", "departures"]).into_iter().next() {
            break error;
        }
    };
    assert_eq!((&error["kind"], &error["position"]), (&json!("paused"), &json!(1)));
    assert_eq!(error["event"]["data"], serde_json::from_str::<Value>(data).unwrap());
    assert!(error["line"].is_u64() && error["error"].as_str().unwrap().contains("many"), "{error}");

    let table = cli.out(&["projection", "errors", "departures"]);
    assert!(table.contains("paused") && table.contains("flight-XX1"), "{table}");
    let full = cli.out(&["projection", "errors", "departures", "--full"]);
    assert!(
        full.starts_with("position 1: paused: step ") && full.contains(r#""delay_minutes":"many""#),
        "{full}"
    );
    let shown = cli.out(&["projection", "show", "departures"]);
    assert!(shown.contains("stopped at position 1") && shown.contains("the event is {"), "{shown}");
    let shown = cli.json(&["projection", "show", "departures"]);
    assert_eq!(shown[0]["pause"]["event"]["position"], 1);

    let tried = cli.out(&["projection", "retry", "departures", "--version", "1"]);
    assert!(tried.starts_with("tried again\n") && tried.contains("failed"), "{tried}");
    let refused = cli.refused(&["projection", "skip", "departures", "--expect-position", "7"]);
    assert!(refused.contains("STANDS_ELSEWHERE") && refused.contains("position 1"), "{refused}");
    let skip = ["projection", "skip", "departures", "--expect-position", "1", "--reason", "a test"];
    let skipped = cli.out(&skip);
    assert!(skipped.starts_with("decided at position 2: the event at position 1 is skipped\n"), "{skipped}");
    let table = cli.out(&["projection", "errors", "departures"]);
    assert!(table.contains("skipped by the decision at position 2 (a test)"), "{table}");
    let decisions = ["read", "--stream", "$projection-departures", "--system"];
    assert_eq!(cli.json(&decisions)[0]["data"], json!({"version": 1, "position": 1, "reason": "a test"}));
}
