//! Quarantine of imports: what stays parked, what is applied late and in which order, over crashes and decisions.

use std::sync::Arc;

use outrigger::{
    event::Position,
    limits::IMPORT_PARKED_EVENTS_MAX,
    mesh::{
        definition::Import,
        memory::Faults,
        quarantine::Counts,
        state::{Command, CommandError, ImportState, StopReason},
    },
    sabotage::Sabotage,
};

use super::{
    check::{Line, held},
    node::{SimNode, event},
    scenarios::{OPERATIONS, Outcome, WEATHER, check, ensure},
    world::{TAKE_WEATHER, World},
};

/// Events with these numbers, in streams by the number's rest by five.
fn observed(world: &mut World, numbers: &[u64]) {
    for n in numbers {
        world.nodes[WEATHER].append(event("weather.observed", *n, &format!("{{\"n\": {n}}}")));
    }
    world.turn(8);
}

fn numbers(operations: &mut SimNode) -> Vec<u64> {
    held(&operations.log(), "weather").into_iter().map(|(_, _, n): Line| n).collect()
}

fn counts(world: &mut World) -> (u64, u64, u64) {
    let now = world.now;
    let Counts { parked_events, parked_streams, skipped } =
        world.nodes[OPERATIONS].import_status("weather", now).aside;
    (parked_events, parked_streams, skipped)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    ensure(found == expected, || format!("{what}: {found:?}, expected {expected:?}"))
}

fn retry() -> Command {
    Command::Retry { import: "weather".into(), reason: "the file is mended".into() }
}

fn skip(expect_position: Position) -> Command {
    Command::Skip { import: "weather".into(), expect_position, reason: "nobody misses it".into() }
}

/// From now on the import takes everything as it comes.
fn mend(world: &mut World) {
    let operations = &mut world.nodes[OPERATIONS];
    operations.imports[1] = Arc::new(Import::parse(TAKE_WEATHER, "weather.yaml").unwrap());
    let imports = operations.imports.clone();
    operations.life().mesh.set_imports(imports);
}

/// 61 and 122 fail (streams s-1 and s-2); 1, 6, 66 and 2, 7 are of the same streams.
fn parked_streams(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::new(81, Faults::none(), sabotage);
    observed(&mut world, &[1, 61, 2, 6, 3, 122, 7, 66, 4, 8]);
    same("held", &numbers(&mut world.nodes[OPERATIONS]), &vec![1, 2, 3, 4, 8])?;
    same("parked", &counts(&mut world), &(5, 2, 0))?;
    let now = world.now;
    let state = world.nodes[OPERATIONS].import_status("weather", now).state;
    same("state", &state, &ImportState::Following)?;

    // A retry under the same definition changes nothing, and is over once everything was tried.
    world.nodes[OPERATIONS].command(retry(), now).map_err(|error| error.to_string())?;
    world.turn(4);
    same("parked after a retry in vain", &counts(&mut world), &(5, 2, 0))?;
    world.nodes[OPERATIONS].crash();
    observed(&mut world, &[9, 11, 12]);
    same("held after a crash", &numbers(&mut world.nodes[OPERATIONS]), &vec![1, 2, 3, 4, 8, 9])?;
    same("parked after a crash", &counts(&mut world), &(7, 2, 0))?;

    // 122 is passed by: what waits behind it in its stream comes, and nothing of the other stream.
    let now = world.now;
    let weather = world.nodes[WEATHER].log();
    let at = |n: &str| {
        let text = format!("{{\"n\": {n}}}");
        weather.iter().find(|recorded| *recorded.event.data == *text.as_bytes()).unwrap().position
    };
    let refused = world.nodes[OPERATIONS].command(skip(at("7")), now);
    let expected = Err(CommandError::OtherPosition { expected: at("7"), actual: at("61") });
    same("one that waits is skipped", &refused, &expected)?;
    world.nodes[OPERATIONS].command(skip(at("122")), now).map_err(|error| error.to_string())?;
    world.turn(4);
    same("held after a skip", &numbers(&mut world.nodes[OPERATIONS]), &vec![1, 2, 3, 4, 8, 9, 7, 12])?;
    same("parked after a skip", &counts(&mut world), &(4, 1, 1))?;

    mend(&mut world);
    world.turn(4);
    same("a mended file alone applies nothing", &counts(&mut world), &(4, 1, 1))?;
    let now = world.now;
    world.nodes[OPERATIONS].command(retry(), now).map_err(|error| error.to_string())?;
    world.nodes[OPERATIONS].crash();
    observed(&mut world, &[16]);
    let all = vec![1, 2, 3, 4, 8, 9, 7, 12, 61, 6, 66, 11, 16];
    same("held at the end", &numbers(&mut world.nodes[OPERATIONS]), &all)?;
    same("parked at the end", &counts(&mut world), &(0, 0, 1))?;
    let now = world.now;
    let refused = world.nodes[OPERATIONS].command(retry(), now);
    ensure(matches!(refused, Err(CommandError::NothingToRetry(_))), || {
        format!("nothing to retry: {refused:?}")
    })
}

/// As many events are parked as may be; the next one stops the import, and a decision makes room.
fn full_quarantine(_: Option<Sabotage>) -> Outcome {
    let mut world = World::new(82, Faults::none(), None);
    for node in &mut world.nodes {
        node.run_events = 8_192;
    }
    let count = IMPORT_PARKED_EVENTS_MAX as u64 + 5;
    for n in 0..count {
        let data = format!("{{\"n\": {}}}", 61 + 5 * n);
        world.nodes[WEATHER].append(event("weather.observed", 61 + 5 * n, &data));
    }
    let mut stop = None;
    for _ in 0..100 {
        world.turn(1);
        let now = world.now;
        stop = world.nodes[OPERATIONS].import_status("weather", now).stop;
        if stop.is_some() {
            break;
        }
    }
    let stop = stop.ok_or("it did not stop when the quarantine was full")?;
    same("reason", &stop.reason, &StopReason::MappingFailed)?;
    ensure(stop.message.contains("10000 events are parked already"), || stop.message.clone())?;
    same("parked", &counts(&mut world), &(IMPORT_PARKED_EVENTS_MAX as u64, 1, 0))?;
    mend(&mut world);
    let now = world.now;
    world.turn(1);
    world.nodes[OPERATIONS].command(retry(), now).map_err(|error| error.to_string())?;
    for _ in 0..100 {
        world.turn(1);
        let now = world.now;
        let status = world.nodes[OPERATIONS].import_status("weather", now);
        if status.aside.parked_events == 0 && status.cursor.is_some_and(|cursor| cursor.seq == count) {
            break;
        }
    }
    let held = numbers(&mut world.nodes[OPERATIONS]);
    let in_order = held.iter().copied().eq((0..count).map(|n| 61 + 5 * n));
    ensure(in_order, || format!("{} events are held, of {count}, or in another order", held.len()))
}

#[test]
fn parked_streams_wait_and_the_rest_goes_on() {
    check(parked_streams, &[Sabotage::ApplyBehindParked]);
}

#[test]
fn full_quarantine_stops_the_import() {
    check(full_quarantine, &[]);
}
