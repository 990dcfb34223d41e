//! What the values of settings look like: pure functions from a text to a value.
//!
//! Owns the syntax of names, addresses, byte counts, durations and filters. A refusal says what was expected and what was found.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{Listen, LogFormat};
use crate::{
    event::Invalid,
    json::Json,
    limits::{BUILDS_MAX, OWNED_PATTERNS_MAX, SCRUB_INTERVAL_DEFAULT},
    ownership::Pattern,
};

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of durations in milliseconds; `ms` comes before the units that it ends with.
const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A DNS label: 1 to 63 of a-z, 0-9 and -, with no - at either end.
pub fn dns_label(text: &str) -> Result<String, Invalid> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        Ok(text.to_owned())
    } else {
        Err(Invalid(format!(
            "expected a DNS label (1 to 63 of a-z, 0-9 and -, no - at either end), found {text:?}"
        )))
    }
}

/// A path that is not empty.
pub fn path(text: &str) -> Result<PathBuf, Invalid> {
    if text.is_empty() { Err(Invalid("expected a path, found none".into())) } else { Ok(text.into()) }
}

/// The items of a list: a JSON array of texts, as a file's list is kept, or texts separated by commas.
pub fn list(text: &str) -> Result<Vec<String>, Invalid> {
    if !text.starts_with('[') {
        return Ok(text
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect());
    }
    let expected = || Invalid(format!("expected a list of texts, found {text:?}"));
    match Json::parse(text.as_bytes()) {
        Ok(Json::Array(items)) => {
            let item = |item: Json| match item {
                Json::Text(item) => Ok(item.to_string()),
                _ => Err(expected()),
            };
            items.into_iter().map(item).collect()
        }
        _ => Err(expected()),
    }
}

/// A list of names and beginnings of names.
pub fn patterns(text: &str) -> Result<Vec<Pattern>, Invalid> {
    let items = list(text)?;
    if items.len() > OWNED_PATTERNS_MAX {
        return Err(Invalid(format!(
            "expected at most {OWNED_PATTERNS_MAX} patterns, found {}",
            items.len()
        )));
    }
    items.iter().map(|item| Pattern::parse(item)).collect()
}

/// Addresses of NATS servers, separated by commas.
pub fn nats_url(text: &str) -> Result<String, Invalid> {
    let good = |url: &str| {
        let rest = ["nats://", "tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c == '/'))
    };
    let items = list(text)?;
    if !items.is_empty() && items.iter().all(|url| good(url)) {
        return Ok(items.join(","));
    }
    Err(Invalid(format!(
        "expected addresses such as nats://127.0.0.1:4222, separated by commas, found {text:?}"
    )))
}

/// An IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, Invalid> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        Invalid(format!("expected an IP address and a port such as 127.0.0.1:7400, found {text:?}"))
    })
}

/// An IP address and a port, or `unix:PATH`.
pub fn listen(text: &str) -> Result<Listen, Invalid> {
    let listen = match text.strip_prefix("unix:") {
        Some(path) => (!path.is_empty()).then(|| Listen::Unix(path.into())),
        None => address(text).ok().map(Listen::Tcp),
    };
    listen.ok_or_else(|| {
        Invalid(format!(
            "expected an IP address and a port such as 127.0.0.1:7400, or unix:PATH, found {text:?}"
        ))
    })
}

/// A count of bytes: a whole number with B, kB, MB, GB, KiB, MiB or GiB, or none.
pub fn bytes(text: &str) -> Result<u64, Invalid> {
    let trimmed = text.trim();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((trimmed, 1));
    let count = number.trim().parse::<u64>().ok();
    count
        .and_then(|count| count.checked_mul(factor))
        .ok_or_else(|| Invalid(format!("expected a number of bytes such as 512MiB, found {text:?}")))
}

/// A count of bytes that is not below `min`.
pub fn bytes_at_least(text: &str, min: u64) -> Result<u64, Invalid> {
    match bytes(text)? {
        count if count < min => {
            Err(Invalid(format!("expected at least {}, found {text:?}", bytes_text(min))))
        }
        count => Ok(count),
    }
}

/// A count of bytes in the largest unit that divides it.
pub fn bytes_text(count: u64) -> String {
    let (unit, factor) =
        UNITS[..3].iter().find(|(_, factor)| count > 0 && count.is_multiple_of(*factor)).unwrap_or(&("B", 1));
    format!("{}{unit}", count / factor)
}

/// A duration above zero: a whole number with ms, s, m, h or d.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let trimmed = text.trim();
    let unit = DURATIONS.iter().find_map(|(unit, ms)| Some((trimmed.strip_suffix(unit)?, *ms)));
    let millis = unit.and_then(|(number, ms)| number.trim().parse::<u64>().ok()?.checked_mul(ms));
    match millis {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Invalid(format!("expected a duration above zero such as 30s or 500ms, found {text:?}"))),
    }
}

/// A duration in the largest unit that divides it.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis() as u64;
    let divides = |(_, ms): &&(&str, u64)| millis.is_multiple_of(*ms);
    let (unit, ms) = DURATIONS.iter().filter(divides).max_by_key(|(_, ms)| *ms).unwrap_or(&DURATIONS[0]);
    format!("{}{unit}", millis / ms)
}

