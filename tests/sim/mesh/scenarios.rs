//! One scenario for each stop reason and rule, told on a kind bus; and each told once more with the bug that breaks it.

use std::sync::Arc;

use outrigger::{
    append::AppendError,
    mesh::{
        definition::Import,
        envelope::{Envelope, Received, chain_after, from_message, to_message},
        memory::{Fault, Faults, StreamLimits},
        state::{Command, CommandError, ExportState, ImportState, StopReason},
        trust::SigningKey,
    },
    sabotage::Sabotage,
};

use super::{
    check::held,
    node::{SimNode, event, key_of},
    world::{TAKE_WEATHER, World, trust_in},
};

pub(crate) type Outcome = Result<(), String>;
const FLIGHTS: usize = 0;
pub(crate) const WEATHER: usize = 1;
pub(crate) const OPERATIONS: usize = 2;

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    /// A world without faults in which everybody has appended and imported something.
    pub(super) fn kind(sabotage: Option<Sabotage>) -> Self {
        let mut world = Self::new(77, Faults::none(), sabotage);
        for n in 0..60 {
            world.append_some(n % 3);
        }
        world.turn(20);
        world
    }

    /// So many steps of half a second.
    pub(crate) fn turn(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now += 500_000_000;
            for _ in 0..4 {
                for node in &mut self.nodes {
                    node.step(self.now);
                }
            }
        }
    }

    fn newest(&self, stream: &str) -> Envelope {
        let kept = self.broker.messages(stream);
        let events = kept.iter().rev().filter_map(|kept| match from_message(&kept.message) {
            Ok(Received::Event(envelope)) => Some(*envelope),
            _ => None,
        });
        events.max_by_key(|envelope| envelope.place.seq).unwrap()
    }

    /// Puts an event behind the newest of the flights, changed, and signed with this key.
    fn plant(&self, key: &SigningKey, change: impl FnOnce(&mut Envelope)) {
        let newest = self.newest("flights");
        let mut made = newest.clone();
        made.place.seq += 1;
        made.place.position = made.place.position.next();
        made.event.data = bytes::Bytes::from_static(b"{\"n\": 666}");
        change(&mut made);
        made.place.chain = chain_after(&made.place.chain, &made);
        made.signature = Some(key.sign(&made.name, &made.definition, &made.place));
        self.broker.plant("flights", to_message(&made));
    }

    fn stopped_for(&mut self, import: &str) -> Option<StopReason> {
        self.nodes[OPERATIONS].import_status(import, self.now).stop.map(|stop| stop.reason)
    }

    fn has_stopped_for(&mut self, reason: StopReason) -> bool {
        self.nodes[OPERATIONS].life().mesh.stops().any(|(_, stop, _)| stop == reason)
    }

    /// Whether the flights' import has taken something that its owner never appended.
    fn holds_forged(&mut self) -> bool {
        let log = self.nodes[OPERATIONS].log();
        log.iter().any(|recorded| recorded.event.data.windows(3).any(|window| window == b"666"))
    }

    /// A forgery that stops the import for good.
    fn stands(&mut self, reason: StopReason) -> Outcome {
        self.turn(10);
        ensure(!self.holds_forged(), || format!("{reason:?}: what was planted is stored"))?;
        let found = self.stopped_for("flights");
        ensure(found == Some(reason), || format!("expected {reason:?}, found {found:?}"))
    }

    /// A forgery that is noticed and repaired.
    fn mends(&mut self, reason: StopReason) -> Outcome {
        self.turn(10);
        ensure(!self.holds_forged(), || format!("{reason:?}: what was planted is stored"))?;
        ensure(self.has_stopped_for(reason), || format!("{reason:?} was not noticed"))?;
        for owner in 0..30 {
            self.append_some(owner % 2);
        }
        self.settle(100)
    }
}

fn key_of_another_node(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.plant(&key_of("weather"), |_| ());
    world.stands(StopReason::NotOwner)
}

fn unknown_key(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.plant(&key_of("mallory"), |_| ());
    world.mends(StopReason::BadSignature)
}

