//! Functions over points and lengths of time. Zones are fixed offsets only: names of zones mean other things on
//! other machines and at other times, and a replay must give the same documents.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::Offset};

use super::{Arguments, Outcome, message};
use crate::expression::{
    arithmetic::{in_range, is_duration},
    function::Function,
    value::Value,
};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// From RFC 3339 text or seconds since 1970.
pub(super) fn timestamp<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let time = match arguments.get(0) {
        Value::Time(time) => Some(*time),
        Value::Int(seconds) => Timestamp::from_second(*seconds).ok(),
        other => match other.as_text() {
            Some(text) => rfc3339(text),
            None => return arguments.expected(0, "an RFC 3339 text or seconds since 1970"),
        },
    };
    match time.filter(|time| in_range(*time)) {
        Some(time) => Ok(Value::Time(time)),
        None => arguments.expected(0, "a time such as 2013-01-01T08:15:00Z in the years 1 to 9999"),
    }
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && matches!(bytes[10], b'T' | b't');
    let plain =
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b'+'));
    if shaped && plain { text.parse().ok() } else { None }
}

/// From text such as `1h30m`, `90s`, `-1.5h`, `250ms`.
pub(super) fn duration<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    if let Value::Duration(duration) = arguments.get(0) {
        return Ok(Value::Duration(*duration));
    }
    match parse_duration(arguments.text(0)?) {
        Some(duration) => Ok(Value::Duration(duration)),
        None => arguments.expected(0, "a duration such as 1h30m, 90s or 1.5s"),
    }
}

fn parse_duration(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, i128); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("h", 3_600 * NANOS_PER_SECOND),
        ("m", 60 * NANOS_PER_SECOND),
        ("s", NANOS_PER_SECOND),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let end = rest.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.')?;
        let (number, tail) = rest.split_at(end);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 18 || fraction.len() > 12 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let digits = |digits: &str| {
            if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() }
        };
        nanos += digits(whole)? * scale;
        nanos += digits(fraction)? * scale / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        rest = &tail[unit.len()..];
    }
    let nanos = sign * nanos;
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    let rest = i32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    let duration = SignedDuration::new(seconds, rest);
    is_duration(duration).then_some(duration)
}

/// The local date and time, in UTC or at the offset that an argument gives.
fn civil(arguments: &Arguments<'_, '_>) -> Outcome<DateTime> {
    let Value::Time(time) = arguments.get(0) else {
        return arguments.expected(0, "a time (write timestamp(...))");
    };
    let offset = if arguments.has(1) { parse_offset(arguments.text(1)?) } else { Some(Offset::UTC) };
    match offset {
        Some(offset) => Ok(offset.to_datetime(*time)),
        None => arguments.expected(1, "UTC or an offset such as +02:00 (names of zones are not supported)"),
    }
}

fn parse_offset(text: &str) -> Option<Offset> {
    if matches!(text, "UTC" | "Z") {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |digits: &str, most: i32| -> Option<i32> {
        match digits.len() {
            2 if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|part| *part <= most)
            }
            _ => None,
        }
    };
    Offset::from_seconds(sign * (part(hours, 23)? * 3_600 + part(minutes, 59)? * 60)).ok()
}

/// Parts of a date; months and days of month and year count from 0 but for `getDate`, weeks begin with Sunday as 0.
pub(super) fn day_part<'a>(function: Function, arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let civil = civil(arguments)?;
    let part = match function {
        Function::FullYear => i64::from(civil.year()),
        Function::Month => i64::from(civil.month()) - 1,
        Function::DayOfMonth => i64::from(civil.day()) - 1,
        Function::DayOfWeek => i64::from(civil.weekday().to_sunday_zero_offset()),
        Function::DayOfYear => i64::from(civil.day_of_year()) - 1,
        _ => i64::from(civil.day()),
    };
    Ok(Value::Int(part))
}

/// Parts of the time of day; of a duration, its whole length in that unit.
pub(super) fn clock_part<'a>(function: Function, arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    if let Value::Duration(duration) = arguments.get(0) {
        if arguments.has(1) {
            return message("a duration has no offset");
        }
        return Ok(Value::Int(match function {
            Function::Hours => duration.as_hours(),
            Function::Minutes => duration.as_mins(),
            Function::Milliseconds => i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
            _ => duration.as_secs(),
        }));
    }
    let civil = civil(arguments)?;
    Ok(Value::Int(match function {
        Function::Hours => i64::from(civil.hour()),
        Function::Minutes => i64::from(civil.minute()),
        Function::Milliseconds => i64::from(civil.subsec_nanosecond()) / 1_000_000,
        _ => i64::from(civil.second()),
    }))
}
