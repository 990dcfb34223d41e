//! Integration tests: one binary. They go through the real gRPC API, of a node in this process or in its own.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and stands outside of the seams"
)]

mod airport;
mod airport_services;
mod bad_input;
mod bench;
mod blue_green;
mod cli;
mod cli_append;
mod cli_offline;
mod cli_projection;
mod cli_projection_errors;
mod cli_queries;
mod compare;
mod conditions;
mod conformance;
mod durability;
mod event_log;
mod golden;
mod golden_exports;
mod handlers;
mod kill;
mod mesh;
mod mesh_bus;
mod mesh_commands;
mod mesh_nats;
mod mesh_ownership;
mod mesh_private;
mod mesh_two_nodes;
mod nats_server;
mod pages;
mod probes;
mod projection_errors;
mod projections;
mod queries;
mod read_your_writes;
mod releases;
mod standing;
mod startup;
mod subscribe;
mod support;
mod tidy;
mod verify;
mod watch;
