//! Every named bound of the product in one place, each with its unit.
//!
//! A queue, batch, wait or cache anywhere in the crate takes its bound from here or from `config`; a refusal names
//! the limit it hit by the value written here.

mod backup;
mod bus;
mod compare;
mod mesh;
mod sharing;
mod telemetry;

use std::time::Duration;

pub use self::{backup::*, bus::*, compare::*, mesh::*, sharing::*, telemetry::*};

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
/// Bytes of the name of a tracked source.
pub const SOURCE_BYTES_MAX: usize = 256;
/// Items of a query.
pub const QUERY_ITEMS_MAX: usize = 32;
/// Positions that the committer looks through for one condition; what lies further back is looked at before a request
/// is queued.
pub const CONDITION_POSITIONS_MAX: u64 = 4_096;
/// Tracked sources whose positions are kept in memory.
pub const TRACKED_SOURCES_MAX: usize = 4_096;
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
/// Bytes of requests that may wait in any case: two of the largest.
pub const APPEND_QUEUE_BYTES_MIN: usize = 2 * REQUEST_BYTES_MAX;
/// Requests that may wait for the committer.
pub const APPEND_QUEUE_REQUESTS_MAX: usize = 16_384;
/// Requests of one append stream that are queued together.
pub const APPEND_STREAM_CHUNK_REQUESTS: usize = 1_024;
/// Bytes of one append stream that are queued together; one request may exceed it alone.
pub const APPEND_STREAM_CHUNK_BYTES: usize = MIB / 2;
/// Requests of one append stream of `bench` that may be unanswered.
pub const BENCH_IN_FLIGHT_MAX: u32 = 8_000;
/// Chunks of one append stream that may be unanswered.
pub const APPEND_STREAM_CHUNKS_MAX: usize = 8;

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
/// Bytes between two wanted records that are read with them, because one larger read is cheaper than two.
pub const LOG_READ_GAP_BYTES: u64 = 4 * 1_024;
/// Positions whose records' beginnings are looked up at once when some of them are wanted.
pub const LOG_VISIT_POSITIONS: u64 = 1_024;
/// Bytes of wanted records, and of what lies between them, that are read at once; one record may exceed it alone.
pub const LOG_VISIT_BYTES_MAX: u64 = 256 * 1_024;
/// Bytes of the log's manifest; it grows by 24 for every opening that wrote events.
pub const LOG_MANIFEST_BYTES_MAX: usize = 64 * MIB;

/// Damaged places of one kind that a verification lists; further ones are counted.
pub const VERIFY_FINDINGS_MAX: usize = 1_000;
/// Streams whose revisions a verification follows; those that come later are not checked for density.
pub const VERIFY_STREAMS_MAX: usize = 2_000_000;

/// Bytes of redb's page cache for a file that is verified.
pub const VERIFY_CACHE_BYTES: usize = 16 * MIB;
/// Bytes that redb's own recovery of a file may take in memory while the file is verified.
pub const VERIFY_OVERLAY_BYTES_MAX: u64 = 256 * MIB as u64;

/// How often all sealed segments are scrubbed where the configuration does not say.
pub const SCRUB_INTERVAL_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after the start of a node its first scrub begins at the latest.
pub const SCRUB_DELAY_MAX: Duration = Duration::from_secs(60);
/// Bytes a second that a scrub reads.
pub const SCRUB_BYTES_PER_SECOND: u64 = 8 * MIB as u64;
/// Bytes that a scrub reads between two pauses; one group may exceed it.
pub const SCRUB_CHUNK_BYTES: u64 = 256 * 1_024;
/// How long a scrub waits at most, between two chunks, for appends that wait.
pub const SCRUB_YIELD_MAX: Duration = Duration::from_secs(1);
/// Damaged segments that a node lists in its health page; all of them are logged and counted.
pub const SCRUB_WARNINGS_MAX: usize = 10;

