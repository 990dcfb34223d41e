//! What the functions do: the way from a function and its arguments to its value.
//!
//! Kinds of arguments are checked here, one by one, so that an error names the argument. Pure.

mod list;
mod number;
mod text;
mod time;

pub(super) use text::scalar_text;

use super::{
    EvaluateError,
    arithmetic::Trouble,
    function::Function,
    meter::Meter,
    value::{Described, Items, Value},
};
use crate::limits::EXPRESSION_TEXT_BYTES_MAX;

/// Why a function gives no value.
#[derive(Debug)]
pub(super) enum Fault {
    /// An argument is of another kind than this.
    Argument {
        at: usize,
        expected: &'static str,
        found: String,
    },
    Message(String),
    Limit(EvaluateError),
}

impl From<EvaluateError> for Fault {
    fn from(error: EvaluateError) -> Self {
        Self::Limit(error)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Kinds(expected) => Self::Message(format!("expected {expected}")),
            Trouble::Message(message) => Self::Message(message),
            Trouble::Limit(error) => Self::Limit(error),
        }
    }
}

type Outcome<T> = Result<T, Fault>;

fn message<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Fault::Message(text.into()))
}

/// The arguments of one call; the compiler has counted them.
struct Arguments<'v, 'a>(&'v [Value<'a>]);

impl<'v, 'a> Arguments<'v, 'a> {
    fn get(&self, at: usize) -> &'v Value<'a> {
        &self.0[at]
    }

    fn has(&self, at: usize) -> bool {
        at < self.0.len()
    }

    fn expected<T>(&self, at: usize, expected: &'static str) -> Outcome<T> {
        let found = Described(self.get(at)).to_string();
        Err(Fault::Argument { at, expected, found })
    }

    fn text(&self, at: usize) -> Outcome<&'v str> {
        self.get(at).as_text().map_or_else(|| self.expected(at, "a text"), Ok)
    }

    fn int(&self, at: usize) -> Outcome<i64> {
        match self.get(at) {
            Value::Int(value) => Ok(*value),
            _ => self.expected(at, "an integer"),
        }
    }

    fn items(&self, at: usize) -> Outcome<Items<'v, 'a>> {
        self.get(at).items().map_or_else(|| self.expected(at, "a list"), Ok)
    }
}

/// The value of a call. The receiver, where there is one, is the first argument.
pub(super) fn call<'a>(function: Function, values: &[Value<'a>], meter: &mut Meter) -> Outcome<Value<'a>> {
    use Function as F;
    let arguments = Arguments(values);
    for value in values {
        match value {
            Value::Text(text) => meter.charge_bytes(text.as_str().len())?,
            Value::Array(items) => meter.charge(items.len() as u64 / 4)?,
            Value::List(items) => meter.charge(items.len() as u64 / 4)?,
            _ => {}
        }
    }
    match function {
        F::Size => size(&arguments),
        F::String => text::string(&arguments),
        F::Int => number::int(&arguments),
        F::Double => number::double(&arguments),
        F::Bool => boolean(&arguments),
        // For those who write for a type checker; there is none here.
        F::Dyn => Ok(arguments.get(0).clone()),
        F::Timestamp => time::timestamp(&arguments),
        F::Duration => time::duration(&arguments),
        F::StartsWith => Ok(Value::Bool(arguments.text(0)?.starts_with(arguments.text(1)?))),
        F::EndsWith => Ok(Value::Bool(arguments.text(0)?.ends_with(arguments.text(1)?))),
        F::Contains => Ok(Value::Bool(arguments.text(0)?.contains(arguments.text(1)?))),
        F::LowerAscii => Ok(Value::text(&arguments.text(0)?.to_ascii_lowercase())),
        F::UpperAscii => Ok(Value::text(&arguments.text(0)?.to_ascii_uppercase())),
        F::Trim => Ok(Value::text(arguments.text(0)?.trim())),
        F::Split => text::split(&arguments, meter),
        F::Replace => text::replace(&arguments, meter),
        F::Substring => text::substring(&arguments),
        F::IndexOf => text::index_of(&arguments),
        F::LastIndexOf => text::last_index_of(&arguments),
        F::CharAt => text::char_at(&arguments),
        F::Format => text::format(&arguments, meter),
        F::Reverse => list::reverse(&arguments),
        F::Join => list::join(&arguments, meter),
        F::Sort => list::sort(&arguments, meter),
        F::Distinct => list::distinct(&arguments, meter),
        F::Flatten => list::flatten(&arguments, meter),
        F::Slice => list::slice(&arguments),
        F::Sum => list::sum(&arguments),
        F::Min => list::extreme(&arguments, true),
        F::Max => list::extreme(&arguments, false),
        F::Or | F::HasValue | F::OptionalValue => optional(function, &arguments),
        F::Greatest => number::extreme(&arguments, false),
        F::Least => number::extreme(&arguments, true),
        F::Abs => number::abs(&arguments),
        F::Ceil => number::rounded(&arguments, f64::ceil),
        F::Floor => number::rounded(&arguments, f64::floor),
        F::Round => number::rounded(&arguments, f64::round),
        F::Trunc => number::rounded(&arguments, f64::trunc),
        F::Sign => number::sign(&arguments),
        F::FullYear | F::Month | F::Date | F::DayOfMonth | F::DayOfWeek | F::DayOfYear => {
            time::day_part(function, &arguments)
        }
        F::Hours | F::Minutes | F::Seconds | F::Milliseconds => time::clock_part(function, &arguments),
    }
}

/// A text that was made, if it is not too long.
fn made(text: &str, meter: &mut Meter) -> Outcome<Value<'static>> {
    meter.charge_bytes(text.len())?;
    check_length(text.len())?;
    Ok(Value::text(text))
}

fn check_length(bytes: usize) -> Outcome<()> {
    if bytes > EXPRESSION_TEXT_BYTES_MAX {
        message(format!("the text would be longer than {EXPRESSION_TEXT_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

fn size<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let size = match arguments.get(0) {
        Value::Text(text) => text.as_str().chars().count(),
        Value::Object(object) => object.len(),
        Value::Map(entries) => entries.len(),
        other => match other.items() {
            Some(items) => items.len(),
            None => return arguments.expected(0, "a text, list or map"),
        },
    };
    Ok(Value::Int(size as i64))
}

fn boolean<'a>(arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    match (arguments.get(0), arguments.get(0).as_text()) {
        (Value::Bool(value), _) => Ok(Value::Bool(*value)),
        (_, Some("true" | "True" | "TRUE" | "t" | "T" | "1")) => Ok(Value::Bool(true)),
        (_, Some("false" | "False" | "FALSE" | "f" | "F" | "0")) => Ok(Value::Bool(false)),
        _ => arguments.expected(0, "a boolean, \"true\" or \"false\""),
    }
}

fn optional<'a>(function: Function, arguments: &Arguments<'_, 'a>) -> Outcome<Value<'a>> {
    let Value::Optional(inner) = arguments.get(0) else {
        return arguments.expected(0, "an optional");
    };
    match (function, inner) {
        (Function::HasValue, inner) => Ok(Value::Bool(inner.is_some())),
        (Function::Or, Some(_)) => Ok(arguments.get(0).clone()),
        (Function::Or, None) => match arguments.get(1) {
            other @ Value::Optional(_) => Ok(other.clone()),
            _ => arguments.expected(1, "an optional"),
        },
        (_, Some(value)) => Ok((**value).clone()),
        (_, None) => message("there is no value"),
    }
}
