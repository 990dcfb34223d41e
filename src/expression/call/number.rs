//! Functions over numbers.

use std::cmp::Ordering;

use super::{Arguments, Outcome, list, message};
use crate::expression::{
    arithmetic::{finite, order},
    value::Value,
};

const TWO_63: f64 = 9_223_372_036_854_775_808.0;

pub(super) fn int<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match arguments.get(0) {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Double(value) if (-TWO_63..TWO_63).contains(&value.trunc()) => {
            Ok(Value::Int(value.trunc() as i64))
        }
        Value::Double(_) => message("the number does not fit a 64-bit integer"),
        Value::Time(time) => Ok(Value::Int(time.as_second())),
        other => match other.as_text().map(str::parse) {
            Some(Ok(value)) => Ok(Value::Int(value)),
            Some(Err(_)) => arguments.expected(0, "a text that is an integer of 64 bits"),
            None => arguments.expected(0, "a number, a time or the text of an integer"),
        },
    }
}

pub(super) fn double<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match arguments.get(0) {
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Double(value) => Ok(Value::Double(*value)),
        other => match other.as_text().map(str::parse::<f64>) {
            Some(Ok(value)) => Ok(finite(value)?),
            Some(Err(_)) => arguments.expected(0, "a text that is a number"),
            None => arguments.expected(0, "a number or the text of one"),
        },
    }
}

pub(super) fn abs<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match arguments.get(0) {
        Value::Int(value) => match value.checked_abs() {
            Some(value) => Ok(Value::Int(value)),
            None => message("the result does not fit a 64-bit integer"),
        },
        Value::Double(value) => Ok(Value::Double(value.abs())),
        _ => arguments.expected(0, "a number"),
    }
}

/// `ceil` and its like; an integer stays as it is.
pub(super) fn rounded<'a>(arguments: &Arguments<'_, 'a>, round: fn(f64) -> f64) -> Outcome<Value<'a>> {
    match arguments.get(0) {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Double(value) => Ok(Value::Double(round(*value))),
        _ => arguments.expected(0, "a number"),
    }
}

pub(super) fn sign<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match arguments.get(0) {
        value @ (Value::Int(_) | Value::Double(_)) => {
            let order = order(value, &Value::Int(0)).unwrap_or(Ordering::Equal);
            Ok(Value::Int(order as i64))
        }
        _ => arguments.expected(0, "a number"),
    }
}

/// `math.greatest` and `math.least`, over their arguments or one list.
pub(super) fn extreme<'a>(arguments: &Arguments<'_, 'a>, least: bool) -> Outcome<Value<'a>> {
    let number = |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Double(_));
    match arguments.0 {
        [one] if one.items().is_some() => {
            let items = arguments.items(0)?;
            if items.iter().all(|item| number(&item)) {
                list::extreme(arguments, least)
            } else {
                arguments.expected(0, "a list of numbers")
            }
        }
        all => match all.iter().position(|value| !number(value)) {
            Some(at) => arguments.expected(at, "a number"),
            None => list::extreme_of(all.iter().cloned(), least),
        },
    }
}
