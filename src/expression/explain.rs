//! Why an evaluation failed, in words that name the operand as the expression writes it.

use super::{
    EvaluateError,
    arithmetic::Trouble,
    call::Fault,
    tree::{Node, Operator, Path},
    value::{Described, Value},
};

pub(super) fn prefix(path: &Path, fields: usize) -> String {
    let mut text = path.name.to_string();
    for field in &path.fields[..fields] {
        text.push('.');
        text.push_str(field);
    }
    text
}

pub(super) fn missing(value: &Value<'_>, of: &str, field: &str) -> EvaluateError {
    EvaluateError::new(if value.is_map() {
        format!("`{of}.{field}` is missing (write `.?{field}` or has(...) where it may be)")
    } else {
        format!("`{of}` is {}, so it has no field `{field}`", Described(value))
    })
}

pub(super) fn one_sided(trouble: Trouble, operand: &Node, value: &Value<'_>) -> EvaluateError {
    match trouble {
        Trouble::Kinds(expected) => {
            EvaluateError::new(format!("`{operand}` is {}, and - takes {expected}", Described(value)))
        }
        Trouble::Message(message) => EvaluateError::new(format!("`-{operand}`: {message}")),
        Trouble::Limit(error) => error,
    }
}

pub(super) fn two_sided(
    trouble: Trouble,
    operator: Operator,
    (left, right): &(Node, Node),
    left_value: &Value<'_>,
    right_value: &Value<'_>,
) -> EvaluateError {
    let sign = operator.sign();
    EvaluateError::new(match trouble {
        Trouble::Kinds(expected) => format!(
            "`{left}` is {} and `{right}` is {}, and {sign} takes {expected}",
            Described(left_value),
            Described(right_value)
        ),
        Trouble::Message(message) => format!("`{left} {sign} {right}`: {message}"),
        Trouble::Limit(error) => return error,
    })
}

pub(super) fn named(fault: Fault, call: &Node, arguments: &[Node]) -> EvaluateError {
    match fault {
        Fault::Argument { at, expected, found } => {
            let argument = arguments.get(at).unwrap_or(call);
            EvaluateError::new(format!("`{argument}` is {found}, expected {expected}"))
        }
        Fault::Message(message) => EvaluateError::new(format!("`{call}`: {message}")),
        Fault::Limit(error) => error,
    }
}
