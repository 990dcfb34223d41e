//! Every named bound of the product in one place, each with its unit.
//!
//! A queue, batch, wait or cache anywhere in the crate takes its bound from here or from `config`; a refusal names
//! the limit it hit by the value written here.

use std::time::Duration;

/// Events in one append request.
pub const REQUEST_EVENTS_MAX: usize = 1_000;
/// Bytes of one append request: types, streams, tags, data and metadata of all its events.
pub const REQUEST_BYTES_MAX: usize = 4 * MIB;
/// Bytes of one event: type, stream, tags, data and metadata.
pub const EVENT_BYTES_MAX: usize = MIB;
/// Bytes of an event type.
pub const TYPE_BYTES_MAX: usize = 128;
/// Bytes of a stream name.
pub const STREAM_BYTES_MAX: usize = 256;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 256;
/// Tags of an event.
pub const EVENT_TAGS_MAX: usize = 32;
/// Conditions of an append request.
pub const REQUEST_CONDITIONS_MAX: usize = 64;
/// Bytes of records in one group: what one write and one sync make durable.
pub const GROUP_BYTES_MAX: usize = 8 * MIB;
/// Records in one group.
pub const GROUP_RECORDS_MAX: usize = 65_536;
/// Nesting depth of a JSON text.
pub const JSON_DEPTH_MAX: usize = 100;

/// Bytes of requests that may wait for the committer; beyond it appends are refused at once.
pub const APPEND_QUEUE_BYTES_MAX: usize = 64 * MIB;
/// Requests that may wait for the committer.
pub const APPEND_QUEUE_REQUESTS_MAX: usize = 16_384;
/// Requests of one append stream that may be unanswered.
pub const APPEND_STREAM_IN_FLIGHT_MAX: usize = 1_024;

/// Bytes of one log segment.
pub const SEGMENT_BYTES: u64 = 64 * MIB as u64;
/// How long the log may be idle before its commit mark is synced alone.
pub const MARK_IDLE_MAX: Duration = Duration::from_millis(50);

/// Zero bytes that the log writes ahead of its end in one go.
pub const LOG_PREALLOCATE_BYTES: u64 = MIB as u64;
/// Sealed segments of the log whose files (two each) are kept open for reading.
pub const LOG_HANDLES_MAX: usize = 64;
/// Bytes that one read of the log's files asks for.
pub const LOG_READ_BYTES_MAX: usize = 8 * MIB;
/// Records that one read of the log's files covers.
pub const LOG_READ_RECORDS_MAX: usize = 16_384;
/// Bytes of the log's manifest; it grows by 24 for every opening that wrote events.
pub const LOG_MANIFEST_BYTES_MAX: usize = 64 * MIB;

/// Events in one message of a read or subscription.
pub const READ_BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of events in one message of a read or subscription; one event may exceed it alone.
pub const READ_BATCH_BYTES_MAX: usize = MIB;
/// Types in one event filter.
pub const FILTER_TYPES_MAX: usize = 64;
/// Tags in one event filter.
pub const FILTER_TAGS_MAX: usize = 32;

/// Events in the index's part in memory, and so in the smallest run file.
pub const INDEX_RUN_EVENTS: u32 = 131_072;
/// Full parts of the index that may wait for their run file; beyond it the committer waits.
pub const INDEX_UNWRITTEN_PARTS_MAX: usize = 2;
/// The same while run files cannot be written (a full disk, say); beyond it appends fail.
pub const INDEX_FAILING_PARTS_MAX: usize = 8;
/// Adjacent runs of one tier that become one run of the next.
pub const INDEX_MERGE_FAN_IN: usize = 4;
/// Events in one run file; runs that would exceed it together are not merged.
pub const INDEX_MERGED_EVENTS_MAX: u64 = 1 << 31;
/// Heads of streams that are kept in memory, besides those in unwritten parts.
pub const INDEX_HEADS_MAX: usize = 65_536;
/// Seeks in posting lists that one search of the index makes; beyond it the search returns early and says how far it
/// came.
pub const INDEX_FIND_STEPS_MAX: usize = 1 << 18;
/// Positions that a search looks at, and events that the committer adds, under one hold of the index's lock.
pub const INDEX_LOCK_EVENTS_MAX: u32 = 4_096;
/// Events decoded at once while the index catches up with the log.
pub const INDEX_SCAN_EVENTS_MAX: usize = 4_096;
/// Bytes of records read at once while the index catches up with the log; one record may exceed it alone.
pub const INDEX_SCAN_BYTES_MAX: usize = 4 * MIB;
/// Bytes of a run file between two syncs, so that no single sync holds up the log for long.
pub const INDEX_SYNC_BYTES: u64 = 16 * MIB as u64;
/// How long the index waits after the first failure to write a run file; doubles with every further one.
pub const INDEX_RETRY_MIN: Duration = Duration::from_secs(1);
/// How long the index waits at most after a failure to write a run file.
pub const INDEX_RETRY_MAX: Duration = Duration::from_secs(10);

/// Documents or streams on one page.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Documents or streams on one page where the request names no size.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// Documents that one List call looks at.
pub const LIST_SCAN_MAX: usize = 10_000;
/// Bytes of documents on one page; one document may exceed it alone.
pub const LIST_BYTES_MAX: usize = 4 * MIB;
/// Keys in one `BatchGet`.
pub const BATCH_GET_KEYS_MAX: usize = 1_000;
/// Parts of a document key.
pub const KEY_PARTS_MAX: usize = 8;
/// Bytes of an encoded document key.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a document.
pub const DOCUMENT_BYTES_MAX: usize = MIB;
/// Bytes of one expression.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1_024;
/// Elementary steps of one evaluation of an expression.
pub const EXPRESSION_STEPS_MAX: u64 = 1_000_000;
/// Bytes of a projection definition.
pub const DEFINITION_BYTES_MAX: usize = MIB;
/// How long a query waits for its token where it names no timeout.
pub const AT_LEAST_WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a query may wait for its token.
pub const AT_LEAST_WAIT_MAX: Duration = Duration::from_secs(60);

/// Streams (calls) that one gRPC connection may have open.
pub const CONNECTION_STREAMS_MAX: u32 = 128;
/// Bytes of one gRPC message that the node accepts.
pub const MESSAGE_BYTES_MAX: usize = 8 * MIB;
/// How long shutdown waits for calls in progress.
pub const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(10);

const MIB: usize = 1 << 20;
