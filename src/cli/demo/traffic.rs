//! The traffic of the demo: flights of the day after, appended at a steady pace while versions come and go.
//!
//! Every request schedules a flight and lets it depart. It does not know who reads.

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Duration, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    api::proto::v1::{AppendRequest, NewEvent, Token, event_log_client::EventLogClient},
    cli::{client::Connection, error::CliError, text::to_line},
};

/// A request every so often.
const PACE: Duration = Duration::from_millis(10);
/// How long an append may take.
const APPEND_MAX: Duration = Duration::from_secs(10);
const AIRPORTS: [&str; 3] = ["EWR", "JFK", "LGA"];
/// Minutes of delay, in turn.
const DELAYS: [i64; 5] = [-3, 0, 4, 21, 95];

/// Appends until it is told to stop, and returns how many events; `newest` has the token of the last one.
pub(super) async fn append(
    mut log: EventLogClient<Connection>,
    newest: watch::Sender<Option<Token>>,
    stop: CancellationToken,
) -> Result<u64, CliError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = 0;
    for number in 1.. {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => break,
        }
        let request = flight(number);
        let count = request.events.len() as u64;
        let appended = timeout(APPEND_MAX, log.append(request)).await.map_err(|_| {
            CliError::failed(format!("an append of the demo took more than {} s", APPEND_MAX.as_secs()))
        })??;
        events += count;
        newest.send_replace(appended.into_inner().token);
    }
    Ok(events)
}

/// A flight that is scheduled and departs.
fn flight(number: usize) -> AppendRequest {
    let origin = AIRPORTS[number % AIRPORTS.len()];
    let delay = DELAYS[number % DELAYS.len()];
    let flight = format!("XX{number}-{origin}-2013-01-02");
    let event = |event_type: &str, data: serde_json::Value| NewEvent {
        id: Some(Bytes::copy_from_slice(Uuid::new_v4().as_bytes())),
        r#type: event_type.into(),
        stream: format!("flight-{flight}"),
        tags: vec!["carrier:XX".into(), format!("origin:{origin}")],
        data: to_line(&data).into(),
        metadata: None,
        time: None,
    };
    let scheduled = serde_json::json!({
        "flight": flight, "carrier": "XX", "number": number, "tail": null, "origin": origin, "dest": "BOS",
        "scheduled_departure": "2013-01-02T15:00:00Z", "distance_miles": 200,
    });
    let departed = serde_json::json!({
        "flight": flight, "origin": origin, "carrier": "XX", "delay_minutes": delay,
    });
    let events = vec![event("flight.scheduled", scheduled), event("flight.departed", departed)];
    AppendRequest { events, ..AppendRequest::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flights_are_as_the_definition_takes_them() {
        let request = flight(4);
        let types: Vec<&str> = request.events.iter().map(|event| event.r#type.as_str()).collect();
        assert_eq!(types, ["flight.scheduled", "flight.departed"]);
        let data: serde_json::Value = serde_json::from_slice(&request.events[1].data).unwrap();
        assert_eq!((&data["origin"], &data["delay_minutes"]), (&"JFK".into(), &95.into()));
        assert_eq!(request.events[0].stream, request.events[1].stream);
        assert_ne!(request.events[0].id, request.events[1].id);
    }
}
