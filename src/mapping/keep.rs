//! Redaction: of an object, these fields and no others.
//!
//! Invariant: nothing is kept that no path names. A path that leads nowhere in an event keeps nothing of it, also no
//! empty object on the way.

use std::collections::BTreeMap;

use super::source::{Content, Source, Yaml};
use crate::{
    json::{Json, Object},
    limits::KEEP_PATHS_MAX,
};

/// The fields to keep.
#[derive(Debug, Default)]
pub(crate) struct Keep(BTreeMap<Box<str>, Part>);

#[derive(Debug)]
enum Part {
    Whole,
    Fields(Keep),
}

impl Keep {
    /// Reads a list of field paths.
    pub(crate) fn read(source: &mut Source<'_>, node: &Yaml) -> Option<Self> {
        let paths = match &node.value {
            Content::List(paths) if (1..=KEEP_PATHS_MAX).contains(&paths.len()) => paths,
            found => {
                let message = format!(
                    "expected a list of 1 to {KEEP_PATHS_MAX} field paths, found {}",
                    found.counted()
                );
                source.refuse(&node.referenced, message);
                return None;
            }
        };
        let mut keep = Self::default();
        for node in paths {
            let message = match &node.value {
                Content::Text(path)
                    if path.split('.').all(|name| !name.is_empty() && name.trim() == name) =>
                {
                    match keep.add(path) {
                        Ok(()) => continue,
                        Err(message) => message,
                    }
                }
                found => format!("expected a field path such as carrier or address.city, found {found}"),
            };
            source.refuse(&node.referenced, message);
        }
        Some(keep)
    }

    fn add(&mut self, path: &str) -> Result<(), String> {
        let mut fields = &mut self.0;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                return match fields.insert(name.into(), Part::Whole) {
                    None => Ok(()),
                    Some(Part::Whole) => Err(format!("the field {path} is repeated")),
                    Some(Part::Fields(_)) => {
                        Err(format!("{path} would be kept as a whole, and parts of it are named too"))
                    }
                };
            }
            match fields.entry(name.into()).or_insert_with(|| Part::Fields(Self::default())) {
                Part::Fields(inner) => fields = &mut inner.0,
                Part::Whole => return Err(format!("{path} lies in {name}, which is kept as a whole")),
            }
        }
        Ok(())
    }

    /// What is kept of an object.
    pub(crate) fn of(&self, object: &Object) -> Object {
        let mut kept = Object::new();
        for (name, part) in &self.0 {
            match (part, object.get(name)) {
                (Part::Whole, Some(value)) => {
                    kept.insert(name, value.clone());
                }
                (Part::Fields(keep), Some(Json::Object(inner))) => {
                    let inner = keep.of(inner);
                    if !inner.is_empty() {
                        kept.insert(name, Json::Object(inner));
                    }
                }
                _ => {}
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], data: &str, expected: &str) {
        let mut keep = Keep::default();
        paths.iter().try_for_each(|path| keep.add(path)).unwrap();
        let Json::Object(data) = Json::parse(data.as_bytes()).unwrap() else {
            panic!("data is an object");
        };
        assert_eq!(Json::Object(keep.of(&data)).to_string(), expected);
    }

    #[test]
    fn what_no_path_names_is_gone() {
        let data = r#"{"a":1,"b":{"c":2,"d":{"e":3,"f":4}},"g":[{"h":5}],"i":null}"#;
        check(&["a"], data, r#"{"a":1}"#);
        check(&["i", "b.c", "b.d.f"], data, r#"{"b":{"c":2,"d":{"f":4}},"i":null}"#);
        check(&["g.h", "a.x", "b.x", "nope"], data, "{}");
        check(&["g"], data, r#"{"g":[{"h":5}]}"#);
    }

    #[test]
    fn paths_do_not_overlap() {
        let mut keep = Keep::default();
        keep.add("a.b").unwrap();
        keep.add("c").unwrap();
        assert_eq!(keep.add("a.b").unwrap_err(), "the field a.b is repeated");
        assert!(keep.add("a").unwrap_err().contains("parts of it are named too"));
        assert!(keep.add("c.d").unwrap_err().contains("lies in c, which is kept as a whole"));
    }
}
