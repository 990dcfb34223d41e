//! The tables of the demo, from documents as the node answered them.

use comfy_table::{Cell, Color, Table};
use jiff::{Timestamp, tz};

use crate::{
    api::proto::v1::Document,
    cli::{
        output::{Align, table},
        text::key_text,
    },
    json::{Json, Object},
};

/// New York in winter, hours from UTC.
const NEW_YORK_HOURS: i8 = -5;
/// From here on a delay is marked.
const LATE_MINUTES: i64 = 15;

/// The departure board: one line a flight, in the order of the answer.
pub(super) fn board_table(flights: &[Document], colour: bool) -> Table {
    let mut rows = table(&[
        ("time", Align::Left),
        ("flight", Align::Left),
        ("to", Align::Left),
        ("status", Align::Left),
        ("delay", Align::Right),
    ]);
    for flight in flights {
        let flight = object(flight);
        let delay = integer(&flight, "departure_delay_minutes");
        let status = text(&flight, "status");
        let mut status_cell = Cell::new(&status);
        let mut delay_cell = Cell::new(delay.map(delay_text).unwrap_or_default());
        if colour {
            if status == "cancelled" || status == "diverted" {
                status_cell = status_cell.fg(Color::Red);
            }
            if delay.is_some_and(|delay| delay >= LATE_MINUTES) {
                delay_cell = delay_cell.fg(Color::Yellow);
            }
        }
        rows.add_row([
            Cell::new(local_time(&text(&flight, "scheduled_departure"))),
            Cell::new(text(&flight, "label")),
            Cell::new(text(&flight, "dest")),
            status_cell,
            delay_cell,
        ]);
    }
    rows
}

/// Airports with their mean delays, and the last temperature there.
pub(super) fn airports_table(airports: &[Document], stations: &[Document]) -> Table {
    let mut rows = table(&[
        ("airport", Align::Left),
        ("scheduled", Align::Right),
        ("departed", Align::Right),
        ("cancelled", Align::Right),
        ("mean delay", Align::Right),
        ("last temperature", Align::Right),
    ]);
    for airport in airports {
        let counts = object(airport);
        let count = |name| integer(&counts, name).unwrap_or_default();
        let departures = count("departures");
        let mean = count("delay_sum") as f64 / departures.max(1) as f64;
        let station = stations.iter().find(|station| station.key == airport.key);
        let temperature = station.and_then(|station| number(&object(station), "last_temp_f"));
        rows.add_row([
            airport.key.as_ref().map(key_text).unwrap_or_default(),
            count("scheduled").to_string(),
            departures.to_string(),
            count("cancelled").to_string(),
            format!("{mean:.1} min"),
            temperature.map(|degrees| format!("{degrees:.0} F")).unwrap_or_default(),
        ]);
    }
    rows
}

/// How late departures are, by airport: fields of version 2.
pub(super) fn late_table(airports: &[Document]) -> Table {
    let mut rows = table(&[
        ("airport", Align::Left),
        ("departed", Align::Right),
        ("late", Align::Right),
        ("share", Align::Right),
    ]);
    for airport in airports {
        let counts = object(airport);
        let count = |name| integer(&counts, name).unwrap_or_default().to_string();
        let share = number(&counts, "late_percent").map(|percent| format!("{percent:.1} %"));
        let key = airport.key.as_ref().map(key_text).unwrap_or_default();
        rows.add_row([key, count("departures"), count("late"), share.unwrap_or_default()]);
    }
    rows
}

/// What another service knows of airports: delays from one owner, weather from another.
pub(super) fn joined_table(airports: &[Document]) -> Table {
    let mut rows = table(&[
        ("airport", Align::Left),
        ("departed", Align::Right),
        ("cancelled", Align::Right),
        ("mean delay", Align::Right),
        ("observations", Align::Right),
        ("last temperature", Align::Right),
        ("last wind", Align::Right),
    ]);
    for airport in airports {
        let joined = object(airport);
        let count = |name| integer(&joined, name).unwrap_or_default().to_string();
        let measured = |name, unit, digits: usize| {
            number(&joined, name).map(|value| format!("{value:.digits$} {unit}")).unwrap_or_default()
        };
        rows.add_row([
            airport.key.as_ref().map(key_text).unwrap_or_default(),
            count("departures"),
            count("cancelled"),
            measured("mean_delay_minutes", "min", 1),
            count("observations"),
            measured("temp_f", "F", 0),
            measured("wind_mph", "mph", 0),
        ]);
    }
    rows
}

