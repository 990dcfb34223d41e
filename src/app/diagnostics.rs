//! What the API is given of logs, settings and metrics.
//!
//! Invariant: a change of the log's filter that is limited in time is taken back when that is over, unless another one has
//! followed. Does not know who may ask.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{diagnostics::Handle, proto::v1},
    http::Gather,
    lifecycle::Lifecycle,
    metrics,
    telemetry::{
        control::{Filters, LogControl},
        recent::Line,
    },
};

/// A setting as it is told: its key, its value, where that comes from.
pub type Setting = (&'static str, Option<String>, String);

/// What the API knows of them. Without `logs` the process writes no log of its own.
pub(super) fn handle(
    logs: Option<LogControl>,
    settings: Vec<Setting>,
    gather: Gather,
    lifecycle: Lifecycle,
) -> Handle {
    let (shown, set, recent) = (logs.clone(), logs.clone(), logs);
    let settings: Vec<v1::DiagnosticSetting> = settings
        .into_iter()
        .map(|(key, value, source)| v1::DiagnosticSetting {
            key: key.to_owned(),
            value: value.map(|value| without_secrets(&value)),
            source,
        })
        .collect();
    Handle {
        filters: Arc::new(move || shown.as_ref().map(|logs| texts(logs.filters()))),
        set_filter: Arc::new(move |filter, after| {
            let logs = set.as_ref().ok_or("the process writes no log of its own")?;
            let change = logs.set(filter).map_err(|invalid| invalid.0)?;
            let filters = logs.filters();
            tracing::warn!(filter = %filters.filter, ?after, "the filter of log lines was changed");
            if let Some(after) = after {
                lifecycle.tasks().spawn(revert(logs.clone(), change, after, lifecycle.clone()));
            }
            Ok(texts(filters))
        }),
        diagnostics: Arc::new(move || v1::GetDiagnosticsResponse {
            settings: settings.clone(),
            metrics: metrics::text(&gather()),
            recent: recent.iter().flat_map(|logs| logs.recent.lines()).map(line).collect(),
        }),
    }
}

async fn revert(logs: LogControl, change: u64, after: Duration, lifecycle: Lifecycle) {
    tokio::select! {
        () = tokio::time::sleep(after) => {}
        () = lifecycle.stop().cancelled() => return,
    }
    if logs.revert(change) {
        tracing::warn!("the filter of log lines is the configured one again");
    }
}

fn texts(filters: Filters) -> (String, String) {
    (filters.filter.to_string(), filters.configured.to_string())
}

fn line(line: Line) -> v1::LogLine {
    let Line { time_unix_nanos, level, target, text } = line;
    v1::LogLine { time_unix_nanos, level: level.to_owned(), target, text }
}

/// An address without the name and password that it may have.
fn without_secrets(value: &str) -> String {
    let without = |item: &str| match (item.find("://"), item.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}(left out){}", &item[..scheme + 3], &item[at..])
        }
        _ => item.to_owned(),
    };
    value.split(',').map(without).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_passwords() {
        assert_eq!(without_secrets("nats://u:p@a:4222,nats://b:1"), "nats://(left out)@a:4222,nats://b:1");
        assert_eq!(without_secrets("512MiB"), "512MiB");
    }
}
