//! The definition of one projection version: what its YAML file says, checked and compiled.
//!
//! Owns the language of projection files (docs/projections.md). A `Definition` is valid by construction: names are in
//! their alphabets, every expression is compiled, every collection that a step names exists. All problems of a file
//! are reported at once, each with its place. Does not know where documents are kept, or what events exist.

mod read;
mod read_step;
mod step;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

use foldhash::fast::RandomState;

pub(crate) use self::step::{DATA, DOC, EVENT, ITEM, KeyTemplate, LETS, Operation, Step, Steps};
pub use crate::mapping::{DefinitionError, Problem};
use crate::{
    json::{Json, Object},
    mapping::{OnError, check_length, content_hash},
};

/// The key that says when a version becomes active.
const AUTO_PROMOTE: &str = "auto_promote";

/// One projection version.
#[derive(Debug)]
pub struct Definition {
    name: Box<str>,
    version: u32,
    hash: [u8; 32],
    on_error: OnError,
    collections: Vec<Collection>,
    events: HashMap<Box<str>, Steps, RandomState>,
    service: bool,
    auto_promote: bool,
}

/// A collection of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// What queries call it.
    pub name: Box<str>,
    /// Sorted by name.
    pub indexes: Vec<IndexDefinition>,
}

/// An index over the documents of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDefinition {
    /// What queries call it.
    pub name: Box<str>,
    /// The fields whose values make an entry, in order.
    pub paths: Vec<FieldPath>,
}

/// The way to a field of a document: names joined by dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Vec<Box<str>>);

impl FieldPath {
    /// The value there, if there is one.
    pub fn get<'a>(&self, document: &'a Object) -> Option<&'a Json> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(document.get(first)?, |value, name| match value {
            Json::Object(object) => object.get(name),
            _ => None,
        })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Definition {
    /// Reads and checks the text of a projection file. `file` is named in errors.
    pub fn parse(source: &str, file: &str) -> Result<Self, DefinitionError> {
        check_length(source, file)?;
        read::read(source, file)
    }

    /// What the text of a projection file says, however it is laid out; `None` if it is no YAML.
    pub(crate) fn content(source: &str) -> Option<Json> {
        read::content(source)
    }

    /// The projection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From 1 to 2^31.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// SHA-256 over what the file says (not how it is laid out; without `auto_promote`) and the version of the expression
    /// language.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Sorted by name; a collection's number elsewhere is its place here.
    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// The number of a collection.
    pub fn collection(&self, name: &str) -> Option<usize> {
        self.collections.binary_search_by(|at| (*at.name).cmp(name)).ok()
    }

    /// A service says what events do, not the file.
    pub const fn is_service(&self) -> bool {
        self.service
    }

    /// It is to be active as soon as it is ready, where it is the highest version among the definition files. Not part of the
    /// hash: the documents do not depend on it.
    pub const fn promotes_when_ready(&self) -> bool {
        self.auto_promote
    }

    /// Whether events of this type change documents.
    pub fn handles(&self, event_type: &str) -> bool {
        self.events.contains_key(event_type)
    }

    /// What the version does about an event that it cannot apply.
    pub const fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The collections that events of this type may change, by place as bits.
    pub(crate) fn touches(&self, event_type: &str) -> u64 {
        if self.service && self.handles(event_type) {
            // Nobody knows: all of them.
            return u64::MAX >> (64 - self.collections.len());
        }
        let steps = self.events.get(event_type).map_or(&[][..], |steps| &steps.steps);
        steps.iter().fold(0, |bits, step| bits | 1 << step.collection)
    }

    /// The event types that change documents, in order.
    pub fn event_types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = self.events.keys().map(|name| &**name).collect();
        types.sort_unstable();
        types
    }

    /// What events of this type do.
    pub(crate) fn steps(&self, event_type: &str) -> Option<&Steps> {
        self.events.get(event_type)
    }
}

/// The hash of what a file says about documents.
fn hash(mut content: Json) -> [u8; 32] {
    if let Json::Object(content) = &mut content {
        content.remove(AUTO_PROMOTE);
    }
    content_hash(content)
}
