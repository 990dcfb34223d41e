//! Standard output: lines and tables.
//!
//! Owns buffering, the look of tables, and that colour appears on terminals only. A closed output is an error that
//! ends the command quietly. Does not know what is printed.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};

use super::error::CliError;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: field names as in the protocol, one object a line where there are many.
    Json,
}

/// The narrowest terminal that tables are fitted to, in columns.
const WIDTH_MIN: u16 = 40;

/// Standard output, buffered; whoever prints last calls `flush`.
#[derive(Debug)]
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    /// Takes standard output for this command.
    pub fn standard() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.0.write_all(text.as_bytes())?;
        self.0.write_all(b"\n")?;
        Ok(())
    }

    /// Prints a table; one without rows is not worth its lines.
    pub fn table(&mut self, table: &Table) -> Result<(), CliError> {
        if table.is_empty() {
            return Ok(());
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.0.flush()?)
    }
}

/// Prints lines and hands them on.
pub fn print_lines<T: AsRef<str>>(lines: &[T]) -> Result<(), CliError> {
    let mut out = Out::standard();
    for line in lines {
        out.line(line.as_ref())?;
    }
    out.flush()
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// An empty table with these columns.
pub fn table(columns: &[(&str, Align)]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(columns.iter().map(|(name, _)| Cell::new(name)));
    // A terminal that does not know its width, or a very narrow one, would squeeze the columns to single letters.
    if table.width().is_none_or(|width| width < WIDTH_MIN) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for (at, (_, align)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
    }
    table
}
