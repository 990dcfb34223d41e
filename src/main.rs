//! The `outrigger` binary: the whole life of the process on one page.

use std::{env, process::ExitCode};

use outrigger::{
    cli::{self, Invocation},
    config::Environment,
    telemetry,
};

fn main() -> ExitCode {
    let ended = Invocation::parse(env::args_os(), Environment::of_process()).and_then(|invocation| {
        telemetry::start(&invocation.telemetry(), invocation.colour);
        invocation.run()
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(cli::report(&error)),
    }
}