/// How often to scrub: `off`, `on` for the default, or a duration.
pub fn scrub(text: &str) -> Result<Option<Duration>, Invalid> {
    // YAML reads some of these words as booleans.
    match text.trim() {
        "off" | "false" => return Ok(None),
        "on" | "true" => return Ok(Some(SCRUB_INTERVAL_DEFAULT)),
        _ => {}
    }
    let invalid = |_| Invalid(format!("expected off, on, or an interval such as 24h, found {text:?}"));
    duration(text).map(Some).map_err(invalid)
}

/// As `scrub` reads it.
pub fn scrub_text(interval: Option<Duration>) -> String {
    interval.map_or_else(|| "off".into(), duration_text)
}

/// How many builds go on at once.
pub fn builds(text: &str) -> Result<usize, Invalid> {
    let count = text.parse().ok().filter(|count| (1..=BUILDS_MAX).contains(count));
    count.ok_or_else(|| Invalid(format!("expected a number from 1 to {BUILDS_MAX}, found {text:?}")))
}

/// A whole number, 0 or above.
pub fn number(text: &str) -> Result<u64, Invalid> {
    text.parse().map_err(|_| Invalid(format!("expected a whole number such as 1, found {text:?}")))
}

/// `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, Invalid> {
    text.parse().map_err(|_| Invalid(format!("expected true or false, found {text:?}")))
}

/// A filter of log lines: a level, or levels by module.
pub fn log_filter(text: &str) -> Result<String, Invalid> {
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err(Invalid("expected a filter such as info, found none".into())),
        Err(error) => Err(Invalid(format!(
            "expected a filter such as info or warn,outrigger::log=debug, found {text:?}: {error}"
        ))),
    }
}

/// `text` or `json`.
pub fn log_format(text: &str) -> Result<LogFormat, Invalid> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Invalid(format!("expected text or json, found {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: Debug + PartialEq>(actual: Result<T, Invalid>, expected: Result<T, &str>) {
        match (&actual, &expected) {
            (Ok(actual), Ok(expected)) if actual == expected => {}
            (Err(Invalid(actual)), Err(expected)) if actual.contains(expected) => {}
            _ => panic!("expected {expected:?}, found {actual:?}"),
        }
    }

    #[test]
    fn names_are_dns_labels() {
        check(dns_label("flights-2"), Ok("flights-2".into()));
        for bad in ["", "-a", "a-", "Flights", "a.b", "a_b", &"a".repeat(64)] {
            check(dns_label(bad), Err("expected a DNS label"));
        }
    }

    #[test]
    fn byte_counts_carry_units() {
        check(bytes("512MiB"), Ok(512 << 20));
        check(bytes("1 GB"), Ok(1_000_000_000));
        check(bytes("7"), Ok(7));
        check(bytes("3kB"), Ok(3_000));
        for bad in ["", "MiB", "-1", "1.5GiB", "1TiB", "99999999999GiB"] {
            check(bytes(bad), Err("such as 512MiB"));
        }
        check(bytes_at_least("1MiB", 1 << 21), Err("expected at least 2MiB"));
    }

    #[test]
    fn durations_carry_units() {
        check(duration("30s"), Ok(Duration::from_secs(30)));
        check(duration("250 ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "0s", "30", "-1s", "1.5s", "1w", "9999999999999999999h"] {
            check(duration(bad), Err("such as 30s or 500ms"));
        }
        for text in ["30s", "2m", "1h", "1ms", "90s", "1500ms"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn byte_counts_read_back_as_they_print() {
        for count in [0, 1, 1 << 10, 3 << 20, 5 << 30, 1_000_000] {
            check(bytes(&bytes_text(count)), Ok(count));
        }
        assert_eq!(bytes_text(512 << 20), "512MiB");
    }

    #[test]
    fn intervals_carry_units_and_read_back_as_they_print() {
        check(scrub("off"), Ok(None));
        check(scrub("false"), Ok(None));
        check(scrub("on"), Ok(Some(SCRUB_INTERVAL_DEFAULT)));
        for (text, seconds) in [("90s", 90), ("5m", 300), ("36h", 129_600), ("7d", 604_800)] {
            check(scrub(text), Ok(Some(Duration::from_secs(seconds))));
            assert_eq!(scrub_text(Some(Duration::from_secs(seconds))), text);
        }
        for bad in ["", "0h", "7", "h", "-1h", "999999999999999999d"] {
            check(scrub(bad), Err("expected off, on, or an interval such as 24h"));
        }
    }

    #[test]
    fn addresses_have_a_port() {
        check(address("127.0.0.1:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        check(address("localhost:7400"), Ok(SocketAddr::from(([127, 0, 0, 1], 7400))));
        for bad in ["", "7400", "127.0.0.1", "host:1", "127.0.0.1:70000"] {
            check(address(bad), Err("expected an IP address and a port"));
        }
    }

    #[test]
    fn listeners_are_addresses_or_sockets() {
        check(listen("127.0.0.1:0"), Ok(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))));
        check(listen("unix:/run/o.sock"), Ok(Listen::Unix("/run/o.sock".into())));
        for bad in ["unix:", "/run/o.sock", "host:1"] {
            check(listen(bad), Err("or unix:PATH, found"));
        }
    }

    #[test]
    fn log_settings_are_checked() {
        check(log_filter("warn,outrigger=debug"), Ok("warn,outrigger=debug".into()));
        check(log_filter(""), Err("found none"));
        check(log_filter("outrigger=loud"), Err("expected a filter"));
        check(log_format("json"), Ok(LogFormat::Json));
        check(log_format("xml"), Err("expected text or json"));
        check(boolean("yes"), Err("expected true or false"));
    }
}
