//! The fields of a rendered pod, taken one by one by what runs it. What nobody took is not exercised, and must be on the list
//! of a test: a new field in a template fails until it is run or listed with its reason.

use std::collections::BTreeSet;

use serde_json::Value;

/// A rendered object from which fields are taken.
#[derive(Debug, Clone)]
pub(crate) struct Fields(Value);

impl Fields {
    pub(crate) fn of(object: &Value) -> Self {
        Self(object.clone())
    }

    /// Takes a field out, by its path of keys; null where there is none.
    pub(crate) fn take(&mut self, path: &[&str]) -> Value {
        let (last, above) = path.split_last().expect("a path has a key");
        let found = above.iter().try_fold(&mut self.0, |at, key| at.get_mut(*key));
        found.and_then(Value::as_object_mut).and_then(|object| object.remove(*last)).unwrap_or_default()
    }

    pub(crate) fn text(&mut self, path: &[&str]) -> String {
        let value = self.take(path);
        value.as_str().unwrap_or_else(|| panic!("{path:?}: expected text, found {value}")).to_owned()
    }

    pub(crate) fn number(&mut self, path: &[&str]) -> u64 {
        let value = self.take(path);
        value.as_u64().unwrap_or_else(|| panic!("{path:?}: expected a number, found {value}"))
    }

    /// This field itself, which is a text.
    pub(crate) fn as_text(&self) -> &str {
        self.0.as_str().unwrap_or_else(|| panic!("expected text, found {}", self.0))
    }

    /// The items of a list; none where there is no list.
    pub(crate) fn list(&mut self, path: &[&str]) -> Vec<Self> {
        match self.take(path) {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().map(Self).collect(),
            other => panic!("{path:?}: expected a list, found {other}"),
        }
    }

    /// The paths of all that is left, `under` this name; an item of a list counts by its `name`.
    pub(crate) fn left(&self, under: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        walk(under, &self.0, &mut paths);
        paths
    }
}

fn walk(at: &str, value: &Value, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                walk(&format!("{at}.{key}"), value, paths);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                walk(&format!("{at}[{}]", item["name"].as_str().unwrap_or("*")), item, paths);
            }
        }
        _ => {
            paths.insert(at.to_owned());
        }
    }
}

#[test]
fn what_nobody_takes_is_left() {
    let mut fields =
        Fields(serde_json::json!({ "a": { "b": 1, "c": [2] }, "d": [{ "name": "e", "f": 3 }], "g": {} }));
    assert_eq!(fields.number(&["a", "b"]), 1);
    assert_eq!(fields.take(&["a", "x", "y"]), Value::Null);
    let left: Vec<String> = fields.left("pod").into_iter().collect();
    assert_eq!(left, ["pod.a.c", "pod.d[e].f", "pod.d[e].name"]);
    let taken = fields.list(&["d"]).remove(0).text(&["name"]);
    assert_eq!((taken.as_str(), fields.left("pod").len()), ("e", 1));
}
