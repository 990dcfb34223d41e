//! `outrigger log-level`: which log lines a running node writes.

use clap::Args;
use serde::Serialize;

use super::{
    Session,
    error::CliError,
    output::{Format, print_lines},
    text::to_line,
};
use crate::{
    api::proto::v1::{GetLogFilterRequest, SetLogFilterRequest},
    config::value,
};

/// What `log-level` takes.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// A level, or levels by module; without it the filter in force is shown
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Take it back after so long, a day at most
    #[arg(long = "for", value_name = "DURATION", requires = "filter")]
    revert_after: Option<String>,
    /// Go back to what the settings say
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  outrigger log-level
  outrigger log-level warn,outrigger::mesh=debug --for 10m
  outrigger log-level --reset";

#[derive(Debug, Serialize)]
struct Shown<'a> {
    filter: &'a str,
    configured: &'a str,
}

/// Shows or changes the filter.
pub async fn run(session: &Session, args: &LogLevelArgs) -> Result<(), CliError> {
    let usage = |what| CliError::Usage(format!("--for: {what}"));
    let after = args.revert_after.as_deref().map(value::duration).transpose();
    let after = after.map_err(|invalid| usage(invalid.0))?;
    let seconds = after.map(|after| u32::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX));
    let mut client = session.node.admin().await?;
    let (filter, configured) = if args.reset || args.filter.is_some() {
        let request = SetLogFilterRequest { filter: args.filter.clone(), revert_after_seconds: seconds };
        let answer = client.set_log_filter(request).await?.into_inner();
        (answer.filter, answer.configured)
    } else {
        let answer = client.get_log_filter(GetLogFilterRequest {}).await?.into_inner();
        (answer.filter, answer.configured)
    };
    let limited = match seconds {
        Some(seconds) => format!("; {configured} again in {seconds} s"),
        None if filter != configured => format!("; configured is {configured}"),
        None => String::new(),
    };
    print_lines(&[match session.output {
        Format::Json => to_line(&Shown { filter: &filter, configured: &configured }),
        Format::Table => format!("{filter}{limited}"),
    }])
}