/// Whether a document has a field.
pub(super) fn has_field(document: &Document, name: &str) -> bool {
    object(document).get(name).is_some()
}

fn object(document: &Document) -> Object {
    match Json::parse_stored(&document.value) {
        Ok(Json::Object(object)) => object,
        _ => Object::new(),
    }
}

fn text(object: &Object, name: &str) -> String {
    match object.get(name) {
        Some(Json::Text(text)) => text.to_string(),
        _ => String::new(),
    }
}

fn integer(object: &Object, name: &str) -> Option<i64> {
    match object.get(name) {
        Some(Json::Int(number)) => Some(*number),
        _ => None,
    }
}

fn number(object: &Object, name: &str) -> Option<f64> {
    match object.get(name) {
        Some(Json::Int(number)) => Some(*number as f64),
        Some(Json::Double(number)) => Some(*number),
        _ => None,
    }
}

fn delay_text(minutes: i64) -> String {
    match minutes {
        0 => "on time".into(),
        1.. => format!("+{minutes} min"),
        _ => format!("{minutes} min"),
    }
}

/// Hours and minutes in New York.
fn local_time(utc: &str) -> String {
    let time = utc.parse::<Timestamp>().ok();
    time.map_or_else(
        || utc.to_owned(),
        |time| {
            let local = tz::offset(NEW_YORK_HOURS).to_datetime(time);
            format!("{:02}:{:02}", local.hour(), local.minute())
        },
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cli::text::parse_key;

    fn document(key: &str, value: &'static str) -> Document {
        Document {
            key: Some(parse_key(key).unwrap()),
            value: Bytes::from_static(value.as_bytes()),
            position: 1,
        }
    }

    fn check(table: &Table, expected: &[&str]) {
        let lines: Vec<String> = table.lines().collect();
        let line = lines.get(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(line, Some(expected.join(" ")), "{lines:#?}");
    }

    #[test]
    fn the_board_shows_local_times_and_delays() {
        let late = r#"{"departure_delay_minutes":16,"dest":"LAX","label":"UA 7","scheduled_departure":"2013-01-01T21:05:00Z","status":"arrived"}"#;
        check(&board_table(&[document("a", late)], false), &["16:05", "UA 7", "LAX", "arrived", "+16 min"]);
        let cancelled = r#"{"dest":"RDU","label":"EV 1","scheduled_departure":"2013-01-02T00:30:00Z","status":"cancelled"}"#;
        check(&board_table(&[document("a", cancelled)], false), &["19:30", "EV 1", "RDU", "cancelled"]);
        assert_eq!(delay_text(0), "on time");
        assert_eq!(delay_text(-4), "-4 min");
    }

    #[test]
    fn means_are_sums_over_counts() {
        let airport = document("EWR", r#"{"cancelled":2,"delay_sum":5315,"departures":304,"scheduled":306}"#);
        let station = document("EWR", r#"{"last_temp_f":28.04}"#);
        check(&airports_table(&[airport], &[station]), &["EWR", "306", "304", "2", "17.5 min", "28 F"]);
    }

    #[test]
    fn what_is_joined_stands_side_by_side() {
        let airport = document(
            "EWR",
            r#"{"cancelled":1,"departures":304,"mean_delay_minutes":17.48,"observations":22,"temp_f":28.04,"wind_mph":16.1}"#,
        );
        check(&joined_table(&[airport]), &["EWR", "304", "1", "17.5 min", "22", "28 F", "16 mph"]);
    }

    #[test]
    fn shares_are_those_of_the_documents() {
        let airport = document("EWR", r#"{"departures":304,"late":97,"late_percent":31.9}"#);
        assert!(has_field(&airport, "late_percent") && !has_field(&airport, "cancelled"));
        check(&late_table(&[airport]), &["EWR", "304", "97", "31.9 %"]);
        check(&late_table(&[document("JFK", r#"{"departures":1}"#)]), &["JFK", "1", "0"]);
    }
}