/// Events in one message of a read or subscription.
pub const READ_BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of events in one message of a read or subscription; one event may exceed it alone.
pub const READ_BATCH_BYTES_MAX: usize = MIB;
/// Messages of one read or subscription that wait for its connection.
pub const READ_AHEAD_MESSAGES: usize = 2;
/// How long a message may wait for a reader that takes none, where the configuration says nothing.
pub const READER_STALL_DEFAULT: Duration = Duration::from_secs(30);
/// How many versions build at the same time, unless the settings say otherwise.
pub const BUILDS_DEFAULT: usize = 1;
/// The same at the most.
pub const BUILDS_MAX: usize = 64;
/// Newest events that are kept in memory for subscribers at the head.
pub const RECENT_EVENTS_MAX: usize = 16_384;
/// Bytes of the newest events that are kept in memory for subscribers at the head, in the form in which they are stored;
/// the form in which they are sent takes as much again.
pub const RECENT_BYTES_MAX: usize = 4 * MIB;
/// Events of one group that is kept there; larger ones are read from the log.
pub const RECENT_GROUP_EVENTS_MAX: usize = 4_096;
/// New events that are held against the filters of subscribers under one hold of their lock.
pub const LIVE_LOCK_EVENTS_MAX: usize = 256;
/// Positions without a matching event after which a subscriber is told how far the log was looked at.
pub const ADVANCE_POSITIONS: u64 = 10_000;
/// How long such a stretch may stay untold.
pub const ADVANCE_WAIT: Duration = Duration::from_secs(1);
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
/// Bytes of memory that the index shares out where it is told no other: a quarter of the memory's default.
pub const INDEX_MEMORY_BYTES_DEFAULT: u64 = MEMORY_BYTES_DEFAULT / 4;
/// Bytes that an event in the index's memory is reckoned to take; parts get smaller where memory is short.
pub const INDEX_EVENT_BYTES: u64 = 128;
/// The index's filter of ids has room for as many full parts at least.
pub const INDEX_FILTER_PARTS_MIN: u64 = 8;
/// Full parts that the stored filter of ids may lack, or a quarter of the log if that is more.
pub const INDEX_FILTER_UNSTORED_PARTS_MIN: u64 = 4;
/// How long nothing is appended before the index writes what it has in memory, as at a clean stop.
pub const INDEX_REST_AFTER: Duration = Duration::from_secs(10);
/// How often a thread that rests gives up memory that it keeps for nothing.
pub const THREAD_TIDY_EVERY: Duration = Duration::from_secs(10);
/// At a clean stop, what the index has in memory is written if it is at least a full part divided by this; less is
/// read from the log at the next start as fast.
pub const INDEX_STOP_PART_SHARE: u32 = 32;
/// How often long work at start says how far it has come.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
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
/// Documents of a page that is read on the thread of its call; longer ones go to a thread that may block.
pub const INLINE_DOCUMENTS_MAX: u32 = 100;
/// Documents that one Count call looks at.
pub const COUNT_SCAN_MAX: usize = 100_000;
/// Bytes of documents in one message of a list as a stream or of a watch; one document may exceed it alone.
pub const STREAM_MESSAGE_BYTES_MAX: usize = MIB;
/// How long the snapshot of a list as a stream, or of one group of a watch's messages, is kept for its reader.
pub const STREAM_TIME_MAX: Duration = Duration::from_secs(60);
/// Paths in one field mask.
pub const FIELDS_MAX: usize = 64;
/// Bytes of one path in a field mask.
pub const FIELD_PATH_BYTES_MAX: usize = 512;
/// Changes of documents that a projection's file keeps for watchers.
pub const CHANGES_MAX: u64 = 65_536;
/// Changes in one message of a watch.
pub const WATCH_BATCH_CHANGES_MAX: usize = 1_000;
/// Bytes of the keys that a watcher is known to have; with more it is told deletions whether or not it had the document.
pub const WATCH_KNOWN_BYTES_MAX: usize = 512 * 1_024;
/// Changes of a commit, times watches of its version, that are held against each other; of more, all watches look.
pub const WATCH_MATCHES_MAX: usize = 65_536;
/// Watches that a node serves at a time.
pub const WATCHERS_MAX: usize = 1_024;
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
/// Brackets that may be open at one place of an expression.
pub const EXPRESSION_BRACKETS_MAX: usize = 32;
/// Conditionals (`?:`) and brackets that may be open at one place of an expression; below the parser's own bound.
pub const EXPRESSION_CHOICES_MAX: usize = 64;
/// Operators, selections and calls in one row of an expression: the depth of its tree.
pub const EXPRESSION_CHAIN_MAX: usize = 250;
/// Bytes of a text that an expression makes.
pub const EXPRESSION_TEXT_BYTES_MAX: usize = MIB;
/// Bytes of an expression's result, about.
pub const EXPRESSION_RESULT_BYTES_MAX: usize = 2 * MIB;
/// Nesting depth of an expression's result and of a document.
pub const DOCUMENT_DEPTH_MAX: usize = JSON_DEPTH_MAX + 10;
/// Bytes of a compiled regular expression.
pub const REGEX_BYTES_MAX: usize = MIB;
/// Elementary steps that a projection may take for one event, over all its expressions.
pub const EVENT_STEPS_MAX: u64 = 10_000_000;
/// Documents that one event may change in a projection.
pub const EVENT_CHANGES_MAX: usize = 10_000;
/// Collections of a projection.
pub const COLLECTIONS_MAX: usize = 64;
/// Indexes of a collection.
pub const INDEXES_MAX: usize = 16;
/// Steps of a projection for one event type.
pub const STEPS_MAX: usize = 64;
/// Names in one `let`.
pub const LETS_MAX: usize = 32;
/// Bytes of the name of a projection, collection or index.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of a projection definition.
pub const DEFINITION_BYTES_MAX: usize = MIB;
/// Bytes of a file's name that comes with a definition.
pub const FILE_NAME_BYTES_MAX: usize = 4_096;
/// How long a query waits for its token where it names no timeout.
pub const AT_LEAST_WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a query may wait for its token.
pub const AT_LEAST_WAIT_MAX: Duration = Duration::from_secs(60);

