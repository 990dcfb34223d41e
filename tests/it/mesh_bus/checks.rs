//! What every transport has to do: streams, announcements, questions, losses of the connection, bounds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use outrigger::{
    limits::{BUS_LISTENERS_MAX, BUS_OPERATIONS_MAX, BUS_UNPOLLED_MAX},
    mesh::bus::{BusError, BusEvent, BusFull, Message, Operation, StreamState},
};

use super::{
    on_both,
    peer::{Peer, final_ticket, message, publish},
};

const A: &str = "outrigger.v1.flights.board.v1.flight.departed";
const B: &str = "outrigger.v1.flights.crew.v1.crew.changed";
const ALL: &str = "outrigger.v1.flights.>";
const MIB: usize = 1 << 20;

fn state(peer: &mut Peer, node: &str) -> StreamState {
    match peer.run(Operation::State { stream: node.to_owned() }) {
        BusEvent::State { state, .. } => state,
        other => panic!("{other:?}"),
    }
}

fn last(peer: &mut Peer, filter: &str) -> Option<(u64, Message)> {
    match peer.run(Operation::Last { stream: "flights".to_owned(), filter: filter.to_owned() }) {
        BusEvent::Fetched { messages, .. } => {
            assert!(messages.len() <= 1, "{messages:?}");
            messages.into_iter().next().map(|kept| (kept.sequence, kept.message))
        }
        other => panic!("{other:?}"),
    }
}

fn error(event: BusEvent) -> BusError {
    match event {
        BusEvent::Failed { error, .. } => error,
        other => panic!("expected a failure, found {other:?}"),
    }
}

fn sequences(messages: &[(u64, Message)]) -> Vec<u64> {
    messages.iter().map(|(sequence, _)| *sequence).collect()
}

#[test]
fn what_is_published_is_fetched() {
    on_both(|world| {
        let (mut owner, mut reader) = (world.peer("flights"), world.peer("operations"));
        let sent: Vec<Message> =
            (0..5).map(|n| message(if n % 2 == 0 { A } else { B }, format!("{n}"))).collect();
        // All at once: they land in the order in which they were submitted.
        let tickets: Vec<_> = sent
            .iter()
            .enumerate()
            .map(|(n, message)| owner.submit(publish("flights", message.clone(), &n.to_string())))
            .collect();
        for (ticket, expected) in tickets.into_iter().zip(1..) {
            assert_eq!(
                owner.end_of(ticket),
                BusEvent::Published { ticket, sequence: expected, duplicate: false }
            );
        }
        let (messages, end) = reader.fetch("flights", ALL, 0, 500, MIB);
        assert_eq!((sequences(&messages), end), (vec![1, 2, 3, 4, 5], 5));
        assert_eq!(messages.into_iter().map(|(_, message)| message).collect::<Vec<_>>(), sent);
        let board = "outrigger.v1.flights.board.v1.>";
        assert_eq!(sequences(&reader.fetch("flights", board, 1, 500, MIB).0), [3, 5]);
        assert_eq!(sequences(&reader.fetch("flights", B, 0, 500, MIB).0), [2, 4]);
        // A part says that there is more behind it.
        let (part, end) = reader.fetch("flights", ALL, 1, 2, MIB);
        assert_eq!((sequences(&part), end), (vec![2, 3], 5));
        let (part, end) = reader.fetch("flights", board, 0, 1, MIB);
        assert_eq!((sequences(&part), end > 1), (vec![1], true), "{end}");
        assert_eq!(sequences(&reader.fetch("flights", ALL, 1, 1, MIB).0), [2]);
        // A message that is larger than what was asked for comes all the same.
        assert_eq!(sequences(&reader.fetch("flights", ALL, 1, 500, 1).0), [2]);
        assert_eq!(reader.fetch("flights", ALL, 5, 500, MIB), (vec![], 5));
        assert_eq!(reader.fetch("flights", ALL, 99, 500, MIB), (vec![], 5));
        assert_eq!(last(&mut reader, board), Some((5, sent[4].clone())));
        assert_eq!(last(&mut reader, B), Some((4, sent[3].clone())));
        assert_eq!(last(&mut reader, "outrigger.v1.flights.none.>"), None);
        let state = state(&mut reader, "flights");
        assert_eq!((state.first_sequence, state.last_sequence), (1, 5));
    });
}

