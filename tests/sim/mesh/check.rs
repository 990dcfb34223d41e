//! What an importer must hold, told naively from its owner's log, and held against what it holds.

use std::collections::{BTreeMap, BTreeSet};

use outrigger::event::{ImportCursor, RecordedEvent};

use super::node::SimNode;

/// One event of an importer: position at the owner, type, number.
pub(crate) type Line = (u64, String, u64);

/// The number that an event of the simulation carries.
fn number(recorded: &RecordedEvent) -> u64 {
    let text = String::from_utf8_lossy(&recorded.event.data).into_owned();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// What an owner lets out and an importer makes of it, in order.
pub(crate) fn expected(import: &str, owner: &[RecordedEvent]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut parked = BTreeSet::new();
    for recorded in owner.iter().filter(|recorded| recorded.origin.is_none()) {
        let (at, n) = (recorded.position.get(), number(recorded));
        let mut line = |event_type: &str| lines.push((at, event_type.to_owned(), n));
        match (import, recorded.event.event_type.as_str()) {
            ("flights", "flight.departed") if n % 7 != 0 => {
                line("seen.departed");
                if n % 3 == 0 {
                    line("seen.again");
                }
            }
            // Every 61st fails, and what follows in its stream waits.
            ("weather", "weather.observed") => {
                let stream = recorded.event.stream.as_str();
                if n % 61 == 0 || parked.contains(stream) {
                    parked.insert(stream);
                } else {
                    line("weather.observed");
                }
            }
            ("board", "board.note") => line("board.note"),
            _ => {}
        }
    }
    lines
}

/// What an importer holds of an owner, in order.
pub(crate) fn held(log: &[RecordedEvent], owner: &str) -> Vec<Line> {
    let of_owner = log.iter().filter(|recorded| !recorded.event.event_type.is_system());
    let line = |recorded: &RecordedEvent| {
        let origin = recorded.origin.as_ref().filter(|origin| *origin.owner == *owner)?;
        Some((origin.position.get(), recorded.event.event_type.as_str().to_owned(), number(recorded)))
    };
    of_owner.filter_map(line).collect()
}

/// Holds one import against its owner: in order, nothing else, and no cursor ahead of its events.
pub(crate) fn check_import(
    import: &str,
    owner: &mut SimNode,
    importer: &mut SimNode,
    is_whole: bool,
) -> Result<usize, String> {
    let expected = expected(import, &owner.log());
    let log = importer.log();
    let held = held(&log, owner.name);
    let fits = held.len() <= expected.len() && expected[..held.len()] == held[..];
    if !fits || (is_whole && held.len() != expected.len()) {
        let at = held.iter().zip(&expected).take_while(|(held, expected)| held == expected).count();
        return Err(format!(
            "{import}: {} events are held, {} are expected; at {at}: {:?}, expected {:?}",
            held.len(),
            expected.len(),
            held.get(at),
            expected.get(at)
        ));
    }
    check_cursors(import, &log, owner.name, &expected)?;
    Ok(held.len())
}

/// Holds the import of the weather against its owner when all that was parked has been applied late: everything is there
/// once, each stream in its owner's order.
pub(crate) fn check_late(owner: &mut SimNode, importer: &mut SimNode) -> Result<usize, String> {
    let by_stream = |lines: Vec<(u64, u64)>| {
        let mut streams: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (at, n) in lines {
            streams.entry(n % 5).or_default().push((at, n));
        }
        streams
    };
    let of_owner = owner.log();
    let own = of_owner.iter().filter(|recorded| recorded.event.event_type.as_str() == "weather.observed");
    let expected = by_stream(own.map(|recorded| (recorded.position.get(), number(recorded))).collect());
    let log = importer.log();
    let held = held(&log, owner.name);
    let count = held.len();
    let found = by_stream(held.into_iter().map(|(at, _, n)| (at, n)).collect());
    if found != expected {
        return Err(format!("weather after a retry: {found:?}, expected {expected:?}"));
    }
    check_cursors("weather", &log, owner.name, &self::expected("weather", &of_owner))?;
    Ok(count)
}

/// At every cursor in the log, everything that it covers stands before it.
fn check_cursors(import: &str, log: &[RecordedEvent], owner: &str, expected: &[Line]) -> Result<(), String> {
    let mut count = 0;
    let mut newest: BTreeMap<u32, ImportCursor> = BTreeMap::new();
    for recorded in log {
        let is_of = recorded.origin.as_ref().is_some_and(|origin| *origin.owner == *owner);
        count += usize::from(is_of && !recorded.event.event_type.is_system());
        let Some(cursor) = recorded.cursor.as_ref().filter(|cursor| *cursor.owner == *owner) else {
            continue;
        };
        let covered = expected.iter().filter(|(at, ..)| *at <= cursor.position.get()).count();
        if covered > count {
            return Err(format!(
                "{import}: the cursor at position {} covers {covered} events, and {count} are there",
                recorded.position
            ));
        }
        if newest.get(&cursor.generation).is_some_and(|before| before.seq >= cursor.seq) {
            return Err(format!("{import}: the cursor at position {} does not advance", recorded.position));
        }
        newest.insert(cursor.generation, (**cursor).clone());
    }
    Ok(())
}

/// No event is there of an owner that is none.
pub(crate) fn check_owners(log: &[RecordedEvent], owners: &[&str]) -> Result<(), String> {
    let foreign = log
        .iter()
        .find(|recorded| recorded.origin.as_ref().is_some_and(|origin| !owners.contains(&&*origin.owner)));
    foreign.map_or(Ok(()), |recorded| Err(format!("the event at position {} is foreign", recorded.position)))
}
