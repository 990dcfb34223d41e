//! Where two JSON values are different, field by field.
//!
//! Numbers compare by their value, objects as sets of fields, arrays item by item. Does not know what is told of it.

use std::collections::BTreeSet;

use super::{Json, Object};

/// Hears of one place that is different: the way there, and what either has; `None`: nothing.
pub type Found<'f> = dyn FnMut(&[String], Option<&Json>, Option<&Json>) + 'f;

/// Tells every innermost place where the two are different, in order.
pub fn walk(left: Option<&Json>, right: Option<&Json>, found: &mut Found<'_>) {
    descend(&mut Vec::new(), left, right, found);
}

/// The fields of two objects side by side, in order of their keys.
pub fn paired<'j>(
    left: &'j Object,
    right: &'j Object,
) -> impl Iterator<Item = (&'j str, Option<&'j Json>, Option<&'j Json>)> {
    let keys: BTreeSet<&str> = left.iter().chain(right.iter()).map(|(key, _)| key).collect();
    keys.into_iter().map(|key| (key, left.get(key), right.get(key)))
}

fn descend(path: &mut Vec<String>, left: Option<&Json>, right: Option<&Json>, found: &mut Found<'_>) {
    match (left, right) {
        (None, None) => {}
        (Some(left), Some(right)) if left.same_value(right) => {}
        (Some(Json::Object(left)), Some(Json::Object(right))) => {
            for (field, left, right) in paired(left, right) {
                path.push(field.to_owned());
                descend(path, left, right, found);
                path.pop();
            }
        }
        (Some(Json::Array(left)), Some(Json::Array(right))) => {
            for number in 0..left.len().max(right.len()) {
                path.push(number.to_string());
                descend(path, left.get(number), right.get(number), found);
                path.pop();
            }
        }
        (left, right) => found(path, left, right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, right: &str, expected: &[&str]) {
        let parse = |text: &str| (text != "-").then(|| Json::parse(text.as_bytes()).unwrap());
        let show = |value: Option<&Json>| value.map_or("-".to_owned(), ToString::to_string);
        let mut told = Vec::new();
        walk(parse(left).as_ref(), parse(right).as_ref(), &mut |path, left, right| {
            told.push(format!("{}: {} -> {}", path.join("."), show(left), show(right)));
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn the_innermost_places_are_told() {
        check(r#"{"a":1,"b":{"c":[1,2]}}"#, r#"{"b":{"c":[1.0,2]},"a":1}"#, &[]);
        check(r#"{"a":1}"#, r#"{"a":"1"}"#, &[r#"a: 1 -> "1""#]);
        check(
            r#"{"a":{"b":1,"c":2},"d":3}"#,
            r#"{"a":{"b":1,"e":2}}"#,
            &["a.c: 2 -> -", "a.e: - -> 2", "d: 3 -> -"],
        );
        check(r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":3},4]}"#, &["a.1.b: 2 -> 3", "a.2: - -> 4"]);
        check(r#"{"a":[]}"#, r#"{"a":{}}"#, &["a: [] -> {}"]);
        check("-", "{}", &[": - -> {}"]);
        check("-", "-", &[]);
    }
}
