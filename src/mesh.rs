//! The mesh: sidecars share events over a bus, and every node stays the only owner of its own.
//!
//! Owns what travels between nodes and in which order it is believed. The bus is trusted for nothing but delay: what a
//! node stores comes in the owner's order, without gaps, and under the owner's signature. May use `append` and what lies
//! below it; does not know projections, gRPC or the command line, which get plain handles built in `app`.
//!
//! Reading order: `bus` (the seam), `envelope` (what travels), `trust`, `definition`, `pipeline` (from the log to what travels),
//! `outbox`, `inbox`, `repair`, `decisions` (what people decided, folded from the log), `quarantine` (what imports set aside), `state` (what can be seen), `store`
//! (`mesh.redb`, which may be lost), `node` (the loop). Transports: `memory`, `nats`.
//!
//! A stretch of an export that maps to nothing moves an import's cursor by a system event, `$import.passed`: hidden, at a position
//! like any other, at most one a second or 10,000 events. A second kind of record, without a position, would have bought nothing.

mod answer;
pub mod bus;
pub mod decisions;
pub mod definition;
pub mod envelope;
pub mod inbox;
pub mod io;
pub mod memory;
pub mod nats;
pub mod node;
pub mod outbox;
pub mod pipeline;
pub mod quarantine;
pub mod repair;
pub mod restored;
pub mod state;
pub mod store;
pub mod topology;
mod traced;
pub mod trust;
