//! The gRPC services.

pub mod proto;
