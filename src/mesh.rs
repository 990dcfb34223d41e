//! The mesh: sidecars share events over a bus, and every node stays the only owner of its own.
//!
//! Owns what travels between nodes and in which order it is believed. The bus is trusted for nothing but delay: what a
//! node stores comes in the owner's order, without gaps, and under the owner's signature. May use `append` and what lies
//! below it; does not know projections, gRPC or the command line, which get plain handles built in `app`.

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
pub mod repair;
pub mod state;
pub mod store;
pub mod topology;
pub mod trust;
