//! The newest warnings and errors, kept in memory for whoever looks for the reason of trouble.
//!
//! Invariants: bounded in number and bytes; nothing that may quote an event, a document or a file is kept: messages are texts
//! of the program, numbers and names under the fields in `KEPT` are told, every other text is left out and named. Does not know who asks.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::{
    clock::{Clock, SystemClock},
    limits::{RECENT_LINE_BYTES_MAX, RECENT_LINES_MAX},
};

/// Fields whose text is a name or a word of the program.
const KEPT: [&str; 12] = [
    "code",
    "export",
    "import",
    "import_state",
    "node",
    "path",
    "projection",
    "reason",
    "segment",
    "signal",
    "waited",
    "wanted",
];

/// Bytes of a text that can be a name.
const NAME_BYTES_MAX: usize = 256;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since 1970.
    pub time_unix_nanos: i64,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// The module.
    pub target: String,
    /// The message and the fields that can be told.
    pub text: String,
}

/// The newest lines. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Line>>>);

impl Recent {
    /// From old to new.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let mut told = Told::default();
        event.record(&mut told);
        let mut text = told.message + &told.fields;
        if text.len() > RECENT_LINE_BYTES_MAX {
            let mut end = RECENT_LINE_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        let line = Line {
            time_unix_nanos: SystemClock.now_unix_nanos(),
            level: level.as_str(),
            target: event.metadata().target().to_owned(),
            text,
        };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == RECENT_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// What of an event's fields can be told.
#[derive(Default)]
struct Told {
    message: String,
    fields: String,
}

impl Told {
    fn tell(&mut self, field: &Field, value: &dyn fmt::Display) {
        write!(self.fields, " {}={value}", field.name()).expect("a string takes all text");
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name if KEPT.contains(&name) => match format!("{value:?}") {
                text if is_name(&text) => self.tell(field, &text),
                _ => self.tell(field, &"(left out)"),
            },
            _ => self.tell(field, &"(left out)"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.tell(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.tell(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.tell(field, &value);
    }
}

/// Whether a text is a name, a path or a word, and no sentence.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.contains(|c: char| c.is_whitespace() || c == '"')
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn what_may_quote_data_is_left_out() {
        let recent = Recent::default();
        let subscriber = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not this");
            let error = "expected a number, found \"secret\"";
            tracing::warn!(projection = "flights", position = 7, error, ?error, "it stopped");
            for number in 0..RECENT_LINES_MAX {
                tracing::error!(number, "again");
            }
        });
        let lines = recent.lines();
        assert_eq!(lines.len(), RECENT_LINES_MAX);
        assert_eq!((lines[0].level, lines[0].text.as_str()), ("ERROR", "again number=0"));

        let recent = Recent::default();
        let subscriber = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(projection = "flights", position = 7, error = "secret", trouble = %"secret", reason = %"a \"secret\"", "it stopped");
        });
        let text = recent.lines().remove(0).text;
        assert_eq!(
            text,
            "it stopped projection=flights position=7 error=(left out) trouble=(left out) reason=(left out)"
        );
    }
}
