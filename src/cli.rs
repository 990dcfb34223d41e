//! The command line: what can be typed, and what runs then.
//!
//! `serve` and `demo` run a node through `app`; every other command talks gRPC to one, or works offline. One file per
//! group of commands. Answers go to standard output, everything else to stderr.

use std::{
    ffi::OsString,
    future::Future,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use tokio::runtime;

use self::{
    append::AppendArgs,
    backup::BackupArgs,
    bench::BenchCommand,
    client::Node,
    common::Common,
    count::CountArgs,
    documents::{GetArgs, ListArgs},
    error::CliError,
    healthcheck::HealthcheckArgs,
    load::LoadArgs,
    load::progress::say,
    offline::TestArgs,
    output::{Format, print_lines},
    projection::errors::{ErrorsArgs, RetryArgs, SkipArgs},
    read::{ReadArgs, StreamsArgs, SubscribeArgs, TrackingArgs},
    repair::RepairArgs,
    restore::RestoreArgs,
    serve::ServeArgs,
    verify::VerifyArgs,
    watch::WatchArgs,
};
use crate::{
    allocator,
    config::{Config, Environment, Loaded, Telemetry},
    disk::real::RealDisk,
    telemetry::control::LogControl,
};

pub mod append;
pub mod backup;
pub mod bench;
pub mod client;
mod common;
pub mod count;
pub mod demo;
pub mod doctor;
pub mod documents;
pub mod error;
mod event_errors;
pub mod healthcheck;
pub mod load;
pub mod log_level;
pub mod mesh;
pub mod offline;
pub mod output;
pub mod projection;
mod query;
pub mod read;
pub mod release;
pub mod render;
pub mod repair;
pub mod restore;
pub mod select;
pub mod serve;
pub mod settings;
pub mod support_bundle;
pub mod text;
pub mod verify;
pub mod watch;

/// A sidecar datastore: an event log, and documents projected from it, for one service.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  outrigger demo
  outrigger serve --projection examples/airport/projections/departures-v1.yaml
  outrigger load examples/airport/flights-2013-01-01.ndjson
  outrigger get departures airports EWR

Exit codes: 0 done, 1 refused or failed, 2 usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    #[command(after_help = serve::EXAMPLES)]
    Serve(ServeArgs),
    /// Bring events in from a file
    #[command(after_help = load::EXAMPLES)]
    Load(LoadArgs),
    /// Append one event
    #[command(after_help = append::EXAMPLES)]
    Append(AppendArgs),
    /// Read events
    #[command(after_help = read::READ_EXAMPLES)]
    Read(ReadArgs),
    /// Read events, then new ones as they come
    #[command(after_help = read::SUBSCRIBE_EXAMPLES)]
    Subscribe(SubscribeArgs),
    /// List the streams of the log
    #[command(after_help = read::STREAMS_EXAMPLES)]
    Streams(StreamsArgs),
    /// How far a consumer has come in a source
    #[command(after_help = read::TRACKING_EXAMPLES)]
    Tracking(TrackingArgs),
    /// Print one document of a projection
    #[command(after_help = documents::GET_EXAMPLES)]
    Get(GetArgs),
    /// List documents of a projection
    #[command(after_help = documents::LIST_EXAMPLES)]
    List(ListArgs),
    /// Count documents of a projection
    #[command(after_help = count::EXAMPLES)]
    Count(CountArgs),
    /// Documents of a projection, then their changes as they come
    #[command(after_help = watch::EXAMPLES)]
    Watch(WatchArgs),
    /// What is deployed; checking and testing definitions
    #[command(subcommand)]
    Projection(ProjectionCommand),
    /// What one version of a service reads, under one name
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Show or change which log lines a running node writes
    #[command(after_help = log_level::EXAMPLES)]
    LogLevel(log_level::LogLevelArgs),
    /// What nodes share, who may append what, keys
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Measure a node, and what the machine can do at best
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Back a running node up
    #[command(after_help = backup::EXAMPLES)]
    Backup(BackupArgs),
    /// Make a data directory of a backup, offline
    #[command(after_help = restore::EXAMPLES)]
    Restore(RestoreArgs),
    /// Look at what a node runs on: settings, disk, clock, memory, files of keys, ports, NATS
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Collect what helps to find the reason of trouble, without event data
    #[command(after_help = support_bundle::EXAMPLES)]
    SupportBundle(support_bundle::SupportBundleArgs),
    /// Check a whole data directory, offline and without changing it
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArgs),
    /// Repair a damaged data directory, offline, by explicit flags only
    #[command(after_help = repair::EXAMPLES)]
    Repair(RepairArgs),
    /// Check or print the settings that `serve` would run with
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask whether a node is ready: for containers and scripts
    #[command(after_help = healthcheck::EXAMPLES)]
    Healthcheck(HealthcheckArgs),
    /// Print the version
    #[command(after_help = "Examples:\n  outrigger version\n  outrigger version --output json")]
    Version,
    /// A node in a temporary directory, a day of real flights, and what it knows about them
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
}

