//! What a broker can do to a publisher and a reader: lands without an answer, reads that lag, a broker that does not fit.

use bytes::Bytes;
use outrigger::mesh::{
    bus::{BusError, BusEvent, Operation},
    memory::{Fault, Faults, MemoryBroker},
    nats::{NatsSettings, StreamSize},
};

use super::peer::{Peer, World, message, publish};
use crate::nats_server::NatsServer;

const A: &str = "outrigger.v1.flights.board.v1.flight.departed";
const ALL: &str = "outrigger.v1.flights.>";

/// A publish fails as unknown, and what landed is read back.
fn check_unknown(owner: &mut Peer, answer_again: impl FnOnce()) {
    let failed = owner.run(publish("flights", message(A, "1"), "1"));
    assert!(matches!(failed, BusEvent::Failed { error: BusError::Unknown(_), .. }), "{failed:?}");
    answer_again();
    loop {
        let last = Operation::Last { stream: "flights".to_owned(), filter: ALL.to_owned() };
        match owner.run(last) {
            BusEvent::Fetched { messages, .. } if messages.is_empty() => {}
            BusEvent::Fetched { messages, .. } => {
                assert_eq!((messages[0].sequence, &messages[0].message), (1, &message(A, "1")));
                break;
            }
            // The connection may have been given up meanwhile.
            BusEvent::Failed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(owner.publish("flights", message(A, "1"), "1"), (1, true));
}

#[test]
fn a_publish_that_lands_unanswered_is_unknown_and_read_back() {
    let broker = MemoryBroker::new(1, Faults::none().with(Fault::Unanswered, 1_000_000));
    let world = World::memory(broker.clone());
    check_unknown(&mut world.peer("flights"), || broker.set_faults(Faults::none()));
    assert_eq!(broker.fault_counts()[&Fault::Unanswered], 1);

    let Some(server) = NatsServer::start() else { return };
    let world = World::nats(server);
    let mut owner = world.peer("flights");
    let World::Nats { server, .. } = &world else { panic!("it is NATS") };
    server.signal("STOP");
    check_unknown(&mut owner, || server.signal("CONT"));
}

#[test]
fn a_reader_gets_everything_from_a_broker_that_lags() {
    let broker = MemoryBroker::new(3, Faults::none().with(Fault::Stale, 500_000));
    let world = World::memory(broker.clone());
    let mut owner = world.peer("flights");
    let mut read = Vec::new();
    for n in 1..=100 {
        owner.publish("flights", message(A, n.to_string()), &n.to_string());
        read.extend(owner.fetch("flights", ALL, read.len() as u64, 500, 1 << 20).0);
    }
    while read.len() < 100 {
        read.extend(owner.fetch("flights", ALL, read.len() as u64, 500, 1 << 20).0);
    }
    let expected: Vec<_> = (1..=100).map(|n| (n, message(A, n.to_string()))).collect();
    assert_eq!(read, expected);
    assert!(broker.fault_counts()[&Fault::Stale] > 10);
}

#[test]
fn a_broker_that_does_not_fit_is_named_and_not_used() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let world = World::nats(server);
    let World::Nats { runtime, .. } = &world else { panic!("it is NATS") };
    // It takes 2 MiB, and more is wanted.
    let settings = NatsSettings { message_bytes_min: 9_000_000, ..NatsSettings::new("flights", &url) };
    check_unfit(&mut Peer::over(settings, runtime), "takes 2097152 bytes in one message, expected 9000000");
    // The stream is there, and not as it has to be.
    runtime.block_on(async {
        let context = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
        let config = async_nats::jetstream::stream::Config {
            name: "OUTRIGGER_flights".to_owned(),
            subjects: vec!["outrigger.v1.flights.>".to_owned()],
            storage: async_nats::jetstream::stream::StorageType::Memory,
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
    });
    let settings =
        NatsSettings { create_stream: Some(StreamSize::default()), ..NatsSettings::new("flights", &url) };
    check_unfit(&mut Peer::over(settings, runtime), "storage is \"memory\", expected \"file\"");
}

fn check_unfit(peer: &mut Peer, expected: &str) {
    let event = peer.wait("a refusal", |event| matches!(event, BusEvent::Disconnected { .. }));
    let BusEvent::Disconnected { reason } = event else { panic!("{event:?}") };
    assert!(reason.contains(expected), "{reason}");
    match peer.run(publish("flights", message(A, Bytes::new()), "1")) {
        BusEvent::Failed { error: BusError::Refused(reason), .. } => {
            assert!(reason.contains(expected), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_without_rights_to_inspect_it_has_a_state_all_the_same() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let world = World::nats(server);
    let mut owner = world.peer("flights");
    let World::Nats { runtime, .. } = &world else { panic!("it is NATS") };
    let mut reader = Peer::over(NatsSettings::new("operations", &url), runtime);
    reader.wait("a connection", |event| *event == BusEvent::Connected);
    let mut check = |expected: (u64, u64)| {
        let state = reader.run(Operation::State { stream: "flights".to_owned() });
        let BusEvent::State { state, .. } = state else { panic!("{state:?}") };
        assert_eq!(
            (state.first_sequence, state.last_sequence, state.created.as_str()),
            (expected.0, expected.1, "")
        );
    };
    check((1, 0));
    for n in 0..3 {
        owner.publish("flights", message(A, n.to_string()), &n.to_string());
    }
    check((1, 3));
    world.limit("flights", 2, false);
    check((2, 3));
}

#[test]
fn a_broker_that_is_replaced_by_an_empty_one_is_used_again() {
    let Some(server) = NatsServer::start() else { return };
    let mut world = World::nats(server);
    let mut owner = world.peer("flights");
    for n in 0..3 {
        owner.publish("flights", message(A, format!("marker {n}")), &n.to_string());
    }
    let marker = b"marker 1";
    let World::Nats { server, .. } = &mut world else { panic!("it is NATS") };
    server.kill();
    let stored = server.stored_bytes();
    assert!(stored.windows(marker.len()).any(|window| window == marker), "{} bytes", stored.len());
    server.wipe_store();
    assert!(server.stored_bytes().is_empty());
    server.restart();
    owner.wait("a loss", |event| matches!(event, BusEvent::Disconnected { .. }));
    owner.wait("a connection", |event| *event == BusEvent::Connected);
    // The node has made its stream anew, and sequences begin again.
    assert_eq!(owner.fetch("flights", ALL, 3, 500, 1 << 20), (vec![], 0));
    assert_eq!(owner.publish("flights", message(A, "1"), "1"), (1, false));
}
