//! To be written.

pub mod declarative;
pub mod definition;
pub mod key;
pub mod offline;
