//! Outrigger: a sidecar datastore, one per microservice.
#![warn(missing_docs)]

pub mod api;
pub mod app;
pub mod append;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod event;
pub mod expression;
pub mod follower;
pub mod http;
pub mod index;
pub mod json;
pub mod kv;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod meta;
pub mod metrics;
pub mod projection;
pub mod telemetry;