/// Files set aside under one name; the last one gives way to a newer one.
pub const SET_ASIDE_FILES_MAX: usize = 8;
/// Bytes of redb's page cache for `meta.redb`.
pub const META_CACHE_BYTES: usize = MIB;
/// Bytes that one version may take for its file's pages, its documents and its batch.
pub const VERSION_MEMORY_BYTES_MAX: u64 = 128 * MIB as u64;
/// Bytes that one version needs to run at all.
pub const VERSION_MEMORY_BYTES_MIN: u64 = 4 * MIB as u64;
/// How long a version has nothing to do, and nobody reads it, before it gives its memory back.
pub const VERSION_REST_AFTER: Duration = Duration::from_secs(10);
/// Events in one batch of a projection; also how many may be applied before a durable commit.
pub const BATCH_EVENTS_MAX: u64 = 50_000;
/// Bytes of changed documents in one batch of a projection, as estimated; also how many before a durable commit.
pub const BATCH_BYTES_MAX: usize = 32 * MIB;
/// Events in one batch of a version that is built for the first time, which nobody reads before it is done.
pub const BUILD_BATCH_EVENTS_MAX: u64 = 1_000_000;
/// Events that a version must lie behind for its work to be shared out to several threads.
pub const PIPELINE_EVENTS_MIN: u64 = 10_000;
/// Events after which such work comes to a rest and is looked at anew.
pub const PIPELINE_EVENTS_MAX: u64 = 4_000_000;
/// Events that are read and decoded at a time ahead of their application.
pub const PIPELINE_CHUNK_EVENTS_MAX: usize = 1_024;
/// Bytes of such events; one event may exceed it alone.
pub const PIPELINE_CHUNK_BYTES_MAX: usize = MIB;
/// Chunks of such events that may wait.
pub const PIPELINE_CHUNKS_MAX: usize = 4;
/// Bytes that are on their way together at the most.
pub const BEHIND_PIECE_BYTES_MAX: usize = 4 * MIB;
/// Pieces that may be on their way to the file of a version.
pub const BEHIND_PIECES_MAX: usize = 64;
/// Events that a verification of a version applies between two pauses.
pub const REPLAY_STEP_EVENTS: u64 = 5_000;
/// Different documents that a verification shows; all of them are counted.
pub const REPLAY_DIFFERENCES_MAX: usize = 20;
/// Bytes of a version's file from which on it is compacted when it is built.
pub const COMPACT_BYTES_MIN: u64 = 16 * MIB as u64;
/// How long changes of a projection may be visible and not durable. Short, because a durable commit holds up the next
/// change for as long as it takes to gather what changed.
pub const DURABLE_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// Events that a projection reads from the log at a time.
pub const FOLLOW_SCAN_EVENTS_MAX: usize = 4_096;
/// Bytes that a projection reads from the log at a time; one event may exceed it alone.
pub const FOLLOW_SCAN_BYTES_MAX: usize = 4 * MIB;
/// Events that a version which was at the head may lie behind it before it counts as catching up.
pub const LIVE_LAG_MAX: u64 = 1_000;
/// How long a follower waits at most before it tries again after an I/O error.
pub const FOLLOWER_RETRY_MAX: Duration = Duration::from_secs(10);
/// Events that one version may have parked.
pub const PARKED_EVENTS_MAX: usize = 10_000;
/// Skipped events that a version keeps in its list; all of them are counted.
pub const SKIPPED_EVENTS_KEPT: usize = 1_000;
/// Bytes of a failure's text, and of the expression that failed, as they are kept.
pub const FAILURE_TEXT_BYTES_MAX: usize = 4_096;
/// How long a retry or skip waits for its version to act on it before it answers how the version stands.
pub const DECISION_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a version that definition files want to be active is looked at, while it is built.
pub const WANT_LOOK: Duration = Duration::from_millis(500);
/// Events that a version may be behind the head to be promoted, where nothing else is asked.
pub const PROMOTE_LAG_DEFAULT: u64 = 1_000;
/// How many events a version may be behind the active one when it begins to take over from it.
pub const FLIP_NEAR_EVENTS: u64 = 1_000;
/// How long it tries to be as far as the active one while both go on.
pub const FLIP_TRY_MAX: Duration = Duration::from_millis(100);
/// How long the active one is held up at most to let it come as far; twice that with the time it takes to stand.
pub const FLIP_HOLD_MAX: Duration = Duration::from_millis(200);
/// How long the active one goes on before it is held up once more.
pub const FLIP_REST: Duration = Duration::from_secs(1);
/// Bytes of a release's name, as of a DNS label.
pub const RELEASE_NAME_BYTES_MAX: usize = 63;
/// Releases of a node.
pub const RELEASES_MAX: usize = 256;
/// Projections that a release names; each is a decision of the request that promotes it.
pub const RELEASE_PROJECTIONS_MAX: usize = 500;
/// Promotions of releases, the newest, whose decisions are known to belong together.
pub const RELEASE_TURNS_MAX: usize = 64;
/// Decisions about a projection that one look at the index finds.
pub const DECISIONS_PAGE_EVENTS: usize = 256;
/// Bytes of the reason that a person gives for a decision.
pub const DECISION_REASON_BYTES_MAX: usize = 1_024;
/// Bytes of one text in an index entry; what is longer is cut there. Queries may name texts shorter than this.
pub const INDEX_TEXT_BYTES_MAX: usize = 512;
/// Entries that one document may have in one index.
pub const INDEX_ENTRIES_MAX: usize = 1_000;
/// Standing versions of one projection.
pub const STANDING_VERSIONS_MAX: usize = 16;
/// Bytes of the label of a standing version.
pub const LABEL_BYTES_MAX: usize = 63;
/// How often definition files are looked at, whether or not a change was seen.
pub const DEFINITIONS_RESCAN_INTERVAL: Duration = Duration::from_secs(10);
/// How long changes of definition files must rest before they are read.
pub const DEFINITIONS_DEBOUNCE: Duration = Duration::from_millis(50);
/// Definition files of one directory that are read.
pub const DEFINITION_FILES_MAX: usize = 1_024;

