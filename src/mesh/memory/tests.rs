//! Tests of the faults: each takes effect, is counted, and comes the same way again under the same seed.

use super::*;
use crate::mesh::bus::BusError;

fn message(subject: &str, payload: &str) -> Message {
    let headers = vec![("ce-id".to_owned(), "7".to_owned())];
    Message { subject: subject.to_owned(), headers, payload: payload.to_owned().into() }
}

fn publish(n: u32) -> Operation {
    Operation::Publish {
        stream: "flights".to_owned(),
        message: message("outrigger.v1.flights.f.v1.x", &format!("payload {n}")),
        message_id: format!("{n}"),
    }
}

fn fetch() -> Operation {
    let filter = "outrigger.v1.flights.>".to_owned();
    Operation::Fetch { stream: "flights".to_owned(), filter, after: 0, messages_max: 500, bytes_max: 1 << 14 }
}

/// Two nodes do a bit of everything; all that they saw, and what faults took effect.
fn run(seed: u64, faults: Faults) -> (Vec<BusEvent>, BTreeMap<Fault, u64>) {
    let broker = MemoryBroker::new(seed, faults);
    let nodes = [broker.connect("flights"), broker.connect("operations")];
    let mut seen = Vec::new();
    let mut now = 1_000_000_000;
    nodes[1].submit(Operation::Listen { filter: "outrigger.hint.>".to_owned() }).unwrap();
    nodes[0].submit(Operation::Serve { filter: "outrigger.repair.flights".to_owned() }).unwrap();
    for n in 0..400 {
        let hint = Operation::Announce { message: message("outrigger.hint.flights", &n.to_string()) };
        let ask = message("outrigger.repair.flights", "?");
        for (node, operation) in [
            (0, publish(n)),
            (0, hint),
            (1, fetch()),
            (1, Operation::Ask { message: ask, timeout_nanos: 1_000_000_000 }),
        ] {
            nodes[node].submit(operation).unwrap();
        }
        now += 1_000_000;
        for node in &nodes {
            let events = node.poll(now);
            for event in &events {
                if let BusEvent::Asked { asked, .. } = event {
                    for last in [false, true] {
                        let message = message("", if last { "last" } else { "first" });
                        nodes[0].submit(Operation::Answer { asked: *asked, message, last }).unwrap();
                    }
                }
            }
            seen.extend(events);
        }
    }
    while let Some(due) = broker.next_due_unix_nanos() {
        now = due;
        for node in &nodes {
            seen.extend(node.poll(now));
        }
    }
    (seen, broker.fault_counts())
}

#[test]
fn the_same_seed_does_the_same() {
    let faults = Faults::all(50_000);
    let (first, counts) = run(7, faults.clone());
    assert_eq!((first.clone(), counts), run(7, faults.clone()));
    assert_ne!(first, run(8, faults).0);
}

#[test]
fn every_fault_takes_effect_and_is_counted() {
    let mut faults = Faults::all(50_000).with(Fault::Halve, 5_000).with(Fault::Wipe, 5_000);
    faults.outage_max = std::time::Duration::from_millis(20);
    let (_, counts) = run(1, faults);
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Limit) {
        assert!(counts.contains_key(&fault), "no {} in {counts:?}", fault.name());
    }
    assert_eq!(run(1, Faults::none()).1, BTreeMap::new());
}

#[test]
fn every_operation_ends_once_under_all_faults() {
    for seed in 0..20 {
        let broker = MemoryBroker::new(seed, Faults::all(100_000));
        let node = broker.connect("flights");
        let (mut tickets, mut ended) = (Vec::new(), Vec::new());
        let mut now = 1;
        for n in 0..200 {
            tickets.extend(node.submit(publish(n)));
            tickets.extend(node.submit(fetch()));
            now += 1_000_000;
            ended.extend(node.poll(now));
        }
        while let Some(due) = broker.next_due_unix_nanos() {
            ended.extend(node.poll(due));
        }
        let mut ended: Vec<_> = ended
            .iter()
            .filter_map(|event| match event {
                BusEvent::Published { ticket, .. }
                | BusEvent::Fetched { ticket, .. }
                | BusEvent::Failed { ticket, .. } => Some(*ticket),
                _ => None,
            })
            .collect();
        ended.sort();
        assert_eq!(tickets, ended, "seed {seed}");
    }
}

#[test]
fn a_late_message_lands_after_its_failure() {
    let broker = MemoryBroker::new(1, Faults::none().with(Fault::Late, 1_000_000));
    let node = broker.connect("flights");
    node.poll(1);
    node.submit(publish(1)).unwrap();
    let due = broker.next_due_unix_nanos().unwrap();
    let events = node.poll(due);
    assert!(matches!(&events[..], [BusEvent::Failed { error: BusError::Unknown(_), .. }]), "{events:?}");
    node.poll(broker.next_due_unix_nanos().unwrap_or(due));
    assert_eq!(broker.messages("flights").len(), 1);
    assert_eq!(broker.fault_counts(), BTreeMap::from([(Fault::Late, 1)]));
}

#[test]
fn old_messages_give_way_and_are_counted() {
    let broker = MemoryBroker::new(1, Faults::none());
    let node = broker.connect("flights");
    broker.limit("flights", StreamLimits { messages_max: 3, ..StreamLimits::default() });
    for n in 0..5 {
        node.submit(publish(n)).unwrap();
    }
    let kept: Vec<_> = broker.messages("flights").iter().map(|kept| kept.sequence).collect();
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(broker.fault_counts(), BTreeMap::from([(Fault::Limit, 2)]));
}

#[test]
fn the_operators_hand_reaches_a_stream() {
    let broker = MemoryBroker::new(1, Faults::none());
    let node = broker.connect("flights");
    node.submit(publish(1)).unwrap();
    broker.plant("flights", message("outrigger.v1.flights.f.v1.x", "forged"));
    let before = broker.messages("flights");
    assert!(broker.corrupt("flights", 0) && !broker.corrupt("flights", 9));
    assert_ne!(broker.messages("flights")[0], before[0]);
    assert!(broker.remove("flights", 1) && !broker.remove("flights", 1));
    assert_eq!(broker.messages("flights"), before[1..]);
}

#[test]
fn without_faults_those_concerned_are_woken_at_once() {
    let broker = MemoryBroker::new(1, Faults::none());
    let (flights, operations) = (broker.connect("flights"), broker.connect("operations"));
    operations.submit(Operation::Listen { filter: "outrigger.hint.>".to_owned() }).unwrap();
    let woken = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&woken);
    operations.on_event(Box::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    let before = woken.load(std::sync::atomic::Ordering::Relaxed);
    flights.submit(Operation::Announce { message: message("outrigger.hint.flights", "1") }).unwrap();
    assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), before + 1);
    let heard = operations.poll(1);
    assert!(heard.iter().any(|event| matches!(event, BusEvent::Heard { .. })), "{heard:?}");
}
