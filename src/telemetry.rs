//! What the process says about itself: lines on stderr through `tracing`, and spans and metrics over OTLP.
//!
//! Owns the subscriber. Standard output is never touched: it belongs to the commands. Does not know who logs what.

pub mod control;
pub mod otlp;
pub mod recent;

use std::io;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use self::{control::LogControl, recent::Recent};
use crate::config::{LogFormat, Telemetry};

/// Starts logging for the process; a second call starts nothing, and what it gives changes nothing.
pub fn start(settings: &Telemetry, colour: bool) -> LogControl {
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let control = LogControl::new(handle, &settings.log, Recent::default());
    let registry = tracing_subscriber::registry().with(filter).with(control.recent.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => registry.with(lines.with_ansi(colour)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    control
}
