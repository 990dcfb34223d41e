//! Values of templates.
//!
//! Normalized, so that what is in memory equals what is read back. Bounded by the steps of the environment and the size
//! of a text.

use super::template::{Piece, Template};
use crate::{
    expression::{Environment, EvaluateError, Expression, Text, Value},
    json::Json,
    limits::EXPRESSION_TEXT_BYTES_MAX,
};

/// What failed in a template.
#[derive(Debug, Default)]
pub(crate) struct RenderFault {
    /// The way to it from the template's root: names and numbers joined by dots.
    pub(crate) part: String,
    pub(crate) expression: Option<String>,
    pub(crate) message: String,
}

impl RenderFault {
    pub(crate) fn of(expression: &Expression, error: EvaluateError) -> Self {
        let expression = Some(expression.source().to_owned());
        Self { part: String::new(), expression, message: error.message }
    }

    /// Names the part, from the inside out.
    pub(crate) fn inside(mut self, part: &str) -> Self {
        if !self.part.is_empty() {
            self.part.insert(0, '.');
        }
        self.part.insert_str(0, part);
        self
    }
}

impl Template {
    /// The value, normalized.
    pub(crate) fn render<'a>(
        &'a self,
        values: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Json, RenderFault> {
        Ok(match self {
            Self::Constant(value) => value.clone().normalized(),
            Self::Expression(expression) => {
                let value = expression.run(values, environment);
                value.map_err(|error| RenderFault::of(expression, error))?.to_json().normalized()
            }
            Self::Text(pieces) => Json::Text(render_text(pieces, values, environment)?.into()),
            Self::Array(items) => {
                let items = items.iter().enumerate().map(|(at, item)| {
                    item.render(values, environment).map_err(|fault| fault.inside(&at.to_string()))
                });
                Json::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| {
                    let value = field.render(values, environment).map_err(|fault| fault.inside(name))?;
                    Ok((name.clone(), value))
                });
                Json::Object(fields.collect::<Result<_, _>>()?)
            }
            Self::Unset => unreachable!("only merge has it, and takes it out"),
        })
    }
}

fn render_text<'a>(
    pieces: &'a [Piece],
    values: &[Value<'a>],
    environment: &mut Environment<'a, '_>,
) -> Result<String, RenderFault> {
    let mut out = String::new();
    for piece in pieces {
        let text = match piece {
            Piece::Literal(text) => Text::Borrowed(text),
            Piece::Expression(expression) => expression
                .run_text(values, environment)
                .map_err(|error| RenderFault::of(expression, error))?,
        };
        out.push_str(text.as_str());
        if out.len() > EXPRESSION_TEXT_BYTES_MAX {
            let message = format!("the text would be longer than {EXPRESSION_TEXT_BYTES_MAX} bytes");
            return Err(RenderFault { message, ..RenderFault::default() });
        }
    }
    Ok(out)
}
