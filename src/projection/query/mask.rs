//! Some fields of a document instead of all: cut out of its canonical text without reading it as a tree.
//!
//! Invariants: what is left is canonical again; a path that leads nowhere leaves nothing behind, nor do the objects around
//! it; a text that is not canonical is refused, never guessed at. Does not know where documents come from.

use super::QueryError;
use crate::limits::{FIELD_PATH_BYTES_MAX, FIELDS_MAX};

/// Which fields of documents are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mask {
    /// By the name as it stands in canonical text, quotes included.
    children: Vec<(Box<str>, Mask)>,
    /// All below here is wanted.
    whole: bool,
}

impl Mask {
    /// A mask of these paths; none: whole documents.
    pub(crate) fn new(fields: &[String]) -> Result<Option<Self>, QueryError> {
        if fields.len() > FIELDS_MAX {
            let message = format!("expected at most {FIELDS_MAX} paths, found {}", fields.len());
            return Err(QueryError::limit("fields", message, FIELDS_MAX, fields.len()));
        }
        let mut mask = Self::default();
        for path in fields {
            if path.len() > FIELD_PATH_BYTES_MAX {
                let message =
                    format!("expected paths of at most {FIELD_PATH_BYTES_MAX} bytes, found {}", path.len());
                return Err(QueryError::limit("fields", message, FIELD_PATH_BYTES_MAX, path.len()));
            }
            if path.split('.').any(str::is_empty) {
                let message = format!("expected names joined by dots, found {path:?}");
                return Err(QueryError::invalid("fields", message));
            }
            let target = path.split('.').fold(&mut mask, |at, name| at.child(name));
            target.whole = true;
        }
        Ok((!fields.is_empty()).then_some(mask))
    }

