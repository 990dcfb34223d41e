//! Expressions: CEL by syntax, with Outrigger's own semantics over JSON.
//!
//! The `cel` crate's parser gives the tree; it is checked and compiled once into a tree of our own, which runs over
//! borrowed JSON. docs/expressions.md is the reference, and its examples are run as tests.
//!
//! Invariants: what is not in the language is refused when an expression is compiled, with its place; evaluation
//! depends on nothing but the values it is given, never panics, and is bounded in steps, depth and size. Does not
//! know events, documents or keys.

mod arena;
mod arithmetic;
mod call;
mod compile;
mod evaluate;
mod explain;
mod function;
mod meter;
mod nearest;
mod parse;
mod scan;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use std::{collections::BTreeSet, sync::Arc};

pub use self::{
    arena::Arena,
    evaluate::Lookup,
    nearest::nearest,
    value::{Described, Text, Value},
};
use self::{
    evaluate::Machine,
    meter::Meter,
    tree::{Node, Root},
};
use crate::{
    json::{Json, Object},
    limits::{DOCUMENT_DEPTH_MAX, EXPRESSION_RESULT_BYTES_MAX, EXPRESSION_STEPS_MAX},
};

/// Which version of the language this is: part of a projection's hash, raised whenever an expression comes to mean
/// something else.
pub const LANGUAGE_VERSION: u32 = 1;

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: Box<str>,
    root: Node,
}

/// Why a text is not an expression of the language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// Where in the text, in bytes from 0.
    pub offset_bytes: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// Why an expression has no value for these variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvaluateError {
    /// What went wrong, naming the operand.
    pub message: String,
    /// Whether it ends the evaluation even where `&&` or `||` would go on: a bound was reached, or a store failed.
    pub fatal: bool,
}

/// What a lookup finds.
pub type Found = Option<Arc<Object>>;

/// The names that an expression may use.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'s> {
    /// Values are given in this order. An empty name keeps a place that cannot be used.
    pub variables: &'s [&'s str],
    /// Variables from this number on may hold an optional.
    pub optional_from: usize,
    /// Names that are known elsewhere, each with where.
    pub hidden: &'s [(&'s str, &'s str)],
    /// Collections for `lookup`; none where it is not known.
    pub collections: Option<&'s [&'s str]>,
}

/// What a run of expressions shares.
pub struct Environment<'a, 'l> {
    /// Keeps the documents that were looked up.
    pub arena: &'a Arena,
    /// For `lookup`.
    pub lookup: Option<&'l mut dyn Lookup>,
    /// Steps that may still be taken.
    pub steps_left: u64,
}

/// Which fields of a variable an expression uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uses {
    /// These; none if it does not use the variable.
    Fields(BTreeSet<Box<str>>),
    /// The variable as a whole.
    Whole,
}

impl std::fmt::Debug for Environment<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps_left = self.steps_left;
        f.debug_struct("Environment").field("steps_left", &steps_left).finish_non_exhaustive()
    }
}

