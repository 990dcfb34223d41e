//! A document that is not the same in two versions, for people to look at.
//!
//! Invariants: a sample is small, whatever the documents are: so many fields, values cut at so many bytes. Does not know
//! how documents were found to be different.

use crate::json::{Json, difference};

/// In what way a document is not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Both have it.
    Different,
    /// The left version alone has it.
    OnlyLeft,
    /// The right version alone has it.
    OnlyRight,
}

/// A document that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its collection.
    pub collection: String,
    /// Its key, as JSON.
    pub key: String,
    /// In what way.
    pub kind: Kind,
    /// Where it is different; of a document that one version alone has, one: the whole.
    pub fields: Vec<FieldDifference>,
    /// How many more places there are.
    pub more_fields: u64,
}

/// A place of a document that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDifference {
    /// The way to it, joined by dots; empty: the whole document.
    pub path: String,
    /// What the left version has, as JSON, a long one cut; absent: nothing.
    pub left: Option<String>,
    /// What the right version has.
    pub right: Option<String>,
}

impl Sample {
    pub(super) fn new(
        (collection, key, kind): (String, String, Kind),
        (left, right): (Option<&Json>, Option<&Json>),
        (fields_max, bytes_max): (usize, usize),
    ) -> Self {
        let mut sample = Self { collection, key, kind, fields: Vec::new(), more_fields: 0 };
        difference::walk(left, right, &mut |path, left, right| {
            if sample.fields.len() == fields_max {
                sample.more_fields += 1;
                return;
            }
            let text = |value: Option<&Json>| value.map(|value| cut(value.to_string(), bytes_max));
            let path = cut(path.join("."), bytes_max);
            sample.fields.push(FieldDifference { path, left: text(left), right: text(right) });
        });
        sample
    }
}

/// A text of at most so many bytes, with a mark where something is missing.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(left: &str, right: &str) -> Sample {
        let parse = |text: &str| Json::parse(text.as_bytes()).unwrap();
        Sample::new(
            ("c".into(), "\"k\"".into(), Kind::Different),
            (Some(&parse(left)), Some(&parse(right))),
            (2, 6),
        )
    }

    #[test]
    fn a_sample_is_small() {
        let found = sample(r#"{"a":1,"b":"ääääää","c":3,"d":4}"#, r#"{"a":2,"b":"x"}"#);
        let field = |path: &str, left: &str, right: &str| FieldDifference {
            path: path.into(),
            left: Some(left.into()),
            right: Some(right.into()),
        };
        assert_eq!(found.fields, [field("a", "1", "2"), field("b", "\"ää…", "\"x\"")]);
        assert_eq!(found.more_fields, 2);
    }
}