/// Events that a handler's worker may have unanswered.
pub const HANDLER_CREDITS_MAX: u32 = 10_000;
/// How long a handler's worker may be silent with events unanswered, where it does not say.
pub const HANDLER_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest time that a handler's worker may ask for.
pub const HANDLER_DEADLINE_MIN: Duration = Duration::from_millis(100);
/// The longest time that a handler's worker may ask for.
pub const HANDLER_DEADLINE_MAX: Duration = Duration::from_secs(600);
/// Events of one run.
pub const HANDLER_RUN_EVENTS_MAX: usize = 1_024;
/// Bytes of the events of one run; one event may exceed it alone.
pub const HANDLER_RUN_BYTES_MAX: usize = MIB;
/// Runs that one worker may have unanswered.
pub const HANDLER_RUNS_MAX: usize = 16;
/// Workers of one version.
pub const HANDLER_WORKERS_MAX: usize = 64;
/// Events of a version that are looked at and not applied.
pub const HANDLER_AHEAD_EVENTS_MAX: usize = 16_384;
/// Bytes of such events; one may exceed it alone.
pub const HANDLER_AHEAD_BYTES_MAX: usize = 16 * MIB;
/// Bytes of answers that are not applied; beyond it no more events go out but the first.
pub const HANDLER_ANSWERS_BYTES_MAX: usize = 32 * MIB;
/// Messages of all workers of a version that wait for its runner.
pub const HANDLER_INBOX_MESSAGES_MAX: usize = 64;
/// Messages that one step of a runner takes in.
pub const HANDLER_STEP_MESSAGES_MAX: usize = 256;
/// Messages that wait for one worker; one that takes nothing for so long loses its runs.
pub const HANDLER_OUTBOX_MESSAGES_MAX: usize = 2 * HANDLER_RUNS_MAX + HANDLER_READS_MAX + 16;
/// Reads of one worker that are not answered.
pub const HANDLER_READS_MAX: usize = 16;
/// Documents in one read of a worker.
pub const HANDLER_READ_KEYS_MAX: usize = 1_000;
/// Bytes of documents in the answer to one read of a worker; one document may exceed it alone.
pub const HANDLER_READ_BYTES_MAX: usize = 2 * MIB;
/// Documents that one transaction may have read.
pub const TRANSACTION_READS_MAX: usize = 10_000;
/// Bytes of a worker's words on why an event failed; what is longer is cut there.
pub const HANDLER_FAILURE_BYTES_MAX: usize = 4 * 1_024;
/// Events of which each was emitted because of the one before.
pub const EMISSION_DEPTH_MAX: i64 = 16;
/// Steps of one transaction.
pub const TRANSACTION_STEPS_MAX: usize = 10_000;
/// How often in a row the answer to one event may be stale before the event counts as failed.
pub const HANDLER_CANCELLATIONS_MAX: u32 = 10;
/// Bytes of documents that the parked events released by one decision may change before the rest has to wait for another.
pub const HANDLER_LATE_BYTES_MAX: usize = 64 * MIB;
/// Events for which runs go out one at a time after two were cancelled, the first time.
pub const HANDLER_SERIAL_EVENTS_MIN: u64 = 1_000;
/// The same at most; it doubles each time.
pub const HANDLER_SERIAL_EVENTS_MAX: u64 = 128_000;

