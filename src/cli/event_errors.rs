//! Events that a projection or an import could not handle, as people see them: a table, or each in full.

use super::{
    error::CliError,
    output::{Align, Out, table},
};

/// What a line of the table shows of an error at most.
const ERROR_CHARS_MAX: usize = 100;

/// One of them, in words.
#[derive(Debug)]
pub(super) struct EventErrorLine {
    /// Of the event, in its log.
    pub position: u64,
    /// What became of it.
    pub state: &'static str,
    /// Of the event, where it is told.
    pub stream: String,
    /// Of the event, where it is told.
    pub event_type: String,
    /// Why, for a line of the table: stream and type have columns of their own there.
    pub short: String,
    /// Why, in full.
    pub why: String,
    /// The event as one line of JSON, where it is told.
    pub event: Option<String>,
}

/// Prints a page of them; nothing for an empty one.
pub(super) fn print_page(out: &mut Out, lines: &[EventErrorLine], full: bool) -> Result<(), CliError> {
    if full {
        return lines.iter().try_for_each(|line| print_full(out, line));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mut rows = table(&[
        ("position", Align::Right),
        ("state", Align::Left),
        ("stream", Align::Left),
        ("type", Align::Left),
        ("error", Align::Left),
    ]);
    for line in lines {
        let cut = if line.short.chars().count() > ERROR_CHARS_MAX { " ..." } else { "" };
        rows.add_row([
            line.position.to_string(),
            line.state.to_owned(),
            line.stream.clone(),
            line.event_type.clone(),
            line.short.chars().take(ERROR_CHARS_MAX).chain(cut.chars()).collect(),
        ]);
    }
    out.table(&rows)
}

fn print_full(out: &mut Out, line: &EventErrorLine) -> Result<(), CliError> {
    out.line(&format!("position {}: {}: {}", line.position, line.state, line.why))?;
    line.event.iter().try_for_each(|event| out.line(&format!("  {event}")))
}