#[derive(Debug, Subcommand)]
enum ProjectionCommand {
    /// All versions of all projections: state, position, lag, rate, content hash
    #[command(
        after_help = "Examples:\n  outrigger projection list\n  outrigger projection list --output json"
    )]
    List,
    /// All versions of one projection, with their collections
    #[command(after_help = projection::SHOW_EXAMPLES)]
    Show(projection::ShowArgs),
    /// Build a version a second time and compare it with the running one
    #[command(after_help = projection::verify::EXAMPLES)]
    Verify(projection::verify::VerifyProjectionArgs),
    /// Compare all documents of two versions, as they are at one position
    #[command(after_help = projection::compare::EXAMPLES)]
    Compare(projection::compare::CompareArgs),
    /// Build a version once more, up to a point of the past, to be queried by a label
    #[command(after_help = projection::standing::BUILD_EXAMPLES)]
    Build(projection::standing::BuildArgs),
    /// Remove what `build` made
    #[command(after_help = projection::standing::REMOVE_EXAMPLES)]
    Remove(projection::standing::RemoveArgs),
    /// Events that a version did not apply: the one it stands at, parked ones, skipped ones
    #[command(after_help = projection::errors::ERRORS_EXAMPLES)]
    Errors(ErrorsArgs),
    /// Let a version try again the event it stands at, and those that it has parked
    #[command(after_help = projection::errors::RETRY_EXAMPLES)]
    Retry(RetryArgs),
    /// Decide that a version passes an event by, for good
    #[command(after_help = projection::errors::SKIP_EXAMPLES)]
    Skip(SkipArgs),
    #[command(flatten)]
    Versions(projection::versions::VersionCommand),
    /// Check a definition, offline
    #[command(
        after_help = "Examples:\n  outrigger projection check examples/airport/projections/departures-v1.yaml"
    )]
    Check {
        /// The definition
        file: PathBuf,
    },
    /// Run a definition over a file of events, offline, and print or compare the documents
    #[command(after_help = offline::TEST_EXAMPLES)]
    Test(TestArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Name everything that is wrong; exit 1 if anything is
    #[command(after_help = "Examples:\n  outrigger config check --config outrigger.yaml")]
    Check(ServeArgs),
    /// Print every setting with its source
    #[command(after_help = "Examples:\n  outrigger config print --config outrigger.yaml > effective.yaml")]
    Print(ServeArgs),
}

/// What commands that talk to a node know.
#[derive(Debug, Clone)]
pub struct Session {
    /// The node.
    pub node: Node,
    /// How answers are printed.
    pub output: Format,
}

/// A command line that was understood, ready to run.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    session: Session,
    environment: Environment,
    /// The settings, for `serve`.
    loaded: Option<Loaded>,
    /// Whether lines on stderr may be coloured.
    pub colour: bool,
    /// Whether standard output may be coloured.
    colour_of_output: bool,
}