impl CompileError {
    fn at(source: &str, offset_bytes: usize, message: String) -> Self {
        let before = source.get(..offset_bytes).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            offset_bytes,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

impl EvaluateError {
    /// An error that `&&` and `||` may take away.
    pub const fn new(message: String) -> Self {
        Self { message, fatal: false }
    }

    /// An error that ends the evaluation.
    pub const fn fatal(message: String) -> Self {
        Self { message, fatal: true }
    }
}

impl Expression {
    /// Compiles an expression over these variables, without `lookup`.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, CompileError> {
        let scope = Scope { variables, optional_from: usize::MAX, hidden: &[], collections: None };
        Self::compile_in(source, &scope)
    }

    /// Compiles an expression over the names of a scope.
    pub fn compile_in(source: &str, scope: &Scope<'_>) -> Result<Self, CompileError> {
        let root = compile::compile(source, scope)?;
        Ok(Self { source: source.into(), root })
    }

    /// Finds where the `}` stands that ends an expression which begins at byte `from` of a longer text.
    pub fn end_of_embedded(text: &str, from: usize) -> Result<usize, CompileError> {
        scan::end_of_embedded(text, from).map_err(|fault| CompileError::at(text, fault.at, fault.message))
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The one way to write this expression: brackets around every operand, no other white space than is needed.
    pub fn normal_form(&self) -> String {
        self.root.to_string()
    }

    /// The value, where the expression is a literal scalar.
    pub const fn constant(&self) -> Option<&Json> {
        match &self.root {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// Whether and how it uses the variable with this number.
    pub fn uses(&self, variable: usize) -> Uses {
        let mut fields = BTreeSet::new();
        if self.root.collect_uses(variable, &mut fields) { Uses::Fields(fields) } else { Uses::Whole }
    }

    /// Evaluates over values in the order of the variables. An optional without value gives null.
    pub fn evaluate<'a, V: Clone + Into<Value<'a>>>(&'a self, values: &[V]) -> Result<Json, EvaluateError> {
        let values: Vec<Value<'_>> = values.iter().cloned().map(Into::into).collect();
        let arena = Arena::default();
        let mut environment = Environment { arena: &arena, lookup: None, steps_left: EXPRESSION_STEPS_MAX };
        Ok(self.run(&values, &mut environment)?.to_json())
    }

    /// Evaluates a condition.
    pub fn evaluate_bool<'a, V: Clone + Into<Value<'a>>>(
        &'a self,
        values: &[V],
    ) -> Result<bool, EvaluateError> {
        let values: Vec<Value<'_>> = values.iter().cloned().map(Into::into).collect();
        let arena = Arena::default();
        let mut environment = Environment { arena: &arena, lookup: None, steps_left: EXPRESSION_STEPS_MAX };
        self.run_bool(&values, &mut environment)
    }

    /// Evaluates to a value that may borrow from the variables and the expression.
    pub fn run<'a>(
        &'a self,
        variables: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Value<'a>, EvaluateError> {
        let value = self.evaluate_root(variables, environment)?;
        check_result(&value)?;
        Ok(value)
    }

    /// Evaluates a condition.
    pub fn run_bool<'a>(
        &'a self,
        variables: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<bool, EvaluateError> {
        match self.evaluate_root(variables, environment)? {
            Value::Bool(value) => Ok(value),
            value => {
                let (root, found) = (&self.root, Described(&value));
                Err(EvaluateError::new(format!("`{root}` is {found}, expected a boolean")))
            }
        }
    }

    /// Evaluates to text, for use inside a longer one.
    pub fn run_text<'a>(
        &'a self,
        variables: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Text<'a>, EvaluateError> {
        let value = self.run(variables, environment)?;
        call::scalar_text(&value).ok_or_else(|| {
            let found = Described(&value);
            EvaluateError::new(format!("`{}` is {found}, expected what can stand in a text", self.root))
        })
    }

    fn evaluate_root<'a>(
        &'a self,
        variables: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Value<'a>, EvaluateError> {
        let allowance = environment.steps_left.min(EXPRESSION_STEPS_MAX);
        let lookup: Option<&mut dyn Lookup> = match &mut environment.lookup {
            Some(lookup) => Some(&mut **lookup),
            None => None,
        };
        let (arena, meter) = (environment.arena, Meter::new(allowance));
        let mut machine = Machine { variables, locals: Vec::new(), arena, lookup, meter };
        let result = machine.run(&self.root);
        let used = allowance - machine.meter.left();
        environment.steps_left -= used;
        result
    }
}

/// The sum of two numbers, as `+` computes it; `None` if they are not both numbers.
pub fn sum(left: &Json, right: &Json) -> Option<Result<Json, String>> {
    use arithmetic::{Trouble, add_numbers};
    match add_numbers(&Value::from(left), &Value::from(right)) {
        Ok(sum) => Some(Ok(sum.to_json())),
        Err(Trouble::Message(message)) => Some(Err(message)),
        Err(Trouble::Kinds(_) | Trouble::Limit(_)) => None,
    }
}

/// Whether a result may go on to a document or another expression.
fn check_result(value: &Value<'_>) -> Result<(), EvaluateError> {
    let mut bytes_left = EXPRESSION_RESULT_BYTES_MAX;
    match value {
        Value::List(_) | Value::Map(_) => check_part(value, DOCUMENT_DEPTH_MAX, &mut bytes_left),
        Value::Optional(Some(inner)) => check_result(inner),
        _ => Ok(()),
    }
}

fn check_part(value: &Value<'_>, depth_left: usize, bytes_left: &mut usize) -> Result<(), EvaluateError> {
    let too_large =
        || EvaluateError::fatal(format!("the result is larger than {EXPRESSION_RESULT_BYTES_MAX} bytes"));
    let size = value.as_text().map_or(8, |text| text.len() + 2);
    *bytes_left = bytes_left.checked_sub(size).ok_or_else(too_large)?;
    let deeper = || {
        let deepest = DOCUMENT_DEPTH_MAX;
        let error = || EvaluateError::fatal(format!("the result nests deeper than {deepest} lists and maps"));
        depth_left.checked_sub(1).ok_or_else(error)
    };
    if let Some(items) = value.items() {
        let depth_left = deeper()?;
        return items.iter().try_for_each(|item| check_part(&item, depth_left, bytes_left));
    }
    if let Some(entries) = value.entries() {
        let depth_left = deeper()?;
        for (key, value) in &entries {
            *bytes_left = bytes_left.checked_sub(key.as_str().len() + 3).ok_or_else(too_large)?;
            check_part(value, depth_left, bytes_left)?;
        }
    }
    Ok(())
}

impl Node {
    /// Collects the fields of a variable that are used; `false` if it is used as a whole.
    fn collect_uses(&self, variable: usize, fields: &mut BTreeSet<Box<str>>) -> bool {
        if let Self::Path(path) = self {
            return match path.fields.first() {
                _ if path.root != Root::Variable(variable) => true,
                Some(field) => {
                    fields.insert(field.clone());
                    true
                }
                None => false,
            };
        }
        if let Self::Select(operand, field) | Self::OptionalSelect(operand, field) | Self::Has(operand, field) =
            self
            && let Self::Path(path) = &**operand
            && path.root == Root::Variable(variable)
            && path.fields.is_empty()
        {
            fields.insert(field.clone());
            return true;
        }
        let mut by_fields = true;
        self.for_each_part(&mut |part| by_fields &= part.collect_uses(variable, fields));
        by_fields
    }
}
