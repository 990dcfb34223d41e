//! How a query item is typed: `types=a,b;tags=x,y`, or JSON where a name has a comma or semicolon in it.
//!
//! Does not judge the names; the node does.

use serde::Deserialize;

use crate::{api::proto::v1::EventQueryItem, event::Invalid};

/// An item as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Item {
    types: Vec<String>,
    tags: Vec<String>,
}

/// Reads one item of a query.
pub(super) fn parse(text: &str) -> Result<EventQueryItem, Invalid> {
    let invalid = || {
        Invalid(format!(
            "expected types=T,T;tags=T,T or JSON such as {{\"types\": [\"T\"], \"tags\": [\"T\"]}}, found {text:?}"
        ))
    };
    if text.trim_start().starts_with('{') {
        let Item { types, tags } = serde_json::from_str(text).map_err(|_| invalid())?;
        return Ok(EventQueryItem { types, tags });
    }
    let mut item = EventQueryItem::default();
    for part in text.split(';') {
        let (name, values) = part.split_once('=').ok_or_else(invalid)?;
        let list = match name.trim() {
            "types" => &mut item.types,
            "tags" => &mut item.tags,
            _ => return Err(invalid()),
        };
        list.extend(values.split(',').map(str::to_owned));
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&[&str], &[&str])>) {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let expected = expected.map(|(types, tags)| EventQueryItem { types: list(types), tags: list(tags) });
        assert_eq!(parse(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn items_name_types_and_tags() {
        check("types=a,b;tags=x", Some((&["a", "b"], &["x"])));
        check("tags=origin:JFK,carrier:B6", Some((&[], &["origin:JFK", "carrier:B6"])));
        check("tags=a=b", Some((&[], &["a=b"])));
        check("types=a;types=b", Some((&["a", "b"], &[])));
        check(r#"{"tags": ["a,b", "c;d"]}"#, Some((&[], &["a,b", "c;d"])));
        for bad in ["", "a", "type=a", "types=a;b", "{\"type\": []}", "{}{}", "{"] {
            check(bad, None);
        }
    }
}
