//! The parser of the `cel` crate, and its messages in our words.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::common::ast::{IdedExpr, SourceInfo};

use super::CompileError;

/// The parser's tree, macros expanded, and where its nodes stand, in bytes.
pub(super) fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), CompileError> {
    let parser = || {
        cel::parser::Parser::new()
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true)
            .parse_with_source_info(source)
    };
    // The parser is another's: a panic of its must not become one of ours.
    let Ok(parsed) = catch_unwind(AssertUnwindSafe(parser)) else {
        return Err(CompileError::at(source, 0, "the parser cannot read this expression".into()));
    };
    parsed.map_err(|errors| {
        let Some(first) = errors.errors.first() else {
            return CompileError::at(source, 0, "the parser cannot read this expression".into());
        };
        let line = usize::try_from(first.pos.0).unwrap_or(1).max(1);
        let column = usize::try_from(first.pos.1).unwrap_or(1).max(1);
        CompileError::at(source, offset_of(source, line, column, &first.msg), friendly(&first.msg))
    })
}

/// The byte offset of a line and column, both from 1. Macros count columns in bytes, all else in characters.
fn offset_of(source: &str, line: usize, column: usize, message: &str) -> usize {
    let line_start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &source[line_start..];
    let of_macro = message.starts_with("argument must be") || message.starts_with("invalid argument to");
    let inside =
        if of_macro { Some(column - 1) } else { rest.char_indices().nth(column - 1).map(|(at, _)| at) };
    line_start + inside.unwrap_or(rest.len()).min(rest.len())
}

/// The parser's message in our words.
fn friendly(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let Some((head, found)) = message.split_once(" input ") else {
        return message.replace("'<EOF>'", "the end");
    };
    let (found, expected) = found.split_once(" expecting ").unwrap_or((found, ""));
    let found = found.replace("'<EOF>'", "the end");
    match expected {
        "" => format!("unexpected {found}"),
        set if set.contains("<EOF>") => format!("expected an operator or the end, found {found}"),
        one if one.starts_with('\'') && head == "mismatched" => format!("expected {one}, found {found}"),
        set if set.starts_with("{'[', '{'") => format!("expected a value, found {found}"),
        _ => format!("unexpected {found}"),
    }
}
