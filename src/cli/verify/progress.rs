//! How far a verification is: a bar on a terminal, a line every few seconds elsewhere; always on stderr.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{load::progress::say, text::grouped},
    verify,
};

const LINE_EVERY: Duration = Duration::from_secs(3);
const DRAW_EVERY: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "{bar:30} {percent:>3} %  {msg}";

/// Shows how far a verification is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    shown: Instant,
}

impl Progress {
    /// Begins now.
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE);
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, began: Instant::now(), shown: Instant::now() }
    }

    /// Shows how far it is, not too often.
    pub fn update(&mut self, told: verify::Progress) {
        let every = if self.bar.is_some() { DRAW_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = (told.events as f64 / seconds) as u64;
        let (done, all) = (told.bytes >> 20, told.bytes_total >> 20);
        let events = grouped(told.events);
        let text = format!("{done} of {all} MiB read, {events} events, {}/s", grouped(rate));
        match &self.bar {
            Some(bar) => {
                bar.set_length(told.bytes_total);
                bar.set_position(told.bytes.min(told.bytes_total));
                bar.set_message(text);
            }
            None => say(&text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
