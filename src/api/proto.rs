//! The types and services that `build.rs` compiles from `proto/`, for the gRPC server and for the command line's
//! client.
//!
//! Owns nothing but the include. It does not know how a message becomes a domain value (`api::convert`).

/// Package `outrigger.v1`: messages, clients and servers.
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("outrigger.v1");
}

/// The servers whose answers hand over events (`api::raw`) and documents (`api::raw_query`) as bytes.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "generated code, of which the servers of the event log and of queries alone are used"
)]
pub(crate) mod raw_servers {
    include!(concat!(env!("OUT_DIR"), "/raw/outrigger.v1.rs"));
}

/// The encoded descriptor set of all files under `proto/`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
