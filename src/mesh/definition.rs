//! The contracts of the mesh: what a node lets out (`export`), and what it takes in and how (`import`).
//!
//! Owns the language of the files in `exports.dir` and `imports.dir` (docs/mesh.md). Definitions are valid by
//! construction, and all problems of a file are reported at once, each with its place. Mapping is pure. Does not know
//! sequences, signatures or buses.

pub mod directory;
pub mod export;
pub mod import;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use foldhash::fast::RandomState;

pub use self::{export::Export, import::Import};
pub use crate::mapping::{DefinitionError, MappedEvent, MappingError, OnError, Problem, derived_id};
use crate::{
    event::EventType,
    limits::MAPPED_TYPES_MAX,
    mapping::source::{Content, Source, Yaml},
};

/// What a definition says of each event type.
type ByType<T> = HashMap<Box<str>, T, RandomState>;

/// Reads a map of event types; `what` says what stands behind each.
fn read_types<T>(
    source: &mut Source<'_>,
    node: &Yaml,
    what: &str,
    read: impl Fn(&mut Source<'_>, &Yaml) -> Option<T>,
) -> Option<ByType<T>> {
    let entries = match &node.value {
        Content::Map(entries) if (1..=MAPPED_TYPES_MAX).contains(&entries.len()) => entries,
        found => {
            let found = found.counted();
            let message = format!("expected 1 to {MAPPED_TYPES_MAX} event types with {what}, found {found}");
            source.refuse(&node.referenced, message);
            return None;
        }
    };
    let mut types = ByType::default();
    for (name, node) in entries {
        if let Err(invalid) = EventType::parse(&name.value) {
            source.refuse(&name.referenced, format!("not an event type: {invalid}"));
        }
        if let Some(said) = read(source, node) {
            types.insert(name.value.as_str().into(), said);
        }
    }
    Some(types)
}
