//! `outrigger projection show --wait` and `verify` against a node in a process of its own.

use crate::{cli::Cli, support::repository};

fn loaded() -> Cli {
    let cli = Cli::start();
    let events = repository().join("examples/airport/flights-2013-01-01.ndjson");
    cli.out(&["load", events.to_str().unwrap()]);
    cli
}

#[test]
fn a_version_is_waited_for_and_verified() {
    let cli = loaded();
    let shown = cli.json(&["projection", "show", "departures", "--wait", "--timeout", "60"]);
    assert_eq!((&shown[0]["position"], &shown[0]["lag"]), (&shown[0]["head"], &0.into()), "{shown:?}");
    assert_eq!(shown[0].get("seconds_left"), None, "it neither builds nor catches up");
    let verified = cli.json(&["projection", "verify", "departures"]);
    assert_eq!(verified[0]["equal"], true, "{verified:?}");
    for hash in ["content_hash", "documents_hash", "rebuilt_hash"] {
        assert_eq!(verified[0][hash], shown[0]["content_hash"], "{hash}");
    }
    assert!(verified[0]["documents"].as_u64().unwrap() > 900, "{verified:?}");
    let text = cli.out(&["projection", "verify", "departures", "--version", "1"]);
    assert!(text.contains("the same in both builds"), "{text}");
}

#[test]
fn what_cannot_be_waited_for_or_verified_is_refused() {
    let cli = loaded();
    assert!(cli.refused(&["projection", "show", "none", "--wait"]).contains("PROJECTION_NOT_FOUND"));
    let missing = cli.refused(&["projection", "show", "departures", "--wait", "--version", "7"]);
    assert!(missing.contains("has no version 7"), "{missing}");
    assert!(cli.refused(&["projection", "verify", "none"]).contains("PROJECTION_NOT_FOUND"));
    assert!(
        cli.refused(&["projection", "verify", "weather", "--version", "9"]).contains("VERSION_NOT_FOUND")
    );
    // An event that cannot be applied stops the version, and whoever waits is told.
    let data = r#"{"flight":"X","origin":"EWR","carrier":"UA","delay_minutes":"late"}"#;
    cli.out(&["append", "--type", "flight.departed", "--stream", "flight-X", "--data", data]);
    let stopped = cli.refused(&["projection", "show", "departures", "--wait", "--timeout", "60"]);
    assert!(stopped.contains("delay_sum"), "{stopped}");
    let verified = cli.json(&["projection", "verify", "departures"]);
    assert_eq!(verified[0]["equal"], true, "what it applied is what the log says: {verified:?}");
}
