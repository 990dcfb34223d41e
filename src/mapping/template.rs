//! Values of definition files: YAML in which texts may hold expressions.
//!
//! A text that is exactly one `${...}` keeps the kind of its result; text around it makes a text; `$${` stands for
//! `${`. Does not evaluate.

use std::sync::Arc;

use super::source::{Content, Source, Yaml};
use crate::{
    expression::{CompileError, Expression, Scope},
    json::Json,
};

/// How a value is made.
#[derive(Debug)]
pub(crate) enum Template {
    /// As it is.
    Constant(Json),
    /// The result, of any kind.
    Expression(Expression),
    /// Texts in a row.
    Text(Vec<Piece>),
    Array(Vec<Template>),
    Object(Vec<(Arc<str>, Template)>),
    /// The field is to be removed; only in `merge`.
    Unset,
}

/// A part of a text.
#[derive(Debug)]
pub(crate) enum Piece {
    Literal(Box<str>),
    Expression(Expression),
}

/// Which field of a `merge` is to be removed.
const UNSET: &str = "$unset";

impl Template {
    /// Compiles a node; `None` if something was refused.
    pub(crate) fn compile(source: &mut Source<'_>, node: &Yaml, scope: &Scope<'_>) -> Option<Self> {
        match &node.value {
            Content::Text(text) if text == UNSET => {
                let message =
                    "`$unset` is for top-level fields of `merge`: for the text itself write ${'$unset'}";
                source.refuse(&node.referenced, message);
                None
            }
            Content::Text(text) => compile_text(source, node, text, scope),
            Content::List(items) => {
                let items: Vec<_> = items.iter().map(|item| Self::compile(source, item, scope)).collect();
                items.into_iter().collect::<Option<_>>().map(Self::Array)
            }
            Content::Map(_) => Self::compile_fields(source, node, scope, false).map(Self::Object),
            other => Some(Self::Constant(other.to_json())),
        }
    }

    /// Compiles the fields of a map; with `unset`, a field may be `$unset`.
    pub(crate) fn compile_fields(
        source: &mut Source<'_>,
        node: &Yaml,
        scope: &Scope<'_>,
        unset: bool,
    ) -> Option<Vec<(Arc<str>, Self)>> {
        let Content::Map(entries) = &node.value else {
            return None;
        };
        let mut fields = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if key.value.contains("${") {
                source.refuse(
                    &key.referenced,
                    "expected the name of a field, found an expression: names are fixed",
                );
            }
            let template = match &value.value {
                Content::Text(text) if unset && text == UNSET => Some(Self::Unset),
                _ => Self::compile(source, value, scope),
            };
            fields.push(template.map(|template| (key.value.as_str().into(), template)));
        }
        fields.into_iter().collect()
    }

    /// Visits the expressions inside.
    pub(crate) fn for_each_expression(&self, visit: &mut dyn FnMut(&Expression)) {
        match self {
            Self::Constant(_) | Self::Unset => {}
            Self::Expression(expression) => visit(expression),
            Self::Text(pieces) => pieces.iter().for_each(|piece| match piece {
                Piece::Literal(_) => {}
                Piece::Expression(expression) => visit(expression),
            }),
            Self::Array(items) => items.iter().for_each(|item| item.for_each_expression(visit)),
            Self::Object(fields) => fields.iter().for_each(|(_, field)| field.for_each_expression(visit)),
        }
    }
}

fn compile_text(source: &mut Source<'_>, node: &Yaml, text: &str, scope: &Scope<'_>) -> Option<Template> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    let mut whole = true;
    while let Some(found) = text[at..].find('$') {
        literal.push_str(&text[at..at + found]);
        at += found;
        if text[at..].starts_with("$${") {
            literal.push_str("${");
            at += 3;
        } else if text[at..].starts_with("${") {
            let end = Expression::end_of_embedded(text, at + 2)
                .map_err(|error| source.refuse_inside(node, error.offset_bytes, error.message))
                .ok()?;
            if !literal.is_empty() {
                pieces.push(Some(Piece::Literal(std::mem::take(&mut literal).into())));
            }
            let expression = compile_at(source, node, text, at + 2..end, scope);
            pieces.push(expression.map(Piece::Expression));
            at = end + 1;
        } else {
            literal.push('$');
            at += 1;
        }
    }
    literal.push_str(&text[at..]);
    if pieces.is_empty() {
        return Some(Template::Constant(Json::Text(literal.into())));
    }
    if !literal.is_empty() {
        pieces.push(Some(Piece::Literal(literal.into())));
        whole = false;
    }
    let mut pieces: Vec<Piece> = pieces.into_iter().collect::<Option<_>>()?;
    match pieces.pop() {
        Some(Piece::Expression(expression)) if whole && pieces.is_empty() => {
            Some(Template::Expression(expression))
        }
        last => {
            pieces.extend(last);
            Some(Template::Text(pieces))
        }
    }
}

fn compile_at(
    source: &mut Source<'_>,
    node: &Yaml,
    text: &str,
    part: std::ops::Range<usize>,
    scope: &Scope<'_>,
) -> Option<Expression> {
    let start = part.start;
    Expression::compile_in(&text[part], scope)
        .map_err(|error| refuse_expression(source, node, start, error))
        .ok()
}

/// Compiles a scalar that is an expression as a whole.
pub(crate) fn compile_bare(source: &mut Source<'_>, node: &Yaml, scope: &Scope<'_>) -> Option<Expression> {
    let text = match &node.value {
        Content::Text(text) => text.as_str().to_owned(),
        Content::List(_) | Content::Map(_) => {
            source.refuse(&node.referenced, format!("expected an expression, found {}", node.value));
            return None;
        }
        other => other.to_json().to_string(),
    };
    if text.starts_with("${") {
        source.refuse(&node.referenced, "expected an expression without `${...}` around it");
        return None;
    }
    Expression::compile_in(&text, scope).map_err(|error| refuse_expression(source, node, 0, error)).ok()
}

fn refuse_expression(source: &mut Source<'_>, node: &Yaml, start: usize, error: CompileError) {
    source.refuse_inside(node, start + error.offset_bytes, error.message);
}
