//! Which documents a command means: the flags that `list`, `count` and `watch` share.
//!
//! Does not know what is done with them.

use std::collections::BTreeSet;

use clap::Args;

use super::{
    documents::FreshArgs,
    error::CliError,
    text::{parse_key, parse_value},
};
use crate::{
    api::proto::v1::{IndexRange, KeyRange, list_request::Selection},
    event::Invalid,
};

/// Which documents.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// The projection
    pub projection: String,
    /// One of its collections
    pub collection: String,
    /// Only keys that begin so: a text, or a JSON array of parts
    #[arg(long, value_name = "KEY", conflicts_with = "index")]
    pub prefix: Option<String>,
    /// Read through this index
    #[arg(long, value_name = "NAME")]
    pub index: Vec<String>,
    /// What the index's next field must equal: JSON if it parses, else a text; may be repeated
    #[arg(long, value_name = "VALUE", requires = "index", allow_hyphen_values = true)]
    pub eq: Vec<String>,
    /// From here on: a value of the index's field after --eq, or without --index a key
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Below here: a value of the index's field after --eq, or without --index a key
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Only documents for which this expression over `doc` and `key` is true
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Freshness.
    #[command(flatten)]
    pub fresh: FreshArgs,
}

/// Which fields of documents.
#[derive(Debug, Args)]
pub struct FieldsArgs {
    /// Only these fields: names joined by dots, separated by commas; may be repeated
    #[arg(long, value_name = "PATH,PATH", value_delimiter = ',')]
    pub fields: Vec<String>,
}

impl SelectArgs {
    /// The range of keys or of an index; `None`: the whole collection.
    pub fn selection(&self) -> Result<Option<Selection>, CliError> {
        let key = |argument: &str, text: &Option<String>| {
            let key = text.as_deref().map(parse_key).transpose();
            key.map_err(|error| CliError::usage(argument, &error))
        };
        let names: BTreeSet<&String> = self.index.iter().collect();
        if names.len() > 1 {
            let message = Invalid("expected one index; name it once and repeat --eq".into());
            return Err(CliError::usage("--index", &message));
        }
        Ok(match names.first() {
            Some(index) => Some(Selection::Index(IndexRange {
                index: (*index).clone(),
                equals: self.eq.iter().map(|text| parse_value(text)).collect(),
                from: self.from.as_deref().map(parse_value),
                to: self.to.as_deref().map(parse_value),
            })),
            None if self.prefix.is_some() || self.from.is_some() || self.to.is_some() => {
                Some(Selection::Keys(KeyRange {
                    prefix: key("--prefix", &self.prefix)?,
                    from: key("--from", &self.from)?,
                    to: key("--to", &self.to)?,
                }))
            }
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        fields: FieldsArgs,
    }

    fn parse(line: &[&str]) -> Result<Line, String> {
        let whole = ["list", "departures", "flights"].iter().chain(line);
        Line::try_parse_from(whole).map_err(|error| error.to_string())
    }

    fn selection(line: &[&str]) -> Result<Option<Selection>, String> {
        parse(line)?.select.selection().map_err(|error| error.to_string())
    }

    #[test]
    fn an_index_range_takes_json_or_texts() {
        let line = ["--index", "i", "--eq", "EWR", "--eq", "-7", "--from", "1"];
        let Some(Selection::Index(range)) = selection(&line).unwrap() else {
            panic!("expected an index range");
        };
        assert_eq!(range.index, "i");
        assert_eq!(range.equals, ["\"EWR\"", "-7"]);
        assert_eq!(range.from.as_deref(), Some(&b"1"[..]));
        assert_eq!(range.to, None);
    }

    #[test]
    fn without_an_index_ranges_are_of_keys() {
        let Some(Selection::Keys(range)) = selection(&["--prefix", "[\"JFK\",\"L\"]"]).unwrap() else {
            panic!("expected a key range");
        };
        assert_eq!(range.prefix.map(|key| key.parts.len()), Some(2));
        assert_eq!(selection(&[]).unwrap(), None);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(selection(&["--eq", "1"]).unwrap_err().contains("--index"));
        assert!(selection(&["--index", "a", "--prefix", "b"]).unwrap_err().contains("cannot be used with"));
        assert!(selection(&["--index", "a", "--index", "b"]).unwrap_err().contains("expected one index"));
        assert!(selection(&["--index", "a", "--index", "a"]).is_ok());
        assert!(selection(&["--prefix", "[1.5]"]).unwrap_err().contains("--prefix"));
    }

    #[test]
    fn fields_are_divided_by_commas() {
        let line = parse(&["--fields", "a,b.c", "--fields", "d"]).unwrap();
        assert_eq!(line.fields.fields, ["a", "b.c", "d"]);
    }
}
