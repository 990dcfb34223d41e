//! The events of `bench project`: flights of the day, shaped like those of `examples/airport`.
//!
//! A timetable of several thousand flights is flown day after day. Each flight of a day is scheduled; then 1 in 32 is
//! cancelled, the others depart and arrive. A day's flights are interleaved as they would be: between two events of a
//! flight stand a few thousand of others. The same seed gives the same events, but for their ids. Does not know
//! connections.

use bytes::Bytes;

use crate::{api::proto::v1::NewEvent, cli::bench::random::Random};

const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
const CARRIERS: [&str; 16] =
    ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO"];
const DESTINATIONS: u64 = 105;
/// Aircraft to every 1,000 flights of the timetable.
const TAILS_PER_THOUSAND: u64 = 800;
/// Departures and arrivals come so many flights behind what was scheduled, for every 1,000 of the timetable.
const DEPARTED_BEHIND: u64 = 100;
const ARRIVED_BEHIND: u64 = 250;
/// One flight of so many is cancelled.
const CANCELLED_ONE_OF: u64 = 32;

/// A flight of the timetable.
#[derive(Debug)]
struct Flight {
    carrier: &'static str,
    number: u64,
    tail: String,
    origin: &'static str,
    dest: String,
    minute: u64,
    distance_miles: u64,
}

/// All events, in order, without end.
#[derive(Debug)]
pub(in crate::cli::bench) struct Flights {
    timetable: Vec<Flight>,
    random: Random,
    day: u64,
    /// How many flights of the day were scheduled, plus those that would have been since.
    tick: u64,
    /// What happens at this tick: 0 scheduled, 1 departed or cancelled, 2 arrived.
    part: u8,
}

impl Flights {
    /// The events of a timetable of so many flights.
    pub(in crate::cli::bench) fn new(flights: u32, seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let tails = (u64::from(flights) * TAILS_PER_THOUSAND / 1_000).max(1);
        let flight = |number| Flight {
            carrier: CARRIERS[random.below(CARRIERS.len() as u64) as usize],
            number,
            tail: format!("N{:05}", random.below(tails)),
            origin: ORIGINS[random.below(ORIGINS.len() as u64) as usize],
            dest: airport(random.below(DESTINATIONS)),
            minute: 300 + random.below(1_080),
            distance_miles: 100 + random.below(2_500),
        };
        let timetable = (1..=u64::from(flights)).map(flight).collect();
        Self { timetable, random, day: 0, tick: 0, part: 0 }
    }

    /// The key of the flight that an event is about.
    pub(in crate::cli::bench) fn key(event: &NewEvent) -> &str {
        event.stream.strip_prefix("flight-").unwrap_or(&event.stream)
    }

    /// The number in the timetable, if there is such a flight.
    fn flight(&self, behind_per_thousand: u64) -> Option<usize> {
        let count = self.timetable.len() as u64;
        let at = self.tick.checked_sub(count * behind_per_thousand / 1_000)?;
        (at < count).then_some(at as usize)
    }

    /// Whether this flight of this day is cancelled.
    fn is_cancelled(&self, at: usize) -> bool {
        Random::new(self.day, at as u64).below(CANCELLED_ONE_OF) == 0
    }

    fn step(&mut self) {
        self.part += 1;
        if self.part == 3 {
            (self.part, self.tick) = (0, self.tick + 1);
            if self.tick >= self.timetable.len() as u64 * (1_000 + ARRIVED_BEHIND) / 1_000 {
                (self.tick, self.day) = (0, self.day + 1);
            }
        }
    }

    fn event(
        &mut self,
        at: usize,
        event_type: &str,
        data: impl FnOnce(&Flight, &str, &mut Random) -> String,
    ) -> NewEvent {
        let flight = &self.timetable[at];
        let date = date(self.day);
        let key = format!("{}{}-{}-{date}", flight.carrier, flight.number, flight.origin);
        NewEvent {
            id: Some(Bytes::copy_from_slice(&self.random.id())),
            r#type: event_type.to_owned(),
            stream: format!("flight-{key}"),
            tags: vec![
                format!("carrier:{}", flight.carrier),
                format!("origin:{}", flight.origin),
                format!("dest:{}", flight.dest),
                format!("tail:{}", flight.tail),
            ],
            data: data(flight, &key, &mut self.random).into(),
            metadata: None,
            time: None,
        }
    }

