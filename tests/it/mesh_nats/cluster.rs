//! Three servers, and the one that leads the stream is killed while messages are on their way.

use std::collections::BTreeMap;

use outrigger::mesh::{
    bus::{BusEvent, Operation, Ticket},
    nats::{NatsSettings, StreamSize},
};

use super::{A, ALL};
use crate::{
    mesh_bus::peer::{Peer, message, publish},
    nats_server::NatsServer,
    ports,
};

const MESSAGES: u64 = 3_000;
const WINDOW: usize = 256;

/// Three servers that know each other.
fn cluster() -> Option<Vec<NatsServer>> {
    // The servers have to know each other's before they start.
    let ports: Vec<u16> = (0..3).map(|_| ports::free()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let routes = routes.join(", ");
    let start = |(n, port): (usize, &u16)| {
        let cluster = format!("cluster {{ name: mesh, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
        NatsServer::start_with(&format!("server_name: n{n}\n{cluster}"))
    };
    ports.iter().enumerate().map(start).collect()
}

/// The place of the server that leads the stream.
async fn leader(url: &str) -> usize {
    let context = async_nats::jetstream::new(async_nats::connect(url).await.unwrap());
    let mut stream = context.get_stream("OUTRIGGER_flights").await.unwrap();
    let leader = stream.info().await.unwrap().cluster.as_ref().and_then(|cluster| cluster.leader.clone());
    leader.and_then(|name| name.strip_prefix('n')?.parse().ok()).expect("the stream has a leader")
}

#[test]
#[ignore = "three servers and an election: run by tests/run --long"]
fn nothing_acknowledged_is_lost_when_the_streams_leader_is_killed() {
    let Some(mut servers) = cluster() else { return };
    let urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let size = StreamSize { replicas: 3, bytes_max: None };
    let settings =
        NatsSettings { create_stream: Some(size), ..NatsSettings::new("flights", &urls.join(",")) };
    let mut owner = Peer::over(settings, &runtime);
    owner.wait("a connection", |event| *event == BusEvent::Connected);
    let leads = runtime.block_on(leader(&urls[0]));
    let mut failures = 0;
    let mut killed = false;
    let mut open: BTreeMap<Ticket, u64> = BTreeMap::new();
    let mut to_send: Vec<u64> = (1..=MESSAGES).rev().collect();
    while !to_send.is_empty() || !open.is_empty() {
        while open.len() < WINDOW
            && let Some(n) = to_send.pop()
        {
            open.insert(owner.submit(publish("flights", message(A, n.to_string()), &n.to_string())), n);
            if n == MESSAGES / 2 && !killed {
                servers[leads].kill();
                killed = true;
            }
        }
        let ended = owner
            .wait("an end", |event| matches!(event, BusEvent::Published { .. } | BusEvent::Failed { .. }));
        match ended {
            BusEvent::Published { ticket, .. } => drop(open.remove(&ticket)),
            // Nobody knows whether it landed, or there was nobody to take it: the same again, under the same id.
            BusEvent::Failed { ticket, .. } => {
                failures += 1;
                to_send.extend(open.remove(&ticket));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(killed && failures > 0, "the kill was not noticed");
    assert_eq!(read_all(&mut owner), (1..=MESSAGES).collect::<Vec<_>>());
}

/// What the stream holds, sorted; a broker that lags has it a moment later.
fn read_all(peer: &mut Peer) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    let mut after = 0;
    while (found.len() as u64) < MESSAGES {
        let (stream, filter) = ("flights".to_owned(), ALL.to_owned());
        let fetch = Operation::Fetch { stream, filter, after, messages_max: 1_000, bytes_max: 1 << 20 };
        if let BusEvent::Fetched { messages, .. } = peer.run(fetch) {
            after = messages.last().map_or(after, |kept| kept.sequence);
            let number = |payload: &[u8]| std::str::from_utf8(payload).unwrap().parse::<u64>().unwrap();
            found.extend(messages.iter().map(|kept| number(&kept.message.payload)));
        }
    }
    found.sort_unstable();
    found
}
