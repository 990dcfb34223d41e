//! Fields that do not count when documents are compared.
//!
//! A path is names joined by dots. Where it comes to a list it goes on in each of its items; where it leads nowhere it takes
//! nothing away. Does not know what documents are compared with.

use crate::{
    json::{Json, Object},
    kv::KvError,
    limits::{FIELD_PATH_BYTES_MAX, FIELDS_MAX},
    projection::query::QueryError,
};

/// The paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<Vec<Box<str>>>);

impl Ignored {
    /// Of these paths.
    pub fn new(paths: &[String]) -> Result<Self, QueryError> {
        if paths.len() > FIELDS_MAX {
            let message = format!("expected at most {FIELDS_MAX} paths, found {}", paths.len());
            return Err(QueryError::limit("ignore", message, FIELDS_MAX, paths.len()));
        }
        let parse = |path: &String| {
            if path.len() > FIELD_PATH_BYTES_MAX {
                let message =
                    format!("expected paths of at most {FIELD_PATH_BYTES_MAX} bytes, found {}", path.len());
                return Err(QueryError::limit("ignore", message, FIELD_PATH_BYTES_MAX, path.len()));
            }
            if path.split('.').any(str::is_empty) {
                let message = format!("expected names joined by dots, found {path:?}");
                return Err(QueryError::invalid("ignore", message));
            }
            Ok(path.split('.').map(Into::into).collect())
        };
        paths.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// A stored document without what does not count.
    pub(super) fn parse(&self, text: &[u8]) -> Result<Object, KvError> {
        let Ok(Json::Object(mut document)) = Json::parse_stored(text) else {
            return Err(KvError::Damaged("a stored document is no JSON object".into()));
        };
        for path in &self.0 {
            take_out(&mut document, path);
        }
        Ok(document)
    }
}

fn take_out(object: &mut Object, path: &[Box<str>]) {
    let Some((name, below)) = path.split_first() else {
        return;
    };
    if let Some(mut value) = object.remove(name)
        && !below.is_empty()
    {
        take_out_below(&mut value, below);
        object.insert(name, value);
    }
}

fn take_out_below(value: &mut Json, path: &[Box<str>]) {
    match value {
        Json::Object(object) => take_out(object, path),
        Json::Array(items) => items.iter_mut().for_each(|item| take_out_below(item, path)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], document: &str, expected: &str) {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let left = Ignored::new(&paths).unwrap().parse(document.as_bytes()).unwrap();
        assert_eq!(Json::Object(left).to_string(), expected, "{paths:?}");
    }

    #[test]
    fn paths_take_out_what_they_lead_to() {
        let document = r#"{"a":1,"b":{"c":2,"d":3},"l":[{"x":1,"y":2},{"x":3},4]}"#;
        check(&[], document, document);
        check(&["a"], document, r#"{"b":{"c":2,"d":3},"l":[{"x":1,"y":2},{"x":3},4]}"#);
        check(&["b.c", "l.x"], document, r#"{"a":1,"b":{"d":3},"l":[{"y":2},{},4]}"#);
        check(&["a.b", "b.c.d", "none", "l"], document, r#"{"a":1,"b":{"c":2,"d":3}}"#);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in ["", ".", "a.", "a..b"] {
            assert!(Ignored::new(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(Ignored::new(&["a".repeat(FIELD_PATH_BYTES_MAX + 1)]).is_err());
        assert!(Ignored::new(&vec!["a".to_owned(); FIELDS_MAX + 1]).is_err());
    }
}
