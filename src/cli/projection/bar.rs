//! How far something along the log is: a bar on a terminal, a line every few seconds elsewhere; always on stderr.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{load::progress::say, text::grouped};

const LINE_EVERY: Duration = Duration::from_secs(3);
const TEMPLATE: &str = "{bar:30} {percent:>3} %  {msg}";

/// Shows positions on their way to a target.
#[derive(Debug)]
pub(in crate::cli) struct Bar {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Bar {
    pub(in crate::cli) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE);
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, last_line: Instant::now() }
    }

    /// It is at `position` of `target`; `text` says what and how fast.
    pub(in crate::cli) fn update(&mut self, position: u64, target: u64, text: &str) {
        self.update_of(position, target, text, "events");
    }

    /// The same of something else than events.
    pub(in crate::cli) fn update_of(&mut self, position: u64, target: u64, text: &str, what: &str) {
        let text = format!("{text}, {} of {} {what}", grouped(position), grouped(target));
        match &self.bar {
            Some(bar) => {
                bar.set_length(target);
                bar.set_position(position);
                bar.set_message(text);
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                say(&text);
            }
            None => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