#[test]
fn an_empty_stream_says_so() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        assert_eq!(owner.fetch("flights", ALL, 0, 500, MIB), (vec![], 0));
        assert_eq!(last(&mut owner, ALL), None);
        let state = state(&mut owner, "flights");
        assert_eq!((state.first_sequence, state.last_sequence), (1, 0));
    });
}

#[test]
fn a_message_lands_once_by_its_id() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        assert_eq!(owner.publish("flights", message(A, "1"), "x"), (1, false));
        assert_eq!(owner.publish("flights", message(A, "2"), "y"), (2, false));
        assert_eq!(owner.publish("flights", message(A, "1"), "x"), (1, true));
        assert_eq!(owner.fetch("flights", ALL, 0, 500, MIB).0.len(), 2);
    });
}

#[test]
fn what_is_not_there_is_not_found() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        let stream = || "nobody".to_owned();
        for operation in [
            Operation::Fetch {
                stream: stream(),
                filter: ALL.to_owned(),
                after: 0,
                messages_max: 1,
                bytes_max: 1,
            },
            Operation::Last { stream: stream(), filter: ALL.to_owned() },
            Operation::State { stream: stream() },
            publish("flights", message("outrigger.v2.flights.x", ""), "1"),
            Operation::Ask { message: message("outrigger.repair.nobody", ""), timeout_nanos: 10_000_000_000 },
        ] {
            let found = error(owner.run(operation.clone()));
            assert!(matches!(found, BusError::NotFound(_)), "{operation:?}: {found:?}");
        }
    });
}

#[test]
fn a_stream_that_was_wiped_begins_again() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        for n in 1..=3 {
            assert_eq!(owner.publish("flights", message(A, n.to_string()), &n.to_string()), (n, false));
        }
        let before = state(&mut owner, "flights");
        world.wipe("flights");
        let wiped = state(&mut owner, "flights");
        assert_ne!(before.created, wiped.created);
        assert_eq!((wiped.first_sequence, wiped.last_sequence), (1, 0));
        // Sequence and id are used again, for another message.
        assert_eq!(owner.publish("flights", message(A, "other"), "1"), (1, false));
        assert_eq!(owner.fetch("flights", ALL, 3, 500, MIB), (vec![], 1));
        assert_eq!(owner.fetch("flights", ALL, 0, 500, MIB).0, [(1, message(A, "other"))]);
    });
}

#[test]
fn a_message_that_is_too_large_is_refused_by_size() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        let large = Bytes::from(vec![b'x'; 3 * MIB]);
        for operation in [
            publish("flights", message(A, large.clone()), "1"),
            Operation::Announce { message: message("outrigger.hint.flights", large) },
        ] {
            match error(owner.run(operation)) {
                BusError::TooLarge { bytes, bytes_max } => assert!(bytes > 3 * MIB && bytes_max < bytes),
                other => panic!("{other:?}"),
            }
        }
        // The largest event with what goes with it passes.
        let fits = Bytes::from(vec![b'x'; MIB + 16 * 1_024]);
        assert_eq!(owner.publish("flights", message(A, fits.clone()), "2"), (1, false));
        assert_eq!(owner.fetch("flights", ALL, 0, 500, MIB).0, [(1, message(A, fits))]);
    });
}

#[test]
fn a_full_stream_drops_its_oldest_or_refuses() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        world.limit("flights", 3, false);
        for n in 1..=5 {
            owner.publish("flights", message(A, n.to_string()), &n.to_string());
        }
        assert_eq!(sequences(&owner.fetch("flights", ALL, 0, 500, MIB).0), [3, 4, 5]);
        assert_eq!(state(&mut owner, "flights").first_sequence, 3);
        world.limit("flights", 3, true);
        let refused = error(owner.run(publish("flights", message(A, "6"), "6")));
        assert!(matches!(refused, BusError::Refused(_)), "{refused:?}");
        assert_eq!(sequences(&owner.fetch("flights", ALL, 0, 500, MIB).0), [3, 4, 5]);
    });
}

