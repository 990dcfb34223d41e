//! The projection `departures` of `examples/airport`, in Rust: the same events, the same documents.
//!
//! Does not know how events come and documents go.

use outrigger::api::proto::v1::{self, key_part::Part};
use serde_json::{Value, json};

use super::kit::{Changes, Document, Name, Projector};

/// The definition that the service brings along.
pub(crate) const DEFINITION: &str = include_str!("../departures-service.yaml");

/// A flight that departs so late is worth an event of its own.
pub(crate) const LATE_MINUTES: i64 = 120;

/// Handles the events of flights.
#[derive(Debug, Default)]
pub(crate) struct Departures;

impl Projector for Departures {
    fn reads(&self, event: &v1::Event, data: &Value) -> Vec<Name> {
        if event.r#type == "flight.scheduled" { vec![route(data)] } else { Vec::new() }
    }

    fn handle(
        &mut self,
        event: &v1::Event,
        data: &Value,
        documents: &[Option<&Document>],
    ) -> Result<Changes, String> {
        let mut changes = Changes::default();
        match event.r#type.as_str() {
            "flight.scheduled" => scheduled(data, documents, &mut changes),
            "flight.departed" => departed(data, &mut changes),
            "flight.arrived" => arrived(data, &mut changes),
            "flight.cancelled" => ended(data, "cancelled", &mut changes),
            "flight.diverted" => ended(data, "diverted", &mut changes),
            other => return Err(format!("events of type {other} are not handled")),
        }
        Ok(changes)
    }
}

fn scheduled(data: &Value, documents: &[Option<&Document>], changes: &mut Changes) {
    let label = format!("{} {}", text(&data["carrier"]), data["number"]);
    let flight = json!({
        "carrier": data["carrier"],
        "number": data["number"],
        "label": label,
        "tail": data["tail"],
        "origin": data["origin"],
        "dest": data["dest"],
        "scheduled_departure": data["scheduled_departure"],
        "distance_miles": data["distance_miles"],
        "status": "scheduled",
    });
    changes.put(flight_of(data), &flight);
    let airport = json!({ "scheduled": 1, "departures": 0, "cancelled": 0, "diverted": 0, "delay_sum": 0 });
    changes.add(airport_of(data), &airport);
    let carrier = json!({
        "scheduled": 1, "departed": 0, "arrived": 0, "cancelled": 0, "diverted": 0, "sum_departure_delay_minutes": 0
    });
    changes.add(carrier_of(data), &carrier);
    let mut route_document = match documents.first() {
        Some(Some(document)) => Value::Object((*document).clone()),
        _ => json!({ "origin": data["origin"], "dest": data["dest"], "flights": 0 }),
    };
    let flights = route_document["flights"].as_i64().unwrap_or_default();
    route_document["flights"] = (flights + 1).into();
    changes.put(route(data), &route_document);
    if let Some(tail) = data["tail"].as_str() {
        changes.add(("tails", key([tail])), &json!({ "flights": 1 }));
    }
    let totals = json!({ "flights": 1, "departed": 0, "arrived": 0, "cancelled": 0, "diverted": 0 });
    changes.add(totals_of(), &totals);
}

fn departed(data: &Value, changes: &mut Changes) {
    let delay = &data["delay_minutes"];
    changes.merge(flight_of(data), &json!({ "status": "departed", "departure_delay_minutes": delay }));
    changes.add(airport_of(data), &json!({ "departures": 1, "delay_sum": delay }));
    changes.add(carrier_of(data), &json!({ "departed": 1, "sum_departure_delay_minutes": delay }));
    if delay.as_i64().is_some_and(|minutes| minutes >= LATE_MINUTES) {
        changes.emits.push(v1::NewEvent {
            r#type: "flight.late".to_owned(),
            stream: format!("late-{}", text(&data["origin"])),
            data: json!({ "flight": data["flight"], "delay_minutes": delay }).to_string().into(),
            ..Default::default()
        });
    }
    changes.add(totals_of(), &json!({ "departed": 1 }));
}

fn arrived(data: &Value, changes: &mut Changes) {
    let delay = &data["delay_minutes"];
    let flight = json!({
        "status": "arrived", "arrival_delay_minutes": delay, "air_minutes": data["air_minutes"]
    });
    changes.merge(flight_of(data), &flight);
    let dest = ("destinations", key([text(&data["dest"])]));
    changes.add(dest, &json!({ "arrivals": 1, "delay_sum": delay }));
    changes.add(carrier_of(data), &json!({ "arrived": 1 }));
    changes.add(totals_of(), &json!({ "arrived": 1 }));
}

/// A flight that did not arrive: cancelled or diverted.
fn ended(data: &Value, status: &str, changes: &mut Changes) {
    changes.merge(flight_of(data), &json!({ "status": status }));
    for name in [airport_of(data), carrier_of(data), totals_of()] {
        changes.add(name, &json!({ status: 1 }));
    }
}

fn flight_of(data: &Value) -> Name {
    ("flights", key([text(&data["flight"])]))
}

fn airport_of(data: &Value) -> Name {
    ("airports", key([text(&data["origin"])]))
}

fn carrier_of(data: &Value) -> Name {
    ("carriers", key([text(&data["carrier"])]))
}

fn totals_of() -> Name {
    ("totals", key(["all"]))
}

fn route(data: &Value) -> Name {
    ("routes", key([text(&data["origin"]), text(&data["dest"])]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A key of these texts.
pub(crate) fn key<const N: usize>(parts: [&str; N]) -> v1::Key {
    let part = |text: &str| v1::KeyPart { part: Some(Part::Text(text.to_owned())) };
    v1::Key { parts: parts.into_iter().map(part).collect() }
}
