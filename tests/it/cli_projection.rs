//! `outrigger projection show --wait`, `verify`, `compare`, `build` and `remove` against a node in a process of its own.

use crate::{cli::Cli, support::repository};

fn loaded() -> Cli {
    load(Cli::start())
}

fn load(cli: Cli) -> Cli {
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

#[test]
fn a_pipeline_gates_on_what_is_different() {
    let files = tempfile::tempdir().unwrap();
    let definition = repository().join("examples/airport/projections/departures-v1.yaml");
    let first = std::fs::read_to_string(definition).unwrap();
    let label = "${data.carrier} ${data.number}";
    assert!(first.contains(label));
    let second = first.replace("version: 1", "version: 2").replace(label, "${data.carrier}${data.number}");
    std::fs::write(files.path().join("v1.yaml"), first).unwrap();
    std::fs::write(files.path().join("v2.yaml"), second).unwrap();
    let cli = load(Cli::serving(&[files.path().to_owned()]));
    cli.out(&["projection", "show", "departures", "--wait", "--timeout", "60"]);
    let compare = ["projection", "compare", "departures", "1", "2"];
    let with = |more: &[&'static str]| [&compare[..], more].concat();
    let found = &cli.json(&compare)[0];
    let flights = found["collections"].as_array().unwrap().iter().find(|one| one["name"] == "flights");
    assert_eq!(found["different"], flights.unwrap()["different"], "nothing else is different: {found:?}");
    assert!(found["different"].as_u64().unwrap() > 800 && found["only_left"] == 0, "{found:?}");
    let sample = &found["samples"][0];
    assert_eq!((&sample["kind"], &sample["fields"][0]["path"]), (&"different".into(), &"label".into()));
    let text = cli.out(&with(&["--collection", "flights"]));
    assert!(text.contains("departures version 1 (left) and version 2 (right) at position"), "{text}");
    assert!(
        text.contains("  label: \"9E 3286\" -> \"9E3286\"\n") && text.contains("the first 20 of"),
        "{text}"
    );
    assert!(cli.refused(&with(&["--max-different", "0"])).contains("at most 0 may be"));
    cli.out(&with(&["--max-different", "1000"]));
    let none = cli.json(&with(&["--ignore", "label", "--max-different", "0"]));
    assert_eq!((&none[0]["different"], &none[0]["samples"]), (&0.into(), &serde_json::json!([])));
    assert!(cli.refused(&["projection", "compare", "departures", "1", "3"]).contains("VERSION_NOT_FOUND"));
}

#[test]
fn the_past_is_built_read_and_removed() {
    let cli = loaded();
    let build = ["projection", "build", "departures", "1", "--until", "1000", "--as", "early", "--wait"];
    let built = &cli.json(&build)[0];
    assert_eq!((&built["state"], &built["position"]), (&"standing".into(), &1_000.into()), "{built:?}");
    let count = cli.json(&["count", "departures", "flights", "--label", "early"]);
    assert_eq!(count[0]["context"]["as_of"], 1_000);
    cli.out(&["projection", "show", "departures", "--wait", "--timeout", "60"]);
    let now = cli.json(&["count", "departures", "flights"]);
    assert!(count[0]["count"].as_u64() < now[0]["count"].as_u64(), "{count:?} {now:?}");
    let listed = cli.out(&["projection", "list"]);
    assert!(listed.contains("early") && listed.contains("standing"), "{listed}");
    let shown = cli.json(&["projection", "show", "departures"]);
    assert_eq!(shown.last().unwrap()["label"], "early");
    assert!(cli.refused(&build).contains("LABEL_TAKEN"));
    let recorded = &cli.json(&["read", "--limit", "1"])[0]["recorded_at"];
    let by_time = ["projection", "build", "departures", "1", "--until", recorded.as_str().unwrap(), "--as"];
    let built = &cli.json(&[&by_time[..], &["first", "--wait"]].concat())[0];
    assert!(built["until"].as_u64().unwrap() >= 1, "{built:?}");
    cli.out(&["projection", "remove", "departures", "--label", "early"]);
    assert!(
        cli.refused(&["get", "departures", "airports", "EWR", "--label", "early"])
            .contains("LABEL_NOT_FOUND")
    );
    let wrong = cli.run(&["projection", "build", "departures", "1", "--until", "noon", "--as", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
}