fn unknown_owner(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::new(78, Faults::none(), sabotage);
    world.nodes[OPERATIONS].trust = trust_in(&["operations", "weather"]);
    for n in 0..60 {
        world.append_some(n % 3);
    }
    world.turn(20);
    let log = world.nodes[OPERATIONS].log();
    ensure(held(&log, "flights").is_empty(), || "events of an unknown owner are stored".into())?;
    let found = world.stopped_for("flights");
    ensure(found == Some(StopReason::UnknownOwner), || format!("found {found:?}"))?;
    let trust = trust_in(&["flights", "operations", "weather"]);
    world.nodes[OPERATIONS].trust = Arc::clone(&trust);
    world.nodes[OPERATIONS].life().mesh.set_trust(trust);
    world.settle(300)
}

fn fork(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.plant(&key_of("flights"), |made| made.place.chain = [9; 32]);
    world.mends(StopReason::Fork)
}

fn old_epoch(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.nodes[FLIGHTS].crash();
    world.append_some(FLIGHTS);
    for _ in 0..8 {
        world.append_some(FLIGHTS);
    }
    world.turn(10);
    world.plant(&key_of("flights"), |made| made.place.epoch -= 1);
    world.mends(StopReason::Regression)
}

fn changed_definition(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.plant(&key_of("flights"), |made| made.definition = [3; 32]);
    world.stands(StopReason::DefinitionChanged)
}

fn gap(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.broker.cut("operations");
    for _ in 0..20 {
        world.append_some(FLIGHTS);
    }
    world.turn(3);
    let kept = world.broker.messages("flights");
    world.broker.remove("flights", kept[kept.len() - 9].sequence);
    world.broker.heal("operations");
    world.turn(20);
    ensure(world.has_stopped_for(StopReason::Gap), || "the gap was not noticed".into())?;
    world.settle(100)
}

fn failing_mapping(sabotage: Option<Sabotage>) -> Outcome {
    const MAPPED: &str = "events:\n  weather.observed:\n    append:\n    - {data: {n: '${data.n}'}}\n";
    let mut world = World::new(79, Faults::none(), sabotage);
    let import = Import::parse(&format!("{TAKE_WEATHER}{MAPPED}"), "weather.yaml").unwrap();
    world.nodes[OPERATIONS].imports[1] = Arc::new(import);
    world.nodes[WEATHER].append(event("weather.observed", 1, "{\"n\": 1}"));
    world.nodes[WEATHER].append(event("weather.observed", 2, "{\"m\": 2}"));
    world.nodes[WEATHER].append(event("weather.observed", 3, "{\"n\": 3}"));
    world.turn(10);
    let now = world.now;
    let operations = &mut world.nodes[OPERATIONS];
    let stop = operations.import_status("weather", now).stop;
    let stop = stop.filter(|stop| stop.reason == StopReason::MappingFailed);
    let stop = stop.ok_or_else(|| "it did not stop".to_owned())?;
    ensure(held(&operations.log(), "weather").len() == 1, || "it went on".into())?;
    let skip = |expect_position| Command::Skip {
        import: "weather".into(),
        expect_position,
        reason: "it has no number".into(),
    };
    let refused = operations.command(skip(stop.position.next()), now);
    let is_refused = matches!(refused, Err(CommandError::OtherPosition { .. }));
    ensure(is_refused, || format!("another position was skipped: {refused:?}"))?;
    operations.command(skip(stop.position), now).map_err(|error| error.to_string())?;
    // What somebody decided holds over a crash.
    operations.crash();
    world.turn(10);
    let lines = held(&world.nodes[OPERATIONS].log(), "weather");
    ensure(lines.len() == 2, || format!("after the skip: {lines:?}"))
}

