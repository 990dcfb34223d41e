//! The operators over values: arithmetic, equality, order.
//!
//! Two integers give an integer or an error, never a wrapped or rounded one; any other two numbers are computed as
//! doubles and give a finite double or an error. Equality and order go by the exact values of numbers.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{
    EvaluateError,
    meter::Meter,
    value::{Items, Value},
};
use crate::{
    json::{Json, compare_int_double},
    limits::EXPRESSION_TEXT_BYTES_MAX,
};

/// Why an operator gives no value.
pub(super) enum Trouble {
    /// The operands are of other kinds than these.
    Kinds(&'static str),
    Message(String),
    Limit(EvaluateError),
}

impl From<EvaluateError> for Trouble {
    fn from(error: EvaluateError) -> Self {
        Self::Limit(error)
    }
}

type Outcome<'a> = Result<Value<'a>, Trouble>;

fn message<T>(text: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Message(text.into()))
}

enum Numbers {
    Ints(i64, i64),
    Doubles(f64, f64),
}

fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Numbers> {
    Some(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Numbers::Ints(*a, *b),
        (Value::Int(a), Value::Double(b)) => Numbers::Doubles(*a as f64, *b),
        (Value::Double(a), Value::Int(b)) => Numbers::Doubles(*a, *b as f64),
        (Value::Double(a), Value::Double(b)) => Numbers::Doubles(*a, *b),
        _ => return None,
    })
}

fn whole<'a>(result: Option<i64>) -> Outcome<'a> {
    result.map_or_else(|| message("the result does not fit a 64-bit integer"), |value| Ok(Value::Int(value)))
}

pub(super) fn finite<'a>(result: f64) -> Outcome<'a> {
    if result.is_finite() { Ok(Value::Double(result)) } else { message("the result is not a finite number") }
}

/// The sum of two numbers.
pub(super) fn add_numbers<'a>(left: &Value<'_>, right: &Value<'_>) -> Outcome<'a> {
    match numbers(left, right) {
        Some(Numbers::Ints(a, b)) => whole(a.checked_add(b)),
        Some(Numbers::Doubles(a, b)) => finite(a + b),
        None => Err(Trouble::Kinds("numbers")),
    }
}

pub(super) fn add<'a>(left: &Value<'a>, right: &Value<'a>, meter: &mut Meter) -> Outcome<'a> {
    match (left, right) {
        (Value::Text(a), Value::Text(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            meter.charge_bytes(a.len() + b.len())?;
            if a.len() + b.len() > EXPRESSION_TEXT_BYTES_MAX {
                return message(format!("the text would be longer than {EXPRESSION_TEXT_BYTES_MAX} bytes"));
            }
            Ok(Value::text(&[a, b].concat()))
        }
        (Value::Time(time), Value::Duration(by)) | (Value::Duration(by), Value::Time(time)) => {
            later(*time, *by)
        }
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        _ => match (left.items(), right.items()) {
            (Some(a), Some(b)) => {
                meter.charge((a.len() + b.len()) as u64)?;
                Ok(Value::list(a.iter().chain(b.iter()).collect()))
            }
            _ => add_numbers(left, right).map_err(|trouble| match trouble {
                Trouble::Kinds(_) => Trouble::Kinds("numbers, texts, lists or times"),
                other => other,
            }),
        },
    }
}

pub(super) fn subtract<'a>(left: &Value<'_>, right: &Value<'_>) -> Outcome<'a> {
    match (left, right) {
        (Value::Time(a), Value::Time(b)) => Ok(Value::Duration(a.duration_since(*b))),
        (Value::Time(time), Value::Duration(by)) => match by.checked_neg() {
            Some(by) => later(*time, by),
            None => message("the duration is out of range"),
        },
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        _ => match numbers(left, right) {
            Some(Numbers::Ints(a, b)) => whole(a.checked_sub(b)),
            Some(Numbers::Doubles(a, b)) => finite(a - b),
            None => Err(Trouble::Kinds("numbers or times")),
        },
    }
}

pub(super) fn multiply<'a>(left: &Value<'_>, right: &Value<'_>) -> Outcome<'a> {
    match numbers(left, right) {
        Some(Numbers::Ints(a, b)) => whole(a.checked_mul(b)),
        Some(Numbers::Doubles(a, b)) => finite(a * b),
        None => Err(Trouble::Kinds("numbers")),
    }
}

pub(super) fn divide<'a>(left: &Value<'_>, right: &Value<'_>) -> Outcome<'a> {
    match numbers(left, right) {
        Some(Numbers::Ints(_, 0)) => message("division by zero"),
        Some(Numbers::Doubles(_, b)) if b.abs() <= 0.0 => message("division by zero"),
        Some(Numbers::Ints(a, b)) => whole(a.checked_div(b)),
        Some(Numbers::Doubles(a, b)) => finite(a / b),
        None => Err(Trouble::Kinds("numbers")),
    }
}

pub(super) fn modulo<'a>(left: &Value<'_>, right: &Value<'_>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) => message("modulo by zero"),
        (Value::Int(a), Value::Int(b)) => whole(a.checked_rem(*b)),
        _ => Err(Trouble::Kinds("integers")),
    }
}