    fn scheduled(&mut self, at: usize) -> NewEvent {
        let date = date(self.day);
        self.event(at, "flight.scheduled", |flight, key, _| {
            let Flight { carrier, number, tail, origin, dest, minute, distance_miles } = flight;
            format!(
                r#"{{"flight":"{key}","carrier":"{carrier}","number":{number},"tail":"{tail}","origin":"{origin}","dest":"{dest}","scheduled_departure":"{date}T{:02}:{:02}:00Z","distance_miles":{distance_miles}}}"#,
                minute / 60,
                minute % 60,
            )
        })
    }

    fn departed(&mut self, at: usize) -> NewEvent {
        self.event(at, "flight.departed", |flight, key, random| {
            let Flight { carrier, origin, .. } = flight;
            let delay = random.below(70) as i64 - 15;
            format!(
                r#"{{"flight":"{key}","origin":"{origin}","carrier":"{carrier}","delay_minutes":{delay}}}"#
            )
        })
    }

    fn arrived(&mut self, at: usize) -> NewEvent {
        self.event(at, "flight.arrived", |flight, key, random| {
            let Flight { carrier, dest, distance_miles, .. } = flight;
            let (delay, air) = (random.below(80) as i64 - 20, 20 + distance_miles / 8);
            format!(
                r#"{{"flight":"{key}","dest":"{dest}","carrier":"{carrier}","delay_minutes":{delay},"air_minutes":{air}}}"#
            )
        })
    }

    fn cancelled(&mut self, at: usize) -> NewEvent {
        self.event(at, "flight.cancelled", |flight, key, _| {
            let Flight { carrier, origin, .. } = flight;
            format!(r#"{{"flight":"{key}","origin":"{origin}","carrier":"{carrier}"}}"#)
        })
    }
}

impl Iterator for Flights {
    type Item = NewEvent;

    fn next(&mut self) -> Option<NewEvent> {
        if self.timetable.is_empty() {
            return None;
        }
        loop {
            let part = self.part;
            let at = self.flight([0, DEPARTED_BEHIND, ARRIVED_BEHIND][usize::from(part)]);
            let event = at.and_then(|at| match (part, self.is_cancelled(at)) {
                (0, _) => Some(self.scheduled(at)),
                (1, false) => Some(self.departed(at)),
                (1, true) => Some(self.cancelled(at)),
                (_, false) => Some(self.arrived(at)),
                (_, true) => None,
            });
            self.step();
            if event.is_some() {
                return event;
            }
        }
    }
}

/// Three letters.
fn airport(number: u64) -> String {
    let letter = |number: u64| char::from(b'A' + (number % 26) as u8);
    [letter(number), letter(number / 26), 'X'].iter().collect()
}

/// The date of a day from 0 on: months of 28 days, which no index minds.
fn date(day: u64) -> String {
    let (month, year) = (day / 28 % 12, 2_013 + day / 336);
    format!("{year}-{:02}-{:02}", month + 1, day % 28 + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_flight_of_a_day_has_its_life_in_order() {
        let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in Flights::new(100, 7).take(10_000) {
            crate::json::check_object(&event.data).unwrap();
            lives.entry(Flights::key(&event).to_owned()).or_default().push(event.r#type);
        }
        assert!(lives.len() > 3_000, "{}", lives.len());
        let whole = |life: &[String]| {
            let words: Vec<&str> = life.iter().map(|word| word.trim_start_matches("flight.")).collect();
            matches!(words[..], ["scheduled", "departed", "arrived"] | ["scheduled", "cancelled"])
        };
        let broken = lives.values().filter(|life| !whole(life)).count();
        assert!(broken <= 100, "those of the last day are not over, {broken} are broken");
        let cancelled = lives.values().filter(|life| life.len() == 2).count();
        assert!((50..250).contains(&cancelled), "{cancelled}");
    }

    #[test]
    fn a_seed_gives_the_same_events() {
        let events = |seed| Flights::new(50, seed).take(500).collect::<Vec<_>>();
        assert_eq!(events(3), events(3));
        assert_ne!(events(3), events(4));
    }
}
