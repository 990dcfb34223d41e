//! Functions over texts. Positions and lengths count characters (Unicode scalar values), from 0.

use std::fmt::Write as _;

use super::{Arguments, Fault, Outcome, check_length, made, message};
use crate::{
    expression::{
        meter::Meter,
        value::{Described, Text, Value, duration_text},
    },
    json::Json,
};

/// The text of a scalar; numbers as canonical JSON writes them.
pub(in crate::expression) fn scalar_text<'a>(value: &Value<'a>) -> Option<Text<'a>> {
    let text = match value {
        Value::Text(text) => return Some(text.clone()),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => value.to_json().to_string(),
        Value::Time(time) => time.to_string(),
        Value::Duration(duration) => duration_text(*duration),
        _ => return None,
    };
    Some(Text::Owned(text.into()))
}

pub(super) fn string<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match scalar_text(arguments.get(0)) {
        Some(text) => Ok(Value::Text(text)),
        None => arguments.expected(0, "a text, number, boolean or time"),
    }
}

/// With a number: at most so many parts; negative: all.
pub(super) fn split<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let (text, separator) = (arguments.text(0)?, arguments.text(1)?);
    let most = if arguments.has(2) { arguments.int(2)? } else { -1 };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<&str> =
        if separator.is_empty() { letters(text, most) } else { text.splitn(most, separator).collect() };
    meter.charge(parts.len() as u64)?;
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

/// The characters one by one, the rest in the last part.
fn letters(text: &str, most: usize) -> Vec<&str> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).take(most).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// With a number: at most so many times; negative: all.
pub(super) fn replace<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let (text, from, to) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    let most = if arguments.has(3) { arguments.int(3)? } else { -1 };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = text.matches(from).take(most).count();
    check_length(text.len().saturating_add(found.saturating_mul(to.len())))?;
    made(&text.replacen(from, to, most), meter)
}

pub(super) fn substring<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let text = arguments.text(0)?;
    let length = text.chars().count();
    let from = arguments.int(1)?;
    let to = if arguments.has(2) { arguments.int(2)? } else { length as i64 };
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(start), Ok(end)) if start <= end && end <= length => {
            Ok(Value::text(&text[byte_at(text, start)..byte_at(text, end)]))
        }
        _ => message(format!("expected places from 0 to {length} in order, found {from} and {to}")),
    }
}

fn byte_at(text: &str, place: usize) -> usize {
    text.char_indices().nth(place).map_or(text.len(), |(at, _)| at)
}

fn place_of(text: &str, byte: usize) -> Value<'static> {
    Value::Int(text[..byte].chars().count() as i64)
}

/// -1 where it is not found.
pub(super) fn index_of<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let (text, part) = (arguments.text(0)?, arguments.text(1)?);
    let from = if arguments.has(2) { arguments.int(2)? } else { 0 };
    let length = text.chars().count();
    let Some(from) = usize::try_from(from).ok().filter(|from| *from <= length) else {
        return message(format!("expected a place from 0 to {length}, found {from}"));
    };
    let from = byte_at(text, from);
    Ok(text[from..].find(part).map_or(Value::Int(-1), |at| place_of(text, from + at)))
}

/// The last one that begins at this place or before it; -1 where it is not found.
pub(super) fn last_index_of<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let (text, part) = (arguments.text(0)?, arguments.text(1)?);
    let length = text.chars().count();
    let upto = if arguments.has(2) { arguments.int(2)? } else { length as i64 };
    let Some(upto) = usize::try_from(upto).ok().filter(|upto| *upto <= length) else {
        return message(format!("expected a place from 0 to {length}, found {upto}"));
    };
    // What begins at `upto` or before ends here or before.
    let mut end = (byte_at(text, upto) + part.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(text[..end].rfind(part).map_or(Value::Int(-1), |at| place_of(text, at)))
}

/// The empty text right behind the end.
pub(super) fn char_at<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let text = arguments.text(0)?;
    let (place, length) = (arguments.int(1)?, text.chars().count());
    match usize::try_from(place) {
        Ok(at) if at <= length => {
            let letter = text.chars().nth(at).map(String::from);
            Ok(Value::text(&letter.unwrap_or_default()))
        }
        _ => message(format!("expected a place from 0 to {length}, found {place}")),
    }
}

/// `%s` any scalar, `%d` an integer, `%f` and `%.2f` a number with 6 or so many digits, `%%` a percent sign.
pub(super) fn format<'a>(arguments: &Arguments<'_, 'a>, meter: &mut Meter) -> Outcome<Value<'a>> {
    let (template, items) = (arguments.text(0)?, arguments.items(1)?);
    let mut out = String::new();
    let mut used = 0;
    let mut rest = template;
    while let Some((before, verb)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(behind) = verb.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let Some(item) = items.get(used) else {
            return message(format!("the list has {used} items, and the text wants more"));
        };
        used += 1;
        rest = write_verb(&mut out, verb, &item)?;
        check_length(out.len())?;
    }
    out.push_str(rest);
    if used < items.len() {
        return message(format!("the list has {} items, and the text wants {used}", items.len()));
    }
    made(&out, meter)
}

/// Writes an item as the verb says; gives what stands behind the verb.
fn write_verb<'t>(out: &mut String, verb: &'t str, item: &Value<'_>) -> Outcome<&'t str> {
    const DIGITS_DEFAULT: usize = 6;
    let (digits, letter) = match verb.strip_prefix('.') {
        Some(precise) => match precise.bytes().position(|byte| !byte.is_ascii_digit()) {
            Some(end @ 1..=2) => (precise[..end].parse().ok(), &precise[end..]),
            _ => return message("expected one or two digits and f behind %."),
        },
        None => (None, verb),
    };
    let wrong = |expected: &str| message(format!("expected {expected}, found {}", Described(item)));
    let number = match item {
        Value::Int(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        _ => None,
    };
    match (letter.bytes().next(), digits, item) {
        (Some(b's'), None, item) => match scalar_text(item) {
            Some(text) => out.push_str(text.as_str()),
            None => return wrong("a text, number, boolean or time for %s"),
        },
        (Some(b'd'), None, Value::Int(value)) => out.push_str(&Json::Int(*value).to_string()),
        (Some(b'd'), None, _) => return wrong("an integer for %d"),
        (Some(b'f'), digits, _) => match number {
            Some(number) => {
                let digits = digits.unwrap_or(DIGITS_DEFAULT);
                write!(out, "{number:.digits$}").expect("a string takes all text");
            }
            None => return wrong("a number for %f"),
        },
        _ => return Err(Fault::Message("expected %s, %d, %f, %.2f or %%".into())),
    }
    Ok(&letter[1..])
}
