//! Bounds of the mesh, in the same form as those of `limits`.

use std::time::Duration;

use super::MIB;

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
/// How long an import goes without a sign that its owner has its place before it asks.
pub const IMPORT_PROBE: Duration = Duration::from_secs(60);
/// Events in the answer to one question.
pub const REPAIR_EVENTS_MAX: usize = 4_000;
/// Bytes of data in the answer to one question; one event may exceed it alone.
pub const REPAIR_BYTES_MAX: usize = 4 * MIB;
/// Bytes of data in one message of an answer; one event may exceed it alone.
pub const REPAIR_PACK_BYTES: usize = MIB / 4;
/// Questions that wait for an answer; more are refused.
pub const REPAIR_QUEUE_MAX: usize = 64;
/// Events a second that a node serves to those who ask.
pub const REPAIR_EVENTS_PER_SECOND: u64 = 100_000;
/// How long an answer may take.
pub const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// From how many messages on that the bus holds for it an import asks the owner for them, many in one message.
pub const IMPORT_BULK_BEHIND: u64 = 5_000;
/// How long an import reads the bus message by message after asking for many came to nothing.
pub const IMPORT_BULK_RETRY: Duration = Duration::from_secs(30);
/// How long after a failed repair the next one is tried, at first and at the most.
pub const REPAIR_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Earlier places that an import names when it asks, so that the owner can tell where they part.
pub const REPAIR_POINTS_MAX: usize = 96;
/// How long a node that stops goes on publishing what is durable.
pub const MESH_DRAIN_MAX: Duration = Duration::from_secs(5);
/// Commands that wait for the mesh.
pub const MESH_COMMANDS_MAX: usize = 64;
/// Events of one import that wait in quarantine; at more the import stands still.
pub const IMPORT_PARKED_EVENTS_MAX: usize = 10_000;
/// Streams whose parked events are read for one append.
pub const IMPORT_LATE_STREAMS: usize = 64;
