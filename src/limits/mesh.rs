//! Bounds of the mesh, in the same form as those of `limits`.

use std::time::Duration;

use super::{MIB, REQUEST_BYTES_MAX};

/// Messages of one export that are published and not acknowledged.
pub const PUBLISH_WINDOW_MESSAGES: usize = 512;
/// Bytes of these; one message may exceed it alone.
pub const PUBLISH_WINDOW_BYTES: usize = 8 * MIB;
/// Records of the log that an export reads at once.
pub const EXPORT_CHUNK_RECORDS: usize = 1_024;
/// Bytes of these; one record may exceed it alone.
pub const EXPORT_CHUNK_BYTES: usize = MIB;
/// Messages of one publish batch: the last of them is signed.
pub const PUBLISH_BATCH_MESSAGES: usize = 256;
/// Exported events between two checkpoints of an export.
pub const CHECKPOINT_EVENTS: u64 = 1_024;
/// How often checkpoints are made durable while there is something to publish.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of redb's page cache for `mesh.redb`.
pub const MESH_CACHE_BYTES: usize = 4 * MIB;
/// Events that are published again when the bus has lost its tail; what lies further back comes by repair.
pub const REPUBLISH_EVENTS_MAX: u64 = 10_000;
/// How soon after a change a head mark is published.
pub const HEAD_MARK_AFTER_CHANGE: Duration = Duration::from_secs(1);
/// How often a head mark is published where nothing changes, and how often the owner reads its newest one back.
pub const HEAD_MARK_IDLE: Duration = Duration::from_secs(30);
/// How long an operation that the bus refused waits before it is tried again.
pub const BUS_RETRY: Duration = Duration::from_secs(1);
/// Messages of one fetch of an import.
pub const FETCH_MESSAGES_MAX: usize = 500;
/// Bytes of one fetch of an import; one message may exceed it alone.
pub const FETCH_BYTES_MAX: usize = MIB;
/// How often an import looks for more without having heard of it.
pub const IMPORT_LOOK: Duration = Duration::from_secs(1);
/// Messages that an import holds while it waits for those before them, or for a signature.
pub const IMPORT_PENDING_MESSAGES: usize = 4_096;
/// Bytes of these.
pub const IMPORT_PENDING_BYTES: usize = 16 * MIB;
/// Appends of one import that are unanswered.
pub const IMPORT_APPENDS_MAX: usize = 4;
/// Events that an import passes by without storing how far it has come.
pub const IMPORT_PASSED_EVENTS_MAX: u64 = 10_000;
/// How long an import that passes events by goes without storing how far it has come.
pub const IMPORT_PASSED_WAIT: Duration = Duration::from_secs(1);
/// Newest numbers whose chain an import remembers, to tell a repeat from a fork.
pub const IMPORT_RING: usize = 4_096;
/// How long an import waits after a failed append before it looks at the log again.
pub const IMPORT_RETRY: Duration = Duration::from_millis(200);
/// How long an import goes without hearing from its owner before it asks.
pub const IMPORT_PROBE: Duration = Duration::from_secs(60);
/// Events in the answer to one question.
pub const REPAIR_EVENTS_MAX: usize = 1_000;
/// Bytes in the answer to one question; one event may exceed it alone.
pub const REPAIR_BYTES_MAX: usize = MIB;
/// Questions that wait for an answer; more are refused.
pub const REPAIR_QUEUE_MAX: usize = 64;
/// Events a second that a node serves to those who ask.
pub const REPAIR_EVENTS_PER_SECOND: u64 = 20_000;
/// How long an answer may take.
pub const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after a failed repair the next one is tried, at first and at the most.
pub const REPAIR_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Earlier places that an import names when it asks, so that the owner can tell where they part.
pub const REPAIR_POINTS_MAX: usize = 96;
/// How long a node that stops goes on publishing what is durable.
pub const MESH_DRAIN_MAX: Duration = Duration::from_secs(5);
/// Commands that wait for the mesh.
pub const MESH_COMMANDS_MAX: usize = 64;
/// Event types in one export or import.
pub const MAPPED_TYPES_MAX: usize = 256;
/// Events that an import may make of one.
pub const MAPPED_EVENTS_MAX: usize = 64;
/// Bytes of those events together: they are appended in one request.
pub const MAPPED_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;
/// Bytes of a file of trusted keys.
pub const TRUST_FILE_BYTES_MAX: usize = MIB;
/// Bytes of a file that holds a key.
pub const KEY_FILE_BYTES_MAX: usize = 4_096;
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
