//! The airport as three services over a real broker: `examples/airport/run`, as its README says, against sums over the raw
//! files.

mod month;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::{
    nats_server,
    support::{binary, repository},
};

/// Departures, cancellations, the sum of delays, and observations.
#[derive(Debug, Default)]
struct Airport {
    departures: u64,
    cancelled: u64,
    delay_minutes: i64,
    observations: u64,
}

fn from_raw_files() -> BTreeMap<String, Airport> {
    let mut airports: BTreeMap<String, Airport> = BTreeMap::new();
    for file in ["flights-2013-01-01.ndjson", "weather-2013-01-01.ndjson"] {
        let text = fs::read_to_string(repository().join("examples/airport").join(file)).unwrap();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let data = &event["data"];
            let of = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
            match event["type"].as_str().unwrap() {
                "flight.departed" => {
                    let airport = airports.entry(of("origin")).or_default();
                    airport.departures += 1;
                    airport.delay_minutes += data["delay_minutes"].as_i64().unwrap();
                }
                "flight.cancelled" => airports.entry(of("origin")).or_default().cancelled += 1,
                "weather.observed" => airports.entry(of("station")).or_default().observations += 1,
                _ => {}
            }
        }
    }
    airports
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn three_services_join_delays_and_weather() {
    if nats_server::program().is_none() {
        return;
    }
    let mut command = Command::new(repository().join("examples/airport/run"));
    let output = command.env("OUTRIGGER", binary()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let airports = from_raw_files();
    assert_eq!(airports.len(), 3);
    let exported: u64 = airports.values().map(|airport| airport.departures + airport.cancelled).sum();
    assert!(
        text.contains(&format!("flights/departures v1  publishing, {exported} published"))
            || text.contains(&format!("flights/departures v1  following, {exported} published")),
        "{text}"
    );
    for (name, airport) in airports {
        let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        let row: Vec<&str> =
            row.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect();
        let mean: f64 = row[3].parse().unwrap();
        assert_eq!(row[1].parse(), Ok(airport.cancelled), "{row:?}");
        assert_eq!(row[2].parse(), Ok(airport.departures), "{row:?}");
        assert!((mean - airport.delay_minutes as f64 / airport.departures as f64).abs() < 1e-9, "{row:?}");
        assert_eq!(row[4].parse(), Ok(airport.observations), "{row:?}");
    }
    assert!(text.contains("It was refused."), "{text}");
}