impl Invocation {
    /// Understands a command line. Help, version and usage errors are printed here and end the process.
    pub fn parse(
        line: impl IntoIterator<Item = OsString>,
        environment: Environment,
    ) -> Result<Self, CliError> {
        let arguments = match Arguments::try_parse_from(line) {
            Ok(arguments) => arguments,
            Err(error) => error.exit(),
        };
        let defaults = environment.client_defaults();
        let no_colour = defaults.no_colour;
        let output = arguments.common.output;
        let node = arguments.common.node(defaults)?;
        let loaded = match &arguments.command {
            Command::Serve(args) => {
                let loaded = crate::config::load(&args.flags(), &environment, &RealDisk)?;
                settings::warn(&loaded);
                Some(loaded)
            }
            _ => None,
        };
        Ok(Self {
            command: arguments.command,
            session: Session { node, output },
            environment,
            loaded,
            colour: io::stderr().is_terminal() && !no_colour,
            colour_of_output: output::is_terminal() && !no_colour,
        })
    }

    /// How answers are printed, and errors with them.
    pub fn output(&self) -> Format {
        self.session.output
    }

    /// What this command logs: a node what it is told to, others warnings.
    pub fn telemetry(&self) -> Telemetry {
        let loaded = self.loaded.as_ref();
        let settings = loaded.map_or_else(Config::default, |loaded| loaded.config.clone()).telemetry;
        match self.command {
            Command::Serve(_) => settings,
            _ => Telemetry { log: "warn".into(), ..settings },
        }
    }

    /// Runs the command to its end.
    pub fn run(self, logs: LogControl) -> Result<(), CliError> {
        let session = &self.session;
        match self.command {
            Command::Serve(_) => {
                wait_all_cores(serve::run(self.loaded.expect("it was read for this command"), logs))
            }
            Command::Doctor(args) => {
                let loaded = crate::config::load(&args.serve.flags(), &self.environment, &RealDisk);
                wait_all_cores(doctor::run(session, loaded))
            }
            Command::SupportBundle(args) => wait(support_bundle::run(session, &args)),
            Command::LogLevel(args) => wait(log_level::run(session, &args)),
            Command::Demo(args) => wait_all_cores(demo::run(&args, session.output, self.colour_of_output)),
            Command::Load(args) => wait(load::run(session, &args)),
            Command::Append(args) => wait(append::run(session, &args)),
            Command::Read(args) => wait(read::read(session, &args)),
            Command::Subscribe(args) => wait(read::subscribe(session, &args)),
            Command::Streams(args) => wait(read::streams(session, &args)),
            Command::Tracking(args) => wait(read::tracking(session, &args)),
            Command::Get(args) => wait(documents::get(session, &args)),
            Command::List(args) => wait(documents::list(session, &args)),
            Command::Count(args) => wait(count::run(session, &args)),
            Command::Watch(args) => wait(watch::run(session, &args)),
            Command::Projection(ProjectionCommand::List) => wait(projection::list(session)),
            Command::Projection(ProjectionCommand::Show(args)) => wait(projection::show(session, &args)),
            Command::Projection(ProjectionCommand::Verify(args)) => {
                wait(projection::verify::run(session, &args))
            }
            Command::Projection(ProjectionCommand::Compare(args)) => {
                wait(projection::compare::run(session, &args))
            }
            Command::Projection(ProjectionCommand::Build(args)) => {
                wait(projection::standing::build(session, &args))
            }
            Command::Projection(ProjectionCommand::Remove(args)) => {
                wait(projection::standing::remove(session, &args))
            }
            Command::Projection(ProjectionCommand::Errors(args)) => {
                wait(projection::errors::errors(session, &args))
            }
            Command::Projection(ProjectionCommand::Retry(args)) => {
                wait(projection::errors::retry(session, &args))
            }
            Command::Projection(ProjectionCommand::Skip(args)) => {
                wait(projection::errors::skip(session, &args))
            }
            Command::Projection(ProjectionCommand::Versions(command)) => {
                wait(projection::versions::run(session, command))
            }
            Command::Projection(ProjectionCommand::Check { file }) => offline::check(&file, session.output),
            Command::Projection(ProjectionCommand::Test(args)) => offline::test(&args, session.output),
            Command::Release(command) => wait(release::run(session, command)),
            Command::Mesh(command) => mesh::run(session, command),
            // The bare server of the baseline is a server like any other.
            Command::Bench(BenchCommand::EchoServer) => {
                wait_all_cores(bench::run(session, &BenchCommand::EchoServer))
            }
            Command::Bench(command) => wait(bench::run(session, &command)),
            Command::Backup(args) => wait(backup::run(session, &args)),
            Command::Restore(args) => restore::run(&args, session.output),
            Command::Verify(args) => verify::run(&args, session.output),
            Command::Repair(args) => repair::run(&args, session.output),
            Command::Config(ConfigCommand::Check(args)) => {
                settings::check(crate::config::load(&args.flags(), &self.environment, &RealDisk))
            }
            Command::Config(ConfigCommand::Print(args)) => {
                let loaded = crate::config::load(&args.flags(), &self.environment, &RealDisk)?;
                settings::print(&loaded, session.output)
            }
            Command::Healthcheck(args) => wait(healthcheck::run(session, &args)),
            Command::Version => version(session.output),
        }
    }
}

