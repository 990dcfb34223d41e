//! Integration tests: one binary. They go through the real gRPC API, of a node in this process or in its own.

mod airport;
mod bad_input;
mod cli;
mod cli_offline;
mod durability;
mod event_log;
mod read_your_writes;
mod startup;
mod support;
mod tidy;
