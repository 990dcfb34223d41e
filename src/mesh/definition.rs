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

pub use self::{export::Export, import::Import};
pub use crate::mapping::{DefinitionError, MappedEvent, MappingError, OnError, Problem, derived_id};