fn restored_owner(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    let copy = world.nodes[FLIGHTS].disk.kill(1);
    for _ in 0..20 {
        world.append_some(FLIGHTS);
    }
    world.turn(10);
    let before = held(&world.nodes[OPERATIONS].log(), "flights");
    world.nodes[FLIGHTS].life = None;
    world.nodes[FLIGHTS].disk = copy;
    world.turn(10);
    let now = world.now;
    let refused = world.nodes[FLIGHTS].append_now(event("flight.departed", 5_000, "{\"n\": 5000}"));
    let is_refused = matches!(refused, Err(AppendError::LogRewound(_)));
    ensure(is_refused, || format!("LOG_REWOUND was not noticed: {refused:?}"))?;
    let resync = Command::ResyncNode { reason: "the newer copy is lost".into() };
    world.nodes[FLIGHTS].command(resync, now).map_err(|error| error.to_string())?;
    for n in 5_001..5_030 {
        let data = format!("{{\"n\": {n}}}");
        world.nodes[FLIGHTS]
            .append_now(event("flight.departed", n, &data))
            .map_err(|error| error.to_string())?;
    }
    world.turn(80);
    let now = world.now;
    let status = world.nodes[OPERATIONS].import_status("flights", now);
    let divergence = status.stop.filter(|stop| stop.reason == StopReason::StaleEpoch);
    let divergence = divergence.ok_or_else(|| format!("STALE_EPOCH was not noticed: {:?}", status.state))?;
    ensure(divergence.divergence.is_some(), || "it does not say where the histories part".into())?;
    let resync = Command::ResyncImport { import: "flights".into(), reason: "the owner goes on".into() };
    world.nodes[OPERATIONS].command(resync, now).map_err(|error| error.to_string())?;
    world.turn(20);
    let now = world.now;
    let state = world.nodes[OPERATIONS].import_status("flights", now);
    ensure(state.state == ImportState::Following, || format!("after the resync: {state:?}"))?;
    let log = world.nodes[OPERATIONS].log();
    let after = held(&log, "flights");
    ensure(after[..before.len()] == before[..], || "something imported is gone".into())?;
    let numbers: Vec<u64> = after[before.len()..].iter().map(|(.., n)| *n).collect();
    let expected: Vec<u64> = (5_001..5_030)
        .filter(|n| n % 7 != 0)
        .flat_map(|n| std::iter::repeat_n(n, if n % 3 == 0 { 2 } else { 1 }))
        .collect();
    ensure(numbers == expected, || format!("after the resync: {numbers:?}, expected {expected:?}"))?;
    let is_marked = log.iter().any(|recorded| recorded.event.event_type.as_str() == "$import.resynced");
    ensure(is_marked, || "what is orphaned is not marked".into())
}

fn taken_name(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    let trust = trust_in(&["flights", "weather", "operations"]);
    let mut other = SimNode::new("flights", 4_242, &world.broker, &trust);
    other.exports.clone_from(&world.nodes[FLIGHTS].exports);
    other.sabotage = sabotage;
    for n in 1..20 {
        other.append(event("flight.departed", n, &format!("{{\"n\": {n}}}")));
    }
    for _ in 0..20 {
        world.now += 500_000_000;
        for _ in 0..4 {
            other.step(world.now);
        }
    }
    let states: Vec<_> = other.status(world.now).exports.iter().map(|export| export.state).collect();
    ensure(states == [ExportState::NameTaken], || format!("the second node is {states:?}"))?;
    let appended = other.append_now(event("flight.departed", 99, "{\"n\": 99}"));
    ensure(appended.is_ok(), || format!("appends do not go on: {appended:?}"))?;
    for _ in 0..10 {
        world.append_some(FLIGHTS);
    }
    world.settle(100)
}

fn unanswered_publishes(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.broker.set_faults(Faults::none().with(Fault::Unanswered, 1_000_000));
    for _ in 0..20 {
        world.append_some(FLIGHTS);
    }
    world.turn(30);
    let now = world.now;
    let export = world.nodes[FLIGHTS].status(now).exports.remove(0);
    ensure(export.found_again > 0 && export.resent == 0, || {
        format!("found again {}, sent again {}", export.found_again, export.resent)
    })?;
    world.broker.set_faults(Faults::none());
    world.settle(100)
}

