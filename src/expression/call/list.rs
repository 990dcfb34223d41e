//! Functions over lists.

use std::{cmp::Ordering, collections::HashSet};

use super::{Arguments, Outcome, check_length, made, message};
use crate::expression::{
    arithmetic::{add_numbers, order},
    meter::Meter,
    value::{Items, Value},
};

/// Of a list or a text.
pub(super) fn reverse<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    if let Some(text) = arguments.get(0).as_text() {
        return Ok(Value::text(&text.chars().rev().collect::<String>()));
    }
    match arguments.get(0).items() {
        Some(items) => Ok(Value::list(items.iter().rev().collect())),
        None => arguments.expected(0, "a list or a text"),
    }
}

pub(super) fn join<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let items = arguments.items(0)?;
    let separator = if arguments.has(1) { arguments.text(1)? } else { "" };
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        match item.as_text() {
            Some(text) => out.push_str(text),
            None => return arguments.expected(0, "a list of texts"),
        }
        check_length(out.len())?;
    }
    made(&out, meter)
}

/// Ascending; items that are equal keep their order.
pub(super) fn sort<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let mut items: Vec<Value<'a>> = arguments.items(0)?.iter().collect();
    let rounds = u64::from(items.len().checked_ilog2().unwrap_or(0)) + 1;
    meter.charge(items.len() as u64 * rounds)?;
    if let Some(first) = items.first()
        && items.iter().any(|item| order(first, item).is_none())
    {
        return arguments.expected(0, "a list of numbers only, texts only, booleans only or times only");
    }
    items.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
    Ok(Value::list(items))
}

/// Each value once, where it first stands.
pub(super) fn distinct<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for item in arguments.items(0)?.iter() {
        // Two values are equal when their canonical texts are; times are told from texts by their kind.
        let kind = matches!(item, Value::Time(_) | Value::Duration(_));
        let text = item.to_json().to_string();
        meter.charge(1)?;
        meter.charge_bytes(text.len() * 4)?;
        if seen.insert((kind, text)) {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

pub(super) fn flatten<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    const DEPTH_MAX: i64 = 100;
    let depth = if arguments.has(1) { arguments.int(1)? } else { 1 };
    if !(0..=DEPTH_MAX).contains(&depth) {
        return arguments.expected(1, "a depth of 0 to 100");
    }
    let mut out = Vec::new();
    flatten_into(arguments.items(0)?, depth, &mut out, meter)?;
    Ok(Value::list(out))
}

fn flatten_into<'a>(
    items: Items<'_, 'a>,
    depth: i64,
    out: &mut Vec<Value<'a>>,
    meter: &mut Meter,
) -> Outcome<()> {
    for item in items.iter() {
        meter.charge(1)?;
        match item.items() {
            Some(inner) if depth > 0 => flatten_into(inner, depth - 1, out, meter)?,
            _ => out.push(item),
        }
    }
    Ok(())
}

/// From one index up to, but without, another.
pub(super) fn slice<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let items = arguments.items(0)?;
    let (from, to) = (arguments.int(1)?, arguments.int(2)?);
    let length = items.len();
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(from), Ok(to)) if from <= to && to <= length => {
            Ok(Value::list((from..to).filter_map(|at| items.get(at)).collect()))
        }
        _ => message(format!("expected indexes from 0 to {length} in order, found {from} and {to}")),
    }
}

/// Of numbers, from the first to the last; 0 for an empty list.
pub(super) fn sum<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let mut total = Value::Int(0);
    for item in arguments.items(0)?.iter() {
        if !matches!(item, Value::Int(_) | Value::Double(_)) {
            return arguments.expected(0, "a list of numbers");
        }
        total = add_numbers(&total, &item)?;
    }
    Ok(total)
}

/// The least or greatest item.
pub(super) fn extreme<'a>(arguments: &Arguments<'_, 'a>, least: bool) -> Outcome<Value<'a>> {
    let items = arguments.items(0)?;
    let Some(first) = items.get(0) else {
        return arguments.expected(0, "a list that is not empty");
    };
    if items.iter().any(|item| order(&first, &item).is_none()) {
        return arguments.expected(0, "a list of numbers only, texts only, booleans only or times only");
    }
    extreme_of(items.iter(), least)
}

/// Of values that order; the first of equal ones.
pub(super) fn extreme_of<'a>(items: impl Iterator<Item = Value<'a>>, least: bool) -> Outcome<Value<'a>> {
    let wanted = if least { Ordering::Less } else { Ordering::Greater };
    let best = items.reduce(|best, item| if order(&item, &best) == Some(wanted) { item } else { best });
    best.map_or_else(|| message("there is no item"), Ok)
}
