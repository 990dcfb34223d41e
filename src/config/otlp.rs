//! What `telemetry.otlp` can say: where spans and metrics go, which, and how often.
//!
//! Does not know how they get there.

use std::time::Duration;

use super::value;
use crate::{event::Invalid, limits::OTLP_METRICS_INTERVAL_DEFAULT};

/// Spans and metrics for a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// The collector. None: nothing is sent, and no spans are made.
    pub endpoint: Option<String>,
    /// Whether spans are made and sent.
    pub traces: bool,
    /// Of a million traces that begin here, so many are recorded. Those that a caller began are as the caller says.
    pub sample_ppm: u32,
    /// How often metrics are sent; none: never.
    pub metrics_interval: Option<Duration>,
}

impl Default for Otlp {
    fn default() -> Self {
        let metrics_interval = Some(OTLP_METRICS_INTERVAL_DEFAULT);
        Self { endpoint: None, traces: true, sample_ppm: 1_000_000, metrics_interval }
    }
}

/// `http://HOST:PORT`.
pub(super) fn endpoint(text: &str) -> Result<String, Invalid> {
    let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let port = authority.and_then(|authority| authority.rsplit_once(':'));
    let is_good = port.is_some_and(|(host, port)| {
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
        !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match authority {
        Some(authority) if is_good => Ok(format!("http://{authority}")),
        _ if text.starts_with("https://") => Err(Invalid(format!(
            "expected http://HOST:PORT, found {text:?}: connections to a collector are not encrypted; name one in the \
             same pod or machine, which passes on what it gets"
        ))),
        _ => Err(Invalid(format!(
            "expected the OTLP/gRPC address of a collector such as http://127.0.0.1:4317, found {text:?}"
        ))),
    }
}

/// A share from 0 to 1, in parts per million.
pub(super) fn sample(text: &str) -> Result<u32, Invalid> {
    let share = text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    let invalid = || Invalid(format!("expected a share from 0 to 1 such as 0.05, found {text:?}"));
    Ok((share.ok_or_else(invalid)? * 1e6).round() as u32)
}

/// `off`, or an interval.
pub(super) fn metrics_interval(text: &str) -> Result<Option<Duration>, Invalid> {
    // YAML reads some of these words as booleans.
    if matches!(text.trim(), "off" | "false") {
        return Ok(None);
    }
    value::duration(text)
        .map(Some)
        .map_err(|_| Invalid(format!("expected off or an interval such as 30s, found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        for good in ["http://127.0.0.1:4317", "http://collector.observability:4317/", "http://[::1]:4317"] {
            assert_eq!(endpoint(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in
            ["", "127.0.0.1:4317", "http://", "http://host", "http://host:0", "http://a b:1", "http://h:1/x"]
        {
            assert!(endpoint(bad).unwrap_err().0.contains("http://127.0.0.1:4317"), "{bad}");
        }
        assert!(endpoint("https://h:1").unwrap_err().0.contains("not encrypted"));
    }

    #[test]
    fn shares_and_intervals_have_bounds() {
        assert_eq!((sample("1"), sample("0.05"), sample("0")), (Ok(1_000_000), Ok(50_000), Ok(0)));
        assert!(sample("1.1").is_err() && sample("-0.1").is_err() && sample("NaN").is_err());
        assert_eq!(metrics_interval("off"), Ok(None));
        assert_eq!(metrics_interval("30s"), Ok(Some(Duration::from_secs(30))));
        assert!(metrics_interval("0s").is_err());
    }
}