fn dropped_publishes(sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(sabotage);
    world.broker.set_faults(Faults::none().with(Fault::Drop, 700_000));
    for _ in 0..30 {
        world.append_some(FLIGHTS);
    }
    world.turn(4);
    world.broker.set_faults(Faults::none());
    world.turn(40);
    let newest = world.newest("flights").place.seq;
    let kept = world.broker.messages("flights");
    let seqs: std::collections::BTreeSet<u64> = kept
        .iter()
        .filter_map(|kept| match from_message(&kept.message) {
            Ok(Received::Event(envelope)) => Some(envelope.place.seq),
            _ => None,
        })
        .collect();
    ensure(seqs.len() as u64 == newest, || format!("the bus has {} of {newest} events", seqs.len()))?;
    world.settle(100)
}

fn late_importer(_: Option<Sabotage>) -> Outcome {
    let mut world = World::new(80, Faults::none(), None);
    let few = StreamLimits { messages_max: 10, ..StreamLimits::default() };
    world.broker.limit("flights", few);
    for _ in 0..400 {
        world.append_some(FLIGHTS);
    }
    for _ in 0..10 {
        world.now += 500_000_000;
        world.nodes[FLIGHTS].step(world.now);
    }
    world.settle(100)?;
    let now = world.now;
    let repair = world.nodes[OPERATIONS].import_status("flights", now).repair;
    ensure(repair.events > 100, || format!("it came from elsewhere: {repair:?}"))
}

fn outage(_: Option<Sabotage>) -> Outcome {
    let mut world = World::kind(None);
    world.broker.cut("flights");
    for n in 6_000..6_300 {
        let data = format!("{{\"n\": {n}}}");
        let appended = world.nodes[FLIGHTS].append_now(event("flight.departed", n, &data));
        ensure(appended.is_ok(), || format!("an append failed without the bus: {appended:?}"))?;
    }
    world.turn(40);
    world.broker.heal("flights");
    world.broker.wipe("weather");
    world.settle(200)
}

/// The scenario holds, and breaks with each of these bugs.
pub(crate) fn check(scenario: fn(Option<Sabotage>) -> Outcome, bugs: &[Sabotage]) {
    scenario(None).unwrap();
    for bug in bugs {
        let outcome = std::panic::catch_unwind(|| scenario(Some(*bug)));
        let is_seen = !matches!(outcome, Ok(Ok(())));
        assert!(is_seen, "{bug:?} went unnoticed");
    }
}

macro_rules! scenarios {
    ($($name:ident: $scenario:ident, [$($bug:ident),*];)*) => {
        $(
            #[test]
            fn $name() {
                check($scenario, &[$(Sabotage::$bug),*]);
            }
        )*
    };
}

scenarios! {
    another_nodes_key_is_no_owners: key_of_another_node, [AcceptForeignKey];
    unknown_key_is_noticed_and_repaired: unknown_key, [SkipSignature];
    unknown_owner_waits_for_the_trust_file: unknown_owner, [AcceptUnknownOwner];
    fork_is_noticed_and_repaired: fork, [IgnoreFork];
    old_epoch_is_a_regression: old_epoch, [AcceptOldEpoch];
    changed_definition_stands: changed_definition, [IgnoreDefinition];
    gap_is_noticed_and_repaired: gap, [IgnoreGap];
    failing_mapping_waits_for_somebody: failing_mapping, [MapWithoutStopping];
    restored_owner_and_its_importer_go_on: restored_owner, [IgnoreRewind, IgnoreStaleEpoch];
    second_node_of_a_name_exports_nothing: taken_name, [IgnoreNameTaken];
    unknown_publishes_are_looked_for: unanswered_publishes, [ResendBlindly];
    dropped_publishes_are_sent_again: dropped_publishes, [ForgetUnknown];
    late_importer_takes_all_from_the_owner: late_importer, [];
    outage_keeps_nobody_from_appending: outage, [];
}