#[test]
fn announcements_are_heard_by_those_who_listen() {
    on_both(|world| {
        let (mut owner, mut other) = (world.peer("flights"), world.peer("operations"));
        let hint = |n: u32| Operation::Announce {
            message: message("outrigger.hint.flights.board.v1", n.to_string()),
        };
        owner.run(hint(1));
        // What follows on the same connection is answered, so the hint has passed by.
        owner.publish("flights", message(A, "1"), "1");
        let listener = other.listen(Operation::Listen { filter: "outrigger.hint.flights.>".to_owned() });
        let deaf = other.listen(Operation::Listen { filter: "outrigger.hint.weather.>".to_owned() });
        // A repeated one is heard again: nobody takes it for the same.
        for n in [2, 2, 3] {
            owner.run(hint(n));
        }
        for n in ["2", "2", "3"] {
            match other.wait("a hint", |event| matches!(event, BusEvent::Heard { .. })) {
                BusEvent::Heard { ticket, message: heard } => {
                    assert_eq!((ticket, heard), (listener, message("outrigger.hint.flights.board.v1", n)));
                }
                event => panic!("{event:?}"),
            }
        }
        other.forget(listener);
        let again = other.submit(Operation::Forget { ticket: listener });
        let failed = other.end_of(again);
        assert!(matches!(error(failed), BusError::NotFound(_)));
        owner.run(hint(4));
        // What was sent behind it has come, so it would have.
        other.listen(Operation::Listen { filter: "outrigger.hint.none".to_owned() });
        assert_eq!(other.count(|event| matches!(event, BusEvent::Heard { .. })), 0);
        assert_ne!(listener, deaf);
    });
}

#[test]
fn questions_are_answered_in_parts() {
    on_both(|world| {
        let (mut owner, mut asker) = (world.peer("flights"), world.peer("operations"));
        let question = || message("outrigger.repair.flights", "after 7");
        let ask = |timeout_nanos| Operation::Ask { message: question(), timeout_nanos };
        let service = owner.listen(Operation::Serve { filter: "outrigger.repair.flights".to_owned() });
        let asking = asker.submit(ask(30_000_000_000));
        let asked = match owner.wait("a question", |event| matches!(event, BusEvent::Asked { .. })) {
            BusEvent::Asked { ticket, asked, message } => {
                assert_eq!((ticket, message.payload), (service, question().payload));
                asked
            }
            event => panic!("{event:?}"),
        };
        let part = |n: u32, last| Operation::Answer { asked, message: message("", n.to_string()), last };
        for n in 1..=3 {
            owner.run(part(n, n == 3));
        }
        for n in 1..=3 {
            let event = asker.wait("a part", |event| matches!(event, BusEvent::Answered { .. }));
            let BusEvent::Answered { ticket, message: found, last } = event else { panic!("{event:?}") };
            assert_eq!((ticket, last), (asking, n == 3));
            assert_eq!((found.headers, found.payload), (question().headers, Bytes::from(n.to_string())));
        }
        assert!(matches!(error(owner.run(part(4, true))), BusError::NotFound(_)));
        // Nobody answers: nobody knows.
        let unanswered = asker.submit(ask(200_000_000));
        assert!(matches!(error(asker.end_of(unanswered)), BusError::Unknown(_)));
        // Nobody serves any more.
        owner.forget(service);
        owner.listen(Operation::Listen { filter: "outrigger.hint.none".to_owned() });
        assert!(matches!(error(asker.run(ask(30_000_000_000))), BusError::NotFound(_)));
    });
}

#[test]
fn listeners_and_services_go_on_over_a_lost_connection() {
    on_both(|world| {
        let nodes = ["flights", "operations"];
        let (mut owner, mut other) = (world.peer("flights"), world.peer("operations"));
        other.listen(Operation::Listen { filter: "outrigger.hint.>".to_owned() });
        owner.listen(Operation::Serve { filter: "outrigger.repair.flights".to_owned() });
        world.cut(&nodes);
        for peer in [&mut owner, &mut other] {
            peer.wait("a loss", |event| matches!(event, BusEvent::Disconnected { .. }));
        }
        // A listener that is submitted without a connection comes into force with it.
        let late = other.submit(Operation::Listen { filter: "outrigger.late".to_owned() });
        world.heal(&nodes);
        for peer in [&mut owner, &mut other] {
            peer.wait("a connection", |event| *event == BusEvent::Connected);
        }
        other.wait("a late listener", |event| *event == BusEvent::Listening { ticket: late });
        for subject in ["outrigger.hint.flights", "outrigger.late"] {
            owner.run(Operation::Announce { message: message(subject, "1") });
            other.wait(
                "a hint",
                |event| matches!(event, BusEvent::Heard { message, .. } if message.subject == subject),
            );
        }
        let ask = Operation::Ask {
            message: message("outrigger.repair.flights", ""),
            timeout_nanos: 30_000_000_000,
        };
        let asking = other.submit(ask);
        let event = owner.wait("a question", |event| matches!(event, BusEvent::Asked { .. }));
        let BusEvent::Asked { asked, .. } = event else { panic!("{event:?}") };
        owner.run(Operation::Answer { asked, message: message("", "x"), last: true });
        assert!(matches!(other.end_of(asking), BusEvent::Answered { .. }));
    });
}

