//! The file of trusted keys: for each node its keys, each with the time in which it is in force.
//!
//! One file is shared by all nodes; a node may have several keys, so that a new one is known before it signs. All problems
//! are reported at once, each with its place.

use std::collections::BTreeMap;

use super::{Trust, TrustedKey};
use crate::{
    event::Invalid,
    limits::{TRUST_FILE_BYTES_MAX, TRUSTED_KEYS_MAX},
    mapping::{
        DefinitionError, Problem,
        head::{check_name, read_text},
        source::{Content, Fields, Source, Yaml},
    },
};

pub(super) fn parse(text: &str, name: &str) -> Result<Trust, DefinitionError> {
    if text.len() > TRUST_FILE_BYTES_MAX {
        let found = text.len();
        let message = format!("expected a file of at most {TRUST_FILE_BYTES_MAX} bytes, found {found}");
        return Err(DefinitionError {
            problems: vec![Problem { file: name.to_owned(), line: 1, column: 1, message }],
        });
    }
    let mut source = Source::new(text, name);
    let trust = source.read().map(|tree| read_nodes(&mut source, &tree));
    source.finish()?;
    Ok(trust.expect("a file without problems is complete"))
}

fn read_nodes(source: &mut Source<'_>, tree: &Yaml) -> Trust {
    let Content::Map(entries) = &tree.value else {
        let message = format!("expected names of nodes, each with a list of keys, found {}", tree.value);
        source.refuse(&tree.referenced, message);
        return Trust::default();
    };
    let mut nodes: BTreeMap<Box<str>, Vec<TrustedKey>> = BTreeMap::new();
    for (name, node) in entries {
        if let Err(invalid) = check_name(&name.value) {
            source.refuse(&name.referenced, invalid.0);
        }
        nodes.insert(name.value.as_str().into(), read_keys(source, node));
    }
    Trust { nodes }
}

fn read_keys(source: &mut Source<'_>, node: &Yaml) -> Vec<TrustedKey> {
    match &node.value {
        Content::List(items) if (1..=TRUSTED_KEYS_MAX).contains(&items.len()) => {
            items.iter().filter_map(|item| read_key(source, item)).collect()
        }
        found => {
            let message = format!(
                "expected a list of 1 to {TRUSTED_KEYS_MAX} keys such as [{{key: V...}}], found {}",
                found.counted()
            );
            source.refuse(&node.referenced, message);
            Vec::new()
        }
    }
}

fn read_key(source: &mut Source<'_>, node: &Yaml) -> Option<TrustedKey> {
    let fields = Fields::of(source, node, "a trusted key", &["key", "not_before", "not_after"])?;
    let time = |name: &str, source: &mut Source<'_>| match fields.get(name) {
        None => Some(None),
        Some(node) => read_text(source, node, "a time such as 2026-01-31T00:00:00Z", time_of).map(Some),
    };
    let not_before = time("not_before", source);
    let not_after = time("not_after", source);
    let key = fields.require(source, "key", "a public key (V...)");
    let key = key
        .and_then(|node| read_text(source, node, "a public key", |text| TrustedKey::new(text, None, None)));
    let (not_before, not_after) = (not_before?, not_after?);
    if let (Some(from), Some(until)) = (not_before, not_after)
        && from >= until
    {
        source.refuse(&node.referenced, "expected `not_after` to be later than `not_before`");
        return None;
    }
    Some(TrustedKey { not_before_unix_nanos: not_before, not_after_unix_nanos: not_after, ..key? })
}

fn time_of(text: &str) -> Result<i64, Invalid> {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    let expected = "expected a time of the years 1678 to 2261 such as 2026-01-31T00:00:00Z";
    time.ok_or_else(|| Invalid(format!("{expected}, found {text:?}")))
}
