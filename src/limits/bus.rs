//! Bounds of the bus between nodes, and of its transports.

use std::time::Duration;

use super::MIB;

/// Operations that a node may have in flight on the bus: taken, and their outcome not yet polled.
pub const BUS_OPERATIONS_MAX: usize = 4_096;
/// Bytes of such operations: of what is sent, and of what a fetch may bring; one operation may exceed it alone.
pub const BUS_OPERATION_BYTES_MAX: usize = 32 * MIB;
/// Listeners and services of a node on the bus.
pub const BUS_LISTENERS_MAX: usize = 1_024;
/// Messages that listeners heard, services were asked and askers were answered, and nobody polled; further ones are lost.
pub const BUS_UNPOLLED_MAX: usize = 4_096;
/// Bytes of such messages; one may exceed it alone.
pub const BUS_UNPOLLED_BYTES_MAX: usize = 16 * MIB;
/// Questions to a node that are not fully answered; further ones are not heard.
pub const BUS_ASKED_MAX: usize = 256;
/// How long a question may go without a part of its answer before it is forgotten.
pub const BUS_ASKED_TIME_MAX: Duration = Duration::from_secs(60);
/// How long the broker may take for one operation.
pub const BUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that one fetch brings.
pub const BUS_FETCH_MESSAGES_MAX: usize = 1_000;
/// Bytes that one fetch brings; one message may exceed it alone.
pub const BUS_FETCH_BYTES_MAX: usize = 4 * MIB;
/// Messages of one subscription that may wait inside the NATS client; a read of which one is lost is done again.
pub const BUS_CLIENT_MESSAGES_MAX: usize = 65_536;
/// Commands that may wait inside the NATS client for the connection.
pub const BUS_CLIENT_COMMANDS_MAX: usize = 256;
/// How long a connection to the broker may take to come about.
pub const BUS_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before a lost connection is tried again; it doubles up to `BUS_RECONNECT_MAX`, and up to the same
/// again is added at random.
pub const BUS_RECONNECT_MIN: Duration = Duration::from_millis(50);
/// The longest such pause, before what is added.
pub const BUS_RECONNECT_MAX: Duration = Duration::from_secs(4);
/// How often a connection asks whether the broker is there.
pub const BUS_PING_INTERVAL: Duration = Duration::from_secs(5);
/// How often a broker that does not fit is looked at again.
pub const BUS_RECHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How often operations are looked at that may have taken too long.
pub const BUS_EXPIRY_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that a broker has to take in one message beside the largest event.
pub const BUS_MESSAGE_EXTRA_BYTES: usize = 16 * 1_024;
/// How long a broker knows a message by its id.
pub const BUS_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Bytes of headers and payload that a bus in memory takes in one message.
pub const BUS_MESSAGE_BYTES_MAX: usize = 2 * MIB;
/// Bytes that a stream of a bus in memory keeps, where nothing else is said.
pub const MEMORY_STREAM_BYTES_MAX: usize = 64 * MIB;