/// Prints an error and returns the exit code; a closed output is no error.
pub fn report(error: &CliError, format: Format) -> u8 {
    if !matches!(error, CliError::OutputClosed) {
        match format {
            Format::Json => say(&error.json()),
            Format::Table => say(&error.lines()),
        }
    }
    error.exit_code()
}

fn version(format: Format) -> Result<(), CliError> {
    let number = env!("CARGO_PKG_VERSION");
    print_lines(&[match format {
        Format::Table => format!("outrigger {number}"),
        Format::Json => text::to_line(&std::collections::BTreeMap::from([("version", number)])),
    }])
}

/// Runs a client's command: one thread is enough.
fn wait(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    block_on(runtime::Builder::new_current_thread(), command)
}

/// Runs a node.
fn wait_all_cores(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.on_thread_park(allocator::tidy_seldom);
    block_on(builder, command)
}

fn block_on(
    mut builder: runtime::Builder,
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(command);
    // What a command leaves running (a log that is being opened when a signal comes, work that a second signal cuts short) is not
    // waited for: the process ends.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    fn every_command(command: &clap::Command, path: &str, check: &mut impl FnMut(&clap::Command, &str)) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            if sub.has_subcommands() {
                every_command(sub, &path, check);
            } else {
                check(sub, &path);
            }
        }
    }

    #[test]
    fn every_command_helps_with_an_example_that_parses() {
        let mut examples = 0;
        every_command(&Arguments::command(), "outrigger", &mut |command, path| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace("\\\n", " ");
            let shown: Vec<&str> = help.lines().filter(|line| line.trim_start().starts_with(path)).collect();
            assert!(!shown.is_empty(), "{path} has no example: {help}");
            for line in shown {
                let words = words(line.trim());
                let parsed = Arguments::try_parse_from(&words);
                assert!(parsed.is_ok(), "{line}: {words:?}: {}", parsed.unwrap_err());
                examples += 1;
            }
        });
        assert!(examples > 20, "{examples}");
    }

    #[test]
    fn the_page_names_every_command_and_flag() {
        let page = include_str!("../docs/cli.md");
        let common = ["help", "version", "addr", "token", "output"];
        every_command(&Arguments::command(), "outrigger", &mut |command, path| {
            // `echo-server` is how `bench baseline` starts its other half.
            if command.is_hide_set() {
                return;
            }
            assert!(page.contains(path.trim_start_matches("outrigger ")), "{path} is not in docs/cli.md");
            let flags = command.get_arguments().filter_map(|argument| argument.get_long());
            for flag in flags.filter(|flag| !common.contains(flag)) {
                assert!(page.contains(&format!("--{flag}")), "{path} --{flag} is not in docs/cli.md");
            }
        });
    }

    /// Words as a shell would split them: single quotes, and nothing behind a pipe or redirection.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                '|' | '>' if !quoted => break,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
