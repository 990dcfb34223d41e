//! Who may append and export what, as pure decisions with their reasons.
//!
//! Owns the patterns of `owns.types` and `owns.streams`, and what imports make of them: the streams of an import belong to
//! the node that it takes events from. Patterns are compiled once; a decision compares bytes and allocates nothing unless
//! it refuses. Does not know logs, buses or gRPC.

mod pattern;

pub use pattern::Pattern;
