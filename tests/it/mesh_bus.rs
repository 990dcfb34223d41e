//! One suite for every transport of the mesh: each check runs on the bus in memory and on a real NATS server.

mod checks;
mod faults;
pub(crate) mod peer;

use outrigger::mesh::memory::{Faults, MemoryBroker};

use self::peer::World;
use crate::nats_server::NatsServer;

/// Runs a check on both transports.
fn on_both(check: impl Fn(&mut World)) {
    check(&mut World::memory(MemoryBroker::new(1, Faults::none())));
    if let Some(server) = NatsServer::start() {
        check(&mut World::nats(server));
    }
}
