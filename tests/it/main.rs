//! Integration tests: one binary. They go through the real gRPC API, of a node in this process or in its own.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and stands outside of the seams"
)]

mod access;
mod airport;
mod airport_services;
mod backup;
mod bad_input;
mod bench;
mod blue_green;
mod cli;
mod cli_append;
mod cli_healthcheck;
mod cli_offline;
mod cli_projection;
mod cli_projection_errors;
mod cli_queries;
mod compare;
mod conditions;
mod conformance;
mod diagnostics;
mod durability;
mod event_log;
mod golden;
mod golden_exports;
mod golden_imported;
mod handlers;
mod kill;
mod kubernetes;
mod lifecycle;
mod memory_limit;
mod mesh;
mod mesh_broker;
mod mesh_bus;
mod mesh_commands;
mod mesh_decisions;
mod mesh_nats;
mod mesh_ownership;
mod mesh_private;
mod mesh_two_nodes;
mod metrics;
mod monitoring;
mod nats_server;
mod otlp;
mod otlp_receiver;
mod pages;
mod ports;
mod probes;
mod projection_errors;
mod projections;
mod prometheus_text;
mod queries;
mod read_your_writes;
mod releases;
mod standing;
mod startup;
mod subscribe;
mod support;
mod tidy;
mod tls;
mod verify;
mod watch;
