//! What a load says while it goes on: a bar on a terminal, a line every few seconds elsewhere; always on stderr.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::source::Input;
use crate::cli::text::grouped;

const LINE_EVERY: Duration = Duration::from_secs(3);
const WITH_TOTAL: &str = "{bar:30} {percent:>3} %  {msg}";
const WITHOUT_TOTAL: &str = "{spinner} {msg}";

/// What a load has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that this load appended.
    pub loaded: u64,
    /// Events that were there already.
    pub existing: u64,
    /// Lines that were left out.
    pub skipped: u64,
}

/// Shows how far a load is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    bytes_read: Arc<AtomicU64>,
    began: Instant,
    last_line: Instant,
}

impl Progress {
    /// Begins to show the reading of `input`.
    pub fn of(input: &Input) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, template) = match input.bytes_total {
                Some(total) => (ProgressBar::new(total), WITH_TOTAL),
                None => (ProgressBar::new_spinner(), WITHOUT_TOTAL),
            };
            bar.with_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self {
            bar,
            bytes_read: Arc::clone(&input.bytes_read),
            began: Instant::now(),
            last_line: Instant::now(),
        }
    }

    /// Shows how far it is.
    pub fn update(&mut self, tally: &Tally) {
        let due = self.bar.is_some() || self.last_line.elapsed() >= LINE_EVERY;
        if !due {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = ((tally.loaded + tally.existing) as f64 / seconds) as u64;
        let text = format!(
            "{} events loaded, {} already there, {}/s",
            grouped(tally.loaded),
            grouped(tally.existing),
            grouped(rate)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.bytes_read.load(Ordering::Relaxed));
                bar.set_message(text);
            }
            None => self.say(&text),
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.last_line = Instant::now();
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on stderr; if nobody can read it, nobody needs it.
pub fn say(text: &str) {
    if writeln!(io::stderr(), "{text}").is_err() {
        tracing::debug!("stderr is closed");
    }
}
