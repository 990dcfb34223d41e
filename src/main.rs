//! The `outrigger` binary: the whole life of the process on one page.

use std::{env, process::ExitCode};

use outrigger::{
    cli::{self, Invocation, output::Format},
    config::Environment,
    telemetry,
};

/// Events are decoded on one thread and freed on another, which the system's allocator takes ill: a third of the time that
/// builds of projections took went into it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = match Invocation::parse(env::args_os(), Environment::of_process()) {
        Ok(invocation) => invocation,
        Err(error) => return ExitCode::from(cli::report(&error, Format::Table)),
    };
    let logs = telemetry::start(&invocation.telemetry(), invocation.colour);
    let format = invocation.output();
    match invocation.run(logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(cli::report(&error, format)),
    }
}