/// Streams (calls) that one gRPC connection may have open.
pub const CONNECTION_STREAMS_MAX: u32 = 128;
/// Bytes of one call that a client may send before the node has taken them in.
pub const STREAM_WINDOW_BYTES: u32 = MIB as u32;
/// Bytes of all calls of a connection that a client may send before the node has taken them in.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 * MIB as u32;
/// How often a quiet gRPC connection is asked whether its other end is there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the other end may take to say so.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// TLS handshakes that go on at the same time; further connections wait in the system's queue.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// Bytes of a file of certificates or of a key.
pub const TLS_FILE_BYTES_MAX: usize = MIB;
/// Bytes of one gRPC message that the node accepts.
pub const MESSAGE_BYTES_MAX: usize = 8 * MIB;
/// How long a command waits for its connection to a node.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of one line of a file of events.
pub const LINE_BYTES_MAX: usize = 2 * MIB;
/// Events in one request of a load.
pub const LOAD_BATCH_EVENTS_MAX: usize = 500;
/// Bytes of events in one request of a load; one event may exceed it alone.
pub const LOAD_BATCH_BYTES_MAX: usize = MIB;
/// Requests of a load that may be read ahead of those in flight.
pub const LOAD_READ_AHEAD_MAX: usize = 4;
/// Requests of a load that may be unanswered.
pub const LOAD_IN_FLIGHT_MAX: usize = 16;
/// How long a load goes on trying without any progress.
pub const LOAD_RETRY_MAX: Duration = Duration::from_secs(60);
/// The first pause of a load before it tries again; it doubles up to `LOAD_PAUSE_MAX`.
pub const LOAD_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause of a load before it tries again.
pub const LOAD_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Distinct lines without ids for which a load can derive ids.
pub const DERIVED_LINES_MAX: usize = 20_000_000;
/// Bytes of a file of expected documents.
pub const EXPECTATION_BYTES_MAX: usize = 256 * MIB;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: usize = MIB;
/// Bytes that all caches, queues and builds share where the configuration names none.
pub const MEMORY_BYTES_DEFAULT: u64 = 512 * MIB as u64;
/// The least that `limits.memory` may be.
pub const MEMORY_BYTES_MIN: u64 = 32 * MIB as u64;
/// Free bytes of the disk below which appends are refused, where the configuration names none.
pub const LOW_WATER_BYTES_DEFAULT: u64 = 256 * MIB as u64;
/// How long shutdown waits for calls in progress.
pub const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(10);

const MIB: usize = 1 << 20;