pub(super) fn negate<'a>(value: &Value<'_>) -> Outcome<'a> {
    match value {
        Value::Int(value) => whole(value.checked_neg()),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => duration(value.checked_neg()),
        _ => Err(Trouble::Kinds("a number")),
    }
}

fn duration<'a>(result: Option<SignedDuration>) -> Outcome<'a> {
    match result {
        Some(duration) if is_duration(duration) => Ok(Value::Duration(duration)),
        _ => message("the duration is out of range"),
    }
}

fn later<'a>(time: Timestamp, by: SignedDuration) -> Outcome<'a> {
    match time.checked_add(by) {
        Ok(time) if in_range(time) => Ok(Value::Time(time)),
        _ => message("the time is outside the years 1 to 9999"),
    }
}

/// Whether the duration has at most 10,000 years, which is more than two times can differ by.
pub(super) fn is_duration(duration: SignedDuration) -> bool {
    duration.abs() <= SignedDuration::from_secs(315_576_000_000)
}

/// Whether the time has a year of four digits.
pub(super) fn in_range(time: Timestamp) -> bool {
    (1..=9999).contains(&jiff::tz::Offset::UTC.to_datetime(time).year())
}

/// How two values of one kind order; none if they do not.
pub(super) fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => Some(compare_int_double(*a, *b)),
        (Value::Double(a), Value::Int(b)) => Some(compare_int_double(*b, *a).reverse()),
        (Value::Text(a), Value::Text(b)) => Some(a.as_str().cmp(b.as_str())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Whether two values are the same, deep: numbers by their value; values of different kinds are not.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>, meter: &mut Meter) -> Result<bool, EvaluateError> {
    meter.charge(1)?;
    match (left, right) {
        (Value::Null, Value::Null) => return Ok(true),
        (Value::Text(a), Value::Text(b)) => meter.charge_bytes(a.as_str().len().min(b.as_str().len()))?,
        (Value::Object(a), Value::Object(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, a), (other, b)) in a.iter().zip(b.iter()) {
                if key != other || !equal_json(a, b, meter)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (left.items(), right.items()) {
        return equal_items(a, b, meter);
    }
    if let (Some(a), Some(b)) = (left.entries(), right.entries()) {
        if a.len() != b.len() {
            return Ok(false);
        }
        meter.charge(a.len() as u64)?;
        for ((key, a), (other, b)) in a.iter().zip(&b) {
            if key.as_str() != other.as_str() || !equal(a, b, meter)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    Ok(order(left, right) == Some(Ordering::Equal))
}

fn equal_json(left: &Json, right: &Json, meter: &mut Meter) -> Result<bool, EvaluateError> {
    equal(&Value::from(left), &Value::from(right), meter)
}

fn equal_items(left: Items<'_, '_>, right: Items<'_, '_>, meter: &mut Meter) -> Result<bool, EvaluateError> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for (a, b) in left.iter().zip(right.iter()) {
        if !equal(&a, &b, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}
