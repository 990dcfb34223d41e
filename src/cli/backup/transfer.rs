//! How far a backup or restore is, on stderr: a bar on a terminal, a line every few seconds elsewhere; and the rate that it keeps to.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{load::progress::say, text::duration_text};

const LINE_EVERY: Duration = Duration::from_secs(3);
const DRAW_EVERY: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "{bar:30} {percent:>3} %  {msg}";

/// Bytes on their way.
#[derive(Debug)]
pub struct Transfer {
    what: &'static str,
    bar: Option<ProgressBar>,
    began: Instant,
    shown: Instant,
    bytes: u64,
    bytes_total: u64,
    per_second_max: Option<u64>,
}

impl Transfer {
    /// Begins now.
    pub fn new(what: &'static str, bytes_total: u64, per_second_max: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE);
            ProgressBar::new(bytes_total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now = Instant::now();
        Self { what, bar, began: now, shown: now, bytes: 0, bytes_total, per_second_max }
    }

    /// So many bytes more have passed; waits where that is more than the rate allows.
    pub fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(per_second) = self.per_second_max {
            let due = Duration::from_secs_f64(self.bytes as f64 / per_second as f64);
            while let Some(wait) = due.checked_sub(self.began.elapsed()).filter(|wait| !wait.is_zero()) {
                thread::park_timeout(wait);
            }
        }
        self.show();
    }

    fn show(&mut self) {
        let every = if self.bar.is_some() { DRAW_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.bytes as f64 / seconds;
        let left = self.bytes_total.saturating_sub(self.bytes) as f64 / rate.max(1.0);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let text = format!(
            "{}: {:.0} of {:.0} MiB, {:.1} MiB/s, {} left",
            self.what,
            mib(self.bytes as f64),
            mib(self.bytes_total as f64),
            mib(rate),
            duration_text(left)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.bytes.min(self.bytes_total));
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
