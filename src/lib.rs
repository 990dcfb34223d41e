//! Outrigger: a sidecar datastore, one per microservice. This page is the map.
//!
//! # One idea
//!
//! The log is ground state. Everything else is a *follower* of it: a cursor plus an apply step, disposable and
//! rebuildable. The index follows the log in the commit path; each projection version follows it on a thread of its
//! own (far behind, on three), into a file of its own, which is written behind: a sync is a barrier there, not a wait.
//! There is no outbox table: the log is the outbox.
//!
//! # Six paths, each to be read top to bottom
//!
//! - **Append**: [`api`] (`append`, `convert`) → [`append`] (queue; `boundary` looks far back before it) →
//!   [`append::committer`] → `append::facts` from [`index`] and [`log`] → [`append::decide`] (pure: ids, then conditions
//!   and tracking) → [`log`] (one write, one sync) → [`index`] in memory → [`follower::Head`] moves → the answer.
//! - **Read and subscribe**: [`api`] (`read`, `subscribe`; `resume` judges tokens) → [`events`] → [`index`] finds
//!   positions, [`log`] gives records, [`events::wire`] turns stored bytes into messages; at the head [`events::recent`] has
//!   the newest groups and [`events::live`] wakes those who want them. `api::outbox` ends readers that take nothing.
//! - **Query**: [`follower::Head`] moves → the [`projection`] runner applies definitions ([`expression`]) in a batch →
//!   a redb commit → the as-of position moves; [`api`] (`query`) → [`projection`] snapshot → documents.
//! - **Mesh**: [`mesh::outbox`] reads the log, [`mesh::pipeline`] makes of it what an export lets out ([`mesh::envelope`], signed by
//!   [`mesh::trust`]) → [`mesh::bus`] → [`mesh::inbox`] believes what is dense, chained and signed, maps it and appends it with its
//!   cursor; [`mesh::repair`] asks the owner's log for what the bus does not give. [`mesh::node`] is the loop.
//! - **Damage**: [`log`] recovers at every opening (`recovery`, `spare`); `app::scrub` reads sealed segments while the node
//!   runs; [`verify`] reads a whole directory that is not in use, and [`cli`] (`repair`) does what flags say.
//! - **Copies**: [`api`] (`backup`) cuts through [`log`] (`cut`) and [`meta`] (`backup`) → [`cli`] (`backup`) keeps that → [`cli`]
//!   (`restore`) makes a data directory of it; its first opening parts from the original ([`log`] `restored`, [`mesh::restored`]).
//!
//! Beside them stands telemetry: each room counts in [`metrics`]; `app::gauges` asks owners for the rest when the page is wanted. A
//! trace goes through threads, the log and other nodes, so [`trace`] hands contexts on as values and records spans into a bounded
//! queue, instead of a subscriber of the process: nodes in one process stay apart. [`telemetry`] (`otlp`) sends both.
//!
//! # Layers
//!
//! Imports go one way, which `tests/it/tidy.rs` holds:
//!
//! ```text
//! main -> cli -> app -> {api, http, mesh, verify} -> projection -> append -> events -> {index, meta, kv} -> follower -> log
//!      -> {disk, clock, event, json, limits}, with {metrics, trace, lifecycle, process, allocator} beside log
//! ```
//!
//! [`expression`], [`mapping`] and [`ownership`] are pure and stand below [`append`]; [`mesh`] knows no projections, and nothing but
//! [`app`] and [`cli`] knows [`mesh`]. There are three seams behind which the simulator stands, [`disk::Disk`], [`clock::Clock`] and
//! [`mesh::bus::Bus`], and no other trait with one implementation.
//!
//! # Invariants
//!
//! 1. An append is acknowledged after its whole group is written and synced; readers and followers only ever see
//!    durable events (the head moves after the sync).
//! 2. Positions are dense and never reused; a request is all or nothing.
//! 3. Every answer that depends on state is given only when that state is durable.
//! 4. Event ids are idempotency keys for ever, judged before conditions and tracking.
//! 5. A projection's documents, indexes, content hash and cursor change in one redb transaction, in log order.
//! 6. A query with a token sees at least that position or says so.
//! 7. The as-of position of unpinned reads never goes backwards, also over promotes, rollbacks and restarts.
//!    Which version is active is decided by events in the log; a version answers when it shows what the one before has shown.
//! 8. Only the owner of an event publishes it; an importer stores what its owner signed, in the owner's order, once.
//! 9. A write or sync error poisons the log: nothing heals in place, the process ends and recovers at its next start.
//!
//! # Modules in reading order
//!
//! Words and seams: [`limits`], [`event`], [`json`], [`clock`], [`disk`]. Ground state: [`log`], [`index`],
//! [`follower`], [`events`], [`append`]. Followers: [`expression`], [`mapping`], [`ownership`], [`kv`], [`meta`], [`projection`], [`mesh`]. All of it, offline:
//! [`verify`]. Edges: [`api`], [`http`], [`config`], [`app`], [`cli`], with [`lifecycle`], [`metrics`], [`trace`], [`process`],
//! `allocator` and [`telemetry`] beside them.
//!
//! [`sabotage`] holds deliberate bugs that the simulation must catch; nothing else leads there.
//!
//! Deliberately absent: a cluster protocol, a query language beyond the expressions, any state outside the data
//! directory, global variables.

mod allocator;
pub mod api;
pub mod app;
pub mod append;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod event;
pub mod events;
pub mod expression;
pub mod follower;
pub mod http;
pub mod index;
pub mod json;
pub mod kv;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod mapping;
pub mod mesh;
pub mod meta;
pub mod metrics;
pub mod ownership;
pub mod process;
pub mod projection;
#[doc(hidden)]
pub mod sabotage;
pub mod telemetry;
pub mod trace;
pub mod verify;