    fn child(&mut self, name: &str) -> &mut Self {
        let quoted = serde_json::to_string(name).expect("a text serializes").into_boxed_str();
        let at = self.children.iter().position(|(known, _)| *known == quoted).unwrap_or_else(|| {
            self.children.push((quoted, Self::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }

    /// What is wanted of a document's canonical text; `None` if it is not canonical.
    pub(crate) fn apply(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let (_, end) = self.cut(text, 0, &mut out)?;
        (end == text.len()).then_some(out)
    }

    /// Writes what is wanted of the object at `at`; gives whether that is anything, and where the object ends.
    fn cut(&self, text: &[u8], at: usize, out: &mut Vec<u8>) -> Option<(bool, usize)> {
        let mut at = expect(text, at, b'{')?;
        out.push(b'{');
        let mut any = false;
        if text.get(at) == Some(&b'}') {
            out.push(b'}');
            return Some((false, at + 1));
        }
        loop {
            let name_end = skip_text(text, at)?;
            let name = &text[at..name_end];
            let value = expect(text, name_end, b':')?;
            let wanted = self.children.iter().find(|(known, _)| known.as_bytes() == name);
            let before = out.len();
            if let Some((name, _)) = wanted {
                out.extend(any.then_some(b','));
                out.extend_from_slice(name.as_bytes());
                out.push(b':');
            }
            let (kept, end) = match wanted {
                Some((_, below)) if below.whole => {
                    let end = skip_value(text, value)?;
                    out.extend_from_slice(&text[value..end]);
                    (true, end)
                }
                Some((_, below)) if text.get(value) == Some(&b'{') => below.cut(text, value, out)?,
                _ => (false, skip_value(text, value)?),
            };
            if kept {
                any = true;
            } else {
                out.truncate(before);
            }
            match text.get(end)? {
                b',' => at = end + 1,
                b'}' => {
                    out.push(b'}');
                    return Some((any, end + 1));
                }
                _ => return None,
            }
        }
    }
}

fn expect(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    (text.get(at) == Some(&byte)).then_some(at + 1)
}

/// Where the text that begins at `at` ends.
fn skip_text(text: &[u8], at: usize) -> Option<usize> {
    let mut at = expect(text, at, b'"')?;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that begins at `at` ends.
fn skip_value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => skip_text(text, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0_usize);
            loop {
                match text.get(at)? {
                    b'"' => at = skip_text(text, at)? - 1,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &text[at..];
            let len = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            (len > 0).then_some(at + len)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{Json, Object};

    fn mask(fields: &[&str]) -> Mask {
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        Mask::new(&fields).unwrap().unwrap()
    }

    fn check(fields: &[&str], text: &str, expected: &str) {
        let found = mask(fields).apply(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{fields:?} of {text}");
    }

    #[test]
    fn fields_are_cut_out() {
        let text = r#"{"a":1,"b":{"c":[1,{"d":"}"}],"e":null},"f":"x\"y","g":{}}"#;
        check(&["a"], text, r#"{"a":1}"#);
        check(&["f", "a"], text, r#"{"a":1,"f":"x\"y"}"#);
        check(&["b.c"], text, r#"{"b":{"c":[1,{"d":"}"}]}}"#);
        check(&["b.e", "b"], text, r#"{"b":{"c":[1,{"d":"}"}],"e":null}}"#);
        check(&["b.x", "a.b", "z"], text, "{}");
        check(&["g"], text, r#"{"g":{}}"#);
        check(&["g.h", "b.e"], text, r#"{"b":{"e":null}}"#);
        check(&["ä\"\n"], r#"{"ä\"\n":2}"#, r#"{"ä\"\n":2}"#);
        check(&["a"], "{}", "{}");
    }

    #[test]
    fn wrong_masks_are_refused() {
        for fields in [vec![String::new()], vec!["a.".into()], vec!["x".repeat(600)], vec!["a".into(); 65]] {
            assert!(matches!(Mask::new(&fields), Err(QueryError::InvalidArgument { field: "fields", .. })));
        }
        assert_eq!(Mask::new(&[]).unwrap(), None);
    }

    /// The same on trees.
    fn naive(value: &Object, paths: &[Vec<&str>]) -> Object {
        let mut out = Object::new();
        for (name, value) in value.iter() {
            let below: Vec<Vec<&str>> =
                paths.iter().filter(|path| path[0] == name).map(|path| path[1..].to_vec()).collect();
            if below.iter().any(Vec::is_empty) {
                out.insert(name, value.clone());
            } else if let (false, Json::Object(object)) = (below.is_empty(), value) {
                let inner = naive(object, &below);
                if !inner.is_empty() {
                    out.insert(name, Json::Object(inner));
                }
            }
        }
        out
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::Int),
            "[a\\\\\"{},:\\[\\]\\n]{0,4}".prop_map(|text| Json::Text(text.into())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::vec(("[a-c]", inner), 0..4).prop_map(object),
            ]
        })
    }

    fn object(fields: Vec<(String, Json)>) -> Json {
        Json::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    proptest! {
        #[test]
        fn it_cuts_as_a_tree_would_be_cut(
            fields in prop::collection::vec(("[a-d]", any_json()), 0..5),
            paths in prop::collection::vec("[a-d](\\.[a-c]){0,2}", 1..4),
        ) {
            let Json::Object(document) = object(fields) else { panic!("an object") };
            let split: Vec<Vec<&str>> = paths.iter().map(|path| path.split('.').collect()).collect();
            let expected = Json::Object(naive(&document, &split)).to_string();
            let text = Json::Object(document).to_string();
            let mask = Mask::new(&paths).unwrap().unwrap();
            let found = mask.apply(text.as_bytes()).unwrap();
            prop_assert_eq!(String::from_utf8(found).unwrap(), expected);
        }

        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let object = [&b"{\"a\":"[..], &text].concat();
            let cut = mask(&["a.b", "c"]).apply(&object);
            prop_assert!(cut.is_none_or(|cut| cut.len() <= object.len()));
        }
    }
}