#[test]
fn every_operation_ends_once_over_a_lost_connection() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        let mut tickets = BTreeSet::new();
        for n in 0..300 {
            tickets.insert(owner.submit(publish("flights", message(A, n.to_string()), &n.to_string())));
            let filter = ALL.to_owned();
            tickets.insert(owner.submit(Operation::Last { stream: "flights".to_owned(), filter }));
        }
        world.cut(&["flights"]);
        owner.wait("a loss", |event| matches!(event, BusEvent::Disconnected { .. }));
        let offline = error(owner.run(publish("flights", message(A, "offline"), "offline")));
        assert!(matches!(offline, BusError::NotConnected(_)), "{offline:?}");
        world.heal(&["flights"]);
        owner.wait("a connection", |event| *event == BusEvent::Connected);
        let mut ends = BTreeMap::new();
        let mut landed = 0;
        for ticket in &tickets {
            let event = owner.end_of(*ticket);
            *ends.entry(*ticket).or_insert(0) += 1;
            landed += usize::from(matches!(event, BusEvent::Published { .. }));
        }
        // What was acknowledged is there, or the broker lost it; and nothing ends a second time.
        owner.publish("flights", message(A, "online"), "online");
        assert_eq!(owner.count(|event| final_ticket(event).is_some()), 0);
        assert!(ends.len() == tickets.len() && landed <= 300);
        let (messages, _) = owner.fetch("flights", ALL, 0, 1_000, 4 * MIB);
        assert!(messages.iter().all(|(_, message)| message.payload != "offline"));
    });
}

#[test]
fn a_bus_takes_so_much_and_no_more() {
    on_both(|world| {
        let mut owner = world.peer("flights");
        let mut tickets = Vec::new();
        let refused = loop {
            let operation = Operation::Announce { message: message("outrigger.hint.flights", "") };
            match owner.bus.submit(operation) {
                Ok(ticket) => tickets.push(ticket),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, tickets.len()), (BusFull, BUS_OPERATIONS_MAX));
        for ticket in tickets {
            owner.end_of(ticket);
        }
        // The same by bytes.
        let large = message("outrigger.hint.flights", vec![b'x'; MIB]);
        let taken =
            (0..100).take_while(|_| owner.bus.submit(Operation::Announce { message: large.clone() }).is_ok());
        assert_eq!(taken.count(), 31);
        for n in 0..=BUS_LISTENERS_MAX {
            let submitted = owner.bus.submit(Operation::Listen { filter: format!("outrigger.hint.n{n}") });
            assert_eq!(submitted.is_ok(), n < BUS_LISTENERS_MAX, "{n}");
        }
    });
}

#[test]
fn what_nobody_polls_is_bounded() {
    on_both(|world| {
        let (mut owner, mut deaf) = (world.peer("flights"), world.peer("operations"));
        deaf.listen(Operation::Listen { filter: "outrigger.hint.>".to_owned() });
        let mut tickets = Vec::new();
        for n in 0..3 * BUS_UNPOLLED_MAX {
            let message = message("outrigger.hint.flights", n.to_string());
            tickets.push(owner.submit(Operation::Announce { message }));
            if tickets.len() == 1_000 {
                tickets.drain(..).for_each(|ticket| drop(owner.end_of(ticket)));
            }
        }
        // What was not polled is lost beyond the bound, and the way is free again afterwards.
        let heard = |event: &BusEvent| matches!(event, BusEvent::Heard { .. });
        deaf.wait("a hint", heard);
        deaf.poll();
        let first = deaf.count(heard);
        assert!((BUS_UNPOLLED_MAX / 4..3 * BUS_UNPOLLED_MAX - 1).contains(&first), "{first}");
        for ticket in tickets {
            owner.end_of(ticket);
        }
        owner.run(Operation::Announce { message: message("outrigger.hint.flights", "end") });
        deaf.wait(
            "the end",
            |event| matches!(event, BusEvent::Heard { message, .. } if message.payload == "end"),
        );
    });
}
